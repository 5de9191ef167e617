// S30 to S33, H9: how a slot and a manager end.

#include "support/bench.hpp"

#include <boost/asio/deferred.hpp>

#include <atomic>
#include <latch>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace shutdown_test {

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

// -- 30 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S30: shutdown refuses what is new, fails those that wait, lets leases end, and unloads all",
          "[S30][R12][R9]") {
    ManagerBench bench({.embedding = with_leases(1)});
    auto lease = bench.acquire(a);
    const auto reranked = bench.rerank(b);
    bench.run();
    CHECK(reranked.calls() == 1);
    const auto waits = bench.embed(a);
    const auto waits_for_other = bench.acquire(c);
    const auto unload = bench.unload(a);
    bench.run();
    const auto report = bench.shutdown();
    bench.run();
    for (const auto& error : {waits.error(), waits_for_other.error()}) {
        CHECK(error.code() == errc::shutting_down);
        CHECK(error.stage() == Stage::queue);
    }
    // What is new is refused, whatever it is: also what would need nothing.
    const auto embed = bench.embed(a);
    const auto rerank = bench.rerank(b);
    const auto empty = bench.embed(a, {});
    const auto acquire = bench.acquire(a);
    const auto ensure = bench.ensure(a);
    bench.run();
    CHECK(embed.code() == errc::shutting_down);
    CHECK(embed.error().stage() == Stage::admission);
    CHECK(rerank.code() == errc::shutting_down);
    CHECK(empty.code() == errc::shutting_down);
    CHECK(acquire.code() == errc::shutting_down);
    CHECK(ensure.code() == errc::shutting_down);
    CHECK_FALSE(bench.manager->embedding().try_acquire(a));
    CHECK(code_of([&] { (void)bench.manager->embed(a, {"text"}); }) == errc::shutting_down);

    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.world->counts(b).live == 0);
    CHECK(report.calls() == 0);
    CHECK(unload.calls() == 0);
    lease.value().release();
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(unload.calls() == 1);
    CHECK_FALSE(unload.exception());
    CHECK(bench.events.count(EventType::shutdown_started) == 2);
    CHECK(bench.events.count(EventType::shutdown_completed) == 2);
    bench.check_ended(11);
}

TEST_CASE("S30: shutdown of what was never used, and again, and twice at once; then every call is answered",
          "[S30][R12][bad_input]") {
    ManagerBench bench;
    const auto first = bench.shutdown();
    const auto second = bench.shutdown();
    CHECK(bench.handlers.ran() == 0);
    bench.run();
    const auto third = bench.shutdown();
    const auto embed = bench.embed(a);
    const auto empty = bench.embed(a, {});
    const auto rerank = bench.rerank(a);
    const auto acquire = bench.acquire(a);
    const auto ensure = bench.ensure(a);
    const auto unload = bench.unload(a);
    CHECK_FALSE(bench.manager->embedding().try_acquire(a));
    bench.run();
    for (const auto* report : {&first, &second, &third}) {
        REQUIRE(report->calls() == 1);
        CHECK(Outcome<ShutdownReport>(*report).value().clean());
    }
    CHECK(embed.code() == errc::shutting_down);
    CHECK(empty.code() == errc::shutting_down);
    CHECK(rerank.code() == errc::shutting_down);
    CHECK(acquire.code() == errc::shutting_down);
    CHECK(ensure.code() == errc::shutting_down);
    CHECK(unload.calls() == 1);
    CHECK_FALSE(unload.exception());
    CHECK(bench.world->counts().loads == 0);
    bench.check_ended(9);
}

