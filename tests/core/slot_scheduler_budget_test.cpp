// Slots that share a memory budget: H33 to H38 as the schedulers and the ledger decide them together.

#include "support/memory_world.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace slot_scheduler_budget_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t embedding = 0;
constexpr std::size_t reranker = 1;

SlotOptions options(std::size_t bytes, std::size_t max_resident = 1) {
    SlotOptions slot;
    slot.max_resident = max_resident;
    slot.model_memory = bytes;
    return slot;
}

// An embedding and a reranker slot, whose models need 60 and 50 bytes.
MemoryWorld two_slots(std::size_t limit, std::size_t max_resident = 4) {
    MemoryWorld world(limit);
    world.add(options(60, max_resident));
    world.add(options(50, max_resident));
    return world;
}

// A request for a key of so many bytes, a millisecond after what came before.
void request(MemoryWorld& world, std::size_t slot, const char* name, std::size_t bytes, bool is_call,
             Priority priority) {
    world.wait(1ms);
    world.request(slot, name, is_call, priority);
    world.size(slot, bytes);
}

// Two slots with one lease each, which is taken: what is loaded is not used. Of 170 bytes 60 are left.
MemoryWorld without_leases() {
    MemoryWorld world(170);
    for (int slot = 0; slot < 2; ++slot) {
        SlotOptions one = options(0, 0);
        one.max_leases = 1;
        one.aging = 0ms;
        one.min_stay = 0ms;
        world.add(one, true);
    }
    request(world, embedding, "a", 60, false, Priority::normal);
    request(world, reranker, "b", 50, false, Priority::normal);
    world.work();
    REQUIRE(world.slots[embedding].grants.size() == 1);
    REQUIRE(world.slots[reranker].grants.size() == 1);
    return world;
}

// Loads and unloads end, in both slots, until there are none: which is soon.
void load_and_unload(MemoryWorld& world) {
    const auto is_busy = [](const MemorySlot& slot) { return !slot.loads.empty() || !slot.unloads.empty(); };
    int rounds = 0;
    for (; rounds < 20 && (is_busy(world.slots[embedding]) || is_busy(world.slots[reranker])); ++rounds) {
        for (const std::size_t slot : {embedding, reranker}) {
            if (!world.slots[slot].loads.empty()) {
                world.load(slot);
            } else if (!world.slots[slot].unloads.empty()) {
                world.unload(slot);
            }
        }
    }
    REQUIRE(rounds < 20);
}

// So many leases end, one after the other, and with that all that waited was served.
void end_leases(MemoryWorld& world, int count) {
    for (int lease = 0; lease < count; ++lease) {
        const std::size_t slot = world.slots[reranker].grants.empty() ? embedding : reranker;
        REQUIRE(!world.slots[slot].grants.empty());
        world.release(slot);
        world.work();
    }
    CHECK(world.slots[embedding].scheduler.queue().empty());
    CHECK(world.slots[reranker].scheduler.queue().empty());
}

}  // namespace

TEST_CASE("Models that fit together are loaded beside each other, and nothing goes", "[core][H33][R13]") {
    MemoryWorld world = two_slots(110);
    CHECK(world.request(embedding, "a"));
    CHECK(world.request(reranker, "b"));
    world.work();
    CHECK(world.is_ready(embedding, "a"));
    CHECK(world.is_ready(reranker, "b"));
    CHECK(world.ledger.reserved() == 110);
    CHECK(world.slots[embedding].grants.size() == 1);
    CHECK(world.slots[reranker].grants.size() == 1);
}

TEST_CASE("Two slots without a free lease do not load and evict each other's models for ever", "[core][H32][R15]") {
    MemoryWorld world = without_leases();
    // 60 bytes are left: too little for the oldest key, so that the next reservation goes by age again and again. Of
    // the other two the first came before the second, which ranks before it.
    request(world, embedding, "large", 70, true, Priority::low);
    request(world, embedding, "c", 60, true, Priority::low);
    request(world, reranker, "d", 50, true, Priority::normal);
    load_and_unload(world);
    CHECK(world.is_ready(reranker, "d"));
    // All are served once their slots have a lease free.
    end_leases(world, 5);
}

TEST_CASE("What is loaded beside a key that memory is kept for does not end that key's turn", "[core][H35][R15]") {
    MemoryWorld world = without_leases();
    // 60 bytes are left, for the oldest key by age, or for the one that ranks before it; the small one fits beside
    // either. No slot has a lease free, so that what is loaded is not used.
    request(world, reranker, "oldest", 40, true, Priority::low);
    request(world, reranker, "high", 40, true, Priority::high);
    request(world, embedding, "small", 20, true, Priority::normal);
    load_and_unload(world);
    CHECK(world.is_ready(reranker, "high"));
    CHECK(world.is_ready(embedding, "small"));
    end_leases(world, 5);
}

