#include "residency/core/chunked_vector.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <cstddef>
#include <new>
#include <random>
#include <utility>
#include <vector>

namespace residency::core::chunked_vector_test {

namespace {

using test::AllocationFaults;
using test::Memory;
using Numbers = ChunkedVector<int>;

Numbers count_to(int last) {
    Numbers numbers;
    numbers.reserve(static_cast<std::size_t>(last));
    for (int number = 0; number < last; ++number) {
        numbers.push_back(number);
    }
    return numbers;
}

}  // namespace

TEST_CASE("a chunked vector agrees with a vector through any history") {
    std::mt19937 random(1);
    Numbers numbers;
    std::vector<int> model;
    for (int step = 0; step < 20'000; ++step) {
        // Grows for a while, then shrinks.
        if (random() % 8 < (step / 3'000 % 2 == 0 ? 6U : 2U)) {
            numbers.reserve(numbers.size() + 1);
            numbers.push_back(step);
            model.push_back(step);
        } else if (!model.empty()) {
            numbers.pop_back();
            model.pop_back();
            numbers.trim(0);
        }
        REQUIRE(numbers.size() == model.size());
        REQUIRE(numbers.empty() == model.empty());
        if (!model.empty()) {
            const std::size_t index = random() % model.size();
            REQUIRE(numbers[index] == model[index]);
            REQUIRE(numbers[model.size() - 1] == model.back());
        }
    }
}

TEST_CASE("a chunked vector grows without moving an element") {
    Numbers numbers = count_to(1);
    const int* const first = &numbers[0];
    numbers.reserve(100'000);
    CHECK(&numbers[0] == first);
    CHECK(numbers[0] == 0);
}

TEST_CASE("only reserve allocates, and only what is missing", "[H18]") {
    Numbers numbers;
    numbers.reserve(Numbers::chunk_size + 1);
    CHECK(numbers.capacity() == 2 * Numbers::chunk_size);
    const std::size_t before = Memory::here().allocations;
    numbers.reserve(2 * Numbers::chunk_size);
    while (numbers.size() < numbers.capacity()) {
        numbers.push_back(1);
    }
    numbers.truncate(3);
    numbers.trim(0);
    CHECK(Memory::here().allocations == before);
    CHECK(numbers.size() == 3);

    const Numbers copy = numbers;
    bool threw = false;
    try {
        const AllocationFaults faults(2);
        numbers.reserve(100 * Numbers::chunk_size);
    } catch (const std::bad_alloc&) {
        threw = true;
    }
    CHECK(threw);
    CHECK(numbers == copy);
}

TEST_CASE("trim gives back all but one chunk that is not needed") {
    Numbers numbers = count_to(static_cast<int>(10 * Numbers::chunk_size));
    numbers.truncate(2 * Numbers::chunk_size);
    numbers.trim(5 * Numbers::chunk_size);
    CHECK(numbers.capacity() == 6 * Numbers::chunk_size);
    numbers.trim(0);
    CHECK(numbers.capacity() == 3 * Numbers::chunk_size);
    CHECK(numbers[2 * Numbers::chunk_size - 1] == static_cast<int>(2 * Numbers::chunk_size - 1));
    numbers.truncate(0);
    numbers.trim(0);
    CHECK(numbers.capacity() == Numbers::chunk_size);
    // One that was large gives back its list of chunks, too.
    const std::size_t before = Memory::here().blocks();
    Numbers large = count_to(static_cast<int>(100 * Numbers::chunk_size));
    large.truncate(0);
    large.trim(0);
    const std::size_t after = Memory::here().blocks();
    CHECK(large.capacity() == 0);
    CHECK(after == before);
}

TEST_CASE("chunked vectors are values") {
    Numbers numbers = count_to(static_cast<int>(3 * Numbers::chunk_size / 2));
    Numbers copy = numbers;
    CHECK(copy == numbers);
    copy[Numbers::chunk_size] = -1;
    CHECK_FALSE(copy == numbers);
    CHECK(numbers[Numbers::chunk_size] == static_cast<int>(Numbers::chunk_size));
    copy = numbers;
    CHECK(copy == numbers);
    // A copy without room makes some.
    Numbers none_yet = Numbers(Numbers());
    none_yet.push_back(5);
    CHECK(none_yet[0] == 5);
    copy.pop_back();
    CHECK_FALSE(copy == numbers);
    const Numbers moved = std::move(copy);
    CHECK(moved.size() == numbers.size() - 1);
    CHECK(copy.empty());  // NOLINT(bugprone-use-after-move): it says so
}

}  // namespace residency::core::chunked_vector_test
