#include "residency/core/slot_scheduler.hpp"

#include "support/canonical.hpp"
#include "support/catch.hpp"
#include "support/slot_table.hpp"

#include <string>
#include <vector>

// What the rules of include/residency/README.md say of the scheduler. The hard cases are in
// slot_scheduler_hard_cases_test.cpp.

namespace residency::test::slot_scheduler_test {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

const SlotOptions plain{.keep_alive = 100ms,
                        .max_resident = 1,
                        .max_leases = 10,
                        .max_loads = 10,
                        .max_queue = 4,
                        .cooldown = 10ms,
                        .max_cooldown = 50ms,
                        .abandon_after = 0ms};

SlotOptions with_residents(std::size_t count) {
    SlotOptions options = plain;
    options.max_resident = count;
    return options;
}

SlotOptions with_leases(std::size_t count) {
    SlotOptions options = plain;
    options.max_leases = count;
    return options;
}

std::size_t unloads(const SlotTable& slot, Reason reason) {
    return static_cast<std::size_t>(slot.scheduler.counters().unloads[static_cast<std::size_t>(reason)]);
}

}  // namespace

// -- From the first request to the last -------------------------------------------------------------------------------

TEST_CASE("a request loads its model, is granted, and the idle model is unloaded", "[R5][R6]") {
    SlotTable slot(plain);
    CHECK(slot.scheduler.next_alarm() == core::never);

    const RequestId request = slot.at(1ms).wait("a");
    const ResidentId a = slot.resident("a");
    CHECK(slot.actions == Actions{load(a), event(EventType::load_started, Reason::requested, a)});
    CHECK(slot.counter() == 0);
    CHECK(slot.scheduler.next_alarm() == core::never);

    CHECK(slot.at(31ms).loaded(a) ==
          Actions{event(EventType::ready, Reason::requested, a, 1, 30ms), granted(request, a, 1)});
    CHECK(slot.counter() == 1);
    CHECK(slot.scheduler.leases() == 1);
    CHECK(slot.scheduler.waiting() == 0);

    CHECK(slot.at(40ms).release(slot.granted_to(request)) == Actions{});
    CHECK(slot.scheduler.next_alarm() == 140ms);
    CHECK(slot.at(139ms).tick() == Actions{});
    CHECK(slot.at(140ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    CHECK(slot.counter() == 2);
    CHECK(slot.scheduler.next_alarm() == core::never);

    CHECK(slot.at(145ms).unloaded(a) == Actions{event(EventType::unloaded, Reason::idle, a, 1, 5ms)});
    CHECK(slot.scheduler.residents().size() == 0);
    CHECK(slot.known_keys() == 0);
    CHECK(slot.scheduler.next_alarm() == core::never);

    const SlotCounters& done = slot.scheduler.counters();
    CHECK(done.loads == 1);
    CHECK(done.loaded == 1);
    CHECK(done.leases_granted == 1);
    CHECK(done.most_leases == 1);
    CHECK(done.most_waiting == 1);
    CHECK(done.unloaded() == 1);
    CHECK(unloads(slot, Reason::idle) == 1);
}

TEST_CASE("a lease on a ready model is granted at once, without a look at the time", "[R4]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    const Grant first = slot.lease("a");
    const Grant second = slot.lease("a");
    CHECK(first.resident == slot.resident("a"));
    CHECK_FALSE(first.request.valid());
    CHECK(slot.leases("a") == 2);
    CHECK(slot.scheduler.leases() == 2);
    CHECK(slot.scheduler.counters().most_leases == 2);

    SECTION("a quiet release is the same as any other") {
        SlotTable other = slot;
        slot.at(5ms);
        CHECK(slot.scheduler.release_quietly(first, slot.now));
        CHECK(other.at(5ms).release(first) == Actions{});
        CHECK(canonical(slot.scheduler, slot.now) == canonical(other.scheduler, other.now));
        CHECK(slot.scheduler.release_quietly(second, slot.now));
        CHECK(other.release(second) == Actions{});
        CHECK(canonical(slot.scheduler, slot.now) == canonical(other.scheduler, other.now));
        CHECK(slot.scheduler.leases() == 0);
        // The alarm of its load stands, and finds the later time.
        CHECK(slot.at(100ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 105ms);
    }
    SECTION("a release with a waiter is not quiet") {
        slot.wait("b");
        CHECK_FALSE(slot.scheduler.release_quietly(first, slot.now));
        CHECK(slot.leases("a") == 2);
    }
    SECTION("a release of what drains is not quiet") {
        slot.unload("a");
        CHECK_FALSE(slot.scheduler.release_quietly(first, slot.now));
        CHECK(slot.leases("a") == 2);
    }
    SECTION("the last release is not quiet if no alarm stands early enough") {
        slot.at(100ms).tick();
        CHECK(slot.scheduler.next_alarm() == core::never);
        CHECK(slot.scheduler.release_quietly(first, slot.now));
        CHECK_FALSE(slot.scheduler.release_quietly(second, slot.now));
        CHECK(slot.leases("a") == 1);
        CHECK(slot.release(second) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 200ms);
    }
    SECTION("nor if its keep-alive ends before the alarm") {
        const Grant brief = slot.lease("a", SlotTable::keeping_alive(1ms));
        CHECK(slot.scheduler.release_quietly(first, slot.now));
        CHECK(slot.scheduler.release_quietly(second, slot.now));
        CHECK_FALSE(slot.scheduler.release_quietly(brief, slot.now));
        CHECK(slot.release(brief) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 1ms);
    }
}

TEST_CASE("a request that is made to wait for what is there is granted in the same call", "[R9]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Enqueued enqueued = slot.scheduler.enqueue("a", {}, slot.now, slot.actions);
    REQUIRE(enqueued.request.valid());
    CHECK(slot.scheduler.leases() == 1);
    CHECK(slot.scheduler.waiting() == 0);
    slot.release({a, {}});
}

TEST_CASE("a grant says nothing of what was in it before", "[R4]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    Grant grant{{7, 7}, {8, 8}};
    REQUIRE(slot.try_grant("a", grant) == Attempt::granted);
    CHECK(grant == Grant{a, {}});
    slot.release(grant);
}

TEST_CASE("after shutdown has failed all waiters, nothing is left to wake for", "[R7][R12]") {
    SlotTable slot(plain);
    const RequestId first = slot.wait("a");
    slot.loaded(slot.resident("a"));
    const Grant held = slot.granted_to(first);
    RequestSpec spec;
    spec.deadline = slot.now + 5ms;
    slot.wait("b", spec);
    CHECK(slot.scheduler.next_alarm() == spec.deadline);
    slot.close();
    CHECK(slot.scheduler.next_alarm() == core::never);
    slot.release(held);
}

TEST_CASE("a lease that has a deadline is never released quietly", "[R9]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    slot.lease("a");
    const Grant timed = slot.lease("a", SlotTable::until(5ms, true));
    CHECK(timed.request.valid());
    CHECK_FALSE(slot.scheduler.release_quietly(timed, slot.now));
    CHECK(slot.release(timed) == Actions{});
    CHECK(slot.scheduler.queue().requests().size() == 0);
    CHECK(slot.scheduler.queue().deadlines().empty());
}

// -- R1 to R4 ---------------------------------------------------------------------------------------------------------

TEST_CASE("nothing is unloaded under a lease", "[R1]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant first = slot.lease("a");
    const Grant second = slot.lease("a");

    SECTION("not when idle time has long passed") { CHECK(slot.at(10'000ms).tick() == Actions{}); }
    SECTION("not for unload") {
        const TeardownId operation = slot.unload("a");
        CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::unload, a, 1)});
        CHECK(slot.release(first) == Actions{});
        CHECK(slot.release(second) == Actions{event(EventType::unload_started, Reason::unload, a, 1), unload(a)});
        CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::unload, a, 1), completed(operation)});
    }
    SECTION("not for a switch") {
        slot.wait("b");
        CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});
        CHECK(slot.release(first) == Actions{});
        CHECK(slot.release(second) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
        CHECK_FALSE(slot.has_resident("b"));
        slot.unloaded(a);
        CHECK(slot.state("b") == ResidentState::loading);
    }
    SECTION("not for shutdown") {
        slot.close();
        CHECK(slot.actions == Actions{event(EventType::shutdown_started, Reason::shutdown),
                                      event(EventType::drain_started, Reason::shutdown, a, 1)});
        CHECK(slot.release(first) == Actions{});
        CHECK(slot.release(second) == Actions{event(EventType::unload_started, Reason::shutdown, a, 1), unload(a)});
    }
}

