// S9 to S12: what a lease holds, and how it ends.

#include "support/bench.hpp"

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
    SlotBench bench(options);
    auto lease = bench.acquire(a);
    bench.run();
    REQUIRE(lease.calls() == 1);
    const std::uint64_t serial = lease.value()->serial();
    const Generation generation = lease.value().generation();
    const auto holds = [&] {
        CHECK(bench.world->counts(a).live == 1);
        CHECK(bench.world->counts().most_resident == 1);
        CHECK(lease.value()->serial() == serial);
        CHECK(lease.value().generation() == generation);
        CHECK(lease.value()->embed(std::vector<std::string>{"text"}).size() == 1);
    };

    bench.advance(1h);
    holds();

    const auto switched = bench.acquire(b);
    bench.advance(1h);
    CHECK(switched.calls() == 0);
    holds();

    const auto unload = bench.unload(a);
    bench.advance(1h);
    CHECK(unload.calls() == 0);
    holds();

    const auto report = bench.shutdown();
    bench.advance(1h);
    CHECK(report.calls() == 0);
    CHECK(switched.code() == errc::shutting_down);
    holds();

    lease.value().release();
    bench.run();
    CHECK(unload.calls() == 1);
    CHECK_FALSE(unload.exception());
    REQUIRE(report.calls() == 1);
    CHECK(report.calls() == 1);
    bench.check_ended(4);
}

TEST_CASE("S9: a revoked lease says so, and keeps its model all the same", "[S9][R1][R6][H8]") {
    SlotBench bench;
    auto lease = bench.acquire(a);
    bench.run();
    CHECK_FALSE(lease.value().revoked());
    const Generation before = bench.slot->generation();
    const auto unload = bench.unload(a, UnloadMode::revoke);
    CHECK(lease.value().revoked());
    CHECK(bench.slot->generation() != before);
    bench.advance(1h);
    CHECK(unload.calls() == 0);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(lease.value()->serial() == 1);
    CHECK(lease.value()->key() == a);
    lease.value().release();
    CHECK(unload.calls() == 0);
    bench.run();
    CHECK(unload.calls() == 1);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(2);
}

TEST_CASE("S9: threads that hold leases keep their models while others idle them out, switch and unload",
          "[S9][R1][R2]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedSlot bench(options);
    std::atomic<int> gone{0};
    std::atomic<bool> done{false};
    {
        const std::jthread unloads([&] {
            while (!done) {
                bench.slot->unload(a);
                bench.slot->unload(UnloadMode::revoke);
            }
        });
        std::vector<std::jthread> holders;
        std::atomic<int> holding{3};
        for (int thread = 0; thread < 3; ++thread) {
            holders.emplace_back([&, thread] {
                for (int round = 0; round < 60; ++round) {
                    const FakeLease lease = bench.slot->acquire((thread + round) % 3 == 0 ? b : a);
                    gone += bench.world->model(lease->serial()).unloaded_on ? 1 : 0;
                    (void)lease->embed(std::vector<std::string>{"text"});
                    gone += bench.world->model(lease->serial()).unloaded_on ? 1 : 0;
                }
                done = --holding == 0;
            });
        }
    }
    CHECK(gone == 0);
    CHECK(bench.world->counts().most_resident == 1);
    CHECK(bench.slot->status().counters.leases_granted == 180);
    bench.finish(0);
}

// -- 10 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S10: a lease is counted when it is granted, before anybody has it in hand", "[S10][R4][R1]") {
    SlotOptions options;
    options.keep_alive = 1s;
    SlotBench bench(options);
    const bool on_ready_model = GENERATE(true, false);
    std::size_t handlers = 3;
    if (on_ready_model) {
        const auto load = bench.ensure(a);
        bench.run();
        CHECK(load.calls() == 1);
        ++handlers;
    }
    auto lease = bench.acquire(a);
    if (!on_ready_model) {
        testing::run_ready(bench.loading);
    }
    // It is granted; its handler has yet to run.
    CHECK(lease.calls() == 0);
    CHECK(bench.slot->status().leases == 1);

    // What is decided now sees it: idleness, an unload, a switch.
    VirtualClock::advance(1h);
    const auto unload = bench.unload(a);
    auto other = bench.acquire(b);
    testing::run_ready(bench.loading);
    CHECK(bench.world->counts(a).live == 1);
    bench.run();
    REQUIRE(lease.calls() == 1);
    CHECK(unload.calls() == 0);
    CHECK(other.calls() == 0);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(lease.value()->serial() == 1);

    lease.value().release();
    bench.run();
    CHECK(unload.calls() == 1);
    REQUIRE(other.calls() == 1);
    other.value().release();
    bench.finish(handlers);
}

