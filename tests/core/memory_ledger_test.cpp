// The ledger of a memory budget, message by message: H33 to H38 as far as it decides them. Every state of a small one
// is gone through by proof/ledger_explorer.cpp.

#include "residency/core/memory_ledger.hpp"

#include "support/memory.hpp"

#include <catch2/catch.hpp>

#include <cstddef>
#include <limits>
#include <vector>

namespace memory_ledger_test {

using namespace residency::core;

namespace {

constexpr std::size_t huge = (std::numeric_limits<std::size_t>::max)();

struct Ledger {
    explicit Ledger(std::size_t limit) : ledger(limit) {}

    MemoryId reserve(Index key, std::size_t bytes, unsigned level = 1) {
        ++came;
        return ledger.reserve({0, key}, bytes, {level, Time(came)}, Time(came + 100));
    }
    void say(MemoryId id, MemoryHold hold, Time idle_since = Time(0), Time keeps_until = (Time::min)()) {
        uses.push_back({id, hold, idle_since, 0, {}, keeps_until});
    }
    MemoryAnswers settle(Time now = Time(0)) {
        MemoryAnswers answers;
        ledger.settle(now, uses, answers);
        uses.clear();
        return answers;
    }

    MemoryLedger ledger;
    std::vector<MemoryUse> uses{};
    Time::rep came = 0;
};

MemoryAnswer answer(MemoryVerdict verdict, Index key, MemoryId id) { return {verdict, {0, key}, id}; }

}  // namespace

TEST_CASE("A key that fits is served without a look at the residents", "[core][H34]") {
    Ledger budget(100);
    const MemoryId first = budget.reserve(1, 60);
    CHECK_FALSE(budget.ledger.lacks());
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::reserved, 1, first)});
    CHECK(budget.ledger.reserved() == 60);
    const MemoryId second = budget.reserve(2, 60);
    CHECK(budget.ledger.lacks());
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::lacking, 2, second)});
    budget.ledger.give_back(first);
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::reserved, 2, second)});
    CHECK(budget.ledger.reserved() == 60);
}

TEST_CASE("The longest idle residents go, as many as suffice", "[core][H36]") {
    Ledger budget(100);
    std::vector<MemoryId> ids;
    for (Index key = 0; key < 4; ++key) {
        ids.push_back(budget.reserve(key, 25));
    }
    budget.settle();
    REQUIRE(budget.ledger.reserved() == 100);
    const MemoryId next = budget.reserve(9, 40);
    budget.say(ids[0], MemoryHold::idle, Time(7));
    budget.say(ids[1], MemoryHold::idle, Time(3));
    budget.say(ids[2], MemoryHold::idle, Time(5));
    budget.say(ids[3], MemoryHold::idle, Time(9));
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::evict, 1, ids[1]),
                                           answer(MemoryVerdict::evict, 2, ids[2]),
                                           answer(MemoryVerdict::lacking, 9, next)});
    // What was evicted leaves: nothing more goes.
    budget.say(ids[0], MemoryHold::idle, Time(7));
    budget.say(ids[1], MemoryHold::leaving);
    budget.say(ids[2], MemoryHold::leaving);
    CHECK(budget.settle().empty());
}

TEST_CASE("A resident that keeps its place is left until its time has come", "[core][H32][H36]") {
    Ledger budget(10);
    const MemoryId first = budget.reserve(1, 10);
    budget.settle();
    const MemoryId second = budget.reserve(2, 10);
    budget.say(first, MemoryHold::idle, Time(0), Time(50));
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::lacking, 2, second)});
    CHECK(budget.ledger.next_look() == Time(50));
    CHECK(budget.ledger.looks_for() == 0);
    budget.say(first, MemoryHold::idle, Time(0), Time(50));
    CHECK(budget.settle(Time(50)) == MemoryAnswers{answer(MemoryVerdict::evict, 1, first)});
}

