// Every asynchronous call with every kind of completion token, and with whatever a handler may have associated with it.

#include "support/bench.hpp"

#include "support/associated.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <chrono>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey nameless("");

using EmbedderLease = Lease<testing::FakeEmbedder>;

// The calls of section 5's table. `start` can succeed at once or after a load; `wait` starts it where it has to wait as long as `a` is
// leased in both slots; `fail` starts it so that it fails with `failure`, where it can fail.
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
    static bool sound(const Result& embeddings) { return embeddings.size() == 3 && testing::answered_by(embeddings) == 1; }
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
inline constexpr bool can_fail = std::is_same_v<Operation, Acquire> || std::is_same_v<Operation, EnsureLoaded> ||
                                 std::is_same_v<Operation, Embed> || std::is_same_v<Operation, Rerank> ||
                                 std::is_same_v<Operation, UnloadKey>;

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

template <class Operation>
bool sound_future(std::future<typename Operation::Result>& future) {
    if constexpr (has_result<Operation>) {
        return Operation::sound(future.get());
    } else {
        future.get();
        return true;
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

template <class Body>
void run_coroutine(Bench& bench, Body body) {
    int ended = 0;
    asio::co_spawn(bench.control, std::move(body), [&ended](std::exception_ptr error) {
        ++ended;
        if (error) {
            std::rethrow_exception(error);
        }
    });
    bench.run();
    CHECK(ended == 1);
}

errc code_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& failure) {
        return static_cast<errc>(failure.code().value());
    }
}

}  // namespace

#define EVERY_OPERATION Acquire, EnsureLoaded, Embed, Rerank, UnloadKey, UnloadAll, ShutdownSlot, ShutdownManager

TEMPLATE_TEST_CASE("callback: called once, later, with the result", "[H16][R9]", EVERY_OPERATION) {
    ManagerBench bench;
    int calls = 0;
    bool is_sound = false;
    TestType::start(bench, [&](std::exception_ptr error, auto&&... results) {
        ++calls;
        is_sound = sound<TestType>(error, results...);
    });
    CHECK(calls == 0);
    bench.run();
    CHECK(calls == 1);
    CHECK(is_sound);
    if constexpr (can_fail<TestType>) {
        TestType::fail(bench, [&](std::exception_ptr error, auto&&...) {
            ++calls;
            CHECK(code_of(error) == errc::invalid_request);
        });
        CHECK(calls == 1);
        bench.run();
        CHECK(calls == 2);
    }
    bench.check_end();
}

TEMPLATE_TEST_CASE("callback: one that can only be moved", "[R9]", EVERY_OPERATION) {
    ManagerBench bench;
    int calls = 0;
    TestType::start(bench, [&, only_moved = std::make_unique<int>(1)](std::exception_ptr, auto&&...) { calls += *only_moved; });
    bench.run();
    CHECK(calls == 1);
    bench.check_end();
}

TEMPLATE_TEST_CASE("use_future: the result, or the Error thrown", "[R9]", EVERY_OPERATION) {
    ManagerBench bench;
    std::future<typename TestType::Result> future = TestType::start(bench, asio::use_future);
    CHECK(future.wait_for(0s) == std::future_status::timeout);
    bench.run();
    // The handler of use_future has the system's threads for an executor: it is posted there.
    future.wait();
    CHECK(sound_future<TestType>(future));
    if constexpr (can_fail<TestType>) {
        std::future<typename TestType::Result> failing = TestType::fail(bench, asio::use_future);
        bench.run();
        CHECK_THROWS_AS(failing.get(), Error);
    }
    bench.check_end();
}

