// Random requests on real models from six threads, each answer compared with what the model gave when it was alone; at
// the end nothing is left. The models, in two quantizations, are those of the folder that RESIDENCY_MODELS names.
//
//   stress [SECONDS [SEED]]     60 seconds, a seed that it prints

#include "support/stress.hpp"
#include "residency/backends/llama_cpp.hpp"

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>

int main(int argc, char** argv) try {
    using namespace residency;
    using namespace std::chrono_literals;
    const char* const folder = std::getenv("RESIDENCY_MODELS");
    if (folder == nullptr) {
        std::cout << "skipped: RESIDENCY_MODELS names no folder\n";
        return 77;
    }
    return test::report_stress({argv + 1, argv + argc},
                               {.embedders = {{{"all-minilm-l6-v2", "f16"}, {"all-minilm-l6-v2", "q8_0"}}},
                                .rerankers = {{{"qa-reranker-l6", "f16"}, {"qa-reranker-l6", "q8_0"}}},
                                // Rounding changes q8_0 nearly as much as it differs from f16.
                                .cosine = {0.99995, 0.998},
                                .score = {0.02F, 0.4F}},
                               LlamaCppEmbeddingBackend({.model = {.files = folder, .threads = 1}}),
                               LlamaCppRerankerBackend({.model = {.files = folder, .threads = 1}}),
                               {.embedding = {.keep_alive = 20ms, .max_leases = 6}, .reranker = {.keep_alive = 20ms}},
                               folder);
} catch (const std::exception& error) {
    std::cerr << "stress: " << error.what() << '\n';
    return EXIT_FAILURE;
}
