#include "residency/core/slab.hpp"

#include "support/catch.hpp"

#include <map>
#include <random>
#include <string>
#include <vector>

namespace residency::core {

namespace {

struct Tag;
using Table = Slab<std::string, Tag>;

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

}  // namespace residency::core
