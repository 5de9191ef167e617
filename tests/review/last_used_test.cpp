// Two faults of an earlier manager: the time of the last use was written after the lock had been released, and a helper wrote it with no
// lock at all. A model could so be unloaded by the time of an older use, and the two writes were a data race.
//
// Here the end of a lease stamps it under the slot's mutex. In these tests threads use a model while a time machine lets it expire: when
// an idle unload begins, a full keep-alive must have passed since each end of use that any thread knew of. ThreadSanitizer sees the rest.

#include "support/slot_fixture.hpp"
#include "support/time_machine.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

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
        while (known < time.time_since_epoch().count() && !last.compare_exchange_weak(known, time.time_since_epoch().count())) {
        }
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

// Lets some virtual time pass, so that models do become idle now and then.
void pause(VirtualClock::duration time) {
    const auto until = VirtualClock::now() + time;
    while (VirtualClock::now() < until) {
        std::this_thread::yield();
    }
}

}  // namespace

TEST_CASE("Review: the last use is stamped under the lock, whichever of many threads ends it", "[R4][R5]") {
    VirtualSlot f(keeping());
    const auto watch = std::make_unique<Watch>();
    f.events.on_event(watch->observer());
    {
        const TimeMachine time(f, 1ms);
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (int round = 0; watch->idle_unloads < 30; ++round) {
                    FakeLease lease = f.slot->acquire(a);
                    watch->uses.note(lease.generation(), VirtualClock::now());
                    lease.release();
                    pause(std::chrono::milliseconds((thread * 3 + round) % 7));
                }
            });
        }
    }
    CHECK(watch->too_early == 0);
    CHECK(f.world->counts(a).most_resident == 1);
    f.finish(0);
}

TEST_CASE("Review: nothing that counts as use writes its time without the lock", "[R4][R5]") {
    VirtualManager f(keeping());
    const auto watch = std::make_unique<Watch>();
    f.events.on_event(watch->observer());
    auto& slot = f.models->embedding();
    std::atomic<int> wrong{0};
    {
        const TimeMachine time(f, 1ms);
        const auto guard = asio::make_work_guard(f.inference);
        std::vector<std::jthread> threads;
        threads.emplace_back([&] { f.inference.run(); });
        std::vector<std::jthread> users;
        const auto use = [&](auto act) {
            users.emplace_back([&watch, act] {
                for (int round = 0; watch->idle_unloads < 12; ++round) {
                    act();
                    pause(std::chrono::milliseconds(round % 7));
                }
            });
        };
        // Each way in which a model is used, beside all others.
        use([&] {
            const auto now = VirtualClock::now();
            watch->uses.note(slot.ensure_loaded(a), now);
        });
        use([&] {
            if (FakeLease lease = slot.try_acquire(a)) {
                watch->uses.note(lease.generation(), VirtualClock::now());
                lease.release();
            }
        });
        use([&] {
            const Embeddings rows = f.models->embed(a, {"text"});
            wrong += f.world->model(testing::answered_by(rows)).key == a ? 0 : 1;
        });
        use([&] {
            FakeLease lease = slot.acquire(a);
            watch->uses.note(lease.generation(), VirtualClock::now());
            lease = FakeLease();
        });
        // And looking at it, which is no use.
        use([&] {
            for (const ResidentStatus& resident : slot.status().residents) {
                wrong += resident.idle_for && *resident.idle_for < 0ns ? 1 : 0;
            }
        });
        users.clear();
        f.inference.stop();
    }
    CHECK(watch->too_early == 0);
    CHECK(wrong == 0);
    f.finish(0);
}