TEST_CASE("What waits for a model that unloads fails once it is gone if it can never fit again", "[core][H35][R13]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.request(embedding, "a", false);
    world.size(embedding, 60);
    world.work();
    REQUIRE(world.slots[embedding].grants.size() == 1);
    world.decide(embedding, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
        const ModelKey a{"a"};
        scheduler.unload(&a, UnloadMode::drain, world.now, actions);
    });
    CHECK(world.request(embedding, "a"));
    CHECK(world.request(embedding, "b", false, Priority::high));
    world.size(embedding, 20);
    world.set_limit(50);
    CHECK(world.slots[embedding].failures.empty());
    world.release(embedding);
    world.unload(embedding);
    REQUIRE(world.slots[embedding].failures.size() == 1);
    CHECK(world.slots[embedding].failures.front() == std::pair(errc::insufficient_memory, Stage::memory));
    world.work();
    CHECK(world.is_ready(embedding, "b"));
    CHECK(world.slots[embedding].scheduler.queue().empty());
}

TEST_CASE("A late answer about memory that was given back is not taken for the answer to a later question",
          "[core][H33]") {
    SlotOptions slot = options(2, 1);
    core::SlotScheduler scheduler(slot, 10, false);
    core::Actions actions;
    core::RequestSpec spec;
    const core::Time now{0};
    const core::Enqueued first = scheduler.enqueue(ModelKey{"a"}, spec, now, actions);
    REQUIRE(scheduler.memory_requests().size() == 1);
    const core::Index key = scheduler.memory_requests().front().key;
    scheduler.memory_requests().clear();
    const core::MemoryId earlier{0, 1};
    const core::MemoryId later{1, 2};
    scheduler.memory_answered(key, earlier, core::MemoryVerdict::lacking, now, actions);
    // The budget reserves it; before that is known here, the waiter has left, and another has come.
    REQUIRE(scheduler.cancel(first.request, now, actions));
    REQUIRE(scheduler.memory_requests().size() == 1);
    CHECK(scheduler.memory_requests().front().type == core::MemoryRequest::Type::give_back);
    scheduler.memory_requests().clear();
    const std::string name = GENERATE("a", "b");
    REQUIRE(scheduler.enqueue(ModelKey{name}, spec, now, actions).request.valid());
    REQUIRE(scheduler.memory_requests().size() == 1);
    REQUIRE(scheduler.memory_requests().front().type == core::MemoryRequest::Type::reserve);
    REQUIRE(scheduler.memory_requests().front().key == key);
    scheduler.memory_requests().clear();
    actions.clear();
    SECTION("that it is reserved") {
        scheduler.memory_answered(key, earlier, core::MemoryVerdict::reserved, now, actions);
    }
    SECTION("that it can never be") {
        scheduler.memory_answered(key, earlier, core::MemoryVerdict::impossible, now, actions);
    }
    CHECK(actions.empty());
    CHECK(scheduler.residents().size() == 0);
    scheduler.memory_answered(key, later, core::MemoryVerdict::reserved, now, actions);
    REQUIRE(scheduler.residents().size() == 1);
    CHECK(scheduler.residents()[0].memory == later);
}

TEST_CASE("The longest idle model of all slots goes for one that does not fit beside it", "[core][H36]") {
    MemoryWorld world = two_slots(180);
    for (const char* name : {"a", "b"}) {
        world.request(embedding, name);
        world.work();
        world.release(embedding);
        world.wait(1s);
    }
    world.request(reranker, "c");
    world.work();
    world.release(reranker);
    REQUIRE(world.ledger.reserved() == 170);
    world.wait(1s);
    world.request(reranker, "d");
    CHECK(world.resident(embedding, "a")->state == ResidentState::unloading);
    CHECK(world.resident(embedding, "a")->reason == Reason::memory);
    world.work();
    CHECK(world.is_ready(reranker, "d"));
    CHECK(world.is_ready(embedding, "b"));
    CHECK(world.is_ready(reranker, "c"));
    CHECK(world.slots[embedding].scheduler.counters().unloads[static_cast<std::size_t>(Reason::memory)] == 1);
}

TEST_CASE("A model in use drains for another slot's, after its stay", "[core][H32][H36]") {
    MemoryWorld world = two_slots(100);
    world.request(embedding, "a");
    world.wait(0s);
    // Its load takes two seconds, so it stays for two.
    const core::ResidentId id = world.slots[embedding].loads.front();
    world.slots[embedding].loads.clear();
    world.decide(embedding, [&](core::SlotScheduler& slot, core::Actions& actions) {
        CHECK(slot.load_begins(id, world.now, actions));
    });
    world.now += 2s;
    world.decide(embedding,
                 [&](core::SlotScheduler& slot, core::Actions& actions) { slot.loaded(id, 4, world.now, actions); });
    world.request(reranker, "b");
    CHECK(world.is_ready(embedding, "a"));
    CHECK(world.slots[reranker].scheduler.next_alarm() == core::Time(4s));
    world.wait(2s);
    CHECK(world.resident(embedding, "a")->state == ResidentState::draining);
    SECTION("its lease ends") {
        world.release(embedding);
        world.work();
        CHECK(world.is_ready(reranker, "b"));
        CHECK(world.resident(embedding, "a") == nullptr);
    }
    SECTION("the other's waiter leaves") {
        core::RequestId waiter;
        const auto& requests = world.slots[reranker].scheduler.queue().requests();
        for (core::Index index = 0; index < requests.end_index(); ++index) {
            waiter = requests.used(index) ? requests.handle(index) : waiter;
        }
        world.decide(reranker, [&](core::SlotScheduler& slot, core::Actions& actions) {
            CHECK(slot.cancel(waiter, world.now, actions));
        });
        CHECK(world.is_ready(embedding, "a"));
        CHECK(world.ledger.waiting() == 0);
    }
}

