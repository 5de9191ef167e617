// H1, H2 and H13: loads that no request waits for any more, loads of what is to be unloaded, and what runs beside a
// load.

#include "support/bench.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace loads_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a", "f16");
const ModelKey b("b", "f16");

}  // namespace

TEST_CASE("A load is asked to stop when the last of its waiters has left, not before", "[H1][R3]") {
    SlotBench bench({.abandon_after = 0ms});
    Request<FakeLease> first;
    Request<Generation> second;
    int loads = 0;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        ++loads;
        first.cancel();
        run_ready(bench.control);
        CHECK(first.calls() == 1);
        CHECK_FALSE(call.stop.stop_requested());
        second.cancel();
        run_ready(bench.control);
        CHECK(call.stop.stop_requested());
    });
    bench.slot->async_acquire(a, first.token());
    bench.slot->async_ensure_loaded(a, second.token());
    bench.run();
    CHECK(loads == 1);
    CHECK(first.code() == asio::error::operation_aborted);
    CHECK(second.code() == asio::error::operation_aborted);
    CHECK(first.error().stage() == Stage::queue);
    CHECK(second.calls() == 1);
    bench.check_end();
}

TEST_CASE("A load that throws after it was asked to stop is aborted, not failed", "[H1][R11]") {
    SlotBench bench({.abandon_after = 0ms});
    Request<FakeLease> leaver;
    Request<FakeLease> joiner;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("stopped half-way"));
    bool joins = true;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (!joins) {
            return;
        }
        joins = false;
        leaver.cancel();
        run_ready(bench.control);
        CHECK(call.stop.stop_requested());
        // Joins a load that was asked to stop: what becomes of that is not its business.
        bench.slot->async_acquire(a, joiner.token());
    });
    bench.slot->async_acquire(a, leaver.token());
    bench.run();
    CHECK(leaver.code() == asio::error::operation_aborted);
    REQUIRE(joiner.calls() == 1);
    CHECK(joiner.value()->serial() == 2);

    const SlotStatus status = bench.slot->status();
    CHECK(status.failures.empty());
    CHECK(status.counters.load_failures == 0);
    CHECK(status.counters.loads_aborted == 1);
    CHECK(bench.events.count(EventType::load_failed) == 0);
    REQUIRE(bench.events.count(EventType::load_aborted) == 1);
    CHECK(bench.events.all(EventType::load_aborted).front().reason == Reason::abandoned);
    joiner.value().release();
    bench.check_end();
}

TEST_CASE("After an aborted load the next request starts clean, without a cooldown", "[H1][R11]") {
    SlotBench bench({.abandon_after = 0ms});
    Request<FakeLease> leaver;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("stopped half-way"));
    bench.world->on(FakeStep::load, [&](const FakeCall&) { leaver.cancel(); });
    bench.slot->async_acquire(a, leaver.token());
    bench.run();
    bench.world->on(FakeStep::load, {});
    CHECK_FALSE(bench.resident(a));
    CHECK(bench.lease(a)->serial() == 2);
    bench.check_end();
}

TEST_CASE("A queued load whose only waiter is cancelled never reaches the backend", "[H1]") {
    SlotBench bench;
    Request<FakeLease> leaver;
    bench.slot->async_acquire(a, leaver.token());
    run_ready(bench.control);
    CHECK(bench.is(a, ResidentState::queued));
    leaver.cancel();
    bench.run();
    CHECK(leaver.calls() == 1);
    CHECK(bench.world->counts().loads == 0);
    CHECK(bench.slot->status().counters.loads == 0);
    CHECK(bench.slot->status().counters.loads_aborted == 0);
    bench.check_end();
}

TEST_CASE("A load that succeeds although it was asked to stop serves who joined meanwhile", "[H1]") {
    SlotBench bench({.abandon_after = 0ms});
    Request<FakeLease> leaver;
    Outcome<FakeLease> joiner;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        leaver.cancel();
        run_ready(bench.control);
        CHECK(call.stop.stop_requested());
        bench.slot->async_acquire(a, joiner.handler());
    });
    bench.slot->async_acquire(a, leaver.token());
    bench.run();
    REQUIRE(joiner.calls() == 1);
    CHECK(joiner.value()->serial() == 1);
    CHECK(bench.world->counts().loads == 1);
    CHECK(bench.slot->status().counters.loads_aborted == 0);
    joiner.value().release();
    bench.check_end();
}

TEST_CASE("A load that succeeds although no request waits for it stays for its keep-alive", "[H1][R5]") {
    SlotBench bench({.keep_alive = 1min});
    Request<FakeLease> leaver;
    bench.world->on(FakeStep::load, [&](const FakeCall&) { leaver.cancel(); });
    bench.slot->async_acquire(a, leaver.token());
    bench.run();
    CHECK(leaver.calls() == 1);
    CHECK(bench.is(a, ResidentState::ready));
    bench.advance(1min - 1ns);
    CHECK(bench.is(a, ResidentState::ready));
    bench.advance(1ns);
    CHECK_FALSE(bench.resident(a));
    CHECK(bench.world->counts().unloads == 1);
    bench.check_end();
}