TEST_CASE("Keys that ask before the budget settles cost the same however many there are", "[core][S18]") {
    Ledger ledger(1);
    constexpr Index keys = 10'000;
    const std::size_t before = residency::test::Memory::here().allocations;
    for (Index key = 0; key < keys; ++key) {
        ledger.reserve(key, 1);
    }
    // What they stand in grows in chunks, or doubles.
    CHECK(residency::test::Memory::here().allocations - before < keys / 4);
}

TEST_CASE("What can never fit is refused, and nothing goes for it", "[core][H35][R13]") {
    Ledger budget(10);
    const MemoryId first = budget.reserve(1, 6);
    budget.settle();
    const MemoryId large = budget.reserve(2, 11);
    budget.say(first, MemoryHold::idle);
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::impossible, 2, large)});
    CHECK(budget.ledger.bytes_of(large) == 0);
    SECTION("beside a pinned resident") {
        const MemoryId second = budget.reserve(3, 5);
        budget.say(first, MemoryHold::pinned);
        CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::impossible, 3, second)});
    }
    SECTION("a bare lease ends, so the key waits") {
        const MemoryId second = budget.reserve(3, 5);
        budget.say(first, MemoryHold::leased);
        CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::lacking, 3, second)});
        const MemoryId small = budget.reserve(4, 4);
        budget.say(first, MemoryHold::leased);
        CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::reserved, 4, small)});
    }
}

TEST_CASE("What frees memory for a key is kept for it", "[core][H35]") {
    Ledger budget(10);
    const MemoryId first = budget.reserve(1, 6);
    budget.settle();
    const MemoryId large = budget.reserve(2, 9);
    const MemoryId small = budget.reserve(3, 2);
    budget.say(first, MemoryHold::in_use);
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::evict, 1, first),
                                           answer(MemoryVerdict::lacking, 2, large),
                                           answer(MemoryVerdict::lacking, 3, small)});
    budget.ledger.give_back(first);
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::reserved, 2, large)});
    CHECK(budget.ledger.waiting() == 1);
}

TEST_CASE("A resident that drains is kept when the key has left", "[core][H33]") {
    Ledger budget(10);
    const MemoryId first = budget.reserve(1, 6);
    budget.settle();
    const MemoryId second = budget.reserve(2, 6);
    budget.say(first, MemoryHold::in_use);
    REQUIRE(budget.settle().size() == 2);
    budget.ledger.give_back(second);
    CHECK(budget.ledger.lacks());
    budget.say(first, MemoryHold::draining);
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::keep, 1, first)});
    CHECK_FALSE(budget.ledger.lacks());
}

TEST_CASE("Every second reservation goes by age once a key is aged", "[core][R15]") {
    Ledger budget(1);
    const MemoryId old = budget.reserve(1, 1, 2);
    const MemoryId high = budget.reserve(2, 1, 0);
    const MemoryId higher = budget.reserve(3, 1, 0);
    MemoryAnswers answers = budget.settle(Time(1000));
    CHECK(answers.front() == answer(MemoryVerdict::reserved, 1, old));
    budget.ledger.give_back(old);
    const MemoryId again = budget.reserve(1, 1, 2);
    CHECK(budget.settle(Time(1000)).front() == answer(MemoryVerdict::reserved, 2, high));
    budget.ledger.give_back(high);
    const MemoryId third = budget.reserve(4, 1, 0);
    // By age the one that came first of those that are left.
    CHECK(budget.settle(Time(1000)).front() == answer(MemoryVerdict::reserved, 3, higher));
    budget.ledger.give_back(higher);
    CHECK(budget.settle(Time(1000)).front() == answer(MemoryVerdict::reserved, 4, third));
    budget.ledger.give_back(third);
    CHECK(budget.settle(Time(1000)).front() == answer(MemoryVerdict::reserved, 1, again));
}