TEST_CASE("A key that needs more than the limit is refused before it claims a place", "[core][H34][H35][R13]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.request(embedding, "small");
    REQUIRE(world.slots[embedding].sizes.size() == 1);
    CHECK(world.slots[embedding].loads.empty());
    world.size(embedding, 40);
    world.work();
    world.release(embedding);
    world.wait(1s);
    world.request(embedding, "large");
    world.size(embedding, 101);
    REQUIRE(world.slots[embedding].failures.size() == 1);
    CHECK(world.slots[embedding].failures.front() == std::pair(errc::insufficient_memory, Stage::memory));
    CHECK(world.is_ready(embedding, "small"));
    CHECK(world.ledger.waiting() == 0);
}

TEST_CASE("An estimate that throws is a failed load", "[core][H34]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.request(embedding, "a");
    const core::Index key = world.slots[embedding].sizes.front();
    world.decide(embedding, [&](core::SlotScheduler& slot, core::Actions& actions) {
        slot.size_failed(key, errc::load_failed, nullptr, world.now, actions);
    });
    REQUIRE(world.slots[embedding].failures.size() == 1);
    CHECK(world.slots[embedding].failures.front() == std::pair(errc::load_failed, Stage::memory));
    CHECK_FALSE(world.request(embedding, "a"));
    CHECK(world.slots[embedding].failures.back().first == errc::cooling_down);
    world.wait(1s);
    CHECK(world.request(embedding, "a"));
    CHECK(world.slots[embedding].sizes.size() == 2);
}

TEST_CASE("A key that waits for memory leaves its place to one that fits", "[core][H34][H35]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.add(options(80, 1));
    // A bare lease in the other slot: for how long is not known.
    world.request(reranker, "held", false);
    world.work();
    REQUIRE(world.slots[reranker].grants.size() == 1);
    world.request(embedding, "big");
    world.size(embedding, 50);
    CHECK(world.ledger.waiting() == 1);
    world.request(embedding, "small");
    world.size(embedding, 20);
    world.work();
    CHECK(world.is_ready(embedding, "small"));
    CHECK(world.slots[embedding].grants.size() == 1);
    // Once the lease has ended and its model may go, the big one is served.
    world.release(reranker);
    world.wait(1s);
    world.work();
    CHECK(world.ledger.waiting() == 0);
    // Its place is another's by now: it keeps its memory, and has the next place.
    CHECK(world.ledger.reserved() == 70);
    CHECK(world.resident(embedding, "small")->state == ResidentState::draining);
    SECTION("once that is there") {
        world.release(embedding);
        world.work();
        CHECK(world.is_ready(embedding, "big"));
    }
    SECTION("unless the limit becomes too low for it meanwhile") {
        world.set_limit(40);
        REQUIRE(world.slots[embedding].failures.size() == 1);
        CHECK(world.slots[embedding].failures.front() == std::pair(errc::insufficient_memory, Stage::memory));
        CHECK(world.ledger.reserved() == 20);
        CHECK(world.is_ready(embedding, "small"));
    }
}

TEST_CASE("A key that pinned models alone keep out takes no other's place", "[core][H35][R13]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.add(options(50));
    world.request(reranker, "pinned", true, Priority::normal, (core::Duration::max)());
    world.work();
    const bool is_in_use = GENERATE(false, true);
    world.request(embedding, "small");
    world.size(embedding, 20);
    world.work();
    if (!is_in_use) {
        world.release(embedding);
    }
    world.wait(1s);
    CHECK(world.request(embedding, "large"));
    world.size(embedding, 60);
    REQUIRE(world.slots[embedding].failures.size() == 1);
    CHECK(world.slots[embedding].failures.front() == std::pair(errc::insufficient_memory, Stage::memory));
    CHECK(world.is_ready(embedding, "small"));
    // What can have its memory gets the place.
    CHECK(world.request(embedding, "medium"));
    world.size(embedding, 50);
    if (is_in_use) {
        world.release(embedding);
    }
    world.work();
    CHECK(world.is_ready(embedding, "medium"));
}

TEST_CASE("A key whose memory a bare lease keeps takes no other's place before that has ended", "[core][H35][R13]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.add(options(80, 1));
    world.request(reranker, "held", false);
    world.work();
    world.request(embedding, "small");
    world.size(embedding, 20);
    world.work();
    world.release(embedding);
    world.wait(1s);
    CHECK(world.request(embedding, "large"));
    world.size(embedding, 50);
    CHECK(world.is_ready(embedding, "small"));
    CHECK(world.ledger.waiting() == 1);
    // Another that fits passes it by.
    CHECK(world.request(embedding, "medium"));
    world.size(embedding, 20);
    world.work();
    CHECK(world.is_ready(embedding, "medium"));
    world.release(embedding);
    world.wait(1s);
    CHECK(world.is_ready(embedding, "medium"));
    world.release(reranker);
    world.wait(1s);
    world.work();
    CHECK(world.is_ready(embedding, "large"));
}

