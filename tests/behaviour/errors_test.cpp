// Scenarios 27 to 29: what models and observers do wrong.

#include "support/bench.hpp"

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

namespace errors_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// -- 27 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S27: a model that throws fails that request, with the cause, and the next one works", "[S27][R9]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("token 30,000 is out of range"));
    bench.world->fail_next(FakeStep::inference, b, std::runtime_error("no logits"));
    const auto embed = bench.embed(a);
    const auto rerank = bench.rerank(b);
    bench.run();
    for (const Error& error : {embed.error(), rerank.error()}) {
        CHECK(error.code() == errc::inference_failed);
        CHECK(error.code() == condition::backend);
        CHECK(error.stage() == Stage::inference);
    }
    CHECK(embed.error().key() == a);
    CHECK(rerank.error().key() == b);
    CHECK_THAT(embed.error().what(), contains_text("token 30,000 is out of range"));
    CHECK(nested_message(embed.exception()) == "token 30,000 is out of range");
    CHECK(nested_message(rerank.exception()) == "no logits");
    CHECK(bench.events.count(EventType::inference_failed) == 2);

    const Generation generation = bench.manager->embedding().generation();
    auto again = bench.embed(a);
    auto again_too = bench.rerank(b);
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(bench.world->model(testing::answered_by(again.value())).key == a);
    REQUIRE(again_too.calls() == 1);
    CHECK(again_too.value().size() == 2);
    // On the same models: a request that fails is no reason to load again.
    CHECK(bench.manager->embedding().generation() == generation);
    CHECK(bench.world->counts().loads == 2);
    CHECK(bench.manager->embedding().status().leases == 0);
    CHECK(bench.manager->embedding().status().failures.empty());
    bench.finish(4);
}

TEST_CASE("S27: what a model throws keeps its code if it has one, and may be anything", "[S27][R9]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::inference, a,
                           Error(errc::invalid_request, a, Stage::inference, "a text is longer than the context"));
    const auto own_code = bench.embed(a);
    bench.run();
    CHECK(own_code.code() == errc::invalid_request);
    CHECK_THAT(own_code.error().what(), contains_text("a text is longer than the context"));
    CHECK(own_code.error().stage() == Stage::inference);
    bench.world->fail_next(FakeStep::inference, a, 17);
    const auto no_exception = bench.embed(a);
    bench.run();
    CHECK(no_exception.code() == errc::inference_failed);
    CHECK(nested_message(no_exception.exception()) == "not a std::exception");
    bench.finish(2);
}

TEST_CASE("S27: of threads that use one model, only those whose call throws see it", "[S27][R9][R10]") {
    ThreadedManager bench;
    // Held until all threads are done with it: TSan does not see the counts in libstdc++ by which threads share an
    // exception.
    const std::exception_ptr cause = std::make_exception_ptr(std::runtime_error("broken"));
    bench.world->fail_next(FakeStep::inference, a, cause, 20);
    std::atomic<int> failed{0};
    std::atomic<int> served{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    const boost::system::error_code code = code_of([&] { (void)bench.manager->embed(a, {"text"}); });
                    failed += code == errc::inference_failed ? 1 : 0;
                    served += code ? 0 : 1;
                }
            });
        }
    }
    CHECK(failed == 20);
    CHECK(served == 60);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(0);
}

// -- 28 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S28: too few rows, too many, or a NaN are a bad result, and nothing else is harmed", "[S28][R9]") {
    const FakeFault fault = GENERATE(FakeFault::too_few, FakeFault::too_many, FakeFault::nan);
    ManagerBench bench;
    auto bystander = bench.acquire(a);
    bench.run();
    bench.world->spoil_next(fault, a);
    bench.world->spoil_next(fault, b);
    const auto embed = bench.embed(a, {"one", "two", "three"});
    const auto rerank = bench.rerank(b, {"one", "two", "three"});
    auto beside = bench.embed(a, {"one", "two", "three"});
    bench.run();
    for (const Error& error : {embed.error(), rerank.error()}) {
        CHECK(error.code() == errc::bad_result);
        CHECK(error.code() == condition::backend);
        CHECK(error.stage() == Stage::inference);
    }
    const std::string said = fault == FakeFault::nan ? "NaN" : fault == FakeFault::too_few ? "gave 2" : "gave 4";
    CHECK_THAT(embed.error().what(), contains_text(said));
    CHECK_THAT(rerank.error().what(), contains_text(said));
    REQUIRE(beside.calls() == 1);
    CHECK(beside.value().size() == 3);
    CHECK(testing::answered_by(beside.value()) == 1);

    auto again = bench.rerank(b, {"one", "two", "three"});
    bench.run();
    REQUIRE(again.calls() == 1);
    CHECK(again.value().size() == 3);
    CHECK(bystander.value()->serial() == 1);
    CHECK_FALSE(bystander.value().revoked());
    CHECK(bench.world->counts().loads == 2);
    CHECK(bench.manager->embedding().status().leases == 1);
    bystander.value().release();
    bench.finish(5);
}

TEST_CASE("S28: of threads that use one model, only those whose answer is bad see it", "[S28][R9]") {
    ThreadedManager bench;
    bench.world->spoil_next(FakeFault::too_few, a, 10);
    bench.world->spoil_next(FakeFault::nan, a, 10);
    std::atomic<int> bad{0};
    std::atomic<int> served{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 20; ++call) {
                    const boost::system::error_code code = code_of([&] {
                        (void)bench.manager->embed(a, {"one", "two"});
                    });
                    bad += code == errc::bad_result ? 1 : 0;
                    served += code ? 0 : 1;
                }
            });
        }
    }
    CHECK(bad == 20);
    CHECK(served == 60);
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(0);
}