TEST_CASE("S30: a shutdown waits for whatever is under way, wherever it is", "[S30][R1][R12]") {
    enum class Work { loading, leased, has_no_thread, running, unloading };
    const Work work = GENERATE(Work::loading, Work::leased, Work::has_no_thread, Work::running, Work::unloading);
    ManagerBench bench;
    Outcome<ShutdownReport> report;
    bool completed_too_early = false;
    std::size_t handlers = 2;
    // All that is not the work itself is given every chance to end the shutdown.
    const auto shut_down = [&] {
        report = bench.shutdown();
        VirtualClock::advance(1h);
        bench.run_control();
        completed_too_early = report.calls() != 0;
    };
    Outcome<Embeddings> answer;
    switch (work) {
        case Work::loading:
            during(*bench.world, FakeStep::load, shut_down);
            answer = bench.embed(a);
            bench.run();
            CHECK(answer.code() == errc::shutting_down);
            break;
        case Work::leased: {
            auto lease = bench.acquire(a);
            bench.run();
            shut_down();
            bench.run();
            CHECK(report.calls() == 0);
            CHECK(bench.world->counts(a).live == 1);
            lease.value().release();
            bench.run();
            break;
        }
        case Work::has_no_thread:
            answer = bench.embed(a);
            testing::run_ready(bench.loading);
            shut_down();
            testing::run_ready(bench.loading);
            CHECK(bench.world->counts(a).live == 1);
            bench.run();
            CHECK_FALSE(answer.exception());
            break;
        case Work::running:
            during(*bench.world, FakeStep::inference, [&] {
                shut_down();
                testing::run_ready(bench.loading);
                CHECK(bench.world->counts(a).live == 1);
            });
            answer = bench.embed(a);
            bench.run();
            CHECK_FALSE(answer.exception());
            break;
        case Work::unloading: {
            const auto loaded = bench.ensure(a);
            bench.run();
            CHECK(loaded.calls() == 1);
            during(*bench.world, FakeStep::unload, shut_down);
            const auto unload = bench.unload(a);
            bench.run();
            CHECK(unload.calls() == 1);
            handlers = 3;
            break;
        }
    }
    CHECK_FALSE(completed_too_early);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    CHECK(bench.world->counts(a).unloads == 1);
    bench.check_ended(handlers);
}

TEST_CASE("S30: shutdown in the tick of an idle expiry, before it and after it", "[S30][R12][R7]") {
    const bool shutdown_first = GENERATE(true, false);
    SlotOptions options;
    options.keep_alive = 10s;
    SlotBench bench(options);
    bench.load(a);
    VirtualClock::advance(10s);
    if (!shutdown_first) {
        bench.run_control();
        CHECK(bench.only_resident().state == ResidentState::unloading);
    }
    const auto report = bench.shutdown();
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(bench.world->counts(a).unloads == 1);
    const SlotCounters counters = bench.slot->status().counters;
    CHECK(counters.unloads[static_cast<std::size_t>(shutdown_first ? Reason::shutdown : Reason::idle)] == 1);
    bench.check_ended(2);
}

TEST_CASE("S30: shutdown during a switch loads nothing more", "[S30][R12]") {
    SlotBench bench;
    auto old = bench.acquire(a);
    bench.run();
    const bool unloading = GENERATE(false, true);
    const auto other = bench.acquire(b);
    const auto late = bench.acquire(a);
    bench.run();
    CHECK(bench.only_resident().state == ResidentState::draining);
    Outcome<ShutdownReport> report;
    if (unloading) {
        during(*bench.world, FakeStep::unload, [&] { report = bench.shutdown(); });
        old.value().release();
        bench.run();
    } else {
        report = bench.shutdown();
        bench.run();
        CHECK(report.calls() == 0);
        old.value().release();
        bench.run();
    }
    REQUIRE(report.calls() == 1);
    CHECK(other.code() == errc::shutting_down);
    CHECK(late.code() == errc::shutting_down);
    CHECK(bench.world->counts().loads == 1);
    bench.check_ended(4);
}

TEST_CASE("S30: shutdown lets a model call end, its caller have the answer, and fails what waits",
          "[S30][R12][R1][H9]") {
    ManagerBench bench({.embedding = with_leases(1)});
    Outcome<ShutdownReport> report;
    Outcome<Embeddings> waits;
    bool stop_requested = true;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        waits = bench.embed(a);
        report = bench.shutdown();
        bench.run_control();
        testing::run_ready(bench.loading);
        stop_requested = call.stop.stop_requested();
        CHECK(waits.calls() == 1);
        CHECK(report.calls() == 0);
        CHECK(bench.world->counts(a).live == 1);
    });
    auto answer = bench.embed(a);
    bench.run();
    CHECK_FALSE(stop_requested);
    REQUIRE(answer.calls() == 1);
    CHECK(answer.value().size() == 1);
    CHECK(waits.code() == errc::shutting_down);
    CHECK(waits.error().stage() == Stage::queue);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    bench.check_ended(3);
}