TEST_CASE("S10: unloads that race with grants see every lease", "[S10][R4][R1]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedSlot bench(options);
    std::atomic<int> gone{0};
    std::atomic<int> taken{0};
    std::atomic<bool> done{false};
    {
        // Grants without a wait are those that an unload could slip between.
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 2; ++thread) {
            threads.emplace_back([&] {
                while (!done) {
                    if (const FakeLease lease = bench.slot->try_acquire(a)) {
                        ++taken;
                        gone += bench.world->model(lease->serial()).unloaded_on ? 1 : 0;
                        (void)lease->embed(std::vector<std::string>{"text"});
                    }
                }
            });
        }
        threads.emplace_back([&] {
            while (!done) {
                bench.slot->unload(a);
            }
        });
        // Until the others have had their share of models, and of leases.
        int loads = 0;
        while (loads < 100 || taken < 20) {
            RequestOptions stay;
            stay.keep_alive = loads % 2 == 0 ? keep_alive_forever : 0ms;
            bench.slot->ensure_loaded(a, stay);
            ++loads;
        }
        done = true;
    }
    CHECK(gone == 0);
    bench.finish(0);
}

TEST_CASE("S10: a request that is granted when its load ends keeps that model, however late it is run",
          "[S10][R1][R4]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ManagerBench bench({.embedding = options});
    auto answer = bench.embed(a);
    testing::run_ready(bench.loading);
    // Loaded and granted; no thread has taken the call. Whatever would take the model away comes now.
    CHECK(answer.calls() == 0);
    CHECK(bench.manager->embedding().status().leases == 1);
    const auto unload = bench.unload(a);
    const auto other = bench.embed(b);
    VirtualClock::advance(1h);
    bench.run_control();
    testing::run_ready(bench.loading);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(unload.calls() == 0);
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(testing::answered_by(answer.value()) == 1);
    CHECK(unload.calls() == 1);
    CHECK_FALSE(other.exception());
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(3);
}

TEST_CASE("S10: what threads load is there when they use it, while others take every chance to take it away",
          "[S10][R1][R4][R11]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options});
    std::atomic<int> failed{0};
    std::atomic<int> using_it{2};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 2; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 60; ++call) {
                    // By the keep-alive this model is gone before anything can be done with it...
                    bench.manager->embedding().ensure_loaded(a);
                    // ...but a request loads and uses it in one, and never fails for that.
                    failed += code_of([&] { (void)bench.manager->embed(a, {"text"}); }) ? 1 : 0;
                }
                --using_it;
            });
        }
        threads.emplace_back([&] {
            while (using_it != 0) {
                (void)bench.manager->embed(b, {"text"});
            }
        });
        threads.emplace_back([&] {
            while (using_it != 0) {
                bench.manager->embedding().unload();
            }
        });
    }
    CHECK(failed == 0);
    CHECK(bench.world->counts(a).calls == 120);
    CHECK(bench.world->counts().most_resident == 1);
    bench.finish(0);
}

// -- 11 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S11: a lease that was moved from, and one that was released, hold nothing", "[S11][R1]") {
    SlotOptions options;
    options.max_leases = 2;
    SlotBench bench(options);
    auto first = bench.acquire(a);
    auto second = bench.acquire(a);
    bench.run();
    CHECK(bench.slot->status().leases == 2);

    FakeLease lease = std::move(first.value());
    CHECK_FALSE(first.value());
    first.value().release();
    CHECK(bench.slot->status().leases == 2);
    FakeLease moved(std::move(lease));
    CHECK_FALSE(lease);  // NOLINT(bugprone-use-after-move): that is what is tested
    CHECK(moved->serial() == 1);
    CHECK(bench.slot->status().leases == 2);

    // Assigning ends what was held.
    moved = std::move(second.value());
    CHECK(moved);
    CHECK(bench.slot->status().leases == 1);
    FakeLease& itself = moved;
    moved = std::move(itself);
    CHECK(moved);
    CHECK(bench.slot->status().leases == 1);

    moved.release();
    CHECK_FALSE(moved);
    moved.release();
    lease.release();
    moved = FakeLease();
    CHECK(bench.slot->status().leases == 0);
    // Had one of them been counted twice, the limit would have been moved.
    auto third = bench.slot->try_acquire(a);
    auto fourth = bench.slot->try_acquire(a);
    CHECK(third);
    CHECK(fourth);
    CHECK_FALSE(bench.slot->try_acquire(a));
    third.release();
    fourth.release();
    bench.finish(2);
}

TEST_CASE("S11: a lease may be released inside a handler, with its model going at once", "[S11][R10]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    SlotBench bench(options);
    bool held = false;
    bench.slot->async_acquire(a, bench.handlers.count([&](const std::exception_ptr& error, FakeLease lease) {
        held = !error && lease;
        lease.release();
        lease.release();
        CHECK(bench.slot->status().leases == 0);
        // And taking one again inside it.
        bench.slot->async_acquire(a, bench.handlers.count([&](const std::exception_ptr&, const FakeLease& again) {
            CHECK(again->serial() == 2);
        }));
    }));
    bench.run();
    CHECK(held);
    CHECK(bench.world->counts(a).unloads == 2);
    bench.finish(2);
}

