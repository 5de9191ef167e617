// S1 to S8, H1, H2, H13: how models are loaded.

#include "support/bench.hpp"

#include <array>
#include <latch>
#include <set>
#include <stdexcept>
#include <thread>

namespace load_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

SlotOptions with_leases(std::size_t most) {
    SlotOptions options;
    options.max_leases = most;
    return options;
}

}  // namespace

// -- 1 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S1: all who ask for one key share one load and its generation", "[S1][R3]") {
    SlotBench bench(with_leases(20));
    std::vector<Outcome<FakeLease>> leases;
    std::vector<Outcome<Generation>> loads;
    for (int caller = 0; caller < 10; ++caller) {
        leases.push_back(bench.acquire(a));
        loads.push_back(bench.ensure(a));
    }
    // Some come while the load runs.
    during(*bench.world, FakeStep::load, [&] {
        for (int caller = 0; caller < 5; ++caller) {
            leases.push_back(bench.acquire(a));
            loads.push_back(bench.ensure(a));
        }
        bench.run_without_loading();
        CHECK(bench.handlers.ran() == 0);
        CHECK(bench.slot->status().waiting == 30);
    });
    CHECK(bench.handlers.ran() == 0);
    bench.run();

    CHECK(bench.world->counts(a).loads == 1);
    const Generation generation = bench.slot->generation();
    CHECK(generation != Generation());
    for (auto& lease : leases) {
        REQUIRE(lease.calls() == 1);
        CHECK(lease.value().generation() == generation);
        CHECK(lease.value()->serial() == leases.front().value()->serial());
        CHECK(lease.value().key() == a);
    }
    for (auto& load : loads) {
        REQUIRE(load.calls() == 1);
        CHECK(load.value() == generation);
    }
    CHECK(bench.slot->status().leases == 15);
    leases.clear();
    bench.finish(30);
}

TEST_CASE("S1: threads that ask for one key at once share one load and its generation", "[S1][R3]") {
    constexpr std::size_t callers = 8;
    ThreadedSlot bench;
    // With the first half the load is held until all of them have asked.
    const auto gate = bench.world->block(FakeStep::load, a);
    std::array<Outcome<Generation>, callers> asked;
    std::array<Generation, callers> waited;
    {
        std::latch all_asked(callers);
        std::vector<std::jthread> threads;
        for (std::size_t caller = 0; caller < callers; ++caller) {
            threads.emplace_back([&, caller] {
                asked[caller] = bench.ensure(a);
                all_asked.count_down();
                waited[caller] = bench.slot->acquire(a).generation();
            });
        }
        all_asked.wait();
        gate->await_held();
        CHECK(bench.world->counts(a).loading == 1);
        gate->open();
    }
    CHECK(bench.world->counts(a).loads == 1);
    const Generation generation = bench.slot->generation();
    for (std::size_t caller = 0; caller < callers; ++caller) {
        asked[caller].wait();
        CHECK(asked[caller].value() == generation);
        CHECK(waited[caller] == generation);
    }
    bench.finish(callers);
}

// -- 2 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S2: a failed load fails all its waiters, with the backend's message, and leaves nothing behind",
          "[S2][R11][R9]") {
    SlotBench bench;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("the file is truncated at byte 17"));
    std::vector<Outcome<FakeLease>> leases;
    for (int caller = 0; caller < 5; ++caller) {
        leases.push_back(bench.acquire(a));
    }
    const Outcome<Generation> load = bench.ensure(a);
    bench.run();

    std::set<const std::exception*> objects;
    for (const auto& lease : leases) {
        REQUIRE(lease.calls() == 1);
        const Error error = lease.error();
        CHECK(error.code() == errc::load_failed);
        CHECK(error.code() == condition::backend);
        CHECK(error.key() == a);
        CHECK(error.stage() == Stage::load);
        CHECK(error.retry_after() == 1000ms);
        CHECK_THAT(error.what(), contains_text("the file is truncated at byte 17"));
        CHECK(nested_message(lease.exception()) == "the file is truncated at byte 17");
        try {
            std::rethrow_exception(lease.exception());
        } catch (const std::exception& own) {
            objects.insert(&own);
        }
    }
    CHECK(objects.size() == leases.size());
    REQUIRE(load.calls() == 1);
    CHECK(load.code() == errc::load_failed);

    const SlotStatus status = bench.slot->status();
    CHECK(status.residents.empty());
    CHECK(status.waiting == 0);
    CHECK(status.leases == 0);
    CHECK(status.generation == Generation());
    REQUIRE(status.failures.size() == 1);
    CHECK(status.failures.front().key == a);
    CHECK(status.failures.front().message == "the file is truncated at byte 17");
    CHECK(bench.world->counts().live == 0);

    bench.advance(1s);
    auto again = bench.acquire(a);
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(again.value()->serial() == 2);
    CHECK(bench.slot->status().failures.empty());
    again.value().release();
    bench.finish(7);
}

