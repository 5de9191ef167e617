// What is allocated for one operation, exactly: from the heap by the library, by the model's answer, and from the
// handler's associated allocator. What Boost.Asio asks for is counted, too, where that can be seen. Everything but the
// blocking call runs on one io_context on one thread, as in benchmark/instructions.cpp. One more is a decision: it
// takes a commit that says why.

#include "residency/model_manager.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/asio_memory.hpp"
#include "support/associated.hpp"
#include "support/catch.hpp"
#include "support/memory.hpp"

#include <boost/asio/bind_executor.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace allocations_test {

using namespace residency;
using namespace residency::test;

namespace {

/// Where allocations came from.
struct Allocations {
    /// operator new, but for the three that follow.
    std::size_t library = 0;
    /// operator new in the backend and its models: a model, an answer.
    std::size_t backend = 0;
    /// The handlers' associated allocator.
    std::size_t handlers = 0;
    /// aligned_alloc, which only Boost.Asio calls.
    std::size_t asio = 0;

    friend bool operator==(const Allocations&, const Allocations&) = default;
    friend Allocations operator-(const Allocations& left, const Allocations& right) {
        return {left.library - right.library, left.backend - right.backend, left.handlers - right.handlers,
                left.asio - right.asio};
    }
    friend Allocations operator*(std::size_t times, const Allocations& one) {
        return {times * one.library, times * one.backend, times * one.handlers, has_own_malloc ? times * one.asio : 0};
    }
    friend std::ostream& operator<<(std::ostream& out, const Allocations& counts) {
        return out << counts.library << " by the library, " << counts.backend << " by the backend, " << counts.handlers
                   << " of the handlers' allocator, " << counts.asio << " by Asio";
    }
};

// On this thread; the allocator takes its blocks from the heap.
thread_local std::size_t of_backend = 0;
AllocatorCounts of_handlers;

// On this thread. Without the fence clang takes it that `new` changes nothing that can be seen.
std::size_t on_heap() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return Memory::here().allocations;
}

Allocations so_far() {
    return {on_heap() - of_backend - of_handlers.allocations, of_backend, of_handlers.allocations,
            aligned_allocations()};
}

template <class Make>
auto by_backend(const Make& make) {
    const std::size_t before = on_heap();
    auto made = make();
    of_backend += on_heap() - before;
    return made;
}

struct Embedder {
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) {
        return by_backend([&] { return Embeddings(texts.size(), 1); });
    }
};
struct EmbedderBackend {
    using model_type = Embedder;
    [[nodiscard]] std::unique_ptr<Embedder> load(const ModelKey& /*key*/) {
        return by_backend([] { return std::make_unique<Embedder>(); });
    }
};
struct BatchingEmbedder : Embedder {
    [[nodiscard]] static BatchLimits batch_limits() noexcept { return {64}; }
};
struct BatchingBackend {
    using model_type = BatchingEmbedder;
    [[nodiscard]] std::unique_ptr<BatchingEmbedder> load(const ModelKey& /*key*/) {
        return by_backend([] { return std::make_unique<BatchingEmbedder>(); });
    }
};
struct Reranker {
    [[nodiscard]] std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
        return by_backend([&] { return std::vector<float>(documents.size()); });
    }
};
struct RerankerBackend {
    using model_type = Reranker;
    [[nodiscard]] std::unique_ptr<Reranker> load(const ModelKey& /*key*/) {
        return by_backend([] { return std::make_unique<Reranker>(); });
    }
};

using BatchingManager = ModelManager<BatchingBackend, RerankerBackend, testing::VirtualClock>;

// Past the small-string size, as names of models are: a copy allocates.
const ModelKey key("bge-small-en-v1.5-of-the-first-kind", "q8_0");

constexpr std::size_t rounds = 100;

/// Operations one after the other, each started in the handler of the one before, as in a server: Asio uses its memory
/// again.
class Chain {
public:
    /// Counts what `rounds` of them take, once as many were done and all memory has grown as far as it will.
    template <class Start>
    Allocations operator()(asio::io_context& context, Start start) {
        next_ = [this, start] {
            if (++started_ == rounds + 1) {
                before_ = so_far();
            } else if (started_ == 2 * rounds + 1) {
                counted_ = so_far() - before_;
                return;
            }
            start(*this);
        };
        asio::post(context, [this] { next_(); });
        context.restart();
        context.poll();
        REQUIRE(counted_);
        CHECK(failed_ == 0);
        CHECK(of_handlers.live == 0);
        return *counted_;
    }
    void next(bool success) {
        failed_ += success ? 0 : 1;
        next_();
    }

private:
    std::function<void()> next_;
    std::size_t started_ = 0;
    std::size_t failed_ = 0;
    Allocations before_;
    std::optional<Allocations> counted_;
};

/// A handler that goes on with the next one; without an executor or an allocator of its own.
struct Next {
    Chain* chain;
    void operator()(const std::exception_ptr& error) const { chain->next(!error); }
    template <class Result>
    void operator()(const std::exception_ptr& error, Result result) const {
        // A lease ends before the next one is asked for.
        { [[maybe_unused]] const Result ends = std::move(result); }
        chain->next(!error);
    }
};