TEST_CASE("a slot holds no more than max_resident, those loading and unloading included", "[R2]") {
    SlotTable slot(with_residents(2));
    slot.wait("a");
    slot.wait("b");
    const RequestId third = slot.wait("c");
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.residents().size() == 2);
    CHECK_FALSE(slot.has_resident("c"));

    const ResidentId a = slot.resident("a");
    slot.loaded(a);
    const Grant lease{a, {}};
    CHECK(slot.state("a") == ResidentState::draining);
    CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    CHECK_FALSE(slot.has_resident("c"));

    CHECK(slot.unloaded(a).size() == 3);
    const ResidentId c = slot.resident("c");
    CHECK(slot.actions == Actions{event(EventType::unloaded, Reason::switched, a, 1), load(c),
                                  event(EventType::load_started, Reason::requested, c)});
    slot.loaded(c);
    CHECK(slot.granted_to(third).resident == c);
}

TEST_CASE("all who ask for a key share one load and its outcome", "[R3]") {
    SlotTable slot(plain);
    const RequestId first = slot.wait("a");
    const RequestId second = slot.wait("a");
    CHECK(slot.actions == Actions{});
    const RequestId third = slot.wait("a");
    const ResidentId a = slot.resident("a");

    SECTION("a model") {
        CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1), granted(first, a, 1),
                                        granted(second, a, 1), granted(third, a, 1)});
        CHECK(slot.scheduler.counters().loads == 1);
    }
    SECTION("a failure, each with when to try again") {
        CHECK(slot.at(7ms).load_failed(a) == Actions{event(EventType::load_failed, Reason::requested, a, 0, 7ms),
                                                     failed(first, errc::load_failed, Stage::load, a, 10ms),
                                                     failed(second, errc::load_failed, Stage::load, a, 10ms),
                                                     failed(third, errc::load_failed, Stage::load, a, 10ms)});
        CHECK(slot.scheduler.residents().size() == 0);
        CHECK(slot.scheduler.waiting() == 0);
    }
    SECTION("one who leaves does not stop it") {
        CHECK(slot.cancel(first));
        CHECK(slot.actions == Actions{});
        CHECK(slot.cancel(third));
        CHECK(slot.actions == Actions{});
        CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1), granted(second, a, 1)});
        CHECK(slot.scheduler.counters().cancelled == 2);
    }
}

TEST_CASE("a decision to unload reads the count at the moment it acts", "[R4]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    // The alarm stood at 100 ms; the lease came before it, and a late expiry finds it.
    const Grant lease = slot.at(100ms).lease("a");
    CHECK(slot.tick() == Actions{});
    CHECK(slot.at(400ms).tick() == Actions{});
    CHECK(slot.release(lease) == Actions{});
    CHECK(slot.scheduler.next_alarm() == 500ms);
}

// -- R5: idle ---------------------------------------------------------------------------------------------------------

