#pragma once

#include "search/arguments.hpp"

#include <residency/model_key.hpp>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace search {

/// The keys of the models in a folder, `NAME@QUANT` for `NAME-QUANT.gguf`, in order. Throws UsageError if there is no
/// such folder.
inline std::vector<std::string> list_models(const std::filesystem::path& folder) {
    std::error_code error;
    std::vector<std::string> keys;
    std::filesystem::directory_iterator entry(folder, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        if (entry->path().extension() == ".gguf") {
            std::string key = entry->path().stem().string();
            if (const std::size_t dash = key.rfind('-'); dash != std::string::npos) {
                key[dash] = '@';
            }
            keys.push_back(std::move(key));
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
    const auto require = [&](const residency::ModelKey& key, const std::string& option) {
        std::ostringstream whole;
        whole << key;
        if (std::find(keys.begin(), keys.end(), whole.str()) != keys.end()) {
            return;
        }
        std::string held;
        for (const std::string& other : keys) {
            held += (held.empty() ? "" : ", ") + other;
        }
        throw UsageError("There is no model '" + to_string(key) + "' for " + option + " in '" +
                         arguments.models.string() + "', which holds " + (held.empty() ? "no NAME-QUANT.gguf" : held) +
                         ".");
    };
    for (const ModelPair& pair : arguments.searches) {
        require(pair.embedding, "--embedding");
        require(pair.reranker, "--reranker");
    }
}

}  // namespace search