TEMPLATE_TEST_CASE("use_awaitable: the result, or the Error thrown; it is the default", "[H20][R9]", EVERY_OPERATION) {
    ManagerBench bench;
    int steps = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        if constexpr (has_result<TestType>) {
            const auto result = co_await TestType::start(bench, asio::use_awaitable);
            CHECK(TestType::sound(result));
        } else {
            co_await TestType::start(bench, asio::use_awaitable);
        }
        ++steps;
        if constexpr (can_fail<TestType>) {
            try {
                (void)co_await TestType::fail(bench, asio::use_awaitable);
            } catch (const Error& error) {
                CHECK(error.code() == errc::invalid_request);
                ++steps;
            }
        }
    });
    CHECK(steps == (can_fail<TestType> ? 2 : 1));
    bench.check_end();
}

TEMPLATE_TEST_CASE("deferred: starts when it is invoked, and as a tuple under co_await", "[H21][R9]", EVERY_OPERATION) {
    ManagerBench bench;
    int calls = 0;
    bool is_sound = false;
    {
        auto later = TestType::start(bench, asio::deferred);
        bench.run();
        CHECK_FALSE(bench.manager->embedding().status().shutting_down);
        CHECK(bench.world->counts().loads == 0);
        std::move(later)([&](std::exception_ptr error, auto&&... results) {
            ++calls;
            is_sound = sound<TestType>(error, results...);
        });
    }
    CHECK(calls == 0);
    bench.run();
    CHECK(calls == 1);
    CHECK(is_sound);
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        const auto tuple = co_await TestType::start(bench, asio::as_tuple(asio::deferred));
        const std::exception_ptr error = std::get<0>(tuple);
        // A second shutdown finds nothing to do; everything else works as before.
        CHECK_FALSE(error);
        ++calls;
    });
    CHECK(calls == 2);
    bench.check_end();
}

TEMPLATE_TEST_CASE("as_tuple: of use_awaitable, of a callback", "[R9]", EVERY_OPERATION) {
    ManagerBench bench;
    int calls = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        const auto tuple = co_await TestType::start(bench, asio::as_tuple(asio::use_awaitable));
        CHECK(std::apply([](const auto&... parts) { return sound<TestType>(parts...); }, tuple));
        ++calls;
        if constexpr (can_fail<TestType>) {
            const auto failed = co_await TestType::fail(bench, asio::as_tuple(asio::use_awaitable));
            CHECK(code_of(std::get<0>(failed)) == errc::invalid_request);
        }
    });
    CHECK(calls == 1);
    TestType::start(bench, asio::as_tuple([&](const auto& tuple) {
                        ++calls;
                        CHECK_FALSE(std::get<0>(tuple));
                    }));
    bench.run();
    CHECK(calls == 2);
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated executor: the handler runs there, which is kept busy until then", "[H16][R9]", EVERY_OPERATION) {
    ManagerBench bench;
    asio::io_context elsewhere;
    int calls = 0;
    const auto handler = [&](std::exception_ptr, auto&&...) {
        ++calls;
        CHECK(elsewhere.get_executor().running_in_this_thread());
        CHECK_FALSE(bench.control.get_executor().running_in_this_thread());
    };
    const auto check = [&](auto token) {
        calls = 0;
        Busy busy(bench);
        TestType::wait(bench, std::move(token));
        bench.run();
        CHECK(calls == 0);
        // Nothing to run yet, but work to come: run() would wait.
        elsewhere.restart();
        CHECK(elsewhere.poll() == 0);
        CHECK_FALSE(elsewhere.stopped());
        busy.end();
        bench.run();
        CHECK(calls == 0);
        CHECK(elsewhere.poll() >= 1);
        CHECK(calls == 1);
        CHECK(is_idle(elsewhere));
    };
    SECTION("concrete") { check(asio::bind_executor(elsewhere.get_executor(), handler)); }
    SECTION("strand") { check(asio::bind_executor(asio::make_strand(elsewhere), handler)); }
    SECTION("any_io_executor") { check(asio::bind_executor(asio::any_io_executor(elsewhere.get_executor()), handler)); }
    SECTION("any_completion_executor") { check(asio::bind_executor(asio::any_completion_executor(elsewhere.get_executor()), handler)); }
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated executor: also for a result that is known at once", "[H16][R9]", EVERY_OPERATION) {
    ManagerBench bench;
    asio::io_context elsewhere;
    int calls = 0;
    const auto handler = [&](std::exception_ptr, auto&&...) {
        ++calls;
        CHECK(elsewhere.get_executor().running_in_this_thread());
    };
    const auto check = [&](auto token) {
        if constexpr (can_fail<TestType>) {
            TestType::fail(bench, std::move(token));
        } else {
            TestType::start(bench, std::move(token));
        }
        bench.run();
        CHECK(calls == 0);
        run_ready(elsewhere);
        CHECK(calls == 1);
        CHECK(is_idle(elsewhere));
    };
    SECTION("concrete") { check(asio::bind_executor(elsewhere.get_executor(), handler)); }
    SECTION("strand") { check(asio::bind_executor(asio::make_strand(elsewhere), handler)); }
    SECTION("any_completion_executor") { check(asio::bind_executor(asio::any_completion_executor(elsewhere.get_executor()), handler)); }
    bench.check_end();
}