TEST_CASE("S30: shutdown from inside a handler: asynchronous, for a blocking one would hang", "[S30][R12][R10]") {
    SlotBench bench;
    Outcome<ShutdownReport> report;
    boost::system::error_code blocking;
    bench.slot->async_acquire(a, bench.handlers.count([&](const std::exception_ptr&, FakeLease lease) {
        blocking = code_of([&] { bench.slot->shutdown(); });
        report = bench.shutdown();
        CHECK(report.calls() == 0);
        lease.release();
    }));
    bench.run();
    CHECK(blocking == errc::would_deadlock);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    bench.check_ended(2);
}

TEST_CASE("S30: threads shut down at once while others load, lease, answer and unload", "[S30][R12][R9]") {
    SlotOptions options = with_leases(3);
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options});
    std::atomic<int> wrong{0};
    std::atomic<int> refused{0};
    {
        std::latch busy(4);
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                // Until it is refused, and that it always is in the end.
                for (int call = 0;; ++call) {
                    const ModelKey& key = (thread + call) % 3 == 0 ? b : a;
                    const boost::system::error_code code = code_of([&] { (void)bench.manager->embed(key, {"text"}); });
                    if (call == 2) {
                        busy.count_down();
                    }
                    if (code == errc::shutting_down) {
                        ++refused;
                        return;
                    }
                    wrong += code ? 1 : 0;
                }
            });
        }
        busy.wait();
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                wrong += bench.manager->shutdown().clean() ? 0 : 1;
                // When it has returned there is no model, whatever else is still on the way.
                wrong += bench.world->counts().live == 0 && bench.world->counts().loading == 0 ? 0 : 1;
            });
        }
    }
    CHECK(wrong == 0);
    CHECK(refused == 4);
    bench.finish(0);
}

TEST_CASE("S30: when a shutdown completes nothing runs, whatever threads had started", "[S30][R9][R12]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    options.max_leases = 3;
    for (int round = 0; round < 5; ++round) {
        ThreadedManager bench({.embedding = options, .reranker = options});
        std::vector<Outcome<Embeddings>> answers(40);
        std::vector<Outcome<Ranking>> rankings(40);
        std::atomic<int> left{0};
        std::atomic<std::size_t> begun{0};
        {
            const std::jthread embeds([&] {
                for (auto& answer : answers) {
                    answer = bench.embed(++begun % 3 == 0 ? b : a);
                }
            });
            const std::jthread reranks([&] {
                for (auto& ranking : rankings) {
                    ranking = bench.rerank(++begun % 3 == 0 ? b : c);
                }
            });
            while (begun < 20) {
                std::this_thread::yield();
            }
            CHECK(bench.manager->shutdown().clean());
            const testing::FakeCounts counts = bench.world->counts();
            left += counts.live + counts.loading + counts.calling == 0 ? 0 : 1;
        }
        CHECK(left == 0);
        std::size_t answered = 0;
        std::size_t refused = 0;
        const auto count = [&](const auto& outcome) {
            outcome.wait();
            answered += outcome.exception() ? 0 : 1;
            refused += outcome.code() == errc::shutting_down ? 1 : 0;
        };
        for (const auto& answer : answers) {
            count(answer);
        }
        for (const auto& ranking : rankings) {
            count(ranking);
        }
        CHECK(answered + refused == 80);
        // What reached a model was answered: a shutdown interrupts no call.
        CHECK(bench.world->counts().calls == answered);
        bench.finish(80);
    }
}

