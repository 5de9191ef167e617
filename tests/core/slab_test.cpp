#include "residency/core/slab.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <new>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace residency::core::slab_test {

namespace {

struct Tag;
using Table = Slab<std::string, Tag>;
using test::AllocationFaults;
using test::Memory;

// Counts how often any of them was copied or moved.
struct Counted {
    Counted() = default;
    Counted(const Counted& other) : value(other.value) { ++moves; }
    Counted& operator=(const Counted& other) {
        value = other.value;
        ++moves;
        return *this;
    }

    int value = 0;
    static inline int moves = 0;
};

}  // namespace

TEST_CASE("a slab's items keep their places, and their names end with them") {
    Table table;
    CHECK(table.size() == 0);
    CHECK(table.next_index() == 0);
    const auto first = table.insert("first");
    const auto second = table.insert("second");
    CHECK(first.index == 0);
    CHECK(second.index == 1);
    CHECK(table.size() == 2);
    CHECK(table.contains(first));
    CHECK(table.handle(1) == second);
    CHECK(table.next_index() == 2);

    table.erase(first.index);
    CHECK_FALSE(table.contains(first));
    CHECK_FALSE(table.used(0));
    CHECK(table.contains(second));
    CHECK(table[second.index] == "second");
    CHECK(table.next_index() == 0);
    CHECK(table.end_index() == 2);

    const auto third = table.insert("third");
    CHECK(third.index == first.index);
    CHECK(third != first);
    CHECK_FALSE(table.contains(first));
    CHECK(table.contains(third));
    CHECK(table[0] == "third");
}

TEST_CASE("a handle that names nothing is in no slab") {
    Table table;
    table.insert("one");
    CHECK_FALSE(table.contains({}));
    CHECK_FALSE(table.contains({1, 0}));
    CHECK_FALSE(table.contains({0, 1}));
    CHECK_FALSE(table.used(none));
    CHECK_FALSE(Table::handle_type{}.valid());
}