/// The same with both.
struct NextInAllocator : Next {
    using executor_type = asio::io_context::executor_type;
    using allocator_type = CountingAllocator<>;
    executor_type executor;
    [[nodiscard]] executor_type get_executor() const noexcept { return executor; }
    [[nodiscard]] allocator_type get_allocator() const noexcept { return allocator_type(of_handlers); }
};

struct Bench {
    using Manager = ModelManager<EmbedderBackend, RerankerBackend, testing::VirtualClock>;

    explicit Bench(const SlotOptions& options = {}) {
        testing::VirtualClock::reset();
        models.emplace(EmbedderBackend(), RerankerBackend(),
                       ManagerOptions{.embedding = options, .reranker = {}, .observer = {}},
                       Executors::all(context.get_executor()));
        load(slot(), key);
    }
    template <class Slot>
    void load(Slot& in, const ModelKey& wanted) {
        bool loaded = false;
        in.async_ensure_loaded(wanted, [&loaded](const std::exception_ptr& error, Generation) { loaded = !error; });
        context.restart();
        context.poll();
        REQUIRE(loaded);
    }
    [[nodiscard]] Manager::embedding_slot_type& slot() { return models->embedding(); }
    [[nodiscard]] auto concrete(Chain& chain) { return asio::bind_executor(context.get_executor(), Next{&chain}); }
    [[nodiscard]] auto in_allocator(Chain& chain) { return NextInAllocator{{&chain}, context.get_executor()}; }

    asio::io_context context{1};
    std::optional<Manager> models;
};

/// Texts that were made before anything is counted.
class Texts {
public:
    [[nodiscard]] std::vector<std::string> take() {
        std::vector<std::string> texts = std::move(made_.back());
        made_.pop_back();
        return texts;
    }

private:
    std::vector<std::vector<std::string>> made_{2 * rounds, std::vector<std::string>(1, "a cat sat")};
};

}  // namespace

TEST_CASE("allocations of try_acquire and release: none", "[R4][H22]") {
    Bench bench;
    const Allocations before = so_far();
    std::size_t granted = 0;
    for (std::size_t round = 0; round < rounds; ++round) {
        const auto lease = bench.slot().try_acquire(key);
        granted += lease ? 1 : 0;
    }
    CHECK(so_far() - before == Allocations{});
    CHECK(granted == rounds);
}

TEST_CASE("allocations of async_acquire and release on a ready model: one, of the handler's allocator", "[H22]") {
    Bench bench;
    CHECK(Chain()(bench.context, [&](Chain& chain) { bench.slot().async_acquire(key, bench.in_allocator(chain)); }) ==
          rounds * Allocations{.handlers = 1});
    CHECK(Chain()(bench.context, [&](Chain& chain) { bench.slot().async_acquire(key, bench.concrete(chain)); }) ==
          Allocations{});
    CHECK(Chain()(bench.context, [&](Chain& chain) { bench.slot().async_acquire(key, Next{&chain}); }) ==
          Allocations{});
}

TEST_CASE("allocations of async_ensure_loaded on a ready model", "[H22]") {
    Bench bench;
    CHECK(Chain()(bench.context, [&](Chain& chain) { bench.slot().async_ensure_loaded(key, bench.concrete(chain)); }) ==
          rounds * Allocations{.library = 1});
}

TEST_CASE("allocations of async_embed on a ready model", "[H10]") {
    Bench bench;
    Texts texts;
    // The operation; the answer's values.
    CHECK(Chain()(bench.context, [&](Chain& chain) {
              bench.models->async_embed(key, texts.take(), bench.concrete(chain));
          }) == rounds * Allocations{.library = 1, .backend = 1});
    // Kept in one block while it is under way, called from another.
    texts = Texts();
    CHECK(Chain()(bench.context, [&](Chain& chain) {
              bench.models->async_embed(key, texts.take(), bench.in_allocator(chain));
          }) == rounds * Allocations{.library = 1, .backend = 1, .handlers = 2});
}

TEST_CASE("allocations of async_rerank on a ready model", "[H10]") {
    Bench bench;
    bench.load(bench.models->reranker(), key);
    Texts documents;
    // The operation, and room for the ranking; the answer's scores.
    CHECK(Chain()(bench.context, [&](Chain& chain) {
              bench.models->async_rerank(key, "where", documents.take(), bench.concrete(chain));
          }) == rounds * Allocations{.library = 2, .backend = 1});
}

TEST_CASE("allocations of async_embed alone on a model with limits: the same as on one without", "[H10][H24]") {
    testing::VirtualClock::reset();
    asio::io_context context{1};
    BatchingManager models({}, {}, {}, Executors::all(context.get_executor()));
    bool loaded = false;
    models.embedding().async_ensure_loaded(key, [&](const std::exception_ptr& error, Generation) { loaded = !error; });
    context.poll();
    REQUIRE(loaded);
    Texts texts;
    CHECK(Chain()(context, [&](Chain& chain) {
              models.async_embed(key, texts.take(), asio::bind_executor(context.get_executor(), Next{&chain}));
          }) == rounds * Allocations{.library = 1, .backend = 1});
}

