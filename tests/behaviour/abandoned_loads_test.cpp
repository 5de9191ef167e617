// H1 and H13: loads that go on although their waiters have left, and loads that queue.

#include "support/bench.hpp"

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace abandoned_loads_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using testing::Gate;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey c("c");

/// A slot whose models take `length` to load, in steps of 10 ms, each of which lets the rest of the slot go on. A load
/// that is asked to stop throws.
void load_slowly(SlotBench& bench, VirtualClock::duration length) {
    bench.world->on(FakeStep::load, [&bench, length](const FakeCall& call) {
        for (VirtualClock::duration done{0}; done < length; done += 10ms) {
            VirtualClock::advance(10ms);
            run_ready(bench.control, bench.inference);
            if (call.stop.stop_requested()) {
                throw std::runtime_error("stopped half-way");
            }
        }
    });
}

/// A client that asks again at each timeout, until it is served.
class Client {
public:
    Client(SlotBench& bench, const ModelKey& key, std::chrono::milliseconds timeout)
        : bench_(bench), key_(key), timeout_(timeout) {
        ask();
    }

    [[nodiscard]] bool served() const { return served_; }
    [[nodiscard]] int tries() const { return tries_; }

private:
    void ask() {
        ++tries_;
        bench_.slot->async_ensure_loaded(key_, {.timeout = timeout_},
                                         [this](const std::exception_ptr& error, const Generation&) {
                                             served_ = !error;
                                             if (error && tries_ < 20) {
                                                 ask();
                                             }
                                         });
    }

    SlotBench& bench_;
    ModelKey key_;
    std::chrono::milliseconds timeout_;
    bool served_ = false;
    int tries_ = 0;
};

}  // namespace

// -- Loads that are abandoned -----------------------------------------------------------------------------------------

TEST_CASE("A load goes on when its last waiter has timed out, and the next request finds the model warm", "[H1][S42]") {
    SlotBench bench;
    load_slowly(bench, 500ms);
    Outcome<FakeLease> late;
    bench.slot->async_acquire(a, {.timeout = 300ms}, late.handler());
    bench.run();
    CHECK(late.code() == errc::timed_out);
    CHECK(late.error().stage() == Stage::load);
    CHECK(bench.is(a, ResidentState::ready));
    CHECK(bench.slot->status().counters.loads_aborted == 0);
    FakeLease lease = bench.lease(a, {.timeout = 0ms});
    CHECK(lease->serial() == 1);
    lease.release();
    bench.check_end();
}

TEST_CASE("A load goes on when its last waiter was cancelled, too", "[H1]") {
    SlotBench bench;
    Request<Generation> leaver;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        leaver.cancel();
        run_ready(bench.control);
        CHECK(leaver.calls() == 1);
        CHECK_FALSE(call.stop.stop_requested());
    });
    bench.slot->async_ensure_loaded(a, leaver.token());
    bench.run();
    CHECK(bench.is(a, ResidentState::ready));
    bench.check_end();
}

TEST_CASE("A load that has had no waiter for abandon_after is asked to stop, and is then aborted", "[H1][S4]") {
    SlotOptions options;
    options.abandon_after = 3s;
    SlotBench bench(options);
    Outcome<FakeLease> first;
    Outcome<FakeLease> second;
    std::vector<bool> stopped;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (!stopped.empty()) {
            return;
        }
        const auto pass = [&](VirtualClock::duration time) {
            VirtualClock::advance(time);
            run_ready(bench.control);
            stopped.push_back(call.stop.stop_requested());
        };
        pass(1s);
        CHECK(first.calls() == 1);
        pass(3s - 1ns);
        // Another request for the key: the count begins anew when that has left.
        bench.slot->async_acquire(a, {.timeout = 1s}, second.handler());
        pass(1s);
        CHECK(second.calls() == 1);
        pass(3s - 1ns);
        pass(1ns);
        throw std::runtime_error("stopped half-way");
    });
    bench.slot->async_acquire(a, {.timeout = 1s}, first.handler());
    bench.run();
    CHECK(stopped == std::vector{false, false, false, false, true});
    const SlotStatus status = bench.slot->status();
    CHECK(status.counters.loads_aborted == 1);
    CHECK(status.counters.load_failures == 0);
    CHECK(status.failures.empty());
    REQUIRE(bench.events.count(EventType::load_aborted) == 1);
    CHECK(bench.events.all(EventType::load_aborted).front().reason == Reason::abandoned);
    CHECK(bench.events.count(EventType::load_failed) == 0);
    // No cooldown.
    CHECK(bench.lease(a)->serial() == 2);
    bench.check_end();
}

