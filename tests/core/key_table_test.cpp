#include "residency/core/key_table.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace residency::core::key_table_test {

using namespace std::chrono_literals;

namespace {

using test::AllocationFaults;
using test::Memory;

// Every waiter costs an entry if its key is its own.
static_assert(sizeof(KeyEntry) <= 80);

SharedText text(std::string message) { return std::make_shared<const std::string>(std::move(message)); }

}  // namespace

TEST_CASE("a key has one entry, however often it is asked for") {
    KeyTable table;
    CHECK(table.find("a") == none);
    CHECK(table.lookup("a") == none);
    const Index a = table.intern("a");
    const Index b = table.intern({"a", "f16"});
    CHECK(a != b);
    CHECK(table.intern("a") == a);
    CHECK(table.find("a") == a);
    CHECK(table.find({"a", "f16"}) == b);
    CHECK(table.lookup("a") == a);
    CHECK(table.find("c") == none);
    CHECK(table.size() == 2);
    CHECK(*table[a].key == ModelKey("a"));
    CHECK(table.used(a));
    CHECK_FALSE(table.used(2));
}

TEST_CASE("an entry is forgotten when nothing is known of its key") {
    KeyTable table;
    const Index a = table.intern("a");
    SECTION("a resident") {
        table[a].resident = 0;
        table.collect(a);
        CHECK(table.find("a") == a);
        table[a].resident = none;
    }
    SECTION("a waiter") {
        table[a].waiting = 1;
        table.collect(a);
        CHECK(table.find("a") == a);
        table[a].waiting = 0;
    }
    SECTION("a failure") {
        CHECK(table.note_failure(a, text("broken"), 5ms) == none);
        table.collect(a);
        CHECK(table.find("a") == a);
        table.clear_failures(a);
        CHECK(table.failure(a) == nullptr);
        CHECK(table.failures_of(a) == 0);
        CHECK(table.cooling_until(a) == Time::min());
    }
    table.collect(a);
    CHECK(table.find("a") == none);
    CHECK(table.lookup("a") == none);
    CHECK(table.size() == 0);
    // What was found last is not remembered beyond its end.
    CHECK(table.intern("b") == a);
    CHECK(table.find("a") == none);
}

TEST_CASE("thousands of keys are found, and forgotten one by one") {
    KeyTable table;
    constexpr int many = 5'000;
    std::vector<Index> indices;
    for (int key = 0; key < many; ++key) {
        indices.push_back(table.intern("key " + std::to_string(key)));
    }
    for (int key = 0; key < many; key += 2) {
        table.collect(indices[static_cast<std::size_t>(key)]);
    }
    CHECK(table.size() == many / 2);
    for (int key = 0; key < many; ++key) {
        const Index expected = key % 2 == 0 ? none : indices[static_cast<std::size_t>(key)];
        REQUIRE(table.lookup("key " + std::to_string(key)) == expected);
        REQUIRE(table.find("key " + std::to_string(key)) == expected);
    }
}