TEST_CASE("S2: threads whose load fails each get an error of their own", "[S2][R11][R9]") {
    constexpr std::size_t callers = 8;
    SlotOptions options;
    options.cooldown = 1h;
    options.max_cooldown = 1h;
    // Held until all threads are done with it: TSan does not see the counts in libstdc++ by which threads share an
    // exception.
    const std::exception_ptr cause = std::make_exception_ptr(std::runtime_error("no such file"));
    ThreadedSlot bench(options);
    bench.world->fail_next(FakeStep::load, a, cause);
    std::array<std::string, callers> messages;
    std::array<boost::system::error_code, callers> codes;
    {
        std::vector<std::jthread> threads;
        for (std::size_t caller = 0; caller < callers; ++caller) {
            threads.emplace_back([&, caller] {
                try {
                    const FakeLease lease = bench.slot->acquire(a);
                } catch (const Error& error) {
                    codes[caller] = error.code();
                    messages[caller] = error.what();
                }
            });
        }
    }
    // Who came too late for the load met the cooldown; no request hangs, none is served.
    for (std::size_t caller = 0; caller < callers; ++caller) {
        const bool failed = codes[caller] == errc::load_failed;
        CHECK((failed || codes[caller] == errc::cooling_down));
        if (failed) {
            CHECK_THAT(messages[caller], contains_text("no such file"));
        }
    }
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(0);
}

// -- 3 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S3: a switch whose load fails serves no request with the old or the failed model", "[S3][R11]") {
    ManagerBench bench;
    auto before = bench.embed(a);
    bench.run();
    REQUIRE(before.calls() == 1);
    const std::uint64_t old_serial = testing::answered_by(before.value());

    bench.world->fail_next(FakeStep::load, b, std::runtime_error("broken"));
    const auto failed = bench.embed(b);
    Outcome<Embeddings> meanwhile;
    during(*bench.world, FakeStep::load, [&] {
        meanwhile = bench.embed(a);
        bench.run_without_loading();
        CHECK(bench.world->counts(a).live == 0);
    });
    bench.run();
    REQUIRE(failed.calls() == 1);
    CHECK(failed.code() == errc::load_failed);
    CHECK(failed.error().key() == b);
    CHECK_FALSE(bench.manager->embedding().try_acquire(b));

    // The old key was asked for during the load that failed: it gets a fresh model, not the old one.
    REQUIRE(meanwhile.calls() == 1);
    const std::uint64_t fresh = testing::answered_by(meanwhile.value());
    CHECK(fresh != old_serial);
    CHECK(bench.world->model(fresh).key == a);

    // And the failed key, once it may be tried again, is served by a model of its own.
    const auto cooling = bench.embed(b);
    bench.run();
    REQUIRE(cooling.calls() == 1);
    CHECK(cooling.code() == errc::cooling_down);
    bench.advance(1s);
    auto after = bench.embed(b);
    bench.run();
    REQUIRE(after.calls() == 1);
    CHECK(bench.world->model(testing::answered_by(after.value())).key == b);
    bench.finish(5);
}

