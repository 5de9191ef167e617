#include "residency/core/key_table.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace residency::core {

using namespace std::chrono_literals;

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
        table.note_failure(a, "broken", 5ms);
        table.collect(a);
        CHECK(table.find("a") == a);
        table.clear_failures(a);
        CHECK(table[a].failure_message.empty());
        CHECK(table[a].cooling_until == Time::min());
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

TEST_CASE("the latest failures come first, and only so many are remembered") {
    KeyTable table;
    const auto note = [&](int key) {
        const Index index = table.intern("key " + std::to_string(key));
        table.note_failure(index, "message " + std::to_string(key), Time(key));
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
    CHECK(table[again].failures == 2);
    CHECK(table.size() == KeyTable::most_failures);
    CHECK(table.newest_failure() == again);

    std::size_t count = 0;
    std::string order;
    for (Index index = table.newest_failure(); index != none; index = table[index].older_failure) {
        order += count < 3 ? table[index].failure_message + ' ' : "";
        ++count;
    }
    CHECK(count == KeyTable::most_failures);
    CHECK(order == "message 100 message 299 message 298 ");

    table.clear_failures(again);
    table.collect(again);
    CHECK(table.find("key 100") == none);
    CHECK(table[table.newest_failure()].failure_message == "message 299");
}

TEST_CASE("a failure that is forgotten leaves what else is known of its key") {
    KeyTable table;
    const Index old = table.intern("old");
    table.note_failure(old, "broken", 5ms);
    table[old].waiting = 1;
    for (int key = 0; key < 256; ++key) {
        table.note_failure(table.intern("key " + std::to_string(key)), "", 0ms);
    }
    CHECK(table.find("old") == old);
    CHECK(table[old].failures == 0);
    CHECK(table.size() == 257);
}

}  // namespace residency::core