TEST_CASE("An abandoned load that fails before it is asked to stop has failed, and its key cools down", "[H1][S5]") {
    SlotBench bench;
    Outcome<Generation> late;
    bench.world->on(FakeStep::load, [&](const FakeCall&) {
        VirtualClock::advance(1s);
        run_ready(bench.control);
        throw std::runtime_error("no such file");
    });
    bench.slot->async_ensure_loaded(a, {.timeout = 1s}, late.handler());
    bench.run();
    CHECK(late.code() == errc::timed_out);
    REQUIRE(bench.events.count(EventType::load_failed) == 1);
    CHECK(bench.events.all(EventType::load_failed).front().message == "no such file");
    CHECK(bench.slot->status().counters.load_failures == 1);
    Outcome<Generation> next;
    bench.slot->async_ensure_loaded(a, next.handler());
    bench.run();
    CHECK(next.code() == errc::cooling_down);
    bench.check_end();
}

// -- Clients whose timeout is shorter than the load -------------------------------------------------------------------

TEST_CASE("A client that asks again with a timeout shorter than the load is served after the first tries",
          "[H1][S42]") {
    SlotBench bench;
    load_slowly(bench, 500ms);
    const Client client(bench, a, 300ms);
    bench.run();
    CHECK(client.served());
    CHECK(client.tries() == 2);
    CHECK(bench.world->counts().loads == 1);
    bench.check_end();
}

TEST_CASE("A client with a short timeout is served although another key wants the place", "[H1][S42]") {
    // Without the stay that its load would earn `a`.
    SlotBench bench({.keep_alive = keep_alive_forever, .min_stay = 0ms});
    load_slowly(bench, 500ms);
    bench.lease(a).release();
    const Client client(bench, b, 300ms);
    Outcome<Generation> other;
    bench.slot->async_ensure_loaded(c, other.handler());
    bench.run();
    CHECK(client.served());
    CHECK(client.tries() == 2);
    CHECK(bench.world->counts(b).loads == 1);
    REQUIRE(other.calls() == 1);
    CHECK_FALSE(other.exception());
    bench.check_end();
}

TEST_CASE("A client with a timeout shorter than the drain before the load finds the model warm", "[H1][S42]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    Outcome<Generation> late;
    bench.slot->async_ensure_loaded(b, {.timeout = 300ms}, late.handler());
    bench.advance(300ms);
    CHECK(late.code() == errc::timed_out);
    CHECK(late.error().stage() == Stage::queue);
    // Its claim stays: the drain goes on.
    CHECK(bench.is(a, ResidentState::draining));
    bench.advance(700ms);
    held.release();
    bench.run();
    CHECK(bench.is(b, ResidentState::ready));
    CHECK(bench.lease(b, {.timeout = 0ms})->serial() == 2);
    bench.check_end();
}

TEST_CASE("A claim whose last waiter timed out ends after abandon_after", "[H1]") {
    SlotOptions options{.keep_alive = keep_alive_forever};
    options.abandon_after = 3s;
    SlotBench bench(options);
    FakeLease held = bench.lease(a);
    Outcome<Generation> late;
    bench.slot->async_ensure_loaded(b, {.timeout = 1s}, late.handler());
    bench.advance(1s);
    CHECK(late.calls() == 1);
    bench.advance(3s - 1ns);
    CHECK(bench.is(a, ResidentState::draining));
    bench.advance(1ns);
    CHECK(bench.is(a, ResidentState::ready));
    held.release();
    bench.run();
    CHECK(bench.world->counts(b).loads == 0);
    bench.check_end();
}

TEST_CASE("A claim whose last waiter was cancelled ends at once", "[H1][S22]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    Request<Generation> leaver;
    bench.slot->async_ensure_loaded(b, leaver.token());
    bench.run();
    CHECK(bench.is(a, ResidentState::draining));
    leaver.cancel();
    bench.run();
    CHECK(leaver.calls() == 1);
    CHECK(bench.is(a, ResidentState::ready));
    held.release();
    bench.run();
    CHECK(bench.world->counts(b).loads == 0);
    bench.check_end();
}

