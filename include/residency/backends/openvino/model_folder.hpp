#pragma once

#include "residency/backends/filesystem.hpp"
#include "residency/backends/json.hpp"
#include "residency/backends/openvino/model_sizes.hpp"
#include "residency/backends/openvino/options.hpp"
#include "residency/not_a_number.hpp"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <boost/system/error_code.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace residency::detail::openvino {

/// What the files beside a model say of it. Its functions read them and throw std::runtime_error, naming the file, if
/// one is there and cannot be read or is not JSON.
class ModelFolder {
public:
    /// The folder need not exist.
    explicit ModelFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// The model's file. Throws if there is none, or it is an .xml without XML.
    [[nodiscard]] std::filesystem::path model() const {
        return checked(found({"openvino_model.xml", "model.onnx"}, "neither openvino_model.xml nor model.onnx"));
    }

    /// The tokenizer's file. Throws if there is none, or it has no XML.
    [[nodiscard]] std::filesystem::path tokenizer() const {
        return checked(found({"openvino_tokenizer.xml"},
                             "no openvino_tokenizer.xml, which `convert_tokenizer MODEL -o FOLDER` writes"));
    }

    /// How many tokens the model takes: the least that the files say; none if none says anything.
    [[nodiscard]] std::optional<std::size_t> limit() const {
        std::optional<std::size_t> least;
        const auto add = [&least](std::optional<double> count) {
            // A tokenizer without a limit says 10^30.
            if (count && *count >= 1.0 && *count < 1e9) {
                const auto tokens = static_cast<std::size_t>(*count);
                least = least ? (std::min)(*least, tokens) : tokens;
            }
        };
        add(number_in("tokenizer_config.json", "model_max_length"));
        add(number_in("sentence_bert_config.json", "max_seq_length"));
        if (const auto config = read("config.json")) {
            auto positions = number_of(*config, "max_position_embeddings");
            if (positions && counts_from_padding(*config)) {
                *positions -= number_of(*config, "pad_token_id").value_or(1.0) + 1.0;
            }
            add(positions);
        }
        return least;
    }

    /// What decides how much memory the model takes, read without OpenVINO. Throws as `model` does.
    [[nodiscard]] ModelSizes sizes() const {
        const std::filesystem::path file = model();
        ModelSizes sizes;
        if (file.extension() == ".xml") {
            sizes = sizes_in(contents(file, (std::numeric_limits<std::size_t>::max)()).value_or(""));
        } else {
            // It does not say of which type its weights are without being read in whole. As many as there may be.
            constexpr double smallest = 2;
            sizes.parameters = file_size(file);
            for (const char* const more : {".data", "_data"}) {
                sizes.parameters += file_size(file.string() + more);
            }
            sizes.parameters /= smallest;
        }
        if (const auto config = read("config.json")) {
            for (const char* const name : {"hidden_size", "dim", "n_embd", "d_model"}) {
                if (const auto width = number_of(*config, name); width && *width >= 1.0 && *width < 1e9) {
                    sizes.width = *width;
                    break;
                }
            }
        }
        // As in the larger ones of the usual encoders.
        sizes.width = sizes.width >= 1.0 ? sizes.width : 1024.0;
        return sizes;
    }

    /// How token vectors become a text's; none if the folder does not say. Throws if it says what is not known here.
    [[nodiscard]] std::optional<OpenVinoPooling> pooling() const {
        const auto config = read("1_Pooling/config.json");
        if (!config) {
            return {};
        }
        static constexpr std::array known{std::pair{"pooling_mode_mean_tokens", OpenVinoPooling::mean},
                                          std::pair{"pooling_mode_cls_token", OpenVinoPooling::cls},
                                          std::pair{"pooling_mode_lasttoken", OpenVinoPooling::last}};
        static constexpr std::array unknown{"pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
                                            "pooling_mode_weightedmean_tokens"};
        const auto is_on = [&config](const char* name) { return is_true(*config, name); };
        std::optional<OpenVinoPooling> found;
        bool clear = std::none_of(unknown.begin(), unknown.end(), is_on);
        for (const auto& [name, pooling] : known) {
            if (is_on(name)) {
                clear = clear && !found;
                found = pooling;
            }
        }
        // What newer versions of sentence-transformers write.
        if (const auto mode = string_of(*config, "pooling_mode")) {
            found = *mode == "mean"        ? OpenVinoPooling::mean
                    : *mode == "cls"       ? OpenVinoPooling::cls
                    : *mode == "lasttoken" ? std::optional(OpenVinoPooling::last)
                                           : std::nullopt;
            clear = found.has_value();
        }
        if (!clear) {
            throw std::runtime_error(
                "1_Pooling/config.json asks for a pooling other than mean, cls or last alone, which is not computed "
                "here");
        }
        return found;
    }

    /// What the model was trained to see before queries and documents; none if the folder names nothing.
    [[nodiscard]] std::optional<OpenVinoPrefixes> prefixes() const {
        const auto config = read("config_sentence_transformers.json");
        const boost::json::value* const prompts = config ? member_of(*config, "prompts") : nullptr;
        if (prompts == nullptr) {
            return {};
        }
        const auto prompt = [prompts](std::initializer_list<const char*> names) {
            for (const char* const name : names) {
                if (const auto text = string_of(*prompts, name)) {
                    return std::string(*text);
                }
            }
            return std::string();
        };
        OpenVinoPrefixes found{prompt({"query"}), prompt({"document", "passage"})};
        return found.query.empty() && found.document.empty() ? std::nullopt : std::optional(std::move(found));
    }

