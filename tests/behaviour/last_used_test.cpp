// Two faults of an earlier manager: the time of the last use was written after the lock had been released, and a helper
// wrote it with no lock at all. A model could so be unloaded by the time of an older use, and the two writes were a
// data race.
//
// Here the end of a lease stamps it under the slot's mutex. In these tests threads use a model while a time machine
// lets it expire: when an idle unload begins, a full keep-alive must have passed since each end of use that any thread
// knew of. ThreadSanitizer sees the rest.

#include "support/bench.hpp"
#include "support/time_machine.hpp"

#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace last_used_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

constexpr auto keep_alive = 4ms;

SlotOptions keeping() {
    SlotOptions options;
    options.keep_alive = keep_alive;
    return options;
}

// When each residency was last in use for sure, as its users know it.
class Uses {
public:
    void note(Generation generation, VirtualClock::time_point time) {
        std::atomic<std::int64_t>& last = last_.at(generation.value() % last_.size());
        std::int64_t known = last;
        while (known < time.time_since_epoch().count() &&
               !last.compare_exchange_weak(known, time.time_since_epoch().count())) {}
    }
    [[nodiscard]] VirtualClock::time_point last(Generation generation) const {
        return VirtualClock::time_point(VirtualClock::duration(last_.at(generation.value() % last_.size())));
    }

private:
    std::array<std::atomic<std::int64_t>, 1U << 16U> last_{};
};

// Counts the idle unloads, and those that came too early.
struct Watch {
    Uses uses;
    std::atomic<int> idle_unloads{0};
    std::atomic<int> too_early{0};

    [[nodiscard]] Observer observer() {
        return [this](const Event& event) {
            if (event.type == EventType::unload_started && event.reason == Reason::idle) {
                // The time machine let no time pass since the slot decided this.
                too_early += VirtualClock::now() - uses.last(event.generation) < keep_alive ? 1 : 0;
                ++idle_unloads;
            }
        };
    }
};

// Has each of `users` use the model on a thread of its own, several times with pauses in which it could expire, and
// then lets it expire for sure, as it is not used until it is gone; again and again.
void use_and_let_expire(Contexts& contexts, const FakeWorld& world, const std::vector<std::function<void()>>& users) {
    constexpr int phases = 8;
    constexpr int uses = 6;
    const TimeMachine time(contexts, 1ms);
    std::barrier all_used(static_cast<std::ptrdiff_t>(users.size()));
    std::vector<std::jthread> threads;
    for (std::size_t user = 0; user < users.size(); ++user) {
        threads.emplace_back([&, user] {
            for (int phase = 0; phase < phases; ++phase) {
                for (int use = 0; use < uses; ++use) {
                    users[user]();
                    const auto until =
                        VirtualClock::now() + std::chrono::milliseconds((user * 3 + static_cast<std::size_t>(use)) % 7);
                    while (VirtualClock::now() < until) {
                        std::this_thread::yield();
                    }
                }
                all_used.arrive_and_wait();
                world.await(a, [](const auto& counts) { return counts.live == 0; });
                all_used.arrive_and_wait();
            }
        });
    }
    threads.clear();
}

}  // namespace

TEST_CASE("Review: the last use is stamped under the lock, whichever of many threads ends it", "[R4][R5]") {
    SlotBench bench(keeping());
    const auto watch = std::make_unique<Watch>();
    bench.events.on_event(watch->observer());
    use_and_let_expire(bench, *bench.world, std::vector<std::function<void()>>(4, [&] {
                           FakeLease lease = bench.slot->acquire(a);
                           watch->uses.note(lease.generation(), VirtualClock::now());
                           lease.release();
                       }));
    CHECK(watch->too_early == 0);
    CHECK(watch->idle_unloads >= 8);
    CHECK(bench.world->counts(a).most_resident == 1);
    bench.finish(0);
}

TEST_CASE("Review: nothing that counts as use writes its time without the lock", "[R4][R5]") {
    ManagerBench bench({.embedding = keeping()});
    const auto watch = std::make_unique<Watch>();
    bench.events.on_event(watch->observer());
    auto& slot = bench.manager->embedding();
    std::atomic<int> wrong{0};
    {
        auto guard = asio::make_work_guard(bench.inference);
        const std::jthread answers([&] { bench.inference.run(); });
        // Each way in which a model is used, beside all others; and looking at it, which is no use.
        use_and_let_expire(bench, *bench.world,
                           {[&] {
                                const auto now = VirtualClock::now();
                                watch->uses.note(slot.ensure_loaded(a), now);
                            },
                            [&] {
                                if (FakeLease lease = slot.try_acquire(a)) {
                                    watch->uses.note(lease.generation(), VirtualClock::now());
                                    lease.release();
                                }
                            },
                            [&] {
                                const Embeddings rows = bench.manager->embed(a, {"text"});
                                wrong += bench.world->model(testing::answered_by(rows)).key == a ? 0 : 1;
                            },
                            [&] {
                                FakeLease lease = slot.acquire(a);
                                watch->uses.note(lease.generation(), VirtualClock::now());
                                lease = FakeLease();
                            },
                            [&] {
                                for (const ResidentStatus& resident : slot.status().residents) {
                                    wrong += resident.idle_for && *resident.idle_for < 0ns ? 1 : 0;
                                }
                            }});
        guard.reset();
    }
    CHECK(watch->too_early == 0);
    CHECK(watch->idle_unloads >= 8);
    CHECK(wrong == 0);
    bench.finish(0);
}

}  // namespace last_used_test
