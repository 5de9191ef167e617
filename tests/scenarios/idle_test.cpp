// Scenarios 13 to 19: when a model that is not used is unloaded.

#include "residency/core/slot_scheduler.hpp"

#include "support/slot_fixture.hpp"
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
void check_goes_in(VirtualSlot& f, VirtualClock::duration due) {
    f.pass(due - 1ns);
    CHECK(f.world->counts(a).live == 1);
    f.pass(1ns);
    CHECK(f.world->counts(a).live == 0);
}

}  // namespace

// -- 13 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S13: the countdown begins with the end of the last of overlapping leases", "[S13][R5]") {
    VirtualSlot f(keeping(10s));
    auto first = f.acquire(a);
    f.run();
    f.pass(4s);
    auto second = f.acquire(a);
    f.run();
    f.pass(4s);
    first.value().release();
    CHECK_FALSE(f.resident().idle_for);
    f.pass(30s);
    CHECK(f.world->counts(a).live == 1);
    second.value().release();
    CHECK(f.resident().idle_for == 0ns);
    CHECK(f.resident().unloads_in == 10s);
    check_goes_in(f, 10s);
    CHECK(f.world->counts(a).loads == 1);
    CHECK(f.events.lines() == Lines{"load_started a", "ready a", "unload_started a (idle)", "unloaded a (idle)"});
    f.finish(2);
}

TEST_CASE("S13: an inference that takes longer than the keep-alive keeps its model, and a full keep-alive follows",
          "[S13][R5][R1]") {
    VirtualManager f(keeping(10s));
    bool lived = false;
    during(*f.world, FakeStep::inference, [&] {
        VirtualClock::advance(1h);
        f.run_control();
        testing::run_ready(f.loading);
        lived = f.world->counts(a).live == 1;
    });
    const auto answer = f.embed(a);
    f.run();
    CHECK(lived);
    CHECK(answer.calls() == 1);
    CHECK_FALSE(answer.exception());
    f.pass(10s - 1ns);
    CHECK(f.world->counts(a).live == 1);
    f.pass(1ns);
    CHECK(f.world->counts(a).live == 0);
    f.finish(1);
}

TEST_CASE("S13: of threads that use a model at once, only the last one's end counts", "[S13][R5][R1]") {
    ThreadedManager f(keeping(0ms));
    FakeLease lease = f.models->embedding().acquire(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    (void)f.models->embed(a, {"text"});
                }
            });
        }
    }
    CHECK(f.world->counts(a).loads == 1);
    CHECK(f.world->counts(a).live == 1);
    lease.release();
    f.world->await(a, [](const auto& counts) { return counts.live == 0; });
    f.finish(0);
}

// -- 14 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S14: a request in the tick of the expiry keeps the model if it comes first", "[S14][R5][R7]") {
    VirtualSlot f(keeping(10s));
    f.use(a);
    VirtualClock::advance(10s);
    // The alarm is due, and has not been looked at.
    auto lease = f.acquire(a);
    f.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 1);
    CHECK(f.world->counts(a).live == 1);
    lease.value().release();
    CHECK(f.resident().unloads_in == 10s);
    check_goes_in(f, 10s);
    f.finish(2);
}

TEST_CASE("S14: a request in the tick of the expiry gets a fresh load if it comes second", "[S14][R5][R6]") {
    VirtualSlot f(keeping(10s));
    f.use(a);
    VirtualClock::advance(10s);
    f.run_control();
    CHECK(f.resident().state == ResidentState::unloading);
    auto lease = f.acquire(a);
    f.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 2);
    CHECK(f.world->counts(a).most_resident == 1);
    lease.value().release();
    f.finish(2);
}

TEST_CASE("S14: requests of threads that race with the expiry always succeed", "[S14][R5][R1]") {
    VirtualSlot f(keeping(1ms));
    std::atomic<int> gone{0};
    {
        const TimeMachine time(f, 1ms);
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                for (int request = 0; request < 100; ++request) {
                    const FakeLease lease = f.slot->acquire(a);
                    gone += f.world->model(lease->serial()).unloaded_on ? 1 : 0;
                }
            });
        }
    }
    CHECK(gone == 0);
    CHECK(f.slot->status().counters.leases_granted == 300);
    f.finish(0);
}

