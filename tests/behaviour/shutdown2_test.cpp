// H9: several shutdowns, deadlines, and what outlives them.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/deferred.hpp>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace shutdown2_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

}  // namespace

TEST_CASE("Concurrent shutdowns each complete at their own deadline", "[H9]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> patient;
    Outcome<ShutdownReport> late;
    Outcome<ShutdownReport> early;
    Outcome<ShutdownReport> at_once;
    bench.slot->async_shutdown(patient.handler());
    bench.slot->async_shutdown(20s, late.handler());
    bench.slot->async_shutdown(10s, early.handler());
    bench.slot->async_shutdown(0s, at_once.handler());
    CHECK(at_once.calls() == 0);
    bench.run();
    REQUIRE(at_once.calls() == 1);
    CHECK(early.calls() == 0);
    const std::vector<Leftover> left{{"model", a, ResidentState::draining, 1}};
    CHECK(at_once.value().leftovers == left);

    bench.advance(10s);
    REQUIRE(early.calls() == 1);
    CHECK(early.value().leftovers == left);
    CHECK_FALSE(early.value().clean());
    CHECK(late.calls() == 0);
    bench.advance(10s);
    REQUIRE(late.calls() == 1);
    CHECK_FALSE(late.value().clean());
    CHECK(patient.calls() == 0);

    // What outlives the deadline is unloaded when it ends.
    CHECK(bench.world->counts().live == 1);
    held.release();
    bench.run();
    REQUIRE(patient.calls() == 1);
    CHECK(patient.value().clean());
    CHECK(bench.world->counts().live == 0);
    for (const auto* outcome : {&at_once, &early, &late, &patient}) {
        CHECK(outcome->calls() == 1);
    }
    bench.check_nothing_left();
}

TEST_CASE("A deadline that is not needed leaves no timer behind", "[H9][R12]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(1h, report.handler());
    bench.run();
    CHECK_FALSE(bench.at_rest());
    held.release();
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("A shutdown completes after the last handler of the alarm has run", "[H9][R7][R12]") {
    SlotBench bench({.keep_alive = 1min});
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{.keep_alive = 1min}, bench.executors());
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    bench.run();
    REQUIRE(loaded.calls() == 1);
    // The alarm stands. The handler is on a context of its own, so that nothing of control's need have run before it.
    asio::io_context elsewhere;
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(asio::bind_executor(elsewhere, report.handler()));
    while (report.calls() == 0) {
        bench.loading.restart();
        bench.control.restart();
        REQUIRE(run_ready(elsewhere) + bench.loading.poll_one() + bench.control.poll_one() != 0);
    }
    CHECK(is_idle(bench.control));
    bench.slot.reset();
    bench.check_nothing_left();
}

TEST_CASE("A shutdown names queued and unloading residents in its report", "[H9]") {
    SlotBench bench({.max_resident = 2});
    Outcome<FakeLease> waiter;
    bench.lease(a).release();
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.slot->async_acquire(b, waiter.handler());
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(1s, report.handler());
    run_ready(bench.control);
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.code() == errc::shutting_down);
    // The backend was not called yet.
    CHECK(waiter.error().stage() == Stage::queue);
    VirtualClock::advance(1s);
    run_ready(bench.control);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().leftovers ==
          std::vector<Leftover>{{"model", a, ResidentState::unloading, 0}, {"model", b, ResidentState::queued, 0}});
    Outcome<ShutdownReport> clean;
    bench.slot->async_shutdown(clean.handler());
    bench.run();
    CHECK(clean.value().clean());
    CHECK(unloaded.calls() == 1);
    bench.check_nothing_left();
}

