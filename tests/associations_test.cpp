// Every kind of asynchronous call with whatever a handler may have associated with it: executor, allocator,
// cancellation slot.

#include "support/bench.hpp"

#include "support/associated.hpp"
#include "support/operations.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/strand.hpp>

#include <exception>
#include <functional>
#include <utility>
#include <vector>

namespace associations_test {

using namespace residency;
using namespace residency::test;
using namespace residency::test::operations;
using namespace std::chrono_literals;

// One of each kind of operation that the library has: the others differ in what they are given and what they give.
#define EVERY_KIND Acquire, EnsureLoaded, Embed, UnloadKey, ShutdownManager

TEMPLATE_TEST_CASE("associated executor: the handler runs there, which is kept busy until then", "[H16][R9]",
                   EVERY_KIND) {
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
    SECTION("any_completion_executor") {
        check(asio::bind_executor(asio::any_completion_executor(elsewhere.get_executor()), handler));
    }
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated executor: also for a result that is known at once", "[H16][R9]", EVERY_KIND) {
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
    SECTION("any_completion_executor") {
        check(asio::bind_executor(asio::any_completion_executor(elsewhere.get_executor()), handler));
    }
    bench.check_end();
}

TEMPLATE_TEST_CASE("no associated executor: the handler runs on control", "[H16]", EVERY_KIND) {
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

TEMPLATE_TEST_CASE("associated allocator: it is used, given everything back before the handler is called, and recycles",
                   "[R9]", EVERY_KIND) {
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

TEMPLATE_TEST_CASE("associated allocator: everything is given back even if the handler runs as soon as can be", "[R9]",
                   EVERY_KIND) {
    ManagerBench bench;
    AllocatorCounts counts;
    asio::io_context elsewhere;
    std::vector<std::size_t> live;
    Busy busy(bench);
    TestType::wait(
        bench, asio::bind_executor(EagerExecutor(elsewhere), asio::bind_allocator(CountingAllocator<>(counts),
                                                                                  [&](std::exception_ptr, auto&&...) {
                                                                                      live.push_back(counts.live);
                                                                                  })));
    CHECK(counts.live == 1);
    busy.end();
    bench.run();
    CHECK(live == std::vector<std::size_t>{0});
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated allocator: everything is given back when the caller leaves", "[R9]", EVERY_KIND) {
    ManagerBench bench;
    AllocatorCounts counts;
    asio::cancellation_signal signal;
    std::vector<std::size_t> live;
    Busy busy(bench);
    TestType::wait(bench, asio::bind_cancellation_slot(signal.slot(),
                                                       asio::bind_allocator(CountingAllocator<>(counts),
                                                                            [&](std::exception_ptr error, auto&&...) {
                                                                                CHECK(error);
                                                                                live.push_back(counts.live);
                                                                            })));
    signal.emit(asio::cancellation_type::terminal);
    bench.run();
    CHECK(live == std::vector<std::size_t>{0});
    busy.end();
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated allocator: given back also while the model is still at work for a caller that left",
                   "[H10][R9]", Embed, Rerank) {
    ManagerBench bench;
    AllocatorCounts counts;
    asio::cancellation_signal signal;
    std::vector<std::size_t> live;
    bench.world->on(FakeStep::inference, [&](const FakeCall&) {
        signal.emit(asio::cancellation_type::terminal);
        run_ready(bench.control);
        CHECK(live.size() == 1);
    });
    TestType::start(bench, asio::bind_cancellation_slot(signal.slot(),
                                                        asio::bind_allocator(CountingAllocator<>(counts),
                                                                             [&](std::exception_ptr error, auto&&...) {
                                                                                 CHECK(error);
                                                                                 live.push_back(counts.live);
                                                                             })));
    bench.run();
    CHECK(live == std::vector<std::size_t>{0});
    bench.check_end();
}

TEMPLATE_TEST_CASE("associated cancellation slot: each type ends the wait with operation_aborted", "[R9]", EVERY_KIND) {
    for (const auto type :
         {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
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
            a, {"text"},
            asio::bind_allocator(CountingAllocator<>(counts), [&](std::exception_ptr error, const Embeddings&) {
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

}  // namespace associations_test
