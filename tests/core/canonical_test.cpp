#include "support/canonical.hpp"
#include "support/catch.hpp"
#include "support/slot_table.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

namespace residency::test::canonical_test {

namespace {

using namespace std::chrono_literals;

const SlotOptions plain{.keep_alive = 100ms,
                        .max_resident = 2,
                        .max_leases = 2,
                        .max_loads = 2,
                        .max_queue = 4,
                        .cooldown = 10ms,
                        .max_cooldown = 40ms,
                        .aging = 1000ms,
                        .abandon_after = 0ms};

using History = std::function<void(SlotTable&, milliseconds start)>;

std::vector<std::uint64_t> after(const History& history, milliseconds start = 0ms, const SlotOptions& options = plain) {
    SlotTable slot(options);
    slot.at(start);
    history(slot, start);
    return canonical(slot.scheduler, slot.now);
}

// A resident for each of these keys, in this order.
History ready(std::vector<const char*> keys) {
    return [keys](SlotTable& slot, milliseconds) {
        for (const char* key : keys) {
            slot.make_ready(key);
        }
    };
}

History then(const History& first, const History& second) {
    return [first, second](SlotTable& slot, milliseconds start) {
        first(slot, start);
        second(slot, start);
    };
}

void fail_load(SlotTable& slot, const char* key) {
    slot.wait(key);
    slot.load_failed(slot.resident(key));
}

}  // namespace

TEST_CASE("what is only history is not in the canonical state") {
    const History nothing = [](SlotTable&, milliseconds) {};
    const History all_over = [](SlotTable& slot, milliseconds) {
        const RequestId request = slot.wait("a");
        slot.wait("b");
        slot.cancel(request);
        const ResidentId a = slot.resident("a");
        const ResidentId b = slot.resident("b");
        slot.load_failed(a);
        slot.loaded(b);
        slot.release({b, {}});
        slot.unload("b");
        slot.unloaded(b);
    };
    CHECK(after(nothing) == after(all_over));
}

TEST_CASE("places and names in tables are not in the canonical state") {
    const History direct = [](SlotTable& slot, milliseconds) {
        slot.wait("a");
        slot.wait("b");
        slot.wait("b");
    };
    const History roundabout = [](SlotTable& slot, milliseconds) {
        const RequestId first = slot.wait("x");
        const RequestId second = slot.wait("a");
        slot.cancel(first);
        slot.wait("b");
        slot.load_failed(slot.resident("x"));
        slot.wait("a");
        slot.cancel(second);
        slot.wait("b");
    };
    // The other way round `a` and `b` have arrived in another order; what waits for loads that run anyway is kept apart
    // by that.
    const History like_roundabout = [](SlotTable& slot, milliseconds) {
        slot.wait("b");
        slot.wait("a");
        slot.wait("b");
    };
    CHECK(after(roundabout) == after(like_roundabout));
    CHECK(after(direct) != after(like_roundabout));
}

TEST_CASE("the canonical state is the same at any time of day") {
    const History busy = [](SlotTable& slot, milliseconds start) {
        slot.make_ready("a");
        slot.lease("a", SlotTable::until(start + 70ms, true));
        slot.at(start + 10ms).wait("b", SlotTable::until(start + 60ms));
        fail_load(slot, "b");
        slot.at(start + 15ms).wait("c");
        slot.unload("a");
        slot.shut_down(start + 90ms);
    };
    CHECK(after(busy, 0ms) == after(busy, 123'456ms));
    CHECK(after(busy, 0ms) == after(busy, std::chrono::hours(24 * 365 * 200)));
}

TEST_CASE("how long ago something was due decides nothing, how soon it will be does") {
    const auto at = [](milliseconds time) {
        return [time](SlotTable& slot, milliseconds) {
            slot.make_ready("a");
            slot.wait("b", SlotTable::until(50ms));
            slot.at(time);
        };
    };
    CHECK(after(at(1ms)) != after(at(2ms)));
    CHECK(after(at(99ms)) != after(at(100ms)));
    CHECK(after(at(1000ms)) == after(at(5000ms)));
}

TEST_CASE("whatever can influence what comes is in the canonical state") {
    const auto call = [](auto function) {
        return History([function](SlotTable& slot, milliseconds) { function(slot); });
    };
    const auto waits = [&](const RequestSpec& spec) { return call([spec](SlotTable& slot) { slot.wait("a", spec); }); };

    const std::vector<History> different{
        // Options and requests.
        call([](SlotTable&) {}),
        waits({}),
        waits(SlotTable::load_only()),
        waits(SlotTable::with_priority(Priority::high)),
        waits(SlotTable::with_priority(Priority::low)),
        waits(SlotTable::until(5ms)),
        waits(SlotTable::until(6ms)),
        waits(SlotTable::until(5ms, true)),
        waits(SlotTable::keeping_alive(3ms)),
        waits(SlotTable::keeping_alive(core::Duration::max())),
        then(waits({}), waits({})),
        then(waits({}), waits(SlotTable::load_only())),
        then(waits(SlotTable::load_only()), waits({})),
        // Loads.
        call([](SlotTable& slot) { slot.cancel(slot.wait("a")); }),
        call([](SlotTable& slot) { slot.cancel(slot.wait("a")), slot.wait("a"); }),
        call([](SlotTable& slot) { slot.wait("a"), slot.unload("a"); }),
        call([](SlotTable& slot) { slot.wait("a"), slot.unload("a", UnloadMode::revoke); }),
        call([](SlotTable& slot) { slot.wait("a"), slot.scheduler.forget(slot.unload("a")); }),
        // Readiness, leases, keep-alives.
        ready({"a"}),
        ready({"b"}),
        ready({"a", "b"}),
        ready({"b", "a"}),
        call([](SlotTable& slot) { slot.make_ready("a", 1); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.lease("a"); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a", SlotTable::keeping_alive(1ms)); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a", SlotTable::until(5ms, true)); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a", SlotTable::until(6ms, true)); }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.lease("a", SlotTable::until(5ms, true)), slot.at(5ms).tick();
        }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.make_ready("b"), slot.at(1ms), slot.release(slot.lease("a"));
        }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.make_ready("b"), slot.at(1ms), slot.release(slot.lease("b"));
        }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.make_ready("b"), slot.lease("a"), slot.lease("b"); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.make_ready("b"), slot.lease("b"), slot.lease("a"); }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.lease("a"), slot.lease("a"), slot.wait("a", SlotTable::expecting(1));
        }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.lease("a"), slot.wait("a"); }),
        // Draining and unloading.
        call([](SlotTable& slot) { slot.make_ready("a"), slot.at(100ms).tick(); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.scheduler.forget(slot.unload("a")); }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.lease("a"), slot.scheduler.forget(slot.unload("a", UnloadMode::revoke));
        }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.unload("a"); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.unload("a"), slot.unload("a"); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.unload_all(); }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.lease("a"), slot.make_ready("b"), slot.lease("b"), slot.wait("c"),
                slot.wait("d");
        }),
        call([](SlotTable& slot) {
            // The same two drain, in the other order.
            slot.make_ready("a"), slot.make_ready("b"), slot.lease("b"), slot.lease("a"), slot.wait("c"),
                slot.wait("d");
        }),
        // An operation waits for what was there before it, not for what came since.
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.lease("a"), slot.make_ready("b"), slot.unload("a"), slot.unload_all();
        }),
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.lease("a"), slot.unload("a"), slot.unload_all(), slot.make_ready("b");
        }),
        // Two keys lack a place.
        call([](SlotTable& slot) {
            slot.make_ready("a"), slot.make_ready("b"), slot.lease("a"), slot.lease("b"), slot.wait("c");
            slot.unload("a"), slot.unload("b");
        }),
        // Loads that have not begun.
        call([](SlotTable& slot) { slot.begins_loads = false, slot.wait("a"); }),
        call([](SlotTable& slot) { slot.begins_loads = false, slot.cancel(slot.wait("a")); }),
        call([](SlotTable& slot) { slot.begins_loads = false, slot.wait("a"), slot.unload("a"); }),
        // Model calls.
        waits(SlotTable::inference()),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a", SlotTable::inference()); }),
        // Failures.
        call([](SlotTable& slot) { fail_load(slot, "a"); }),
        call([](SlotTable& slot) { fail_load(slot, "b"); }),
        call([](SlotTable& slot) { fail_load(slot, "a"), slot.at(1ms); }),
        call([](SlotTable& slot) { fail_load(slot, "a"), slot.at(10ms); }),
        call([](SlotTable& slot) { fail_load(slot, "a"), slot.at(10ms), fail_load(slot, "a"), slot.at(30ms); }),
        call([](SlotTable& slot) { fail_load(slot, "a"), fail_load(slot, "b"); }),
        call([](SlotTable& slot) { fail_load(slot, "b"), fail_load(slot, "a"); }),
        // Shutting down.
        call([](SlotTable& slot) { slot.close(); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.close(); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.shut_down(); }),
        call([](SlotTable& slot) { slot.make_ready("a"), slot.lease("a"), slot.shut_down(5ms); }),
    };
    for (std::size_t left = 0; left < different.size(); ++left) {
        for (std::size_t right = 0; right < left; ++right) {
            CAPTURE(left, right);
            CHECK(after(different[left]) != after(different[right]));
        }
    }
}