TEST_CASE("A manager's shutdown waits for both its slots, and reports on both", "[H9]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Lease<testing::FakeEmbedder>> embedder;
    Outcome<Lease<testing::FakeReranker>> reranker;
    models.embedding().async_acquire(a, embedder.handler());
    models.reranker().async_acquire(b, reranker.handler());
    bench.run();
    Outcome<ShutdownReport> early;
    Outcome<ShutdownReport> patient;
    models.async_shutdown(5s, early.handler());
    models.async_shutdown(patient.handler());
    bench.advance(5s);
    REQUIRE(early.calls() == 1);
    REQUIRE(early.value().leftovers.size() == 2);
    CHECK(early.value().leftovers[0].slot != early.value().leftovers[1].slot);
    embedder.value().release();
    bench.run();
    CHECK(patient.calls() == 0);
    reranker.value().release();
    bench.run();
    REQUIRE(patient.calls() == 1);
    CHECK(patient.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("Cancelling a shutdown ends the wait, not the shutdown", "[H9]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Request<ShutdownReport> leaver;
    bench.slot->async_shutdown(leaver.token());
    bench.run();
    leaver.cancel(asio::cancellation_type::total);
    bench.run();
    REQUIRE(leaver.calls() == 1);
    CHECK(leaver.code() == asio::error::operation_aborted);
    CHECK(bench.slot->status().shutting_down);
    Outcome<FakeLease> refused;
    bench.slot->async_acquire(a, refused.handler());
    bench.run();
    CHECK(refused.code() == errc::shutting_down);
    held.release();
    bench.run();
    CHECK(bench.world->counts().live == 0);
    CHECK(leaver.calls() == 1);
    bench.check_end();
}

TEST_CASE("Shutdown asks a load to stop, lets a call end, and fails each waiter", "[H9][R12]") {
    ManagerBench bench({.embedding = {.max_resident = 2, .max_leases = 1}});
    auto& models = *bench.manager;
    Outcome<ShutdownReport> report;
    Outcome<Embeddings> running;
    Outcome<Embeddings> waiting;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        models.async_embed(a, {"waits"}, waiting.handler());
        models.async_shutdown(report.handler());
        run_ready(bench.control);
        CHECK(waiting.calls() == 1);
        CHECK(report.calls() == 0);
        // What runs ends as if nothing had happened.
        CHECK_FALSE(call.stop.stop_requested());
    });
    models.async_embed(a, {"runs"}, running.handler());
    bench.run();
    CHECK(running.value().size() == 1);
    CHECK(waiting.code() == errc::shutting_down);
    CHECK(waiting.error().stage() == Stage::queue);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("An unload that is waited for when its slot is destroyed fails with shutting_down", "[H9][R12]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.run();
    bench.slot.reset();
    bench.run();
    REQUIRE(unloaded.calls() == 1);
    // Its model is still there: that must not look like success.
    CHECK(bench.world->counts().live == 1);
    CHECK(unloaded.code() == errc::shutting_down);
    CHECK(unloaded.error().stage() == Stage::unload);
    held.release();
    bench.check_nothing_left();
}

TEST_CASE("A shutdown that is waited for when its slot is destroyed reports what is left", "[H9]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(report.handler());
    bench.run();
    bench.slot.reset();
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(report.value().leftovers == std::vector<Leftover>{{"model", a, ResidentState::draining, 1}});
    held.release();
    bench.check_nothing_left();
}

TEST_CASE("A caller that stopped waiting for an unload leaves nothing behind in the slot", "[H8][R9]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    // What keeps this keeps the memory of the operation.
    const auto witness = std::make_shared<int>(0);
    for (int round = 0; round < 100; ++round) {
        asio::cancellation_signal leave;
        bench.slot->async_unload(a, asio::bind_cancellation_slot(leave.slot(), [witness](std::exception_ptr) {}));
        leave.emit(asio::cancellation_type::terminal);
        bench.run();
    }
    CHECK(witness.use_count() == 1);
    held.release();
    bench.check_end();
}

TEST_CASE("What is started after its slot was destroyed completes at once with what is left, with an observer too",
          "[H9][R9][R12]") {
    // On the real clock, with threads of its own.
    const auto world = std::make_shared<FakeWorld>();
    EventLog events;
    asio::io_context elsewhere;
    FakeLease held;
    for (const bool leased : {false, true}) {
        INFO("leased: " << leased);
        Outcome<ShutdownReport> shut;
        Outcome<ShutdownReport> shut_in_time;
        Outcome<> unloaded;
        std::optional<ModelSlot<PlainBackend>> slot(std::in_place, PlainBackend(world), SlotOptions{}, Executors{},
                                                    events.observer());
        if (leased) {
            held = slot->acquire(a);
        }
        auto shutdown = slot->async_shutdown(asio::deferred);
        auto shutdown_in_time = slot->async_shutdown(1h, asio::deferred);
        auto unload = slot->async_unload(a, asio::deferred);
        slot.reset();
        std::move(shutdown)(asio::bind_executor(elsewhere, shut.handler()));
        std::move(shutdown_in_time)(asio::bind_executor(elsewhere, shut_in_time.handler()));
        std::move(unload)(asio::bind_executor(elsewhere, unloaded.handler()));
        run_ready(elsewhere);
        REQUIRE(shut.calls() == 1);
        REQUIRE(shut_in_time.calls() == 1);
        REQUIRE(unloaded.calls() == 1);
        CHECK(shut.value().leftovers.size() == (leased ? 1 : 0));
        CHECK(shut_in_time.value().leftovers.size() == (leased ? 1 : 0));
        CHECK((unloaded.code() == errc::shutting_down) == leased);
    }
    held.release();
    // Nothing of the slots is left: only the world's own reference.
    CHECK(world->counts().live == 0);
    CHECK(world.use_count() == 1);
}

}  // namespace shutdown2_test
