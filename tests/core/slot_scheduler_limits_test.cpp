#include "residency/core/slot_scheduler.hpp"

#include "support/catch.hpp"
#include "support/slot_table.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

// What bounds a SlotScheduler: calls, loads, the work of one call; and what becomes of loads and claims that nothing
// waits for any more.

namespace residency::test::slot_scheduler_limits_test {

namespace {

using namespace std::chrono_literals;

const SlotOptions plain{.keep_alive = 100ms,
                        .max_resident = 1,
                        .max_leases = 10,
                        .max_loads = 1,
                        .max_queue = 8,
                        .cooldown = 10ms,
                        .max_cooldown = 50ms,
                        .aging = 1000ms,
                        .abandon_after = 50ms};

SlotOptions with(std::size_t residents, std::size_t leases, std::size_t loads = 1) {
    SlotOptions options = plain;
    options.max_resident = residents;
    options.max_leases = leases;
    options.max_loads = loads;
    return options;
}

SlotOptions with_calls(std::size_t calls) {
    SlotOptions options = with(2, 3);
    options.max_calls = calls;
    return options;
}

std::size_t count(const Actions& actions, ActionType type) {
    return static_cast<std::size_t>(
        std::count_if(actions.begin(), actions.end(), [&](const Action& action) { return action.type == type; }));
}

std::size_t count(const Actions& actions, EventType type) {
    return static_cast<std::size_t>(std::count_if(actions.begin(), actions.end(), [&](const Action& action) {
        return action.type == ActionType::event && action.event == type;
    }));
}

}  // namespace

// -- max_calls --------------------------------------------------------------------------------------------------------

TEST_CASE("no more leases for model calls live than max_calls", "[R8][H27]") {
    SlotTable slot(with_calls(2));
    const ResidentId a = slot.make_ready("a");
    const Grant first = slot.lease("a", SlotTable::inference());
    CHECK(first.is_inference);
    slot.lease("a", SlotTable::inference());
    CHECK(slot.scheduler.calls() == 2);
    Grant none;
    CHECK(slot.try_grant("a", none, SlotTable::inference()) == Attempt::must_wait);
    const RequestId waits = slot.wait("a", SlotTable::inference());
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.leases() == 2);
    SECTION("a lease that ends is the next call's") {
        CHECK(slot.release(first) == Actions{granted(waits, a, 1)});
        CHECK(slot.scheduler.calls() == 2);
    }
    SECTION("also when it is released quietly, while nothing waits") {
        slot.cancel(waits);
        CHECK(slot.scheduler.release_quietly(first, slot.now));
        CHECK(slot.scheduler.calls() == 1);
        slot.lease("a", SlotTable::inference());
    }
}

TEST_CASE("a bare lease does not count as a call", "[R8][H27]") {
    SlotTable slot(with_calls(1));
    const ResidentId a = slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    slot.lease("a", SlotTable::inference());
    const RequestId call = slot.wait("a", SlotTable::inference());

    SECTION("of another key, while a call that ranks before waits") {
        const Grant bare = slot.lease("b");
        CHECK_FALSE(bare.is_inference);
        CHECK(slot.scheduler.calls() == 1);
        slot.lease("b");
        const RequestId next = slot.wait("b");
        CHECK(slot.actions == Actions{});
        CHECK(slot.release(bare) == Actions{granted(next, b, 2)});
    }
    SECTION("but within a key the order is strict") {
        Grant none;
        CHECK(slot.try_grant("a", none) == Attempt::must_wait);
        const RequestId behind = slot.wait("a");
        CHECK(slot.actions == Actions{});
        CHECK(slot.cancel(call));
        CHECK(slot.actions == Actions{granted(behind, a, 1)});
    }
}

TEST_CASE("max_calls is never more than max_leases, and max_leases if it is zero", "[R8]") {
    for (const std::size_t calls : {std::size_t{0}, std::size_t{5}}) {
        SlotTable slot(with_calls(calls));
        slot.make_ready("a");
        for (int lease = 0; lease < 3; ++lease) {
            slot.lease("a", SlotTable::inference());
        }
        Grant none;
        CHECK(slot.try_grant("a", none, SlotTable::inference()) == Attempt::must_wait);
        CHECK(slot.scheduler.calls() == 3);
    }
}

// -- max_loads --------------------------------------------------------------------------------------------------------

