#include "residency/core/resident.hpp"

#include "support/catch.hpp"

#include <chrono>

namespace residency::core::resident_test {

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

TEST_CASE("a resident keeps its place for its stay, or for a tenth of it while it is idle", "[H32]") {
    Resident resident;
    resident.state = ResidentState::ready;
    resident.stay = 100ms;
    resident.stays_until = 300ms;
    resident.idle_since = 220ms;
    CHECK(resident.keeps_place(false, 229ms));
    CHECK_FALSE(resident.keeps_place(false, 230ms));
    CHECK(resident.next_change(false, 220ms) == 230ms);
    CHECK(resident.next_change(false, 230ms) == never);
    CHECK(resident.keeps_place(true, 299ms));
    CHECK(resident.next_change(true, 230ms) == 300ms);
    resident.begin_lease(Priority::low);
    CHECK(resident.keeps_place(false, 299ms));
    CHECK_FALSE(resident.keeps_place(false, 300ms));
    CHECK(resident.next_change(false, 230ms) == 300ms);
    resident.end_lease(295ms);
    resident.idle_since = 295ms;
    CHECK(resident.next_change(false, 295ms) == 300ms);
}

TEST_CASE("what runs on a resident counts, and for as long as its load took after that", "[H32]") {
    Resident resident;
    resident.stay = resident.guard = 100ms;
    CHECK(resident.served(0ms) == Priority::low);
    resident.begin_lease(Priority::normal);
    resident.begin_lease(Priority::low);
    CHECK(resident.served(1'000ms) == Priority::normal);
    resident.begin_lease(Priority::high);
    CHECK(resident.leases == 3);
    CHECK(resident.served(1'000ms) == Priority::high);
    CHECK(resident.next_change(false, 1'000ms) == never);

    // Which lease ends is not known: the one of the highest priority does.
    resident.end_lease(1'000ms);
    CHECK(resident.served(1'099ms) == Priority::high);
    CHECK(resident.next_change(false, 1'000ms) == 1'100ms);
    CHECK(resident.served(1'100ms) == Priority::normal);
    resident.end_lease(never);
    resident.settle(1'200ms);
    CHECK(resident.served(1'299ms) == Priority::normal);
    CHECK(resident.served(1'300ms) == Priority::low);
    resident.end_lease(2'000ms);
    CHECK(resident.leases == 0);
    CHECK(resident.served(2'000ms) == Priority::low);
}

TEST_CASE("what ended at an unknown time had ended when the last lease did", "[H32]") {
    Resident resident;
    resident.stay = resident.guard = 100ms;
    resident.begin_lease(Priority::high);
    resident.begin_lease(Priority::normal);
    resident.end_lease(never);
    resident.end_lease(50ms);
    resident.idle_since = 50ms;
    resident.settle(90ms);
    CHECK(resident.served(149ms) == Priority::high);
    CHECK(resident.served(150ms) == Priority::low);
}

TEST_CASE("on a resident that does not stay nothing counts", "[H32]") {
    Resident resident;
    resident.begin_lease(Priority::high);
    CHECK(resident.served(0ms) == Priority::low);
    CHECK_FALSE(resident.keeps_place(true, 0ms));
    CHECK(resident.next_change(true, 0ms) == never);
}

}  // namespace residency::core::resident_test
