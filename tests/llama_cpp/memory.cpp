// Unloading gives the memory back: over twenty cycles of load, embed and unload through a slot, with four contexts, the
// resident set returns to within 8 MiB of its level after the second unload. A process of its own, as what others did
// to the heap counts.

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_slot.hpp"
#include "support/parallel.hpp"
#include "support/resident_set.hpp"

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr double allowed = 8.0;

}  // namespace

int main() try {
    using namespace residency;
    using namespace residency::test;
    const char* const models = std::getenv("RESIDENCY_MODELS");
    if (models == nullptr) {
        std::cout << "skipped: RESIDENCY_MODELS names no folder\n";
        return 77;
    }
    constexpr std::size_t contexts = 4;
    ModelSlot<LlamaCppEmbeddingBackend> slot(
        LlamaCppEmbeddingBackend({.model = {.files = models, .contexts = contexts, .threads = 1}}));
    const ModelKey key("all-minilm-l6-v2", "f16");
    std::string words;
    for (int word = 0; word < 100; ++word) {
        words += "boundary layer ";
    }
    double level = 0.0;
    bool good = true;
    for (int cycle = 1; cycle <= 20; ++cycle) {
        test::in_parallel(contexts, contexts, [&](std::size_t) {
            auto lease = slot.acquire(key);
            const std::vector<std::string> texts(2, words);
            if (lease->embed(texts).size() != 2) {
                throw std::runtime_error("too few rows");
            }
        });
        const double loaded = resident_mebibytes();
        slot.unload(key);
        const double after = resident_mebibytes();
        if (cycle == 2) {
            level = after;
        }
        const bool back = cycle <= 2 || after <= level + allowed;
        good = good && back;
        std::cout << "cycle " << cycle << ": " << loaded << " MiB loaded, " << after << " MiB after"
                  << (back ? "" : "  <- too much") << std::endl;
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
    std::cerr << "memory: " << error.what() << '\n';
    return EXIT_FAILURE;
}