// -- 15 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S15: ten thousand requests need one timer", "[S15][R7]") {
    VirtualSlot f(keeping(10s));
    f.load(a);
    CHECK(f.slot->status().counters.timer_waits == 1);
    for (int request = 0; request < 10'000; ++request) {
        f.slot->try_acquire(a).release();
        VirtualClock::advance(1ms);
        f.run_control();
    }
    CHECK(f.slot->status().counters.leases_granted == 10'000);
    // The first wait ended after 10 s, and found that there was nothing to do but to wait again.
    CHECK(f.slot->status().counters.timer_waits == 2);
    CHECK(f.world->counts(a).loads == 1);
    // The last release was 1 ms ago.
    check_goes_in(f, 10s - 1ms);
    CHECK(f.slot->status().counters.timer_waits == 2);
    f.finish(1);
}

TEST_CASE("S15: ten thousand requests of threads need one timer", "[S15][R7]") {
    ThreadedSlot f(keeping(1h));
    f.slot->ensure_loaded(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int request = 0; request < 2'500; ++request) {
                    f.slot->acquire(a).release();
                }
            });
        }
    }
    CHECK(f.slot->status().counters.leases_granted == 10'000);
    CHECK(f.slot->status().counters.timer_waits == 1);
    CHECK(f.world->counts(a).loads == 1);
    f.finish(0);
}

TEST_CASE("S15: an expiry that comes late finds a model in use and leaves it alone", "[S15][R7][R5]") {
    VirtualSlot f(keeping(10s));
    f.use(a);
    // The slot does not look for an hour; meanwhile the model is used again, and again given back.
    VirtualClock::advance(1h);
    auto lease = f.slot->try_acquire(a);
    CHECK(lease);
    f.run();
    CHECK(f.world->counts(a).live == 1);
    VirtualClock::advance(1h);
    lease.release();
    f.run();
    CHECK(f.world->counts(a).live == 1);
    check_goes_in(f, 10s);
    f.finish(1);
}

TEST_CASE("S15: a wait that was replaced after it had expired decides nothing", "[S15][R7][R5]") {
    VirtualSlot f(keeping(10s));
    f.use(a);
    // The wait for 10 s is due and not looked at, when a shorter one is wanted: for the 5 s after this release.
    VirtualClock::advance(10s);
    f.slot->acquire(a, request_keeping(5s)).release();
    f.run();
    CHECK(f.world->counts(a).live == 1);
    CHECK(f.resident().unloads_in == 5s);
    check_goes_in(f, 5s);
    CHECK(f.world->counts(a).loads == 1);
    f.finish(1);
}

TEST_CASE("S15: a wait that stands too late is replaced by an earlier one, once", "[S15][R7][R5]") {
    VirtualSlot f(keeping(10s));
    f.use(a);
    CHECK(f.slot->status().counters.timer_waits == 1);
    // The shortest comes first; the longer ones that follow need no replacement.
    for (const auto keep_alive : {2s, 4s, 8s}) {
        f.slot->try_acquire(a).release();
        f.use(a, request_keeping(keep_alive));
    }
    CHECK(f.slot->status().counters.timer_waits == 2);
    check_goes_in(f, 8s);
    f.finish(4);
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
    VirtualSlot f(keeping(10s));
    const auto load = f.ensure(a);
    f.run();
    REQUIRE(load.calls() == 1);
    CHECK(f.resident().idle_for == 0ns);
    f.pass(6s);
    CHECK(f.resident().unloads_in == 4s);
    check_goes_in(f, 4s);
    CHECK(f.slot->status().counters.leases_granted == 0);
    f.finish(1);
}