TEST_CASE("H13 a resident is queued until its load begins: no event, no count, stage queue", "[H13]") {
    SlotTable slot(plain);
    slot.begins_loads = false;
    const RequestId request = slot.wait("a", SlotTable::until(30ms));
    const ResidentId a = slot.resident("a");
    CHECK(slot.actions == Actions{load(a)});
    CHECK(slot.state("a") == ResidentState::queued);
    CHECK(slot.scheduler.counters().loads == 0);

    SECTION("it begins") {
        CHECK(slot.at(7ms).load_begins(a));
        CHECK(slot.actions == Actions{event(EventType::load_started, Reason::requested, a)});
        CHECK(slot.state("a") == ResidentState::loading);
        CHECK(slot.scheduler.counters().loads == 1);
        // The load has taken as long as the backend has.
        CHECK(slot.at(9ms).loaded(a) ==
              Actions{event(EventType::ready, Reason::requested, a, 1, 2ms), granted(request, a, 1)});
    }
    SECTION("a deadline that passes before that names the queue") {
        CHECK(slot.at(30ms).tick() ==
              Actions{failed(request, errc::timed_out, Stage::queue), slot.timed_out_event("a", Stage::queue, 30ms)});
    }
    SECTION("its last waiter is cancelled: the load does not begin") {
        CHECK(slot.cancel(request));
        CHECK(slot.actions == Actions{});
        CHECK_FALSE(slot.load_begins(a));
        CHECK(slot.actions == Actions{});
        CHECK(slot.scheduler.residents().size() == 0);
        CHECK(slot.scheduler.counters().loads == 0);
    }
    SECTION("a waiter that comes before that wants it again") {
        CHECK(slot.cancel(request));
        slot.wait("a");
        CHECK(slot.actions == Actions{});
        CHECK(slot.load_begins(a));
    }
    SECTION("unload: the load does not begin, and the waiter gets a fresh one") {
        const TeardownId operation = slot.unload("a");
        CHECK(slot.actions == Actions{});
        CHECK_FALSE(slot.load_begins(a));
        const ResidentId fresh = slot.resident("a");
        CHECK(slot.actions == Actions{completed(operation), load(fresh)});
        CHECK(slot.load_begins(fresh));
    }
    SECTION("shutdown: the load does not begin") {
        const TeardownId operation = slot.shut_down();
        CHECK(slot.actions == Actions{event(EventType::shutdown_started, Reason::shutdown),
                                      failed(request, errc::shutting_down, Stage::queue)});
        CHECK_FALSE(slot.load_begins(a));
        CHECK(slot.actions == Actions{completed(operation)});
    }
}

TEST_CASE("H13 no more loads are queued or run than max_loads", "[H13]") {
    SlotTable slot(with(3, 10, 2));
    slot.wait("a");
    slot.wait("b");
    slot.wait("c");
    slot.wait("high", SlotTable::with_priority(Priority::high));
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.residents().size() == 2);
    const ResidentId a = slot.resident("a");
    // The place goes to the key that ranks first when its load can begin.
    slot.loaded(a);
    CHECK(slot.state("high") == ResidentState::loading);
    CHECK_FALSE(slot.has_resident("c"));
    slot.load_failed(slot.resident("b"));
    CHECK(slot.state("c") == ResidentState::loading);
}

TEST_CASE("H13 nothing is evicted or drained for a load that cannot begin", "[H13][H3]") {
    SlotTable slot(with(2, 10));
    slot.make_ready("a");
    const ResidentId a = slot.resident("a");
    slot.wait("b");
    slot.wait("c");
    CHECK(slot.actions == Actions{});
    CHECK(slot.state("a") == ResidentState::ready);
    SECTION("an idle resident goes when the load can") {
        slot.loaded(slot.resident("b"));
        CHECK(slot.state("a") == ResidentState::unloading);
    }
    SECTION("a drain begins when the load can") {
        slot.lease("a");
        CHECK(slot.state("a") == ResidentState::ready);
        slot.loaded(slot.resident("b"));
        CHECK(slot.state("a") == ResidentState::draining);
        CHECK(slot.state("b") == ResidentState::ready);
    }
    SECTION("a drain ends when the one load that may begin gets its place elsewhere") {
        slot.lease("a");
        const ResidentId b = slot.resident("b");
        slot.loaded(b);
        slot.wait("d");
        CHECK(slot.actions == Actions{});
        CHECK(slot.release({b, {}}) == Actions{event(EventType::unload_started, Reason::switched, b, 2), unload(b),
                                               event(EventType::drain_ended, Reason::none, a, 1)});
        slot.unloaded(b);
        CHECK(slot.state("c") == ResidentState::loading);
        CHECK(slot.state("a") == ResidentState::ready);
    }
}

// -- H6: places -------------------------------------------------------------------------------------------------------

