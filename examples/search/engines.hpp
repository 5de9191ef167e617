#pragma once

#include "search/arguments.hpp"
#include "search/model_table.hpp"

#include <residency/backends/any.hpp>
#include <residency/backends/lexical.hpp>
#include <residency/embed_as.hpp>
#include <residency/error.hpp>
#include <residency/model_key.hpp>

#if defined(SEARCH_WITH_LLAMA_CPP)
#include <residency/backends/llama_cpp.hpp>
#endif
#if defined(SEARCH_WITH_OPENVINO)
#include <residency/backends/openvino.hpp>
#endif
#if defined(SEARCH_WITH_REMOTE)
#include <residency/backends/remote.hpp>
#endif

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace search {

/// Lines of a table, whose backends are shared.
template <class Backend>
using Lines = std::shared_ptr<std::vector<residency::Route<Backend>>>;

namespace detail {

/// An engine that this program may have been built without.
inline UsageError engine_is_missing(const std::string& engine, const std::string& option) {
    return UsageError("--models needs " + engine + ", and this program was built without: " + option + " adds it.");
}

/// The backends of one line. A text of odd characters may have more tokens than a model takes; its beginning will do.
inline std::pair<residency::AnyEmbeddingBackend, residency::AnyRerankerBackend> engine_of(const ModelSource& source) {
    if (source.engine == "built_in") {
        return {residency::LexicalEmbeddingBackend(), residency::LexicalRerankerBackend()};
    }
    if (source.engine == "llama_cpp") {
#if defined(SEARCH_WITH_LLAMA_CPP)
        const residency::LlamaCppModelOptions model{.files = source.folder, .truncate = true};
        return {residency::LlamaCppEmbeddingBackend({.model = model}),
                residency::LlamaCppRerankerBackend({.model = model})};
#else
        throw engine_is_missing("llama.cpp", "RESIDENCY_LLAMA_CPP=ON");
#endif
    }
    if (source.engine == "openvino") {
#if defined(SEARCH_WITH_OPENVINO)
        const residency::OpenVinoModelOptions model{.folders = source.folder, .truncate = true};
        return {residency::OpenVinoEmbeddingBackend({.model = model}),
                residency::OpenVinoRerankerBackend({.model = model})};
#else
        throw engine_is_missing("OpenVINO", "RESIDENCY_OPENVINO=ON");
#endif
    }
#if defined(SEARCH_WITH_REMOTE)
    residency::RemoteModelOptions model;
    const residency::RemoteDialect dialect = source.dialect == "tei"      ? residency::RemoteDialect::tei
                                             : source.dialect == "cohere" ? residency::RemoteDialect::cohere
                                                                          : residency::RemoteDialect::openai;
    for (const std::string& url : source.urls) {
        model.endpoints.push_back({.url = url, .dialect = dialect});
    }
    if (!source.name.empty()) {
        model.name = [name = source.name](const residency::ModelKey&) { return name; };
    }
    model.api_key = [key = source.api_key] { return key; };
    return {residency::RemoteEmbeddingBackend({.model = model}), residency::RemoteRerankerBackend({.model = model})};
#else
    throw engine_is_missing("Boost.JSON", "RESIDENCY_REMOTE=ON");
#endif
}

//! [route]
/// One backend of the lines: a key goes to the first line that matches it and whose engine knows it.
template <class Backend>
Backend first_that_knows(Lines<Backend> lines) {
    return residency::route([lines = std::move(lines)](const residency::ModelKey& key) {
        const auto line = std::find_if(lines->begin(), lines->end(),
                                       [&](const auto& each) { return each.matches(key) && each.backend.knows(key); });
        return line == lines->end() ? nullptr : &line->backend;
    });
}
//! [route]

}  // namespace detail

/// What loads the models of a table.
struct Engines {
    residency::AnyEmbeddingBackend embedding{};
    residency::AnyRerankerBackend reranker{};
    /// The lines of `embedding`, and of each whether its models want to know if a text is a query or a document: of
    /// this program's only Cohere's do.
    Lines<residency::AnyEmbeddingBackend> lines{};
    std::vector<bool> distinguishes{};

    /// What a text is, for the model of `key`.
    [[nodiscard]] residency::EmbedAs as(residency::EmbedAs what, const residency::ModelKey& key) const {
        const auto line = std::find_if(lines->begin(), lines->end(),
                                       [&](const auto& each) { return each.matches(key) && each.backend.knows(key); });
        const bool wants = line != lines->end() && distinguishes[static_cast<std::size_t>(line - lines->begin())];
        return wants ? what : residency::EmbedAs::as_is;
    }
};

/// The engines of these lines. Throws UsageError if one is not built in, or if its options are refused.
inline Engines make_engines(const std::vector<ModelSource>& sources) {
    const auto embedding = std::make_shared<std::vector<residency::EmbeddingRoute>>();
    const auto reranker = std::make_shared<std::vector<residency::RerankerRoute>>();
    std::vector<bool> distinguishes;
    for (const ModelSource& source : sources) {
        try {
            auto [embeds, reranks] = detail::engine_of(source);
            embedding->push_back({source.keys, std::move(embeds)});
            reranker->push_back({source.keys, std::move(reranks)});
            distinguishes.push_back(source.dialect == "cohere");
        } catch (const std::invalid_argument& error) {
            throw UsageError("The models of '" + source.keys + "' cannot be had: " + error.what() + ".");
        }
    }
    return {detail::first_that_knows<residency::AnyEmbeddingBackend>(embedding),
            detail::first_that_knows<residency::AnyRerankerBackend>(reranker), embedding, std::move(distinguishes)};
}

/// The keys of the models in the folders of these lines, as they are printed, in order. Throws UsageError if a folder
/// cannot be read.
inline std::vector<std::string> list_models(const std::vector<ModelSource>& sources) {
    std::vector<std::string> keys;
    for (const ModelSource& source : sources) {
        std::error_code error;
        std::filesystem::directory_iterator entry;
        if (!source.folder.empty()) {
            entry = std::filesystem::directory_iterator(source.folder, error);
        }
        for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
#if defined(SEARCH_WITH_LLAMA_CPP)
            if (const auto key = residency::LlamaCppFiles::key_of(entry->path()); key && source.engine == "llama_cpp") {
                keys.push_back(to_string(*key));
            }
#endif
            if (source.engine == "openvino" &&
                std::filesystem::exists(entry->path() / "openvino_tokenizer.xml", error)) {
                const std::string name = entry->path().filename().string();
                const std::size_t dash = name.rfind('-');
                keys.push_back(dash == std::string::npos ? name : name.substr(0, dash) + '@' + name.substr(dash + 1));
            }
        }
        if (error) {
            throw UsageError("The folder of models '" + source.folder.string() +
                             "' cannot be read: " + error.message() + ".");
        }
    }
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
}

