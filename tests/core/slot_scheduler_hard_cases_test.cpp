#include "residency/core/slot_scheduler.hpp"

#include "support/catch.hpp"
#include "support/slot_table.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <vector>

// The hard cases of include/residency/README.md, as far as the scheduler is concerned.

namespace residency::test::slot_scheduler_hard_cases_test {

namespace {

using namespace std::chrono_literals;

const SlotOptions plain{.keep_alive = 100ms,
                        .max_resident = 1,
                        .max_leases = 10,
                        .max_loads = 10,
                        .max_queue = 8,
                        .cooldown = 10ms,
                        .max_cooldown = 50ms,
                        .aging = 1000ms,
                        .abandon_after = 0ms};

SlotOptions with(std::size_t residents, std::size_t leases) {
    SlotOptions options = plain;
    options.max_resident = residents;
    options.max_leases = leases;
    return options;
}

}  // namespace

// -- H1: a load that all waiters have left ----------------------------------------------------------------------------

TEST_CASE("H1 a load whose waiters have all left is asked to stop, once", "[H1]") {
    SlotTable slot(plain);
    const RequestId first = slot.wait("a");
    const RequestId second = slot.wait("a");
    const ResidentId a = slot.resident("a");
    CHECK(slot.cancel(first));
    CHECK(slot.actions == Actions{});
    CHECK(slot.cancel(second));
    CHECK(slot.actions == Actions{stop_load(a)});

    SECTION("if it then throws it is aborted: no cooldown, no last error") {
        CHECK(slot.at(5ms).load_failed(a) == Actions{event(EventType::load_aborted, Reason::abandoned, a, 0, 5ms)});
        CHECK(slot.scheduler.counters().loads_aborted == 1);
        CHECK(slot.scheduler.counters().load_failures == 0);
        CHECK(slot.scheduler.queue().keys().newest_failure() == core::none);
        CHECK(slot.known_keys() == 0);
        CHECK(slot.enqueue("a").request.valid());
    }
    SECTION("who joined meanwhile gets a fresh load, and may leave again without a second request to stop") {
        const RequestId third = slot.wait("a");
        CHECK(slot.actions == Actions{});
        CHECK(slot.cancel(third));
        CHECK(slot.actions == Actions{});
        const RequestId fourth = slot.wait("a");
        slot.load_failed(a);
        const ResidentId fresh = slot.resident("a");
        CHECK(slot.actions == Actions{event(EventType::load_aborted, Reason::abandoned, a), load(fresh),
                                      event(EventType::load_started, Reason::requested, fresh)});
        CHECK(slot.loaded(fresh) ==
              Actions{event(EventType::ready, Reason::requested, fresh, 1), granted(fourth, fresh, 1)});
    }
    SECTION("if it succeeds all the same, it serves who joined meanwhile") {
        const RequestId third = slot.wait("a");
        CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1), granted(third, a, 1)});
        CHECK(slot.scheduler.counters().loads_aborted == 0);
    }
    SECTION("if it succeeds without waiters, the model stays for its keep-alive") {
        CHECK(slot.at(30ms).loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1, 30ms)});
        CHECK(slot.scheduler.next_alarm() == 130ms);
        CHECK(slot.at(129ms).tick() == Actions{});
        CHECK(slot.at(130ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
    SECTION("if it succeeds and another key wants the place, it goes at once") {
        slot.wait("b");
        CHECK(slot.actions == Actions{});
        CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1),
                                        event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
}

TEST_CASE("H1 waiters whose time is up have left, too", "[H1]") {
    SlotTable slot(plain);
    const RequestId request = slot.wait("a", SlotTable::until(10ms));
    const ResidentId a = slot.resident("a");
    CHECK(slot.at(10ms).tick() == Actions{failed(request, errc::timed_out, Stage::load),
                                          slot.timed_out_event("a", Stage::load, 10ms, 0, 10ms), stop_load(a)});
}

// -- H2: unload of what is loading ------------------------------------------------------------------------------------

TEST_CASE("H2 unload of a key that is loading", "[H2]") {
    SlotTable slot(plain);
    const RequestId waits = slot.wait("a");
    const ResidentId a = slot.resident("a");
    const TeardownId operation = slot.unload("a");
    REQUIRE(operation.valid());
    CHECK(slot.actions == Actions{stop_load(a)});

    SECTION("what it yields is unloaded unused, and those who waited get a fresh load") {
        CHECK(slot.at(3ms).loaded(a) == Actions{event(EventType::unload_started, Reason::unload, a), unload(a)});
        CHECK(slot.counter() == 0);
        slot.at(4ms).unloaded(a);
        const ResidentId fresh = slot.resident("a");
        CHECK(slot.actions == Actions{event(EventType::unloaded, Reason::unload, a, 0, 1ms), completed(operation),
                                      load(fresh), event(EventType::load_started, Reason::requested, fresh)});
        CHECK(slot.loaded(fresh) ==
              Actions{event(EventType::ready, Reason::requested, fresh, 1), granted(waits, fresh, 1)});
    }
    SECTION("if it ends without a model, those that waited do not learn of it") {
        slot.load_failed(a);
        const ResidentId fresh = slot.resident("a");
        CHECK(slot.actions == Actions{event(EventType::load_aborted, Reason::unload, a), completed(operation),
                                      load(fresh), event(EventType::load_started, Reason::requested, fresh)});
        CHECK(slot.scheduler.counters().load_failures == 0);
    }
    SECTION("a second unload joins") {
        const TeardownId second = slot.unload("a", UnloadMode::revoke);
        CHECK(second.valid());
        CHECK(slot.actions == Actions{});
        slot.cancel(waits);
        CHECK(slot.load_failed(a) ==
              Actions{event(EventType::load_aborted, Reason::unload, a), completed(operation), completed(second)});
    }
    SECTION("who joined after the unload waits for the fresh load, too") {
        const RequestId later = slot.wait("a");
        CHECK(slot.actions == Actions{});
        slot.loaded(a);
        slot.unloaded(a);
        const ResidentId fresh = slot.resident("a");
        CHECK(slot.loaded(fresh) == Actions{event(EventType::ready, Reason::requested, fresh, 1),
                                            granted(waits, fresh, 1), granted(later, fresh, 1)});
    }
}

TEST_CASE("H2 unload of a load without waiters", "[H2][H1]") {
    SlotTable slot(plain);
    slot.cancel(slot.wait("a"));
    const ResidentId a = slot.resident("a");
    const TeardownId operation = slot.unload("a");
    CHECK(slot.actions == Actions{});
    CHECK(slot.loaded(a) == Actions{event(EventType::unload_started, Reason::unload, a), unload(a)});
    CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::unload, a), completed(operation)});
}

// -- H3: draining for a switch ----------------------------------------------------------------------------------------