TEST_CASE("H6 a place goes to the key that ranks first when it becomes free", "[H6]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    slot.wait("b", SlotTable::with_priority(Priority::low));
    CHECK(slot.state("a") == ResidentState::draining);
    slot.wait("c", SlotTable::with_priority(Priority::high));
    CHECK(slot.actions == Actions{});
    slot.release(lease);
    slot.unloaded(a);
    CHECK(slot.state("c") == ResidentState::loading);
    CHECK_FALSE(slot.has_resident("b"));
}

TEST_CASE("H6 a key that was evicted for another ranks last until that other's load has ended", "[H6]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const RequestId low = slot.wait("b", SlotTable::with_priority(Priority::low));
    CHECK(slot.state("a") == ResidentState::unloading);
    slot.wait("a", SlotTable::with_priority(Priority::high));

    SECTION("the other gets the place, and serves its waiter") {
        slot.unloaded(a);
        const ResidentId b = slot.resident("b");
        slot.loaded(b);
        CHECK(slot.granted_to(low).resident == b);
        CHECK(slot.state("b") == ResidentState::draining);
    }
    SECTION("a third ranks before it, too") {
        slot.wait("c", SlotTable::with_priority(Priority::low));
        slot.unloaded(a);
        const ResidentId b = slot.resident("b");
        slot.load_failed(b);
        // The other's load has ended.
        CHECK(slot.state("a") == ResidentState::loading);
    }
    SECTION("or its waiters have left") {
        slot.wait("c", SlotTable::with_priority(Priority::normal));
        CHECK(slot.cancel(low));
        slot.unloaded(a);
        CHECK(slot.state("a") == ResidentState::loading);
    }
}

TEST_CASE("H6 keys do not take a place from each other for ever while no lease is free", "[H6][R15]") {
    SlotOptions options = with(2, 1, 2);
    options.aging = 0ms;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.lease("a");
    slot.wait("b", SlotTable::with_priority(Priority::low));
    slot.wait("c", SlotTable::with_priority(Priority::low));
    slot.wait("a", SlotTable::with_priority(Priority::high));
    slot.wait("d");
    // Loads end and models go, but the one lease is not released.
    std::size_t steps = 0;
    for (bool progress = true; progress && steps < 100; ++steps) {
        progress = false;
        for (const char* key : {"a", "b", "c", "d"}) {
            if (slot.has_resident(key) && slot.state(key) == ResidentState::loading) {
                slot.loaded(slot.resident(key));
                progress = true;
            } else if (slot.has_resident(key) && slot.state(key) == ResidentState::unloading) {
                slot.unloaded(slot.resident(key));
                progress = true;
            }
        }
    }
    CHECK(steps < 10);
    CHECK(slot.state("d") == ResidentState::ready);
}

TEST_CASE("R15 a resident that was not used since its load, because no lease is free, is not evicted by age", "[R15]") {
    SlotOptions options = with(2, 1);
    options.aging = 0ms;
    SlotTable slot(options);
    slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId first = slot.wait("c");
    slot.wait("a");
    const RequestId low = slot.wait("b", SlotTable::with_priority(Priority::low));
    const RequestId second = slot.wait("c");
    CHECK(slot.cancel(first));
    const ResidentId c = slot.resident("c");
    slot.loaded(c);
    // The waiter of `b` is older than that of `c`, which ranks before.
    CHECK(slot.state("c") == ResidentState::ready);
    CHECK(slot.tick() == Actions{});
    slot.release(lease);
    CHECK(slot.cancel(low));
    CHECK(slot.scheduler.waiting() == 1);
    CHECK(slot.cancel(second));
}