TEST_CASE("a key table grows in small pieces and gives its memory back", "[S18]") {
    constexpr int many = 50'000;
    std::vector<SharedKey> keys;
    for (int key = 0; key < many; ++key) {
        keys.emplace_back(ModelKey("key " + std::to_string(key)));
    }
    KeyTable table;
    std::size_t kept = 0;
    for (const bool latest_first : {false, true}) {
        std::vector<Index> indices;
        indices.reserve(many);
        // Blocks are counted before each CHECK, which allocates, too.
        const std::size_t before = Memory::here().blocks() - kept;
        std::size_t half = 0;
        Memory::here().largest = 0;
        for (const SharedKey& key : keys) {
            indices.push_back(table.intern(key));
        }
        const std::size_t largest = Memory::here().largest;
        const std::size_t full = Memory::here().blocks() - before;
        if (latest_first) {
            std::reverse(indices.begin(), indices.end());
        }
        const std::size_t allocations = Memory::here().allocations;
        for (int count = 0; count < many; ++count) {
            table.collect(indices[static_cast<std::size_t>(count)]);
            if (count == many / 2) {
                half = Memory::here().blocks() - before;
            }
        }
        const std::size_t since = Memory::here().allocations - allocations;
        kept = Memory::here().blocks() - before;
        // The list of chunks of entries: 8 B for 16. Buckets that are hashed anew at once would take 200 kB.
        CHECK(largest <= 50'000);
        CHECK(full > many / 16);
        CHECK(half < many / 16 / 2 + many / 256 / 2 + 20);
        CHECK(since == 0);
        // Room for failures.
        CHECK(kept <= 1);
    }
}

TEST_CASE("keys are found through any history of growing and shrinking") {
    std::mt19937 random(1);
    KeyTable table;
    std::map<std::string, Index> model;
    for (int step = 0; step < 20'000; ++step) {
        const std::string name = std::to_string(random() % 400);
        // Grows for a while, then shrinks.
        if (random() % 8 < (step / 1'000 % 2 == 0 ? 6U : 2U)) {
            model[name] = table.intern(name);
        } else if (const auto found = model.find(name); found != model.end()) {
            table.collect(found->second);
            model.erase(found);
        }
        REQUIRE(table.size() == model.size());
        const std::string other = std::to_string(random() % 400);
        const auto expected = model.find(other);
        REQUIRE(table.lookup(other) == (expected == model.end() ? none : expected->second));
    }
    for (const auto& [name, index] : model) {
        REQUIRE(table.lookup(name) == index);
    }
}

TEST_CASE("a key that cannot be interned for lack of memory leaves the table as it was", "[H18]") {
    KeyTable table;
    for (int key = 0; key < 300; ++key) {
        const SharedKey name(ModelKey("key " + std::to_string(key)));
        for (std::size_t fails = 1;; ++fails) {
            const KeyTable before = table;
            try {
                const AllocationFaults faults(fails);
                table.intern(name);
                break;
            } catch (const std::bad_alloc&) {
                REQUIRE(table == before);
            }
        }
        REQUIRE(table.size() == static_cast<std::size_t>(key) + 1);
    }
}

TEST_CASE("noting a failure allocates nothing", "[H18]") {
    KeyTable table;
    const SharedText message = text("broken");
    std::vector<Index> indices;
    for (int key = 0; key < 300; ++key) {
        indices.push_back(table.intern("key " + std::to_string(key)));
        const std::size_t before = Memory::here().allocations;
        // All that are known may have failed.
        const Index forgotten = table.note_failure(indices.back(), message, 5ms);
        REQUIRE(Memory::here().allocations == before);
        REQUIRE((forgotten == none) == (indices.size() <= KeyTable::most_failures));
    }
    CHECK(table.failures().size() == KeyTable::most_failures);
    CHECK(table.failures().back().message == message);
}

TEST_CASE("the latest failures come first, and only so many are remembered") {
    KeyTable table;
    const auto note = [&](int key) {
        const Index index = table.intern("key " + std::to_string(key));
        const Index forgotten = table.note_failure(index, text("message " + std::to_string(key)), Time(key));
        if (forgotten != none) {
            table.collect(forgotten);
        }
        return index;
    };
    for (int key = 0; key < 300; ++key) {
        note(key);
    }
    CHECK(table.size() == KeyTable::most_failures);
    CHECK(table.find("key 43") == none);
    REQUIRE(table.find("key 44") != none);

    // One that fails again is the latest, and counts on.
    const Index again = note(100);
    CHECK(table.failures_of(again) == 2);
    CHECK(table.cooling_until(again) == Time(100));
    CHECK(table.size() == KeyTable::most_failures);
    CHECK(table.newest_failure() == again);

    const auto latest = [&](std::size_t count) {
        std::string messages;
        for (std::size_t back = 1; back <= count; ++back) {
            messages += *table.failures()[table.failures().size() - back].message + ' ';
        }
        return messages;
    };
    CHECK(table.failures().size() == KeyTable::most_failures);
    CHECK(latest(3) == "message 100 message 299 message 298 ");
    // Each key finds its own failure, wherever others were taken out.
    for (const Failure& failure : table.failures()) {
        REQUIRE(table.failure(failure.key) == &failure);
    }

    table.clear_failures(again);
    table.collect(again);
    CHECK(table.find("key 100") == none);
    CHECK(latest(1) == "message 299 ");
    CHECK(*table[table.newest_failure()].key == ModelKey("key 299"));
}

TEST_CASE("a failure that is forgotten leaves what else is known of its key") {
    KeyTable table;
    const Index old = table.intern("old");
    REQUIRE(table.note_failure(old, text("broken"), 5ms) == none);
    table[old].waiting = 1;
    Index forgotten = none;
    for (int key = 0; key < 256; ++key) {
        REQUIRE(forgotten == none);
        forgotten = table.note_failure(table.intern("key " + std::to_string(key)), nullptr, 0ms);
    }
    REQUIRE(forgotten == old);
    table.collect(old);
    CHECK(table.find("old") == old);
    CHECK(table.failures_of(old) == 0);
    CHECK(table.size() == 257);
}

}  // namespace residency::core::key_table_test
