// The main job: search over a folder, as a user would run it.
//
//     search "unload an idle model" include
//     search --models FOLDER --embedding all-minilm-l6-v2@f16 --reranker qa-reranker-l6@f16 "unload an idle model"
//     include
//
// Several threads read and embed the folder's files through one ModelManager; the nearest passages are reranked, the
// best printed. Both models are loaded on first use, shared by all threads, and unloaded when they have been idle for
// their keep-alive. What has to do with residency is in search/job.hpp; the rest of search/ is what any such program
// needs.

#include "search/arguments.hpp"
#include "search/folder.hpp"
#include "search/interrupt.hpp"
#include "search/job.hpp"

#include <residency/backends/lexical.hpp>
#include <residency/error.hpp>

#if defined(SEARCH_WITH_LLAMA_CPP)
#include "search/models_folder.hpp"

#include <residency/backends/llama_cpp.hpp>
#endif

#include <exception>
#include <iostream>
#include <optional>
#include <utility>

namespace {

template <class Embedding, class Reranker>
int run(const search::Arguments& arguments, const search::Interrupt& interrupt, Embedding embedding,
        Reranker reranker) {
    search::Folder folder = search::list(arguments.folder, interrupt.token());
    return search::Job(arguments, std::move(embedding), std::move(reranker), interrupt, std::move(folder)).run();
}

/// Which backends the models come from: the one place that knows.
int run(const search::Arguments& arguments, const search::Interrupt& interrupt) {
    if (arguments.models.empty()) {
        return run(arguments, interrupt, residency::LexicalEmbeddingBackend(), residency::LexicalRerankerBackend());
    }
#if defined(SEARCH_WITH_LLAMA_CPP)
    search::require_models(arguments);
    // A passage of odd characters may have more tokens than a model takes; its beginning will do.
    const residency::LlamaCppModelOptions model{.files = arguments.models, .truncate = true};
    return run(arguments, interrupt, residency::LlamaCppEmbeddingBackend({.model = model}),
               residency::LlamaCppRerankerBackend({.model = model}));
#else
    throw search::UsageError(
        "--models needs llama.cpp, and this program was built without: RESIDENCY_LLAMA_CPP=ON adds it.");
#endif
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::optional<search::Arguments> arguments = search::parse(argc, argv);
        if (!arguments) {
            return search::found;
        }
        const search::Interrupt interrupt;
        return run(*arguments, interrupt);
    } catch (const search::UsageError& error) {
        std::cerr << "search: " << error.what() << '\n';
        return search::bad_usage;
    } catch (const residency::Error& error) {
        std::cerr << "search: " << error.what() << '\n';
        return error.code() == residency::condition::caller ? search::bad_usage : search::failed;
    } catch (const std::exception& error) {
        std::cerr << "search: " << error.what() << '\n';
        return search::failed;
    }
}