TEST_CASE("H6 a key whose last load failed makes no busy resident drain before its waiter is old", "[H6]") {
    SlotTable slot(plain);
    slot.wait("broken");
    slot.load_failed(slot.resident("broken"));
    const ResidentId a = slot.at(10ms).make_ready("a");

    SECTION("a busy one") {
        const Grant lease = slot.lease("a");
        slot.wait("broken", SlotTable::with_priority(Priority::high));
        CHECK(slot.actions == Actions{});
        CHECK(slot.at(1009ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 1010ms);
        SlotTable other = slot;
        CHECK(slot.at(1010ms).tick() == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
        // A resident that is free gives its place.
        CHECK(other.release(lease) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
    SECTION("another key behind it does") {
        slot.lease("a");
        slot.wait("broken", SlotTable::with_priority(Priority::high));
        slot.wait("good");
        CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
    }
    SECTION("an idle one it may evict") {
        slot.wait("broken");
        CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
}

// -- H1: abandoned loads and claims -----------------------------------------------------------------------------------

TEST_CASE("H1 a load whose waiters have left goes on for abandon_after", "[H1]") {
    SlotTable slot(plain);
    const RequestId request = slot.wait("a", SlotTable::until(10ms));
    const ResidentId a = slot.resident("a");
    CHECK(slot.at(10ms).tick().size() == 2);
    CHECK(slot.scheduler.next_alarm() == 60ms);
    CHECK(slot.at(59ms).tick() == Actions{});

    SECTION("then it is asked to stop, once") {
        CHECK(slot.at(60ms).tick() == Actions{stop_load(a)});
        CHECK(slot.tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == core::never);
        CHECK(slot.load_failed(a) == Actions{event(EventType::load_aborted, Reason::abandoned, a, 0, 60ms)});
        CHECK(slot.enqueue("a").request.valid());
    }
    SECTION("a failure before the stop is a failure") {
        CHECK(slot.load_failed(a) == Actions{event(EventType::load_failed, Reason::requested, a, 0, 59ms)});
        CHECK(slot.enqueue("a").code == errc::cooling_down);
    }
    SECTION("a waiter that joins ends the countdown") {
        const RequestId next = slot.wait("a", SlotTable::until(100ms));
        CHECK(slot.at(99ms).tick() == Actions{});
        CHECK(slot.cancel(next));
        CHECK(slot.actions == Actions{});
        CHECK(slot.at(148ms).tick() == Actions{});
        CHECK(slot.at(149ms).tick() == Actions{stop_load(a)});
    }
    SECTION("whatever else waits") {
        slot.wait("b", SlotTable::with_priority(Priority::high));
        CHECK(slot.actions == Actions{});
        CHECK(slot.loaded(a).at(0) == event(EventType::ready, Reason::requested, a, 1, 59ms));
    }
    SECTION("if it succeeds, the model stays for its keep-alive") {
        CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1, 59ms)});
        CHECK(slot.at(60ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 159ms);
    }
    CHECK_FALSE(slot.cancel(request));
}

TEST_CASE("H1 a key whose last waiter timed out keeps its turn, its drain and its queued load for abandon_after",
          "[H1]") {
    SlotTable slot(plain);
    slot.begins_loads = false;

    SECTION("the queued load begins, and goes on for abandon_after") {
        slot.wait("a", SlotTable::until(10ms));
        const ResidentId a = slot.resident("a");
        slot.at(10ms).tick();
        CHECK(slot.scheduler.next_alarm() == 60ms);
        CHECK(slot.at(59ms).load_begins(a));
        CHECK(slot.scheduler.queue().claims().empty());
        CHECK(slot.scheduler.queue().requests().size() == 0);
        CHECK(slot.at(108ms).tick() == Actions{});
        CHECK(slot.at(109ms).tick() == Actions{stop_load(a)});
    }
    SECTION("a queued load that cannot begin ends the claim, which is no waiter to be failed") {
        slot.wait("a", SlotTable::until(10ms));
        const ResidentId a = slot.resident("a");
        slot.at(10ms).tick();
        for (const Action& action : slot.at(20ms).load_failed(a)) {
            CHECK(action.type == ActionType::event);
        }
        CHECK(slot.scheduler.queue().claims().empty());
        CHECK(slot.scheduler.waiting() == 0);
        CHECK(slot.scheduler.residents().size() == 0);
    }
    SECTION("the queued load is given up when the claim ends") {
        slot.wait("a", SlotTable::until(10ms));
        const ResidentId a = slot.resident("a");
        slot.at(10ms).tick();
        CHECK(slot.at(60ms).tick() == Actions{});
        CHECK_FALSE(slot.load_begins(a));
        CHECK(slot.known_keys() == 0);
    }
    SECTION("the drain goes on, and the place is the key's") {
        slot.wait("a");
        const ResidentId a = slot.resident("a");
        REQUIRE(slot.load_begins(a));
        slot.loaded(a);
        slot.wait("b", SlotTable::until(10ms));
        CHECK(slot.state("a") == ResidentState::draining);
        CHECK(slot.at(10ms).tick().size() == 2);
        CHECK(slot.scheduler.waiting() == 0);
        CHECK(slot.state("a") == ResidentState::draining);
        // The key keeps its place before one that comes later.
        slot.wait("c");
        SECTION("it frees the place in time") {
            slot.release({a, {}});
            slot.unloaded(a);
            CHECK(slot.state("b") == ResidentState::queued);
            // A retry finds the load under way.
            slot.wait("b", SlotTable::until(40ms));
            CHECK(slot.load_begins(slot.resident("b")));
        }
        SECTION("it does not") {
            slot.at(60ms).tick();
            slot.release({a, {}});
            slot.unloaded(a);
            CHECK(slot.state("c") == ResidentState::queued);
        }
    }
    SECTION("when the claim ends and nothing else waits, the drain ends") {
        slot.wait("a");
        const ResidentId a = slot.resident("a");
        REQUIRE(slot.load_begins(a));
        slot.loaded(a);
        slot.wait("b", SlotTable::until(10ms));
        slot.at(10ms).tick();
        CHECK(slot.at(60ms).tick() == Actions{event(EventType::drain_ended, Reason::none, a, 1)});
        CHECK(slot.known_keys() == 1);
    }
}

TEST_CASE("H1 a waiter inherits its key's claim", "[H1]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    const Grant lease = slot.lease("a");
    slot.wait("b", SlotTable::until(10ms));
    slot.wait("c");
    slot.at(10ms).tick();
    const RequestId retry = slot.at(20ms).wait("b", SlotTable::until(30ms));

    SECTION("a second timeout prolongs it") {
        slot.at(30ms).tick();
        slot.at(79ms).tick();
        slot.release(lease);
        slot.unloaded(lease.resident);
        CHECK(slot.state("b") == ResidentState::loading);
    }
    SECTION("a cancellation ends it") {
        slot.cancel(retry);
        CHECK(slot.scheduler.queue().claims().empty());
        slot.release(lease);
        slot.unloaded(lease.resident);
        CHECK(slot.state("c") == ResidentState::loading);
    }
    SECTION("a shutdown ends it") {
        slot.close();
        CHECK(slot.scheduler.queue().claims().empty());
        CHECK(slot.scheduler.queue().empty());
    }
}

TEST_CASE("H1 at most 256 keys keep their turn; the oldest loses it", "[H1]") {
    SlotOptions options = plain;
    options.max_queue = 1'000;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.lease("a");
    for (int key = 0; key < 300; ++key) {
        slot.wait("model " + std::to_string(key), SlotTable::until(milliseconds(key + 1)));
        slot.at(milliseconds(key + 1)).tick();
        // They all last for the whole time.
        REQUIRE(slot.scheduler.queue().claims().size() <= 256);
    }
    SlotTable still(options);
    still.make_ready("a");
    still.lease("a");
    for (int key = 0; key < 300; ++key) {
        still.wait("model " + std::to_string(key), SlotTable::until(10ms));
    }
    still.at(10ms).tick();
    CHECK(still.scheduler.queue().claims().size() == 256);
    CHECK(still.known_keys() == 257);
    CHECK(still.scheduler.waiting() == 0);
    still.at(60ms).tick();
    CHECK(still.scheduler.queue().claims().empty());
    CHECK(still.known_keys() == 1);
}

// -- H8 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("H8 an expected generation of zero is nothing resident, and always model_changed", "[H8]") {
    SlotTable slot(plain);
    Grant none;
    CHECK(slot.try_grant("a", none, SlotTable::expecting(0)) == Attempt::model_changed);
    slot.wait("a");
    CHECK(slot.try_grant("a", none, SlotTable::expecting(0)) == Attempt::model_changed);
    slot.loaded(slot.resident("a"));
    CHECK(slot.try_grant("a", none, SlotTable::expecting(0)) == Attempt::model_changed);
    RequestSpec spec = SlotTable::expecting(0);
    spec.wants_lease = false;
    CHECK(slot.ensure("a", spec) == Attempt::model_changed);
}

TEST_CASE("H8 a wait for an unload that is cancelled leaves nothing behind", "[H8]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    slot.lease("a");
    for (int round = 0; round < 100; ++round) {
        slot.scheduler.forget(slot.unload("a"));
        CHECK(slot.scheduler.teardowns().size() == 0);
    }
    CHECK(slot.scheduler.most_actions() < 100);
}

// -- H14: deadlines ---------------------------------------------------------------------------------------------------

TEST_CASE("H14 no waiter is granted past its deadline", "[H14]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId late = slot.wait("a", SlotTable::until(10ms));
    const RequestId next = slot.wait("a");
    // No tick has come.
    CHECK(slot.at(10ms).release(lease) == Actions{failed(late, errc::timed_out, Stage::queue),
                                                  slot.timed_out_event("a", Stage::queue, 10ms), granted(next, a, 1)});
    CHECK(slot.scheduler.counters().timed_out == 1);
}

TEST_CASE("H14 no load that is ready completes an ensure_loaded past its deadline", "[H14]") {
    SlotTable slot(plain);
    RequestSpec spec = SlotTable::load_only();
    spec.deadline = 10ms;
    const RequestId late = slot.wait("a", spec);
    const ResidentId a = slot.resident("a");
    CHECK(slot.at(10ms).loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1, 10ms),
                                             failed(late, errc::timed_out, Stage::queue),
                                             slot.timed_out_event("a", Stage::queue, 10ms, 0, 10ms)});
}

