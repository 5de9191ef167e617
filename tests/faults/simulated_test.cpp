// Defects that simulations found, each in the few steps that were left of it.

#include "support/bench.hpp"

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
    SlotBench bench(options);
    Outcome<FakeLease> answer = bench.acquire(a);
    bench.run();
    FakeLease lease = std::move(answer.value());
    // The destructor asks a load to stop: then, in the midst of it, the lease ends, and its model's events are
    // delivered.
    bench.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        const std::stop_callback release(call.stop, [&] { lease.release(); });
        bench.slot.reset();
    });
    bench.world->on(FakeStep::unload, [&](const testing::FakeCall& call) {
        if (call.key == a) {
            bench.run_control();
        }
    });
    const Outcome<FakeLease> other = bench.acquire(b);
    bench.run();
    CHECK(bench.world->counts(a).unloads == 1);
    CHECK(other.code() == errc::shutting_down);
    bench.check_gone(2);
}

TEST_CASE("The last lease may end while another one's model is being destroyed in place", "[H11]") {
    SlotOptions options;
    options.max_resident = 2;
    SlotBench bench(options);
    Outcome<FakeLease> first = bench.acquire(a);
    Outcome<FakeLease> second = bench.acquire(b);
    bench.run();
    FakeLease lease = std::move(first.value());
    FakeLease last = std::move(second.value());
    bench.slot.reset();
    // As another thread would, at the worst moment: nothing of the slot's may be freed under the first.
    bench.world->on(FakeStep::unload, [&](const testing::FakeCall&) { last.release(); });
    lease.release();
    CHECK(bench.world->counts().unloads == 2);
    bench.run();
    bench.check_gone(2);
}

}  // namespace simulated_test