// -- Loads that queue -------------------------------------------------------------------------------------------------

namespace {

/// Whether the load of `key` has begun: it has a resident, which is not queued.
bool has_begun(const SlotBench& bench, const ModelKey& key) {
    const auto resident = bench.resident(key);
    return resident && resident->state != ResidentState::queued;
}

/// Room for all three models, and `loads` loads at once.
SlotOptions with_loads(std::size_t loads) {
    SlotOptions options{.keep_alive = 1min, .max_resident = 3};
    options.max_loads = loads;
    return options;
}

}  // namespace

TEST_CASE("A resident is queued until the backend is called for it", "[H13]") {
    SlotBench bench(with_loads(1));
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    // The loading executor does not run.
    run_ready(bench.control);
    CHECK(bench.is(a, ResidentState::queued));
    CHECK(bench.slot->status().counters.loads == 0);
    CHECK(bench.events.all().empty());
    bench.world->on(FakeStep::load, [&](const FakeCall&) {
        CHECK(bench.is(a, ResidentState::loading));
        CHECK(bench.slot->status().counters.loads == 1);
        run_ready(bench.control);
        CHECK(bench.events.types() == std::vector{EventType::load_started});
    });
    bench.run();
    CHECK(loaded.calls() == 1);
    bench.check_end();
}

TEST_CASE("A load that waits for another has not started: the backend was not called, and its waiters queue",
          "[H13][S24]") {
    SlotBench bench(with_loads(1));
    Outcome<Generation> slow;
    Outcome<Generation> late;
    Outcome<Generation> patient;
    bool is_first = true;
    bench.world->on(FakeStep::load, [&](const FakeCall&) {
        if (!std::exchange(is_first, false)) {
            return;
        }
        run_ready(bench.control, bench.inference, bench.loading);
        CHECK(bench.is(a, ResidentState::loading));
        CHECK_FALSE(has_begun(bench, b));
        CHECK_FALSE(has_begun(bench, c));
        CHECK(bench.slot->status().waiting == 3);
        CHECK(bench.slot->status().counters.loads == 1);
        CHECK(bench.events.count(EventType::load_started) == 1);
        VirtualClock::advance(1s);
        run_ready(bench.control);
        REQUIRE(late.calls() == 1);
        CHECK(late.code() == errc::timed_out);
        CHECK(late.error().stage() == Stage::queue);
        const std::vector<Event> timed_out = bench.events.all(EventType::timed_out);
        REQUIRE(timed_out.size() == 1);
        CHECK(timed_out[0].stage == Stage::queue);
    });
    bench.slot->async_ensure_loaded(a, slow.handler());
    bench.slot->async_ensure_loaded(b, {.timeout = 1s}, late.handler());
    bench.slot->async_ensure_loaded(c, patient.handler());
    bench.run();
    CHECK(slow.calls() == 1);
    REQUIRE(patient.calls() == 1);
    CHECK_FALSE(patient.exception());
    CHECK(bench.world->counts().most_loading == 1);
    CHECK(bench.slot->status().counters.loads == bench.world->counts().loads);
    CHECK(bench.events.count(EventType::load_started) == bench.world->counts().loads);
    bench.check_end();
}

TEST_CASE("A queued load whose last waiter is cancelled never reaches the backend", "[H1][H13]") {
    SlotBench bench(with_loads(1));
    Outcome<Generation> slow;
    Request<Generation> leaver;
    bench.world->on(FakeStep::load, [&](const FakeCall&) {
        CHECK_FALSE(has_begun(bench, b));
        leaver.cancel();
        run_ready(bench.control);
        CHECK(leaver.calls() == 1);
        CHECK_FALSE(bench.resident(b));
    });
    bench.slot->async_ensure_loaded(a, slow.handler());
    bench.slot->async_ensure_loaded(b, leaver.token());
    bench.run();
    CHECK(slow.calls() == 1);
    CHECK(leaver.error().stage() == Stage::queue);
    CHECK(bench.world->counts(b).loads == 0);
    CHECK(bench.slot->status().counters.loads == 1);
    CHECK(bench.slot->status().counters.loads_aborted == 0);
    CHECK(bench.events.count(EventType::load_aborted) == 0);
    bench.check_end();
}

