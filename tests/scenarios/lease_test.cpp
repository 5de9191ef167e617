// Scenarios 9 to 12: what a lease holds, and how it ends.

#include "support/slot_fixture.hpp"

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

namespace lease_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// -- 9 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S9: a lease keeps its model through idleness, a switch, an unload and a shutdown", "[S9][R1][R12]") {
    SlotOptions options;
    options.keep_alive = 1s;
    VirtualSlot f(options);
    auto lease = f.acquire(a);
    f.run();
    REQUIRE(lease.calls() == 1);
    const std::uint64_t serial = lease.value()->serial();
    const Generation generation = lease.value().generation();
    const auto holds = [&] {
        CHECK(f.world->counts(a).live == 1);
        CHECK(f.world->counts().most_resident == 1);
        CHECK(lease.value()->serial() == serial);
        CHECK(lease.value().generation() == generation);
        CHECK(lease.value()->embed(std::vector<std::string>{"text"}).size() == 1);
    };

    f.pass(1h);
    holds();

    const auto switched = f.acquire(b);
    f.pass(1h);
    CHECK(switched.calls() == 0);
    holds();

    const auto unload = f.unload(a);
    f.pass(1h);
    CHECK(unload.calls() == 0);
    holds();

    const auto report = f.shutdown();
    f.pass(1h);
    CHECK(report.calls() == 0);
    CHECK(switched.code() == errc::shutting_down);
    holds();

    lease.value().release();
    f.run();
    CHECK(unload.calls() == 1);
    CHECK_FALSE(unload.exception());
    REQUIRE(report.calls() == 1);
    CHECK(report.calls() == 1);
    f.check_nothing_left(4);
}

TEST_CASE("S9: a revoked lease says so, and keeps its model all the same", "[S9][R1][R6]") {
    VirtualSlot f;
    auto lease = f.acquire(a);
    f.run();
    CHECK_FALSE(lease.value().revoked());
    const Generation before = f.slot->generation();
    const auto unload = f.unload(a, UnloadMode::revoke);
    CHECK(lease.value().revoked());
    CHECK(f.slot->generation() != before);
    f.pass(1h);
    CHECK(unload.calls() == 0);
    CHECK(f.world->counts(a).live == 1);
    CHECK(lease.value()->serial() == 1);
    lease.value().release();
    f.run();
    CHECK(unload.calls() == 1);
    CHECK(f.world->counts(a).live == 0);
    f.finish(2);
}

TEST_CASE("S9: threads that hold leases keep their models while others idle them out, switch and unload",
          "[S9][R1][R2]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedSlot f(options);
    std::atomic<int> gone{0};
    std::atomic<bool> done{false};
    {
        const std::jthread unloads([&] {
            while (!done) {
                f.slot->unload(a);
                f.slot->unload(UnloadMode::revoke);
            }
        });
        std::vector<std::jthread> holders;
        std::atomic<int> holding{3};
        for (int thread = 0; thread < 3; ++thread) {
            holders.emplace_back([&, thread] {
                for (int round = 0; round < 60; ++round) {
                    const FakeLease lease = f.slot->acquire((thread + round) % 3 == 0 ? b : a);
                    gone += f.world->model(lease->serial()).unloaded_on ? 1 : 0;
                    (void)lease->embed(std::vector<std::string>{"text"});
                    gone += f.world->model(lease->serial()).unloaded_on ? 1 : 0;
                }
                done = --holding == 0;
            });
        }
    }
    CHECK(gone == 0);
    CHECK(f.world->counts().most_resident == 1);
    CHECK(f.slot->status().counters.leases_granted == 180);
    f.finish(0);
}

// -- 10 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S10: a lease is counted when it is granted, before anybody has it in hand", "[S10][R4][R1]") {
    SlotOptions options;
    options.keep_alive = 1s;
    VirtualSlot f(options);
    const bool on_ready_model = GENERATE(true, false);
    std::size_t handlers = 3;
    if (on_ready_model) {
        const auto load = f.ensure(a);
        f.run();
        CHECK(load.calls() == 1);
        ++handlers;
    }
    auto lease = f.acquire(a);
    if (!on_ready_model) {
        testing::run_ready(f.loading);
    }
    // It is granted; its handler has yet to run.
    CHECK(lease.calls() == 0);
    CHECK(f.slot->status().leases == 1);

    // What is decided now sees it: idleness, an unload, a switch.
    VirtualClock::advance(1h);
    const auto unload = f.unload(a);
    auto other = f.acquire(b);
    testing::run_ready(f.loading);
    CHECK(f.world->counts(a).live == 1);
    f.run();
    REQUIRE(lease.calls() == 1);
    CHECK(unload.calls() == 0);
    CHECK(other.calls() == 0);
    CHECK(f.world->counts(a).live == 1);
    CHECK(lease.value()->serial() == 1);

    lease.value().release();
    f.run();
    CHECK(unload.calls() == 1);
    REQUIRE(other.calls() == 1);
    other.value().release();
    f.finish(handlers);
}