TEST_CASE("H3 only as many drain as places are wanted, the least recently granted first", "[H3]") {
    SlotTable slot(with(3, 10));
    const ResidentId a = slot.make_ready("a");
    slot.make_ready("b");
    const ResidentId c = slot.make_ready("c");
    const Grant on_c = slot.lease("c");
    const Grant on_a = slot.lease("a");
    const Grant on_b = slot.lease("b");

    const RequestId first = slot.wait("d");
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, c, 3)});
    slot.wait("d");
    CHECK(slot.actions == Actions{});
    const RequestId second = slot.wait("e");
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});

    SECTION("the last that began to drain is the first to return") {
        slot.cancel(second);
        CHECK(slot.actions == Actions{event(EventType::drain_ended, Reason::none, a, 1)});
        slot.cancel(first);
        CHECK(slot.actions == Actions{});
        CHECK(slot.state("c") == ResidentState::draining);
    }
    SECTION("even if it was begun for the one who stays") {
        // The places are equal: a key that wants one gets the first that is free.
        slot.cancel(first);
        slot.cancel(RequestId{});
        CHECK(slot.state("a") == ResidentState::draining);
        slot.release(on_c);
        slot.unloaded(c);
        CHECK(slot.state("d") == ResidentState::loading);
    }
    SECTION("who is free first goes, whether it drains or not; who need not go returns") {
        CHECK(slot.release(on_a) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
        const ResidentId b = slot.resident("b");
        CHECK(slot.release(on_b) == Actions{event(EventType::unload_started, Reason::switched, b, 2), unload(b),
                                            event(EventType::drain_ended, Reason::none, c, 3)});
        slot.unloaded(a);
        CHECK(slot.state("d") == ResidentState::loading);
        slot.unloaded(b);
        CHECK(slot.state("e") == ResidentState::loading);
        CHECK(slot.leases("c") == 1);
    }
}

TEST_CASE("H3 waiters for a key that returns are granted on it, in order, without a reload", "[H3]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    slot.lease("a");
    const RequestId other = slot.wait("b");
    const RequestId second = slot.wait("a");
    const RequestId third = slot.wait("a", SlotTable::load_only());
    const RequestId fourth = slot.wait("a");
    slot.cancel(other);
    CHECK(slot.actions == Actions{event(EventType::drain_ended, Reason::none, a, 1), granted(third, a, 1),
                                  granted(second, a, 1), granted(fourth, a, 1)});
    CHECK(slot.leases("a") == 3);
    CHECK(slot.counter() == 1);
}

TEST_CASE("H3 a drain for unload never returns", "[H3]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId other = slot.wait("b");
    const TeardownId operation = slot.unload("a");
    CHECK(slot.actions == Actions{});
    slot.cancel(other);
    CHECK(slot.actions == Actions{});
    CHECK(slot.state("a") == ResidentState::draining);
    const RequestId waits = slot.wait("a");
    CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::unload, a, 1), unload(a)});
    slot.unloaded(a);
    const ResidentId fresh = slot.resident("a");
    CHECK(slot.actions == Actions{event(EventType::unloaded, Reason::unload, a, 1), completed(operation), load(fresh),
                                  event(EventType::load_started, Reason::requested, fresh)});
    slot.loaded(fresh);
    CHECK(slot.granted_to(waits).resident == fresh);
}

TEST_CASE("H3 an unload frees the place: what drained for a switch returns", "[H3]") {
    SlotTable slot(with(2, 10));
    const ResidentId a = slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    slot.lease("a");
    slot.lease("b");
    slot.wait("c");
    CHECK(slot.state("a") == ResidentState::draining);
    slot.unload("b");
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::unload, b, 2),
                                  event(EventType::drain_ended, Reason::none, a, 1)});
}

TEST_CASE("H3 a load that a waiter joins again gives no place: the key with a claim starts its switch", "[H3][H6]") {
    SlotTable slot(with(2, 1));
    const ResidentId a = slot.make_ready("a");
    slot.lease("a");
    const RequestId loads = slot.wait("l");
    const ResidentId l = slot.resident("l");
    slot.wait("c");
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
    slot.cancel(loads);
    CHECK(slot.actions == Actions{stop_load(l), event(EventType::drain_ended, Reason::none, a, 1)});
    slot.wait("a");
    slot.wait("p");
    CHECK(slot.actions == Actions{});
    // Now no place is coming. `p` came after who waits for `a`, but `c` came before, and has a claim.
    slot.wait("l");
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
}

TEST_CASE("H3 who waits on a resident gives way only to a key that comes before him and gets no other place",
          "[H3][H6]") {
    SlotTable slot(with(2, 1));
    const ResidentId a = slot.make_ready("a");
    const ResidentId gone = slot.make_ready("gone");
    const Grant lease = slot.lease("a");
    slot.unload("gone");
    slot.wait("before");
    const RequestId waits = slot.wait("a");
    // The place that comes free is for `before`; `behind` is left without, but it came after who waits for `a`.
    slot.wait("behind");
    CHECK(slot.actions == Actions{});
    CHECK(slot.state("a") == ResidentState::ready);
    slot.unloaded(gone);
    CHECK(slot.state("before") == ResidentState::loading);
    CHECK(slot.release(lease) ==
          Actions{granted(waits, a, 1), event(EventType::drain_started, Reason::switched, a, 1)});
}

// -- H4 and H5: who needs a place in the queue ------------------------------------------------------------------------

TEST_CASE("H4 who can be granted at once needs no place in the queue, any other does", "[H4][H5]") {
    SlotOptions options = with(1, 10);
    options.max_queue = 1;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.lease("a");
    slot.wait("b");
    CHECK(slot.enqueue("a").code == errc::overloaded);
    CHECK(slot.enqueue("b", SlotTable::load_only()).code == errc::overloaded);
    CHECK(slot.enqueue("c").code == errc::overloaded);

    SlotTable other(options);
    other.make_ready("a");
    other.wait("b");
    other.unloaded(other.resident("a"));
    other.loaded(other.resident("b"));
    other.wait("a");
    CHECK(other.scheduler.waiting() == 1);
    Grant none;
    // It drains; without that it could have been had without a place in the queue.
    CHECK(other.try_grant("b", none) == Attempt::must_wait);

    SlotTable third(options);
    third.make_ready("a");
    for (int lease = 0; lease < 9; ++lease) {
        third.lease("a");
    }
    CHECK(third.ensure("a") == Attempt::granted);
    third.lease("a");
    third.wait("a");
    CHECK(third.ensure("a") == Attempt::granted);
}

TEST_CASE("H4 a lease is not granted past those who wait for its key", "[H4]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a", 1);
    const Grant lease = slot.lease("a");
    const RequestId waits = slot.wait("a");
    Grant none;
    CHECK(slot.try_grant("a", none) == Attempt::must_wait);
    slot.release(lease);
    CHECK(slot.actions == Actions{granted(waits, a, 1)});
}

TEST_CASE("H4 ensure_loaded completes as soon as its resident is ready, whatever waits", "[H4]") {
    SlotTable slot(with(1, 1));
    const RequestId first = slot.wait("a");
    const RequestId second = slot.wait("a", SlotTable::with_priority(Priority::high));
    const RequestId ensures = slot.wait("a", SlotTable::load_only());
    const ResidentId a = slot.resident("a");
    CHECK(slot.loaded(a) ==
          Actions{event(EventType::ready, Reason::requested, a, 1), granted(ensures, a, 1), granted(second, a, 1)});
    CHECK(slot.ensure("a") == Attempt::granted);
    CHECK(slot.cancel(first));
}