TEST_CASE("What goes for good under a bare lease is waited for by no key that idle models could make room for",
          "[core][H35][H36]") {
    MemoryWorld world = two_slots(110);
    world.request(embedding, "held", false);
    world.request(reranker, "idle");
    world.work();
    world.release(reranker);
    world.wait(1s);
    // Also after the end of its slot, which a lease may outlive.
    const bool ends = GENERATE(false, true);
    world.decide(embedding, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
        if (ends) {
            scheduler.close(world.now, actions);
        } else {
            scheduler.unload(nullptr, UnloadMode::drain, world.now, actions);
        }
    });
    CHECK(world.request(reranker, "other"));
    world.work();
    CHECK(world.is_ready(reranker, "other"));
    CHECK(world.resident(reranker, "idle") == nullptr);
    CHECK(world.ledger.reserved() == 110);
    // One that idle models could make no room for waits until it has ended.
    world.release(reranker);
    CHECK(world.request(reranker, "third"));
    CHECK(world.request(reranker, "fourth"));
    world.work();
    world.wait(1s);
    world.work();
    world.release(embedding);
    world.work();
    CHECK(world.ledger.reserved() == 100);
    CHECK(world.ledger.waiting() == 0);
}

TEST_CASE("A key that waits for a place because its memory came late is in the stage of that", "[core][H34]") {
    MemoryWorld world = two_slots(120, 1);
    core::SlotScheduler& scheduler = world.slots[embedding].scheduler;
    core::Actions actions;
    core::RequestSpec spec;
    spec.deadline = world.now + 1s;
    scheduler.enqueue(ModelKey("a"), spec, world.now, actions);
    const core::Index key = scheduler.memory_requests().back().key;
    core::MemoryId id;
    id.index = 7;
    id.serial = 1;
    scheduler.memory_answered(key, id, core::MemoryVerdict::lacking, world.now, actions);
    spec.deadline = core::never;
    scheduler.enqueue(ModelKey("b"), spec, world.now, actions);
    core::MemoryId other = id;
    other.index = 8;
    scheduler.memory_answered(scheduler.memory_requests().back().key, other, core::MemoryVerdict::reserved, world.now,
                              actions);
    const bool comes = GENERATE(false, true);
    if (comes) {
        scheduler.memory_answered(key, id, core::MemoryVerdict::reserved, world.now, actions);
    }
    actions.clear();
    scheduler.tick(world.now + 1s, actions);
    const auto failure = std::find_if(actions.begin(), actions.end(), [](const core::Action& action) {
        return action.type == core::ActionType::fail && action.code == errc::timed_out;
    });
    REQUIRE(failure != actions.end());
    CHECK(failure->stage == (comes ? Stage::queue : Stage::memory));
}

TEST_CASE("What is pinned while the budget says how much memory there could be is not counted twice",
          "[core][H7][H35][R13]") {
    MemoryWorld world(100);
    world.add(options(0, 1), true);
    world.add(options(50));
    world.request(reranker, "pinned", true, Priority::normal, (core::Duration::max)());
    world.work();
    world.request(embedding, "resident");
    world.size(embedding, 40);
    world.work();
    world.release(embedding);
    world.wait(1s);
    // The other key needs what the pinned ones leave, and more.
    core::SlotScheduler& scheduler = world.slots[embedding].scheduler;
    core::Actions actions;
    core::RequestSpec spec;
    spec.since = world.now;
    scheduler.enqueue(ModelKey("other"), spec, world.now, actions);
    const auto sizes = std::find_if(actions.begin(), actions.end(),
                                    [](const core::Action& each) { return each.type == core::ActionType::size; });
    REQUIRE(sizes != actions.end());
    scheduler.sized(sizes->key, 60, world.now, actions);
    REQUIRE(scheduler.asks_for_available());
    std::vector<core::MemoryUse> uses;
    for (MemorySlot& slot : world.slots) {
        slot.scheduler.memory_uses(world.now, uses);
    }
    const std::size_t available = world.ledger.available(embedding, uses);
    // Meanwhile the resident is pinned, too.
    core::Grant grant;
    spec.overrides_keep_alive = true;
    spec.keep_alive = (core::Duration::max)();
    spec.is_inference = true;
    REQUIRE(scheduler.try_grant(ModelKey("resident"), spec, grant) == core::Attempt::granted);
    scheduler.release(grant, world.now, actions);
    actions.clear();
    scheduler.memory_available(available, world.now + 1h, actions);
    for (const core::Action& each : actions) {
        CHECK(each.type != core::ActionType::unload);
    }
}

TEST_CASE("A key waits for memory with the rank of those that still wait for it", "[core][H33][H35]") {
    MemoryWorld world = two_slots(60);
    world.request(reranker, "held", false);
    world.work();
    world.request(embedding, "a", true, Priority::low);
    world.request(embedding, "b", true, Priority::normal);
    world.request(embedding, "a", true, Priority::high, core::Duration(-1), 1s);
    REQUIRE(world.ledger.waiting() == 2);
    // The one of high priority leaves.
    world.wait(1s);
    REQUIRE(world.slots[embedding].failures.size() == 1);
    world.release(reranker);
    world.work();
    CHECK(world.resident(embedding, "b") != nullptr);
    CHECK(world.resident(embedding, "a") == nullptr);
}

