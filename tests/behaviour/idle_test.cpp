// S13, S14, S16 to S19, H7: when a model that is not used is unloaded. What wakes the slot for it: alarm_test.cpp.

#include "support/bench.hpp"
#include "support/keep_alive.hpp"
#include "support/time_machine.hpp"

#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace idle_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// -- 13 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S13: the countdown begins with the end of the last of overlapping leases", "[S13][R5][H7]") {
    SlotBench bench(keeping(10s));
    auto first = bench.acquire(a);
    bench.run();
    bench.advance(4s);
    auto second = bench.acquire(a);
    bench.run();
    bench.advance(4s);
    first.value().release();
    CHECK_FALSE(bench.only_resident().idle_for);
    bench.advance(30s);
    CHECK(bench.world->counts(a).live == 1);
    second.value().release();
    CHECK(bench.only_resident().idle_for == 0ns);
    CHECK(bench.only_resident().unloads_in == 10s);
    check_goes_in(bench, 10s);
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.events.lines() == Lines{"load_started a", "ready a", "unload_started a (idle)", "unloaded a (idle)"});
    bench.finish(2);
}

TEST_CASE("S13: an inference that takes longer than the keep-alive keeps its model, and a full keep-alive follows",
          "[S13][R5][R1]") {
    ManagerBench bench({.embedding = keeping(10s)});
    bool lived = false;
    during(*bench.world, FakeStep::inference, [&] {
        VirtualClock::advance(1h);
        bench.run_control();
        testing::run_ready(bench.loading);
        lived = bench.world->counts(a).live == 1;
    });
    const auto answer = bench.embed(a);
    bench.run();
    CHECK(lived);
    CHECK(answer.calls() == 1);
    CHECK_FALSE(answer.exception());
    bench.advance(10s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S13: of threads that use a model at once, only the last one's end counts", "[S13][R5][R1]") {
    ThreadedManager bench({.embedding = keeping(0ms)});
    FakeLease lease = bench.manager->embedding().acquire(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    (void)bench.manager->embed(a, {"text"});
                }
            });
        }
    }
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.world->counts(a).live == 1);
    lease.release();
    bench.world->await(a, [](const auto& counts) { return counts.live == 0; });
    bench.finish(0);
}

// -- 14 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S14: a request in the tick of the expiry keeps the model if it comes first", "[S14][R5][R7][R1][R4]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    VirtualClock::advance(10s);
    // The alarm is due, and has not been looked at.
    auto lease = bench.acquire(a);
    bench.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 1);
    CHECK(bench.world->counts(a).live == 1);
    lease.value().release();
    CHECK(bench.only_resident().unloads_in == 10s);
    check_goes_in(bench, 10s);
    bench.finish(2);
}

TEST_CASE("S14: a request in the tick of the expiry gets a fresh load if it comes second", "[S14][R5][R6][R1][R4]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    VirtualClock::advance(10s);
    bench.run_control();
    CHECK(bench.only_resident().state == ResidentState::unloading);
    auto lease = bench.acquire(a);
    bench.run();
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 2);
    CHECK(bench.world->counts(a).most_resident == 1);
    lease.value().release();
    bench.finish(2);
}

TEST_CASE("S14: requests of threads that race with the expiry always succeed", "[S14][R5][R1]") {
    SlotBench bench(keeping(1ms));
    std::atomic<int> gone{0};
    {
        const TimeMachine time(bench, 1ms);
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                for (int request = 0; request < 100; ++request) {
                    const FakeLease lease = bench.slot->acquire(a);
                    gone += bench.world->model(lease->serial()).unloaded_on ? 1 : 0;
                }
            });
        }
    }
    CHECK(gone == 0);
    CHECK(bench.slot->status().counters.leases_granted == 300);
    bench.finish(0);
}

// -- 15 ---------------------------------------------------------------------------------------------------------------

// -- 16 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S16: a model that was loaded ahead and never used gets one full keep-alive", "[S16][R5][H7]") {
    SlotBench bench(keeping(10s));
    const auto load = bench.ensure(a);
    bench.run();
    REQUIRE(load.calls() == 1);
    CHECK(bench.only_resident().idle_for == 0ns);
    bench.advance(6s);
    CHECK(bench.only_resident().unloads_in == 4s);
    check_goes_in(bench, 4s);
    CHECK(bench.slot->status().counters.leases_granted == 0);
    bench.finish(1);
}