TEST_CASE("H4 ensure_loaded for a resident that drains waits until it returns or is loaded again", "[H4][H3]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId other = slot.wait("b");
    const RequestId ensures = slot.wait("a", SlotTable::load_only());
    CHECK(slot.actions == Actions{});
    SECTION("it returns") {
        slot.cancel(other);
        CHECK(slot.actions == Actions{event(EventType::drain_ended, Reason::none, a, 1), granted(ensures, a, 1)});
    }
    SECTION("it returns for an ensure_loaded that ranks before the other key, and drains again") {
        RequestSpec urgent = SlotTable::load_only();
        urgent.priority = Priority::high;
        const Enqueued high = slot.enqueue("a", urgent);
        CHECK(slot.actions == Actions{event(EventType::drain_ended, Reason::none, a, 1), granted(high.request, a, 1),
                                      granted(ensures, a, 1), event(EventType::drain_started, Reason::switched, a, 1)});
    }
    SECTION("it goes") {
        slot.release(lease);
        slot.unloaded(a);
        const ResidentId b = slot.resident("b");
        slot.loaded(b);
        slot.release({b, {}});
        slot.unloaded(b);
        const ResidentId again = slot.resident("a");
        CHECK(slot.loaded(again) ==
              Actions{event(EventType::ready, Reason::requested, again, 5), granted(ensures, again, 5)});
    }
}

TEST_CASE("H4 the last quarter of the queue is kept from low", "[H4][R8]") {
    SlotOptions options = with(1, 1);
    options.max_queue = 8;
    SlotTable slot(options);
    const RequestSpec low = SlotTable::with_priority(Priority::low);
    for (int count = 0; count < 6; ++count) {
        slot.wait("a", low);
    }
    CHECK(slot.enqueue("a", low).code == errc::overloaded);
    slot.wait("a");
    slot.wait("b", SlotTable::with_priority(Priority::high));
    CHECK(slot.enqueue("a").code == errc::overloaded);
    CHECK(slot.scheduler.counters().overloaded == 2);
}

TEST_CASE("H5 checks in order", "[H5]") {
    SlotOptions options = plain;
    options.max_queue = 1;
    SlotTable slot(options);
    slot.wait("a");
    slot.load_failed(slot.resident("a"));
    slot.wait("b");
    Grant none;
    // model_changed comes before unknown_model, which comes before cooling_down, which comes before overloaded, which
    // comes before a deadline that is past.
    CHECK(slot.try_grant("a", none, SlotTable::unknown(SlotTable::expecting(1))) == Attempt::model_changed);
    CHECK(slot.enqueue("a", SlotTable::unknown(SlotTable::until(0ms))).code == errc::unknown_model);
    CHECK(slot.enqueue("c", SlotTable::unknown()).code == errc::unknown_model);
    CHECK(slot.enqueue("a", SlotTable::until(0ms)).code == errc::cooling_down);
    CHECK(slot.enqueue("c", SlotTable::until(0ms)).code == errc::overloaded);
    // A grant comes before unknown_model, cooling_down and overloaded; there is none on a model that has just failed.
    slot.loaded(slot.resident("b"));
    CHECK(slot.try_grant("b", none, SlotTable::unknown()) == Attempt::granted);
    // shutting_down comes before all.
    slot.close();
    CHECK(slot.try_grant("a", none, SlotTable::expecting(1)) == Attempt::shutting_down);
    CHECK(slot.ensure("a", SlotTable::expecting(1)) == Attempt::shutting_down);
    CHECK(slot.try_grant("b", none) == Attempt::shutting_down);
}

// -- H6: order --------------------------------------------------------------------------------------------------------

TEST_CASE("H6 within a key priority, then arrival", "[H6]") {
    SlotTable slot(with(1, 1));
    const RequestId low = slot.wait("a", SlotTable::with_priority(Priority::low));
    const RequestId normal = slot.wait("a");
    const RequestId high = slot.wait("a", SlotTable::with_priority(Priority::high));
    const RequestId second_low = slot.wait("a", SlotTable::with_priority(Priority::low));
    const RequestId second_high = slot.wait("a", SlotTable::with_priority(Priority::high));
    const ResidentId a = slot.resident("a");
    slot.loaded(a);
    CHECK(slot.actions.back() == granted(high, a, 1));
    for (const RequestId next : {second_high, normal, low, second_low}) {
        CHECK(slot.release({a, {}}) == Actions{granted(next, a, 1)});
    }
}

TEST_CASE("H6 the keys are served in the order of their best waiters: priority, then arrival", "[H6]") {
    SlotTable slot(with(4, 1));
    for (const char* key : {"a", "b", "c", "d"}) {
        slot.make_ready(key);
    }
    const Grant lease = slot.lease("a");
    const RequestId low = slot.wait("a", SlotTable::with_priority(Priority::low));
    const RequestId normal = slot.wait("b");
    const RequestId high = slot.wait("c", SlotTable::with_priority(Priority::high));
    const RequestId high_too = slot.wait("d", SlotTable::with_priority(Priority::high));
    const RequestId high_behind_low = slot.wait("a", SlotTable::with_priority(Priority::high));
    const auto resident = [&](const char* key) { return slot.resident(key); };
    CHECK(slot.release(lease) == Actions{granted(high, resident("c"), 3)});
    CHECK(slot.release({resident("c"), {}}) == Actions{granted(high_too, resident("d"), 4)});
    CHECK(slot.release({resident("d"), {}}) == Actions{granted(high_behind_low, resident("a"), 1)});
    CHECK(slot.release({resident("a"), {}}) == Actions{granted(normal, resident("b"), 2)});
    CHECK(slot.release({resident("b"), {}}) == Actions{granted(low, resident("a"), 1)});
}

TEST_CASE("H6 the first key in that order gets the next place", "[H6]") {
    SlotTable slot(plain);
    slot.wait("a");
    slot.wait("low", SlotTable::with_priority(Priority::low));
    slot.wait("normal");
    slot.wait("high", SlotTable::with_priority(Priority::high));
    for (const char* next : {"high", "normal", "low"}) {
        const ResidentId loading = slot.scheduler.residents().handle(0);
        slot.load_failed(loading, errc::invalid_request);
        CHECK(slot.state(next) == ResidentState::loading);
    }
}

TEST_CASE("H6 a higher priority may drain away who waits, a lower may not", "[H6]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    slot.lease("a");
    slot.wait("a");
    slot.wait("low", SlotTable::with_priority(Priority::low));
    CHECK(slot.actions == Actions{});
    slot.wait("same");
    CHECK(slot.actions == Actions{});
    slot.wait("high", SlotTable::with_priority(Priority::high));
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
}

TEST_CASE("R15 a waiter that was passed over for too long gets the next lease", "[R15][H6]") {
    SlotTable slot(with(3, 1));
    for (const char* key : {"a", "b"}) {
        slot.make_ready(key);
    }
    const Grant lease = slot.lease("a");
    const RequestId low = slot.wait("b", SlotTable::with_priority(Priority::low));
    const RequestId high = slot.at(1ms).wait("a", SlotTable::with_priority(Priority::high));
    SECTION("not a moment too early") {
        CHECK(slot.at(999ms).release(lease) == Actions{granted(high, slot.resident("a"), 1)});
    }
    SECTION("when its time has come") {
        CHECK(slot.at(1000ms).release(lease) == Actions{granted(low, slot.resident("b"), 2)});
    }
    SECTION("of two that were, the one that came first") {
        CHECK(slot.at(2000ms).release(lease) == Actions{granted(low, slot.resident("b"), 2)});
    }
}

