#include "residency/testing/virtual_clock.hpp"

#include "residency/options.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "support/catch.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace virtual_clock_test {

using namespace std::chrono_literals;
using boost::system::error_code;
using residency::testing::advance;
using residency::testing::run_ready;
using residency::testing::VirtualClock;
namespace asio = boost::asio;
using Timer = asio::basic_waitable_timer<VirtualClock>;

static_assert(std::chrono::is_clock_v<VirtualClock> && VirtualClock::is_steady&& noexcept(VirtualClock::now()));

namespace {

VirtualClock::duration since_epoch() { return VirtualClock::now().time_since_epoch(); }

}  // namespace

TEST_CASE("The clock stands still until it is moved on") {
    VirtualClock::reset();
    CHECK(since_epoch() == 0s);
    VirtualClock::advance(5min);
    CHECK(since_epoch() == 5min);
    VirtualClock::advance(0s);
    VirtualClock::advance(1ns);
    CHECK(since_epoch() == 5min + 1ns);
    VirtualClock::reset();
    CHECK(since_epoch() == 0s);
}

TEST_CASE("The clock goes forward only, and not past the end of time") {
    VirtualClock::reset();
    CHECK_THROWS_AS(VirtualClock::advance(-1ns), std::invalid_argument);
    CHECK(since_epoch() == 0s);
    VirtualClock::advance(1s);
    VirtualClock::advance(VirtualClock::duration::max());
    CHECK(VirtualClock::now() == VirtualClock::time_point::max());
    VirtualClock::advance(1s);
    CHECK(VirtualClock::now() == VirtualClock::time_point::max());
    VirtualClock::reset();
    VirtualClock::advance(residency::keep_alive_forever);
    CHECK(VirtualClock::now() == VirtualClock::time_point::max());
    CHECK_THROWS_AS(VirtualClock::advance(std::chrono::milliseconds::min()), std::invalid_argument);
    VirtualClock::reset();
}

TEST_CASE("A length that the clock cannot count is the longest that it can") {
    VirtualClock::reset();
    asio::io_context context;
    Timer endless(context, VirtualClock::time_point::max());
    int fired = 0;
    endless.async_wait([&](error_code) { ++fired; });
    CHECK(advance(context, std::chrono::hours(24 * 365 * 300)) == 1);
    CHECK(VirtualClock::now() == VirtualClock::time_point::max());
    CHECK(fired == 1);
    CHECK_THROWS_AS(advance(context, std::chrono::milliseconds::min()), std::invalid_argument);
    VirtualClock::reset();
}

TEST_CASE("How many handlers ran is right after one that threw, and after one that stopped the context") {
    VirtualClock::reset();
    asio::io_context context;
    asio::post(context, [] { throw std::runtime_error("a handler's own failure"); });
    CHECK_THROWS_AS(run_ready(context), std::runtime_error);
    CHECK(run_ready(context) == 0);
    asio::post(context, [&] { context.stop(); });
    CHECK(run_ready(context) == 1);
    CHECK(run_ready(context) == 0);
}

TEST_CASE("Nothing is lost when many threads move the clock") {
    VirtualClock::reset();
    constexpr int threads = 4;
    constexpr int steps = 1000;
    {
        std::vector<std::jthread> movers;
        for (int thread = 0; thread < threads; ++thread) {
            movers.emplace_back([] {
                auto before = VirtualClock::now();
                for (int step = 0; step < steps; ++step) {
                    VirtualClock::advance(1us);
                    const auto after = VirtualClock::now();
                    if (after <= before) {
                        throw std::logic_error("the clock went back");  // Ends the program, and so fails the test.
                    }
                    before = after;
                }
            });
        }
    }
    CHECK(since_epoch() == threads * steps * 1us);
}

TEST_CASE("A timer fires when its time has come and not before") {
    VirtualClock::reset();
    asio::io_context context;
    Timer timer(context, 5min);
    int fired = 0;
    timer.async_wait([&](error_code code) {
        CHECK_FALSE(code.failed());
        ++fired;
    });
    CHECK(run_ready(context) == 0);
    CHECK(advance(context, 5min - 1ns) == 0);
    CHECK(fired == 0);
    CHECK(advance(context, 1ns) == 1);
    CHECK(fired == 1);
    CHECK(run_ready(context) == 0);
}

TEST_CASE("Timers fire in the order of their times, each once") {
    VirtualClock::reset();
    asio::io_context context;
    std::string order;
    Timer late(context, 3min);
    Timer early(context, 1min);
    Timer middle(context, 2min);
    late.async_wait([&](error_code) { order += 'c'; });
    early.async_wait([&](error_code) { order += 'a'; });
    middle.async_wait([&](error_code) { order += 'b'; });
    CHECK(advance(context, 10min) == 3);
    CHECK(order == "abc");
}

TEST_CASE("One run_ready is enough for a timer that is due already, however often") {
    VirtualClock::reset();
    asio::io_context context;
    for (int round = 0; round < 10'000; ++round) {
        int fired = 0;
        Timer timer(context, 0s);
        timer.async_wait([&](error_code) { ++fired; });
        run_ready(context);
        REQUIRE(fired == 1);
    }
}

TEST_CASE("run_ready follows what handlers start, until nothing is ready") {
    VirtualClock::reset();
    asio::io_context context;
    Timer timer(context);
    int left = 50;
    // Each wait is due at once, and its handler posts the start of the next.
    std::function<void()> again = [&] {
        timer.expires_at(VirtualClock::now());
        timer.async_wait([&](error_code) {
            if (--left != 0) {
                asio::post(context, again);
            }
        });
    };
    again();
    CHECK(run_ready(context) == 99);
    CHECK(left == 0);
}

