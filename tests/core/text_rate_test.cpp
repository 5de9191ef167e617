// How fast a slot computes texts while others wait.

#include "residency/core/text_rate.hpp"

#include "support/catch.hpp"

#include <optional>

namespace residency::core::text_rate_test {

namespace {

using namespace std::chrono_literals;

}  // namespace

TEST_CASE("a rate is not known before a call has ended") {
    TextRate rate;
    CHECK_FALSE(rate.time_for(1));
    rate.run(true, 5s);
    CHECK_FALSE(rate.time_for(1));
    rate.note(4, 6s);
    CHECK(rate.time_for(1) == 250ms);
    CHECK(rate.time_for(10) == 2500ms);
    CHECK_FALSE(rate.time_for(0));
}

TEST_CASE("time in which nothing is computed, or nothing waits, does not count") {
    TextRate rate;
    rate.note(100, 5s);
    CHECK_FALSE(rate.time_for(1));
    rate.run(true, 10s);
    rate.run(true, 11s);
    rate.note(1, 12s);
    rate.run(false, 12s);
    rate.note(100, 50s);
    CHECK(rate.time_for(1) == 2s);
    rate.run(true, 60s);
    rate.note(1, 62s);
    CHECK(rate.time_for(1) == 2s);
}

TEST_CASE("calls that end one after the other, or at once, count together") {
    TextRate rate;
    rate.run(true, 0s);
    rate.note(2, 4s);
    rate.note(2, 4s);
    // (2 * 7/8 + 2) texts in 4 s * 7/8.
    CHECK(rate.time_for(15) == 14s);
}

TEST_CASE("what is long past weighs little") {
    TextRate rate;
    rate.run(true, 0s);
    rate.note(1, 100s);
    Time now = 100s;
    for (int call = 0; call < 100; ++call) {
        rate.note(1, now += 1s);
    }
    CHECK(rate.time_for(1) >= 1s);
    CHECK(rate.time_for(1) < 1001ms);
}

TEST_CASE("a time is neither zero nor past what a duration can say") {
    TextRate rate;
    rate.run(true, 0s);
    rate.note(1, 0s);
    CHECK(rate.time_for(1) == 1ns);
    rate.note(0, Time(Duration::max() / 2));
    CHECK(rate.time_for(1'000'000) == Duration::max());
}

}  // namespace residency::core::text_rate_test