TEST_CASE("Unloading a key that is loading asks the load to stop and unloads what it yields unused", "[H2]") {
    SlotBench bench;
    Outcome<FakeLease> waiter;
    Outcome<> unloaded;
    std::vector<bool> stopped;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (stopped.empty()) {
            bench.slot->async_unload(a, unloaded.handler());
            CHECK(bench.slot->status().waiting == 1);
            run_ready(bench.control);
        }
        stopped.push_back(call.stop.stop_requested());
    });
    bench.slot->async_acquire(a, waiter.handler());
    bench.run();
    CHECK(stopped == std::vector{true, false});
    CHECK(unloaded.calls() == 1);
    CHECK(unloaded.exception() == nullptr);

    // Who waited has a fresh load, and the first model never answered anybody.
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.value()->serial() == 2);
    CHECK(bench.world->counts().unloads == 1);
    CHECK(bench.world->model(1).calls == 0);
    CHECK(bench.events.count(EventType::ready) == 1);
    waiter.value().release();
    bench.check_end();
}

TEST_CASE("Unloading a key whose load then throws is no failure, and who waited gets a fresh load", "[H2]") {
    SlotBench bench;
    Outcome<FakeLease> waiter;
    Outcome<> unloaded;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("stopped half-way"));
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (call.serial == 1) {
            bench.slot->async_unload(a, UnloadMode::revoke, unloaded.handler());
        }
    });
    bench.slot->async_acquire(a, waiter.handler());
    bench.run();
    CHECK(unloaded.calls() == 1);
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.value()->serial() == 2);
    CHECK(bench.slot->status().failures.empty());
    CHECK(bench.slot->status().counters.loads_aborted == 1);
    waiter.value().release();
    bench.check_end();
}

TEST_CASE("The unload of a key that is loading completes when its model is gone, and not for the load that follows",
          "[H2]") {
    SlotBench bench;
    Outcome<FakeLease> waiter;
    Outcome<> unloaded;
    std::size_t calls_in_second_load = 99;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (call.serial == 1) {
            bench.slot->async_unload(a, unloaded.handler());
        } else {
            run_ready(bench.control);
            calls_in_second_load = unloaded.calls();
        }
    });
    bench.world->on(FakeStep::unload, [&](const FakeCall& call) {
        if (call.serial == 1) {
            run_ready(bench.control);
            CHECK(unloaded.calls() == 0);
        }
    });
    bench.slot->async_acquire(a, waiter.handler());
    bench.run();
    CHECK(calls_in_second_load == 1);
    REQUIRE(waiter.calls() == 1);
    waiter.value().release();
    bench.check_end();
}

TEST_CASE("At most max_loads loads run at once, and an unload waits for none", "[H13][R2]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 3, .max_loads = 1});
    int loading = 0;
    int most_loading = 0;
    bool unloaded_in_load = false;
    Outcome<> unloaded;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        most_loading = std::max(most_loading, ++loading);
        if (call.key == b) {
            bench.slot->async_unload(a, unloaded.handler());
        }
        // Were another load ready to run beside this one, it would run in here; the unload does.
        run_ready(bench.loading, bench.control);
        unloaded_in_load = unloaded_in_load || unloaded.calls() == 1;
        --loading;
    });
    Outcome<FakeLease> first;
    Outcome<FakeLease> second;
    Outcome<FakeLease> third;
    bench.slot->async_acquire(a, first.handler());
    bench.run();
    first.value().release();
    bench.slot->async_acquire(b, second.handler());
    bench.slot->async_acquire(ModelKey("c"), third.handler());
    bench.run();
    CHECK(most_loading == 1);
    CHECK(unloaded_in_load);
    CHECK(bench.world->counts().most_loading == 1);
    second.value().release();
    third.value().release();
    bench.check_end();
}

TEST_CASE("A slow load delays neither a ready model, nor a deadline, nor the other slot", "[H13]") {
    ManagerBench bench({.embedding = {.max_resident = 2}});
    auto& models = *bench.manager;
    Outcome<Embeddings> before;
    models.async_embed(a, {"one"}, before.handler());
    bench.run();
    REQUIRE(before.calls() == 1);

    // The loading executor stands still from here on: a load as slow as can be.
    Outcome<Embeddings> slow;
    Outcome<Embeddings> late;
    Outcome<Embeddings> quick;
    models.async_embed(b, {"two"}, slow.handler());
    models.async_embed(b, {"three"}, {.timeout = 10ms}, late.handler());
    models.async_embed(a, {"four"}, quick.handler());
    run_ready(bench.control, bench.inference);
    CHECK(quick.calls() == 1);
    CHECK(quick.value().size() == 1);
    VirtualClock::advance(10ms);
    run_ready(bench.control, bench.inference);
    REQUIRE(late.calls() == 1);
    CHECK(late.code() == errc::timed_out);
    // Its load has a place, but the backend was not called.
    CHECK(late.error().stage() == Stage::queue);
    CHECK(slow.calls() == 0);
    bench.run();
    CHECK(slow.calls() == 1);
    bench.check_end();
}

TEST_CASE("A call that has its lease and waits for a thread is in stage inference", "[H13]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Embeddings> first;
    models.async_embed(a, {"one"}, first.handler());
    bench.run();

    Outcome<Embeddings> late;
    models.async_embed(a, {"two"}, {.timeout = 10ms}, late.handler());
    run_ready(bench.control);
    CHECK(models.embedding().status().leases == 1);
    VirtualClock::advance(10ms);
    run_ready(bench.control);
    REQUIRE(late.calls() == 1);
    CHECK(late.code() == errc::timed_out);
    CHECK(late.error().stage() == Stage::inference);
    // It never reaches the model, but its lease lives until the thread would have been there.
    CHECK(models.embedding().status().leases == 1);
    bench.run();
    CHECK(models.embedding().status().leases == 0);
    CHECK(bench.world->counts().calls == 1);
    CHECK(late.calls() == 1);
    bench.check_end();
}

}  // namespace loads_test