TEST_CASE("an alarm that stands too early is part of the state") {
    const History fresh = [](SlotTable& slot, milliseconds) {
        slot.make_ready("a");
        slot.release(slot.lease("a", SlotTable::inference()));
    };
    const History stale = [](SlotTable& slot, milliseconds) {
        slot.make_ready("a");
        slot.lease("a", SlotTable::until(5ms, true));
        slot.release({slot.resident("a"), slot.scheduler.queue().requests().handle(0), true});
    };
    const auto look_at = [](milliseconds time) {
        return [time](SlotTable& slot, milliseconds start) { slot.at(start + time).tick(); };
    };
    CHECK(after(stale) != after(fresh));
    // A look before it rings leaves it where it is.
    CHECK(after(then(stale, look_at(4ms))) != after(then(fresh, look_at(4ms))));
    // The same but for who was granted last, which counts only beside another resident.
    CHECK(after(then(stale, look_at(5ms))) == after(then(fresh, look_at(5ms))));
}

TEST_CASE("the timeout that is expected is part of the state, until the alarm has rung") {
    const History fresh = ready({"a"});
    const auto expecting = [&fresh](milliseconds timeout) {
        return then(fresh, [timeout](SlotTable& slot, milliseconds) { slot.scheduler.note_timeout(timeout); });
    };
    CHECK(after(expecting(5ms)) != after(fresh));
    CHECK(after(expecting(5ms)) != after(expecting(6ms)));
    CHECK(after(then(expecting(6ms), [](SlotTable& slot, milliseconds) { slot.scheduler.note_timeout(5ms); })) ==
          after(expecting(5ms)));
    CHECK(after(then(expecting(5ms), [](SlotTable& slot, milliseconds) { slot.scheduler.note_timeout(6ms); })) ==
          after(expecting(5ms)));
    CHECK(after(expecting(0ms)) == after(fresh));
}