TEST_CASE("H14 no request is refused for a waiter past its deadline", "[H14][R8]") {
    SlotOptions options = plain;
    options.max_queue = 1;
    options.abandon_after = 0ms;
    SlotTable slot(options);
    slot.make_ready("a", 1);
    slot.lease("a");
    const RequestId late = slot.wait("a", SlotTable::until(10ms));
    CHECK(slot.at(9ms).enqueue("a").code == errc::overloaded);
    CHECK(slot.at(10ms).enqueue("a").request.valid());
    CHECK_FALSE(slot.cancel(late));
    CHECK(slot.scheduler.counters().timed_out == 1);
}

TEST_CASE("H14 a request that makes others leave keeps its own deadline", "[H14]") {
    SlotOptions options = plain;
    options.max_queue = 2;
    SlotTable slot(options);
    slot.wait("a");
    slot.wait("a", SlotTable::until(10ms));
    const RequestId next = slot.at(10ms).wait("a", SlotTable::until(20ms));
    CHECK(slot.scheduler.queue().deadlines().size() == 1);
    CHECK(slot.at(20ms).tick().at(0) == failed(next, errc::timed_out, Stage::load));
}

// -- Slices -----------------------------------------------------------------------------------------------------------

TEST_CASE("expiry inside a submit stops after 64 requests, and an immediate tick does the rest", "[H14]") {
    constexpr std::size_t many = 3'000;
    SlotOptions options = with(1, 1);
    options.max_queue = many;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.lease("a");
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait("a", SlotTable::until(10ms));
    }
    CHECK(slot.at(10ms).enqueue("b").request.valid());
    CHECK(count(slot.actions, ActionType::fail) == core::SlotScheduler::submit_slice);
    CHECK(slot.scheduler.unfinished());
    std::size_t failed = core::SlotScheduler::submit_slice;
    while (slot.scheduler.next_alarm() <= slot.now) {
        const std::size_t most = slot.scheduler.most_actions();
        slot.tick();
        CHECK(slot.actions.size() <= most);
        CHECK(count(slot.actions, ActionType::fail) <= core::SlotScheduler::slice);
        failed += count(slot.actions, ActionType::fail);
    }
    CHECK(failed == many);
    CHECK_FALSE(slot.scheduler.unfinished());
    CHECK(slot.scheduler.waiting() == 1);
}

