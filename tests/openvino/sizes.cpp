// What the backend says a model takes, beside what it takes: the largest sub-batch is computed on each stream, and by
// how much the process's anonymous memory has grown is compared. A process for each model, as what others did to the
// heap counts.
//
//   openvino_sizes NAME QUANTIZATION STREAMS BATCH_TOKENS (device | f32)

#include "residency/backends/openvino.hpp"
#include "support/either_backend.hpp"
#include "support/parallel.hpp"
#include "support/resident_set.hpp"

#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace residency;

constexpr double most_needed = 1.5;
constexpr double used_within = 0.25;

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / test::mebibyte; }

template <class Backend, class Call>
bool measure(Backend backend, const ModelKey& key, const Call& call) {
    const double before = test::anonymous_mebibytes();
    const double needed = mebibytes(backend.memory_needed(key));
    LoadContext context;
    const auto model = backend.load(key, context);
    const std::size_t streams = model->max_concurrency();
    // All at once, so that each takes a stream of its own.
    std::barrier all(static_cast<std::ptrdiff_t>(streams));
    test::in_parallel(streams, streams, [&](std::size_t) {
        all.arrive_and_wait();
        call(*model);
    });
    const double grown = test::anonymous_mebibytes() - before;
    const double used = mebibytes(model->memory_used());
    std::cout << key << ", " << streams << " streams: " << grown << " MiB measured, " << needed << " needed, " << used
              << " used\n";
    return grown <= needed && needed <= most_needed * grown && std::abs(used - grown) <= used_within * grown;
}

}  // namespace

int main(int count, char** arguments) try {
    const std::vector<std::string> words(arguments + 1, arguments + count);
    if (words.size() != 5) {
        std::cerr << "usage: openvino_sizes NAME QUANTIZATION STREAMS BATCH_TOKENS (device | f32)\n";
        return EXIT_FAILURE;
    }
    const char* const models = std::getenv("RESIDENCY_OPENVINO_MODELS");
    if (models == nullptr || *models == '\0') {
        std::cout << "skipped: RESIDENCY_OPENVINO_MODELS names no folder\n";
        return 77;
    }
    const ModelKey key(words[0], words[1]);
    const std::size_t batch_tokens = std::stoul(words[3]);
    OpenVinoModelOptions options{.folders = models,
                                 .precision = words[4] == "f32" ? OpenVinoPrecision::f32 : OpenVinoPrecision::of_device,
                                 .streams = std::stoul(words[2]),
                                 .batch_tokens = batch_tokens,
                                 .truncate = true};
    std::string text;
    for (int word = 0; word < 600; ++word) {
        text += "layer ";
    }
    // Of the 512 tokens that the models take: twice what fills a sub-batch.
    const std::vector<std::string> texts(2 * batch_tokens / 512 + 1, text);
    const bool good = test::with_either_backend(key.name, std::move(options), [&](auto backend, const auto& call) {
        return measure(std::move(backend), key, [&](auto& model) { (void)call(model, texts); });
    });
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
    std::cerr << "openvino_sizes: " << error.what() << '\n';
    return EXIT_FAILURE;
}
