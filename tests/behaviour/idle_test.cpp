// Scenarios 13 to 19: when a model that is not used is unloaded.

#include "residency/core/slot_scheduler.hpp"

#include "support/bench.hpp"
#include "support/time_machine.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

namespace idle_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

SlotOptions keeping(std::chrono::milliseconds keep_alive) {
    SlotOptions options;
    options.keep_alive = keep_alive;
    return options;
}

RequestOptions request_keeping(std::chrono::milliseconds keep_alive) {
    RequestOptions options;
    options.keep_alive = keep_alive;
    return options;
}

// Whether the model of `a` goes at exactly `due` from now.
void check_goes_in(SlotBench& bench, VirtualClock::duration due) {
    bench.advance(due - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).live == 0);
}

}  // namespace

// -- 13 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S13: the countdown begins with the end of the last of overlapping leases", "[S13][R5]") {
    SlotBench bench(keeping(10s));
    auto first = bench.acquire(a);
    bench.run();
    bench.advance(4s);
    auto second = bench.acquire(a);
    bench.run();
    bench.advance(4s);
    first.value().release();
    CHECK_FALSE(bench.only_resident().idle_for);
    bench.advance(30s);
    CHECK(bench.world->counts(a).live == 1);
    second.value().release();
    CHECK(bench.only_resident().idle_for == 0ns);
    CHECK(bench.only_resident().unloads_in == 10s);
    check_goes_in(bench, 10s);
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.events.lines() == Lines{"load_started a", "ready a", "unload_started a (idle)", "unloaded a (idle)"});
    bench.finish(2);
}

TEST_CASE("S13: an inference that takes longer than the keep-alive keeps its model, and a full keep-alive follows",
          "[S13][R5][R1]") {
    ManagerBench bench({.embedding = keeping(10s)});
    bool lived = false;
    during(*bench.world, FakeStep::inference, [&] {
        VirtualClock::advance(1h);
        bench.run_control();
        testing::run_ready(bench.loading);
        lived = bench.world->counts(a).live == 1;
    });
    const auto answer = bench.embed(a);
    bench.run();
    CHECK(lived);
    CHECK(answer.calls() == 1);
    CHECK_FALSE(answer.exception());
    bench.advance(10s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S13: of threads that use a model at once, only the last one's end counts", "[S13][R5][R1]") {
    ThreadedManager bench({.embedding = keeping(0ms)});
    FakeLease lease = bench.manager->embedding().acquire(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    (void)bench.manager->embed(a, {"text"});
                }
            });
        }
    }
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.world->counts(a).live == 1);
    lease.release();
    bench.world->await(a, [](const auto& counts) { return counts.live == 0; });
    bench.finish(0);
}

// -- 14 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S14: a request in the tick of the expiry keeps the model if it comes first", "[S14][R5][R7]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    VirtualClock::advance(10s);
    // The alarm is due, and has not been looked at.
    auto lease = bench.acquire(a);
    bench.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 1);
    CHECK(bench.world->counts(a).live == 1);
    lease.value().release();
    CHECK(bench.only_resident().unloads_in == 10s);
    check_goes_in(bench, 10s);
    bench.finish(2);
}

TEST_CASE("S14: a request in the tick of the expiry gets a fresh load if it comes second", "[S14][R5][R6]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    VirtualClock::advance(10s);
    bench.run_control();
    CHECK(bench.only_resident().state == ResidentState::unloading);
    auto lease = bench.acquire(a);
    bench.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 2);
    CHECK(bench.world->counts(a).most_resident == 1);
    lease.value().release();
    bench.finish(2);
}

TEST_CASE("S14: requests of threads that race with the expiry always succeed", "[S14][R5][R1]") {
    SlotBench bench(keeping(1ms));
    std::atomic<int> gone{0};
    {
        const TimeMachine time(bench, 1ms);
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                for (int request = 0; request < 100; ++request) {
                    const FakeLease lease = bench.slot->acquire(a);
                    gone += bench.world->model(lease->serial()).unloaded_on ? 1 : 0;
                }
            });
        }
    }
    CHECK(gone == 0);
    CHECK(bench.slot->status().counters.leases_granted == 300);
    bench.finish(0);
}