TEST_CASE("S3: while one key's loads fail, threads get their own key's model or that failure", "[S3][R11][R1]") {
    SlotOptions options;
    options.cooldown = 0ms;
    options.max_cooldown = 0ms;
    // Held until all threads are done with it, as above.
    const std::exception_ptr cause = std::make_exception_ptr(std::runtime_error("every other load of b fails"));
    ThreadedManager bench({.embedding = options});
    bench.world->on(FakeStep::load, [&cause](const testing::FakeCall& call) {
        if (call.key == b && call.serial % 2 == 0) {
            std::rethrow_exception(cause);
        }
    });
    std::atomic<int> wrong{0};
    std::atomic<int> served{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (int round = 0; round < 50; ++round) {
                    const ModelKey& key = (thread + round) % 2 == 0 ? a : b;
                    try {
                        const Embeddings rows = bench.manager->embed(key, {"text"});
                        wrong += bench.world->model(testing::answered_by(rows)).key == key ? 0 : 1;
                        ++served;
                    } catch (const Error& error) {
                        wrong += error.code() == errc::load_failed && key == b && error.key() == b ? 0 : 1;
                    }
                }
            });
        }
    }
    CHECK(wrong == 0);
    CHECK(served >= 100);
    bench.finish(0);
}

// -- 4 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S4: one who leaves does not take the load from the others", "[S4][R3]") {
    SlotBench bench;
    asio::cancellation_signal leave;
    auto first = bench.acquire(a, {}, leave.slot());
    auto second = bench.acquire(a);
    auto third = bench.ensure(a);
    bool stop_requested = true;
    bench.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        leave.emit(asio::cancellation_type::total);
        bench.run_without_loading();
        stop_requested = call.stop.stop_requested();
    });
    bench.run();
    CHECK_FALSE(stop_requested);
    REQUIRE(first.calls() == 1);
    CHECK(first.code() == asio::error::operation_aborted);
    CHECK(first.error().stage() == Stage::queue);
    REQUIRE(second.calls() == 1);
    CHECK(second.value()->serial() == 1);
    REQUIRE(third.calls() == 1);
    CHECK(third.value() == second.value().generation());
    CHECK(bench.world->counts(a).loads == 1);
    CHECK(bench.slot->status().counters.cancelled == 1);
    second.value().release();
    bench.finish(3);
}

TEST_CASE("S4: with an abandon_after of zero a load is asked to stop when the last of its waiters leaves, not before",
          "[S4][R3][R11][H1]") {
    const bool by_timeout = GENERATE(true, false);
    SlotBench bench({.abandon_after = 0ms});
    asio::cancellation_signal first_leaves;
    asio::cancellation_signal second_leaves;
    const auto first = bench.acquire(a, {}, first_leaves.slot());
    const auto second = bench.ensure(a, {.timeout = 1s}, second_leaves.slot());
    // It honours the stop: the gate would hold it for ever.
    const auto gate = bench.world->block(FakeStep::load, a, FakeStop::honour);
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (call.serial != 1) {
            return;
        }
        first_leaves.emit(asio::cancellation_type::partial);
        bench.run_without_loading();
        CHECK(bench.handlers.ran() == 1);
        CHECK_FALSE(call.stop.stop_requested());
        if (by_timeout) {
            VirtualClock::advance(1s);
        } else {
            second_leaves.emit(asio::cancellation_type::terminal);
        }
        bench.run_without_loading();
        CHECK(bench.handlers.ran() == 2);
        CHECK(call.stop.stop_requested());
    });
    bench.run();
    CHECK(first.code() == asio::error::operation_aborted);
    CHECK(first.error().stage() == Stage::queue);
    if (by_timeout) {
        CHECK(second.code() == errc::timed_out);
    } else {
        CHECK(second.code() == asio::error::operation_aborted);
    }
    CHECK(bench.slot->status().residents.empty());
    CHECK(bench.slot->status().counters.loads_aborted == 1);
    CHECK(bench.slot->status().failures.empty());
    CHECK(bench.events.all().front().type == EventType::load_started);
    CHECK(bench.events.lines().back() == "load_aborted a (abandoned)");
    CHECK(bench.events.all().size() == (by_timeout ? 3 : 2));

    // It was no failure: the next one need not wait for a cooldown.
    gate->open();
    auto next = bench.acquire(a);
    bench.run();
    REQUIRE(next.calls() == 1);
    CHECK(next.value()->serial() == 2);
    next.value().release();
    bench.finish(3);
}