TEST_CASE("A pinned model that gives its place gives its memory, too", "[core][H7][H34]") {
    MemoryWorld world = two_slots(100, 1);
    world.request(embedding, "pinned", true, Priority::normal, (core::Duration::max)());
    world.work();
    world.release(embedding);
    world.wait(1s);
    CHECK(world.request(embedding, "other"));
    world.work();
    CHECK(world.is_ready(embedding, "other"));
    CHECK(world.slots[embedding].failures.empty());
}

TEST_CASE("What a resident holds is known of it although a limit has its key forget what the model used",
          "[core][H34][H35][H38][R13]") {
    MemoryWorld world(101);
    world.add(options(0, 1), true);
    world.add(options(50));
    world.request(reranker, "held", true, Priority::normal, (core::Duration::max)());
    world.work();
    world.request(embedding, "pinned", true, Priority::normal, (core::Duration::max)());
    SECTION("less than its estimate: it gives its place to no key that needs more than it gives back") {
        world.size(embedding, 50);
        world.load(embedding, 20);
        world.release(embedding);
        world.set_limit(100);
        CHECK(world.resident(embedding, "pinned")->bytes == 20);
        world.wait(1s);
        world.request(embedding, "other");
        world.size(embedding, 60);
        world.work();
        CHECK(world.is_ready(embedding, "pinned"));
        CHECK(world.slots[embedding].failures.size() == 1);
    }
    SECTION("more than its estimate: it gives its place to a key that needs no more than it gives back") {
        world.size(embedding, 10);
        world.load(embedding, 50);
        world.release(embedding);
        world.set_limit(100);
        world.wait(1s);
        world.request(embedding, "other");
        world.size(embedding, 50);
        world.work();
        CHECK(world.is_ready(embedding, "other"));
        CHECK(world.slots[embedding].failures.empty());
    }
}

TEST_CASE("A pinned model is never unloaded for memory, and alone prevents a load", "[core][H7][H35]") {
    MemoryWorld world = two_slots(100);
    world.request(embedding, "a", true, Priority::normal, (core::Duration::max)());
    world.work();
    world.release(embedding);
    CHECK(world.request(reranker, "b"));
    REQUIRE(world.slots[reranker].failures.size() == 1);
    CHECK(world.slots[reranker].failures.front().first == errc::insufficient_memory);
    CHECK(world.is_ready(embedding, "a"));
    CHECK(world.ledger.waiting() == 0);
}

TEST_CASE("A model that used more than was thought is known by it while something waits for its key", "[core][H34]") {
    MemoryWorld world = two_slots(100);
    world.request(embedding, "a");
    world.load(embedding, 90);
    CHECK(world.ledger.reserved() == 90);
    world.release(embedding);
    world.wait(1s);
    world.request(reranker, "b", false);
    const bool waits = GENERATE(false, true);
    if (waits) {
        world.request(embedding, "a");
    }
    world.work();
    CHECK(world.resident(embedding, "a") == nullptr);
    CHECK(world.is_ready(reranker, "b"));
    world.release(reranker);
    world.trim(50);
    world.work();
    if (!waits) {
        world.request(embedding, "a");
    }
    CHECK(world.ledger.reserved() == (waits ? 90 : 60));
}

TEST_CASE("A lower limit lets a load go on that has its memory, and no other begin", "[core][H38]") {
    MemoryWorld world = two_slots(170);
    world.request(embedding, "a", false);
    world.work();
    world.request(reranker, "b", false);
    world.set_limit(110);
    world.request(embedding, "c");
    CHECK(world.slots[embedding].loads.empty());
    world.set_limit(60);
    world.work();
    CHECK(world.is_ready(reranker, "b"));
    CHECK(world.ledger.reserved() == 110);
    CHECK(world.slots[embedding].loads.empty());
    world.release(embedding);
    world.release(reranker);
    world.work();
    CHECK(world.is_ready(embedding, "c"));
    CHECK(world.ledger.reserved() == 60);
}

TEST_CASE("A key that waits asks anew once a limit has what its model used forgotten", "[core][H34][H35][H38]") {
    MemoryWorld world = two_slots(120);
    world.request(embedding, "a");
    world.load(embedding, 110);
    world.request(reranker, "b", false);
    world.release(embedding);
    // It is asked for while it goes for the other.
    world.request(embedding, "a");
    world.unload(embedding);
    world.load(reranker);
    REQUIRE(world.is_ready(reranker, "b"));
    REQUIRE(world.ledger.waiting() == 1);
    // What it used would never fit, but it needs 60.
    world.set_limit(105);
    CHECK(world.slots[embedding].failures.empty());
    CHECK(world.ledger.waiting() == 1);
    world.set_limit(110);
    CHECK(world.ledger.reserved() == 110);
    CHECK(world.slots[embedding].loads.size() == 1);
}

