// Unloading gives the memory back: over twenty cycles of load, use and unload through a slot, with two streams, what is
// in anonymous memory does not grow: the least of it after cycles 11 to 20 is at most 8 MiB more than after cycles 2 to
// 10. The medians are printed, too: after a cycle there are about 20 or about 40 MiB, by chance, so that they jump. A
// process of its own for each model, as what others did to the heap counts.
//
//   openvino_memory NAME QUANTIZATION

#include "residency/backends/openvino.hpp"
#include "residency/model_slot.hpp"
#include "support/either_backend.hpp"
#include "support/parallel.hpp"
#include "support/resident_set.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace residency;

constexpr std::size_t streams = 2;
constexpr std::size_t cycles = 20;
constexpr double allowed = 8.0;

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2.0;
}

template <class Backend, class Use>
bool measure(Backend backend, const ModelKey& key, const Use& use) {
    ModelSlot<Backend> slot(std::move(backend));
    std::vector<double> after;
    for (std::size_t cycle = 1; cycle <= cycles; ++cycle) {
        test::in_parallel(streams, streams, [&](std::size_t) {
            const auto lease = slot.acquire(key);
            use(*lease);
        });
        const double loaded = test::anonymous_mebibytes();
        slot.unload(key);
        after.push_back(test::anonymous_mebibytes());
        std::cout << "cycle " << cycle << ": " << loaded << " MiB loaded, " << after.back() << " MiB after"
                  << std::endl;
    }
    const std::vector<double> early(after.begin() + 1, after.begin() + 10);
    const std::vector<double> late(after.begin() + 10, after.end());
    const double least_early = *std::min_element(early.begin(), early.end());
    const double least_late = *std::min_element(late.begin(), late.end());
    std::cout << key << ": median of cycles 2 to 10: " << median(early) << " MiB, least " << least_early
              << "; of 11 to 20: " << median(late) << " MiB, least " << least_late << '\n';
    return least_late - least_early <= allowed;
}

}  // namespace

int main(int count, char** arguments) try {
    const std::vector<std::string> words(arguments + 1, arguments + count);
    if (words.size() != 2) {
        std::cerr << "usage: openvino_memory NAME QUANTIZATION\n";
        return EXIT_FAILURE;
    }
    const char* const models = std::getenv("RESIDENCY_OPENVINO_MODELS");
    if (models == nullptr || *models == '\0') {
        std::cout << "skipped: RESIDENCY_OPENVINO_MODELS names no folder\n";
        return 77;
    }
    const ModelKey key(words[0], words[1]);
    const OpenVinoModelOptions options{.folders = models, .streams = streams, .truncate = true};
    std::string text;
    for (int word = 0; word < 300; ++word) {
        text += "boundary layer ";
    }
    const std::vector<std::string> texts(4, text);
    const bool good = test::with_either_backend(key.name, options, [&](auto backend, const auto& call) {
        return measure(std::move(backend), key, [&](auto& model) {
            if (call(model, texts) != texts.size()) {
                throw std::runtime_error("too few rows");
            }
        });
    });
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
    std::cerr << "openvino_memory: " << error.what() << '\n';
    return EXIT_FAILURE;
}
