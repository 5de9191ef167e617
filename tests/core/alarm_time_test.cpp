// When a slot is to be looked at next.

#include "residency/core/alarm_time.hpp"

#include "support/catch.hpp"

namespace residency::core::alarm_time_test {

using namespace std::chrono_literals;

TEST_CASE("the alarm rings at the earliest of what it was set for", "[R7]") {
    AlarmTime alarm;
    CHECK(alarm.time() == never);
    alarm.ring_by(3s);
    alarm.ring_by(4s);
    CHECK(alarm.time() == 3s);
    alarm.ring_by(2s);
    CHECK(alarm.time() == 2s);
    CHECK_FALSE(alarm == AlarmTime());
    alarm.restart();
    CHECK(alarm == AlarmTime());
}

TEST_CASE("reasons of the slot's own remain when the alarm is set anew", "[R7]") {
    AlarmTime alarm;
    alarm.resume_at(1s);
    alarm.yield_at(2s);
    alarm.look_at(3s);
    CHECK(alarm.time() == 1s);
    CHECK(alarm.resumes_at() == 1s);
    CHECK(alarm.yields_at() == 2s);
    CHECK(alarm.looks_at() == 3s);
    // That a reason is over moves no alarm: it rings for nothing.
    alarm.resume_at(never);
    CHECK(alarm.time() == 1s);
    alarm.restart();
    CHECK(alarm.time() == 2s);
    alarm.yield_at(never);
    alarm.restart();
    CHECK(alarm.time() == 3s);
    alarm.look_at(never);
    alarm.restart();
    CHECK(alarm.time() == never);
}

TEST_CASE("the shortest timeout counts until it is taken; none is no timeout", "[R7]") {
    AlarmTime alarm;
    alarm.note_timeout(2s);
    alarm.note_timeout(1s);
    alarm.note_timeout(3s);
    alarm.note_timeout(0s);
    alarm.note_timeout(-1s);
    CHECK(alarm.time() == never);
    CHECK(alarm.noted_timeout() == 1s);
    CHECK(alarm.take_timeout() == 1s);
    CHECK(alarm.take_timeout() == (Duration::max)());
}

}  // namespace residency::core::alarm_time_test
