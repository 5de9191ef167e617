// Slots that share a memory budget: H33 to H38 as the schedulers and the ledger decide them together.

#include "support/memory_world.hpp"

#include <catch2/catch.hpp>

#include <chrono>
#include <cstddef>

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
    world.release(embedding);
    world.work();
    CHECK(world.is_ready(embedding, "big"));
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

TEST_CASE("A model that used more than was thought is known by it the next time", "[core][H34]") {
    MemoryWorld world = two_slots(100);
    world.request(embedding, "a");
    world.load(embedding, 90);
    CHECK(world.ledger.reserved() == 90);
    world.release(embedding);
    world.wait(1s);
    world.request(reranker, "b");
    world.work();
    CHECK(world.resident(embedding, "a") == nullptr);
    CHECK(world.is_ready(reranker, "b"));
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

}  // namespace slot_scheduler_budget_test
