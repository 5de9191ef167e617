// How well the real models find what is asked for, through the library: nDCG@10 on the collection that RESIDENCY_CORPUS
// names, with the models that RESIDENCY_MODELS names, beside the figures of the reference implementation.
//
//   quality [f16|q8_0]... [N]   which quantizations; both if none is named. With a number only so many queries, and the
//                               documents judged for them, for which there is no reference: it shows that it works
//
// Ends with 1 if a figure of f16 is further than 0.005 from the reference, or nothing is found, with 77 if a folder is
// not named.

#include "support/quality.hpp"
#include "residency/backends/llama_cpp.hpp"
#include "residency/model_manager.hpp"

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace residency;
using Manager = ModelManager<LlamaCppEmbeddingBackend, LlamaCppRerankerBackend>;

LlamaCppModelOptions options_of(const std::filesystem::path& models, std::size_t context_tokens) {
    // A request for each processor, and a thread for each request.
    LlamaCppModelOptions options{.files = models, .threads = 1};
    options.context_tokens = context_tokens;
    options.truncate = true;
    return options;
}

}  // namespace

int main(int argc, char** argv) try {
    const char* const models = std::getenv("RESIDENCY_MODELS");
    const char* const corpus = std::getenv("RESIDENCY_CORPUS");
    if (models == nullptr || corpus == nullptr) {
        std::cout << "skipped: RESIDENCY_MODELS and RESIDENCY_CORPUS name no folders\n";
        return 77;
    }
    return test::report_quality({argv + 1, argv + argc}, {"f16", "q8_0"}, corpus, [models](std::size_t context_tokens) {
        return std::make_unique<Manager>(LlamaCppEmbeddingBackend({.model = options_of(models, context_tokens)}),
                                         LlamaCppRerankerBackend({.model = options_of(models, context_tokens)}));
    });
} catch (const std::exception& error) {
    std::cerr << "quality: " << error.what() << '\n';
    return EXIT_FAILURE;
}