/// Why the first line that has the key cannot load it, if that is known without a load.
inline std::string reason_against([[maybe_unused]] const residency::ModelKey& key,
                                  [[maybe_unused]] const std::vector<ModelSource>& sources) {
#if defined(SEARCH_WITH_LLAMA_CPP)
    for (const ModelSource& source : sources) {
        const residency::LlamaCppFiles files(source.folder);
        if (source.engine == "llama_cpp" && source.matches(key) && files.may_have(key)) {
            try {
                static_cast<void>(files.path_of(key));
            } catch (const residency::Error& error) {
                return std::string(error.detail());
            }
        }
    }
#endif
    return {};
}

/// Throws UsageError, saying which there are, unless the engines have all that the searches need.
inline void require_models(const Arguments& arguments, const std::vector<ModelSource>& sources,
                           const Engines& engines) {
    const auto require = [&](bool known, const residency::ModelKey& key, const std::string& option) {
        const std::string missing =
            "There is no model '" + to_string(key) + "' for " + option + " in '" + arguments.models.string() + "'";
        if (!known) {
            std::string held;
            for (const std::string& other : list_models(sources)) {
                held += (held.empty() ? "" : ", ") + other;
            }
            throw UsageError(missing + ", which holds " + (held.empty() ? "no NAME-QUANT.gguf" : held) + ".");
        }
        if (const std::string reason = reason_against(key, sources); !reason.empty()) {
            throw UsageError(missing + ": " + reason + ".");
        }
    };
    for (const ModelPair& pair : arguments.searches) {
        require(engines.embedding.knows(pair.embedding), pair.embedding, "--embedding");
        require(engines.reranker.knows(pair.reranker), pair.reranker, "--reranker");
    }
}

}  // namespace search