// -- 29 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S29: an observer that throws harms no request, and gets all other events", "[S29][R10]") {
    ManagerBench bench;
    const bool a_std_exception = GENERATE(true, false);
    bench.events.on_event([a_std_exception](const Event&) {
        if (a_std_exception) {
            throw std::runtime_error("the log is full");
        }
        throw 17;
    });
    const auto answer = bench.embed(a);
    bench.run();
    CHECK_FALSE(answer.exception());
    const auto unload = bench.unload(a);
    bench.run();
    CHECK(unload.calls() == 1);
    CHECK(bench.events.lines() ==
          Lines{"load_started a", "ready a", "unload_started a (unload)", "unloaded a (unload)"});
    bench.finish(2);
}

TEST_CASE("S29: an observer may call back into the manager, with what does not block", "[S29][R10]") {
    ManagerBench bench;
    std::vector<Outcome<FakeLease>> leases;
    std::vector<Outcome<>> unloads;
    std::vector<Outcome<Embeddings>> answers;
    std::vector<boost::system::error_code> blocking;
    bench.events.on_event([&](const Event& event) {
        (void)bench.manager->status();
        (void)bench.manager->embedding().generation();
        if (event.slot != "embedding") {
            return;
        }
        switch (event.type) {
            case EventType::load_started:
                leases.push_back(bench.acquire(event.key));
                answers.push_back(bench.embed(event.key));
                // One that blocks could wait for the very thread that the observer is on: it is refused.
                blocking.push_back(code_of([&] { (void)bench.manager->embed(event.key, {"text"}); }));
                blocking.push_back(code_of([&] { (void)bench.manager->embedding().acquire(event.key); }));
                blocking.push_back(code_of([&] { (void)bench.manager->embedding().ensure_loaded(event.key); }));
                blocking.push_back(code_of([&] { bench.manager->embedding().unload(); }));
                blocking.push_back(code_of([&] { (void)bench.manager->shutdown(); }));
                break;
            case EventType::ready:
                CHECK(bench.manager->embedding().try_acquire(event.key));
                unloads.push_back(bench.unload(event.key));
                break;
            case EventType::unload_started:
                // It is published before the model is gone.
                CHECK(bench.world->counts(event.key).live == 1);
                CHECK_FALSE(bench.manager->embedding().try_acquire(event.key));
                break;
            case EventType::unloaded: CHECK(bench.world->counts(event.key).live == 0); break;
            default: break;
        }
    });
    const auto first = bench.embed(a);
    bench.run();
    CHECK_FALSE(first.exception());
    REQUIRE(leases.size() == 1);
    REQUIRE(leases[0].calls() == 1);
    REQUIRE(unloads.size() == 1);
    CHECK(unloads[0].calls() == 0);
    REQUIRE(blocking.size() == 5);
    for (const auto& code : blocking) {
        CHECK(code == errc::would_deadlock);
    }
    leases[0].value().release();
    bench.run();
    CHECK(unloads[0].calls() == 1);
    REQUIRE(answers.size() == 1);
    CHECK_FALSE(answers[0].exception());
    CHECK(bench.world->counts(a).live == 0);
    bench.events.on_event({});
    bench.finish(4);
}

TEST_CASE("S29: an observer may shut the manager down", "[S29][R10][R12]") {
    ManagerBench bench;
    Outcome<ShutdownReport> report;
    bench.events.on_event([&](const Event& event) {
        if (event.type == EventType::load_started) {
            report = bench.shutdown();
        }
    });
    const auto answer = bench.embed(a);
    bench.run();
    REQUIRE(answer.calls() == 1);
    // Nothing waits for an observer: the answer was under way when the event came.
    CHECK_FALSE(answer.exception());
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    const auto late = bench.embed(a);
    bench.run();
    CHECK(late.code() == errc::shutting_down);
    bench.events.on_event({});
    bench.check_ended(3);
}

TEST_CASE("S29: threads go on under an observer that throws and calls back", "[S29][R10]") {
    std::atomic<int> events{0};
    std::atomic<int> refused{0};
    std::atomic<ThreadedManager::Manager*> manager{nullptr};
    HandlerTally own;
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options, .reranker = options, .observer = [&](const Event& event) {
                               ++events;
                               if (ThreadedManager::Manager* const models = manager) {
                                   (void)models->status();
                                   (void)models->embedding().try_acquire(event.key);
                                   refused +=
                                       code_of([&] { models->embedding().unload(); }) == errc::would_deadlock ? 1 : 0;
                                   models->embedding().async_unload(own.count([](const std::exception_ptr&) {}));
                               }
                               throw std::runtime_error("the log is full");
                           }});
    manager = &*bench.manager;
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&, thread] {
                for (int call = 0; call < 20; ++call) {
                    if ((thread + call) % 2 == 0) {
                        (void)bench.manager->embed(a, {"text"});
                    } else {
                        (void)bench.manager->rerank(b, "query", {"document"});
                    }
                }
            });
        }
    }
    bench.manager->embedding().unload();
    bench.manager->reranker().unload();
    manager = nullptr;
    CHECK(bench.manager->shutdown().clean());
    bench.manager.reset();
    CHECK(events >= 4);
    CHECK(refused > 0);
    CHECK(own.ran() == own.made());
    bench.check_gone(0);
}

}  // namespace errors_test