TEST_CASE("A cancelled wait completes, and one that never ends stays") {
    VirtualClock::reset();
    asio::io_context context;
    Timer cancelled(context, 1min);
    Timer endless(context, VirtualClock::time_point::max());
    error_code code;
    int fired = 0;
    cancelled.async_wait([&](error_code result) { code = result; });
    endless.async_wait([&](error_code) { ++fired; });
    cancelled.cancel();
    CHECK(run_ready(context) == 1);
    CHECK(code == asio::error::operation_aborted);
    CHECK(advance(context, std::chrono::hours(24 * 365)) == 0);
    CHECK(fired == 0);
}

TEST_CASE("A coroutine waits in virtual time") {
    VirtualClock::reset();
    asio::io_context context;
    std::vector<VirtualClock::duration> seen;
    asio::co_spawn(
        context,
        [&]() -> asio::awaitable<void> {
            Timer timer(co_await asio::this_coro::executor);
            for (int round = 0; round < 3; ++round) {
                timer.expires_after(10min);
                co_await timer.async_wait(asio::use_awaitable);
                seen.push_back(since_epoch());
            }
        },
        asio::detached);
    run_ready(context);
    for (const auto by : {9min, 1min, 20min}) {
        advance(context, by);
    }
    // In one step of 20 minutes the third wait begins at its end.
    CHECK(seen == std::vector<VirtualClock::duration>{10min, 30min});
    advance(context, 10min);
    CHECK(seen.back() == 40min);
}

TEST_CASE("In steps, what is due on the way happens on the way") {
    VirtualClock::reset();
    asio::io_context context;
    std::vector<VirtualClock::duration> seen;
    Timer timer(context);
    std::function<void()> again = [&] {
        timer.expires_after(10min);
        timer.async_wait([&](error_code) {
            seen.push_back(since_epoch());
            if (seen.size() < 3) {
                again();
            }
        });
    };
    again();
    CHECK(advance(context, 35min, 5min) == 3);
    CHECK(seen == std::vector<VirtualClock::duration>{10min, 20min, 30min});
    CHECK(since_epoch() == 35min);
    // What is left over after the last whole step counts, too.
    advance(context, 7min, 5min);
    CHECK(since_epoch() == 42min);
    CHECK_THROWS_AS(advance(context, 1min, 0s), std::invalid_argument);
    CHECK_THROWS_AS(advance(context, -1min), std::invalid_argument);
    CHECK(since_epoch() == 42min);
}

TEST_CASE("Several contexts are run until none of them has anything ready") {
    VirtualClock::reset();
    asio::io_context first;
    asio::io_context second;
    int passes = 0;
    std::function<void()> pass = [&] {
        if (++passes < 10) {
            asio::post(passes % 2 == 0 ? first : second, pass);
        }
    };
    asio::post(first, pass);
    CHECK(run_ready(first, second) == 10);
    CHECK(passes == 10);
}

TEST_CASE("run_ready in a handler of the same context runs what is ready, and the one around it goes on") {
    VirtualClock::reset();
    asio::io_context first;
    asio::io_context second;
    std::size_t nested = 0;
    int within = 0;
    int afterwards = 0;
    asio::post(second, [&] {
        asio::post(second, [&] { ++within; });
        nested = run_ready(second);
        asio::post(first, [&] { ++afterwards; });
    });
    CHECK(run_ready(first, second) == 2);
    CHECK(nested == 1);
    CHECK(within == 1);
    CHECK(afterwards == 1);
    // One that throws within another leaves no count behind.
    asio::post(second, [&] {
        asio::post(second, [] { throw std::runtime_error("a handler's own failure"); });
        CHECK_THROWS_AS(run_ready(second), std::runtime_error);
        asio::post(first, [&] { ++afterwards; });
    });
    CHECK(run_ready(first, second) == 2);
    CHECK(afterwards == 2);
    CHECK(run_ready(first, second) == 0);
}

TEST_CASE("A context that ran out of work, or was stopped, is used again") {
    VirtualClock::reset();
    asio::io_context context;
    CHECK(run_ready(context) == 0);
    CHECK(context.stopped());
    int runs = 0;
    asio::post(context, [&] { ++runs; });
    CHECK(run_ready(context) == 1);
    context.stop();
    asio::post(context, [&] { ++runs; });
    CHECK(run_ready(context) == 1);
    CHECK(runs == 2);
}

TEST_CASE("Once a handler stops the context no more is run") {
    VirtualClock::reset();
    asio::io_context context;
    int runs = 0;
    asio::post(context, [&] { context.stop(); });
    asio::post(context, [&] { ++runs; });
    CHECK(run_ready(context) == 1);
    CHECK(runs == 0);
    CHECK(context.stopped());
    run_ready(context);
    CHECK(runs == 1);
}

TEST_CASE("What a handler throws leaves run_ready, and the rest runs the next time") {
    VirtualClock::reset();
    asio::io_context context;
    int runs = 0;
    asio::post(context, [] { throw std::runtime_error("from a handler"); });
    asio::post(context, [&] { ++runs; });
    CHECK_THROWS_WITH(run_ready(context), "from a handler");
    CHECK(runs == 0);
    run_ready(context);
    CHECK(runs == 1);
}

TEST_CASE("A handler may move the clock on") {
    VirtualClock::reset();
    asio::io_context context;
    bool fired = false;
    Timer timer(context, 5min);
    timer.async_wait([&](error_code) { fired = true; });
    asio::post(context, [] { VirtualClock::advance(5min); });
    run_ready(context);
    CHECK(fired);
}

}  // namespace virtual_clock_test
