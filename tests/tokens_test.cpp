// Every asynchronous call with every kind of completion token.

#include "support/bench.hpp"

#include "support/operations.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <exception>
#include <future>
#include <memory>
#include <new>
#include <tuple>
#include <utility>

namespace tokens_test {

using namespace residency;
using namespace residency::test;
using namespace residency::test::operations;
using namespace std::chrono_literals;

namespace {

template <class Operation>
bool sound_future(std::future<typename Operation::Result>& future) {
    if constexpr (has_result<Operation>) {
        return Operation::sound(future.get());
    } else {
        future.get();
        return true;
    }
}

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
    TestType::start(
        bench, [&, only_moved = std::make_unique<int>(1)](std::exception_ptr, auto&&...) { calls += *only_moved; });
    bench.run();
    CHECK(calls == 1);
    bench.check_end();
}

TEMPLATE_TEST_CASE("use_future: the result, or the Error thrown", "[R9]", EVERY_OPERATION) {
    ManagerBench bench;
    std::future<typename TestType::Result> future = TestType::start(bench, asio::use_future);
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

namespace {

// Finds no memory for a copy.
struct DearHandler {
    DearHandler() = default;
    DearHandler(const DearHandler&) { throw std::bad_alloc(); }
    DearHandler(DearHandler&&) = default;
    DearHandler& operator=(const DearHandler&) = delete;
    DearHandler& operator=(DearHandler&&) = delete;
    ~DearHandler() = default;
    void operator()(const std::exception_ptr& /*error*/, const FakeLease& /*lease*/) const {}
};

}  // namespace

TEST_CASE("A handler that cannot be copied has taken no lease", "[H18][R9]") {
    SlotBench bench;
    bench.lease(a).release();
    const DearHandler handler;
    CHECK_THROWS_AS(bench.slot->async_acquire(a, handler), std::bad_alloc);
    CHECK(bench.slot->status().leases == 0);
    bench.check_end();
}

}  // namespace tokens_test