TEST_CASE("R15 every second lease goes to the oldest waiter that was passed over, however often one leaves", "[R15]") {
    SlotOptions options = with(2, 1);
    options.max_queue = 16;
    SlotTable slot(options);
    const ResidentId a = slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    const Grant lease = slot.lease("a");
    std::vector<RequestId> low;
    std::vector<RequestId> high;
    for (int count = 0; count < 4; ++count) {
        low.push_back(slot.at(0ms).wait("b", SlotTable::with_priority(Priority::low)));
    }
    for (int count = 0; count < 4; ++count) {
        high.push_back(slot.at(500ms).wait("a", SlotTable::with_priority(Priority::high)));
    }
    slot.at(1000ms);
    // The first in line leaves: age is not counted anew for the next.
    CHECK(slot.cancel(low[0]));
    CHECK(slot.release(lease) == Actions{granted(low[1], b, 2)});
    CHECK(slot.release({b, {}}) == Actions{granted(high[0], a, 1)});
    CHECK(slot.release({a, {}}) == Actions{granted(low[2], b, 2)});
    CHECK(slot.release({b, {}}) == Actions{granted(high[1], a, 1)});
    CHECK(slot.release({a, {}}) == Actions{granted(low[3], b, 2)});
    CHECK(slot.release({b, {}}) == Actions{granted(high[2], a, 1)});
}

TEST_CASE("R15 the oldest waiter within a key gets every second lease", "[R15]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId low = slot.wait("a", SlotTable::with_priority(Priority::low));
    const RequestId second_low = slot.wait("a", SlotTable::with_priority(Priority::low));
    const RequestId high = slot.wait("a", SlotTable::with_priority(Priority::high));
    slot.at(1000ms);
    CHECK(slot.release(lease) == Actions{granted(low, a, 1)});
    CHECK(slot.release({a, {}}) == Actions{granted(high, a, 1)});
    CHECK(slot.release({a, {}}) == Actions{granted(second_low, a, 1)});
}

TEST_CASE("R15 the oldest that its resident cannot serve is passed over for the next oldest", "[R15]") {
    SlotOptions options = with(2, 3);
    options.max_calls = 1;
    SlotTable slot(options);
    slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    slot.lease("a", SlotTable::inference());
    const Grant first = slot.lease("a");
    const Grant second = slot.lease("b");
    // No call is free, so that only bare leases can be granted.
    slot.wait("a", SlotTable::inference());
    const RequestId low = slot.wait("b", SlotTable::with_priority(Priority::low));
    const RequestId high = slot.wait("b", SlotTable::with_priority(Priority::high));
    slot.at(1000ms);
    CHECK(slot.release(first) == Actions{granted(low, b, 2)});
    CHECK(slot.release(second) == Actions{granted(high, b, 2)});
}