TEST_CASE("whether a resident became idle in this instant decides, among those that do so now, who goes first") {
    SlotOptions options = plain;
    options.keep_alive = keep_alive_forever;
    // `a` is in use for the longer time, `b` has been idle for as long as is known.
    const auto idle_for = [](milliseconds time) {
        return [time](SlotTable& slot, milliseconds start) {
            slot.make_ready("a");
            slot.lease("a");
            slot.make_ready("b");
            slot.release(slot.lease("b"));
            slot.at(start + time);
        };
    };
    CHECK(after(idle_for(0ms), 0ms, options) != after(idle_for(1ms), 0ms, options));
    CHECK(after(idle_for(1ms), 0ms, options) == after(idle_for(2ms), 0ms, options));

    const auto evicted = [&](milliseconds time) {
        SlotTable slot(options);
        idle_for(time)(slot, 0ms);
        slot.release({slot.resident("a"), {}});
        slot.wait("c");
        return std::string(slot.state("a") == ResidentState::unloading ? "a" : "b");
    };
    CHECK(evicted(0ms) == "a");
    CHECK(evicted(1ms) == "b");
}

TEST_CASE("options are part of the state") {
    const History nothing = [](SlotTable&, milliseconds) {};
    std::vector<SlotOptions> all(13, plain);
    all[1].keep_alive = 99ms;
    all[2].max_resident = 3;
    all[3].max_leases = 3;
    all[4].max_queue = 3;
    all[5].cooldown = 11ms;
    all[6].max_cooldown = 41ms;
    all[7].aging = 1001ms;
    all[8].max_calls = 1;
    all[9].max_loads = 1;
    all[10].abandon_after = 1ms;
    all[11].min_stay = 0ms;
    all[12].min_stay = 1ms;
    for (std::size_t left = 0; left < all.size(); ++left) {
        for (std::size_t right = 0; right < left; ++right) {
            CHECK(after(nothing, 0ms, all[left]) != after(nothing, 0ms, all[right]));
        }
    }
}