TEST_CASE("a slab grows without moving an item or one large allocation", "[S18]") {
    Slab<Counted, Tag> table;
    table.insert({});
    Counted::moves = 0;
    table.insert({});
    const int moves = Counted::moves;
    const Counted* const first = &table[0];
    Memory::here().largest = 0;
    for (int count = 0; count < 50'000; ++count) {
        Counted::moves = 0;
        const auto handle = table.insert({});
        REQUIRE(Counted::moves == moves);
        table[handle.index].value = count;
    }
    CHECK(&table[0] == first);
    CHECK(table[49'999].value == 49'997);
    // The list of chunks: 8 B for 16 items.
    CHECK(Memory::here().largest <= 50'000);
}

TEST_CASE("a slab gives back the memory of erased items", "[S18]") {
    constexpr Index many = 10'000;
    std::vector<Index> order(many);
    for (Index index = 0; index < many; ++index) {
        order[index] = index;
    }
    Index end_at_half = many;
    // In any order chunks stay until the last of their items has left.
    std::size_t most_at_half = many / Table::chunk_size + 10;
    SECTION("the oldest first") { most_at_half = many / Table::chunk_size / 2 + 10; }
    SECTION("the latest first") {
        std::reverse(order.begin(), order.end());
        end_at_half = many / 2;
        most_at_half = many / Table::chunk_size / 2 + 10;
    }
    SECTION("in any order") {
        std::shuffle(order.begin(), order.end(), std::mt19937(1));
        end_at_half = none;
    }
    // Blocks are counted before each CHECK, which allocates, too.
    const std::size_t before = Memory::here().blocks();
    Slab<int, Tag> table;
    for (Index count = 0; count < many; ++count) {
        table.insert(1);
    }
    const std::size_t full = Memory::here().blocks() - before;
    for (Index count = 0; count < many / 2; ++count) {
        table.erase(order[count]);
    }
    const std::size_t half = Memory::here().blocks() - before;
    const Index half_end = table.end_index();
    for (Index count = many / 2; count < many; ++count) {
        table.erase(order[count]);
    }
    const std::size_t after = Memory::here().blocks() - before;
    CHECK(full >= many / Table::chunk_size);
    CHECK(half <= most_at_half);
    CHECK((end_at_half == none || half_end == end_at_half));
    CHECK(after == 0);
    CHECK(table.end_index() == 0);
    CHECK(table.insert(1).index == 0);
}

TEST_CASE("a size that goes to and fro allocates nothing", "[S18]") {
    for (const int many : {0, 1, 15, 16, 17, 64, 1'024}) {
        CAPTURE(many);
        Slab<int, Tag> table;
        for (int count = 0; count < many + 1; ++count) {
            table.insert(count);
        }
        table.erase(static_cast<Index>(many));
        const std::size_t before = Memory::here().allocations;
        for (int round = 0; round < 100; ++round) {
            table.erase(table.insert(round).index);
        }
        CHECK(Memory::here().allocations == before);
    }
}

TEST_CASE("a slab allocates when room is reserved, never when it is used", "[H18]") {
    std::mt19937 random(1);
    Slab<int, Tag> table;
    std::vector<Index> used;
    for (int step = 0; step < 20'000; ++step) {
        // Grows for a while, then shrinks.
        const bool grows = random() % 8 < (step / 2'000 % 2 == 0 ? 6U : 2U);
        if (grows) {
            table.reserve_one();
        }
        const std::size_t before = Memory::here().allocations;
        Index inserted = none;
        if (grows) {
            inserted = table.insert(step).index;
        } else if (!used.empty()) {
            std::swap(used[random() % used.size()], used.back());
            table.erase(used.back());
        }
        REQUIRE(Memory::here().allocations == before);
        if (grows) {
            used.push_back(inserted);
        } else if (!used.empty()) {
            used.pop_back();
        }
    }
}

TEST_CASE("a slab keeps the room that was reserved for all, whatever is erased", "[H18]") {
    Slab<int, Tag> table;
    table.insert(0);
    table.reserve(500);
    const std::size_t before = Memory::here().allocations;
    const std::size_t blocks = Memory::here().blocks();
    for (int round = 0; round < 3; ++round) {
        while (table.size() < 500) {
            table.insert(round);
        }
        for (Index index = 500; index-- != 0;) {
            table.erase(index);
        }
    }
    const std::size_t since = Memory::here().allocations - before;
    const std::size_t kept = Memory::here().blocks();
    // Less is wanted: the room goes.
    table.reserve(0);
    const std::size_t after = Memory::here().blocks();
    CHECK(since == 0);
    CHECK(kept == blocks);
    CHECK(after < blocks - 25);
}

TEST_CASE("a slab that is to have room for one item more again and again moves nothing for it", "[S18]") {
    Slab<int, Tag> slab;
    constexpr std::size_t most = 100'000;
    const std::size_t before = Memory::here().allocations;
    for (std::size_t count = 1; count <= most; ++count) {
        slab.reserve(count);
    }
    // One for each chunk, and the few of lists that double.
    CHECK(Memory::here().allocations - before < most / slab.chunk_size + 60);
}

TEST_CASE("a slab that lacks memory is unchanged", "[H18]") {
    Slab<int, Tag> table;
    for (int count = 0; count < 16; ++count) {
        table.insert(count);
    }
    table.reserve(0);
    const Slab<int, Tag> copy = table;
    for (const std::size_t fails : {std::size_t{1}, std::size_t{2}}) {
        bool threw = false;
        try {
            const AllocationFaults faults(fails);
            table.insert(16);
        } catch (const std::bad_alloc&) {
            threw = true;
        }
        CHECK(threw);
        CHECK(table == copy);
        CHECK(table.next_index() == 16);
    }
    CHECK(table.insert(16).index == 16);
}

TEST_CASE("a handle matches one item only, also after its chunk was given back") {
    Slab<int, Tag> table;
    std::set<Handle<Tag>> handles;
    for (int round = 0; round < 5; ++round) {
        std::vector<Handle<Tag>> inserted;
        for (int count = 0; count < 100; ++count) {
            inserted.push_back(table.insert(count));
            REQUIRE(handles.insert(inserted.back()).second);
        }
        for (const auto& handle : inserted) {
            table.erase(handle.index);
        }
        for (const auto& handle : handles) {
            REQUIRE_FALSE(table.contains(handle));
        }
    }
}

TEST_CASE("an item goes to the least free index") {
    Slab<int, Tag> table;
    for (int count = 0; count < 3'000; ++count) {
        table.insert(count);
    }
    for (const Index index : {2'999U, 1'500U, 40U, 41U, 3U, 2'047U}) {
        table.erase(index);
    }
    for (const Index index : {3U, 40U, 41U, 1'500U, 2'047U, 2'999U, 3'000U}) {
        CHECK(table.next_index() == index);
        CHECK(table.insert(0).index == index);
    }
}

TEST_CASE("a copy of a slab has items of its own, and grows and shrinks") {
    Slab<int, Tag> table;
    for (int count = 0; count < 100; ++count) {
        table.insert(count);
    }
    table.erase(20);
    Slab<int, Tag> copy = table;
    CHECK(copy == table);
    copy[30] = 7;
    CHECK(table[30] == 30);
    CHECK_FALSE(copy == table);
    CHECK(copy.insert(5).index == 20);
    const std::size_t before = Memory::here().allocations;
    for (Index index = 0; index < 100; ++index) {
        copy.erase(index);
    }
    CHECK(Memory::here().allocations == before);
    CHECK(table.size() == 99);
    copy = table;
    CHECK(copy == table);
}

TEST_CASE("slabs compare by what stands where") {
    Table left;
    Table right;
    left.insert("one");
    CHECK_FALSE(left == right);
    right.insert("one");
    CHECK(left == right);
    left.insert("two");
    left.erase(1);
    CHECK_FALSE(left == right);
    const Table copy = left;
    CHECK(copy == left);
}

TEST_CASE("a slab agrees with a map through any history") {
    std::mt19937 random(1);
    Table table;
    std::map<Table::handle_type, std::string> model;
    std::vector<Table::handle_type> gone;
    for (int step = 0; step < 20'000; ++step) {
        if (model.empty() || random() % 5 < 3) {
            const std::string item = std::to_string(step);
            const Index next = table.next_index();
            if (random() % 2 == 0) {
                table.reserve_one();
            }
            const auto handle = table.insert(item);
            REQUIRE(handle.index == next);
            REQUIRE(model.emplace(handle, item).second);
        } else {
            auto victim = model.begin();
            std::advance(victim, static_cast<std::ptrdiff_t>(random() % model.size()));
            table.erase(victim->first.index);
            gone.push_back(victim->first);
            model.erase(victim);
        }
        REQUIRE(table.size() == model.size());
    }
    for (const auto& [handle, item] : model) {
        CHECK(table.contains(handle));
        CHECK(table[handle.index] == item);
    }
    for (const auto& handle : gone) {
        REQUIRE_FALSE(table.contains(handle));
    }
}

}  // namespace residency::core::slab_test
