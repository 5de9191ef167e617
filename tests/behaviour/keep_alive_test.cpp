// H7 and H14: how long a model stays, and what wakes the slot.

#include "support/bench.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace keep_alive_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

// In how long `key` is unloaded, if that is due.
std::optional<std::chrono::nanoseconds> unloads_in(const SlotBench& bench, const ModelKey& key) {
    const std::optional<ResidentStatus> resident = bench.resident(key);
    REQUIRE(resident);
    return resident->unloads_in;
}

}  // namespace

TEST_CASE("A keep-alive override holds from its grant to the next grant, which restores the slot's", "[H7][R5]") {
    SlotBench bench({.keep_alive = 1min});
    bench.lease(a, {.keep_alive = 10s}).release();
    CHECK(unloads_in(bench, a) == 10s);
    bench.lease(a).release();
    CHECK(unloads_in(bench, a) == 1min);
    bench.lease(a, {.keep_alive = 5min}).release();
    CHECK(unloads_in(bench, a) == 5min);
    bench.advance(5min - 1ns);
    CHECK(bench.is(a, ResidentState::ready));
    bench.advance(1ns);
    CHECK_FALSE(bench.resident(a));
    // It ended with its residency.
    bench.lease(a).release();
    CHECK(unloads_in(bench, a) == 1min);
    bench.check_end();
}

TEST_CASE("Of several grants the last one's keep-alive wins, in whichever order the leases end", "[H7]") {
    SlotBench bench({.keep_alive = 1min});
    FakeLease first = bench.lease(a, {.keep_alive = 5min});
    FakeLease last = bench.lease(a, {.keep_alive = 10s});
    last.release();
    first.release();
    CHECK(unloads_in(bench, a) == 10s);
    bench.advance(10s);
    CHECK_FALSE(bench.resident(a));
    bench.check_end();
}

TEST_CASE("An override is applied at grant, not when the request is made", "[H7]") {
    SlotBench bench({.keep_alive = 1min, .max_leases = 1});
    FakeLease held = bench.lease(a, {.keep_alive = 20s});
    Request<FakeLease> waiter;
    bench.slot->async_acquire(a, {.keep_alive = 5s}, waiter.token());
    bench.run();
    waiter.cancel();
    bench.run();
    held.release();
    CHECK(unloads_in(bench, a) == 20s);
    bench.check_end();
}

TEST_CASE("A keep-alive of zero unloads the model when it is free", "[H7]") {
    SlotBench bench;
    FakeLease first = bench.lease(a);
    FakeLease last = bench.lease(a, {.keep_alive = 0ms});
    last.release();
    bench.run();
    CHECK(bench.is(a, ResidentState::ready));
    first.release();
    bench.run();
    CHECK_FALSE(bench.resident(a));
    CHECK(bench.slot->status().counters.unloads[static_cast<std::size_t>(Reason::idle)] == 1);
    bench.check_end();
}

TEST_CASE("ensure_loaded counts as a use: it starts a full keep-alive, and its override holds", "[H7][R5]") {
    SlotBench bench({.keep_alive = 1min});
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    bench.run();
    bench.advance(40s);
    CHECK(unloads_in(bench, a) == 20s);
    Outcome<Generation> again;
    bench.slot->async_ensure_loaded(a, again.handler());
    bench.run();
    CHECK(again.value() == loaded.value());
    CHECK(unloads_in(bench, a) == 1min);
    bench.advance(1min - 1ns);
    CHECK(bench.is(a, ResidentState::ready));

    Outcome<Generation> shorter;
    bench.slot->async_ensure_loaded(a, {.keep_alive = 3s}, shorter.handler());
    bench.run();
    CHECK(unloads_in(bench, a) == 3s);
    bench.advance(3s);
    CHECK_FALSE(bench.resident(a));
    bench.check_end();
}

TEST_CASE("Looking at status, or trying in vain, does not count as use", "[H7][R5]") {
    SlotBench bench({.keep_alive = 1min});
    bench.lease(a).release();
    for (int second = 0; second < 59; ++second) {
        bench.advance(1s);
        CHECK(bench.slot->status().residents.size() == 1);
        CHECK(bench.slot->generation() == Generation{1});
        CHECK_FALSE(bench.slot->try_acquire(b));
    }
    bench.advance(1s);
    CHECK_FALSE(bench.resident(a));
    bench.check_end();
}

