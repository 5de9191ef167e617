// Random requests on real models from several threads: embed, rerank, acquire, load ahead, unload, revoke, switch
// between quantizations, with and without a timeout. Every answer is compared with what the model gave when it was
// alone; at the end nothing is left. The models are those of the folder that RESIDENCY_MODELS names.
//
//   stress [SECONDS [SEED]]     60 seconds, a seed that it prints

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_manager.hpp"
#include "support/references.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using Manager = ModelManager<LlamaCppEmbeddingBackend, LlamaCppRerankerBackend>;

const std::array<ModelKey, 2> embedders{ModelKey("all-minilm-l6-v2", "f16"), ModelKey("all-minilm-l6-v2", "q8_0")};
const std::array<ModelKey, 2> rerankers{ModelKey("qa-reranker-l6", "f16"), ModelKey("qa-reranker-l6", "q8_0")};

// What the models say when nothing else asks.
struct Expected {
    std::vector<std::string> texts{};
    std::array<Embeddings, 2> rows{};
    std::string query{};
    std::vector<std::string> documents{};
    std::array<std::vector<float>, 2> scores{};
};

Expected ask_alone(const LlamaCppEmbeddingBackend& embedder, const LlamaCppRerankerBackend& reranker,
                   const std::filesystem::path& folder) {
    Expected expected;
    for (const EmbeddingCase& each : read_embedding_cases(folder / "all-minilm-l6-v2.reference.json")) {
        if (each.tokens.size() < 40) {
            expected.texts.push_back(each.text);
        }
    }
    const RerankCase rerank = read_rerank_cases(folder / "qa-reranker-l6.reference.json").back();
    expected.query = rerank.query;
    expected.documents = rerank.documents;
    LoadContext context;
    for (std::size_t which = 0; which < 2; ++which) {
        const auto model = embedder.load(embedders[which], context);
        expected.rows[which] = Embeddings(expected.texts.size(), model->dimension());
        for (std::size_t text = 0; text < expected.texts.size(); ++text) {
            const Embeddings row = model->embed({&expected.texts[text], 1});
            std::copy(row.values().begin(), row.values().end(), expected.rows[which][text].begin());
        }
        expected.scores[which] = reranker.load(rerankers[which], context)->rerank(expected.query, expected.documents);
    }
    return expected;
}

class Worker {
public:
    Worker(Manager& manager, const Expected& expected, std::uint64_t seed)
        : manager_(manager), expected_(expected), random_(seed) {}

    // One random operation; which errors it may end with is part of what it is.
    void step() {
        const std::size_t which = below(2);
        RequestOptions options;
        if (below(4) == 0) {
            options.timeout = std::chrono::milliseconds(below(40));
        }
        if (below(8) == 0) {
            options.keep_alive = 0ms;
        }
        try {
            switch (below(12)) {
                case 0: manager_.embedding().unload(embedders[which]); break;
                case 1: manager_.embedding().unload(embedders[which], UnloadMode::revoke); break;
                case 2:
                    manager_.reranker().unload(rerankers[which],
                                               below(2) == 0 ? UnloadMode::drain : UnloadMode::revoke);
                    break;
                case 3: (void)manager_.embedding().ensure_loaded(embedders[which], options); break;
                case 4:
                    if (auto lease = manager_.embedding().try_acquire(embedders[which])) {
                        embed_under(*lease, which);
                    }
                    break;
                case 5:
                case 6: {
                    auto lease = manager_.embedding().acquire(embedders[which], options);
                    embed_under(*lease, which);
                    embed_under(*lease, which);
                    break;
                }
                case 7:
                case 8: rerank(which, options); break;
                default: embed(which, options); break;
            }
            ++outcomes_["done"];
        } catch (const Error& error) {
            const auto code = static_cast<errc>(error.code().value());
            if (error.code().category() != error_category() ||
                (code != errc::timed_out && code != errc::model_changed && code != errc::overloaded)) {
                throw;
            }
            ++outcomes_[std::string(to_string(code))];
        }
    }

    [[nodiscard]] const std::map<std::string, std::size_t>& outcomes() const { return outcomes_; }

private:
    std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

    std::pair<std::size_t, std::vector<std::string>> some_texts() {
        const std::size_t count = 1 + below(3);
        const std::size_t first = below(expected_.texts.size() - count);
        const auto begin = expected_.texts.begin() + static_cast<std::ptrdiff_t>(first);
        return {first, {begin, begin + static_cast<std::ptrdiff_t>(count)}};
    }