// -- 31 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S31: at its deadline a shutdown names what is still leased, and nothing is freed under it",
          "[S31][R12][R1][H9]") {
    SlotOptions options;
    options.max_resident = 2;
    ManagerBench bench({.embedding = options});
    auto first = bench.acquire(a);
    auto second = bench.acquire(a);
    const auto idle = bench.ensure(b);
    bench.run();
    CHECK(idle.calls() == 1);
    auto report = bench.shutdown(5s);
    auto patient = bench.shutdown(7s);
    const auto most_patient = bench.shutdown();
    bench.advance(5s - 1ns);
    CHECK(report.calls() == 0);
    CHECK(bench.world->counts(b).live == 0);
    bench.advance(1ns);
    REQUIRE(report.calls() == 1);
    CHECK_FALSE(report.value().clean());
    CHECK(report.value().leftovers ==
          std::vector<Leftover>{{.slot = "embedding", .key = a, .state = ResidentState::draining, .leases = 2}});
    CHECK(patient.calls() == 0);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(first.value()->serial() == second.value()->serial());

    first.value().release();
    bench.advance(2s);
    REQUIRE(patient.calls() == 1);
    REQUIRE(patient.value().leftovers.size() == 1);
    CHECK(patient.value().leftovers.front().leases == 1);
    CHECK(most_patient.calls() == 0);
    CHECK(bench.world->counts(a).live == 1);

    second.value().release();
    bench.run();
    REQUIRE(most_patient.calls() == 1);
    CHECK(Outcome<ShutdownReport>(most_patient).value().clean());
    CHECK(bench.world->counts(a).live == 0);
    bench.check_ended(6);
}

TEST_CASE("S31: what is loading or unloading at the deadline is named as well", "[S31][R12]") {
    const bool loading = GENERATE(true, false);
    SlotBench bench;
    Outcome<ShutdownReport> report;
    const auto past_deadline = [&] {
        report = bench.shutdown(1s);
        VirtualClock::advance(1s);
        bench.run_without_loading();
        REQUIRE(report.calls() == 1);
    };
    std::size_t handlers = 2;
    Outcome<FakeLease> waits;
    if (loading) {
        during(*bench.world, FakeStep::load, past_deadline);
        waits = bench.acquire(a);
        bench.run();
        CHECK(waits.code() == errc::shutting_down);
    } else {
        bench.load(a);
        during(*bench.world, FakeStep::unload, past_deadline);
        const auto unload = bench.unload(a);
        bench.run();
        CHECK(unload.calls() == 1);
        ++handlers;
    }
    REQUIRE(report.value().leftovers.size() == 1);
    CHECK(report.value().leftovers.front().key == a);
    CHECK(report.value().leftovers.front().state == (loading ? ResidentState::loading : ResidentState::unloading));
    CHECK(report.value().leftovers.front().leases == 0);
    // What outlived the deadline has gone all the same.
    bench.check_ended(handlers);
}

TEST_CASE("S31: a deadline that has passed already still closes", "[S31][R12][H9]") {
    const auto deadline = GENERATE(0ms, -1ms, std::chrono::milliseconds::min());
    SlotBench bench;
    auto lease = bench.acquire(a);
    bench.run();
    const auto report = bench.shutdown(deadline);
    CHECK(report.calls() == 0);
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(Outcome<ShutdownReport>(report).value().leftovers ==
          std::vector<Leftover>{{"model", a, ResidentState::draining, 1}});
    CHECK_FALSE(bench.slot->try_acquire(a));
    CHECK(bench.world->counts(a).live == 1);
    lease.value().release();
    bench.run();
    bench.check_ended(2);
}

TEST_CASE("S31: a thread that shuts down with a deadline learns what other threads hold", "[S31][R12][R1]") {
    ThreadedManager bench;
    const auto gate = bench.world->block(FakeStep::inference, a);
    const auto running = bench.embed(a);
    gate->await_held();
    FakeLease lease = bench.manager->embedding().acquire(a);
    const ShutdownReport report = bench.manager->shutdown(1ms);
    REQUIRE(report.leftovers.size() == 1);
    CHECK(report.leftovers.front().key == a);
    CHECK(report.leftovers.front().leases == 2);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(running.calls() == 0);
    gate->open();
    running.wait();
    CHECK_FALSE(running.exception());
    CHECK(lease->serial() == 1);
    lease.release();
    bench.finish(1);
}

