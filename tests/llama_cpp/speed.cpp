// What the library costs and how fast it is, beside llama.cpp called with nothing around it: a table of texts per
// second for this machine. The variants of a comparison take turns, and each figure is the median over the rounds, so
// that what else runs on the machine hits all alike. The models are those of the folder that RESIDENCY_MODELS names.
//
//   speed [ROUNDS [TEXTS [WORDS]]]   11 rounds, 96 short texts or an eighth as many long ones each, but at least 16;
//                                    of the comparisons those with WORDS in their title

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_manager.hpp"
#include "residency/runtime/processors.hpp"
#include "support/bare.hpp"
#include "support/hand_over.hpp"
#include "support/parallel.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <iostream>
#include <limits>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;
using Manager = ModelManager<LlamaCppEmbeddingBackend, LlamaCppRerankerBackend>;

const ModelKey key("all-minilm-l6-v2", "f16");

struct Variant {
    std::string name;
    std::function<void()> run;
    // Whether it is compared; the others are what it is compared with.
    bool compared = false;
    // How long each request took, where that is measured; of all runs.
    std::shared_ptr<std::vector<double>> milliseconds{};
    std::vector<double> seconds{};
    std::vector<double> processor_seconds{};
};

double quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

// How fast `variant` is beside the fastest of those that it is compared with: of each the median over the rounds of the
// two's ratio within a round, as neighbours in time had the same machine.
double ratio_to_others(const Variant& variant, const std::vector<Variant>& variants) {
    double least = std::numeric_limits<double>::infinity();
    for (const Variant& other : variants) {
        std::vector<double> ratios;
        for (std::size_t round = 0; round < variant.seconds.size() && !other.compared; ++round) {
            ratios.push_back(other.seconds[round] / variant.seconds[round]);
        }
        least = other.compared ? least : std::min(least, median(std::move(ratios)));
    }
    return least;
}

// Of the comparisons those with this in their title.
std::string chosen;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): set once, before all else

// Runs the variants in turn, and prints how those that are compared do beside the fastest of the others.
void compare(const std::string& title, std::size_t texts, std::size_t rounds, std::vector<Variant> variants) {
    if (title.find(chosen) == std::string::npos) {
        return;
    }
    for (Variant& variant : variants) {
        variant.run();  // Buffers get their size, and pages are read.
        if (variant.milliseconds) {
            variant.milliseconds->clear();
        }
    }
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t turn = 0; turn < variants.size(); ++turn) {
            Variant& variant = variants[(round + turn) % variants.size()];
            const auto begin = std::chrono::steady_clock::now();
            const std::clock_t processor_begin = std::clock();
            variant.run();
            variant.processor_seconds.push_back(static_cast<double>(std::clock() - processor_begin) / CLOCKS_PER_SEC);
            variant.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        }
    }
    std::cout << '\n'
              << std::left << std::setw(60) << title << std::right << std::setw(9) << "texts/s" << std::setw(14)
              << "processor ms" << std::setw(17) << "to the fastest" << '\n';
    for (const Variant& variant : variants) {
        std::cout << "  " << std::left << std::setw(58) << variant.name << std::right << std::fixed
                  << std::setprecision(1) << std::setw(9) << static_cast<double>(texts) / median(variant.seconds)
                  << std::setprecision(2) << std::setw(14)
                  << 1000.0 * median(variant.processor_seconds) / static_cast<double>(texts) << std::setprecision(3);
        if (variant.compared) {
            std::cout << std::setw(17) << ratio_to_others(variant, variants);
        }
        if (variant.milliseconds) {
            std::cout << std::setprecision(1) << "   p50 " << quantile(*variant.milliseconds, 0.5) << " ms, p99 "
                      << quantile(*variant.milliseconds, 0.99) << " ms";
        }
        std::cout << std::endl;
    }
}

std::vector<std::string> texts_of(std::size_t count, std::size_t words) {
    static const char* const vocabulary[] = {"flow", "wing", "shock", "layer", "heat", "plate", "pressure", "mach"};
    std::vector<std::string> texts(count);
    for (std::size_t text = 0; text < count; ++text) {
        for (std::size_t word = 0; word < words; ++word) {
            texts[text] += (word == 0 ? "" : " ") + std::string(vocabulary[(text * 5 + word * 3 + word / 7) % 8]);
        }
    }
    return texts;
}