TEST_CASE("how often a load failed counts no further than the longest cooldown") {
    const auto failures = [](int count) {
        return [count](SlotTable& slot, milliseconds start) {
            for (int failure = 0; failure < count; ++failure) {
                fail_load(slot, "a");
                slot.at(start + 100ms * (failure + 1));
            }
        };
    };
    CHECK(after(failures(1)) != after(failures(2)));
    CHECK(after(failures(2)) == after(failures(3)));
    CHECK(after(failures(2)) == after(failures(9)));
}

TEST_CASE("the age of a waiter counts until it is older than aging") {
    const auto waited = [](milliseconds time) {
        return [time](SlotTable& slot, milliseconds) {
            slot.wait("a");
            slot.at(time);
        };
    };
    CHECK(after(waited(1ms)) != after(waited(2ms)));
    CHECK(after(waited(999ms)) != after(waited(1000ms)));
    CHECK(after(waited(1000ms)) == after(waited(9999ms)));
    const History looked = then(waited(1500ms), [](SlotTable& slot, milliseconds) { slot.tick(); });
    CHECK(after(looked) == after(waited(1000ms)));
}

TEST_CASE("whether the next lease or place goes by age is part of the state") {
    // A waiter that is granted leaves nothing behind but that.
    const History at_once = [](SlotTable& slot, milliseconds) {
        slot.make_ready("a");
        slot.at(2000ms).release(slot.lease("a"));
    };
    const History by_age = [](SlotTable& slot, milliseconds) {
        slot.wait("a");
        slot.at(2000ms).loaded(slot.resident("a"));
        slot.release({slot.resident("a"), {}});
    };
    CHECK(after(at_once) != after(by_age));
    const auto place = [](milliseconds waited) {
        return [waited](SlotTable& slot, milliseconds) {
            slot.wait("a");
            slot.wait("b");
            slot.wait("c");
            slot.at(waited).load_failed(slot.resident("a"), errc::invalid_request);
            slot.load_failed(slot.resident("c"), errc::invalid_request);
            slot.at(5000ms).tick();
        };
    };
    CHECK(after(place(1000ms)) != after(place(999ms)));
}

TEST_CASE("when an abandoned load stops and how long a claim lasts is part of the state", "[H1]") {
    SlotOptions options = plain;
    options.abandon_after = 10ms;
    const auto abandoned_for = [](milliseconds time) {
        return [time](SlotTable& slot, milliseconds) { slot.cancel(slot.wait("a")), slot.at(time); };
    };
    CHECK(after(abandoned_for(0ms), 0ms, options) != after(abandoned_for(1ms), 0ms, options));
    const auto claims = [](milliseconds deadline) {
        return [deadline](SlotTable& slot, milliseconds) {
            slot.begins_loads = false;
            slot.wait("a", SlotTable::until(deadline));
            slot.at(deadline).tick();
            slot.at(5ms);
        };
    };
    CHECK(after(claims(4ms), 0ms, options) != after(claims(5ms), 0ms, options));
    CHECK(after(claims(5ms), 0ms, options) != after(claims(6ms), 0ms, options));
}