// -- 15 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S15: ten thousand requests need one timer", "[S15][R7]") {
    SlotBench bench(keeping(10s));
    bench.load(a);
    CHECK(bench.slot->status().counters.timer_waits == 1);
    for (int request = 0; request < 10'000; ++request) {
        bench.slot->try_acquire(a).release();
        VirtualClock::advance(1ms);
        bench.run_control();
    }
    CHECK(bench.slot->status().counters.leases_granted == 10'000);
    // The first wait ended after 10 s, and found that there was nothing to do but to wait again.
    CHECK(bench.slot->status().counters.timer_waits == 2);
    CHECK(bench.world->counts(a).loads == 1);
    // The last release was 1 ms ago.
    check_goes_in(bench, 10s - 1ms);
    CHECK(bench.slot->status().counters.timer_waits == 2);
    bench.finish(1);
}

TEST_CASE("S15: ten thousand requests of threads need one timer", "[S15][R7]") {
    ThreadedSlot bench(keeping(1h));
    bench.slot->ensure_loaded(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int request = 0; request < 2'500; ++request) {
                    bench.slot->acquire(a).release();
                }
            });
        }
    }
    CHECK(bench.slot->status().counters.leases_granted == 10'000);
    CHECK(bench.slot->status().counters.timer_waits == 1);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(0);
}

TEST_CASE("S15: an expiry that comes late finds a model in use and leaves it alone", "[S15][R7][R5]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    // The slot does not look for an hour; meanwhile the model is used again, and again given back.
    VirtualClock::advance(1h);
    auto lease = bench.slot->try_acquire(a);
    CHECK(lease);
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    VirtualClock::advance(1h);
    lease.release();
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    check_goes_in(bench, 10s);
    bench.finish(1);
}

TEST_CASE("S15: a wait that was replaced after it had expired decides nothing", "[S15][R7][R5]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    // The wait for 10 s is due and not looked at, when a shorter one is wanted: for the 5 s after this release.
    VirtualClock::advance(10s);
    bench.slot->acquire(a, request_keeping(5s)).release();
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.only_resident().unloads_in == 5s);
    check_goes_in(bench, 5s);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(1);
}

TEST_CASE("S15: a wait that stands too late is replaced by an earlier one, once", "[S15][R7][R5]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    CHECK(bench.slot->status().counters.timer_waits == 1);
    // The shortest comes first; the longer ones that follow need no replacement.
    for (const auto keep_alive : {2s, 4s, 8s}) {
        bench.slot->try_acquire(a).release();
        bench.use(a, request_keeping(keep_alive));
    }
    CHECK(bench.slot->status().counters.timer_waits == 2);
    check_goes_in(bench, 8s);
    bench.finish(4);
}

TEST_CASE("S15: the scheduler takes early, late and repeated ticks for nothing", "[S15][R7]") {
    core::SlotScheduler scheduler(keeping(10s));
    core::Actions actions;
    const core::Enqueued enqueued = scheduler.enqueue(a, core::RequestSpec{}, 0s, actions);
    CHECK(enqueued.request.valid());
    const auto load = std::find_if(actions.begin(), actions.end(),
                                   [](const core::Action& action) { return action.type == core::ActionType::load; });
    REQUIRE(load != actions.end());
    const core::ResidentId resident = scheduler.residents().handle(load->resident);
    scheduler.loaded(resident, 1, 0s, actions);
    scheduler.release({resident, {}}, 0s, actions);
    CHECK(scheduler.next_alarm() == 10s);

    actions.clear();
    const core::SlotScheduler before = scheduler;
    for (const auto early : {1s, 1s, 9s}) {
        scheduler.tick(early, actions);
        CHECK(actions.empty());
        CHECK(scheduler == before);
    }
    scheduler.tick(1h, actions);
    CHECK(std::count_if(actions.begin(), actions.end(),
                        [](const core::Action& action) { return action.type == core::ActionType::unload; }) == 1);
    actions.clear();
    const core::SlotScheduler unloading = scheduler;
    scheduler.tick(1h, actions);
    scheduler.tick(2h, actions);
    CHECK(actions.empty());
    CHECK(scheduler == unloading);
    scheduler.unloaded(resident, 2h, actions);
    CHECK(scheduler.next_alarm() == core::never);
}

