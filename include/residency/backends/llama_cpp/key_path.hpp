#pragma once

#include "residency/backends/filesystem.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

// Where in a folder of models the file of a key is, and which key finds a file. A model may be split over several
// files, `NAME-00001-of-00003.gguf` and so on, of which llama.cpp is given the first.

namespace residency::detail::llama_cpp {

/// How the files of models end.
inline constexpr std::string_view file_ending = ".gguf";

/// What the name of a split model's file says.
struct SplitName {
    /// The name without the part: that of the model.
    std::string_view model;
    /// Which part it is, from 1, and of how many.
    unsigned part;
    unsigned parts;
};

/// Takes the name of a file, without its ending, apart; none if it is not that of a part.
[[nodiscard]] inline std::optional<SplitName> split_name(std::string_view stem) noexcept {
    // At least five digits, and no more than are needed, as llama.cpp writes them.
    const auto number = [&stem](std::string_view mark) {
        const std::size_t begin = stem.rfind(mark);
        const std::string_view digits = begin == std::string_view::npos ? "" : stem.substr(begin + mark.size());
        unsigned value = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        const bool whole = error == std::errc() && end == digits.data() + digits.size();
        if (!whole || digits.size() < 5 || (digits.size() > 5 && digits.front() == '0')) {
            return 0U;
        }
        stem.remove_suffix(stem.size() - begin);
        return value;
    };
    const unsigned parts = number("-of-");
    const unsigned part = parts == 0 ? 0 : number("-");
    if (part == 0 || part > parts || stem.empty()) {
        return {};
    }
    return SplitName{stem, part, parts};
}

/// The files in `folder` that are first parts of the model `name`, in order; none if it cannot be read.
inline std::vector<std::filesystem::path> first_parts(const std::filesystem::path& folder, std::string_view name) {
    std::vector<std::filesystem::path> found;
    std::error_code error;
    std::filesystem::directory_iterator entry(folder, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        const std::filesystem::path file = entry->path().filename();
        const std::string stem = file.stem().string();
        const auto split = split_name(stem);
        if (file.extension() == file_ending && split && split->model == name && split->part == 1) {
            found.push_back(folder / file);
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

/// Whether the key would lead out of its folder. A separator is all that could: the name is followed by more, so that
/// it is never `..` itself.
[[nodiscard]] inline bool leads_out(const ModelKey& key) noexcept {
#if defined(_WIN32)
    constexpr std::string_view forbidden{"/\\:\0", 4};
#else
    constexpr std::string_view forbidden{"/\0", 2};
#endif
    return key.name.find_first_of(forbidden) != std::string::npos ||
           key.quantization.find_first_of(forbidden) != std::string::npos;
}

/// The path of the key's file in `folder`: `NAME-QUANTIZATION.gguf`, or `NAME.gguf` for an empty quantization, where a
/// name that ends in `.gguf` already is the file's; or else the first part of a model of that name. The first of them
/// if there is none.
///
/// Throws Error invalid_request if the key would lead out of the folder, names a later part of a split model, or could
/// mean two models.
inline std::filesystem::path path_in_folder(const std::filesystem::path& folder, const ModelKey& key) {
    const auto refuse = [&key](const std::string& why) { throw Error(errc::invalid_request, key, Stage::load, why); };
    if (leads_out(key)) {
        refuse(
            "a model's name and quantization must not hold a path separator or a NUL: the key would lead out of the "
            "folder of models");
    }
    std::string model = key.quantization.empty() ? key.name : key.name + '-' + key.quantization;
    if (key.quantization.empty() && model.size() > file_ending.size() && model.ends_with(file_ending)) {
        model.resize(model.size() - file_ending.size());
    }
    if (const auto split = split_name(model); split && split->part != 1) {
        const std::string name(split->model);
        refuse("it is part " + std::to_string(split->part) + " of " + std::to_string(split->parts) +
               " of a split model; name the model, '" + name + "', or its first part, '" + name + "-00001" +
               model.substr(model.rfind("-of-")) + "'");
    }
    std::vector<std::filesystem::path> candidates;
    const std::filesystem::path whole = folder / (model + std::string(file_ending));
    std::error_code ignored;
    if (std::filesystem::exists(whole, ignored)) {
        candidates.push_back(whole);
    } else {
        candidates = first_parts(folder, model);
    }
    if (candidates.empty()) {
        return whole;
    }
    const bool only_dots = model.find_first_not_of('.') == std::string::npos;
    if (const std::filesystem::path beside = folder / model;
        !only_dots && std::filesystem::is_directory(beside, ignored)) {
        candidates.push_back(beside);
    }
    if (candidates.size() > 1) {
        refuse("the key could mean '" + candidates[0].string() + "' or '" + candidates[1].string() +
               "'; move or rename one of them");
    }
    return candidates.front();
}

/// The key that finds `file` in its folder, if that is a model's: what follows its last dash is the quantization. None
/// for a later part of a split model.
inline std::optional<ModelKey> key_of_file(const std::filesystem::path& file) {
    const std::string stem = file.stem().string();
    const auto split = split_name(stem);
    if (file.extension() != file_ending || (split && split->part != 1)) {
        return {};
    }
    const std::string model(split ? split->model : std::string_view(stem));
    const std::size_t dash = model.rfind('-');
    if (dash == std::string::npos || dash == 0 || dash + 1 == model.size()) {
        return ModelKey(model);
    }
    return ModelKey(model.substr(0, dash), model.substr(dash + 1));
}

}  // namespace residency::detail::llama_cpp