TEST_CASE("S10: unloads that race with grants see every lease", "[S10][R4][R1]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedSlot f(options);
    std::atomic<int> gone{0};
    std::atomic<int> taken{0};
    std::atomic<bool> done{false};
    {
        // Grants without a wait are those that an unload could slip between.
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 2; ++thread) {
            threads.emplace_back([&] {
                while (!done) {
                    if (const FakeLease lease = f.slot->try_acquire(a)) {
                        ++taken;
                        gone += f.world->model(lease->serial()).unloaded_on ? 1 : 0;
                        (void)lease->embed(std::vector<std::string>{"text"});
                    }
                }
            });
        }
        threads.emplace_back([&] {
            while (!done) {
                f.slot->unload(a);
            }
        });
        // Until the others have had their share of models, and of leases.
        int loads = 0;
        while (loads < 100 || taken < 20) {
            RequestOptions stay;
            stay.keep_alive = loads % 2 == 0 ? keep_alive_forever : 0ms;
            f.slot->ensure_loaded(a, stay);
            ++loads;
        }
        done = true;
    }
    CHECK(gone == 0);
    f.finish(0);
}

// -- 11 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S11: a lease that was moved from, and one that was released, hold nothing", "[S11][R1]") {
    SlotOptions options;
    options.max_leases = 2;
    VirtualSlot f(options);
    auto first = f.acquire(a);
    auto second = f.acquire(a);
    f.run();
    CHECK(f.slot->status().leases == 2);

    FakeLease lease = std::move(first.value());
    CHECK_FALSE(first.value());
    first.value().release();
    CHECK(f.slot->status().leases == 2);
    FakeLease moved(std::move(lease));
    CHECK_FALSE(lease);  // NOLINT(bugprone-use-after-move): that is what is tested
    CHECK(moved->serial() == 1);
    CHECK(f.slot->status().leases == 2);

    // Assigning ends what was held.
    moved = std::move(second.value());
    CHECK(moved);
    CHECK(f.slot->status().leases == 1);
    FakeLease& itself = moved;
    moved = std::move(itself);
    CHECK(moved);
    CHECK(f.slot->status().leases == 1);

    moved.release();
    CHECK_FALSE(moved);
    moved.release();
    lease.release();
    moved = FakeLease();
    CHECK(f.slot->status().leases == 0);
    // Had one of them been counted twice, the limit would have been moved.
    auto third = f.slot->try_acquire(a);
    auto fourth = f.slot->try_acquire(a);
    CHECK(third);
    CHECK(fourth);
    CHECK_FALSE(f.slot->try_acquire(a));
    third.release();
    fourth.release();
    f.finish(2);
}

TEST_CASE("S11: a lease may be released inside a handler, with its model going at once", "[S11][R10]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    VirtualSlot f(options);
    bool held = false;
    f.slot->async_acquire(a, f.handlers.count([&](const std::exception_ptr& error, FakeLease lease) {
        held = !error && lease;
        lease.release();
        lease.release();
        CHECK(f.slot->status().leases == 0);
        // And taking one again inside it.
        f.slot->async_acquire(a, f.handlers.count([&](const std::exception_ptr&, const FakeLease& again) {
            CHECK(again->serial() == 2);
        }));
    }));
    f.run();
    CHECK(held);
    CHECK(f.world->counts(a).unloads == 2);
    f.finish(2);
}

TEST_CASE("S11: leases may be released on any thread", "[S11][R1][R4]") {
    ThreadedSlot f;
    std::vector<FakeLease> leases;
    for (int lease = 0; lease < 10; ++lease) {
        leases.push_back(f.slot->acquire(a));
    }
    const auto unload = f.unload(a);
    CHECK(f.world->counts(a).live == 1);
    {
        std::vector<std::jthread> threads;
        for (FakeLease& lease : leases) {
            threads.emplace_back([held = std::move(lease)]() mutable { held.release(); });
        }
    }
    unload.wait();
    CHECK(f.world->counts(a).live == 0);
    f.finish(1);
}