TEST_CASE("R15 a waiter that was passed over makes a resident drain for it, whatever else waits there", "[R15][H3]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    Grant lease = slot.lease("a");
    slot.wait("b", SlotTable::with_priority(Priority::low));
    CHECK(slot.state("a") == ResidentState::draining);
    const RequestId high = slot.at(1ms).wait("a", SlotTable::with_priority(Priority::high));
    const RequestId more = slot.wait("a", SlotTable::with_priority(Priority::high));
    CHECK(slot.state("a") == ResidentState::ready);
    CHECK(slot.at(999ms).release(lease) == Actions{granted(high, a, 1)});
    CHECK(slot.at(1000ms).release({a, {}}) ==
          Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    slot.unloaded(a);
    CHECK(slot.state("b") == ResidentState::loading);
    CHECK(slot.cancel(more));
}

TEST_CASE("R15 a drain for the place that age gives does not end for a waiter that ranks first", "[R15][H3]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    slot.wait("b", SlotTable::with_priority(Priority::low));
    slot.at(1000ms).wait("a", SlotTable::with_priority(Priority::high));
    CHECK(slot.actions == Actions{});
    CHECK(slot.state("a") == ResidentState::draining);
    slot.release(lease);
    slot.unloaded(a);
    CHECK(slot.state("b") == ResidentState::loading);
}

TEST_CASE("R15 every second place goes by age, the others by rank", "[R15][H6]") {
    SlotOptions options = with(1, 1);
    options.aging = 0ms;
    SlotTable slot(options);
    slot.wait("first", SlotTable::with_priority(Priority::low));
    slot.wait("low", SlotTable::with_priority(Priority::low));
    slot.wait("low too", SlotTable::with_priority(Priority::low));
    slot.wait("high", SlotTable::with_priority(Priority::high));
    slot.wait("normal");
    for (const char* next : {"high", "low", "normal", "low too"}) {
        slot.load_failed(slot.scheduler.residents().handle(0), errc::invalid_request);
        CHECK(slot.state(next) == ResidentState::loading);
    }
}

TEST_CASE("R15 the next place goes by age, too, if no resident gives way by rank", "[R15]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId high = slot.wait("a", SlotTable::with_priority(Priority::high));
    slot.wait("x", SlotTable::with_priority(Priority::low));
    CHECK(slot.cancel(high));
    CHECK(slot.state("a") == ResidentState::draining);
    slot.at(1000ms).release(lease);
    slot.unloaded(a);
    const ResidentId x = slot.resident("x");
    CHECK_FALSE(slot.scheduler.place_by_age());
    slot.loaded(x);
    slot.wait("x", SlotTable::with_priority(Priority::high));
    slot.wait("b", SlotTable::with_priority(Priority::low));
    const RequestId next = slot.at(1500ms).wait("x", SlotTable::with_priority(Priority::high));
    slot.release({x, {}});
    CHECK(slot.at(1999ms).tick() == Actions{});
    // The waiter of `x` ranks before that of `b`, and came later.
    CHECK(slot.at(2000ms).tick() == Actions{event(EventType::drain_started, Reason::switched, x, slot.counter())});
    CHECK(slot.cancel(next));
}

TEST_CASE("R15 no resident drains by age while a waiter of its own is older", "[R15][H3]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    slot.lease("a");
    slot.wait("a");
    const RequestId older = slot.wait("a", SlotTable::with_priority(Priority::low));
    slot.wait("b", SlotTable::with_priority(Priority::low));
    CHECK(slot.at(2000ms).tick() == Actions{});
    CHECK(slot.release({a, {}}).size() == 1);
    CHECK(slot.cancel(older));
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
}

// -- H7: keep-alive of one's own --------------------------------------------------------------------------------------

TEST_CASE("H7 a keep-alive of one's own holds from the grant to the next grant", "[H7]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");

    SECTION("the last grant wins") {
        const Grant brief = slot.lease("a", SlotTable::keeping_alive(10ms));
        const Grant lasting = slot.lease("a", SlotTable::keeping_alive(500ms));
        slot.release(lasting);
        slot.release(brief);
        CHECK(slot.scheduler.next_alarm() <= 500ms);
        CHECK(slot.at(499ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 500ms);
        CHECK(slot.at(500ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
    SECTION("a grant without one restores the slot's") {
        slot.release(slot.lease("a", SlotTable::keeping_alive(10ms)));
        slot.at(5ms).release(slot.lease("a"));
        CHECK(slot.at(104ms).tick() == Actions{});
        CHECK(slot.at(105ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
    SECTION("zero: it goes when it is free") {
        const Grant lease = slot.lease("a", SlotTable::keeping_alive(core::Duration::zero()));
        CHECK(slot.tick() == Actions{});
        CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
    SECTION("forever: it stays, but not for a switch") {
        slot.release(slot.lease("a", SlotTable::keeping_alive(core::Duration::max())));
        slot.tick();
        CHECK(slot.at(1'000'000ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == core::never);
        slot.wait("b");
        CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
    SECTION("forever: nor for unload or shutdown") {
        slot.release(slot.lease("a", SlotTable::keeping_alive(core::Duration::max())));
        SlotTable other = slot;
        slot.unload("a");
        CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::unload, a, 1), unload(a)});
        other.shut_down();
        CHECK(other.actions == Actions{event(EventType::shutdown_started, Reason::shutdown),
                                       event(EventType::unload_started, Reason::shutdown, a, 1), unload(a)});
    }
    SECTION("it ends with the residency") {
        slot.release(slot.lease("a", SlotTable::keeping_alive(500ms)));
        slot.unload("a");
        slot.unloaded(a);
        slot.make_ready("a");
        CHECK(slot.scheduler.next_alarm() == 100ms);
    }
}

TEST_CASE("H7 a waiter's keep-alive begins with its grant, not with its wait", "[H7]") {
    SlotTable slot(with(1, 1));
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId waits = slot.wait("a", SlotTable::keeping_alive(10ms));
    CHECK(slot.release(lease) == Actions{granted(waits, a, 1)});
    slot.release({a, {}});
    CHECK(slot.scheduler.next_alarm() == 10ms);
}

TEST_CASE("H7 ensure_loaded counts as a use", "[H7]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    CHECK(slot.at(60ms).ensure("a") == Attempt::granted);
    CHECK(slot.generation == Generation{1});
    CHECK(slot.actions == Actions{});
    CHECK(slot.at(159ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 160ms);

    SECTION("and may bring a keep-alive of its own") {
        RequestSpec spec = SlotTable::keeping_alive(5ms);
        spec.wants_lease = false;
        CHECK(slot.at(159ms).ensure("a", spec) == Attempt::granted);
        CHECK(slot.scheduler.next_alarm() <= 160ms);
        CHECK(slot.at(163ms).tick() == Actions{});
        CHECK(slot.at(164ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
    SECTION("of zero, too") {
        RequestSpec spec = SlotTable::keeping_alive(core::Duration::zero());
        spec.wants_lease = false;
        CHECK(slot.at(159ms).ensure("a", spec) == Attempt::granted);
        CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
    SECTION("while it is leased it only brings its keep-alive") {
        const Grant lease = slot.lease("a");
        RequestSpec spec = SlotTable::keeping_alive(core::Duration::zero());
        spec.wants_lease = false;
        CHECK(slot.ensure("a", spec) == Attempt::granted);
        CHECK(slot.actions == Actions{});
        CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
}

// -- H8: generations and unload ---------------------------------------------------------------------------------------

TEST_CASE("H8 a residency's generation is the counter's when its load finished, and stays", "[H8][R6]") {
    SlotTable slot(with(2, 10));
    slot.wait("a");
    slot.wait("b");
    const ResidentId a = slot.resident("a");
    const ResidentId b = slot.resident("b");
    slot.loaded(b);
    slot.loaded(a);
    const auto& residents = slot.scheduler.residents();
    CHECK(residents[b.index].generation == Generation{1});
    CHECK(residents[a.index].generation == Generation{2});
    slot.unload("b");
    CHECK(slot.counter() == 2);
    slot.release({b, {}});
    CHECK(slot.counter() == 3);
    slot.unloaded(b);
    CHECK(slot.counter() == 3);
    CHECK(residents[a.index].generation == Generation{2});
}

TEST_CASE("H8 draining does not raise the counter, nor does returning from it", "[H8]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    slot.lease("a");
    const RequestId other = slot.wait("b");
    CHECK(slot.counter() == 1);
    slot.cancel(other);
    CHECK(slot.counter() == 1);
    CHECK(slot.state("a") == ResidentState::ready);
}

TEST_CASE("H8 who expects a generation gets that residency or model_changed, and nothing is loaded", "[H8]") {
    SlotTable slot(plain);
    Grant grant;
    CHECK(slot.try_grant("a", grant, SlotTable::expecting(1)) == Attempt::model_changed);
    CHECK(slot.scheduler.residents().size() == 0);
    RequestSpec ensures = SlotTable::expecting(1);
    ensures.wants_lease = false;
    CHECK(slot.ensure("a", ensures) == Attempt::model_changed);

    slot.wait("a");
    const ResidentId a = slot.resident("a");
    CHECK(slot.try_grant("a", grant, SlotTable::expecting(1)) == Attempt::model_changed);
    slot.loaded(a);
    CHECK(slot.try_grant("a", grant, SlotTable::expecting(1)) == Attempt::granted);
    CHECK(slot.try_grant("a", grant, SlotTable::expecting(2)) == Attempt::model_changed);
    CHECK(slot.try_grant("b", grant, SlotTable::expecting(1)) == Attempt::model_changed);
    CHECK(slot.ensure("a", ensures) == Attempt::granted);
}

TEST_CASE("H8 who expects a generation waits for a resident that drains for a switch, and is granted if it returns",
          "[H8][H3]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId other = slot.wait("b");
    const RequestId any = slot.wait("a");
    const RequestId that = slot.wait("a", SlotTable::expecting(1));
    CHECK(slot.actions == Actions{});

    SECTION("it returns") {
        slot.cancel(other);
        CHECK(slot.actions ==
              Actions{event(EventType::drain_ended, Reason::none, a, 1), granted(any, a, 1), granted(that, a, 1)});
    }
    SECTION("it goes: the compare at the grant") {
        CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a),
                                             failed(that, errc::model_changed, Stage::queue)});
        CHECK(slot.scheduler.waiting() == 2);
    }
    SECTION("it is unloaded") {
        slot.unload("a");
        CHECK(slot.actions == Actions{failed(that, errc::model_changed, Stage::queue)});
    }
    SECTION("once it drains for good no request may expect it") {
        slot.unload("a");
        Grant none;
        CHECK(slot.try_grant("a", none, SlotTable::expecting(1)) == Attempt::model_changed);
    }
}

TEST_CASE("H8 revoke raises the counter once and completes what runs on it", "[H8]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant first = slot.lease("a");
    const Grant second = slot.lease("a");

    SECTION("at once") {
        const TeardownId operation = slot.unload("a", UnloadMode::revoke);
        CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::revoked, a, 1), revoke(a)});
        CHECK(slot.counter() == 2);
        CHECK(slot.release(first) == Actions{});
        CHECK(slot.release(second) == Actions{event(EventType::unload_started, Reason::revoked, a, 1), unload(a)});
        CHECK(slot.counter() == 2);
        CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::revoked, a, 1), completed(operation)});
    }
    SECTION("it upgrades a drain, and later calls join") {
        const TeardownId drains = slot.unload("a");
        CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::unload, a, 1)});
        CHECK(slot.counter() == 1);
        const TeardownId revokes = slot.unload("a", UnloadMode::revoke);
        CHECK(slot.actions == Actions{revoke(a)});
        CHECK(slot.counter() == 2);
        const TeardownId again = slot.unload("a", UnloadMode::revoke);
        CHECK(slot.actions == Actions{});
        const TeardownId joins = slot.unload("a");
        CHECK(slot.actions == Actions{});
        slot.release(first);
        slot.release(second);
        CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::revoked, a, 1), unload(a)});
        CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::revoked, a, 1), completed(drains),
                                          completed(revokes), completed(again), completed(joins)});
    }
    SECTION("it upgrades a drain for a switch") {
        const RequestId other = slot.wait("b");
        slot.unload("a", UnloadMode::revoke);
        CHECK(slot.actions == Actions{revoke(a)});
        slot.cancel(other);
        CHECK(slot.actions == Actions{});
    }
}

