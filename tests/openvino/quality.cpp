// How well the real models find what is asked for, through the library: nDCG@10 on the collection that RESIDENCY_CORPUS
// names, with the models that RESIDENCY_OPENVINO_MODELS names, beside the figures of the reference implementation.
//
//   quality [N]   with a number only so many queries, and the documents judged for them, for which there is no
//                 reference: it shows that it works
//
// Ends with 1 if a figure is further than 0.005 from the reference, or nothing is found, with 77 if a folder is not
// named.

#include "support/quality.hpp"
#include "residency/backends/openvino.hpp"
#include "residency/model_manager.hpp"

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>

namespace {

using namespace residency;
using Manager = ModelManager<OpenVinoEmbeddingBackend, OpenVinoRerankerBackend>;

OpenVinoModelOptions options_of(const std::filesystem::path& models, std::size_t context_tokens) {
    return {.folders = models, .context_tokens = context_tokens, .truncate = true};
}

}  // namespace

int main(int argc, char** argv) try {
    const char* const models = std::getenv("RESIDENCY_OPENVINO_MODELS");
    const char* const corpus = std::getenv("RESIDENCY_CORPUS");
    if (models == nullptr || corpus == nullptr) {
        std::cout << "skipped: RESIDENCY_OPENVINO_MODELS and RESIDENCY_CORPUS name no folders\n";
        return 77;
    }
    return test::report_quality({argv + 1, argv + argc}, {"f16"}, corpus, [models](std::size_t context_tokens) {
        return std::make_unique<Manager>(OpenVinoEmbeddingBackend({.model = options_of(models, context_tokens)}),
                                         OpenVinoRerankerBackend({.model = options_of(models, context_tokens)}));
    });
} catch (const std::exception& error) {
    std::cerr << "quality: " << error.what() << '\n';
    return EXIT_FAILURE;
}