TEST_CASE("the keep-alive is counted from the end of the last lease", "[R5]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant first = slot.at(10ms).lease("a");
    const Grant second = slot.at(20ms).lease("a");
    slot.at(50ms).release(first);
    slot.at(300ms).release(second);
    CHECK(slot.scheduler.next_alarm() <= 400ms);
    CHECK(slot.at(399ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 400ms);
    CHECK(slot.at(400ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
}

TEST_CASE("a model that was never leased stays for one keep-alive from its load", "[R5]") {
    SlotTable slot(plain);
    slot.wait("a", SlotTable::load_only());
    const ResidentId a = slot.resident("a");
    slot.at(1000ms).loaded(a);
    CHECK(slot.scheduler.next_alarm() == 1100ms);
    CHECK(slot.at(1099ms).tick() == Actions{});
    CHECK(slot.at(1100ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
}

TEST_CASE("the alarm is set early enough for the timeouts that are to be expected", "[H14]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    const auto call = [&slot](milliseconds timeout) {
        slot.scheduler.note_timeout(timeout);
        slot.release(
            slot.lease("a", SlotTable::until(std::chrono::duration_cast<milliseconds>(slot.now) + timeout, true)));
    };
    slot.at(10ms);
    call(30ms);
    call(20ms);
    CHECK(slot.scheduler.next_alarm() == 30ms);
    // Another call does not move it, nor does a look before it rings.
    slot.at(20ms);
    call(20ms);
    CHECK(slot.tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 30ms);
    // It rings: no deadline has passed, and more calls like these will come, of which the shortest could end in 20 ms.
    CHECK(slot.at(30ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 50ms);
    call(20ms);
    CHECK(slot.scheduler.next_alarm() == 50ms);
    // Once more, by the one call that came since. After that none has come, and it stands at what is due.
    CHECK(slot.at(50ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 70ms);
    CHECK(slot.at(70ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 130ms);
    SECTION("which may be sooner") {
        call(80ms);
        CHECK(slot.at(130ms).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 170ms);
    }
    SECTION("but not where nothing is resident") {
        call(20ms);
        slot.unload("a");
        slot.unloaded(slot.resident("a"));
        CHECK(slot.scheduler.next_alarm() == core::never);
        slot.at(200ms).tick();
        CHECK(slot.scheduler.next_alarm() == core::never);
    }
}

TEST_CASE("early, late, stale and repeated ticks decide nothing by themselves", "[R5][R7]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    for (const auto time : {0ms, 1ms, 1ms, 50ms, 99ms}) {
        CHECK(slot.at(time).tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == 100ms);
    }
    const Grant lease = slot.lease("a");
    CHECK(slot.at(100ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == core::never);
    slot.at(110ms).release(lease);
    CHECK(slot.at(100'000ms).tick() == Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});
    CHECK(slot.tick() == Actions{});
    slot.unloaded(a);
    CHECK(slot.tick() == Actions{});
}

TEST_CASE("a tick that comes early sees who has been passed over for too long", "[R5]") {
    SlotOptions options = plain;
    options.max_resident = 1;
    options.aging = 10ms;
    SlotTable slot(options);
    slot.wait("a");
    slot.wait("b", SlotTable::with_priority(Priority::low));
    slot.wait("a", SlotTable::with_priority(Priority::high));
    slot.loaded(slot.resident("a"), 1);
    slot.release({slot.resident("a"), {}});
    slot.wait("a", SlotTable::with_priority(Priority::high));
    REQUIRE(slot.scheduler.next_alarm() == core::never);
    CHECK(slot.at(9ms).tick() == Actions{});
    CHECK(slot.at(10ms).tick() ==
          Actions{event(EventType::drain_started, Reason::switched, slot.resident("a"), slot.counter())});
}

TEST_CASE("a request in the instant of the expiry keeps the model or gets a fresh one", "[R5][R1]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    slot.at(100ms);
    SECTION("the request is first") {
        slot.lease("a");
        CHECK(slot.tick() == Actions{});
        CHECK(slot.state("a") == ResidentState::ready);
    }
    SECTION("the expiry is first") {
        slot.tick();
        const RequestId request = slot.wait("a");
        CHECK(slot.actions == Actions{});
        slot.unloaded(a);
        const ResidentId fresh = slot.resident("a");
        CHECK(slot.actions == Actions{event(EventType::unloaded, Reason::idle, a, 1), load(fresh),
                                      event(EventType::load_started, Reason::requested, fresh)});
        CHECK(slot.loaded(fresh) ==
              Actions{event(EventType::ready, Reason::requested, fresh, 3), granted(request, fresh, 3)});
    }
}

TEST_CASE("cancelling who waits for an unloading model does not bring it back", "[R5]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    slot.at(100ms).tick();
    const RequestId request = slot.wait("a");
    CHECK(slot.cancel(request));
    CHECK(slot.actions == Actions{});
    CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::idle, a, 1)});
    CHECK(slot.scheduler.residents().size() == 0);
}

TEST_CASE("a keep-alive of zero unloads when the model is free", "[R5]") {
    SlotOptions options = plain;
    options.keep_alive = 0ms;
    SlotTable slot(options);
    const RequestId request = slot.wait("a");
    const ResidentId a = slot.resident("a");
    slot.loaded(a);
    CHECK(slot.release(slot.granted_to(request)) ==
          Actions{event(EventType::unload_started, Reason::idle, a, 1), unload(a)});

    SECTION("also when it was only loaded ahead") {
        slot.unloaded(a);
        const RequestId ahead = slot.wait("a", SlotTable::load_only());
        const ResidentId again = slot.resident("a");
        CHECK(slot.loaded(again) == Actions{event(EventType::ready, Reason::requested, again, 3),
                                            granted(ahead, again, 3),
                                            event(EventType::unload_started, Reason::idle, again, 3), unload(again)});
    }
}

TEST_CASE("a keep-alive of forever, or past the end of time, never ends", "[R5]") {
    const auto years = [](int count) { return std::chrono::duration_cast<milliseconds>(hours(24 * 365 * count)); };
    for (const milliseconds keep_alive : {keep_alive_forever, keep_alive_forever - 1ms, years(250)}) {
        SlotOptions options = plain;
        options.keep_alive = keep_alive;
        SlotTable slot(options);
        slot.at(years(100));
        slot.make_ready("a");
        CHECK(slot.scheduler.next_alarm() == core::never);
        const Grant lease = slot.lease("a");
        CHECK(slot.release(lease) == Actions{});
        CHECK(slot.scheduler.next_alarm() == core::never);
        CHECK(slot.at(years(250)).tick() == Actions{});
        CHECK(slot.state("a") == ResidentState::ready);
    }
}

TEST_CASE("one alarm however many leases", "[R5][R7]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    for (int round = 0; round < 1000; ++round) {
        const Grant lease = slot.at(milliseconds(round / 20)).lease("a");
        CHECK(slot.release(lease) == Actions{});
        // Its first wish stands: nothing asks for another wait.
        CHECK(slot.scheduler.next_alarm() == 100ms);
    }
    CHECK(slot.at(100ms).tick() == Actions{});
    CHECK(slot.scheduler.next_alarm() == 149ms);
}

// -- R6, R8, R9, R11 --------------------------------------------------------------------------------------------------

TEST_CASE("the counter is raised when a model becomes usable and when it stops being so, and by nothing else", "[R6]") {
    SlotTable slot(with_residents(2));
    const ResidentId a = slot.make_ready("a");
    CHECK(slot.counter() == 1);
    slot.make_ready("b");
    CHECK(slot.counter() == 2);
    const Grant lease = slot.lease("a");
    slot.ensure("b");
    slot.release(lease);
    slot.tick();
    CHECK(slot.counter() == 2);
    slot.wait("c");
    CHECK(slot.counter() == 3);
    slot.unloaded(a);
    CHECK(slot.counter() == 3);
    slot.load_failed(slot.resident("c"));
    CHECK(slot.counter() == 3);
    slot.at(500ms).tick();
    CHECK(slot.counter() == 4);
}

TEST_CASE("leases that live are bounded over all residents, waiters by the queue", "[R8]") {
    SlotOptions options = with_residents(2);
    options.max_leases = 2;
    options.max_queue = 2;
    SlotTable slot(options);
    slot.make_ready("a");
    slot.make_ready("b");
    const Grant first = slot.lease("a");
    slot.lease("b");
    Grant none;
    CHECK(slot.try_grant("a", none) == Attempt::must_wait);
    const RequestId waits = slot.wait("a");
    slot.wait("b");

    SECTION("one more is overloaded at once, whether its model is resident or not") {
        for (const char* key : {"a", "b", "c"}) {
            const Enqueued refused = slot.enqueue(key);
            CHECK_FALSE(refused.request.valid());
            CHECK(refused.code == errc::overloaded);
            CHECK(refused.retry_after == core::Duration::zero());
        }
        CHECK(slot.scheduler.counters().overloaded == 3);
        CHECK(slot.scheduler.waiting() == 2);
        // Nothing is remembered of a key that was refused.
        CHECK(slot.known_keys() == 2);
    }
    SECTION("one that leaves makes place for one that comes") {
        CHECK(slot.cancel(waits));
        CHECK(slot.enqueue("a").request.valid());
    }
    SECTION("a lease that ends is the next waiter's") {
        CHECK(slot.release(first) == Actions{granted(waits, first.resident, 1)});
        CHECK(slot.scheduler.leases() == 2);
    }
}

TEST_CASE("a model takes no more leases at once than it says", "[R8]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a", 2);
    const Grant first = slot.lease("a");
    slot.lease("a");
    const RequestId third = slot.wait("a");
    CHECK(slot.actions == Actions{});
    CHECK(slot.scheduler.leases() == 2);
    CHECK(slot.release(first) == Actions{granted(third, a, 1)});
}

TEST_CASE("a model that says it takes no lease takes one", "[R8]") {
    SlotTable slot(plain);
    slot.make_ready("a", 0);
    slot.lease("a");
    Grant none;
    CHECK(slot.try_grant("a", none) == Attempt::must_wait);
}

TEST_CASE("a request completes once", "[R9]") {
    SlotTable slot(plain);
    const RequestId first = slot.wait("a");
    const RequestId second = slot.wait("a");
    const ResidentId a = slot.resident("a");
    CHECK(slot.cancel(first));
    CHECK_FALSE(slot.cancel(first));
    slot.loaded(a);
    CHECK_FALSE(slot.cancel(second));
    CHECK(slot.actions == Actions{});
    CHECK_FALSE(slot.cancel({}));
    // Its place is used again, its name is not.
    const RequestId third = slot.wait("b");
    CHECK((third.index == first.index || third.index == second.index));
    CHECK_FALSE(slot.cancel(first));
    CHECK_FALSE(slot.cancel(second));
    CHECK(slot.cancel(third));
}

TEST_CASE("who holds a lease can no longer be cancelled as a waiter", "[R9]") {
    SlotTable slot(plain);
    const RequestId request = slot.wait("a", SlotTable::until(50ms, true));
    const ResidentId a = slot.resident("a");
    CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1), granted(request, a, 1, true)});
    CHECK_FALSE(slot.cancel(request));
    CHECK(slot.leases("a") == 1);
}

TEST_CASE("a failed load leaves nothing behind", "[R11]") {
    SlotTable slot(plain);
    slot.wait("a");
    slot.load_failed(slot.resident("a"), errc::load_failed, "no such file");
    CHECK(slot.scheduler.residents().size() == 0);
    CHECK(slot.scheduler.next_alarm() == core::never);
    const core::KeyTable& keys = slot.scheduler.queue().keys();
    REQUIRE(keys.newest_failure() != core::none);
    CHECK(*keys.failures().back().message == "no such file");
    CHECK(keys.failures().back().count == 1);

    const RequestId request = slot.at(10ms).wait("a");
    const ResidentId fresh = slot.resident("a");
    CHECK(slot.actions == Actions{load(fresh), event(EventType::load_started, Reason::requested, fresh)});
    CHECK(slot.loaded(fresh) ==
          Actions{event(EventType::ready, Reason::requested, fresh, 1), granted(request, fresh, 1)});
    CHECK(keys.newest_failure() == core::none);
    CHECK(keys.size() == 1);
}

TEST_CASE("a switch whose load fails serves no request by another key's model", "[R11]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const RequestId request = slot.wait("b");
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    slot.unloaded(a);
    const ResidentId b = slot.resident("b");
    CHECK(slot.load_failed(b) == Actions{event(EventType::load_failed, Reason::requested, b),
                                         failed(request, errc::load_failed, Stage::load, b, 10ms)});
    CHECK(slot.scheduler.residents().size() == 0);
    Grant none;
    CHECK(slot.try_grant("a", none) == Attempt::must_wait);
}

TEST_CASE("a failed load makes place for the next key", "[R11]") {
    SlotTable slot(plain);
    const RequestId first = slot.wait("a");
    slot.wait("b");
    const ResidentId a = slot.resident("a");
    slot.load_failed(a);
    const ResidentId b = slot.resident("b");
    CHECK(slot.actions == Actions{event(EventType::load_failed, Reason::requested, a),
                                  failed(first, errc::load_failed, Stage::load, a, 10ms), load(b),
                                  event(EventType::load_started, Reason::requested, b)});
}

// -- Cooldown ---------------------------------------------------------------------------------------------------------

TEST_CASE("a cooldown starts with a failure, doubles up to its longest, and ends with a success", "[R11][cooldown]") {
    SlotTable slot(plain);
    auto time = 0ms;
    for (const auto cooldown : {10ms, 20ms, 40ms, 50ms, 50ms}) {
        const RequestId request = slot.at(time).wait("a");
        const ResidentId a = slot.resident("a");
        CHECK(slot.load_failed(a) == Actions{event(EventType::load_failed, Reason::requested, a),
                                             failed(request, errc::load_failed, Stage::load, a, cooldown)});
        const Enqueued refused = slot.at(time + 3ms).enqueue("a");
        CHECK_FALSE(refused.request.valid());
        CHECK(refused.code == errc::cooling_down);
        CHECK(refused.retry_after == cooldown - 3ms);
        CHECK(slot.at(time + cooldown - 1ms).enqueue("a").code == errc::cooling_down);
        time += cooldown;
    }
    CHECK(slot.scheduler.counters().cooling_down == 10);
    CHECK(slot.scheduler.counters().load_failures == 5);

    slot.at(time).wait("a");
    slot.loaded(slot.resident("a"));
    slot.release({slot.resident("a"), {}});
    const ResidentId a = slot.resident("a");
    slot.unload("a");
    slot.unloaded(a);
    CHECK(slot.known_keys() == 0);
    const RequestId request = slot.wait("a");
    const ResidentId again = slot.resident("a");
    CHECK(slot.load_failed(again) == Actions{event(EventType::load_failed, Reason::requested, again),
                                             failed(request, errc::load_failed, Stage::load, again, 10ms)});
}

TEST_CASE("one key's cooldown is nothing to another", "[cooldown]") {
    SlotTable slot(plain);
    slot.wait("a");
    slot.load_failed(slot.resident("a"));
    CHECK(slot.enqueue("a").code == errc::cooling_down);
    CHECK(slot.enqueue("b").request.valid());
}

TEST_CASE("a failure that is the caller's own starts no cooldown", "[cooldown]") {
    const errc code = GENERATE(errc::invalid_request, errc::unknown_model);
    SlotTable slot(plain);
    const RequestId request = slot.wait("a");
    const ResidentId a = slot.resident("a");
    CHECK(slot.load_failed(a, code) ==
          Actions{event(EventType::load_failed, Reason::requested, a), failed(request, code, Stage::load, a)});
    CHECK(slot.known_keys() == 0);
    CHECK(slot.enqueue("a").request.valid());
}

TEST_CASE("a request for an unknown key is refused, evicts nothing and leaves nothing behind", "[H5]") {
    SlotTable slot(plain);
    slot.make_ready("a");
    for (const RequestSpec& spec : {RequestSpec(), SlotTable::load_only(), SlotTable::about(3)}) {
        const Enqueued refused = slot.enqueue("b", SlotTable::unknown(spec));
        CHECK_FALSE(refused.request.valid());
        CHECK(refused.code == errc::unknown_model);
        CHECK(refused.stage == Stage::admission);
        CHECK(refused.retry_after == core::Duration::zero());
    }
    CHECK(slot.scheduler.counters().unknown_model == 3);
    CHECK(slot.state("a") == ResidentState::ready);
    CHECK(slot.scheduler.waiting() == 0);
    CHECK(slot.known_keys() == 1);
}

TEST_CASE("a key with a resident is known, unless its load has failed", "[H5]") {
    SlotTable slot(plain);
    CHECK_FALSE(slot.scheduler.has_resident("a"));
    slot.wait("a");
    CHECK(slot.scheduler.has_resident("a"));
    // What is loading, draining or unloading is waited for.
    CHECK(slot.enqueue("a", SlotTable::unknown()).request.valid());
    const ResidentId a = slot.resident("a");
    slot.loaded(a);
    CHECK(slot.scheduler.has_resident("a"));
    slot.unload("a");
    CHECK(slot.scheduler.has_resident("a"));
    CHECK(slot.enqueue("a", SlotTable::unknown(SlotTable::load_only())).request.valid());
    CHECK_FALSE(slot.scheduler.has_resident("b"));
}

TEST_CASE("a key whose failed load still has waiters to fail is asked about again", "[H5]") {
    SlotOptions options = plain;
    options.max_queue = 2 * SlotScheduler::slice;
    SlotTable slot(options);
    for (std::size_t waiter = 0; waiter < SlotScheduler::slice + 1; ++waiter) {
        slot.wait("a");
    }
    slot.load_failed(slot.resident("a"));
    REQUIRE(slot.scheduler.unfinished());
    CHECK(slot.has_resident("a"));
    CHECK_FALSE(slot.scheduler.has_resident("a"));
    CHECK(slot.enqueue("a", SlotTable::unknown()).code == errc::unknown_model);
}

TEST_CASE("with a cooldown of zero every failure is tried again at once", "[cooldown]") {
    SlotOptions options = plain;
    options.cooldown = 0ms;
    SlotTable slot(options);
    for (int round = 0; round < 3; ++round) {
        slot.wait("a");
        slot.load_failed(slot.resident("a"));
    }
    CHECK(slot.scheduler.counters().cooling_down == 0);
    // However often it failed: doubling nothing is not work that grows.
    CHECK(slot.scheduler.cooldown_after(core::none) == core::Duration::zero());
}

TEST_CASE("a cooldown as long as time does not overflow", "[cooldown]") {
    SlotOptions options = plain;
    options.cooldown = keep_alive_forever / 3;
    options.max_cooldown = keep_alive_forever;
    SlotTable slot(options);
    slot.at(1'000'000ms).wait("a");
    const ResidentId a = slot.resident("a");
    slot.load_failed(a);
    const Enqueued refused = slot.at(2'000'000ms).enqueue("a");
    CHECK(refused.code == errc::cooling_down);
    CHECK(refused.retry_after == core::never - core::Time(2'000'000ms));
    CHECK(slot.scheduler.cooldown_after(1'000'000) == core::Duration::max());
}

// -- Switch -----------------------------------------------------------------------------------------------------------

TEST_CASE("with the places taken an idle resident goes at once, the least recently used first", "[switch][R2]") {
    SlotTable slot(with_residents(3));
    for (const char* key : {"a", "b", "c"}) {
        slot.make_ready(key);
    }
    slot.at(5ms).release(slot.lease("a"));
    slot.at(6ms).release(slot.lease("c"));
    const ResidentId b = slot.resident("b");
    slot.at(7ms).wait("d");
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, b, 2), unload(b)});
    const ResidentId a = slot.resident("a");
    slot.wait("e");
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    slot.unloaded(b);
    CHECK(slot.state("d") == ResidentState::loading);
    slot.unloaded(a);
    CHECK(slot.state("e") == ResidentState::loading);
    CHECK(unloads(slot, Reason::switched) == 2);
}