TEST_CASE("the waiters of a failed load are failed in slices, those that come later are not", "[R3][R12]") {
    constexpr std::size_t many = 3'000;
    SlotOptions options = plain;
    options.max_queue = many + 10;
    SlotTable slot(options);
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait("a", waiter % 2 == 0 ? SlotTable::load_only() : SlotTable::with_priority(Priority::high));
    }
    const ResidentId a = slot.resident("a");
    const std::size_t most = slot.scheduler.most_actions();
    slot.load_failed(a, errc::invalid_request);
    CHECK(slot.actions.size() <= most);
    CHECK(count(slot.actions, ActionType::fail) == core::SlotScheduler::slice);
    CHECK(slot.scheduler.unfinished());
    CHECK(slot.scheduler.next_alarm() <= slot.now);
    // The failure started no cooldown, so that this one waits for a fresh load.
    const RequestId later = slot.wait("a", SlotTable::with_priority(Priority::high));
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.residents().contains(a));
    std::size_t failed = core::SlotScheduler::slice;
    while (slot.scheduler.unfinished()) {
        slot.tick();
        for (const Action& action : slot.actions) {
            if (action.type == ActionType::fail) {
                CHECK(action.code == errc::invalid_request);
                CHECK(action.stage == Stage::load);
                CHECK(action.subject != later.index);
            }
        }
        failed += count(slot.actions, ActionType::fail);
    }
    CHECK(failed == many);
    const ResidentId fresh = slot.resident("a");
    CHECK(fresh != a);
    slot.loaded(fresh);
    CHECK(slot.granted_to(later).resident == fresh);
}

