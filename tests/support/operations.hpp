#pragma once

#include "support/bench.hpp"

#include <chrono>
#include <exception>
#include <type_traits>
#include <utility>

namespace residency::test::operations {

using namespace std::chrono_literals;

/// A key that no call takes.
inline const ModelKey nameless("");

using EmbedderLease = Lease<testing::FakeEmbedder>;

// The calls of the table of asynchronous calls. `start` succeeds; `wait` starts one that has to wait as long as `a` is
// leased in both slots; `fail`, where there is one, starts one that is invalid_request.
struct Acquire {
    using Result = EmbedderLease;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_acquire(a, std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_acquire(b, RequestOptions(), std::forward<Token>(token));
    }
    template <class Token>
    static auto fail(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_acquire(nameless, std::forward<Token>(token));
    }
    static bool sound(const Result& lease) { return lease && lease->key() == a; }
};

struct EnsureLoaded {
    using Result = Generation;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_ensure_loaded(a, std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_ensure_loaded(b, RequestOptions(), std::forward<Token>(token));
    }
    template <class Token>
    static auto fail(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_ensure_loaded(nameless, std::forward<Token>(token));
    }
    static bool sound(const Result& generation) { return generation == Generation{1}; }
};

struct Embed {
    using Result = Embeddings;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->async_embed(a, {"one", "two", "three"}, std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->async_embed(b, {"one"}, RequestOptions(), std::forward<Token>(token));
    }
    template <class Token>
    static auto fail(ManagerBench& bench, Token&& token) {
        return bench.manager->async_embed(nameless, {"one"}, std::forward<Token>(token));
    }
    static bool sound(const Result& embeddings) {
        return embeddings.size() == 3 && testing::answered_by(embeddings) == 1;
    }
};

struct Rerank {
    using Result = Ranking;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->async_rerank(a, "query", {"short", "the longest"}, std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->async_rerank(b, "query", {"one"}, RequestOptions(), std::forward<Token>(token));
    }
    template <class Token>
    static auto fail(ManagerBench& bench, Token&& token) {
        return bench.manager->async_rerank(a, "", {"one"}, std::forward<Token>(token));
    }
    static bool sound(const Result& ranking) { return ranking.size() == 2 && ranking[0].index == 1; }
};

struct UnloadKey {
    using Result = void;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_unload(a, std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_unload(a, UnloadMode::revoke, std::forward<Token>(token));
    }
    template <class Token>
    static auto fail(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_unload(nameless, std::forward<Token>(token));
    }
};

struct UnloadAll {
    using Result = void;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_unload(std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_unload(UnloadMode::drain, std::forward<Token>(token));
    }
};

struct ShutdownSlot {
    using Result = ShutdownReport;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_shutdown(std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->embedding().async_shutdown(1h, std::forward<Token>(token));
    }
    static bool sound(const Result& report) { return report.clean(); }
};

struct ShutdownManager {
    using Result = ShutdownReport;
    template <class Token>
    static auto start(ManagerBench& bench, Token&& token) {
        return bench.manager->async_shutdown(std::forward<Token>(token));
    }
    template <class Token>
    static auto wait(ManagerBench& bench, Token&& token) {
        return bench.manager->async_shutdown(1h, std::forward<Token>(token));
    }
    static bool sound(const Result& report) { return report.clean(); }
};

template <class Operation>
inline constexpr bool can_fail =
    std::is_same_v<Operation, Acquire> || std::is_same_v<Operation, EnsureLoaded> || std::is_same_v<Operation, Embed> ||
    std::is_same_v<Operation, Rerank> || std::is_same_v<Operation, UnloadKey>;

template <class Operation>
inline constexpr bool has_result = !std::is_void_v<typename Operation::Result>;

// Whether what a handler, a future or a tuple was given is what the operation should give.
template <class Operation, class... Results>
bool sound(const std::exception_ptr& error, const Results&... results) {
    if constexpr (has_result<Operation>) {
        return !error && Operation::sound(results...);
    } else {
        return !error;
    }
}

// Holds leases on `a` in both slots, so that what `wait` starts has to.
struct Busy {
    explicit Busy(ManagerBench& bench) {
        Outcome<EmbedderLease> first;
        Outcome<Lease<testing::FakeReranker>> second;
        bench.manager->embedding().async_acquire(a, first.handler());
        bench.manager->reranker().async_acquire(a, second.handler());
        bench.run();
        embedder = std::move(first.value());
        reranker = std::move(second.value());
    }
    void end() {
        embedder.release();
        reranker.release();
    }
    EmbedderLease embedder;
    Lease<testing::FakeReranker> reranker;
};

}  // namespace residency::test::operations