TEST_CASE("of two that were never used, the one that was ready first goes first, wherever they stand", "[switch]") {
    SlotTable slot(with_residents(2));
    // Both load at once; the one in the later place is ready first, in the same instant.
    slot.wait("a", SlotTable::load_only());
    slot.wait("b", SlotTable::load_only());
    const RequestId waits = slot.wait("a", SlotTable::until(1000ms));
    CHECK(slot.cancel(waits));
    slot.cancel(RequestId{});
    const ResidentId a = slot.resident("a");
    const ResidentId b = slot.resident("b");
    SlotTable abandoned = slot;
    slot.loaded(b);
    slot.loaded(a);
    slot.wait("c");
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, b, 1), unload(b)});

    // The same for models that were never granted at all: those who asked for them have left.
    for (core::Index request = 0; request < abandoned.scheduler.queue().requests().end_index(); ++request) {
        if (abandoned.scheduler.queue().requests().used(request)) {
            abandoned.cancel(abandoned.scheduler.queue().requests().handle(request));
        }
    }
    abandoned.loaded(b);
    abandoned.loaded(a);
    abandoned.wait("c");
    CHECK(abandoned.actions == Actions{event(EventType::unload_started, Reason::switched, b, 1), unload(b)});
}

TEST_CASE("a resident in use drains before it goes, and one that turns idle meanwhile goes in its stead", "[switch]") {
    SlotTable slot(with_residents(2));
    const ResidentId a = slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    const Grant on_a = slot.lease("a");
    const Grant on_b = slot.lease("b");
    const RequestId request = slot.wait("c");
    CHECK(slot.actions == Actions{event(EventType::drain_started, Reason::switched, a, 1)});

    SECTION("its own lease ends first") {
        CHECK(slot.release(on_a) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    }
    SECTION("the other turns idle") {
        CHECK(slot.release(on_b) == Actions{event(EventType::unload_started, Reason::switched, b, 2), unload(b),
                                            event(EventType::drain_ended, Reason::none, a, 1)});
        CHECK(slot.state("a") == ResidentState::ready);
        slot.lease("a");
        slot.unloaded(b);
        slot.loaded(slot.resident("c"));
        CHECK(slot.granted_to(request).resident == slot.resident("c"));
        slot.release(on_a);
    }
}

TEST_CASE("an idle resident is not kept for the sake of one that drains to be unloaded", "[switch]") {
    SlotTable slot(with_residents(2));
    slot.make_ready("a");
    const ResidentId b = slot.make_ready("b");
    slot.lease("a");
    slot.unload("a");
    slot.wait("c");
    // The lease on `a` may take hours.
    CHECK(slot.actions == Actions{event(EventType::unload_started, Reason::switched, b, 2), unload(b)});
}

TEST_CASE("a place that comes free anyway is waited for", "[switch][H3]") {
    SlotTable slot(with_residents(2));
    const ResidentId a = slot.make_ready("a");
    slot.make_ready("b");
    slot.unload("a");
    CHECK(slot.state("a") == ResidentState::unloading);
    slot.wait("c");
    CHECK(slot.actions == Actions{});
    slot.unloaded(a);
    CHECK(slot.state("c") == ResidentState::loading);
    CHECK(slot.state("b") == ResidentState::ready);
}

TEST_CASE("first come, first served: who came before is not drained away", "[switch][H6]") {
    SlotTable slot(with_leases(1));
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    const RequestId before = slot.wait("a");
    const RequestId other = slot.wait("b");
    CHECK(slot.actions == Actions{});
    const RequestId behind = slot.wait("a");
    CHECK(slot.actions == Actions{});
    // The next in line is granted; then `b` comes before who is left.
    CHECK(slot.release(lease) ==
          Actions{granted(before, a, 1), event(EventType::drain_started, Reason::switched, a, 1)});
    CHECK(slot.release({a, {}}) == Actions{event(EventType::unload_started, Reason::switched, a, 1), unload(a)});
    slot.unloaded(a);
    const ResidentId b = slot.resident("b");
    CHECK(slot.loaded(b) == Actions{event(EventType::ready, Reason::requested, b, 3), granted(other, b, 3),
                                    event(EventType::drain_started, Reason::switched, b, 3)});
    slot.release({b, {}});
    slot.unloaded(b);
    const ResidentId again = slot.resident("a");
    CHECK(slot.loaded(again) ==
          Actions{event(EventType::ready, Reason::requested, again, 5), granted(behind, again, 5)});
}

TEST_CASE("a request revives a resident that drains only if it ranks before the key that gets the place",
          "[switch][H3]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    const Grant lease = slot.lease("a");
    slot.wait("b", SlotTable::with_priority(Priority::normal));
    CHECK(slot.state("a") == ResidentState::draining);
    Grant none;
    CHECK(slot.try_grant("a", none) == Attempt::must_wait);
    slot.wait("a", SlotTable::with_priority(Priority::normal));
    CHECK(slot.actions == Actions{});
    CHECK(slot.state("a") == ResidentState::draining);

    SECTION("it ranks after: the key that drained the resident gets its place") {
        slot.release(lease);
        slot.unloaded(a);
        CHECK(slot.state("b") == ResidentState::loading);
        CHECK_FALSE(slot.has_resident("a"));
    }
    SECTION("it ranks before: the resident returns at once, and drains again when it has served it") {
        const Enqueued high = slot.enqueue("a", SlotTable::with_priority(Priority::high));
        CHECK(slot.actions.at(0) == event(EventType::drain_ended, Reason::none, a, 1));
        CHECK(slot.actions.at(1) == granted(high.request, a, 1));
        CHECK(slot.actions.back() == event(EventType::drain_started, Reason::switched, a, 1));
    }
}

TEST_CASE("a resident that is loading makes place when it is ready", "[switch]") {
    SlotTable slot(plain);
    const RequestId first = slot.wait("a");
    slot.wait("b");
    CHECK(slot.actions == Actions{});
    const ResidentId a = slot.resident("a");
    CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1), granted(first, a, 1),
                                    event(EventType::drain_started, Reason::switched, a, 1)});
}

