#pragma once

#include "search/arguments.hpp"

#include <residency/backends/any.hpp>
#include <residency/model_key.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace search {

/// A line of the table of models: some keys, and where their models come from.
struct ModelSource {
    /// Which keys, as `residency::Route` has them.
    std::string keys = "*";
    /// `built_in`, `llama_cpp`, `openvino` or `remote`.
    std::string engine{};
    /// The folder of models of `llama_cpp` and `openvino`.
    std::filesystem::path folder{};
    /// The base URLs of `remote`.
    std::vector<std::string> urls{};
    /// What these speak: `openai`, `tei` or `cohere`.
    std::string dialect = "openai";
    /// What they call the model; empty: as the key's name.
    std::string name{};
    /// The API key that they want; empty: none.
    std::string api_key{};

    [[nodiscard]] bool matches(const residency::ModelKey& key) const {
        return residency::EmbeddingRoute{keys, {}}.matches(key);
    }
};

namespace detail {

/// A line of a table in JSON. Throws UsageError.
inline ModelSource parse_source(const nlohmann::json& line, const std::filesystem::path& folder,
                                const std::string& where) {
    const auto refuse = [&](const std::string& what) { return UsageError(where + " " + what + "."); };
    if (!line.is_object()) {
        throw refuse("is no object");
    }
    ModelSource source;
    for (const auto& [name, value] : line.items()) {
        const bool is_engine = name == "built_in" || name == "llama_cpp" || name == "openvino" || name == "remote";
        if (is_engine && !std::exchange(source.engine, name).empty()) {
            throw refuse("has more than one of built_in, llama_cpp, openvino and remote");
        }
        if (name == "built_in") {
            if (!value.is_boolean() || !value.get<bool>()) {
                throw refuse("has a built_in that is not true");
            }
            continue;
        }
        if (name == "remote") {
            for (const auto& url : value.is_array() ? value : nlohmann::json::array({value})) {
                source.urls.push_back(url.is_string() ? url.get<std::string>() : "");
            }
            continue;
        }
        const std::string text = value.is_string() ? value.get<std::string>() : "";
        if (text.empty()) {
            throw refuse("has a '" + name + "' that is no text, or empty");
        }
        if (name == "keys") {
            source.keys = text;
        } else if (is_engine) {
            source.folder = folder / text;
        } else if (name == "dialect" && (text == "openai" || text == "tei" || text == "cohere")) {
            source.dialect = text;
        } else if (name == "dialect") {
            throw refuse("has the dialect '" + text + "'; there are openai, tei and cohere");
        } else if (name == "name") {
            source.name = text;
        } else if (name == "api_key_variable") {
            const char* const key = std::getenv(text.c_str());
            if (key == nullptr) {
                throw refuse("wants the environment variable '" + text + "', which is not set");
            }
            source.api_key = key;
        } else {
            throw refuse("has a '" + name + "', which no line has");
        }
    }
    if (!line.contains("keys")) {
        throw refuse("has no 'keys'");
    }
    if (source.engine.empty()) {
        throw refuse("has none of built_in, llama_cpp, openvino and remote");
    }
    for (const char* const name : {"dialect", "name", "api_key_variable"}) {
        if (source.engine != "remote" && line.contains(name)) {
            throw refuse("has a '" + std::string(name) + "' and is not remote");
        }
    }
    return source;
}

}  // namespace detail

/// The table in a JSON file; folders in it are relative to the file's own. Throws UsageError, saying which line is
/// wrong.
inline std::vector<ModelSource> read_table(const std::filesystem::path& file) {
    const std::string name = "The table of models '" + file.string() + "'";
    std::ifstream in(file);
    const nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
    if (!in || json.is_discarded()) {
        throw UsageError(name + " cannot be read as JSON.");
    }
    if (!json.is_array() || json.empty()) {
        throw UsageError(name + " is no list of lines.");
    }
    std::vector<ModelSource> sources;
    for (const nlohmann::json& line : json) {
        sources.push_back(
            detail::parse_source(line, file.parent_path(), name + ": line " + std::to_string(sources.size() + 1)));
    }
    return sources;
}

/// Where the models of `--models` come from: the built-in ones without it, a folder of models, or a table in a file.
inline std::vector<ModelSource> read_sources(const std::filesystem::path& models) {
    std::error_code error;
    if (models.empty()) {
        return {{.engine = "built_in"}};
    }
    const auto status = std::filesystem::status(models, error);
    if (std::filesystem::is_directory(status)) {
        std::vector<ModelSource> sources;
#if defined(SEARCH_WITH_LLAMA_CPP) || !defined(SEARCH_WITH_OPENVINO)
        sources.push_back({.engine = "llama_cpp", .folder = models});
#endif
#if defined(SEARCH_WITH_OPENVINO)
        sources.push_back({.engine = "openvino", .folder = models});
#endif
        return sources;
    }
    if (!std::filesystem::exists(status)) {
        throw UsageError("The folder or table of models '" + models.string() + "' is not there.");
    }
    return read_table(models);
}

}  // namespace search