// Has the embedding slot ask for the memory of "a", as much as its model used: it is asked for while that goes. The
// entry of the key.
static core::Index ask_for_what_it_used(MemoryWorld& world, core::Actions& actions) {
    world.request(embedding, "a");
    world.load(embedding, 110);
    world.release(embedding);
    core::SlotScheduler& scheduler = world.slots[embedding].scheduler;
    const ModelKey a("a");
    scheduler.unload(&a, UnloadMode::drain, world.now, actions);
    const core::ResidentId old = scheduler.residents().handle(actions.front().resident);
    world.request(embedding, "a");
    scheduler.memory_requests().clear();
    actions.clear();
    scheduler.unloaded(old, world.now, actions);
    REQUIRE(scheduler.memory_requests().back().type == core::MemoryRequest::Type::reserve);
    REQUIRE(scheduler.memory_requests().back().bytes == 110);
    return scheduler.memory_requests().back().key;
}

TEST_CASE("A key that asks while a limit is set asks anew for what it now needs", "[core][H34][H38]") {
    MemoryWorld world = two_slots(120);
    core::SlotScheduler& scheduler = world.slots[embedding].scheduler;
    core::Actions actions;
    const core::Index key = ask_for_what_it_used(world, actions);
    scheduler.set_memory_limit(105, world.now, actions);
    scheduler.memory_requests().clear();
    actions.clear();
    SECTION("or fails, if the limit has become too low for that, too") {
        scheduler.set_memory_limit(50, world.now, actions);
        scheduler.memory_answered(key, {}, core::MemoryVerdict::impossible, world.now, actions);
        const auto failure = std::find_if(actions.begin(), actions.end(), [](const core::Action& action) {
            return action.type == core::ActionType::fail && action.code == errc::insufficient_memory;
        });
        CHECK(failure != actions.end());
        for (const core::MemoryRequest& message : scheduler.memory_requests()) {
            CHECK(message.type != core::MemoryRequest::Type::reserve);
        }
        return;
    }
    SECTION("refused") {
        scheduler.memory_answered(key, {}, core::MemoryVerdict::impossible, world.now, actions);
        REQUIRE(scheduler.memory_requests().size() == 1);
    }
    SECTION("lacking") {
        core::MemoryId id;
        id.index = 7;
        id.serial = 1;
        scheduler.memory_answered(key, id, core::MemoryVerdict::lacking, world.now, actions);
        REQUIRE(scheduler.memory_requests().size() == 2);
        CHECK(scheduler.memory_requests().front().type == core::MemoryRequest::Type::give_back);
    }
    for (const core::Action& action : actions) {
        CHECK(action.type != core::ActionType::fail);
    }
    CHECK(scheduler.memory_requests().back().type == core::MemoryRequest::Type::reserve);
    CHECK(scheduler.memory_requests().back().bytes == 60);
}

TEST_CASE("A key that has more memory than a lower limit, and waits for a place, asks anew for what it now needs",
          "[core][H34][H38][R13]") {
    MemoryWorld world = two_slots(120, 1);
    core::SlotScheduler& scheduler = world.slots[embedding].scheduler;
    core::Actions actions;
    const core::Index key = ask_for_what_it_used(world, actions);
    core::MemoryId id;
    id.index = 7;
    id.serial = 1;
    scheduler.memory_answered(key, id, core::MemoryVerdict::lacking, world.now, actions);
    // Another has the place when the memory comes.
    core::RequestSpec spec;
    spec.since = world.now;
    scheduler.enqueue(ModelKey("b"), spec, world.now, actions);
    REQUIRE(scheduler.memory_requests().back().bytes == 60);
    core::MemoryId other;
    other.index = 8;
    other.serial = 1;
    scheduler.memory_answered(scheduler.memory_requests().back().key, other, core::MemoryVerdict::reserved, world.now,
                              actions);
    scheduler.memory_answered(key, id, core::MemoryVerdict::reserved, world.now, actions);
    REQUIRE(scheduler.key_memory(key).phase == core::MemoryPhase::held);
    scheduler.memory_requests().clear();
    scheduler.set_memory_limit(105, world.now, actions);
    REQUIRE(scheduler.memory_requests().size() == 1);
    CHECK(scheduler.memory_requests().front().type == core::MemoryRequest::Type::give_back);
    CHECK(scheduler.memory_requests().front().id == id);
    CHECK(scheduler.key_memory(key).phase == core::MemoryPhase::sized);
}

TEST_CASE("A key whose entry was another's is sized anew, also if that was forgotten for newer failures",
          "[core][H34]") {
    MemoryWorld world(1'000);
    world.add(options(0), true);
    const auto request = [&](int number) {
        const std::string name = "key " + std::to_string(number);
        REQUIRE(world.request(embedding, name.c_str()));
        REQUIRE(world.slots[embedding].sizes.size() == 1);
    };
    constexpr int many = 300;
    for (int number = 0; number < many; ++number) {
        request(number);
        world.size(embedding, 900);
        const core::ResidentId id = world.slots[embedding].loads.at(0);
        world.slots[embedding].loads.clear();
        world.decide(embedding, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
            REQUIRE(scheduler.load_begins(id, world.now, actions));
        });
        world.decide(embedding, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
            scheduler.load_failed(id, errc::load_failed, nullptr, world.now, actions);
        });
    }
    request(many);
    CHECK(world.ledger.reserved() == 0);
}