// -- Closing ----------------------------------------------------------------------------------------------------------

TEST_CASE("closing refuses, fails the waiters, asks loads to stop and unloads what is free", "[R12][close]") {
    SlotTable slot(with_residents(3));
    const ResidentId idle = slot.make_ready("idle");
    const ResidentId used = slot.make_ready("used");
    const Grant lease = slot.lease("used");
    const RequestId waits = slot.wait("loads");
    const ResidentId loads = slot.resident("loads");
    const RequestId needs_place = slot.wait("needs_place");
    CHECK(slot.state("idle") == ResidentState::unloading);

    slot.close();
    CHECK(slot.actions == Actions{event(EventType::shutdown_started, Reason::shutdown),
                                  failed(waits, errc::shutting_down, Stage::load),
                                  failed(needs_place, errc::shutting_down, Stage::queue),
                                  event(EventType::drain_started, Reason::shutdown, used, 2), stop_load(loads)});
    CHECK(slot.scheduler.closed());
    CHECK(slot.scheduler.waiting() == 0);
    Grant none;
    CHECK(slot.try_grant("used", none) == Attempt::shutting_down);
    CHECK(slot.ensure("used") == Attempt::shutting_down);
    CHECK(slot.close() == Actions{});

    SECTION("what a load still yields is unloaded unused") {
        CHECK(slot.at(9ms).loaded(loads) ==
              Actions{event(EventType::unload_started, Reason::shutdown, loads), unload(loads)});
        CHECK(slot.unloaded(loads) == Actions{event(EventType::unloaded, Reason::shutdown, loads)});
    }
    SECTION("a load that ends without a model has not failed") {
        CHECK(slot.load_failed(loads) == Actions{event(EventType::load_aborted, Reason::shutdown, loads)});
        CHECK(slot.scheduler.counters().load_failures == 0);
    }
    CHECK(slot.unloaded(idle).front().reason == Reason::switched);
    CHECK(slot.release(lease) == Actions{event(EventType::unload_started, Reason::shutdown, used, 2), unload(used)});
    CHECK(slot.unloaded(used) == Actions{event(EventType::unloaded, Reason::shutdown, used, 2)});
    CHECK(slot.scheduler.residents().size() == 0);
    CHECK(slot.known_keys() == 0);
    CHECK(slot.scheduler.queue().requests().size() == 0);
    CHECK(slot.scheduler.next_alarm() == core::never);
}