// -- 32 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S32: after a shutdown no timer is pending, and run() returns", "[S32][R12][R7]") {
    VirtualClock::reset();
    asio::io_context context;
    const auto world = std::make_shared<FakeWorld>();
    ModelManager<FakeEmbeddingBackend, FakeRerankerBackend, VirtualClock> models(
        FakeEmbeddingBackend{world}, FakeRerankerBackend{world}, {}, Executors::all(context.get_executor()));
    HandlerTally handlers;
    Outcome<Embeddings> answer;
    Outcome<Ranking> ranking;
    models.async_embed(a, {"text"}, handlers.count(answer.handler()));
    models.async_rerank(b, "query", {"document"}, handlers.count(ranking.handler()));
    testing::run_ready(context);
    CHECK(handlers.ran() == 2);
    // Both slots' alarms are set for the end of the keep-alive.
    CHECK(models.status().embedding.counters.timer_waits == 1);
    CHECK(models.status().reranker.counters.timer_waits == 1);
    CHECK(context.poll() == 0);
    CHECK_FALSE(context.stopped());

    Outcome<ShutdownReport> report;
    models.async_shutdown(handlers.count(report.handler()));
    // Not polled: with a timer pending this would never return.
    context.run();
    CHECK(handlers.ran() == 3);
    CHECK(report.value().clean());
    CHECK(context.stopped());
    check_at_rest(models.status().embedding);
    check_at_rest(models.status().reranker);
    check_at_rest(*world);
}

TEST_CASE("S32: the alarm is gone when the shutdown says so, not some time later", "[S32][R12][R7]") {
    SlotBench bench;
    bench.load(a);
    bool idle = false;
    bench.slot->async_shutdown(bench.handlers.count([&](const std::exception_ptr&, const ShutdownReport& report) {
        CHECK(report.clean());
        CHECK(bench.world->counts().live == 0);
        // Apart from this very handler nothing is left to run.
        idle = bench.run_control() == 0;
    }));
    bench.run();
    CHECK(idle);
    bench.check_ended(2);
}

TEST_CASE("S32: after a shutdown a host's threads come to an end", "[S32][R12]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::io_context control;
    asio::thread_pool inference(2);
    asio::thread_pool loading(1);
    ModelSlot<FakeEmbeddingBackend> slot(FakeEmbeddingBackend{world}, {},
                                         {control.get_executor(), inference.get_executor(), loading.get_executor()});
    HandlerTally handlers;
    Outcome<FakeLease> lease;
    Outcome<ShutdownReport> report;
    slot.async_acquire(a, handlers.count(lease.handler()));
    // It returns when there is nothing to do and nothing to wait for: no timer of minutes' length is left.
    std::jthread runs([&] {
        const auto guard = asio::make_work_guard(control);
        while (handlers.ran() == 0) {
            control.run_one();
        }
        lease.value().release();
        slot.async_shutdown(handlers.count(report.handler()));
        while (handlers.ran() == 1) {
            control.run_one();
        }
    });
    runs.join();
    control.run();
    inference.join();
    loading.join();
    CHECK(handlers.ran() == 2);
    CHECK(report.value().clean());
    check_at_rest(slot.status());
    check_at_rest(*world);
}

// -- 33 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S33: the destructor alone fails those that wait, stops the load, and leaves nothing", "[S33][R12][R9]") {
    SlotBench bench;
    const auto waits = bench.acquire(a);
    const auto waits_too = bench.ensure(a);
    const auto unload = bench.unload(a);
    bool stop_requested = false;
    bench.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        bench.slot.reset();
        stop_requested = call.stop.stop_requested();
        bench.run_without_loading();
    });
    bench.run();
    CHECK(stop_requested);
    CHECK(waits.code() == errc::shutting_down);
    CHECK(waits_too.code() == errc::shutting_down);
    CHECK(unload.calls() == 1);
    bench.check_gone(3);
}

TEST_CASE("S33: the destructor alone unloads what is idle and takes its timer back", "[S33][R12][R7]") {
    ManagerBench bench;
    const auto answer = bench.embed(a);
    const auto ranking = bench.rerank(b);
    bench.run();
    CHECK(answer.calls() == 1);
    CHECK(ranking.calls() == 1);
    CHECK(bench.world->counts().live == 2);
    bench.manager.reset();
    bench.run();
    bench.check_gone(2);
}

TEST_CASE("S33: the destructor completes a running call early, asks the model to stop, and the call owns what it needs",
          "[S33][R12][R1]") {
    ManagerBench bench;
    bool stop_requested = false;
    Outcome<Embeddings> answer;
    bench.world->on(FakeStep::inference, [&](const testing::FakeCall& call) {
        bench.manager.reset();
        stop_requested = call.stop.stop_requested();
        bench.run_control();
        CHECK(answer.calls() == 1);
        CHECK(bench.world->counts(a).live == 1);
    });
    answer = bench.embed(a, {"texts", "that", "it", "still", "reads"});
    bench.run();
    CHECK(stop_requested);
    CHECK(answer.code() == errc::shutting_down);
    bench.check_gone(1);
}