    /// The tokens that were added to the vocabulary and are text all the same: those not marked as special.
    [[nodiscard]] std::vector<std::string> added_text_tokens() const {
        std::vector<std::string> found;
        const auto tokenizer = read("tokenizer.json");
        const boost::json::value* const added = tokenizer ? member_of(*tokenizer, "added_tokens") : nullptr;
        const boost::json::array* const tokens = added != nullptr ? added->if_array() : nullptr;
        if (tokens == nullptr) {
            return found;
        }
        for (const boost::json::value& token : *tokens) {
            const auto content = string_of(token, "content");
            if (content && !content->empty() && !is_true(token, "special")) {
                found.emplace_back(*content);
            }
        }
        return found;
    }

private:
    // Models of these kinds number positions from the padding's index + 1.
    static bool counts_from_padding(const boost::json::value& config) {
        static constexpr std::array<std::string_view, 11> kinds{"roberta",
                                                                "xlm-roberta",
                                                                "xlm-roberta-xl",
                                                                "roberta-prelayernorm",
                                                                "camembert",
                                                                "data2vec-text",
                                                                "ibert",
                                                                "longformer",
                                                                "mpnet",
                                                                "luke",
                                                                "xmod"};
        const auto kind = string_of(config, "model_type");
        return kind && std::find(kinds.begin(), kinds.end(), *kind) != kinds.end();
    }

    // Each of these is a member of `object`, if it has it and it is of that kind.
    static bool is_true(const boost::json::value& object, std::string_view name) {
        const boost::json::value* const value = member_of(object, name);
        return value != nullptr && value->is_bool() && value->get_bool();
    }

    static std::optional<std::string_view> string_of(const boost::json::value& object, std::string_view name) {
        const boost::json::value* const value = member_of(object, name);
        if (value == nullptr || !value->is_string()) {
            return {};
        }
        return std::string_view(value->get_string().data(), value->get_string().size());
    }

    static std::optional<double> number_of(const boost::json::value& object, std::string_view name) {
        const boost::json::value* const value = member_of(object, name);
        if (value == nullptr || !value->is_number()) {
            return {};
        }
        // Boost.JSON makes a NaN of `0e999`.
        const auto number = value->to_number<double>();
        return is_nan(number) ? std::nullopt : std::optional<double>(number);
    }

    [[nodiscard]] std::optional<double> number_in(const char* file, std::string_view key) const {
        const auto object = read(file);
        return object ? number_of(*object, key) : std::nullopt;
    }

    // The places in which a file may be: what optimum and sentence-transformers write.
    [[nodiscard]] std::optional<std::filesystem::path> find(const std::string& name) const {
        for (const char* const below : {"", "openvino", "onnx"}) {
            std::filesystem::path path = *below == '\0' ? folder_ / name : folder_ / below / name;
            std::error_code ignored;
            if (std::filesystem::is_regular_file(path, ignored)) {
                return path;
            }
        }
        return {};
    }

    [[nodiscard]] std::filesystem::path found(std::initializer_list<const char*> names, const char* missing) const {
        std::error_code error;
        if (const auto status = std::filesystem::status(folder_, error); !std::filesystem::exists(status)) {
            throw std::runtime_error(error ? error.message() : std::generic_category().message(ENOENT));
        } else if (!std::filesystem::is_directory(status)) {
            throw std::runtime_error(std::generic_category().message(ENOTDIR));
        }
        for (const char* const name : names) {
            if (auto path = find(name)) {
                return *std::move(path);
            }
        }
        throw std::runtime_error(std::string("it holds ") + missing);
    }

    // Zero if there is no such file.
    static double file_size(const std::filesystem::path& path) {
        std::error_code error;
        const std::uintmax_t size = std::filesystem::file_size(path, error);
        return error ? 0.0 : static_cast<double>(size);
    }

    // The first bytes of a file, `most` at most; none if it cannot be read.
    static std::optional<std::string> contents(const std::filesystem::path& path, std::size_t most) {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.string().c_str(), "rb"),
                                                                   &std::fclose);
        std::string text;
        std::array<char, 4096> part{};
        while (file && text.size() < most) {
            const std::size_t count =
                std::fread(part.data(), 1, (std::min)(part.size(), most - text.size()), file.get());
            text.append(part.data(), count);
            if (count == 0) {
                break;
            }
        }
        return file && std::ferror(file.get()) == 0 ? std::optional(std::move(text)) : std::nullopt;
    }

    // OpenVINO would try a file without XML as one of other kinds, whose readers write to stderr.
    static std::filesystem::path checked(std::filesystem::path path) {
        if (path.extension() == ".xml") {
            const auto text = contents(path, 64);
            const std::size_t first = text ? text->find_first_not_of(" \t\r\n\xEF\xBB\xBF") : std::string::npos;
            if (first == std::string::npos || (*text)[first] != '<') {
                throw std::runtime_error(path.filename().string() + " cannot be read, or is not XML");
            }
        }
        return path;
    }

    [[nodiscard]] std::optional<boost::json::value> read(const char* name) const {
        const auto path = find(name);
        if (!path) {
            return {};
        }
        boost::system::error_code error;
        // Nothing at all is no JSON either.
        auto json = parse_json(contents(*path, (std::numeric_limits<std::size_t>::max)()).value_or(""), error);
        if (error) {
            throw std::runtime_error(std::string(name) + " cannot be read, or is not JSON");
        }
        return json;
    }

    std::filesystem::path folder_;
};

}  // namespace residency::detail::openvino