TEST_CASE("S4: an abandoned load that finishes anyway, asked to stop or not, stays for its keep-alive",
          "[S4][R5][H1]") {
    const auto abandon_after = GENERATE(0ms, 3000ms, 10'000ms);
    SlotBench bench({.keep_alive = 10s, .abandon_after = abandon_after});
    asio::cancellation_signal leave;
    const auto only = bench.acquire(a, {}, leave.slot());
    bool stop_requested = false;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        leave.emit(asio::cancellation_type::terminal);
        bench.run_without_loading();
        CHECK(call.stop.stop_requested() == (abandon_after == 0ms));
        VirtualClock::advance(3s);
        bench.run_without_loading();
        stop_requested = call.stop.stop_requested();
    });
    bench.run();
    CHECK(stop_requested == (abandon_after <= 3s));
    CHECK(only.code() == asio::error::operation_aborted);
    CHECK(bench.only_resident().state == ResidentState::ready);
    CHECK(bench.slot->status().counters.loads_aborted == 0);
    bench.advance(10s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).live == 0);
    bench.finish(1);
}

TEST_CASE("S4: a load that all have left serves who comes before it ends", "[S4][R3][H1]") {
    const auto abandon_after = GENERATE(0ms, 10'000ms);
    SlotBench bench({.abandon_after = abandon_after});
    asio::cancellation_signal leave;
    const auto left = bench.acquire(a, {}, leave.slot());
    Outcome<FakeLease> late;
    during(*bench.world, FakeStep::load, [&] {
        leave.emit(asio::cancellation_type::terminal);
        bench.run_without_loading();
        late = bench.acquire(a);
    });
    bench.run();
    CHECK(left.code() == asio::error::operation_aborted);
    REQUIRE(late.calls() == 1);
    CHECK(late.value()->serial() == 1);
    // Also if it was asked to stop, and has not cared.
    CHECK(bench.slot->status().counters.loads_aborted == 0);
    late.value().release();
    bench.finish(2);
}

TEST_CASE("S4: threads that leave and threads that stay around one load", "[S4][R3][R9]") {
    constexpr std::size_t callers = 8;
    ThreadedSlot bench;
    // The handlers of those who leave run on a context of their own, and there they are cancelled.
    asio::io_context leaving;
    const auto gate = bench.world->block(FakeStep::load, a);
    std::array<asio::cancellation_signal, callers> signals;
    std::array<Outcome<FakeLease>, callers> left;
    std::array<Outcome<FakeLease>, callers> stayed;
    for (std::size_t caller = 0; caller < callers; ++caller) {
        bench.slot->async_acquire(
            a, asio::bind_cancellation_slot(
                   signals[caller].slot(),
                   asio::bind_executor(leaving.get_executor(), bench.handlers.count(left[caller].handler()))));
    }
    gate->await_held();
    {
        const std::jthread stays([&] {
            for (auto& outcome : stayed) {
                outcome = bench.acquire(a);
            }
        });
        const std::jthread leaves([&] {
            for (auto& signal : signals) {
                asio::post(leaving, [&signal] { signal.emit(asio::cancellation_type::terminal); });
            }
            leaving.run();
        });
    }
    gate->open();
    for (std::size_t caller = 0; caller < callers; ++caller) {
        CHECK(left[caller].calls() == 1);
        CHECK(left[caller].code() == asio::error::operation_aborted);
        stayed[caller].wait();
        CHECK(stayed[caller].value()->serial() == stayed.front().value()->serial());
        CHECK(stayed[caller].value().generation() == bench.slot->generation());
    }
    stayed = {};
    bench.finish(2 * callers);
}

// -- 5 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S5: a cooldown answers without the backend, doubles, and ends with a success", "[S5][R11]") {
    SlotOptions options;
    options.cooldown = 1s;
    options.max_cooldown = 5s;
    SlotBench bench(options);
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("broken"), 4);
    std::size_t handlers = 0;
    std::size_t loads = 0;
    for (const auto cooldown : {1000ms, 2000ms, 4000ms, 5000ms}) {
        const auto failed = bench.acquire(a);
        bench.run();
        ++handlers;
        REQUIRE(failed.calls() == 1);
        CHECK(failed.code() == errc::load_failed);
        CHECK(failed.error().retry_after() == cooldown);
        CHECK(bench.world->counts(a).loads == ++loads);

        bench.advance(cooldown - 1ms);
        const auto cooling = bench.acquire(a);
        const auto cooling_too = bench.ensure(a);
        bench.run();
        handlers += 2;
        REQUIRE(cooling.calls() == 1);
        CHECK(cooling.code() == errc::cooling_down);
        CHECK(cooling.code() == condition::retryable);
        CHECK(cooling.error().retry_after() == 1ms);
        CHECK(cooling_too.code() == errc::cooling_down);
        CHECK(bench.world->counts(a).loads == loads);
        // Other keys are not concerned.
        CHECK_FALSE(bench.slot->try_acquire(b));
        bench.advance(1ms);
    }
    CHECK(bench.slot->status().counters.cooling_down == 8);
    // Summed up, at most one event a second (H19).
    bench.advance(1s);
    std::size_t rejected = 0;
    for (const Event& event : bench.events.all()) {
        rejected += event.type == EventType::rejected ? event.count : 0;
    }
    CHECK(rejected == 8);

    auto works = bench.acquire(a);
    bench.run();
    REQUIRE(works.calls() == 1);
    works.value().release();
    CHECK(bench.slot->status().failures.empty());

    // From the start again after a success.
    const auto gone = bench.unload(a);
    bench.run();
    REQUIRE(gone.calls() == 1);
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("broken"));
    const auto failed = bench.acquire(a);
    bench.run();
    REQUIRE(failed.calls() == 1);
    CHECK(failed.error().retry_after() == 1000ms);
    bench.finish(handlers + 3);
}