TEST_CASE("A key goes by the age of its oldest waiter, however young its best one is", "[core][R15]") {
    MemoryLedger ledger(1);
    MemoryAnswers answers;
    const MemoryId young = ledger.reserve({0, 1}, 1, {0, Time(90)}, Time(190));
    const MemoryId aged = ledger.reserve({0, 2}, 1, {0, Time(95)}, Time(50));
    ledger.settle(Time(100), {}, answers);
    CHECK(answers.front() == answer(MemoryVerdict::reserved, 2, aged));
    // Nor does that one's age come unnoticed behind another.
    ledger.give_back(aged);
    ledger.give_back(young);
    answers.clear();
    ledger.reserve({0, 3}, 1, {1, Time(96)}, never);
    ledger.settle(Time(100), {}, answers);
    ledger.reserve({0, 4}, 1, {0, Time(97)}, Time(197));
    ledger.reserve({0, 5}, 1, {0, Time(98)}, Time(150));
    ledger.settle(Time(100), {}, answers);
    CHECK(ledger.next_look() == Time(150));
}

TEST_CASE("An aged key waits for no turn by rank that never comes", "[core][R15]") {
    Ledger budget(10);
    const MemoryId high = budget.reserve(1, 4, 0);
    const MemoryId pinned = budget.reserve(2, 3);
    const MemoryId low = budget.reserve(3, 3, 2);
    budget.settle(Time(1000));
    REQUIRE_FALSE(budget.ledger.by_age());
    const auto is_used_by = [&](MemoryId id, unsigned level, Time since) {
        budget.uses.push_back({id, MemoryHold::in_use, Time(0), 0, {level, since}});
    };
    const Time before(0);
    const Time after(900);
    const MemoryId aged = budget.reserve(4, 3, 2);

    SECTION("the key that is first by rank needs what is in use for those that rank before it") {
        const MemoryId leader = budget.reserve(5, 4);
        is_used_by(high, 0, before);
        budget.say(pinned, MemoryHold::pinned);
        is_used_by(low, 2, after);
        CHECK(budget.settle(Time(1000)) == MemoryAnswers{answer(MemoryVerdict::evict, 3, low),
                                                         answer(MemoryVerdict::lacking, 4, aged),
                                                         answer(MemoryVerdict::lacking, 5, leader)});
        CHECK(budget.ledger.by_age());
        budget.ledger.give_back(low);
        is_used_by(high, 0, before);
        budget.say(pinned, MemoryHold::pinned);
        CHECK(budget.settle(Time(1000)) == MemoryAnswers{answer(MemoryVerdict::reserved, 4, aged)});
        CHECK_FALSE(budget.ledger.by_age());
    }
    SECTION("it needs what has a bare lease, too") {
        const MemoryId smaller = budget.reserve(6, 4);
        budget.say(high, MemoryHold::leased);
        is_used_by(pinned, 0, before);
        is_used_by(low, 2, after);
        CHECK(budget.settle(Time(1000)) == MemoryAnswers{answer(MemoryVerdict::evict, 3, low),
                                                         answer(MemoryVerdict::lacking, 4, aged),
                                                         answer(MemoryVerdict::lacking, 6, smaller)});
    }
    SECTION("so does the aged key itself") {
        is_used_by(high, 0, before);
        budget.say(pinned, MemoryHold::pinned);
        is_used_by(low, 1, after);
        CHECK(budget.settle(Time(1000)) ==
              MemoryAnswers{answer(MemoryVerdict::evict, 3, low), answer(MemoryVerdict::lacking, 4, aged)});
    }
    SECTION("what is free is kept for no key that cannot have the rest") {
        budget.ledger.give_back(low);
        const MemoryId leader = budget.reserve(5, 4);
        is_used_by(high, 0, before);
        budget.say(pinned, MemoryHold::pinned);
        CHECK(budget.settle(Time(1000)) ==
              MemoryAnswers{answer(MemoryVerdict::reserved, 4, aged), answer(MemoryVerdict::lacking, 5, leader)});
    }
    SECTION("but for one that can, once a load has ended") {
        const MemoryId leader = budget.reserve(5, 4);
        budget.say(high, MemoryHold::loading);
        budget.say(pinned, MemoryHold::pinned);
        is_used_by(low, 2, after);
        CHECK(budget.settle(Time(1000)) ==
              MemoryAnswers{answer(MemoryVerdict::lacking, 4, aged), answer(MemoryVerdict::lacking, 5, leader)});
        CHECK_FALSE(budget.ledger.by_age());
    }
    SECTION("it takes no turn that brings it nothing") {
        const MemoryId leader = budget.reserve(5, 4);
        is_used_by(high, 0, before);
        budget.say(pinned, MemoryHold::pinned);
        budget.say(low, MemoryHold::leased);
        CHECK(budget.settle(Time(1000)) ==
              MemoryAnswers{answer(MemoryVerdict::lacking, 4, aged), answer(MemoryVerdict::lacking, 5, leader)});
        CHECK_FALSE(budget.ledger.by_age());
    }
}