TEST_CASE("S16: loading ahead what is resident starts its keep-alive again, without a load", "[S16][R5]") {
    VirtualSlot f(keeping(10s));
    f.load(a);
    f.pass(6s);
    const auto again = f.ensure(a);
    f.run();
    REQUIRE(again.calls() == 1);
    CHECK(f.resident().unloads_in == 10s);
    check_goes_in(f, 10s);
    CHECK(f.world->counts(a).loads == 1);
    f.finish(2);
}

// -- 17 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S17: a keep-alive of zero unloads when the model is free", "[S17][R5]") {
    const bool by_request = GENERATE(true, false);
    VirtualSlot f(keeping(by_request ? 5min : 0ms));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = 0ms;
    }
    auto first = f.acquire(a, options);
    auto second = f.acquire(a, options);
    f.run();
    first.value().release();
    f.run();
    CHECK(f.world->counts(a).live == 1);
    second.value().release();
    f.run();
    CHECK(f.world->counts(a).live == 0);
    // Also when it was loaded ahead.
    const auto load = f.ensure(a, options);
    f.run();
    CHECK(load.calls() == 1);
    CHECK(f.world->counts(a).loads == 2);
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.slot->status().counters.timer_waits == 0);
    f.finish(3);
}

TEST_CASE("S17: a negative keep-alive is refused, by name", "[S17]") {
    VirtualSlot f;
    const auto with_negative = [&] {
        const VirtualSlot::Slot slot(FakeEmbeddingBackend(f.world), keeping(-1ms), f.executors());
    };
    CHECK_THROWS_AS(with_negative(), std::invalid_argument);
    CHECK_THROWS_WITH(with_negative(), contains_text("keep_alive"));
    const auto lease = f.acquire(a, request_keeping(-1ms));
    const auto load = f.ensure(a, request_keeping(std::chrono::milliseconds::min()));
    f.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.code() == errc::invalid_request);
    CHECK(lease.error().stage() == Stage::admission);
    CHECK(load.code() == errc::invalid_request);
    CHECK(f.world->counts().loads == 0);
    f.finish(2);
}

TEST_CASE("S17: a model that is kept for ever stays, without a timer", "[S17][R5]") {
    const bool by_request = GENERATE(true, false);
    VirtualSlot f(keeping(by_request ? 10s : keep_alive_forever));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = keep_alive_forever;
    }
    f.use(a, options);
    CHECK_FALSE(f.resident().unloads_in);
    f.pass(std::chrono::hours(24 * 365 * 100));
    CHECK(f.world->counts(a).live == 1);
    CHECK(f.slot->status().counters.timer_waits == 0);
    CHECK(f.idle());
    f.finish(1);
}

TEST_CASE("S17: a huge keep-alive does not overflow", "[S17][R5]") {
    const auto huge = GENERATE(std::chrono::milliseconds::max() - 1ms, std::chrono::milliseconds::max() / 2,
                               std::chrono::milliseconds(std::chrono::hours(24 * 365 * 200)));
    const bool by_request = GENERATE(true, false);
    VirtualSlot f(keeping(by_request ? 10s : huge));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = huge;
    }
    f.use(a, options);
    f.pass(std::chrono::hours(24 * 365 * 100));
    CHECK(f.world->counts(a).live == 1);
    f.pass(std::chrono::hours(24 * 365 * 100) - 1ns);
    CHECK(f.world->counts(a).live == 1);
    f.finish(1);
}

TEST_CASE("S17: a keep-alive of one request's holds until the next grant", "[S17][R5]") {
    VirtualSlot f(keeping(10s));
    f.use(a, request_keeping(1min));
    CHECK(f.resident().unloads_in == 1min);
    f.use(a);
    CHECK(f.resident().unloads_in == 10s);
    f.use(a, request_keeping(keep_alive_forever));
    CHECK_FALSE(f.resident().unloads_in);
    f.pass(1h);
    f.use(a, request_keeping(2s));
    check_goes_in(f, 2s);
    f.finish(4);
}