// -- 6 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S6: a load that takes longer than the keep-alive is not unloaded at birth", "[S6][R5]") {
    SlotOptions options;
    options.keep_alive = 2s;
    SlotBench bench(options);
    bench.world->on(FakeStep::load, [](const testing::FakeCall&) { VirtualClock::advance(1h); });
    const bool waits_for_load = GENERATE(true, false);
    Outcome<Generation> load;
    Outcome<FakeLease> lease;
    if (waits_for_load) {
        load = bench.ensure(a);
    } else {
        lease = bench.acquire(a);
    }
    bench.run();
    CHECK(bench.handlers.ran() == 1);
    CHECK(bench.only_resident().state == ResidentState::ready);
    lease = {};
    CHECK(bench.only_resident().unloads_in == 2s);
    bench.advance(2s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(1);
}

// -- 7 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S7: while one slot loads, the other leases, answers and keeps its deadlines", "[S7]") {
    SlotOptions one_lease;
    one_lease.max_leases = 1;
    ManagerBench bench({.embedding = one_lease});
    auto ready = bench.ensure(a);
    bench.run();
    REQUIRE(ready.calls() == 1);

    const auto slow = bench.rerank(b);
    during(*bench.world, FakeStep::load, [&] {
        auto answer = bench.embed(a);
        auto lease = bench.acquire(a);
        bench.run_without_loading();
        REQUIRE(answer.calls() == 1);
        CHECK(testing::answered_by(answer.value()) == 1);
        REQUIRE(lease.calls() == 1);
        RequestOptions hurry;
        hurry.timeout = 50ms;
        const auto late = bench.embed(a, {"text"}, hurry);
        VirtualClock::advance(50ms - 1ns);
        bench.run_without_loading();
        CHECK(late.calls() == 0);
        VirtualClock::advance(1ns);
        bench.run_without_loading();
        REQUIRE(late.calls() == 1);
        CHECK(late.code() == errc::timed_out);
        CHECK(late.error().stage() == Stage::queue);
        lease.value().release();
    });
    CHECK(slow.calls() == 0);
    bench.run();
    REQUIRE(slow.calls() == 1);
    CHECK_FALSE(slow.exception());
    bench.finish(5);
}