TEST_CASE("S16: loading ahead what is resident is a use: its keep-alive starts again, and an override holds",
          "[S16][R5][H7]") {
    SlotBench bench(keeping(10s));
    bench.load(a);
    bench.advance(6s);
    auto again = bench.ensure(a);
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(again.value() == bench.slot->generation());
    CHECK(bench.only_resident().unloads_in == 10s);
    bench.advance(10s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    const auto shorter = bench.ensure(a, request_keeping(3s));
    bench.run();
    CHECK(shorter.calls() == 1);
    CHECK(bench.only_resident().unloads_in == 3s);
    check_goes_in(bench, 3s);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(3);
}

// -- 17 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S17: a keep-alive of zero unloads when the model is free", "[S17][R5][H7]") {
    const bool by_request = GENERATE(true, false);
    SlotBench bench(keeping(by_request ? 5min : 0ms));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = 0ms;
    }
    auto first = bench.acquire(a, options);
    auto second = bench.acquire(a, options);
    bench.run();
    first.value().release();
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    second.value().release();
    bench.run();
    CHECK(bench.world->counts(a).live == 0);
    // Also when it was loaded ahead.
    const auto load = bench.ensure(a, options);
    bench.run();
    CHECK(load.calls() == 1);
    CHECK(bench.world->counts(a).loads == 2);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.slot->status().counters.unloads[static_cast<std::size_t>(Reason::idle)] == 2);
    CHECK(bench.slot->status().counters.timer_waits == 0);
    bench.finish(3);
}

TEST_CASE("S17: a model that is kept for ever stays, without a timer", "[S17][R5]") {
    const bool by_request = GENERATE(true, false);
    SlotBench bench(keeping(by_request ? 10s : keep_alive_forever));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = keep_alive_forever;
    }
    bench.use(a, options);
    CHECK_FALSE(bench.only_resident().unloads_in);
    bench.advance(std::chrono::hours(24 * 365 * 100));
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.slot->status().counters.timer_waits == 0);
    CHECK(bench.at_rest());
    bench.finish(1);
}

TEST_CASE("S17: a huge keep-alive does not overflow", "[S17][R5]") {
    const auto huge = GENERATE(std::chrono::milliseconds::max() - 1ms, std::chrono::milliseconds::max() / 2,
                               std::chrono::milliseconds(std::chrono::hours(24 * 365 * 200)));
    const bool by_request = GENERATE(true, false);
    SlotBench bench(keeping(by_request ? 10s : huge));
    RequestOptions options;
    if (by_request) {
        options.keep_alive = huge;
    }
    bench.use(a, options);
    bench.advance(std::chrono::hours(24 * 365 * 100));
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(std::chrono::hours(24 * 365 * 100) - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.finish(1);
}

TEST_CASE("S17: a keep-alive of one request's holds until the next grant", "[S17][R5][H7]") {
    SlotBench bench(keeping(10s));
    bench.use(a, request_keeping(1min));
    CHECK(bench.only_resident().unloads_in == 1min);
    bench.use(a);
    CHECK(bench.only_resident().unloads_in == 10s);
    bench.use(a, request_keeping(keep_alive_forever));
    CHECK_FALSE(bench.only_resident().unloads_in);
    bench.advance(1h);
    bench.use(a, request_keeping(2s));
    check_goes_in(bench, 2s);
    // It ended with its residency.
    bench.use(a);
    CHECK(bench.only_resident().unloads_in == 10s);
    bench.finish(5);
}

namespace {

// In how long `key` is unloaded, if that is due.
std::optional<std::chrono::nanoseconds> unloads_in(const SlotBench& bench, const ModelKey& key) {
    const std::optional<ResidentStatus> resident = bench.resident(key);
    REQUIRE(resident);
    return resident->unloads_in;
}

}  // namespace

TEST_CASE("Of several grants the last one's keep-alive wins, in whichever order the leases end", "[H7]") {
    SlotBench bench({.keep_alive = 1min});
    FakeLease first = bench.lease(a, {.keep_alive = 5min});
    FakeLease last = bench.lease(a, {.keep_alive = 10s});
    last.release();
    first.release();
    CHECK(unloads_in(bench, a) == 10s);
    bench.advance(10s);
    CHECK_FALSE(bench.resident(a));
    bench.check_end();
}

TEST_CASE("An override is applied at grant, not when the request is made", "[H7]") {
    SlotBench bench({.keep_alive = 1min, .max_leases = 1});
    FakeLease held = bench.lease(a, {.keep_alive = 20s});
    Request<FakeLease> waiter;
    bench.slot->async_acquire(a, {.keep_alive = 5s}, waiter.token());
    bench.run();
    waiter.cancel();
    bench.run();
    held.release();
    CHECK(unloads_in(bench, a) == 20s);
    bench.check_end();
}

TEST_CASE("Forever exempts from idleness, not from switch, unload and shutdown", "[H7]") {
    SlotBench bench({.keep_alive = 1min});
    const auto pin = [&] {
        bench.lease(a, {.keep_alive = keep_alive_forever}).release();
        bench.advance(24h * 365);
        REQUIRE(bench.is(a, ResidentState::ready));
        CHECK(unloads_in(bench, a) == std::nullopt);
    };
    pin();
    SECTION("switch") {
        bench.lease(b).release();
        CHECK_FALSE(bench.resident(a));
    }
    SECTION("unload") {
        Outcome<> unloaded;
        bench.slot->async_unload(a, unloaded.handler());
        bench.run();
        CHECK(unloaded.calls() == 1);
        CHECK_FALSE(bench.resident(a));
    }
    SECTION("shutdown") {}
    SECTION("a grant without an override restores the slot's") {
        bench.lease(a).release();
        bench.advance(1min);
        CHECK_FALSE(bench.resident(a));
    }
    bench.check_end();
}

// -- 18 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S18: looking at a model does not keep it alive", "[S18][R5][H7]") {
    ManagerBench bench({.embedding = keeping(10s)});
    const auto answer = bench.embed(a);
    bench.run();
    CHECK(answer.calls() == 1);
    for (int look = 0; look < 999; ++look) {
        bench.advance(10ms);
        const ManagerStatus status = bench.manager->status();
        REQUIRE(status.embedding.residents.size() == 1);
        CHECK(bench.manager->embedding().generation() == status.embedding.generation);
        CHECK_FALSE(bench.manager->embedding().try_acquire(b));
    }
    CHECK(bench.manager->embedding().status().residents.front().unloads_in == 10ms);
    bench.advance(10ms);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S18: threads that look at a model all the time do not keep it alive", "[S18][R5]") {
    SlotBench bench(keeping(10ms));
    bench.use(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                while (!bench.slot->status().residents.empty()) {
                    (void)bench.slot->generation();
                }
            });
        }
        // They end when the model is gone.
        const TimeMachine time(bench, 1ms);
        threads.clear();
    }
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