TEST_CASE("a shutdown completes when nothing is resident", "[R12][close]") {
    SlotTable slot(plain);
    SECTION("at once") {
        CHECK_FALSE(slot.shut_down(5ms).valid());
        CHECK(slot.actions == Actions{event(EventType::shutdown_started, Reason::shutdown)});
        CHECK(slot.scheduler.next_alarm() == core::never);
    }
    SECTION("when the last is gone") {
        const ResidentId a = slot.make_ready("a");
        const TeardownId operation = slot.shut_down();
        CHECK(slot.actions == Actions{event(EventType::shutdown_started, Reason::shutdown),
                                      event(EventType::unload_started, Reason::shutdown, a, 1), unload(a)});
        CHECK(slot.unloaded(a) == Actions{event(EventType::unloaded, Reason::shutdown, a, 1), completed(operation)});
    }
}

// -- Deadlines --------------------------------------------------------------------------------------------------------

TEST_CASE("a waiter whose deadline has passed leaves, and learns in which stage", "[H14]") {
    SlotTable slot(plain);
    const RequestId loads = slot.wait("a", SlotTable::until(20ms));
    const RequestId queues = slot.wait("b", SlotTable::until(10ms));
    const ResidentId a = slot.resident("a");
    CHECK(slot.scheduler.next_alarm() == 10ms);
    CHECK(slot.at(9ms).tick() == Actions{});
    CHECK(slot.at(10ms).tick() ==
          Actions{failed(queues, errc::timed_out, Stage::queue), slot.timed_out_event("b", Stage::queue, 10ms)});
    CHECK(slot.scheduler.next_alarm() == 20ms);
    // No waiter for the load is left.
    CHECK(slot.at(21ms).tick() == Actions{failed(loads, errc::timed_out, Stage::load),
                                          slot.timed_out_event("a", Stage::load, 21ms, 0, 21ms), stop_load(a)});
    CHECK(slot.scheduler.next_alarm() == core::never);
    CHECK(slot.scheduler.counters().timed_out == 2);
    CHECK(slot.scheduler.queue().keys().size() == 1);
}