TEST_CASE(
    "S7: while a thread of one slot's is stuck in a load, the other loads, leases, answers and keeps its deadlines",
    "[S7]") {
    SlotOptions one_lease;
    one_lease.max_leases = 1;
    ThreadedManager bench({.embedding = one_lease});
    const auto gate = bench.world->block(FakeStep::load, b);
    const auto slow = bench.rerank(b);
    gate->await_held();

    const Embeddings rows = bench.manager->embed(a, {"text"});
    CHECK(bench.world->model(testing::answered_by(rows)).key == a);
    {
        const FakeLease lease = bench.manager->embedding().acquire(a);
        RequestOptions hurry;
        hurry.timeout = 1ms;
        CHECK(code_of([&] { (void)bench.manager->embed(a, {"text"}, hurry); }) == errc::timed_out);
    }
    bench.manager->embedding().unload(a);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(slow.calls() == 0);

    gate->open();
    slow.wait();
    CHECK_FALSE(slow.exception());
    bench.finish(1);
}

// -- 8 ----------------------------------------------------------------------------------------------------------------

TEST_CASE("S8: unload while a load runs: what it yields is not used, and who waits gets a fresh load",
          "[S8][R3][R11][H2]") {
    const bool honours = GENERATE(true, false);
    SlotBench bench;
    auto waiter = bench.acquire(a);
    const auto gate = bench.world->block(FakeStep::load, a, honours ? FakeStop::honour : FakeStop::ignore);
    if (!honours) {
        gate->open();
    }
    Outcome<> unload;
    bool stop_requested = false;
    bench.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        if (call.serial == 1) {
            unload = bench.unload(a);
            bench.run_without_loading();
            stop_requested = call.stop.stop_requested();
            CHECK(unload.calls() == 0);
        } else {
            // The memory is back before the fresh load begins, and the unload has completed.
            CHECK(bench.world->counts(a).live == 0);
            bench.run_control();
            CHECK(unload.calls() == 1);
            CHECK_FALSE(call.stop.stop_requested());
            gate->open();
        }
    });
    if (!honours) {
        // It completes when the model is gone.
        during(*bench.world, FakeStep::unload, [&] {
            bench.run_without_loading();
            CHECK(unload.calls() == 0);
        });
    }
    bench.run();
    CHECK(stop_requested);
    REQUIRE(unload.calls() == 1);
    CHECK_FALSE(unload.exception());
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.value()->serial() == 2);
    CHECK(bench.world->counts(a).loads == 2);
    CHECK(bench.world->counts(a).most_resident == 1);
    CHECK(bench.slot->status().failures.empty());
    // The first one was never usable: no request was served with it, and it never had a number.
    CHECK(bench.events.count(EventType::ready) == 1);
    CHECK((honours || bench.world->model(1).calls == 0));
    CHECK(waiter.value().generation() == Generation(1));
    waiter.value().release();
    bench.finish(2);
}

TEST_CASE("S8: shutdown while a load runs: waiters fail, and what the load yields is unloaded", "[S8][R12][R9]") {
    const bool honours = GENERATE(true, false);
    SlotBench bench;
    const auto waiter = bench.acquire(a);
    const auto other_key = bench.acquire(b);
    const auto gate = bench.world->block(FakeStep::load, a, honours ? FakeStop::honour : FakeStop::ignore);
    Outcome<ShutdownReport> report;
    bool stop_requested = false;
    bench.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        report = bench.shutdown();
        bench.run_without_loading();
        stop_requested = call.stop.stop_requested();
        CHECK(waiter.code() == errc::shutting_down);
        CHECK(waiter.error().stage() == Stage::load);
        CHECK(other_key.code() == errc::shutting_down);
        CHECK(report.calls() == 0);
        if (!honours) {
            gate->open();
        }
    });
    bench.run();
    CHECK(stop_requested);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    CHECK(bench.world->counts().loads == 1);
    bench.check_ended(3);
}

