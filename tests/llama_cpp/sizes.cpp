// What the backend says a model takes, beside what it takes: the model is loaded into memory of the process, the
// longest text is computed on each context, and by how much the resident set has grown is compared. A process for each
// model, as what others did to the heap counts.
//
//   llama_cpp_sizes NAME QUANTIZATION CONTEXTS BATCH_TOKENS [CONTEXT_TOKENS]

#include "residency/backends/llama_cpp.hpp"
#include "support/parallel.hpp"
#include "support/resident_set.hpp"

#include <barrier>
#include <cmath>
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
using namespace residency::test;

constexpr double allowed = 0.1;

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / mebibyte; }

template <class Backend, class Call>
bool measure(Backend backend, const ModelKey& key, std::size_t contexts, const Call& call) {
    const double before = resident_mebibytes();
    const double needed = mebibytes(backend.memory_needed(key));
    LoadContext context;
    const auto model = backend.load(key, context);
    // All at once, so that each takes a context of its own.
    std::barrier all(static_cast<std::ptrdiff_t>(contexts));
    test::in_parallel(contexts, contexts, [&](std::size_t) {
        all.arrive_and_wait();
        call(*model);
    });
    const double grown = resident_mebibytes() - before;
    const double used = mebibytes(model->memory_used());
    std::cout << key << ", " << contexts << " contexts: " << grown << " MiB measured, " << needed << " needed, " << used
              << " used\n";
    return std::abs(needed - grown) <= allowed * grown && std::abs(used - grown) <= allowed * grown;
}

}  // namespace

int main(int count, char** arguments) try {
    const std::vector<std::string> words(arguments + 1, arguments + count);
    if (words.size() != 4 && words.size() != 5) {
        std::cerr << "usage: llama_cpp_sizes NAME QUANTIZATION CONTEXTS BATCH_TOKENS [CONTEXT_TOKENS]\n";
        return EXIT_FAILURE;
    }
    const char* const models = std::getenv("RESIDENCY_MODELS");
    if (models == nullptr || *models == '\0') {
        std::cout << "skipped: RESIDENCY_MODELS names no folder\n";
        return 77;
    }
    const ModelKey key(words[0], words[1]);
    const std::size_t contexts = std::stoul(words[2]);
    LlamaCppModelOptions options{.files = models,
                                 .contexts = contexts,
                                 .threads = 1,
                                 .batch_tokens = std::stoul(words[3]),
                                 .context_tokens = words.size() > 4 ? std::stoul(words[4]) : 0,
                                 .truncate = true,
                                 .load_mode = LlamaCppLoadMode::read};
    std::string text;
    for (int word = 0; word < 600; ++word) {
        text += "boundary layer ";
    }
    // As many that the largest batch is full, whether it is one long text or several.
    const std::vector<std::string> texts(4, text);
    bool good = false;
    if (key.name.find("rerank") != std::string::npos) {
        good = measure(LlamaCppRerankerBackend({.model = std::move(options)}), key, contexts,
                       [&](LlamaCppRerankerModel& model) { (void)model.rerank("flow over a wing", texts); });
    } else {
        good = measure(LlamaCppEmbeddingBackend({.model = std::move(options)}), key, contexts,
                       [&](LlamaCppEmbeddingModel& model) { (void)model.embed(texts); });
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
    std::cerr << "llama_cpp_sizes: " << error.what() << '\n';
    return EXIT_FAILURE;
}
