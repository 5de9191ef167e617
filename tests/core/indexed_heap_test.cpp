#include "residency/core/indexed_heap.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

namespace residency::core::indexed_heap_test {

TEST_CASE("the least rank is on top") {
    IndexedHeap<int> heap;
    CHECK(heap.empty());
    CHECK_FALSE(heap.contains(0));
    heap.reserve(5);
    heap.push(3, 30);
    heap.push(1, 10);
    heap.push(4, 40);
    CHECK(heap.size() == 3);
    CHECK(heap.top() == 1);
    CHECK(heap.top_rank() == 10);
    CHECK(heap.rank(4) == 40);
    heap.update(4, 5);
    CHECK(heap.top() == 4);
    heap.update(4, 50);
    CHECK(heap.top() == 1);
    heap.update(0, 1);
    CHECK(heap.top() == 0);
    heap.erase(0);
    heap.erase(0);
    heap.erase(2);
    CHECK(heap.size() == 3);
    heap.erase(1);
    CHECK(heap.top() == 3);
    heap.erase(3);
    heap.erase(4);
    CHECK(heap.empty());
}

TEST_CASE("heaps compare by what they hold") {
    IndexedHeap<int> left;
    IndexedHeap<int> right;
    left.reserve(2);
    right.reserve(2);
    CHECK(left == right);
    left.push(0, 1);
    CHECK_FALSE(left == right);
    right.push(0, 2);
    CHECK_FALSE(left == right);
    right.update(0, 1);
    CHECK(left == right);
}

TEST_CASE("a heap agrees with a map through any history") {
    std::mt19937 random(1);
    IndexedHeap<unsigned> heap;
    std::map<Index, unsigned> model;
    for (int step = 0; step < 50'000; ++step) {
        const auto member = static_cast<Index>(random() % 200);
        const auto rank = static_cast<unsigned>(random() % 1000);
        heap.reserve(std::size_t{member} + 1);
        switch (random() % 4) {
            case 0:
            case 1:
                heap.update(member, rank);
                model[member] = rank;
                break;
            case 2:
                if (!heap.contains(member)) {
                    heap.push(member, rank);
                    model[member] = rank;
                }
                break;
            default: heap.erase(member); model.erase(member);
        }
        REQUIRE(heap.size() == model.size());
        REQUIRE(heap.contains(member) == (model.count(member) != 0));
        unsigned least = 1000;
        for (const auto& [each, its_rank] : model) {
            least = its_rank < least ? its_rank : least;
        }
        if (!model.empty()) {
            REQUIRE(heap.top_rank() == least);
            REQUIRE(model.at(heap.top()) == least);
            REQUIRE(heap.rank(model.begin()->first) == model.begin()->second);
        }
    }
}

TEST_CASE("members that rank before another are counted, up to as many as are asked for") {
    std::mt19937 random(3);
    IndexedHeap<unsigned> heap;
    heap.reserve(100);
    std::vector<unsigned> ranks;
    CHECK(heap.count_before(5, 10) == 0);
    for (Index member = 0; member < 100; ++member) {
        const auto rank = static_cast<unsigned>(random() % 60);
        heap.push(member, rank);
        ranks.push_back(rank);
        for (unsigned limit = 0; limit <= 60; limit += 3) {
            const auto before = static_cast<std::size_t>(
                std::count_if(ranks.begin(), ranks.end(), [&](unsigned each) { return each < limit; }));
            for (const std::size_t most :
                 {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{1000}}) {
                REQUIRE(heap.count_before(limit, most) == std::min(before, most));
            }
        }
    }
}

TEST_CASE("a heap never allocates once room is reserved, and grows in small pieces", "[H18][S18]") {
    constexpr Index many = 50'000;
    IndexedHeap<std::uint64_t> heap;
    test::Memory& memory = test::Memory::here();
    memory.largest = 0;
    for (Index member = 0; member < many; ++member) {
        heap.reserve(member + std::size_t{1});
        const std::size_t before = memory.allocations;
        heap.push(member, many - member);
        REQUIRE(memory.allocations == before);
    }
    CHECK(heap.top() == many - 1);
    // The list of chunks of ranks: 8 B for 128.
    CHECK(memory.largest <= 8'192);
}

TEST_CASE("a copy of a heap goes on like the heap") {
    IndexedHeap<int> heap;
    heap.reserve(100);
    IndexedHeap<int> copy = heap;
    for (Index member = 0; member < 100; ++member) {
        copy.push(member, -static_cast<int>(member));
    }
    CHECK(copy.top() == 99);
    CHECK(copy.size() == 100);
    CHECK(heap.empty());
}

TEST_CASE("a heap needs no more room than members are in at once", "[S18]") {
    const std::size_t before = test::Memory::here().blocks();
    IndexedHeap<std::uint64_t> heap;
    heap.reserve(10'240, 100);
    // Places of 10,240 members, 256 a chunk; a rank and a member each for 100; three lists of chunks.
    const std::size_t taken = test::Memory::here().blocks() - before;
    CHECK(taken == 40 + 1 + 1 + 3);
    const std::size_t allocations = test::Memory::here().allocations;
    for (Index member = 10'140; member < 10'240; ++member) {
        heap.push(member, member);
    }
    const std::size_t since = test::Memory::here().allocations - allocations;
    CHECK(since == 0);
    CHECK(heap.top() == 10'140);
}

TEST_CASE("a heap gives back memory, but not what its members need", "[S18]") {
    constexpr Index many = 50'000;
    const std::size_t before = test::Memory::here().blocks();
    IndexedHeap<std::uint64_t> heap;
    heap.reserve(many);
    for (Index member = 0; member < many; ++member) {
        heap.push(member, member);
    }
    // Blocks are counted before each CHECK, which allocates, too.
    const std::size_t full = test::Memory::here().blocks() - before;
    for (Index member = 1'000; member < many; ++member) {
        heap.erase(member);
    }
    heap.trim(1'000, 1'000);
    const std::size_t trimmed = test::Memory::here().blocks() - before;
    CHECK(full > 700);
    CHECK(trimmed < 40);
    const std::size_t allocations = test::Memory::here().allocations;
    for (Index member = 0; member < 1'000; ++member) {
        heap.update(member, 1'000 - member);
    }
    const Index top = heap.top();
    while (!heap.empty()) {
        heap.erase(heap.top());
    }
    // Room for members 0 to 999 stays.
    for (Index member = 0; member < 1'000; ++member) {
        heap.push(member, member);
    }
    const std::size_t since = test::Memory::here().allocations - allocations;
    for (Index member = 0; member < 1'000; ++member) {
        heap.erase(member);
    }
    const std::size_t used = test::Memory::here().blocks();
    heap.trim(0, 0);
    const std::size_t given_back = used - test::Memory::here().blocks();
    CHECK(since == 0);
    CHECK(top == 999);
    // All that the heap had.
    CHECK(given_back == trimmed);
    heap.reserve(2);
    CHECK_FALSE(heap.contains(1));
    heap.push(1, 5);
    CHECK(heap.top() == 1);
}

TEST_CASE("what is taken off the top comes in order") {
    std::mt19937 random(2);
    IndexedHeap<unsigned> heap;
    heap.reserve(10'000);
    for (Index member = 0; member < 10'000; ++member) {
        heap.push(member, static_cast<unsigned>(random()));
    }
    unsigned last = 0;
    while (!heap.empty()) {
        REQUIRE(heap.top_rank() >= last);
        last = heap.top_rank();
        heap.erase(heap.top());
    }
}

}  // namespace residency::core::indexed_heap_test