TEST_CASE("S8: cancelling, unloading and shutting down from threads while a load runs", "[S8][R12][R9]") {
    ThreadedSlot bench;
    const auto gate = bench.world->block(FakeStep::load, a, FakeStop::honour);
    const auto failed = [&](std::size_t loads) {
        bench.world->await(a, [loads](const auto& counts) { return counts.loads == loads; });
    };

    // Unload: the load of the one that waits is stopped, and begins anew.
    const auto waiter = bench.acquire(a);
    failed(1);
    bench.slot->unload(a);
    failed(2);
    CHECK(waiter.calls() == 0);

    // Cancel: the last one leaves, and the load ends.
    asio::io_context leaving;
    asio::cancellation_signal leave;
    Outcome<FakeLease> left;
    bench.slot->async_acquire(a, asio::bind_cancellation_slot(
                                     leave.slot(), asio::bind_executor(leaving, bench.handlers.count(left.handler()))));
    asio::post(leaving, [&] { leave.emit(asio::cancellation_type::total); });
    leaving.run();
    CHECK(left.code() == asio::error::operation_aborted);

    // Shutdown: waiters fail, and the load is stopped; it completes although the gate never opens.
    CHECK(bench.slot->shutdown().clean());
    waiter.wait();
    CHECK(waiter.code() == errc::shutting_down);
    CHECK(bench.world->counts(a).failed_loads == 2);
    bench.finish(2);
}

// -- Stopped, and beside others ---------------------------------------------------------------------------------------

TEST_CASE("A load that throws after it was asked to stop is aborted, not failed", "[H1][R11]") {
    SlotBench bench({.abandon_after = 0ms});
    Request<FakeLease> leaver;
    Request<FakeLease> joiner;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("stopped half-way"));
    bool joins = true;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (!joins) {
            return;
        }
        joins = false;
        leaver.cancel();
        run_ready(bench.control);
        CHECK(call.stop.stop_requested());
        // Joins a load that was asked to stop: what becomes of that is not its business.
        bench.slot->async_acquire(a, joiner.token());
    });
    bench.slot->async_acquire(a, leaver.token());
    bench.run();
    CHECK(leaver.code() == asio::error::operation_aborted);
    REQUIRE(joiner.calls() == 1);
    CHECK(joiner.value()->serial() == 2);

    const SlotStatus status = bench.slot->status();
    CHECK(status.failures.empty());
    CHECK(status.counters.load_failures == 0);
    CHECK(status.counters.loads_aborted == 1);
    CHECK(bench.events.count(EventType::load_failed) == 0);
    REQUIRE(bench.events.count(EventType::load_aborted) == 1);
    CHECK(bench.events.all(EventType::load_aborted).front().reason == Reason::abandoned);
    joiner.value().release();
    bench.check_end();
}

TEST_CASE("Unloading a key whose load then throws is no failure, and who waited gets a fresh load", "[H2]") {
    SlotBench bench;
    Outcome<FakeLease> waiter;
    Outcome<> unloaded;
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("stopped half-way"));
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        if (call.serial == 1) {
            bench.slot->async_unload(a, UnloadMode::revoke, unloaded.handler());
        }
    });
    bench.slot->async_acquire(a, waiter.handler());
    bench.run();
    CHECK(unloaded.calls() == 1);
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.value()->serial() == 2);
    CHECK(bench.slot->status().failures.empty());
    CHECK(bench.slot->status().counters.loads_aborted == 1);
    waiter.value().release();
    bench.check_end();
}

TEST_CASE("A slow load delays neither a ready model, nor a deadline, nor the other slot", "[H13]") {
    ManagerBench bench({.embedding = {.max_resident = 2}});
    auto& models = *bench.manager;
    Outcome<Embeddings> before;
    models.async_embed(a, {"one"}, before.handler());
    bench.run();
    REQUIRE(before.calls() == 1);

    // The loading executor stands still from here on: a load as slow as can be.
    Outcome<Embeddings> slow;
    Outcome<Embeddings> late;
    Outcome<Embeddings> quick;
    models.async_embed(b, {"two"}, slow.handler());
    models.async_embed(b, {"three"}, {.timeout = 10ms}, late.handler());
    models.async_embed(a, {"four"}, quick.handler());
    run_ready(bench.control, bench.inference);
    CHECK(quick.calls() == 1);
    CHECK(quick.value().size() == 1);
    VirtualClock::advance(10ms);
    run_ready(bench.control, bench.inference);
    REQUIRE(late.calls() == 1);
    CHECK(late.code() == errc::timed_out);
    // Its load has a place, but the backend was not called.
    CHECK(late.error().stage() == Stage::queue);
    CHECK(slow.calls() == 0);
    bench.run();
    CHECK(slow.calls() == 1);
    bench.check_end();
}

}  // namespace load_test