TEST_CASE("how long a resident will stay, and what it serves, is part of the state", "[H32]") {
    SlotOptions options = plain;
    options.keep_alive = keep_alive_forever;
    // Loads `a` within that time, leases it and looks at a later time.
    const auto loaded_within = [](milliseconds load, milliseconds rest, Priority priority = Priority::normal) {
        return [=](SlotTable& slot, milliseconds start) {
            const RequestId waits = slot.wait("a", SlotTable::with_priority(priority));
            slot.at(start + load).loaded(slot.resident("a"));
            const Grant lease = slot.granted_to(waits);
            slot.at(start + load + rest);
            if (rest == 0ms) {
                slot.release(lease);
            }
        };
    };
    const auto seen = [&](const History& history) { return after(history, 0ms, options); };
    CHECK(seen(loaded_within(10ms, 1ms)) != seen(loaded_within(11ms, 1ms)));
    CHECK(seen(loaded_within(10ms, 1ms)) != seen(loaded_within(10ms, 2ms)));
    CHECK(seen(loaded_within(10ms, 1ms)) != seen(loaded_within(10ms, 1ms, Priority::low)));
    CHECK(seen(loaded_within(10ms, 1ms, Priority::high)) != seen(loaded_within(10ms, 1ms)));
    CHECK(seen(loaded_within(10ms, 0ms, Priority::high)) != seen(loaded_within(10ms, 0ms)));
    CHECK(seen(loaded_within(10ms, 10ms)) == seen(loaded_within(10ms, 20ms)));
    CHECK(seen(loaded_within(2000ms, 1ms)) == seen(loaded_within(1000ms, 1ms)));

    // How long a load has taken so far counts up to `aging`, and not at all where residents do not stay.
    const auto loading_for = [](milliseconds time) {
        return [=](SlotTable& slot, milliseconds start) {
            slot.wait("a", SlotTable::load_only());
            slot.at(start + time);
        };
    };
    options.aging = 0ms;
    CHECK(seen(loading_for(1ms)) == seen(loading_for(2ms)));
    CHECK(seen(loaded_within(10ms, 1ms)) == seen(loaded_within(11ms, 2ms)));
    options.aging = 3ms;
    CHECK(seen(loading_for(1ms)) != seen(loading_for(2ms)));
    CHECK(seen(loading_for(3ms)) == seen(loading_for(4ms)));
    options.min_stay = 0ms;
    options.aging = 0ms;
    CHECK(seen(loaded_within(10ms, 1ms)) == seen(loaded_within(11ms, 2ms)));
}

TEST_CASE("which key ranks last, and until when, is part of the state", "[H6]") {
    SlotOptions options = plain;
    options.max_resident = 1;
    const auto evicts = [](const char* evicted) {
        return [evicted](SlotTable& slot, milliseconds) {
            slot.make_ready(evicted);
            slot.wait("x");
            slot.wait(evicted);
        };
    };
    const History unloaded = [](SlotTable& slot, milliseconds) {
        slot.make_ready("a");
        slot.unload("a");
        slot.scheduler.forget(slot.scheduler.teardowns().handle(0));
        slot.wait("x");
        slot.wait("a");
    };
    CHECK(after(evicts("a"), 0ms, options) != after(unloaded, 0ms, options));
}

TEST_CASE("refusals that no event has reported yet are part of the state, how many is not", "[H19]") {
    SlotOptions options = plain;
    options.max_queue = 1;
    const auto refused = [](int count, milliseconds time) {
        return [count, time](SlotTable& slot, milliseconds) {
            slot.wait("a");
            for (int refusal = 0; refusal < count; ++refusal) {
                slot.enqueue("b");
            }
            slot.at(time);
        };
    };
    CHECK(after(refused(0, 0ms), 0ms, options) != after(refused(1, 0ms), 0ms, options));
    CHECK(after(refused(1, 0ms), 0ms, options) != after(refused(2, 0ms), 0ms, options));
    CHECK(after(refused(2, 0ms), 0ms, options) == after(refused(3, 0ms), 0ms, options));
    CHECK(after(refused(1, 0ms), 0ms, options) != after(refused(1, 1ms), 0ms, options));
    CHECK(after(refused(1, 1000ms), 0ms, options) == after(refused(0, 1000ms), 0ms, options));
}

TEST_CASE("equal schedulers have equal hashes, and a set keeps others apart") {
    std::unordered_set<SlotScheduler> seen;
    SlotTable slot(plain);
    CHECK(seen.insert(slot.scheduler).second);
    CHECK_FALSE(seen.insert(SlotScheduler(plain)).second);
    slot.wait("a");
    const SlotTable copy = slot;
    CHECK(std::hash<SlotScheduler>{}(copy.scheduler) == std::hash<SlotScheduler>{}(slot.scheduler));
    CHECK(seen.insert(slot.scheduler).second);
    CHECK_FALSE(seen.insert(copy.scheduler).second);
    slot.loaded(slot.resident("a"));
    CHECK(seen.insert(slot.scheduler).second);
    CHECK(seen.size() == 3);
}

}  // namespace residency::test::canonical_test