    void check(const Embeddings& rows, std::size_t first, std::size_t count, std::size_t which, bool alone) const {
        if (rows.size() != count) {
            throw std::logic_error("a wrong number of rows");
        }
        for (std::size_t row = 0; row < count; ++row) {
            double product = 0.0;
            for (std::size_t column = 0; column < rows.dimension(); ++column) {
                product += static_cast<double>(rows[row][column]) *
                           static_cast<double>(expected_.rows[which][first + row][column]);
            }
            // A text alone in its batch is computed alike each time, and differently by the other quantization. Beside
            // others the rounding is another, which changes q8_0 nearly as much as it differs from f16.
            const bool same =
                alone ? std::equal(rows[row].begin(), rows[row].end(), expected_.rows[which][first + row].begin())
                      : product > (which == 0 ? 0.99995 : 0.998);
            if (!same) {
                throw std::logic_error("another vector than when it was alone: cosine " + std::to_string(product));
            }
        }
    }

    void embed(std::size_t which, const RequestOptions& options) {
        const auto [first, texts] = some_texts();
        // It may share its call with other requests.
        check(manager_.embed(embedders[which], texts, options), first, texts.size(), which, false);
    }

    void embed_under(LlamaCppEmbeddingModel& model, std::size_t which) {
        const auto [first, texts] = some_texts();
        check(model.embed(texts), first, texts.size(), which, texts.size() == 1);
    }

    void rerank(std::size_t which, const RequestOptions& options) {
        for (const RankedDocument& each :
             manager_.rerank(rerankers[which], expected_.query, expected_.documents, options)) {
            // Beside other requests the rounding is another, as for vectors.
            if (!(std::abs(each.score - expected_.scores[which].at(each.index)) < (which == 0 ? 0.02F : 0.4F))) {
                throw std::logic_error("another score than when it was alone");
            }
        }
    }

    Manager& manager_;
    const Expected& expected_;
    std::mt19937_64 random_;
    std::map<std::string, std::size_t> outcomes_{};
};

}  // namespace

int main(int argc, char** argv) try {
    const char* const folder = std::getenv("RESIDENCY_MODELS");
    if (folder == nullptr) {
        std::cout << "skipped: RESIDENCY_MODELS names no folder\n";
        return 77;
    }
    const std::chrono::seconds duration(argc > 1 ? std::stol(argv[1]) : 60);
    const std::uint64_t seed = argc > 2 ? std::stoull(argv[2]) : std::random_device()();
    std::cout << "seed " << seed << std::endl;
    const LlamaCppEmbeddingBackend embedder({.model = {.files = folder, .threads = 1}});
    const LlamaCppRerankerBackend reranker({.model = {.files = folder, .threads = 1}});
    const Expected expected = ask_alone(embedder, reranker, folder);

    Manager manager(embedder, reranker,
                    {.embedding = {.keep_alive = 20ms, .max_leases = 6}, .reranker = {.keep_alive = 20ms}});
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::map<std::string, std::size_t> outcomes;
    {
        std::vector<std::jthread> threads;
        const auto end = std::chrono::steady_clock::now() + duration;
        for (std::uint64_t thread = 0; thread < 6; ++thread) {
            threads.emplace_back([&, thread] {
                Worker worker(manager, expected, seed + thread);
                try {
                    do {
                        worker.step();
                    } while (!failed && std::chrono::steady_clock::now() < end);
                } catch (const std::exception& error) {
                    failed = true;
                    const std::lock_guard lock(mutex);
                    std::cout << "failed: " << error.what() << std::endl;
                }
                const std::lock_guard lock(mutex);
                for (const auto& [name, count] : worker.outcomes()) {
                    outcomes[name] += count;
                }
            });
        }
    }
    const ShutdownReport report = manager.shutdown();
    const ManagerStatus status = manager.status();
    std::cout << status << "shutdown: " << report << '\n';
    for (const auto& [name, count] : outcomes) {
        std::cout << name << ": " << count << '\n';
    }
    for (const SlotStatus* slot : {&status.embedding, &status.reranker}) {
        if (slot->counters.loaded != slot->counters.unloaded() || !slot->residents.empty() || slot->leases != 0 ||
            slot->waiting != 0) {
            failed = true;
            std::cout << "failed: something is left in " << slot->name << '\n';
        }
    }
    return failed || !report.clean() ? EXIT_FAILURE : EXIT_SUCCESS;
} catch (const std::exception& error) {
    std::cerr << "stress: " << error.what() << '\n';
    return EXIT_FAILURE;
}