TEST_CASE("What waits when its slot shuts down fails by that, whatever limit is set", "[core][H9][H38]") {
    MemoryWorld world(120);
    SlotOptions many = options(60);
    many.max_queue = 4'000;
    world.add(many);
    world.request(embedding, "a");
    world.load(embedding);
    world.release(embedding);
    const ModelKey a("a");
    world.decide(embedding, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
        scheduler.unload(&a, UnloadMode::drain, world.now, actions);
    });
    // More than fail in one call.
    constexpr std::size_t waiting = core::SlotScheduler::slice + 100;
    for (std::size_t count = 0; count < waiting; ++count) {
        REQUIRE(world.request(embedding, "a"));
    }
    world.decide(embedding, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
        scheduler.shut_down(core::never, world.now, actions);
    });
    REQUIRE(world.slots[embedding].failures.size() < waiting);
    world.set_limit(10);
    world.unload(embedding);
    for (int times = 0; times < 10 && world.slots[embedding].failures.size() < waiting; ++times) {
        world.wait(1ms);
    }
    REQUIRE(world.slots[embedding].failures.size() == waiting);
    for (const auto& [code, stage] : world.slots[embedding].failures) {
        REQUIRE(code == errc::shutting_down);
    }
}

TEST_CASE("A lower limit has idle models go, the others when they are idle", "[core][H38]") {
    MemoryWorld world = two_slots(110);
    world.request(embedding, "a");
    world.request(reranker, "b");
    world.work();
    world.release(embedding);
    world.set_limit(40);
    world.work();
    CHECK(world.resident(embedding, "a") == nullptr);
    CHECK(world.is_ready(reranker, "b"));
    CHECK_FALSE(world.request(embedding, "a"));
    world.release(reranker);
    world.work();
    CHECK(world.ledger.reserved() == 0);
    world.set_limit(60);
    CHECK(world.request(embedding, "a"));
    world.work();
    CHECK(world.is_ready(embedding, "a"));
}

TEST_CASE("Memory that was trimmed comes from idle models alone", "[core][H38]") {
    MemoryWorld world = two_slots(110);
    world.request(embedding, "a");
    world.request(reranker, "b");
    world.work();
    world.release(reranker);
    world.trim(110);
    world.work();
    CHECK(world.is_ready(embedding, "a"));
    CHECK(world.resident(reranker, "b") == nullptr);
}

TEST_CASE("Without a number of places the budget alone bounds the residents", "[core][H38][R2]") {
    MemoryWorld world(100);
    world.add(options(10, 0));
    for (char name = 'a'; name < 'z'; ++name) {
        const char text[] = {name, 0};
        world.request(embedding, text);
        world.work();
        world.release(embedding);
        world.wait(1s);
        CHECK(world.ledger.reserved() <= 100);
    }
    CHECK(world.slots[embedding].scheduler.residents().size() == 10);
    CHECK(world.is_ready(embedding, "y"));
    CHECK_FALSE(world.is_ready(embedding, "a"));
}

TEST_CASE("A shutdown gives back what waits for memory", "[core][H33]") {
    MemoryWorld world = two_slots(100);
    world.request(embedding, "a", false);
    world.work();
    world.request(reranker, "b");
    REQUIRE(world.ledger.waiting() == 1);
    world.decide(reranker, [&](core::SlotScheduler& slot, core::Actions& actions) { slot.close(world.now, actions); });
    CHECK(world.ledger.waiting() == 0);
    REQUIRE(world.slots[reranker].failures.size() == 1);
    CHECK(world.slots[reranker].failures.front() == std::pair(errc::shutting_down, Stage::memory));
}

TEST_CASE("A slot says once that it is to be looked at, however much changes before its budget listens",
          "[core][H18][H33]") {
    MemoryWorld world(100);
    SlotOptions busy = options(60);
    busy.max_leases = 4;
    busy.min_stay = 1h;
    world.add(busy);
    world.add(options(50));
    world.request(embedding, "a");
    world.load(embedding);
    // Memory is lacking, so that the budget wants to hear of each change.
    world.request(reranker, "b");
    core::SlotScheduler& scheduler = world.slots[embedding].scheduler;
    REQUIRE(scheduler.memory_requests().empty());
    for (int times = 0; times < 100; ++times) {
        core::Actions actions;
        core::Grant grant;
        REQUIRE(scheduler.try_grant(ModelKey("a"), {}, grant) == core::Attempt::granted);
        REQUIRE_FALSE(scheduler.release_quietly(grant, world.now));
        scheduler.release(grant, world.now, actions);
    }
    CHECK(scheduler.memory_requests().size() == 1);
}