TEST_CASE("a deadline that is past gets only what can be granted at once", "[H14]") {
    SlotTable slot(plain);
    slot.at(50ms);
    const Enqueued refused = slot.enqueue("a", SlotTable::until(50ms));
    CHECK_FALSE(refused.request.valid());
    CHECK(refused.code == errc::timed_out);
    CHECK(refused.stage == Stage::queue);
    CHECK(slot.actions == Actions{slot.timed_out_event("a", Stage::queue, 0ms)});
    CHECK(slot.scheduler.counters().timed_out == 1);
    CHECK(slot.known_keys() == 0);
    slot.make_ready("a");
    slot.lease("a", SlotTable::until(50ms));
}

TEST_CASE("whose time is up leaves before anybody is granted", "[H14]") {
    SlotTable slot(plain);
    const ResidentId a = slot.make_ready("a");
    slot.lease("a");
    const RequestId switches = slot.wait("b", SlotTable::until(10ms));
    const RequestId late = slot.wait("a", SlotTable::until(10ms));
    const RequestId in_time = slot.wait("a", SlotTable::until(20ms));
    CHECK(slot.state("a") == ResidentState::draining);
    slot.at(10ms).tick();
    REQUIRE(slot.actions.size() == 6);
    // The first two, in whichever order, and only then is the drain over and its waiter granted.
    const Actions left{slot.actions[0], slot.actions[2]};
    const Action first = failed(switches, errc::timed_out, Stage::queue);
    const Action second = failed(late, errc::timed_out, Stage::queue);
    CHECK((left == Actions{first, second} || left == Actions{second, first}));
    CHECK(Actions{slot.actions[4], slot.actions[5]} ==
          Actions{event(EventType::drain_ended, Reason::none, a, 1), granted(in_time, a, 1)});
}

