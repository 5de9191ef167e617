// R1 to R4, R9: unloads that are abandoned, and requests that come meanwhile: a residency is unloaded once, nothing
// runs beside that, and a request waits for the next.

#include "support/bench.hpp"

#include <atomic>
#include <thread>

namespace unload_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

TEST_CASE("A cancelled unload and its successor are one unload, and the next residency is none of theirs",
          "[R2][R6][R9]") {
    SlotOptions options;
    options.keep_alive = 10s;
    SlotBench bench(options);
    bench.load(a);
    asio::cancellation_signal leave;
    Outcome<> second;
    Outcome<> third;
    Outcome<FakeLease> next;
    const auto first = bench.unload(a, UnloadMode::drain, leave.slot());
    during(*bench.world, FakeStep::unload, [&] {
        leave.emit(asio::cancellation_type::terminal);
        second = bench.unload(a);
        next = bench.acquire(a);
        third = bench.unload(a, UnloadMode::revoke);
        bench.run_without_loading();
        CHECK(first.code() == asio::error::operation_aborted);
        // Nothing runs beside the destructor.
        CHECK(second.calls() == 0);
        CHECK(third.calls() == 0);
        CHECK(next.calls() == 0);
        CHECK(bench.world->counts().loads == 1);
    });
    bench.run();
    CHECK(second.calls() == 1);
    CHECK(third.calls() == 1);
    CHECK(bench.world->counts(a).unloads == 1);
    CHECK(bench.world->counts(a).most_resident == 1);
    REQUIRE(next.calls() == 1);
    CHECK(next.value()->serial() == 2);
    CHECK_FALSE(next.value().revoked());
    CHECK(bench.only_resident().state == ResidentState::ready);
    bench.advance(1h);
    CHECK(bench.world->counts(a).live == 1);
    next.value().release();
    bench.advance(10s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).unloads == 2);
    bench.finish(5);
}

TEST_CASE("Unloads that threads begin and abandon never run beside one another, nor beside a load", "[R2][R3][R9]") {
    ThreadedSlot bench;
    std::atomic<int> at_work{0};
    std::atomic<int> beside{0};
    // A load and a destructor both take a moment in which another would be seen.
    const auto work = [&](const testing::FakeCall&) {
        beside += ++at_work == 1 ? 0 : 1;
        std::this_thread::yield();
        --at_work;
    };
    bench.world->on(FakeStep::load, work);
    bench.world->on(FakeStep::unload, work);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                asio::io_context here;
                for (int round = 0; round < 60; ++round) {
                    asio::cancellation_signal leave;
                    Outcome<> unload;
                    bench.slot->async_unload(
                        a, asio::bind_cancellation_slot(
                               leave.slot(), asio::bind_executor(here, bench.handlers.count(unload.handler()))));
                    asio::post(here, [&] { leave.emit(asio::cancellation_type::terminal); });
                    bench.slot->acquire(a).release();
                    here.restart();
                    here.run();
                }
            });
        }
    }
    CHECK(beside == 0);
    CHECK(bench.world->counts().most_resident == 1);
    CHECK(bench.world->counts().most_loading == 1);
    bench.finish(180);
}

TEST_CASE("No request meets a model that is being unloaded, while threads unload it all the time", "[R1][R4]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options, .reranker = options});
    std::atomic<int> using_it{3};
    std::atomic<int> failed{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 60; ++call) {
                    failed += code_of([&] { (void)bench.manager->embed(a, {"one", "two"}); }) ? 1 : 0;
                    failed += code_of([&] { (void)bench.manager->rerank(b, "query", {"one", "two"}); }) ? 1 : 0;
                }
                --using_it;
            });
        }
        threads.emplace_back([&] {
            while (using_it != 0) {
                bench.manager->embedding().unload(a);
                bench.manager->reranker().unload();
            }
        });
    }
    CHECK(failed == 0);
    CHECK(bench.world->counts(a).calls == 180);
    CHECK(bench.world->counts(b).calls == 180);
    CHECK(bench.world->counts(a).most_resident == 1);
    bench.finish(0);
}

}  // namespace unload_test
