// Where keys stand on their way to memory, and how many do.

#include "residency/core/key_memories.hpp"

#include "support/catch.hpp"

#include <cstddef>

namespace residency::core::key_memories_test {

TEST_CASE("keys that wait for an answer about their memory are counted", "[H34]") {
    KeyMemories keys;
    CHECK(keys.size() == 0);
    keys.reserve(2);
    keys.reserve(1);
    REQUIRE(keys.size() == 2);
    struct Expected {
        MemoryPhase phase;
        std::size_t aside;
        std::size_t asking;
        bool may_claim_place;
    };
    for (const Expected& each :
         {Expected{MemoryPhase::sizing, 1, 0, false}, Expected{MemoryPhase::sized, 0, 0, true},
          Expected{MemoryPhase::asking, 1, 1, false}, Expected{MemoryPhase::asking, 1, 1, false},
          Expected{MemoryPhase::lacking, 1, 0, false}, Expected{MemoryPhase::held, 0, 0, true},
          Expected{MemoryPhase::refused, 1, 0, false}, Expected{MemoryPhase::unsized, 0, 0, false}}) {
        keys.enter(0, each.phase);
        CHECK(keys[0].phase == each.phase);
        CHECK(keys.aside() == each.aside);
        CHECK(keys.asking() == each.asking);
        CHECK(keys[0].may_claim_place() == each.may_claim_place);
    }
    keys.enter(0, MemoryPhase::asking);
    keys.enter(1, MemoryPhase::asking);
    CHECK(keys.aside() == 2);
    CHECK(keys.asking() == 2);
    keys.enter(0, MemoryPhase::held);
    CHECK(keys.aside() == 1);
    CHECK(keys.asking() == 1);
}

TEST_CASE("a key that is forgotten leaves what it gave back", "[H33]") {
    KeyMemories keys;
    keys.reserve(1);
    keys[0].estimate = 10;
    keys[0].used = 20;
    keys[0].was_tried_again = true;
    keys[0].given_back = MemoryId{3, 7};
    keys.enter(0, MemoryPhase::sized);
    CHECK(keys[0].need() == 20);
    keys.forget(0);
    CHECK(keys[0] == KeyMemory{.given_back = MemoryId{3, 7}});
    KeyMemories fresh;
    fresh.reserve(1);
    CHECK_FALSE(keys == fresh);
    fresh[0].given_back = MemoryId{3, 7};
    CHECK(keys == fresh);
}

TEST_CASE("only memory that is held can be more than the limit", "[H38]") {
    KeyMemory memory;
    memory.asked = 11;
    CHECK_FALSE(memory.holds_more_than(10));
    memory.phase = MemoryPhase::held;
    CHECK(memory.holds_more_than(10));
    CHECK_FALSE(memory.holds_more_than(11));
}

}  // namespace residency::core::key_memories_test