// -- 16 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S16: a model that was loaded ahead and never used gets one full keep-alive", "[S16][R5]") {
    SlotBench bench(keeping(10s));
    const auto load = bench.ensure(a);
    bench.run();
    REQUIRE(load.calls() == 1);
    CHECK(bench.only_resident().idle_for == 0ns);
    bench.advance(6s);
    CHECK(bench.only_resident().unloads_in == 4s);
    check_goes_in(bench, 4s);
    CHECK(bench.slot->status().counters.leases_granted == 0);
    bench.finish(1);
}

TEST_CASE("S16: loading ahead what is resident starts its keep-alive again, without a load", "[S16][R5]") {
    SlotBench bench(keeping(10s));
    bench.load(a);
    bench.advance(6s);
    const auto again = bench.ensure(a);
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(bench.only_resident().unloads_in == 10s);
    check_goes_in(bench, 10s);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(2);
}

// -- 17 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S17: a keep-alive of zero unloads when the model is free", "[S17][R5]") {
    const bool by_request = GENERATE(true, false);
    SlotBench bench(keeping(by_request ? 5min : 0ms));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = 0ms;
    }
    auto first = bench.acquire(a, options);
    auto second = bench.acquire(a, options);
    bench.run();
    first.value().release();
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    second.value().release();
    bench.run();
    CHECK(bench.world->counts(a).live == 0);
    // Also when it was loaded ahead.
    const auto load = bench.ensure(a, options);
    bench.run();
    CHECK(load.calls() == 1);
    CHECK(bench.world->counts(a).loads == 2);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.slot->status().counters.timer_waits == 0);
    bench.finish(3);
}

TEST_CASE("S17: a negative keep-alive is refused, by name", "[S17]") {
    SlotBench bench;
    const auto with_negative = [&] {
        const SlotBench::Slot slot(FakeEmbeddingBackend(bench.world), keeping(-1ms), bench.executors());
    };
    CHECK_THROWS_AS(with_negative(), std::invalid_argument);
    CHECK_THROWS_WITH(with_negative(), contains_text("keep_alive"));
    const auto lease = bench.acquire(a, request_keeping(-1ms));
    const auto load = bench.ensure(a, request_keeping(std::chrono::milliseconds::min()));
    bench.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.code() == errc::invalid_request);
    CHECK(lease.error().stage() == Stage::admission);
    CHECK(load.code() == errc::invalid_request);
    CHECK(bench.world->counts().loads == 0);
    bench.finish(2);
}

TEST_CASE("S17: a model that is kept for ever stays, without a timer", "[S17][R5]") {
    const bool by_request = GENERATE(true, false);
    SlotBench bench(keeping(by_request ? 10s : keep_alive_forever));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = keep_alive_forever;
    }
    bench.use(a, options);
    CHECK_FALSE(bench.only_resident().unloads_in);
    bench.advance(std::chrono::hours(24 * 365 * 100));
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.slot->status().counters.timer_waits == 0);
    CHECK(bench.at_rest());
    bench.finish(1);
}

TEST_CASE("S17: a huge keep-alive does not overflow", "[S17][R5]") {
    const auto huge = GENERATE(std::chrono::milliseconds::max() - 1ms, std::chrono::milliseconds::max() / 2,
                               std::chrono::milliseconds(std::chrono::hours(24 * 365 * 200)));
    const bool by_request = GENERATE(true, false);
    SlotBench bench(keeping(by_request ? 10s : huge));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = huge;
    }
    bench.use(a, options);
    bench.advance(std::chrono::hours(24 * 365 * 100));
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(std::chrono::hours(24 * 365 * 100) - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.finish(1);
}

TEST_CASE("S17: a keep-alive of one request's holds until the next grant", "[S17][R5]") {
    SlotBench bench(keeping(10s));
    bench.use(a, request_keeping(1min));
    CHECK(bench.only_resident().unloads_in == 1min);
    bench.use(a);
    CHECK(bench.only_resident().unloads_in == 10s);
    bench.use(a, request_keeping(keep_alive_forever));
    CHECK_FALSE(bench.only_resident().unloads_in);
    bench.advance(1h);
    bench.use(a, request_keeping(2s));
    check_goes_in(bench, 2s);
    bench.finish(4);
}

