// Two faults of an earlier manager: work that was not kept track of was interrupted by its shutdown; and a request that
// came when there was too much to do had no answer at all.
//
// Here a shutdown completes when nothing runs any more, and a request that finds no place fails at once.

#include "support/bench.hpp"

#include <atomic>
#include <thread>

namespace shutdown3_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// -- Untracked work that shutdown interrupts --------------------------------------------------------------------------

TEST_CASE("Review: a shutdown waits for whatever is under way, wherever it is", "[R1][R12]") {
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
    bench.check_ended(handlers);
}

TEST_CASE("Review: when a shutdown completes nothing runs, whatever threads had started", "[R9][R12]") {
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

// -- Overload without an answer ---------------------------------------------------------------------------------------

TEST_CASE("Review: with too much to do, each of a thousand requests is answered at once", "[R8][R9]") {
    SlotOptions options;
    options.max_leases = 2;
    options.max_queue = 8;
    ManagerBench bench({.embedding = options});
    auto first = bench.acquire(a);
    auto second = bench.acquire(a);
    bench.run();
    std::vector<Outcome<Embeddings>> answers;
    for (int request = 0; request < 1000; ++request) {
        answers.push_back(
            bench.embed(request % 2 == 0 ? a : b, std::vector<std::string>(request % 3 == 0 ? 100 : 1, "text")));
    }
    CHECK(bench.handlers.ran() == 2);
    // No time passes, nothing is given back, and no thread is needed but control's.
    bench.run_control();
    CHECK(bench.handlers.ran() == 2 + 992);
    for (std::size_t request = 8; request < answers.size(); ++request) {
        REQUIRE(answers[request].calls() == 1);
        REQUIRE(answers[request].code() == errc::overloaded);
        REQUIRE_THAT(answers[request].error().what(), contains_text("try again later"));
    }
    first.value().release();
    second.value().release();
    bench.run();
    for (std::size_t request = 0; request < 8; ++request) {
        REQUIRE(answers[request].calls() == 1);
        CHECK_FALSE(answers[request].exception());
    }
    bench.finish(1002);
}

TEST_CASE("Review: a flood from threads is answered to the last request, within the limits", "[R8][R9]") {
    SlotOptions options;
    options.max_leases = 2;
    options.max_queue = 8;
    ThreadedManager bench({.embedding = options});
    std::vector<Outcome<Embeddings>> answers(800);
    {
        std::vector<std::jthread> threads;
        for (std::size_t thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (std::size_t index = thread; index < answers.size(); index += 4) {
                    answers[index] = bench.embed(index % 5 == 0 ? b : a);
                }
            });
        }
    }
    std::size_t answered = 0;
    std::size_t overloaded = 0;
    for (const auto& answer : answers) {
        answer.wait();
        answered += answer.exception() ? 0 : 1;
        overloaded += answer.code() == errc::overloaded ? 1 : 0;
    }
    CHECK(answered + overloaded == 800);
    const SlotCounters counters = bench.manager->embedding().status().counters;
    CHECK(counters.overloaded == overloaded);
    CHECK(counters.leases_granted == answered);
    CHECK(counters.most_leases <= 2);
    CHECK(counters.most_waiting <= 8);
    CHECK(bench.world->counts().most_calling <= 2);
    bench.finish(800);
}

}  // namespace shutdown3_test
