#pragma once

#include "search/arguments.hpp"

#include <residency/backends/llama_cpp/files.hpp>
#include <residency/error.hpp>
#include <residency/model_key.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace search {

/// The keys of the models in a folder, as they are printed, in order. Throws UsageError if there is no such folder.
inline std::vector<std::string> list_models(const std::filesystem::path& folder) {
    std::error_code error;
    std::vector<std::string> keys;
    std::filesystem::directory_iterator entry(folder, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        if (const auto key = residency::LlamaCppFiles::key_of(entry->path())) {
            keys.push_back(to_string(*key));
        }
    }
    if (error) {
        throw UsageError("The folder of models '" + folder.string() + "' cannot be read: " + error.message() + ".");
    }
    std::sort(keys.begin(), keys.end());
    return keys;
}

/// Throws UsageError, telling which there are, unless the folder of models has all that the searches need.
inline void require_models(const Arguments& arguments) {
    const std::vector<std::string> keys = list_models(arguments.models);
    const residency::LlamaCppFiles files(arguments.models);
    const auto require = [&](const residency::ModelKey& key, const std::string& option) {
        const std::string missing =
            "There is no model '" + to_string(key) + "' for " + option + " in '" + arguments.models.string() + "'";
        try {
            std::error_code ignored;
            if (std::filesystem::exists(files.path_of(key), ignored)) {
                return;
            }
        } catch (const residency::Error& error) {
            throw UsageError(missing + ": " + std::string(error.detail()) + ".");
        }
        std::string held;
        for (const std::string& other : keys) {
            held += (held.empty() ? "" : ", ") + other;
        }
        throw UsageError(missing + ", which holds " + (held.empty() ? "no NAME-QUANT.gguf" : held) + ".");
    };
    for (const ModelPair& pair : arguments.searches) {
        require(pair.embedding, "--embedding");
        require(pair.reranker, "--reranker");
    }
}

}  // namespace search
