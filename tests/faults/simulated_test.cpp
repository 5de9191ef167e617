// Defects that simulations found, each in the few steps that were left of it.

#include "support/slot_fixture.hpp"

#include <stop_token>
#include <utility>

using namespace residency;
using namespace residency::test;

TEST_CASE("A model that goes while its slot is being destroyed is not unloaded again when its event is delivered meanwhile", "[H11][H19]") {
    SlotOptions options;
    options.max_resident = 2;
    VirtualSlot f(options);
    Outcome<FakeLease> answer = f.acquire(a);
    f.run();
    FakeLease lease = std::move(answer.value());
    // The destructor asks a load to stop: then, in the midst of it, the lease ends, and its model's events are delivered.
    f.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        const std::stop_callback release(call.stop, [&] { lease.release(); });
        f.slot.reset();
    });
    f.world->on(FakeStep::unload, [&](const testing::FakeCall& call) {
        if (call.key == a) {
            f.run_control();
        }
    });
    const Outcome<FakeLease> other = f.acquire(b);
    f.run();
    CHECK(f.world->counts(a).unloads == 1);
    CHECK(other.code() == errc::shutting_down);
    f.check_gone(2);
}