TEST_CASE("A queued load whose last waiter timed out keeps its turn for abandon_after", "[H1][H13]") {
    for (const bool too_long : {false, true}) {
        INFO("too long " << too_long);
        SlotOptions options = with_loads(1);
        options.abandon_after = 3s;
        SlotBench bench(options);
        Outcome<Generation> slow;
        Outcome<Generation> late;
        bool is_first = true;
        bench.world->on(FakeStep::load, [&](const FakeCall&) {
            if (std::exchange(is_first, false)) {
                VirtualClock::advance(1s);
                run_ready(bench.control);
                CHECK(late.code() == errc::timed_out);
                VirtualClock::advance(too_long ? 3s : 3s - 1ns);
                run_ready(bench.control);
                CHECK_FALSE(has_begun(bench, b));
            }
        });
        bench.slot->async_ensure_loaded(a, slow.handler());
        bench.slot->async_ensure_loaded(b, {.timeout = 1s}, late.handler());
        bench.run();
        CHECK(slow.calls() == 1);
        CHECK(bench.world->counts(b).loads == (too_long ? 0 : 1));
        bench.check_end();
    }
}

TEST_CASE("max_loads loads run at once, and the next one after the first of them", "[H13][R2]") {
    SlotBench bench(with_loads(2));
    std::vector<Outcome<Generation>> loaded(3);
    std::size_t depth = 0;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        // The second load runs within the first.
        if (++depth <= 2) {
            run_ready(bench.loading, bench.control);
        }
        if (call.key == b) {
            CHECK(bench.is(a, ResidentState::loading));
            CHECK(bench.is(b, ResidentState::loading));
            CHECK_FALSE(has_begun(bench, c));
        }
    });
    bench.slot->async_ensure_loaded(a, loaded[0].handler());
    bench.slot->async_ensure_loaded(b, loaded[1].handler());
    bench.slot->async_ensure_loaded(c, loaded[2].handler());
    bench.run();
    for (const Outcome<Generation>& each : loaded) {
        REQUIRE(each.calls() == 1);
        CHECK_FALSE(each.exception());
    }
    CHECK(bench.world->counts().most_loading == 2);
    bench.check_end();
}

TEST_CASE("A queued load is dropped by a shutdown, and its waiter completes at once", "[H13][S30]") {
    SlotBench bench(with_loads(1));
    Outcome<Generation> slow;
    Outcome<Generation> queued;
    Outcome<ShutdownReport> report;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        bench.slot->async_shutdown(report.handler());
        run_ready(bench.control);
        CHECK(queued.code() == errc::shutting_down);
        CHECK(call.stop.stop_requested());
        CHECK_FALSE(bench.resident(b));
    });
    bench.slot->async_ensure_loaded(a, slow.handler());
    bench.slot->async_ensure_loaded(b, queued.handler());
    bench.run();
    CHECK(slow.code() == errc::shutting_down);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    CHECK(bench.world->counts(b).loads == 0);
    bench.check_nothing_left();
}

TEST_CASE("An unload does not wait for a load: an idle model goes when its keep-alive has passed", "[H13][S7]") {
    SlotBench bench(with_loads(1));
    bench.lease(a).release();
    Outcome<Generation> slow;
    Outcome<> unloaded;
    bench.world->on(FakeStep::load, [&](const FakeCall&) {
        VirtualClock::advance(1min);
        // The loading executor has another thread.
        run_ready(bench.control, bench.loading);
        CHECK_FALSE(bench.resident(a));
        CHECK(bench.world->counts(a).unloads == 1);
    });
    bench.slot->async_ensure_loaded(b, slow.handler());
    bench.run();
    CHECK(slow.calls() == 1);
    bench.check_end();
}

TEST_CASE("An unload does not wait for a load, on threads of the library's own", "[H13][S7]") {
    const auto world = std::make_shared<FakeWorld>();
    ModelSlot<PlainBackend> slot(PlainBackend(world), with_loads(1));
    (void)slot.ensure_loaded(a);
    const std::shared_ptr<Gate> gate = world->block(FakeStep::load, b);
    Outcome<Generation> slow;
    slot.async_ensure_loaded(b, slow.handler());
    gate->await_held();
    slot.unload(a);
    CHECK(world->counts(a).unloads == 1);
    CHECK(gate->held() == 1);
    gate->open();
    slow.wait();
    CHECK(slow.calls() == 1);
    CHECK(slot.shutdown().clean());
    CHECK(world->counts().live == 0);
}

}  // namespace abandoned_loads_test
