#pragma once

#include "residency/backend.hpp"
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
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace residency::test {

// Random requests on real models from several threads, whatever holds them: embed, rerank, acquire, load ahead, unload,
// revoke, switch between two models of a slot, with and without a timeout. Every answer is compared with what the model
// gave when it was alone.

using namespace std::chrono_literals;

struct StressedModels {
    std::array<ModelKey, 2> embedders;
    std::array<ModelKey, 2> rerankers;
    // How near an answer of each of the two is to what the model gave when it was alone: beside other texts the
    // rounding is another. A cosine, and the difference of scores.
    std::array<double, 2> cosine;
    std::array<float, 2> score;
};

// What the models say when nothing else asks.
struct Expected {
    StressedModels models;
    std::vector<std::string> texts{};
    std::array<Embeddings, 2> rows{};
    std::string query{};
    std::vector<std::string> documents{};
    std::array<std::vector<float>, 2> scores{};
};

template <class Embedder, class Reranker>
Expected ask_alone(const StressedModels& models, const Embedder& embedder, const Reranker& reranker,
                   const std::filesystem::path& folder) {
    Expected expected{.models = models};
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
        const auto model = embedder.load(models.embedders[which], context);
        expected.rows[which] = Embeddings(expected.texts.size(), model->dimension());
        for (std::size_t text = 0; text < expected.texts.size(); ++text) {
            const Embeddings row = model->embed({&expected.texts[text], 1});
            std::copy(row.values().begin(), row.values().end(), expected.rows[which][text].begin());
        }
        expected.scores[which] =
            reranker.load(models.rerankers[which], context)->rerank(expected.query, expected.documents);
    }
    return expected;
}

template <class Manager>
class StressWorker {
public:
    StressWorker(Manager& manager, const Expected& expected, std::uint64_t seed)
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
                case 0: manager_.embedding().unload(expected_.models.embedders[which]); break;
                case 1: manager_.embedding().unload(expected_.models.embedders[which], UnloadMode::revoke); break;
                case 2:
                    manager_.reranker().unload(expected_.models.rerankers[which],
                                               below(2) == 0 ? UnloadMode::drain : UnloadMode::revoke);
                    break;
                case 3: (void)manager_.embedding().ensure_loaded(expected_.models.embedders[which], options); break;
                case 4:
                    if (auto lease = manager_.embedding().try_acquire(expected_.models.embedders[which])) {
                        embed_under(*lease, which);
                    }
                    break;
                case 5:
                case 6: {
                    auto lease = manager_.embedding().acquire(expected_.models.embedders[which], options);
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
            // A text alone in its batch is computed alike each time, and differently by the other model.
            const bool same =
                alone ? std::equal(rows[row].begin(), rows[row].end(), expected_.rows[which][first + row].begin())
                      : product > expected_.models.cosine[which];
            if (!same) {
                throw std::logic_error("another vector than when it was alone: cosine " + std::to_string(product));
            }
        }
    }

    void embed(std::size_t which, const RequestOptions& options) {
        const auto [first, texts] = some_texts();
        // It may share its call with other requests.
        check(manager_.embed(expected_.models.embedders[which], texts, options), first, texts.size(), which, false);
    }

    template <class Model>
    void embed_under(Model& model, std::size_t which) {
        const auto [first, texts] = some_texts();
        check(model.embed(texts), first, texts.size(), which, texts.size() == 1);
    }

    void rerank(std::size_t which, const RequestOptions& options) {
        for (const RankedDocument& each :
             manager_.rerank(expected_.models.rerankers[which], expected_.query, expected_.documents, options)) {
            if (!(std::abs(each.score - expected_.scores[which].at(each.index)) < expected_.models.score[which])) {
                throw std::logic_error("another score than when it was alone");
            }
        }
    }

    Manager& manager_;
    const Expected& expected_;
    std::mt19937_64 random_;
    std::map<std::string, std::size_t> outcomes_{};
};

// What a program does: `arguments` are SECONDS and SEED, 60 and one that it prints unless they are given. Gives
// EXIT_FAILURE if an answer or an error is a wrong one, or something is left at the end.
template <class Embedder, class Reranker>
int report_stress(const std::vector<std::string>& arguments, const StressedModels& models, const Embedder& embedder,
                  const Reranker& reranker, const ManagerOptions& options, const std::filesystem::path& references) {
    const std::chrono::seconds duration(arguments.empty() ? 60 : std::stol(arguments[0]));
    const std::uint64_t seed = arguments.size() > 1 ? std::stoull(arguments[1]) : std::random_device()();
    std::cout << "seed " << seed << std::endl;
    const Expected expected = ask_alone(models, embedder, reranker, references);

    using Manager = ModelManager<Embedder, Reranker>;
    Manager manager(embedder, reranker, options);
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::map<std::string, std::size_t> outcomes;
    {
        std::vector<std::jthread> threads;
        const auto end = std::chrono::steady_clock::now() + duration;
        for (std::uint64_t thread = 0; thread < 6; ++thread) {
            threads.emplace_back([&, thread] {
                StressWorker<Manager> worker(manager, expected, seed + thread);
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
}

}  // namespace residency::test