TEST_CASE("a key that cools down refuses while the waiters of its failed load are failed", "[R3][cooldown]") {
    constexpr std::size_t many = 2'000;
    SlotOptions options = plain;
    options.max_queue = many + 10;
    SlotTable slot(options);
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait("a");
    }
    slot.load_failed(slot.resident("a"));
    REQUIRE(slot.scheduler.unfinished());
    CHECK(slot.enqueue("a").code == errc::cooling_down);
    const TeardownId operation = slot.unload("a");
    CHECK(slot.actions == Actions{});
    slot.tick();
    CHECK(slot.actions.back() == completed(operation));
    CHECK(slot.scheduler.residents().size() == 0);
}

TEST_CASE("R12 a shutdown fails the waiters in slices, and completes only after the last", "[R12]") {
    constexpr std::size_t many = 3'000;
    SlotOptions options = plain;
    options.max_queue = many;
    SlotTable slot(options);
    slot.make_ready("a", 1);
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait(waiter < many / 2 ? "b" : "key " + std::to_string(waiter));
    }
    const ResidentId a = slot.resident("a");
    const TeardownId operation = slot.shut_down();
    REQUIRE(operation.valid());
    CHECK(count(slot.actions, ActionType::fail) == core::SlotScheduler::slice);
    CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::switched, a, 1)});
    CHECK(slot.scheduler.residents().size() == 0);
    std::size_t failed = core::SlotScheduler::slice;
    while (slot.scheduler.unfinished()) {
        CHECK(slot.scheduler.next_alarm() <= slot.now);
        slot.tick();
        failed += count(slot.actions, ActionType::fail);
        CHECK((failed == many) == (slot.actions.back() == completed(operation)));
    }
    CHECK(failed == many);
    CHECK(slot.scheduler.waiting() == 0);
    CHECK(slot.scheduler.teardowns().size() == 0);
    CHECK(slot.scheduler.next_alarm() == core::never);
    CHECK(slot.known_keys() == 0);
}

TEST_CASE("a load that is ready completes its waiters in slices", "[R9]") {
    constexpr std::size_t many = 2'500;
    SlotOptions options = with(1, many);
    options.max_queue = many;
    SlotTable slot(options);
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait("a", waiter % 2 == 0 ? SlotTable::load_only() : RequestSpec{});
    }
    const ResidentId a = slot.resident("a");
    slot.loaded(a, many);
    CHECK(count(slot.actions, ActionType::grant) == core::SlotScheduler::slice);
    std::size_t granted = core::SlotScheduler::slice;
    while (slot.scheduler.unfinished()) {
        CHECK(slot.scheduler.next_alarm() <= slot.now);
        slot.tick();
        CHECK(count(slot.actions, ActionType::grant) <= core::SlotScheduler::slice);
        granted += count(slot.actions, ActionType::grant);
    }
    CHECK(granted == many);
    CHECK(slot.scheduler.leases() == many / 2);
}

TEST_CASE("waiters that expect a generation that has ended are failed in slices", "[H8]") {
    constexpr std::size_t many = 2'500;
    SlotOptions options = with(1, 1);
    options.max_queue = many;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.lease("a");
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait("a", SlotTable::expecting(1));
    }
    slot.unload("a", UnloadMode::revoke);
    std::size_t failed = count(slot.actions, ActionType::fail);
    CHECK(failed == core::SlotScheduler::slice);
    while (slot.scheduler.unfinished()) {
        slot.tick();
        failed += count(slot.actions, ActionType::fail);
    }
    CHECK(failed == many);
    CHECK(slot.scheduler.waiting() == 0);
}

TEST_CASE("a waiter that expects a generation is not granted on another, also if the slice that fails it is late",
          "[H8]") {
    constexpr std::size_t many = 2'500;
    SlotOptions options = with(1, many);
    options.max_queue = many;
    SlotTable slot(options);
    const ResidentId a = slot.make_ready("a", 1);
    const Grant lease = slot.lease("a");
    for (std::size_t waiter = 0; waiter < many; ++waiter) {
        slot.wait("a", SlotTable::expecting(1));
    }
    std::size_t failed = 0;
    std::size_t granted = 0;
    const auto note = [&] {
        failed += count(slot.actions, ActionType::fail);
        granted += count(slot.actions, ActionType::grant);
    };
    slot.unload("a");
    note();
    // The shell is late with the tick.
    slot.release(lease);
    note();
    slot.unloaded(a);
    note();
    REQUIRE(slot.has_resident("a"));
    slot.loaded(slot.resident("a"), many);
    note();
    while (slot.scheduler.unfinished()) {
        slot.tick();
        note();
    }
    CHECK(failed == many);
    CHECK(granted == 0);
}

// -- H19: refusals ----------------------------------------------------------------------------------------------------