// -- 18 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S18: looking at a model does not keep it alive", "[S18][R5]") {
    VirtualManager f(keeping(10s));
    const auto answer = f.embed(a);
    f.run();
    CHECK(answer.calls() == 1);
    for (int look = 0; look < 999; ++look) {
        f.pass(10ms);
        const ManagerStatus status = f.models->status();
        REQUIRE(status.embedding.residents.size() == 1);
        CHECK(f.models->embedding().generation() == status.embedding.generation);
        CHECK_FALSE(f.models->embedding().try_acquire(b));
    }
    CHECK(f.models->embedding().status().residents.front().unloads_in == 10ms);
    f.pass(10ms);
    CHECK(f.world->counts(a).live == 0);
    f.finish(1);
}

TEST_CASE("S18: threads that look at a model all the time do not keep it alive", "[S18][R5]") {
    VirtualSlot f(keeping(10ms));
    f.use(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                while (!f.slot->status().residents.empty()) {
                    (void)f.slot->generation();
                }
            });
        }
        // They end when the model is gone.
        const TimeMachine time(f, 1ms);
        threads.clear();
    }
    CHECK(f.world->counts(a).live == 0);
    f.finish(1);
}

// -- 19 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S19: a request during the unload waits, and gets a new generation", "[S19][R6][R2]") {
    VirtualSlot f(keeping(10s));
    auto first = f.acquire(a);
    f.run();
    const Generation old = first.value().generation();
    first.value().release();
    Outcome<FakeLease> lease;
    during(*f.world, FakeStep::unload, [&] {
        CHECK(f.slot->generation() > old);
        lease = f.acquire(a);
        f.run_without_loading();
        CHECK(lease.calls() == 0);
        CHECK_FALSE(f.slot->try_acquire(a));
        CHECK(f.world->counts(a).loads == 1);
    });
    f.pass(10s);
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 2);
    CHECK(lease.value().generation() > old);
    CHECK(lease.value().generation() == f.slot->generation());
    CHECK(f.world->counts(a).most_resident == 1);
    lease.value().release();
    f.finish(2);
}

TEST_CASE("S19: a cancellation during the unload neither brings the old model back nor stops the unload",
          "[S19][R6][R9]") {
    VirtualSlot f(keeping(10s));
    f.use(a);
    asio::cancellation_signal leave;
    asio::cancellation_signal leave_unload;
    Outcome<FakeLease> lease;
    Outcome<> unload;
    during(*f.world, FakeStep::unload, [&] {
        lease = f.acquire(a, {}, leave.slot());
        unload = f.unload(a, UnloadMode::drain, leave_unload.slot());
        f.run_without_loading();
        leave.emit(asio::cancellation_type::terminal);
        leave_unload.emit(asio::cancellation_type::terminal);
        f.run_without_loading();
        CHECK(lease.code() == asio::error::operation_aborted);
        CHECK(unload.code() == asio::error::operation_aborted);
        CHECK(f.resident().state == ResidentState::unloading);
        CHECK_FALSE(f.slot->try_acquire(a));
    });
    f.pass(10s);
    CHECK(f.handlers.ran() == 3);
    CHECK(f.world->counts(a).unloads == 1);
    CHECK(f.world->counts(a).loads == 1);
    CHECK(f.slot->status().residents.empty());
    f.finish(3);
}

TEST_CASE("S19: a thread that asks during the unload waits, and gets a new generation", "[S19][R6][R2]") {
    ThreadedSlot f;
    const Generation old = f.slot->ensure_loaded(a);
    const auto gate = f.world->block(FakeStep::unload, a);
    const auto unload = f.unload(a);
    gate->await_held();
    const auto lease = f.acquire(a);
    CHECK_FALSE(f.slot->try_acquire(a));
    CHECK(f.slot->status().waiting == 1);
    CHECK(f.world->counts(a).loads == 1);
    CHECK(unload.calls() == 0);
    gate->open();
    unload.wait();
    lease.wait();
    FakeLease fresh = std::move(Outcome<FakeLease>(lease).value());
    CHECK(fresh->serial() == 2);
    CHECK(fresh.generation() > old);
    CHECK(f.world->counts(a).most_resident == 1);
    fresh.release();
    f.finish(2);
}

}  // namespace idle_test