TEST_CASE("Forever exempts from idleness, not from switch, unload and shutdown", "[H7]") {
    SlotBench bench({.keep_alive = 1min});
    const auto pin = [&] {
        bench.lease(a, {.keep_alive = keep_alive_forever}).release();
        bench.advance(24h * 365);
        REQUIRE(bench.is(a, ResidentState::ready));
        CHECK(unloads_in(bench, a) == std::nullopt);
    };
    pin();
    SECTION("switch") {
        bench.lease(b).release();
        CHECK_FALSE(bench.resident(a));
    }
    SECTION("unload") {
        Outcome<> unloaded;
        bench.slot->async_unload(a, unloaded.handler());
        bench.run();
        CHECK(unloaded.calls() == 1);
        CHECK_FALSE(bench.resident(a));
    }
    SECTION("shutdown") {}
    SECTION("a grant without an override restores the slot's") {
        bench.lease(a).release();
        bench.advance(1min);
        CHECK_FALSE(bench.resident(a));
    }
    bench.check_end();
}

TEST_CASE("The keep-alive counts from the end of the last lease, or from the load if there was none", "[H7][R5]") {
    SlotBench bench({.keep_alive = 1min});
    FakeLease held = bench.lease(a);
    bench.advance(10min);
    CHECK(bench.is(a, ResidentState::ready));
    held.release();
    CHECK(unloads_in(bench, a) == 1min);
    bench.advance(1min);
    CHECK_FALSE(bench.resident(a));

    Request<Generation> unasked;
    bench.world->on(FakeStep::load, [&](const FakeCall&) { VirtualClock::advance(7s); });
    bench.slot->async_ensure_loaded(b, unasked.token());
    bench.run();
    CHECK(unloads_in(bench, b) == 1min);
    bench.check_end();
}

TEST_CASE("A keep-alive window costs at most two waits, however many requests there are", "[H14][R7]") {
    SlotBench bench({.keep_alive = 1min});
    bench.lease(a).release();
    const std::uint64_t before = bench.slot->status().counters.timer_waits;
    for (int request = 0; request < 1000; ++request) {
        bench.lease(a).release();
        bench.advance(60ms);
    }
    // 60 s have passed: one window.
    CHECK(bench.slot->status().counters.timer_waits - before <= 2);
    CHECK(bench.is(a, ResidentState::ready));
    bench.advance(1min);
    CHECK_FALSE(bench.resident(a));
    bench.check_end();
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

TEST_CASE("A deadline in the queue is met within a millisecond, by the alarm alone", "[H14]") {
    SlotBench bench({.max_leases = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> waiter;
    bench.slot->async_acquire(a, {.timeout = 250ms}, waiter.handler());
    bench.advance(250ms - 1ns);
    CHECK(waiter.calls() == 0);
    bench.advance(1ms);
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.code() == errc::timed_out);
    CHECK(waiter.error().stage() == Stage::queue);
    CHECK(bench.slot->status().waiting == 0);
    CHECK(bench.slot->status().counters.timed_out == 1);
    CHECK(bench.events.count(EventType::timed_out) == 1);
    held.release();
    bench.check_end();
}

TEST_CASE("A deadline of a running call is met by the alarm, while the model is still at work", "[H14]") {
    ManagerBench bench;
    Outcome<Embeddings> answer;
    std::size_t ended_in_time = 0;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        VirtualClock::advance(250ms - 1ns);
        run_ready(bench.control);
        CHECK(answer.calls() == 0);
        CHECK_FALSE(call.stop.stop_requested());
        VirtualClock::advance(1ms);
        run_ready(bench.control);
        ended_in_time = answer.calls();
        CHECK(call.stop.stop_requested());
    });
    bench.manager->async_embed(a, {"text"}, {.timeout = 250ms}, answer.handler());
    bench.run();
    CHECK(ended_in_time == 1);
    CHECK(answer.calls() == 1);
    CHECK(answer.code() == errc::timed_out);
    CHECK(answer.error().stage() == Stage::inference);
    bench.check_end();
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

}  // namespace keep_alive_test