TEST_CASE("S11: a lease that outlives its slot keeps its model, and the thread that drops it destroys it there",
          "[S11][R1][R12]") {
    VirtualSlot f;
    auto first = f.acquire(a);
    auto second = f.acquire(a);
    f.run();
    f.slot.reset();
    CHECK(f.world->counts(a).live == 1);
    CHECK(first.value()->serial() == 1);
    CHECK(first.value().key() == a);
    first.value().release();
    f.run();
    CHECK(f.world->counts(a).live == 1);
    second.value().release();
    // On this very thread, with no executor's help.
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.world->model(1).unloaded_on == std::this_thread::get_id());
    f.check_gone(2);
}

TEST_CASE("S11: a lease that outlives its slot's threads keeps its model for another thread to drop",
          "[S11][R1][R12]") {
    ThreadedSlot f;
    FakeLease lease = f.slot->acquire(a);
    f.slot.reset();
    CHECK(f.world->counts(a).live == 1);
    CHECK(lease->embed(std::vector<std::string>{"text"}).size() == 1);
    std::thread::id dropped_on;
    {
        const std::jthread thread([&dropped_on, held = std::move(lease)]() mutable {
            dropped_on = std::this_thread::get_id();
            held.release();
        });
    }
    CHECK(f.world->model(1).unloaded_on == dropped_on);
    f.check_gone(0);
}

// -- 12 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S12: a model is destroyed where it was loaded, not where its last lease ended", "[S12][R1]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    VirtualManager f(options);
    const bool by_call = GENERATE(true, false);
    if (by_call) {
        const auto answer = f.embed(a);
        testing::run_ready(f.loading);
        f.run_without_loading();
        CHECK(answer.calls() == 1);
    } else {
        auto lease = f.acquire(a);
        testing::run_ready(f.loading);
        f.run_without_loading();
        REQUIRE(lease.calls() == 1);
        lease.value().release();
        f.run_without_loading();
    }
    CHECK(f.models->embedding().status().residents.front().state == ResidentState::unloading);
    CHECK(f.world->counts(a).live == 1);
    testing::run_ready(f.loading);
    CHECK(f.world->counts(a).live == 0);
    f.finish(1);
}

TEST_CASE("S12: whatever ends a model, its destructor runs on a loading thread", "[S12]") {
    std::mutex mutex;
    std::set<std::thread::id> others{std::this_thread::get_id()};
    const auto note = [&] {
        const std::lock_guard lock(mutex);
        others.insert(std::this_thread::get_id());
    };
    // The observer runs on control, the inferences on their own.
    ThreadedManager f({}, {}, [&](const Event&) { note(); });
    f.world->on(FakeStep::inference, [&](const testing::FakeCall&) { note(); });
    RequestOptions at_once;
    at_once.keep_alive = 0ms;

    // Idle: after a call, after a lease of this thread's, after one that ended in a handler.
    (void)f.models->embed(a, {"text"}, at_once);
    f.models->embedding().acquire(a, at_once).release();
    Outcome<> ended;
    f.models->embedding().async_acquire(a, at_once,
                                        f.handlers.count([&](const std::exception_ptr& error, FakeLease lease) {
                                            note();
                                            lease.release();
                                            ended.handler()(error);
                                        }));
    ended.wait();
    // Switched, unloaded, revoked under its lease.
    (void)f.models->embed(a, {"text"});
    (void)f.models->embed(b, {"text"});
    f.models->embedding().unload(b);
    {
        FakeLease lease = f.models->embedding().acquire(a);
        const auto revoked = f.unload(a, UnloadMode::revoke);
        lease.release();
        revoked.wait();
    }
    // Unwanted when its load ends.
    const auto gate = f.world->block(FakeStep::load, c);
    const auto waits = f.acquire(c);
    gate->await_held();
    const auto discarded = f.unload(c);
    gate->open();
    discarded.wait();
    waits.wait();
    FakeLease(std::move(Outcome<FakeLease>(waits).value())).release();
    (void)f.models->rerank(b, "query", {"document"});
    // And what is left, by shutdown.
    CHECK(f.models->shutdown().clean());

    const std::vector<testing::FakeModelRecord> models = f.world->models();
    CHECK(models.size() == 9);
    for (const testing::FakeModelRecord& model : models) {
        CHECK(others.count(model.loaded_on) == 0);
        REQUIRE(model.unloaded_on);
        CHECK(others.count(*model.unloaded_on) == 0);
    }
    f.finish(4);
}

}  // namespace lease_test