// A thread of the host's for an executor.
class OneThread {
public:
    [[nodiscard]] asio::any_io_executor executor() { return context_.get_executor(); }

private:
    asio::io_context context_{1};
    asio::executor_work_guard<asio::io_context::executor_type> guard_{context_.get_executor()};
    std::jthread thread_{[this](const std::stop_token& stop) {
        const std::stop_callback end(stop, [this] { guard_.reset(); });
        context_.run();
    }};
};

struct Length {
    const char* name;
    std::size_t words;
    std::size_t share;
};

// One request at a time, by the library and on the model itself.
void overhead(const std::filesystem::path& folder, const Length& length, std::size_t rounds, std::size_t count) {
    const LlamaCppEmbeddingBackend backend({.model = {.files = folder}});
    const LlamaCppRerankerBackend reranker({.model = {.files = folder}});
    const std::vector<std::string> texts = texts_of(count, length.words);
    Manager manager(backend, reranker);
    OneThread control;
    OneThread inference;
    OneThread loading;
    Manager alone(backend, reranker, {}, {control.executor(), inference.executor(), loading.executor()});
    LoadContext context;
    const auto model = backend.load(key, context);
    HandOver first;
    HandOver second;
    const auto each = [&texts](auto call) {
        return [&texts, call]() mutable {
            for (const std::string& text : texts) {
                call(text);
            }
        };
    };
    compare(std::string("one request at a time, one text of ") + length.name, count, rounds,
            {{"the library", each([&](const std::string& text) { (void)manager.embed(key, {text}); }), true},
             {"the library, one thread for inference",
              each([&](const std::string& text) { (void)alone.embed(key, {text}); }), true},
             {"the library, each text under a lease", each([&](const std::string& text) {
                  (void)manager.embedding().acquire(key)->embed({&text, 1});
              }),
              true},
             // What it costs to hand a call to another thread, with nothing of the library in it.
             {"the model itself, called by another thread",
              each([&](const std::string& text) { first.run([&] {
                                                      (void)model->embed({&text, 1});
                                                  }); }), true},
             {"the model itself, called by two other threads in turn",
              each([&, turn = false](const std::string& text) mutable {
                  turn = !turn;
                  (turn ? first : second).run([&] { (void)model->embed({&text, 1}); });
              }),
              true},
             {"the backend's model itself", each([&](const std::string& text) {
                  (void)model->embed({&text, 1});
              })}});
}

// One call with many texts.
void one_call(const std::filesystem::path& folder, const Length& length, std::size_t rounds, std::size_t count) {
    const std::vector<std::string> texts = texts_of(count, length.words);
    Manager manager(LlamaCppEmbeddingBackend({.model = {.files = folder}}),
                    LlamaCppRerankerBackend({.model = {.files = folder}}));
    const BareModel model((folder / "all-minilm-l6-v2-f16.gguf").string());
    const auto cores = static_cast<int>(usable_processors());
    std::vector<std::unique_ptr<BareContext>> contexts;
    std::vector<Variant> variants{{"the library", [&] { (void)manager.embed(key, texts); }, true}};
    for (const std::uint32_t cap : {128U, 256U, 512U}) {
        if (length.words + 2 > cap) {
            continue;  // A text must fit.
        }
        contexts.push_back(std::make_unique<BareContext>(model, cap, cores));
        variants.push_back(
            {"bare llama.cpp, batches of " + std::to_string(cap) + " tokens, " + std::to_string(cores) + " threads",
             [&texts, bare = contexts.back().get()] { (void)bare->embed(texts); }});
    }
    compare("one call with " + std::to_string(count) + " texts of " + length.name, count, rounds, std::move(variants));
}

