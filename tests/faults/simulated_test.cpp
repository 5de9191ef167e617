// Defects that simulations found, each in the few steps that were left of it.

#include "support/slot_fixture.hpp"

#include <stop_token>
#include <utility>

namespace simulated_test {

using namespace residency;
using namespace residency::test;

TEST_CASE(
    "A model that goes while its slot is being destroyed is not unloaded again when its event is delivered meanwhile",
    "[H11][H19]") {
    SlotOptions options;
    options.max_resident = 2;
    VirtualSlot f(options);
    Outcome<FakeLease> answer = f.acquire(a);
    f.run();
    FakeLease lease = std::move(answer.value());
    // The destructor asks a load to stop: then, in the midst of it, the lease ends, and its model's events are
    // delivered.
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

TEST_CASE("The last lease may end while another one's model is being destroyed in place", "[H11]") {
    SlotOptions options;
    options.max_resident = 2;
    VirtualSlot f(options);
    Outcome<FakeLease> first = f.acquire(a);
    Outcome<FakeLease> second = f.acquire(b);
    f.run();
    FakeLease lease = std::move(first.value());
    FakeLease last = std::move(second.value());
    f.slot.reset();
    // As another thread would, at the worst moment: nothing of the slot's may be freed under the first.
    f.world->on(FakeStep::unload, [&](const testing::FakeCall&) { last.release(); });
    lease.release();
    CHECK(f.world->counts().unloads == 2);
    f.run();
    f.check_gone(2);
}

}  // namespace simulated_test
