// S15, H14, R7: the one timer of a slot, what it is set for, and that deadlines follow from it.

#include "residency/core/slot_scheduler.hpp"

#include "support/bench.hpp"
#include "support/keep_alive.hpp"
#include "support/time_machine.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace alarm_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// -- Expiry -----------------------------------------------------------------------------------------------------------

TEST_CASE("S15: ten thousand requests need one timer", "[S15][R7][H14]") {
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

TEST_CASE("S15: ten thousand requests of threads need one timer", "[S15][R7][H14]") {
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

TEST_CASE("S15: a timer that was replaced unloads no other model, while threads have it replaced all the time",
          "[S15][R5][R7]") {
    constexpr std::size_t users = 3;
    SlotOptions options;
    options.max_resident = users;
    options.keep_alive = 50ms;
    SlotBench bench(options);
    const std::array<ModelKey, users> keys{a, b, c};
    // Each key has one user, who knows until when its model must stay. All share the alarm.
    std::array<std::atomic<std::int64_t>, users> stays_until{};
    std::atomic<int> idle_unloads{0};
    std::atomic<int> too_early{0};
    bench.events.on_event([&](const Event& event) {
        if (event.type == EventType::unload_started) {
            const auto user = static_cast<std::size_t>(std::find(keys.begin(), keys.end(), event.key) - keys.begin());
            too_early += VirtualClock::now().time_since_epoch().count() < stays_until.at(user) ? 1 : 0;
            ++idle_unloads;
        }
    });
    {
        const TimeMachine time(bench, 1ms);
        std::vector<std::jthread> threads;
        for (std::size_t user = 0; user < users; ++user) {
            threads.emplace_back([&, user] {
                for (std::size_t round = user; idle_unloads < 40; ++round) {
                    RequestOptions stay;
                    stay.keep_alive = std::chrono::milliseconds(1 + round * 7 % 11);
                    FakeLease lease = bench.slot->acquire(keys[user], stay);
                    stays_until[user] = (VirtualClock::now().time_since_epoch() + *stay.keep_alive).count();
                    lease.release();
                    const auto until = VirtualClock::now() + std::chrono::milliseconds(round * 5 % 13);
                    while (VirtualClock::now() < until) {
                        std::this_thread::yield();
                    }
                    // No longer: by the next grant it may have another.
                    stays_until[user] = 0;
                }
            });
        }
    }
    CHECK(too_early == 0);
    // The alarm was started no more often than there was a reason to: once for each request, and once for each expiry.
    const SlotCounters counters = bench.slot->status().counters;
    CHECK(counters.timer_waits <= 2 * counters.leases_granted + counters.unloaded());
    bench.finish(0);
}

TEST_CASE("While nothing is resident the slot waits for nothing", "[H14][R7]") {
    SlotBench bench({.keep_alive = 1min});
    CHECK(bench.at_rest());
    bench.lease(a).release();
    CHECK_FALSE(bench.at_rest());
    bench.advance(1min);
    CHECK_FALSE(bench.resident(a));
    CHECK(bench.at_rest());
    bench.check_end();
}

// -- Deadlines --------------------------------------------------------------------------------------------------------

TEST_CASE("Deadlines cost no timer each: their waits follow from the shortest of them", "[H14]") {
    SlotBench bench({.keep_alive = 1min, .max_leases = 1});
    FakeLease held = bench.lease(a);
    const std::uint64_t before = bench.slot->status().counters.timer_waits;
    constexpr int rounds = 6;
    constexpr int each = 100;
    Outcome<FakeLease> counted;
    std::size_t timed_out = 0;
    for (int round = 0; round < rounds; ++round) {
        for (int request = 0; request < each; ++request) {
            bench.slot->async_acquire(a, {.timeout = 10s},
                                      [&](std::exception_ptr error, FakeLease) { timed_out += error ? 1 : 0; });
            bench.run();
        }
        bench.advance(10s);
    }
    CHECK(timed_out == rounds * each);
    // The window was as long as the keep-alive: 2 + 60 s / 10 s.
    CHECK(bench.slot->status().counters.timer_waits - before <= 2 + rounds);
    held.release();
    bench.check_end();
}

TEST_CASE("Deadlines of calls that end before the alarm was set for them cost no wait each either", "[H14]") {
    // One executor for all: a call ends before the handler of the wait that it had cancelled runs.
    Bench bench;
    const Executors executors = Executors::all(bench.control.get_executor());
    ManagerBench::Manager manager(testing::FakeEmbeddingBackend(bench.world), testing::FakeRerankerBackend(bench.world),
                                  {.embedding = {.keep_alive = 1min}}, executors);
    Outcome<Generation> loaded;
    manager.embedding().async_ensure_loaded(a, loaded.handler());
    bench.run();
    const std::uint64_t before = manager.embedding().status().counters.timer_waits;
    constexpr int calls = 1000;
    std::size_t answered = 0;
    for (int call = 0; call < calls; ++call) {
        manager.async_embed(a, {"one"}, {.timeout = 10s},
                            [&](std::exception_ptr error, Embeddings) { answered += error ? 0 : 1; });
        bench.advance(60ms);
    }
    CHECK(answered == calls);
    // 60 s have passed, one window: 2 + 60 s / 10 s.
    CHECK(manager.embedding().status().counters.timer_waits - before <= 8);
    bench.check_ends_clean(manager);
}

TEST_CASE("However many move the alarm before control has run, one wait is cancelled and one started", "[H14][R7]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_leases = 1});
    const FakeLease held = bench.lease(a);
    std::vector<Outcome<FakeLease>> waiting(3);
    auto timeout = 30s;
    for (Outcome<FakeLease>& outcome : waiting) {
        bench.slot->async_acquire(a, {.timeout = timeout}, outcome.handler());
        timeout -= 10s;
    }
    // The first started a wait, the second cancelled it, and the next starts only when the handler of that has run.
    CHECK(bench.slot->status().counters.timer_waits == 1);
    bench.control.restart();
    CHECK(bench.control.poll() == 1);
    CHECK(bench.slot->status().counters.timer_waits == 2);
    for (std::size_t ended = 1; ended <= waiting.size(); ++ended) {
        bench.advance(10s);
        CHECK(std::count_if(waiting.begin(), waiting.end(), [](const auto& outcome) { return outcome.calls() == 1; }) ==
              static_cast<std::ptrdiff_t>(ended));
    }
}

TEST_CASE("A deadline that comes earlier than the alarm replaces its wait, and a later one does not", "[H14][R7]") {
    SlotBench bench({.max_leases = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> late;
    Outcome<FakeLease> early;
    Outcome<FakeLease> latest;
    bench.slot->async_acquire(a, {.timeout = 20s}, late.handler());
    bench.run();
    const std::uint64_t waits = bench.slot->status().counters.timer_waits;
    bench.slot->async_acquire(a, {.timeout = 30s}, latest.handler());
    bench.run();
    CHECK(bench.slot->status().counters.timer_waits == waits);
    bench.slot->async_acquire(a, {.timeout = 10s}, early.handler());
    bench.run();
    CHECK(bench.slot->status().counters.timer_waits == waits + 1);
    bench.advance(10s);
    CHECK(early.code() == errc::timed_out);
    CHECK(late.calls() == 0);
    bench.advance(10s);
    CHECK(late.code() == errc::timed_out);
    CHECK(latest.calls() == 0);
    bench.advance(10s);
    CHECK(latest.code() == errc::timed_out);
    held.release();
    bench.check_end();
}

TEST_CASE("The deadline covers queue, load and inference together", "[H14]") {
    ManagerBench bench({.embedding = {.max_leases = 1}});
    auto& models = *bench.manager;
    FakeStep slow = FakeStep::load;
    for (const FakeStep step : {FakeStep::load, FakeStep::inference}) {
        bench.world->on(step, [&](const FakeCall& call) {
            VirtualClock::advance(call.step == slow ? 60ms : 50ms);
            run_ready(bench.control);
        });
    }
    Outcome<Embeddings> answer;
    models.async_embed(a, {"text"}, {.timeout = 100ms}, answer.handler());
    bench.run();
    REQUIRE(answer.calls() == 1);
    // 60 ms for the load and 40 of the 50 for the inference.
    CHECK(answer.code() == errc::timed_out);
    CHECK(answer.error().stage() == Stage::inference);
    Outcome<Embeddings> enough;
    models.async_embed(a, {"text"}, {.timeout = 51ms}, enough.handler());
    bench.run();
    CHECK(enough.value().size() == 1);
    bench.check_end();
}

}  // namespace alarm_test