TEST_CASE("S33: the destructor with a host executor that has stopped running", "[S33][R12][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    HandlerTally handlers;
    Outcome<Embeddings> waits;
    Outcome<Embeddings> other;
    Outcome<FakeLease> lease;
    const int stage = GENERATE(0, 1, 2, 3);
    {
        VirtualClock::reset();
        asio::io_context context;
        ModelManager<FakeEmbeddingBackend, FakeRerankerBackend, VirtualClock> models(
            FakeEmbeddingBackend{world}, FakeRerankerBackend{world}, {}, Executors::all(context.get_executor()));
        if (stage >= 2) {
            // A model is ready, and its alarm set.
            models.async_embed(a, {"text"}, handlers.count(other.handler()));
            testing::run_ready(context);
            CHECK(handlers.ran() == 1);
        }
        if (stage == 3) {
            // And under a lease that ends in the end.
            models.embedding().async_acquire(a, handlers.count(lease.handler()));
            testing::run_ready(context);
        }
        models.async_embed(a, {"text"}, handlers.count(waits.handler()));
        if (stage == 1) {
            // Its load has been done; nothing of what follows will be.
            context.run_one();
        }
        context.stop();
    }
    // Its handler could not run any more: it was destroyed, together with its context.
    CHECK(waits.calls() == 0);
    CHECK_FALSE(waits.held());
    if (stage == 3) {
        CHECK(world->counts(a).live == 1);
        lease.value().release();
    }
    check_at_rest(*world);
    CHECK(handlers.ran() == handlers.made() - 1);
}

TEST_CASE("S33: destroyed in the middle of what threads have started, every handler has run", "[S33][R12][R9]") {
    SlotOptions options = with_leases(2);
    options.keep_alive = 0ms;
    for (int round = 0; round < 10; ++round) {
        ThreadedManager bench({.embedding = options, .reranker = options});
        std::vector<Outcome<Embeddings>> answers(20);
        std::vector<Outcome<Ranking>> rankings(20);
        {
            const std::jthread embeds([&] {
                for (std::size_t call = 0; call < answers.size(); ++call) {
                    answers[call] = bench.embed(call % 3 == 0 ? b : a);
                }
            });
            const std::jthread reranks([&] {
                for (auto& ranking : rankings) {
                    ranking = bench.rerank(c);
                }
            });
        }
        bench.manager.reset();
        for (const auto& answer : answers) {
            REQUIRE(answer.calls() == 1);
            CHECK((!answer.exception() || answer.code() == errc::shutting_down));
        }
        for (const auto& ranking : rankings) {
            REQUIRE(ranking.calls() == 1);
            CHECK((!ranking.exception() || ranking.code() == errc::shutting_down));
        }
        bench.check_gone(40);
    }
}

// -- Several, deadlines, and what outlives them -----------------------------------------------------------------------

TEST_CASE("A deadline that is not needed leaves no timer behind", "[H9][R12]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(1h, report.handler());
    bench.run();
    CHECK_FALSE(bench.at_rest());
    held.release();
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("A shutdown completes after the last handler of the alarm has run", "[H9][R7][R12]") {
    SlotBench bench({.keep_alive = 1min});
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{.keep_alive = 1min}, bench.executors());
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    bench.run();
    REQUIRE(loaded.calls() == 1);
    // The alarm stands. The handler is on a context of its own, so that nothing of control's need have run before it.
    asio::io_context elsewhere;
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(asio::bind_executor(elsewhere, report.handler()));
    while (report.calls() == 0) {
        bench.loading.restart();
        bench.control.restart();
        REQUIRE(run_ready(elsewhere) + bench.loading.poll_one() + bench.control.poll_one() != 0);
    }
    CHECK(is_idle(bench.control));
    bench.slot.reset();
    bench.check_nothing_left();
}