TEMPLATE_TEST_CASE("no associated executor: the handler runs on control", "[H16]", EVERY_OPERATION) {
    ManagerBench bench;
    int calls = 0;
    TestType::start(bench, [&](std::exception_ptr, auto&&...) {
        ++calls;
        CHECK(bench.control.get_executor().running_in_this_thread());
    });
    bench.run();
    CHECK(calls == 1);
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated allocator: it is used, given everything back before the handler is called, and recycles", "[R9]",
                   EVERY_OPERATION) {
    ManagerBench bench;
    AllocatorCounts counts;
    std::vector<std::size_t> live;
    Busy busy(bench);
    TestType::wait(bench, asio::bind_allocator(CountingAllocator<>(counts),
                                               [&](std::exception_ptr, auto&&...) { live.push_back(counts.live); }));
    CHECK(counts.allocations == 1);
    busy.end();
    bench.run();
    CHECK(live == std::vector<std::size_t>{0});
    CHECK(counts.live == 0);
    // One block for the operation, and nothing else: a handler that starts the next one can use the same memory.
    CHECK(counts.most_live == 1);
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated cancellation slot: each type ends the wait with operation_aborted", "[R9]", EVERY_OPERATION) {
    for (const auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
        ManagerBench bench;
        Busy busy(bench);
        Request<typename TestType::Result> request;
        TestType::wait(bench, request.token());
        bench.run();
        CHECK(request.calls() == 0);
        request.cancel(type);
        CHECK(request.calls() == 0);
        bench.run();
        REQUIRE(request.calls() == 1);
        CHECK(request.code() == asio::error::operation_aborted);
        busy.end();
        bench.run();
        CHECK(request.calls() == 1);
        CHECK_FALSE(request.held());
        bench.check_end();
    }
}

TEST_CASE("A chain of calls, each started in the handler of the one before, needs one block at a time", "[R9]") {
    ManagerBench bench;
    AllocatorCounts counts;
    int links = 0;
    std::function<void()> next = [&] {
        bench.manager->async_embed(
            a, {"text"}, asio::bind_allocator(CountingAllocator<>(counts), [&](std::exception_ptr error, const Embeddings&) {
                CHECK_FALSE(error);
                if (++links < 100) {
                    next();
                }
            }));
    };
    next();
    bench.run();
    CHECK(links == 100);
    CHECK(counts.allocations == 100);
    CHECK(counts.most_live == 1);
    CHECK(counts.live == 0);
    bench.check_end();
}

TEST_CASE("A request on a ready model takes nothing of its handler's allocator", "[H22]") {
    ManagerBench bench;
    Busy busy(bench);
    AllocatorCounts counts;
    int calls = 0;
    bench.manager->embedding().async_acquire(
        a, asio::bind_allocator(CountingAllocator<>(counts), [&](std::exception_ptr, EmbedderLease) { ++calls; }));
    bench.run();
    CHECK(calls == 1);
    CHECK(counts.most_live == 0);
    busy.end();
    bench.check_end();
}