TEST_CASE("A budget keeps as much in memory as a cache that forgets the least recently used", "[core][H36]") {
    constexpr std::size_t keys = 1000;
    constexpr std::size_t places = 100;
    SlotOptions slot;
    slot.max_resident = 0;
    slot.model_memory = 1;
    slot.min_stay = 0ms;
    slot.keep_alive = 24h;
    MemoryWorld world(places);
    world.add(slot);
    // By Zipf: the key of rank n is asked for with a probability in proportion to 1 / n.
    std::vector<double> weights;
    for (std::size_t rank = 1; rank <= keys; ++rank) {
        weights.push_back(1.0 / static_cast<double>(rank));
    }
    std::discrete_distribution<std::size_t> zipf(weights.begin(), weights.end());
    std::mt19937 random(1);
    std::list<std::size_t> cache;
    int hits = 0;
    int cache_hits = 0;
    constexpr int requests = 4000;
    for (int request = 0; request < requests; ++request) {
        const std::size_t key = zipf(random);
        const std::string name = "model " + std::to_string(key);
        hits += world.is_ready(embedding, name.c_str()) ? 1 : 0;
        REQUIRE(world.request(embedding, name.c_str()));
        world.work();
        REQUIRE(world.slots[embedding].grants.size() == 1);
        world.release(embedding);
        world.now += 1ms;
        const auto cached = std::find(cache.begin(), cache.end(), key);
        cache_hits += cached != cache.end() ? 1 : 0;
        if (cached != cache.end()) {
            cache.erase(cached);
        } else if (cache.size() == places) {
            cache.pop_back();
        }
        cache.push_front(key);
    }
    CHECK(cache_hits > requests / 3);
    CHECK(std::abs(hits - cache_hits) <= cache_hits / 50);
}

namespace {

// Callers of a world in virtual time: a call takes 20 ms, a load as long as its slot's, an unload nothing.
class Traffic {
public:
    explicit Traffic(MemoryWorld& world) : world_(world) {}

    void at(core::Time time, std::function<void()> what) { agenda_.emplace(time, std::move(what)); }
    void run_until(core::Time end) {
        for (;;) {
            begin_work();
            core::Time next = agenda_.empty() ? core::never : agenda_.begin()->first;
            for (MemorySlot& slot : world_.slots) {
                next = std::min(next, slot.scheduler.next_alarm());
            }
            if (next > end) {
                world_.now = end;
                return;
            }
            world_.now = std::max(world_.now, next);
            if (!agenda_.empty() && agenda_.begin()->first <= world_.now) {
                const std::function<void()> what = agenda_.begin()->second;
                agenda_.erase(agenda_.begin());
                what();
            } else {
                world_.wait(0ms);
            }
        }
    }
    std::vector<core::Duration> load_time;
    std::vector<std::vector<core::Time>> granted = std::vector<std::vector<core::Time>>(2);
    // The keys of a slot that a caller asks for again and again, if it has one.
    std::function<void(std::size_t slot)> ended = [](std::size_t /*slot*/) {};

private:
    void begin_work() {
        for (std::size_t slot = 0; slot < world_.slots.size(); ++slot) {
            MemorySlot& of = world_.slots[slot];
            while (!of.unloads.empty()) {
                world_.unload(slot);
            }
            for (const core::ResidentId load : std::exchange(of.loads, {})) {
                bool begins = false;
                world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                    begins = scheduler.load_begins(load, world_.now, actions);
                });
                if (begins) {
                    at(world_.now + load_time[slot], [this, slot, load] {
                        world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                            scheduler.loaded(load, 4, world_.now, actions);
                        });
                    });
                }
            }
            for (const core::Grant& grant : std::exchange(of.grants, {})) {
                granted[slot].push_back(world_.now);
                at(world_.now + 20ms, [this, slot, grant] {
                    if (!world_.slots[slot].scheduler.release_quietly(grant, world_.now)) {
                        world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                            scheduler.release(grant, world_.now, actions);
                        });
                    }
                    ended(slot);
                });
            }
        }
    }

    MemoryWorld& world_;
    std::multimap<core::Time, std::function<void()>> agenda_{};
};

}  // namespace

TEST_CASE("A large model is served beside busy small ones, soon after its load could begin", "[core][H35][H36]") {
    MemoryWorld world(100);
    world.add(options(10, 0));
    world.add(options(60, 1));
    Traffic traffic(world);
    traffic.load_time = {100ms, 1s};
    std::mt19937 random(1);
    // Eight callers, eight small models: they use 80 of 100 bytes without a pause.
    const auto ask = [&] {
        const char name[] = {static_cast<char>('a' + random() % 8), 0};
        world.request(embedding, name);
    };
    traffic.ended = [&](std::size_t slot) {
        if (slot == embedding) {
            ask();
        }
    };
    for (int caller = 0; caller < 8; ++caller) {
        traffic.at(core::Time(caller), ask);
    }
    traffic.at(5s, [&] { world.request(reranker, "large"); });
    traffic.run_until(12s);
    REQUIRE(traffic.granted[reranker].size() == 1);
    const core::Time served = traffic.granted[reranker].front();
    CHECK(served - core::Time(5s) <= 1s + 1500ms);
    // The small ones go on meanwhile.
    const auto between = std::count_if(traffic.granted[embedding].begin(), traffic.granted[embedding].end(),
                                       [&](core::Time time) { return time > core::Time(5s) && time < served; });
    CHECK(between > 20);
}
}  // namespace slot_scheduler_budget_test