TEST_CASE("H8 revoke of an idle resident", "[H8]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    slot.unload("a", UnloadMode::revoke);
    CHECK(slot.actions == Actions{revoke(a), event(EventType::unload_started, Reason::revoked, a, 1), unload(a)});
    CHECK(slot.counter() == 2);
}

TEST_CASE("H8 an unload of what is not there is complete", "[H8]") {
    SlotTable slot(plain);
    CHECK_FALSE(slot.unload("a").valid());
    CHECK_FALSE(slot.unload_all().valid());
    slot.wait("b");
    CHECK_FALSE(slot.unload("a").valid());
    CHECK(slot.actions == Actions{});
}

TEST_CASE("H8 an unload waits for what is unloading anyway", "[H8]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    slot.at(100ms).tick();
    const TeardownId operation = slot.unload("a");
    CHECK(operation.valid());
    CHECK(slot.actions == Actions{});
    CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::idle, a, 1), completed(operation)});
}

TEST_CASE("H8 an unload of all waits for those that were there, not for those that come", "[H8]") {
    SlotTable slot(with(2, 10));
    const ResidentId a = slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    const Grant lease = slot.lease("b");
    const TeardownId operation = slot.unload_all();
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::unload, a, 1), unload(a),
                                  event(EventType::drain_started, Reason::unload, b, 2)});
    slot.wait("a");
    slot.unloaded(a);
    const ResidentId fresh = slot.resident("a");
    CHECK(fresh != a);
    slot.release(lease);
    CHECK(slot.unloaded(b) == Actions{event(EventType::unloaded, Reason::unload, b, 2), completed(operation)});
    CHECK(slot.state("a") == ResidentState::loading);
}

TEST_CASE("H8 forgetting an unload ends the wait, not the unload", "[H8]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const TeardownId operation = slot.unload("a");
    slot.scheduler.forget(operation);
    slot.scheduler.forget(operation);
    slot.scheduler.forget({});
    CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::unload, a, 1)});
}

// -- H9: shutdowns ----------------------------------------------------------------------------------------------------

TEST_CASE("H9 concurrent shutdowns complete each at its own deadline", "[H9]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const TeardownId brief = slot.shut_down(10ms);
    const TeardownId patient = slot.shut_down(20ms);
    const TeardownId endless = slot.shut_down();
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.next_alarm() == 10ms);
    CHECK(slot.at(10ms).tick() == Actions{completed(brief, true)});
    CHECK(slot.scheduler.next_alarm() == 20ms);
    CHECK(slot.at(25ms).tick() == Actions{completed(patient, true)});
    CHECK(slot.scheduler.next_alarm() == core::never);
    // What outlived the deadline is unloaded when its lease ends.
    CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::shutdown, a, 1), unload(a)});
    CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::shutdown, a, 1), completed(endless)});
}

TEST_CASE("H9 a shutdown joins an unload that is under way", "[H9][H8]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const TeardownId unloads = slot.unload("a", UnloadMode::revoke);
    const TeardownId shuts = slot.shut_down();
    CHECK(slot.actions == Actions{event(EventType::shutdown_started, Reason::shutdown)});
    slot.release(lease);
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::revoked, a, 1), unload(a)});
    CHECK(slot.unloaded(a) ==
          Actions{event(EventType::unloaded, Reason::revoked, a, 1), completed(unloads), completed(shuts)});
}

// -- H19: failures ----------------------------------------------------------------------------------------------------

TEST_CASE("H19 records of failed keys are the latest 256", "[H19][cooldown]") {
    SlotOptions options = plain;
    options.cooldown = options.max_cooldown = 1'000'000ms;
    SlotTable slot(options);
    const auto fail = [&](int key) {
        slot.wait("model " + std::to_string(key));
        slot.load_failed(slot.scheduler.residents().handle(0), errc::load_failed, "message " + std::to_string(key));
    };
    for (int key = 0; key < 256; ++key) {
        fail(key);
    }
    const core::KeyTable& keys = slot.scheduler.queue().keys();
    CHECK(keys.size() == 256);
    CHECK(slot.enqueue("model 0").code == errc::cooling_down);
    fail(256);
    CHECK(slot.enqueue("model 1").code == errc::cooling_down);
    // The entry of the oldest goes at the beginning of the call that follows.
    CHECK(keys.size() == 256);
    REQUIRE(keys.failures().size() == 256);
    CHECK(*keys.failures()[255].message == "message 256");
    CHECK(*keys.failures()[254].message == "message 255");
    // The oldest is forgotten: its key starts clean.
    CHECK(slot.enqueue("model 0").request.valid());
}

TEST_CASE("H19 a key that is forgotten while a request waits for it stays known", "[H19]") {
    SlotOptions options = plain;
    options.cooldown = 0ms;
    options.max_resident = 2;
    SlotTable slot(options);
    slot.wait("old");
    slot.load_failed(slot.resident("old"));
    const RequestId waits = slot.wait("old");
    const ResidentId old = slot.resident("old");
    for (int key = 0; key < 256; ++key) {
        const std::string name = "model " + std::to_string(key);
        slot.wait(name);
        slot.load_failed(slot.resident(name));
    }
    CHECK(slot.scheduler.queue().keys().size() == 257);
    CHECK(slot.loaded(old) == Actions{event(EventType::ready, Reason::requested, old, 1), granted(waits, old, 1)});
}

// -- H32: how long a resident keeps its place -------------------------------------------------------------------------

namespace {

// One place, and a keep-alive that is out of the way.
SlotOptions staying(std::optional<std::chrono::milliseconds> min_stay = std::nullopt) {
    SlotOptions options = plain;
    options.keep_alive = 10s;
    options.min_stay = min_stay;
    return options;
}

// Loads the key's model within `took`, for a waiter that gets a lease.
Grant load_within(SlotTable& slot, core::Duration took, const ModelKey& key, const RequestSpec& spec = {}) {
    const RequestId request = slot.wait(key, spec);
    slot.now += took;
    slot.loaded(slot.resident(key));
    return slot.granted_to(request, spec.is_inference);
}

}  // namespace