// -- 18 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S18: looking at a model does not keep it alive", "[S18][R5]") {
    ManagerBench bench({.embedding = keeping(10s)});
    const auto answer = bench.embed(a);
    bench.run();
    CHECK(answer.calls() == 1);
    for (int look = 0; look < 999; ++look) {
        bench.advance(10ms);
        const ManagerStatus status = bench.manager->status();
        REQUIRE(status.embedding.residents.size() == 1);
        CHECK(bench.manager->embedding().generation() == status.embedding.generation);
        CHECK_FALSE(bench.manager->embedding().try_acquire(b));
    }
    CHECK(bench.manager->embedding().status().residents.front().unloads_in == 10ms);
    bench.advance(10ms);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S18: threads that look at a model all the time do not keep it alive", "[S18][R5]") {
    SlotBench bench(keeping(10ms));
    bench.use(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                while (!bench.slot->status().residents.empty()) {
                    (void)bench.slot->generation();
                }
            });
        }
        // They end when the model is gone.
        const TimeMachine time(bench, 1ms);
        threads.clear();
    }
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

// -- 19 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S19: a request during the unload waits, and gets a new generation", "[S19][R6][R2]") {
    SlotBench bench(keeping(10s));
    auto first = bench.acquire(a);
    bench.run();
    const Generation old = first.value().generation();
    first.value().release();
    Outcome<FakeLease> lease;
    during(*bench.world, FakeStep::unload, [&] {
        CHECK(bench.slot->generation() > old);
        lease = bench.acquire(a);
        bench.run_without_loading();
        CHECK(lease.calls() == 0);
        CHECK_FALSE(bench.slot->try_acquire(a));
        CHECK(bench.world->counts(a).loads == 1);
    });
    bench.advance(10s);
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 2);
    CHECK(lease.value().generation() > old);
    CHECK(lease.value().generation() == bench.slot->generation());
    CHECK(bench.world->counts(a).most_resident == 1);
    lease.value().release();
    bench.finish(2);
}

TEST_CASE("S19: a cancellation during the unload neither brings the old model back nor stops the unload",
          "[S19][R6][R9]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    asio::cancellation_signal leave;
    asio::cancellation_signal leave_unload;
    Outcome<FakeLease> lease;
    Outcome<> unload;
    during(*bench.world, FakeStep::unload, [&] {
        lease = bench.acquire(a, {}, leave.slot());
        unload = bench.unload(a, UnloadMode::drain, leave_unload.slot());
        bench.run_without_loading();
        leave.emit(asio::cancellation_type::terminal);
        leave_unload.emit(asio::cancellation_type::terminal);
        bench.run_without_loading();
        CHECK(lease.code() == asio::error::operation_aborted);
        CHECK(unload.code() == asio::error::operation_aborted);
        CHECK(bench.only_resident().state == ResidentState::unloading);
        CHECK_FALSE(bench.slot->try_acquire(a));
    });
    bench.advance(10s);
    CHECK(bench.handlers.ran() == 3);
    CHECK(bench.world->counts(a).unloads == 1);
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.slot->status().residents.empty());
    bench.finish(3);
}

TEST_CASE("S19: a thread that asks during the unload waits, and gets a new generation", "[S19][R6][R2]") {
    ThreadedSlot bench;
    const Generation old = bench.slot->ensure_loaded(a);
    const auto gate = bench.world->block(FakeStep::unload, a);
    const auto unload = bench.unload(a);
    gate->await_held();
    const auto lease = bench.acquire(a);
    CHECK_FALSE(bench.slot->try_acquire(a));
    CHECK(bench.slot->status().waiting == 1);
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(unload.calls() == 0);
    gate->open();
    unload.wait();
    lease.wait();
    FakeLease fresh = std::move(Outcome<FakeLease>(lease).value());
    CHECK(fresh->serial() == 2);
    CHECK(fresh.generation() > old);
    CHECK(bench.world->counts(a).most_resident == 1);
    fresh.release();
    bench.finish(2);
}

}  // namespace idle_test
