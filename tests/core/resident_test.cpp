#include "residency/core/resident.hpp"

#include "support/catch.hpp"

#include <chrono>

namespace residency::core {

using namespace std::chrono_literals;

TEST_CASE("a resident is usable while it is ready or may return to it") {
    Resident resident;
    CHECK_FALSE(resident.usable());
    resident.state = ResidentState::ready;
    CHECK(resident.usable());
    resident.state = ResidentState::draining;
    CHECK(resident.usable());
    resident.for_good = true;
    CHECK_FALSE(resident.usable());
    resident.for_good = false;
    resident.state = ResidentState::unloading;
    CHECK_FALSE(resident.usable());
}

TEST_CASE("a resident drains for a switch unless it drains for good") {
    Resident resident;
    resident.state = ResidentState::draining;
    CHECK(resident.switches());
    resident.for_good = true;
    CHECK_FALSE(resident.switches());
    resident.for_good = false;
    resident.state = ResidentState::ready;
    CHECK_FALSE(resident.switches());
}

TEST_CASE("a load is queued or runs; one that runs may be asked to stop once, and not after it has failed") {
    Resident resident;
    CHECK(resident.is_load());
    CHECK_FALSE(resident.runs_load());
    resident.state = ResidentState::loading;
    CHECK(resident.is_load());
    CHECK(resident.runs_load());
    resident.stop_requested = true;
    CHECK_FALSE(resident.runs_load());
    resident.stop_requested = false;
    resident.failed = true;
    CHECK_FALSE(resident.runs_load());
    resident.state = ResidentState::ready;
    CHECK_FALSE(resident.is_load());
}

TEST_CASE("a resident is unused until it is granted after it became ready") {
    Resident resident;
    resident.granted = resident.readied = 7;
    CHECK(resident.unused());
    resident.granted = 8;
    CHECK_FALSE(resident.unused());
}

TEST_CASE("a resident is idle while it is ready and has no lease") {
    Resident resident;
    CHECK_FALSE(resident.idle());
    resident.state = ResidentState::ready;
    resident.idle_since = 5ms;
    resident.keep_alive = 7ms;
    CHECK(resident.idle());
    CHECK(resident.due() == Time(12ms));
    resident.keep_alive = Duration::max();
    CHECK(resident.due() == never);
    resident.leases = 1;
    CHECK_FALSE(resident.idle());
    resident.leases = 0;
    resident.state = ResidentState::draining;
    CHECK_FALSE(resident.idle());
}

TEST_CASE("residents are ordered by their use") {
    Resident left;
    Resident right;
    left.granted = 1;
    right.granted = 2;
    CHECK(left.used_before(right));
    CHECK_FALSE(right.used_before(left));
    CHECK_FALSE(left.used_before(left));
    // Idle for equally long: by use.
    CHECK(left.idle_before(right));
    left.idle_since = 1ms;
    CHECK(left.used_before(right));
    CHECK(right.idle_before(left));
    CHECK_FALSE(left.idle_before(right));
    CHECK_FALSE(left.idle_before(left));
}

}  // namespace residency::core