TEST_CASE("H19 refusals of one kind are one event a second, with their number and the latest key", "[H19]") {
    SlotOptions options = plain;
    options.max_queue = 1;
    options.cooldown = options.max_cooldown = 10'000ms;
    SlotTable slot(options);
    slot.wait("broken");
    slot.load_failed(slot.resident("broken"));
    slot.wait("a");

    slot.at(100ms).enqueue("b");
    CHECK(slot.actions == Actions{rejected(Reason::overloaded, 1)});
    CHECK(*slot.scheduler.refusals().key(Reason::overloaded) == ModelKey("b"));
    slot.at(200ms).enqueue("c");
    CHECK(slot.actions == Actions{});
    slot.at(300ms).enqueue("d");
    CHECK(slot.actions == Actions{});
    // The other kind has an event of its own.
    slot.at(400ms).enqueue("broken");
    CHECK(slot.actions == Actions{rejected(Reason::cooling_down, 1)});
    CHECK(*slot.scheduler.refusals().key(Reason::cooling_down) == ModelKey("broken"));
    slot.at(450ms).enqueue("nonsense", SlotTable::unknown());
    CHECK(slot.actions == Actions{rejected(Reason::unknown_model, 1)});
    CHECK(*slot.scheduler.refusals().key(Reason::unknown_model) == ModelKey("nonsense"));

    CHECK(slot.scheduler.next_alarm() == 1100ms);
    SECTION("the alarm sends the last") {
        CHECK(slot.at(1099ms).tick() == Actions{});
        CHECK(slot.at(1100ms).tick() == Actions{rejected(Reason::overloaded, 2)});
        CHECK(*slot.scheduler.refusals().key(Reason::overloaded) == ModelKey("d"));
        CHECK(slot.scheduler.next_alarm() == core::never);
        // A second has to pass again.
        slot.at(2000ms).enqueue("e");
        CHECK(slot.actions == Actions{});
        CHECK(slot.scheduler.next_alarm() == 2100ms);
    }
    SECTION("so does a refusal that comes first") {
        slot.at(1500ms).enqueue("e");
        CHECK(slot.actions == Actions{rejected(Reason::overloaded, 3)});
        CHECK(slot.scheduler.next_alarm() == core::never);
    }
    SECTION("and a shutdown") {
        slot.at(500ms).enqueue("rubbish", SlotTable::unknown());
        slot.close();
        CHECK(slot.actions.at(0) == event(EventType::shutdown_started, Reason::shutdown));
        CHECK(slot.actions.at(1) == rejected(Reason::overloaded, 2));
        CHECK(slot.actions.at(2) == rejected(Reason::unknown_model, 1));
        CHECK(count(slot.actions, EventType::rejected) == 2);
        CHECK(slot.scheduler.next_alarm() == core::never);
    }
}

TEST_CASE("H19 a timed-out request names its key while the actions of the call are carried out", "[H19]") {
    SlotOptions options = plain;
    options.abandon_after = 0ms;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.lease("a", SlotTable::until(20ms, true));
    slot.at(5ms).wait("b", SlotTable::until(20ms));
    slot.wait("c", SlotTable::until(20ms));
    slot.at(20ms).tick();
    std::vector<std::string> keys;
    for (const Action& action : slot.actions) {
        if (action.type == ActionType::event && action.event == EventType::timed_out) {
            keys.push_back(slot.scheduler.key_of_entry(action.key)->name);
            CHECK(action.stage == (keys.back() == "a" ? Stage::inference : Stage::queue));
            CHECK(action.generation == Generation{keys.back() == "a" ? 1U : 0U});
            CHECK(action.duration == (keys.back() == "a" ? 20ms : 15ms));
        }
    }
    std::sort(keys.begin(), keys.end());
    CHECK(keys == std::vector<std::string>{"a", "b", "c"});
    CHECK(slot.known_keys() == 1);
}

// -- The backend's codes ----------------------------------------------------------------------------------------------

TEST_CASE("the waiters of a failed load get the backend's own code", "[R3][cooldown]") {
    for (const errc code : {errc::load_failed, errc::inference_failed, errc::invalid_request}) {
        SlotTable slot(plain);
        const RequestId request = slot.wait("a");
        const ResidentId a = slot.resident("a");
        const bool cools_down = code != errc::invalid_request;
        CHECK(slot.load_failed(a, code) == Actions{event(EventType::load_failed, Reason::requested, a),
                                                   failed(request, code, Stage::load, a, cools_down ? 10ms : 0ms)});
        CHECK(slot.enqueue("a").request.valid() == !cools_down);
    }
}

}  // namespace residency::test::slot_scheduler_limits_test