// Sixteen threads with one text each.
void many_threads(const std::filesystem::path& folder, const Length& length, std::size_t rounds, std::size_t count) {
    constexpr std::size_t threads = 16;
    const std::vector<std::string> texts = texts_of(count, length.words);
    Manager manager(LlamaCppEmbeddingBackend({.model = {.files = folder}}),
                    LlamaCppRerankerBackend({.model = {.files = folder}}));
    const BareModel model((folder / "all-minilm-l6-v2-f16.gguf").string());
    const std::size_t cores = usable_processors();
    const auto bare = [&](std::size_t workers) {
        auto contexts = std::make_shared<std::vector<std::unique_ptr<BareContext>>>();
        for (std::size_t worker = 0; worker < workers; ++worker) {
            contexts->push_back(std::make_unique<BareContext>(model, 256, 1));
        }
        return Variant{"bare llama.cpp, " + std::to_string(workers) + " contexts of one thread",
                       [&texts, contexts, workers] {
                           in_parallel(workers, workers, [&](std::size_t worker) {
                               for (std::size_t text = worker; text < texts.size(); text += workers) {
                                   (void)(*contexts)[worker]->embed({&texts[text], 1});
                               }
                           });
                       }};
    };
    compare("16 threads, each with one text of " + std::string(length.name) + " after the other", count, rounds,
            {{"the library",
              [&] { in_parallel(threads, count, [&](std::size_t text) { (void)manager.embed(key, {texts[text]}); }); },
              true},
             bare(threads),
             bare(std::min<std::size_t>(4, cores))});
}

// 64 callers with one short text each, or 8 with a long one, whose requests share calls or have calls of their own;
// beside 2 callers with as many texts a call.
void many_callers(const std::filesystem::path& folder, const Length& length, std::size_t rounds, std::size_t least) {
    const std::size_t callers = 64 / length.share;
    const std::size_t count = (least + 2 * callers - 1) / (2 * callers) * (2 * callers);
    const std::vector<std::string> texts = texts_of(count, length.words);
    const LlamaCppEmbeddingBackend backend({.model = {.files = folder}});
    const LlamaCppRerankerBackend reranker({.model = {.files = folder}});
    ManagerOptions alone;
    alone.embedding.max_batch_texts = 1;
    Manager sharing(backend, reranker);
    Manager each_alone(backend, reranker, alone);
    const auto variant = [&](std::string name, Manager& manager, std::size_t threads, std::size_t a_call,
                             bool compared) {
        const auto milliseconds = std::make_shared<std::vector<double>>();
        const auto run = [&texts, &manager, threads, a_call, milliseconds] {
            std::vector<double> took(texts.size() / a_call);
            in_parallel(threads, took.size(), [&](std::size_t call) {
                const auto first = texts.begin() + static_cast<std::ptrdiff_t>(call * a_call);
                const auto begin = std::chrono::steady_clock::now();
                (void)manager.embed(key, {first, first + static_cast<std::ptrdiff_t>(a_call)});
                took[call] =
                    std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
            });
            milliseconds->insert(milliseconds->end(), took.begin(), took.end());
        };
        return Variant{std::move(name), run, compared, milliseconds};
    };
    compare(std::to_string(callers) + " callers, each with one text of " + std::string(length.name), count, rounds,
            {variant("the library", sharing, callers, 1, true),
             variant("the library, max_batch_texts = 1", each_alone, callers, 1, true),
             variant("the library, 2 callers with " + std::to_string(callers) + " texts a call", sharing, 2, callers,
                     false)});
}

}  // namespace

int main(int argc, char** argv) try {
    const char* const models = std::getenv("RESIDENCY_MODELS");
    if (models == nullptr) {
        std::cout << "skipped: RESIDENCY_MODELS names no folder\n";
        return 77;
    }
    const std::size_t rounds = argc > 1 ? std::max(1UL, std::stoul(argv[1])) : 11;
    const std::size_t texts = argc > 2 ? std::max(16UL, std::stoul(argv[2])) : 96;
    chosen = argc > 3 ? argv[3] : "";
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);  // Of the bare ones.
    std::cout << usable_processors() << " cores; " << key << "; medians of " << rounds << " rounds\n";
    many_callers(models, {"6 tokens", 4, 1}, rounds, 8 * texts);
    for (const Length& length : {Length{"12 tokens", 10, 1}, Length{"200 tokens", 198, 8}}) {
        const std::size_t count = std::max<std::size_t>(16, texts / length.share);
        overhead(models, length, rounds, count);
        one_call(models, length, rounds, count);
        many_threads(models, length, rounds, count);
        many_callers(models, length, rounds, 4 * count);
    }
    return EXIT_SUCCESS;
} catch (const std::exception& error) {
    std::cerr << "speed: " << error.what() << '\n';
    return EXIT_FAILURE;
}