TEST_CASE("A lower limit, a trim and a model that needs more have idle residents unloaded", "[core][H34][H38]") {
    Ledger budget(10);
    const MemoryId first = budget.reserve(1, 5);
    const MemoryId second = budget.reserve(2, 5);
    budget.settle();
    const auto say_both = [&](MemoryHold one, MemoryHold other) {
        budget.say(first, one, Time(1), never);
        budget.say(second, other, Time(2), never);
    };
    SECTION("limit") {
        budget.ledger.set_limit(6);
        CHECK(budget.ledger.lacks());
        say_both(MemoryHold::in_use, MemoryHold::in_use);
        CHECK(budget.settle().empty());
        say_both(MemoryHold::in_use, MemoryHold::idle);
        CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::evict, 2, second)});
    }
    SECTION("two trims at once: the larger counts") {
        budget.ledger.trim(6);
        budget.ledger.trim(1);
        say_both(MemoryHold::idle, MemoryHold::idle);
        CHECK(budget.settle().size() == 2);
    }
    SECTION("trim") {
        budget.ledger.trim(5);
        CHECK(budget.ledger.lacks());
        say_both(MemoryHold::idle, MemoryHold::idle);
        CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::evict, 1, first)});
        CHECK_FALSE(budget.ledger.lacks());
    }
    SECTION("use") {
        budget.ledger.use(first, 7);
        CHECK(budget.ledger.reserved() == 12);
        say_both(MemoryHold::in_use, MemoryHold::idle);
        CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::evict, 2, second)});
    }
    SECTION("pinned ones stay") {
        budget.ledger.set_limit(0);
        say_both(MemoryHold::pinned, MemoryHold::pinned);
        CHECK(budget.settle().empty());
    }
}

TEST_CASE("Sizes near the greatest number are reckoned with as they are", "[core][R13]") {
    Ledger budget(huge);
    const MemoryId first = budget.reserve(1, huge - 1);
    const MemoryId second = budget.reserve(2, huge / 2 + 1);
    const MemoryAnswers answers = budget.settle();
    CHECK(answers.front() == answer(MemoryVerdict::reserved, 1, first));
    CHECK(answers.size() == 2);
    CHECK(budget.ledger.reserved() == huge - 1);
    budget.ledger.use(first, huge);
    CHECK(budget.ledger.reserved() == huge);
    budget.ledger.give_back(first);
    CHECK(budget.settle() == MemoryAnswers{answer(MemoryVerdict::reserved, 2, second)});
    const MemoryId third = budget.reserve(3, huge / 2);
    budget.settle();
    CHECK(budget.ledger.is_reserved(third));
    budget.ledger.use(third, huge);
    CHECK(budget.ledger.reserved() == huge);
    budget.ledger.give_back(third);
    CHECK(budget.ledger.reserved() == huge / 2 + 1);
    budget.ledger.give_back(second);
    CHECK(budget.ledger.reserved() == 0);
}

}  // namespace memory_ledger_test