TEST_CASE("S11: leases may be released on any thread", "[S11][R1][R4]") {
    ThreadedSlot bench;
    std::vector<FakeLease> leases;
    for (int lease = 0; lease < 10; ++lease) {
        leases.push_back(bench.slot->acquire(a));
    }
    const auto unload = bench.unload(a);
    CHECK(bench.world->counts(a).live == 1);
    {
        std::vector<std::jthread> threads;
        for (FakeLease& lease : leases) {
            threads.emplace_back([held = std::move(lease)]() mutable { held.release(); });
        }
    }
    unload.wait();
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S11: a lease that outlives its slot keeps its model, and the thread that drops it destroys it there",
          "[S11][R1][R12][H11]") {
    SlotBench bench;
    auto first = bench.acquire(a);
    auto second = bench.acquire(a);
    bench.run();
    const Generation generation = first.value().generation();
    bench.slot.reset();
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    CHECK(first.value()->serial() == 1);
    CHECK(first.value().key() == a);
    CHECK(first.value().generation() == generation);
    CHECK_FALSE(first.value().revoked());
    first.value().release();
    bench.run();
    CHECK(bench.world->counts(a).live == 1);
    second.value().release();
    // On this very thread, with no executor's help.
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.world->model(1).unloaded_on == std::this_thread::get_id());
    bench.check_gone(2);
}

TEST_CASE("S11: a lease that outlives its slot's threads keeps its model for another thread to drop",
          "[S11][R1][R12][H11][H12]") {
    ThreadedSlot bench;
    FakeLease lease = bench.slot->acquire(a);
    bench.slot.reset();
    CHECK(bench.world->counts(a).live == 1);
    CHECK(lease->embed(std::vector<std::string>{"text"}).size() == 1);
    std::thread::id dropped_on;
    {
        const std::jthread thread([&dropped_on, held = std::move(lease)]() mutable {
            dropped_on = std::this_thread::get_id();
            held.release();
        });
    }
    CHECK(bench.world->model(1).unloaded_on == dropped_on);
    // Nothing of the slot is left either: only the bench has the world.
    CHECK(bench.world.use_count() == 1);
    bench.check_gone(0);
}

// -- 12 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S12: a model is destroyed where it was loaded, not where its last lease ended", "[S12][R1]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ManagerBench bench({.embedding = options});
    const bool by_call = GENERATE(true, false);
    if (by_call) {
        const auto answer = bench.embed(a);
        testing::run_ready(bench.loading);
        bench.run_without_loading();
        CHECK(answer.calls() == 1);
    } else {
        auto lease = bench.acquire(a);
        testing::run_ready(bench.loading);
        bench.run_without_loading();
        REQUIRE(lease.calls() == 1);
        lease.value().release();
        bench.run_without_loading();
    }
    CHECK(bench.manager->embedding().status().residents.front().state == ResidentState::unloading);
    CHECK(bench.world->counts(a).live == 1);
    testing::run_ready(bench.loading);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S12: whatever ends a model, its destructor runs on a loading thread", "[S12]") {
    std::mutex mutex;
    std::set<std::thread::id> others{std::this_thread::get_id()};
    const auto note = [&] {
        const std::lock_guard lock(mutex);
        others.insert(std::this_thread::get_id());
    };
    // The observer runs on control, the inferences on their own.
    ThreadedManager bench({.observer = [&](const Event&) { note(); }});
    bench.world->on(FakeStep::inference, [&](const testing::FakeCall&) { note(); });
    RequestOptions at_once;
    at_once.keep_alive = 0ms;

    // Idle: after a call, after a lease of this thread's, after one that ended in a handler.
    (void)bench.manager->embed(a, {"text"}, at_once);
    bench.manager->embedding().acquire(a, at_once).release();
    Outcome<> ended;
    bench.manager->embedding().async_acquire(
        a, at_once, bench.handlers.count([&](const std::exception_ptr& error, FakeLease lease) {
            note();
            lease.release();
            ended.handler()(error);
        }));
    ended.wait();
    // Switched, unloaded, revoked under its lease.
    (void)bench.manager->embed(a, {"text"});
    (void)bench.manager->embed(b, {"text"});
    bench.manager->embedding().unload(b);
    {
        FakeLease lease = bench.manager->embedding().acquire(a);
        const auto revoked = bench.unload(a, UnloadMode::revoke);
        lease.release();
        revoked.wait();
    }
    // Unwanted when its load ends.
    const auto gate = bench.world->block(FakeStep::load, c);
    const auto waits = bench.acquire(c);
    gate->await_held();
    const auto discarded = bench.unload(c);
    gate->open();
    discarded.wait();
    waits.wait();
    FakeLease(std::move(Outcome<FakeLease>(waits).value())).release();
    (void)bench.manager->rerank(b, "query", {"document"});
    // And what is left, by shutdown.
    CHECK(bench.manager->shutdown().clean());

    const std::vector<testing::FakeModelRecord> models = bench.world->models();
    CHECK(models.size() == 9);
    for (const testing::FakeModelRecord& model : models) {
        CHECK(others.count(model.loaded_on) == 0);
        REQUIRE(model.unloaded_on);
        CHECK(others.count(*model.unloaded_on) == 0);
    }
    bench.finish(4);
}

}  // namespace lease_test