TEST_CASE("H32 a resident in use keeps its place for as long as its load took", "[H32]") {
    SlotTable slot(staying());
    const Grant lease = load_within(slot, 100ms, "a");
    const ResidentId a = slot.resident("a");
    CHECK(slot.at(150ms).enqueue("b").request.valid());
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.next_alarm() == 200ms);

    SECTION("the alarm rings when the stay ends, and then it drains") {
        CHECK(slot.at(199ms).tick() == Actions{});
        CHECK(slot.at(200ms).tick() == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
        CHECK(slot.at(210ms).release(lease) ==
              Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
    SECTION("its own requests are granted meanwhile, and they do not prolong the stay") {
        const Grant other = slot.lease("a");
        CHECK(slot.at(190ms).release(lease) == Actions{});
        CHECK(slot.at(200ms).tick() == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
        CHECK(slot.release(other) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
    SECTION("where no key wants its place any more, nothing happens when the stay ends") {
        CHECK(slot.cancel({slot.scheduler.queue().requests().handle(
            slot.scheduler.queue().oldest(slot.scheduler.queue().keys().lookup("b")))}));
        CHECK(slot.at(200ms).tick() == Actions{});
        CHECK(slot.state("a") == ResidentState::ready);
        CHECK(slot.scheduler.next_alarm() == core::never);
    }
}

TEST_CASE("H32 min_stay says how long a resident stays, but never longer than aging", "[H32]") {
    const auto stays_until = [](std::optional<std::chrono::milliseconds> min_stay, std::chrono::milliseconds aging) {
        SlotOptions options = staying(min_stay);
        options.aging = aging;
        SlotTable slot(options);
        load_within(slot, 100ms, "a");
        slot.wait("b");
        return slot.state("a") == ResidentState::draining ? slot.now : slot.scheduler.next_alarm();
    };
    CHECK(stays_until(std::nullopt, 1000ms) == 200ms);
    CHECK(stays_until(std::nullopt, 60ms) == 160ms);
    CHECK(stays_until(std::nullopt, 0ms) == 100ms);
    CHECK(stays_until(30ms, 1000ms) == 130ms);
    CHECK(stays_until(300ms, 1000ms) == 400ms);
    CHECK(stays_until(300ms, 60ms) == 160ms);
    CHECK(stays_until(keep_alive_forever, 1000ms) == 1100ms);
    CHECK(stays_until(0ms, 1000ms) == 100ms);
}

TEST_CASE("H32 a resident stays for less than its load took where more keys wait than there are places", "[H32]") {
    const auto stay = [](std::size_t waiting, std::size_t places,
                         std::optional<std::chrono::milliseconds> min_stay = {}) {
        SlotOptions options = staying(min_stay);
        options.max_resident = places;
        SlotTable slot(options);
        slot.wait("a");
        for (std::size_t key = 0; key < waiting; ++key) {
            slot.wait("key " + std::to_string(key));
        }
        slot.now += 120ms;
        slot.loaded(slot.resident("a"));
        return slot.scheduler.residents()[slot.resident("a").index].stays_until - slot.now;
    };
    CHECK(stay(0, 1) == 120ms);
    CHECK(stay(1, 1) == 120ms);
    // With n keys to a place, n / (2 n - 2) of the load.
    CHECK(stay(2, 1) == 90ms);
    CHECK(stay(3, 1) == 80ms);
    CHECK(stay(5, 1) == 72ms);
    // One of them has the other place.
    CHECK(stay(3, 2) == 120ms);
    CHECK(stay(7, 2) == 80ms);
    CHECK(stay(3, 1, 120ms) == 120ms);
}

TEST_CASE("H32 a resident that has been idle for a tenth of its stay gives way", "[H32]") {
    SlotTable slot(staying());
    const Grant lease = load_within(slot, 100ms, "a");
    const ResidentId a = slot.resident("a");
    const Actions switched{event(EventType::unload_started, Reason::switched, a, 1), unload(a)};

    SECTION("to a key that came meanwhile, when the tenth is over") {
        slot.at(120ms).release(lease);
        slot.at(125ms).wait("b");
        CHECK(slot.actions == Actions{});
        CHECK(slot.scheduler.next_alarm() == 130ms);
        CHECK(slot.at(129ms).tick() == Actions{});
        CHECK(slot.at(130ms).tick() == switched);
    }
    SECTION("to a key that comes later, at once") {
        slot.at(120ms).release(lease);
        slot.at(130ms).wait("b");
        CHECK(slot.actions == switched);
    }
    SECTION("to a key that waited before, no later than at the end of the stay") {
        slot.wait("b");
        CHECK(slot.at(195ms).release(lease) == Actions{});
        CHECK(slot.at(199ms).tick() == Actions{});
        CHECK(slot.at(200ms).tick() == switched);
    }
    SECTION("each use begins the tenth again") {
        slot.wait("b");
        CHECK(slot.at(110ms).release(lease) == Actions{});
        const Grant again = slot.at(119ms).lease("a");
        CHECK(slot.at(120ms).tick() == Actions{});
        CHECK(slot.at(121ms).release(again) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 131ms);
        CHECK(slot.at(125ms).ensure("a") == Attempt::granted);
        CHECK(slot.at(131ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 135ms);
        CHECK(slot.at(135ms).tick() == switched);
    }
    SECTION("also if it was never used") {
        SlotTable other(staying());
        const RequestId waits = other.wait("a", SlotTable::load_only());
        other.wait("b");
        other.at(100ms).loaded(other.resident("a"));
        CHECK(other.actions == Actions{event(EventType::ready, Reason::requested, a, 1, 100ms), granted(waits, a, 1)});
        CHECK(other.scheduler.next_alarm() == 110ms);
        CHECK(other.at(110ms).tick() == switched);
    }
}

TEST_CASE("H32 a resident without a lease whose key has waiters is not idle", "[H32]") {
    SlotOptions options = staying();
    options.max_leases = 1;
    options.max_resident = 2;
    SlotTable slot(options);
    const Grant lease = load_within(slot, 100ms, "a");
    slot.wait("b");
    slot.at(300ms).loaded(slot.resident("b"));
    slot.wait("c", SlotTable::with_priority(Priority::high));
    // The lease on `a` is the only one: `b` has a waiter, and its stay of 200 ms protects it. That of `a` is over.
    CHECK(slot.state("a") == ResidentState::draining);
    CHECK(slot.state("b") == ResidentState::ready);
    slot.at(320ms).release(lease);
    CHECK(slot.state("a") == ResidentState::unloading);
    CHECK(slot.leases("b") == 1);
}

TEST_CASE("H32 the stay does not hold against unload, a shutdown or the keep-alive", "[H32]") {
    SlotTable slot(staying());
    const Grant lease = load_within(slot, 100ms, "a", SlotTable::keeping_alive(3ms));
    const ResidentId a = slot.resident("a");
    slot.wait("b");
    CHECK(slot.actions == Actions{});

    SECTION("unload") {
        slot.unload("a");
        CHECK(slot.state("a") == ResidentState::draining);
        CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::unload, a, 1), unload(a)});
    }
    SECTION("shutdown, after which no alarm is left of the stay") {
        slot.shut_down();
        CHECK(slot.state("a") == ResidentState::draining);
        CHECK(slot.scheduler.alarm().yields_at() == core::never);
        slot.release(lease);
        slot.unloaded(a);
        CHECK(slot.scheduler.next_alarm() == core::never);
    }
    SECTION("keep-alive: shorter than the tenth in which an idle resident stays") {
        CHECK(slot.at(110ms).release(lease) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 113ms);
        CHECK(slot.at(113ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    }
}

TEST_CASE("H32 a resident whose stay is over makes place first", "[H32][H3]") {
    SlotOptions options = staying();
    options.max_resident = 2;
    SlotTable slot(options);
    load_within(slot, 100ms, "a");
    load_within(slot, 10ms, "b");
    // `a` was granted before `b` and would yield first, but it stays until 200 ms, `b` until 120 ms.
    slot.at(115ms).wait("c");
    CHECK(slot.scheduler.next_alarm() == 120ms);
    CHECK(slot.at(120ms).tick() == Actions{event(EventType::drain_started, Reason::switched, slot.resident("b"), 2)});
    CHECK(slot.state("a") == ResidentState::ready);
}

TEST_CASE("H32 the place of a resident that is idle comes before a drain, once its tenth is over", "[H32][H3]") {
    SlotOptions options = staying();
    options.max_resident = 2;
    SlotTable slot(options);
    load_within(slot, 10ms, "a");
    const Grant lease = load_within(slot, 100ms, "b");
    slot.at(200ms).release(lease);
    // `a` is in use and its stay is over; `b` is idle, but for a tenth of its own stay only from 210 ms on.
    slot.at(205ms).wait("c");
    CHECK(slot.state("a") == ResidentState::draining);
    CHECK(slot.scheduler.next_alarm() == 210ms);
    slot.at(210ms).tick();
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, slot.resident("b"), 2),
                                  unload(slot.resident("b")),
                                  event(EventType::drain_ended, Reason::none, slot.resident("a"), 1)});
}

TEST_CASE("H32 a place by age waits for the stay, and for no more than that", "[H32][R15]") {
    SlotOptions options = staying();
    options.aging = 200ms;
    SlotTable slot(options);
    slot.wait("a", SlotTable::with_priority(Priority::high));
    slot.at(10ms).wait("b", SlotTable::with_priority(Priority::low));
    slot.at(250ms).loaded(slot.resident("a"));
    // `b` is old, what runs on `a` is younger and counts no more; but `a` stays for as long as `aging`.
    CHECK(slot.scheduler.next_alarm() == 450ms);
    CHECK(slot.at(449ms).tick() == Actions{});
    CHECK(slot.at(450ms).tick() == Actions{event(EventType::drain_started, Reason::switched, slot.resident("a"), 1)});
}

TEST_CASE("H32 what runs or ran on a resident counts against keys of lower priority", "[H32]") {
    SlotTable slot(staying());
    const RequestSpec high = SlotTable::with_priority(Priority::high);
    const RequestSpec low = SlotTable::with_priority(Priority::low);
    const Grant first = load_within(slot, 100ms, "a", high);
    const ResidentId a = slot.resident("a");
    const Actions switched{event(EventType::unload_started, Reason::switched, a, 1), unload(a)};

    SECTION("a key of low priority waits until the last of high priority is as long ago as the load took") {
        slot.at(300ms).wait("b", low);
        CHECK(slot.actions == Actions{});
        CHECK(slot.at(310ms).release(first) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 410ms);
        const Grant second = slot.at(400ms).lease("a", high);
        CHECK(slot.at(410ms).tick() == Actions{});
        CHECK(slot.at(420ms).release(second) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 520ms);
        CHECK(slot.at(519ms).tick() == Actions{});
        CHECK(slot.at(520ms).tick() == switched);
    }
    SECTION("so does a key of normal priority") {
        slot.at(300ms).wait("b");
        CHECK(slot.at(310ms).release(first) == Actions{});
        CHECK(slot.at(410ms).tick() == switched);
    }
    SECTION("a key of the same priority does not") {
        slot.at(300ms).wait("b", high);
        CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
    }
    SECTION("what ended before the key came counts, too") {
        slot.at(250ms).release(first);
        const Grant second = slot.lease("a", high);
        REQUIRE(slot.scheduler.release_quietly(second, 300ms));
        slot.at(350ms).wait("b", low);
        CHECK(slot.actions == Actions{});
        CHECK(slot.scheduler.next_alarm() == 400ms);
        CHECK(slot.at(400ms).tick() == switched);
    }
    SECTION("what ended without a look at the clock counts as ended when the key came") {
        const Grant normal = slot.lease("a");
        REQUIRE(slot.scheduler.release_quietly(first, 0ms));
        slot.at(350ms).wait("b");
        CHECK(slot.scheduler.next_alarm() == 450ms);
        CHECK(slot.at(450ms).tick() == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
        slot.release(normal);
        CHECK(slot.actions == switched);
    }
    SECTION("normal counts against low when high is long ago") {
        const Grant normal = slot.lease("a");
        slot.at(300ms).wait("b", low);
        CHECK(slot.at(310ms).release(first) == Actions{});
        CHECK(slot.at(410ms).tick() == Actions{});
        CHECK(slot.at(450ms).release(normal) == Actions{});
        CHECK(slot.at(549ms).tick() == Actions{});
        CHECK(slot.at(550ms).tick() == switched);
    }
    SECTION("nothing of it counts against a waiter that is older than aging") {
        slot.at(300ms).wait("b", low);
        CHECK(slot.scheduler.next_alarm() == 1300ms);
        CHECK(slot.at(1299ms).tick() == Actions{});
        CHECK(slot.at(1300ms).tick() == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
    }
    SECTION("a drain for a key of higher priority ends when only one of lower priority is left") {
        const RequestId rival = slot.at(300ms).wait("c", high);
        CHECK(slot.state("a") == ResidentState::draining);
        slot.wait("b", low);
        CHECK(slot.state("a") == ResidentState::draining);
        CHECK(slot.cancel(rival));
        CHECK(slot.actions == Actions{event(EventType::drain_ended, Reason::none, a, 1)});
    }
}

TEST_CASE("H32 with min_stay zero a key of low priority gets the place of what runs at high priority", "[H32]") {
    SlotTable slot(staying(0ms));
    load_within(slot, 100ms, "a", SlotTable::with_priority(Priority::high));
    slot.wait("b", SlotTable::with_priority(Priority::low));
    CHECK(slot.state("a") == ResidentState::draining);
}

TEST_CASE("H32 a key that ranks first waits for stay, drain and load at most", "[H32]") {
    SlotTable slot(staying());
    const Grant lease = load_within(slot, 100ms, "a");
    const RequestId first = slot.wait("b");
    const ResidentId a = slot.resident("a");
    // Its own waiters and other keys come without end: none of them delays it.
    for (std::chrono::milliseconds time = 110ms; time < 200ms; time += 10ms) {
        slot.at(time).tick();
        slot.release(slot.lease("a"));
    }
    slot.wait("c");
    slot.at(200ms).tick();
    CHECK(slot.state("a") == ResidentState::draining);
    slot.wait("a");
    slot.at(250ms).release(lease);
    CHECK(slot.state("a") == ResidentState::unloading);
    slot.unloaded(a);
    slot.at(350ms).loaded(slot.resident("b"));
    CHECK(slot.granted_to(first).resident == slot.resident("b"));
}

}  // namespace residency::test::slot_scheduler_hard_cases_test