TEST_CASE("allocations of a batch: the operations, a list of texts, and the answer of each request",
          "[H10][H25][R14]") {
    testing::VirtualClock::reset();
    asio::io_context context{1};
    ManagerOptions options;
    options.embedding.max_leases = 1;
    BatchingManager models({}, {}, options, Executors::all(context.get_executor()));
    std::size_t answered = 0;
    const auto run = [&] {
        context.restart();
        context.poll();
    };
    models.embedding().async_ensure_loaded(key, [](const std::exception_ptr&, Generation) {});
    run();
    Texts texts;
    // How many allocations of the library's one batch of so many requests takes.
    const auto share = [&](std::size_t requests) {
        auto lease = models.embedding().try_acquire(key);
        REQUIRE(lease);
        const Allocations before = so_far();
        for (std::size_t request = 0; request < requests; ++request) {
            models.async_embed(key, texts.take(),
                               asio::bind_executor(context.get_executor(), [&answered](const std::exception_ptr& error,
                                                                                       const Embeddings& rows) {
                                   answered += !error && rows.size() == 1 ? 1U : 0U;
                               }));
        }
        lease.release();
        run();
        return so_far() - before;
    };
    // All memory has grown as far as it will.
    share(16);
    for (const std::size_t requests : {2U, 3U, 8U, 16U}) {
        INFO(requests << " requests");
        answered = 0;
        const std::uint64_t batches = models.status().embedding.counters.batches;
        const Allocations counted = share(requests);
        CHECK(models.status().embedding.counters.batches == batches + 1);
        CHECK(answered == requests);
        // Of each request the operation and its rows; of the batch the list of its texts.
        CHECK(counted.library == 2 * requests + 1);
        CHECK(counted.backend == 1);
    }
}

TEST_CASE("allocations of a request that waits for its lease", "[R9][H18]") {
    Bench bench({.max_leases = 1});
    const auto wait = [&](auto handler) {
        auto lease = bench.slot().try_acquire(key);
        bench.slot().async_acquire(key, std::move(handler));
        lease.release();
    };
    // The operation.
    CHECK(Chain()(bench.context, [&](Chain& chain) { wait(bench.concrete(chain)); }) ==
          rounds * Allocations{.library = 1});
    CHECK(Chain()(bench.context, [&](Chain& chain) { wait(bench.in_allocator(chain)); }) ==
          rounds * Allocations{.library = 1, .handlers = 2});
}

TEST_CASE("allocations of an unload and a load", "[R11]") {
    Bench bench;
    bool resident = true;
    // Half of the rounds unload, the other half load.
    CHECK(Chain()(bench.context, [&](Chain& chain) {
              if (std::exchange(resident, !resident)) {
                  bench.slot().async_unload(key, bench.concrete(chain));
              } else {
                  bench.slot().async_ensure_loaded(key, bench.concrete(chain));
              }
          }) == rounds / 2 * Allocations{.library = 7, .backend = 1});
}

TEST_CASE("allocations of status(): the names of its residents, and their list", "[R5]") {
    Bench bench({.max_resident = 3});
    for (std::size_t residents = 1; residents <= 3; ++residents) {
        const Allocations before = so_far();
        const ManagerStatus status = bench.models->status();
        const Allocations after = so_far();
        CHECK(status.embedding.residents.size() == residents);
        // The names, their list, and what was read of them under the mutex.
        CHECK(after - before == Allocations{.library = 2 + residents});
        bench.load(bench.slot(), ModelKey("a-model-with-a-name-that-is-as-long " + std::to_string(residents), "q8_0"));
    }
}

TEST_CASE("allocations of a blocking embed, on both of its threads", "[H10]") {
    testing::VirtualClock::reset();
    asio::io_context context{1};
    auto guard = asio::make_work_guard(context);
    std::thread thread([&context] { context.run(); });
    const auto there = [&context] {
        std::promise<Allocations> answer;
        asio::post(context, [&answer] { answer.set_value(so_far()); });
        return answer.get_future().get();
    };
    {
        Bench::Manager models({}, {}, {}, Executors::all(context.get_executor()));
        models.embedding().ensure_loaded(key);
        Texts texts;
        const auto embed = [&] {
            std::size_t answered = 0;
            for (std::size_t round = 0; round < rounds; ++round) {
                answered += models.embed(key, texts.take()).size();
            }
            return answered;
        };
        // Here a load ends before the other thread has set the alarm that follows it. Two steps of that thread later it
        // has.
        CHECK(embed() == rounds);
        const Allocations before_there = there();
        const Allocations before_here = so_far();
        CHECK(embed() == rounds);
        const Allocations here = so_far() - before_here;
        const Allocations beside = there() - before_there;
        CHECK(here.library == rounds);
        CHECK(here.backend == 0);
        CHECK(beside.library == 0);
        CHECK(beside.backend == rounds);
        models.shutdown();
    }
    guard.reset();
    thread.join();
}

}  // namespace allocations_test
