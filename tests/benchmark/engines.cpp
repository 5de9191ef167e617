// What real engines give to 1 to 256 callers of one short text each, with shared calls and with a call for each
// request: texts a second, and within which time 99 of 100 answers come. Prints JSON for chart.py. The variants take
// turns, and a figure is the median of three rounds.
//
//   engines [URL]   the engines that are built in, on the models that RESIDENCY_MODELS (llama.cpp) and
//                   RESIDENCY_OPENVINO_MODELS name; and a llama-server that answers at URL, http://127.0.0.1:8080/v1

#include "residency/backends/any.hpp"
#include "residency/backends/lexical.hpp"
#include "residency/model_manager.hpp"
#include "residency/runtime/processors.hpp"

#if defined(RESIDENCY_WITH_LLAMA_CPP)
#include "residency/backends/llama_cpp.hpp"
#endif
#if defined(RESIDENCY_WITH_OPENVINO)
#include "residency/backends/openvino.hpp"
#endif
#if defined(RESIDENCY_WITH_REMOTE)
#include "residency/backends/remote.hpp"
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace residency;
using Clock = std::chrono::steady_clock;
using Manager = ModelManager<AnyEmbeddingBackend, LexicalRerankerBackend>;

constexpr std::size_t rounds = 3;
constexpr std::array<std::size_t, 9> callers_of_points{1, 2, 4, 8, 16, 32, 64, 128, 256};
const ModelKey key("all-minilm-l6-v2", "f16");

struct Figures {
    std::vector<double> rate{};
    std::vector<double> p99{};
};

struct Variant {
    std::string engine;
    bool shares;
    std::unique_ptr<Manager> manager;
    std::array<Figures, callers_of_points.size()> points{};
};

double quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

// Sentences of 6 to 24 words, as queries are.
std::vector<std::string> short_texts(std::size_t count) {
    constexpr std::array words{"flow",     "wing", "shock", "layer", "heat", "plate",
                               "pressure", "of",   "the",   "in",    "at",   "high"};
    std::mt19937 random(1);
    std::vector<std::string> texts(count);
    for (std::string& text : texts) {
        for (std::size_t left = 6 + random() % 19; left > 0; --left) {
            text += std::string(text.empty() ? "" : " ") + words[random() % words.size()];
        }
    }
    return texts;
}

// Two managers for each engine. `alone`: how many calls run at once if each request has its own.
template <class Backend>
void add(std::vector<Variant>& variants, const std::string& engine, const Backend& backend, std::size_t shared,
         std::size_t alone) {
    variants.push_back({engine, true,
                        std::make_unique<Manager>(backend, LexicalRerankerBackend(),
                                                  ManagerOptions{.embedding = {.max_calls = shared}})});
    variants.push_back(
        {engine, false,
         std::make_unique<Manager>(backend, LexicalRerankerBackend(),
                                   ManagerOptions{.embedding = {.max_calls = alone, .max_batch_texts = 1}})});
}

std::vector<Variant> variants_with(const char* url) {
    std::vector<Variant> variants;
    [[maybe_unused]] const std::size_t calls = usable_processors();
#if defined(RESIDENCY_WITH_OPENVINO)
    if (const char* const folders = std::getenv("RESIDENCY_OPENVINO_MODELS")) {
        add(variants, "OpenVINO", OpenVinoEmbeddingBackend({.model = {.folders = folders}}), calls, calls);
    }
#endif
#if defined(RESIDENCY_WITH_LLAMA_CPP)
    if (const char* const files = std::getenv("RESIDENCY_MODELS")) {
        add(variants, "llama.cpp", LlamaCppEmbeddingBackend({.model = {.files = files}}), calls, calls);
    }
#endif
#if defined(RESIDENCY_WITH_REMOTE)
    if (url != nullptr) {
        constexpr std::size_t most = callers_of_points.back();
        add(variants, "llama-server",
            RemoteEmbeddingBackend({.model = {.endpoints = {{.url = url}},
                                              .name = [](const ModelKey& asked) { return asked.name; },
                                              .connections = most}}),
            2 * calls, most);
    }
#else
    if (url != nullptr) {
        throw std::invalid_argument("residency::remote, which asks llama-server, is not built in");
    }
#endif
    return variants;
}

// So many callers ask in turn for all of the texts.
void measure(Variant& variant, std::size_t point, const std::vector<std::string>& texts) {
    const std::size_t callers = callers_of_points[point];
    const std::size_t count = (std::min)(texts.size(), 32 + 4 * callers);
    std::vector<double> seconds(count);
    std::atomic<std::size_t> next{0};
    const auto begin = Clock::now();
    {
        std::vector<std::jthread> threads;
        for (std::size_t caller = 0; caller < callers; ++caller) {
            threads.emplace_back([&] {
                for (std::size_t index = next++; index < count; index = next++) {
                    const auto asked = Clock::now();
                    static_cast<void>(variant.manager->embed(key, {texts[index]}));
                    seconds[index] = std::chrono::duration<double>(Clock::now() - asked).count();
                }
            });
        }
    }
    variant.points[point].rate.push_back(static_cast<double>(count) /
                                         std::chrono::duration<double>(Clock::now() - begin).count());
    variant.points[point].p99.push_back(quantile(std::move(seconds), 0.99));
}

}  // namespace

int main(int argc, char** argv) try {
    std::vector<Variant> variants = variants_with(argc > 1 ? argv[1] : nullptr);
    if (variants.empty()) {
        std::fputs("skipped: no engine is built in, or none has models: RESIDENCY_MODELS, RESIDENCY_OPENVINO_MODELS\n",
                   stderr);
        return 77;
    }
    const std::vector<std::string> texts = short_texts(1'056);
    for (Variant& variant : variants) {
        static_cast<void>(variant.manager->embed(key, texts));
    }
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t point = 0; point < callers_of_points.size(); ++point) {
            for (std::size_t turn = 0; turn < variants.size(); ++turn) {
                measure(variants[(round + turn) % variants.size()], point, texts);
            }
        }
    }
    const char* separator = "[";
    for (const Variant& variant : variants) {
        for (std::size_t point = 0; point < callers_of_points.size(); ++point) {
            std::printf(R"(%s{"engine": "%s", "shares": %s, "callers": %zu, "rate": %.1f, "p99": %.4f})", separator,
                        variant.engine.c_str(), variant.shares ? "true" : "false", callers_of_points[point],
                        quantile(variant.points[point].rate, 0.5), quantile(variant.points[point].p99, 0.5));
            separator = ",\n";
        }
    }
    std::puts("]");
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
