// How many requests were refused since the last event said so, and when the next one does.

#include "residency/core/refusals.hpp"

#include "support/catch.hpp"

namespace residency::core::refusals_test {

using namespace std::chrono_literals;

TEST_CASE("the first refusal of a reason is due at once, however early it is", "[H19]") {
    Refusals refusals;
    CHECK(refusals.due() == never);
    for (const Reason reason : Refusals::reasons) {
        CHECK(refusals.add(reason, SharedKey(ModelKey("a")), Time::zero()));
        CHECK(refusals.count(reason) == 1);
        CHECK(refusals.is_due(reason, Time::zero()));
    }
    CHECK(refusals.due() == (Time::min)());
}

TEST_CASE("refusals of one period are one event at its end, with the latest key", "[H19]") {
    Refusals refusals;
    REQUIRE(refusals.add(Reason::overloaded, SharedKey(ModelKey("a")), 10s));
    CHECK(refusals.report(Reason::overloaded, 10s) == 1);
    CHECK(refusals.due() == never);
    CHECK_FALSE(refusals.add(Reason::overloaded, SharedKey(ModelKey("b")), 10s + 1ns));
    CHECK_FALSE(refusals.add(Reason::overloaded, SharedKey(ModelKey("c")), 11s - 1ns));
    CHECK(refusals.due() == 11s);
    CHECK(refusals.next(Reason::overloaded) == 11s);
    CHECK_FALSE(refusals.is_due(Reason::overloaded, 11s - 1ns));
    CHECK(refusals.is_due(Reason::overloaded, 11s));
    CHECK(*refusals.key(Reason::overloaded) == ModelKey("c"));
    CHECK(refusals.report(Reason::overloaded, 12s) == 2);
    CHECK(refusals.count(Reason::overloaded) == 0);
    CHECK_FALSE(refusals.is_due(Reason::overloaded, 20s));
    CHECK_FALSE(refusals.add(Reason::overloaded, SharedKey(ModelKey("d")), 13s - 1ns));
    CHECK(refusals.add(Reason::overloaded, SharedKey(ModelKey("d")), 13s));
}

TEST_CASE("each reason is summed up apart", "[H19]") {
    Refusals refusals;
    REQUIRE(refusals.add(Reason::cooling_down, SharedKey(ModelKey("a")), 1s));
    CHECK(refusals.report(Reason::cooling_down, 1s) == 1);
    REQUIRE(refusals.add(Reason::unknown_model, SharedKey(ModelKey("b")), 1500ms));
    CHECK(refusals.report(Reason::unknown_model, 1500ms) == 1);
    CHECK_FALSE(refusals.add(Reason::unknown_model, SharedKey(ModelKey("c")), 1600ms));
    CHECK(refusals.due() == 2500ms);
    CHECK_FALSE(refusals.add(Reason::cooling_down, SharedKey(ModelKey("a")), 1600ms));
    CHECK(refusals.due() == 2s);
    CHECK(*refusals.key(Reason::cooling_down) == ModelKey("a"));
    CHECK(*refusals.key(Reason::unknown_model) == ModelKey("c"));
    CHECK_FALSE(refusals.is_due(Reason::unknown_model, 2s));
    CHECK(refusals == Refusals(refusals));
    CHECK_FALSE(refusals == Refusals());
}

}  // namespace residency::core::refusals_test