// -- 19 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S19: a request during the unload waits, and gets a new generation", "[S19][R6][R2][H3][R1][R4]") {
    SlotBench bench(keeping(10s));
    auto first = bench.acquire(a);
    bench.run();
    const Generation old = first.value().generation();
    first.value().release();
    Outcome<FakeLease> lease;
    during(*bench.world, FakeStep::unload, [&] {
        CHECK(bench.slot->generation() > old);
        lease = bench.acquire(a);
        bench.run_without_loading();
        CHECK(lease.calls() == 0);
        CHECK_FALSE(bench.slot->try_acquire(a));
        CHECK(bench.world->counts(a).loads == 1);
    });
    bench.advance(10s);
    REQUIRE(lease.calls() == 1);
    CHECK(lease.value()->serial() == 2);
    CHECK(lease.value().generation() > old);
    CHECK(lease.value().generation() == bench.slot->generation());
    CHECK(bench.world->counts(a).most_resident == 1);
    lease.value().release();
    bench.finish(2);
}

TEST_CASE("S19: a cancellation during the unload neither brings the old model back nor stops the unload",
          "[S19][R6][R9]") {
    SlotBench bench(keeping(10s));
    bench.use(a);
    asio::cancellation_signal leave;
    asio::cancellation_signal leave_unload;
    Outcome<FakeLease> lease;
    Outcome<> unload;
    during(*bench.world, FakeStep::unload, [&] {
        lease = bench.acquire(a, {}, leave.slot());
        unload = bench.unload(a, UnloadMode::drain, leave_unload.slot());
        bench.run_without_loading();
        leave.emit(asio::cancellation_type::terminal);
        leave_unload.emit(asio::cancellation_type::terminal);
        bench.run_without_loading();
        CHECK(lease.code() == asio::error::operation_aborted);
        CHECK(unload.code() == asio::error::operation_aborted);
        CHECK(bench.only_resident().state == ResidentState::unloading);
        CHECK_FALSE(bench.slot->try_acquire(a));
    });
    bench.advance(10s);
    CHECK(bench.handlers.ran() == 3);
    CHECK(bench.world->counts(a).unloads == 1);
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.slot->status().residents.empty());
    bench.finish(3);
}

TEST_CASE("S19: a thread that asks during the unload waits, and gets a new generation", "[S19][R6][R2]") {
    ThreadedSlot bench;
    const Generation old = bench.slot->ensure_loaded(a);
    const auto gate = bench.world->block(FakeStep::unload, a);
    const auto unload = bench.unload(a);
    gate->await_held();
    const auto lease = bench.acquire(a);
    CHECK_FALSE(bench.slot->try_acquire(a));
    CHECK(bench.slot->status().waiting == 1);
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(unload.calls() == 0);
    gate->open();
    unload.wait();
    lease.wait();
    FakeLease fresh = std::move(Outcome<FakeLease>(lease).value());
    CHECK(fresh->serial() == 2);
    CHECK(fresh.generation() > old);
    CHECK(bench.world->counts(a).most_resident == 1);
    fresh.release();
    bench.finish(2);
}

// -- The time of the last use -----------------------------------------------------------------------------------------

// The end of a lease stamps it under the slot's mutex. In these tests threads use a model while a time machine lets it
// expire: when an idle unload begins, a full keep-alive must have passed since each end of use that any thread knew of.
// ThreadSanitizer sees the rest.

namespace {

constexpr auto keep_alive = 4ms;

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

TEST_CASE("S13: the last use is stamped under the lock, whichever of many threads ends it", "[S13][R4][R5]") {
    SlotBench bench(keeping(keep_alive));
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

TEST_CASE("S13: nothing that counts as use writes its time without the lock", "[S13][R4][R5]") {
    ManagerBench bench({.embedding = keeping(keep_alive)});
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

}  // namespace idle_test