TEST_CASE("a deadline may go on after the grant, until the lease is released", "[H14]") {
    SlotTable slot(plain);
    const RequestId request = slot.wait("a", SlotTable::until(50ms, true));
    const ResidentId a = slot.resident("a");
    CHECK(slot.loaded(a) == Actions{event(EventType::ready, Reason::requested, a, 1), granted(request, a, 1, true)});
    const Grant lease = slot.granted_to(request);
    CHECK(slot.scheduler.next_alarm() == 50ms);

    SECTION("it ends in time") {
        slot.at(49ms).release(lease);
        CHECK(slot.at(50ms).tick() == Actions{});
        CHECK(slot.scheduler.counters().timed_out == 0);
    }
    SECTION("it does not, and completes once") {
        CHECK(slot.at(50ms).tick() ==
              Actions{expired(request), slot.timed_out_event("a", Stage::inference, 50ms, 1, 0ms, 50ms)});
        CHECK(slot.tick() == Actions{});
        CHECK(slot.scheduler.next_alarm() == core::never);
        CHECK(slot.scheduler.counters().timed_out == 1);
        CHECK(slot.leases("a") == 1);
        CHECK(slot.at(60ms).release(lease) == Actions{});
        CHECK(slot.scheduler.next_alarm() == 160ms);
    }
    SECTION("a deadline that ends with the wait is forgotten at the grant") {
        const RequestId brief = slot.scheduler.enqueue("b", SlotTable::until(40ms), slot.now, slot.actions).request;
        CHECK(slot.release(lease).size() == 2);
        slot.unloaded(a);
        slot.loaded(slot.resident("b"));
        CHECK_FALSE(slot.scheduler.queue().requests().contains(brief));
        CHECK(slot.at(41ms).tick() == Actions{});
    }
}

TEST_CASE("the alarm stands at the earliest of all that is due", "[H14][R7]") {
    SlotTable slot(with_residents(2));
    slot.make_ready("a");
    CHECK(slot.scheduler.next_alarm() == 100ms);
    const RequestId request = slot.wait("b", SlotTable::until(30ms));
    CHECK(slot.scheduler.next_alarm() == 30ms);
    slot.cancel(request);
    // It may be earlier than what is due, never later; the next look puts it right.
    CHECK(slot.scheduler.next_alarm() <= 100ms);
    slot.at(30ms).tick();
    CHECK(slot.scheduler.next_alarm() == 100ms);
    slot.shut_down(40ms);
    CHECK(slot.scheduler.next_alarm() == 40ms);
}

// -- Many -------------------------------------------------------------------------------------------------------------

TEST_CASE("a hundred thousand waiters on many keys are served, each once", "[R8][R9]") {
    constexpr std::size_t many = 100'000;
    constexpr std::size_t keys = 1'000;
    SlotOptions options = plain;
    options.max_queue = many;
    options.max_leases = 1'000;
    options.max_resident = 2;
    SlotTable slot(options);
    std::vector<ModelKey> names;
    for (std::size_t key = 0; key < keys; ++key) {
        names.emplace_back("model " + std::to_string(key));
    }
    std::vector<RequestId> requests;
    for (std::size_t index = 0; index < many; ++index) {
        RequestSpec spec = SlotTable::until(milliseconds(1'000'000 + index));
        slot.actions.clear();
        const Enqueued enqueued = slot.scheduler.enqueue(names[index % keys], spec, slot.now, slot.actions);
        REQUIRE(enqueued.request.valid());
        requests.push_back(enqueued.request);
    }
    CHECK(slot.scheduler.waiting() == many);
    CHECK(slot.enqueue("one more").code == errc::overloaded);
    std::size_t cancelled = 0;
    for (std::size_t index = 0; index < many; index += 3) {
        REQUIRE(slot.cancel(requests[index]));
        ++cancelled;
    }
    std::size_t served = 0;
    std::vector<ResidentId> loading{slot.resident(names[0]), slot.resident(names[1])};
    while (!loading.empty()) {
        const ResidentId next = loading.back();
        loading.pop_back();
        std::vector<Action> todo = slot.loaded(next, options.max_leases);
        for (std::size_t step = 0; step < todo.size(); ++step) {
            const Action action = todo[step];
            Actions more;
            if (action.type == ActionType::grant) {
                ++served;
                slot.scheduler.release({slot.scheduler.residents().handle(action.resident), {}}, slot.now, more);
            } else if (action.type == ActionType::unload) {
                slot.scheduler.unloaded(slot.scheduler.residents().handle(action.resident), slot.now, more);
            } else if (action.type == ActionType::load) {
                loading.push_back(slot.scheduler.residents().handle(action.resident));
            }
            todo.insert(todo.end(), more.begin(), more.end());
        }
    }
    CHECK(served + cancelled == many);
    CHECK(slot.scheduler.waiting() == 0);
    CHECK(slot.scheduler.leases() == 0);
    CHECK(slot.scheduler.queue().requests().size() == 0);
    CHECK(slot.scheduler.queue().deadlines().empty());
}

}  // namespace residency::test::slot_scheduler_test