TEST_CASE("A shutdown names queued and unloading residents in its report", "[H9]") {
    SlotBench bench({.max_resident = 2});
    Outcome<FakeLease> waiter;
    bench.lease(a).release();
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.slot->async_acquire(b, waiter.handler());
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(1s, report.handler());
    run_ready(bench.control);
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.code() == errc::shutting_down);
    // The backend was not called yet.
    CHECK(waiter.error().stage() == Stage::queue);
    VirtualClock::advance(1s);
    run_ready(bench.control);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().leftovers ==
          std::vector<Leftover>{{"model", a, ResidentState::unloading, 0}, {"model", b, ResidentState::queued, 0}});
    Outcome<ShutdownReport> clean;
    bench.slot->async_shutdown(clean.handler());
    bench.run();
    CHECK(clean.value().clean());
    CHECK(unloaded.calls() == 1);
    bench.check_nothing_left();
}

TEST_CASE("A manager's shutdown waits for both its slots, and reports on both", "[H9]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Lease<testing::FakeEmbedder>> embedder;
    Outcome<Lease<testing::FakeReranker>> reranker;
    models.embedding().async_acquire(a, embedder.handler());
    models.reranker().async_acquire(b, reranker.handler());
    bench.run();
    Outcome<ShutdownReport> early;
    Outcome<ShutdownReport> patient;
    models.async_shutdown(5s, early.handler());
    models.async_shutdown(patient.handler());
    bench.advance(5s);
    REQUIRE(early.calls() == 1);
    REQUIRE(early.value().leftovers.size() == 2);
    CHECK(early.value().leftovers[0].slot != early.value().leftovers[1].slot);
    embedder.value().release();
    bench.run();
    CHECK(patient.calls() == 0);
    reranker.value().release();
    bench.run();
    REQUIRE(patient.calls() == 1);
    CHECK(patient.value().clean());
    bench.check_nothing_left();
}

TEST_CASE("An unload that is waited for when its slot is destroyed fails with shutting_down", "[H9][R12]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.run();
    bench.slot.reset();
    bench.run();
    REQUIRE(unloaded.calls() == 1);
    // Its model is still there: that must not look like success.
    CHECK(bench.world->counts().live == 1);
    CHECK(unloaded.code() == errc::shutting_down);
    CHECK(unloaded.error().stage() == Stage::unload);
    held.release();
    bench.check_nothing_left();
}

TEST_CASE("A shutdown that is waited for when its slot is destroyed reports what is left", "[H9]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(report.handler());
    bench.run();
    bench.slot.reset();
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(report.value().leftovers == std::vector<Leftover>{{"model", a, ResidentState::draining, 1}});
    held.release();
    bench.check_nothing_left();
}

TEST_CASE("What is started after its slot was destroyed completes at once with what is left, with an observer too",
          "[H9][R9][R12]") {
    // On the real clock, with threads of its own.
    const auto world = std::make_shared<FakeWorld>();
    EventLog events;
    asio::io_context elsewhere;
    FakeLease held;
    for (const bool leased : {false, true}) {
        INFO("leased: " << leased);
        Outcome<ShutdownReport> shut;
        Outcome<ShutdownReport> shut_in_time;
        Outcome<> unloaded;
        std::optional<ModelSlot<PlainBackend>> slot(std::in_place, PlainBackend(world), SlotOptions{}, Executors{},
                                                    events.observer());
        if (leased) {
            held = slot->acquire(a);
        }
        auto shutdown = slot->async_shutdown(asio::deferred);
        auto shutdown_in_time = slot->async_shutdown(1h, asio::deferred);
        auto unload = slot->async_unload(a, asio::deferred);
        slot.reset();
        std::move(shutdown)(asio::bind_executor(elsewhere, shut.handler()));
        std::move(shutdown_in_time)(asio::bind_executor(elsewhere, shut_in_time.handler()));
        std::move(unload)(asio::bind_executor(elsewhere, unloaded.handler()));
        run_ready(elsewhere);
        REQUIRE(shut.calls() == 1);
        REQUIRE(shut_in_time.calls() == 1);
        REQUIRE(unloaded.calls() == 1);
        CHECK(shut.value().leftovers.size() == (leased ? 1 : 0));
        CHECK(shut_in_time.value().leftovers.size() == (leased ? 1 : 0));
        CHECK((unloaded.code() == errc::shutting_down) == leased);
    }
    held.release();
    // Nothing of the slots is left: only the world's own reference.
    CHECK(world->counts().live == 0);
    CHECK(world.use_count() == 1);
}

}  // namespace shutdown_test
