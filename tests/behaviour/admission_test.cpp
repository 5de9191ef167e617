// S23 to S25, H4, H5, R8: which requests are let in, how long they wait, and that they give back what they took.

#include "support/bench.hpp"

#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>

namespace admission_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

SlotOptions limits(std::size_t most_leases, std::size_t most_waiting) {
    SlotOptions options;
    options.max_leases = most_leases;
    options.max_queue = most_waiting;
    return options;
}

RequestOptions with_timeout(std::chrono::milliseconds timeout) {
    RequestOptions options;
    options.timeout = timeout;
    return options;
}

void check_overloaded(const Error& error) {
    CHECK(error.code() == errc::overloaded);
    CHECK(error.code() == condition::capacity);
    CHECK(error.code() == condition::retryable);
    CHECK(error.stage() == Stage::admission);
    CHECK_THAT(error.what(), contains_text("try again later"));
}

}  // namespace

// -- 23 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S23: a full queue rejects at once, with the model ready, one text or a thousand", "[S23][R8][R9][H4]") {
    ManagerBench bench({.embedding = limits(2, 3)});
    std::vector<Outcome<FakeLease>> leases;
    for (int lease = 0; lease < 2; ++lease) {
        leases.push_back(bench.acquire(a));
    }
    bench.run();
    CHECK(bench.manager->embedding().status().residents.front().state == ResidentState::ready);
    std::vector<Outcome<FakeLease>> waiters;
    for (int waiter = 0; waiter < 3; ++waiter) {
        waiters.push_back(bench.acquire(a));
    }
    const std::size_t before = bench.handlers.ran();

    const auto single = bench.embed(a);
    const auto batch = bench.embed(a, std::vector<std::string>(1000, "text"));
    const auto lease = bench.acquire(a);
    const auto other_key = bench.acquire(b);
    const auto other_load = bench.ensure(b);
    const auto urgent = bench.acquire(a, {.priority = Priority::high});
    CHECK(bench.handlers.ran() == before);
    bench.run_control();
    CHECK(bench.handlers.ran() == before + 6);
    check_overloaded(single.error());
    check_overloaded(batch.error());
    check_overloaded(lease.error());
    check_overloaded(other_key.error());
    check_overloaded(other_load.error());
    check_overloaded(urgent.error());
    // Nothing to do needs no place.
    const auto empty = bench.embed(a, {});
    // The model is ready, so `ensure_loaded` completes whatever waits for a lease, and needs no place (H4).
    const auto load = bench.ensure(a);
    bench.run();
    CHECK_FALSE(empty.exception());
    REQUIRE(load.calls() == 1);
    CHECK_FALSE(load.exception());

    const SlotCounters counters = bench.manager->embedding().status().counters;
    CHECK(counters.overloaded == 6);
    CHECK(counters.most_waiting == 3);
    CHECK(counters.most_leases == 2);
    CHECK(bench.world->counts().loads == 1);
    // The first refusal is an event at once; the others of the second are summed up (H19).
    REQUIRE(bench.events.count(EventType::rejected) == 1);
    bench.advance(1s);
    REQUIRE(bench.events.count(EventType::rejected) == 2);
    CHECK(bench.events.all().back().count == 5);
    CHECK(bench.events.all().back().key == a);
    leases.clear();
    bench.run();
    for (auto& waiter : waiters) {
        REQUIRE(waiter.calls() == (&waiter == &waiters.back() ? 0 : 1));
    }
    waiters.front().value().release();
    bench.run();
    CHECK(waiters.back().calls() == 1);
    waiters.clear();
    bench.finish(13);
}

TEST_CASE("A request that can be granted at once needs no place in the queue", "[H4][R8]") {
    SlotBench bench({.max_resident = 2, .max_leases = 3, .max_queue = 1});
    FakeLease held = bench.lease(a);
    Request<FakeLease> waiter;
    bench.slot->async_acquire(b, waiter.token());
    REQUIRE(bench.slot->status().waiting == 1);

    // The queue is full, and this one does not need it.
    Outcome<FakeLease> quick;
    Outcome<Generation> known;
    bench.slot->async_acquire(a, quick.handler());
    bench.slot->async_ensure_loaded(a, known.handler());
    run_ready(bench.control);
    CHECK(quick.calls() == 1);
    CHECK(known.calls() == 1);
    CHECK(quick.value()->serial() == held->serial());
    CHECK(known.value() == held.generation());
    CHECK(bench.slot->status().counters.overloaded == 0);
    bench.run();
    REQUIRE(waiter.calls() == 1);
    waiter.value().release(), quick.value().release(), held.release();
    bench.check_end();
}

TEST_CASE("Any request that must wait needs a place, ensure_loaded like acquire", "[S23][H4][R8]") {
    SlotBench bench({.max_queue = 2});
    Outcome<Generation> first;
    Outcome<FakeLease> second;
    Outcome<Generation> third;
    Outcome<FakeLease> fourth;
    bench.slot->async_ensure_loaded(a, first.handler());
    bench.slot->async_acquire(a, second.handler());
    bench.slot->async_ensure_loaded(a, third.handler());
    bench.slot->async_acquire(a, fourth.handler());
    CHECK(bench.slot->status().waiting == 2);
    run_ready(bench.control);
    REQUIRE(third.calls() == 1);
    REQUIRE(fourth.calls() == 1);
    check_overloaded(third.error());
    check_overloaded(fourth.error());
    CHECK(first.calls() == 0);
    bench.run();
    CHECK(first.calls() == 1);
    REQUIRE(second.calls() == 1);
    CHECK(bench.slot->status().counters.overloaded == 2);
    // Summed up: one at once, the other with the next second (H19).
    CHECK(bench.events.count(EventType::rejected) == 1);
    bench.advance(1s);
    CHECK(bench.events.count(EventType::rejected) == 2);
    second.value().release();
    bench.check_end();
}

TEST_CASE("S23: a flood of threads is answered, one by one, within the limits", "[S23][R8][R9]") {
    ThreadedManager bench({.embedding = limits(2, 3)});
    const auto gate = bench.world->block(FakeStep::inference, a);
    bench.manager->embedding().ensure_loaded(a);
    std::vector<Outcome<Embeddings>> answers(2 + 3 + 35);
    {
        std::vector<std::jthread> threads;
        for (std::size_t thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (std::size_t index = thread; index < answers.size(); index += 4) {
                    answers[index] = bench.embed(a);
                }
            });
        }
    }
    // Two run and three wait until the gate opens; all others are answered while it is closed.
    std::size_t overloaded = 0;
    bench.world->await(a, [](const auto& counts) { return counts.calling == 2; });
    CHECK(bench.manager->embedding().status().waiting == 3);
    CHECK(bench.manager->embedding().status().counters.overloaded == 35);
    gate->open();
    for (const auto& answer : answers) {
        answer.wait();
        overloaded += answer.code() == errc::overloaded ? 1 : 0;
    }
    CHECK(overloaded == 35);
    CHECK(bench.world->counts(a).calls == 5);
    CHECK(bench.world->counts(a).most_calling == 2);
    const SlotCounters counters = bench.manager->embedding().status().counters;
    CHECK(counters.most_leases == 2);
    CHECK(counters.most_waiting == 3);
    bench.finish(40);
}

TEST_CASE("S23: a flood of threads over two keys is answered to the last request, within the limits", "[S23][R8][R9]") {
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

TEST_CASE("try_acquire gives nothing while its key has waiters or its resident drains", "[H4]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_leases = 2});
    CHECK_FALSE(bench.slot->try_acquire(a));
    CHECK(bench.world->counts().loads == 0);
    CHECK_FALSE(bench.resident(a));

    FakeLease held = bench.lease(a);
    FakeLease tried = bench.slot->try_acquire(a);
    REQUIRE(tried);
    CHECK(tried->serial() == held->serial());
    CHECK_FALSE(bench.slot->try_acquire(a));

    SECTION("waiters") {
        Outcome<FakeLease> waiter;
        bench.slot->async_acquire(a, waiter.handler());
        tried.release();
        // The waiter alone has it now.
        CHECK(bench.slot->status().leases == 2);
        bench.run();
        REQUIRE(waiter.calls() == 1);
        waiter.value().release();
    }
    SECTION("drain for a switch") {
        tried.release();
        Request<FakeLease> other;
        bench.slot->async_acquire(b, other.token());
        REQUIRE(bench.is(a, ResidentState::draining));
        CHECK_FALSE(bench.slot->try_acquire(a));
        other.cancel();
        REQUIRE(bench.is(a, ResidentState::ready));
        CHECK(bench.slot->try_acquire(a));
        bench.run();
    }
    SECTION("drain for an unload") {
        tried.release();
        Outcome<> unloaded;
        bench.slot->async_unload(a, unloaded.handler());
        REQUIRE(bench.is(a, ResidentState::draining));
        CHECK_FALSE(bench.slot->try_acquire(a));
        held.release();
        CHECK_FALSE(bench.slot->try_acquire(a));
        bench.run();
        CHECK(unloaded.calls() == 1);
    }
    SECTION("shutdown") {
        tried.release();
        held.release();
        Outcome<ShutdownReport> report;
        bench.slot->async_shutdown(report.handler());
        CHECK_FALSE(bench.slot->try_acquire(a));
        bench.run();
        CHECK(report.calls() == 1);
    }
    tried.release(), held.release();
    bench.check_end();
}

// -- 24 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S24: a timeout fires while the load is stuck, and says so", "[S24][R9]") {
    ManagerBench bench;
    const auto late = bench.embed(a, {"text"}, with_timeout(100ms));
    auto patient = bench.embed(a);
    bool stop_requested = true;
    bench.world->on(FakeStep::load, [&](const testing::FakeCall& call) {
        VirtualClock::advance(100ms - 1ns);
        bench.run_without_loading();
        CHECK(late.calls() == 0);
        VirtualClock::advance(1ns);
        bench.run_without_loading();
        REQUIRE(late.calls() == 1);
        stop_requested = call.stop.stop_requested();
    });
    bench.run();
    REQUIRE(late.calls() == 1);
    CHECK(late.code() == errc::timed_out);
    CHECK(late.code() == condition::retryable);
    CHECK(late.error().stage() == Stage::load);
    CHECK(late.error().key() == a);
    CHECK_FALSE(stop_requested);
    // The load went on for who had more patience.
    REQUIRE(patient.calls() == 1);
    CHECK(testing::answered_by(patient.value()) == 1);
    CHECK(bench.world->counts(a).calls == 1);
    CHECK(bench.manager->embedding().status().counters.timed_out == 1);
    CHECK(bench.events.count(EventType::timed_out) == 1);
    bench.finish(2);
}

TEST_CASE("S24: a timeout names the stage that it ended in: queue, load or inference", "[S24][R9][H13][H14]") {
    ManagerBench bench({.embedding = limits(1, 10)});
    // In the queue for a lease.
    auto lease = bench.acquire(a);
    bench.run();
    const auto queued = bench.embed(a, {"text"}, with_timeout(1s));
    // In the queue for a place: the model that it waits for is not even loading.
    const auto needs_place = bench.embed(b, {"text"}, with_timeout(1s));
    bench.advance(1s - 1ns);
    CHECK(queued.calls() == 0);
    // By the alarm alone.
    bench.advance(1ns);
    CHECK(queued.code() == errc::timed_out);
    CHECK(queued.error().stage() == Stage::queue);
    CHECK(needs_place.code() == errc::timed_out);
    CHECK(needs_place.error().stage() == Stage::queue);
    CHECK(bench.manager->embedding().status().waiting == 0);
    CHECK(bench.manager->embedding().status().counters.timed_out == 2);
    CHECK(bench.events.count(EventType::timed_out) == 2);
    lease.value().release();

    // In the model: its caller goes at once, the lease lives until the model returns, and the model is asked to stop.
    const auto running = bench.embed(a, {"text"}, with_timeout(1s));
    bool stop_requested = false;
    bench.world->on(FakeStep::inference, [&](const testing::FakeCall& call) {
        VirtualClock::advance(1s - 1ns);
        bench.run_control();
        CHECK(running.calls() == 0);
        CHECK_FALSE(call.stop.stop_requested());
        VirtualClock::advance(1ns);
        bench.run_control();
        CHECK(running.calls() == 1);
        CHECK(bench.manager->embedding().status().leases == 1);
        stop_requested = call.stop.stop_requested();
    });
    bench.run();
    CHECK(stop_requested);
    REQUIRE(running.calls() == 1);
    CHECK(running.code() == errc::timed_out);
    CHECK(running.error().stage() == Stage::inference);
    CHECK(bench.manager->embedding().status().leases == 0);
    bench.world->on(FakeStep::inference, {});

    // Waiting for a thread to run on is the same stage, and the model is then not bothered at all.
    const std::size_t calls = bench.world->counts(a).calls;
    const auto no_thread = bench.embed(a, {"text"}, with_timeout(1s));
    VirtualClock::advance(1s);
    bench.run_control();
    REQUIRE(no_thread.calls() == 1);
    CHECK(no_thread.error().stage() == Stage::inference);
    // Its lease lives until the thread would have been there.
    CHECK(bench.manager->embedding().status().leases == 1);
    bench.run();
    CHECK(bench.manager->embedding().status().leases == 0);
    CHECK(bench.world->counts(a).calls == calls);
    bench.finish(5);
}

TEST_CASE("S24: threads whose load is stuck return when their time is up", "[S24][R9]") {
    ThreadedManager bench;
    const auto gate = bench.world->block(FakeStep::load, a);
    const auto patient = bench.embed(a);
    gate->await_held();
    std::atomic<int> right{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                try {
                    (void)bench.manager->embed(a, {"text"}, with_timeout(1ms));
                } catch (const Error& error) {
                    right += error.code() == errc::timed_out && error.stage() == Stage::load ? 1 : 0;
                }
            });
        }
    }
    CHECK(right == 4);
    CHECK(patient.calls() == 0);
    gate->open();
    patient.wait();
    CHECK_FALSE(patient.exception());
    CHECK(bench.world->counts(a).calls == 1);
    bench.finish(1);
}

TEST_CASE("S24: a deadline in the past gets what can be had at once, and nothing else", "[S24][bad_input]") {
    SlotBench bench;
    for (const auto timeout : {0ms, -1ms, -5'000ms, std::chrono::milliseconds::min()}) {
        auto late = bench.acquire(a, {.timeout = timeout});
        bench.run();
        CHECK(late.code() == errc::timed_out);
        CHECK(late.error().stage() == Stage::queue);
    }
    CHECK(bench.world->counts().loads == 0);
    bench.load(a);
    auto lease = bench.acquire(a, {.timeout = -1ms});
    bench.run();
    CHECK(lease.value());
    lease.value().release();
    bench.finish(6);
}

// -- 25 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S25: a waiter that was cancelled never reaches the backend", "[S25][R9]") {
    ManagerBench bench({.embedding = limits(1, 10)});
    // Before its load begins: there is no load at all.
    asio::cancellation_signal leave_load;
    const auto unloaded = bench.embed(a, {"text"}, {}, leave_load.slot());
    leave_load.emit(asio::cancellation_type::total);
    bench.run();
    CHECK(unloaded.code() == asio::error::operation_aborted);
    CHECK(bench.world->counts().loads == 0);

    // Before its lease is granted: the model is not called.
    auto lease = bench.acquire(a);
    bench.run();
    asio::cancellation_signal leave_queue;
    const auto queued = bench.embed(a, {"text"}, {}, leave_queue.slot());
    const auto stays = bench.embed(a);
    bench.run();
    leave_queue.emit(asio::cancellation_type::partial);
    lease.value().release();
    bench.run();
    CHECK(queued.code() == asio::error::operation_aborted);
    CHECK_FALSE(stays.exception());
    CHECK(bench.world->counts(a).calls == 1);

    // After it was granted, before it has a thread: only terminal cancellation lets the caller go, and the model is not
    // called either.
    asio::cancellation_signal leave_call;
    const auto granted = bench.embed(a, {"text"}, {}, leave_call.slot());
    CHECK(bench.manager->embedding().status().leases == 1);
    leave_call.emit(asio::cancellation_type::terminal);
    bench.run();
    CHECK(granted.code() == asio::error::operation_aborted);
    CHECK(bench.world->counts(a).calls == 1);
    CHECK(bench.manager->embedding().status().leases == 0);
    bench.finish(5);
}

TEST_CASE("S25: every way in which a request can end gives back what it took", "[S25][R9][R8]") {
    struct Path {
        const char* name;
        // Makes a request, or several, that end in one way; gives how many handlers that took.
        std::function<std::size_t(ManagerBench&)> walk;
    };
    const auto expect = [](const Outcome<Embeddings>& answer, boost::system::error_code code) {
        REQUIRE(answer.calls() == 1);
        CHECK(answer.code() == code);
    };
    const std::vector<Path> paths{
        {"an answer",
         [&](ManagerBench& bench) {
             const auto answer = bench.embed(a);
             bench.run();
             expect(answer, {});
             return 1;
         }},
        {"a model that throws",
         [&](ManagerBench& bench) {
             bench.world->fail_next(FakeStep::inference, a, std::runtime_error("broken"));
             const auto answer = bench.embed(a);
             bench.run();
             expect(answer, errc::inference_failed);
             return 1;
         }},
        {"a bad result",
         [&](ManagerBench& bench) {
             bench.world->spoil_next(FakeFault::nan, a);
             const auto answer = bench.embed(a);
             bench.run();
             expect(answer, errc::bad_result);
             return 1;
         }},
        {"a load that fails",
         [&](ManagerBench& bench) {
             bench.world->fail_next(FakeStep::load, a, std::runtime_error("broken"));
             const auto answer = bench.embed(a);
             bench.run();
             expect(answer, errc::load_failed);
             const auto cooling = bench.embed(a);
             bench.run();
             expect(cooling, errc::cooling_down);
             bench.advance(1min);
             return 2;
         }},
        {"a timeout while it waits",
         [&](ManagerBench& bench) {
             auto lease = bench.acquire(a);
             auto other = bench.acquire(a);
             bench.run();
             const auto answer = bench.embed(a, {"text"}, with_timeout(1s));
             bench.advance(1s);
             expect(answer, errc::timed_out);
             return 3;
         }},
        {"a timeout while the model works",
         [&](ManagerBench& bench) {
             during(*bench.world, FakeStep::inference, [&bench] {
                 VirtualClock::advance(1s);
                 bench.run_control();
             });
             const auto answer = bench.embed(a, {"text"}, with_timeout(1s));
             bench.run();
             expect(answer, errc::timed_out);
             return 1;
         }},
        {"cancelled while it waits",
         [&](ManagerBench& bench) {
             asio::cancellation_signal leave;
             const auto answer = bench.embed(a, {"text"}, {}, leave.slot());
             leave.emit(asio::cancellation_type::total);
             bench.run();
             expect(answer, asio::error::operation_aborted);
             return 1;
         }},
        {"cancelled while the model works",
         [&](ManagerBench& bench) {
             asio::cancellation_signal leave;
             during(*bench.world, FakeStep::inference, [&] { leave.emit(asio::cancellation_type::terminal); });
             const auto answer = bench.embed(a, {"text"}, {}, leave.slot());
             bench.run();
             expect(answer, asio::error::operation_aborted);
             return 1;
         }},
        {"revoked while the model works",
         [&](ManagerBench& bench) {
             Outcome<> unload;
             during(*bench.world, FakeStep::inference, [&] { unload = bench.unload(a, UnloadMode::revoke); });
             const auto answer = bench.embed(a);
             bench.run();
             expect(answer, errc::model_changed);
             CHECK(unload.calls() == 1);
             return 2;
         }},
        {"expecting another residency",
         [&](ManagerBench& bench) {
             RequestOptions options;
             options.expected_generation = Generation(17);
             const auto answer = bench.embed(a, {"text"}, options);
             bench.run();
             expect(answer, errc::model_changed);
             return 1;
         }},
        {"overloaded",
         [&](ManagerBench& bench) {
             std::vector<Outcome<Embeddings>> answers;
             for (int call = 0; call < 5; ++call) {
                 answers.push_back(bench.embed(a));
             }
             bench.run();
             expect(answers.back(), errc::overloaded);
             return 5;
         }},
    };
    for (const Path& path : paths) {
        INFO(path.name);
        ManagerBench bench({.embedding = limits(2, 2)});
        const std::size_t handlers = path.walk(bench) + path.walk(bench) + path.walk(bench);
        // Exactly as many leases and places as ever.
        std::vector<Outcome<FakeLease>> leases;
        for (int request = 0; request < 5; ++request) {
            leases.push_back(bench.acquire(a));
            bench.run();
        }
        const SlotStatus status = bench.manager->embedding().status();
        CHECK(status.leases == 2);
        CHECK(status.waiting == 2);
        CHECK(leases[0].value());
        CHECK(leases[1].value());
        CHECK(leases[2].calls() == 0);
        CHECK(leases[3].calls() == 0);
        check_overloaded(leases[4].error());
        leases[0].value().release();
        leases[1].value().release();
        bench.run();
        CHECK(leases[2].value());
        CHECK(leases[3].value());
        leases.clear();
        bench.finish(handlers + 5);
    }
}

TEST_CASE("S25: threads that cancel while others are granted leave the capacity as it was", "[S25][R9][R8]") {
    ThreadedManager bench({.embedding = limits(2, 100)});
    std::atomic<int> answered{0};
    std::atomic<int> cancelled{0};
    std::atomic<int> other{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                asio::io_context here;
                for (int round = 0; round < 50; ++round) {
                    asio::cancellation_signal leave;
                    Outcome<Embeddings> answer;
                    bench.manager->async_embed(
                        a, {"text"},
                        asio::bind_cancellation_slot(
                            leave.slot(), asio::bind_executor(here, bench.handlers.count(answer.handler()))));
                    if ((thread + round) % 2 == 0) {
                        asio::post(here, [&] { leave.emit(asio::cancellation_type::terminal); });
                    }
                    here.restart();
                    here.run();
                    const boost::system::error_code code = answer.code();
                    (code == asio::error::operation_aborted ? cancelled
                     : code                                 ? other
                                                            : answered) += static_cast<int>(answer.calls());
                }
            });
        }
    }
    CHECK(answered + cancelled == 200);
    CHECK(answered >= 100);
    CHECK(other == 0);
    // What was cancelled while it ran has its lease until its model returns.
    bench.manager->embedding().unload();
    bench.manager->embedding().ensure_loaded(a);
    FakeLease first = bench.manager->embedding().try_acquire(a);
    FakeLease second = bench.manager->embedding().try_acquire(a);
    CHECK(first);
    CHECK(second);
    CHECK_FALSE(bench.manager->embedding().try_acquire(a));
    CHECK(bench.world->counts(a).most_calling <= 2);
    first.release();
    second.release();
    bench.finish(200);
}

// -- 26 ---------------------------------------------------------------------------------------------------------------

// -- The order of the checks ------------------------------------------------------------------------------------------

TEST_CASE("Checks come in order: an invalid request is that first of all", "[H5]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<ShutdownReport> report;
    models.async_shutdown(report.handler());
    bench.run();
    REQUIRE(report.calls() == 1);
    Outcome<Embeddings> nameless;
    Outcome<Embeddings> nameless_and_empty;
    Outcome<Ranking> no_query;
    models.async_embed(ModelKey(""), {"text"}, nameless.handler());
    models.async_embed(ModelKey(""), {}, nameless_and_empty.handler());
    models.async_rerank(a, "", {}, no_query.handler());
    bench.run();
    CHECK(nameless.code() == errc::invalid_request);
    CHECK(nameless_and_empty.code() == errc::invalid_request);
    CHECK(no_query.code() == errc::invalid_request);
    bench.check_nothing_left();
}

TEST_CASE("Checks come in order: after shutdown even an empty list is refused", "[H5]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Embeddings> empty_before;
    Outcome<Ranking> no_documents_before;
    models.async_embed(a, {}, empty_before.handler());
    models.async_rerank(a, "query", {}, no_documents_before.handler());
    bench.run();
    CHECK(empty_before.value().empty());
    CHECK(no_documents_before.value().empty());
    CHECK(bench.world->counts().loads == 0);
    bench.check_end();

    Outcome<Embeddings> empty;
    Outcome<Ranking> no_documents;
    Outcome<Embeddings> changed;
    models.async_embed(a, {}, empty.handler());
    models.async_rerank(a, "query", {}, no_documents.handler());
    models.async_embed(a, {"text"}, {.expected_generation = Generation{7}}, changed.handler());
    bench.run();
    CHECK(empty.code() == errc::shutting_down);
    CHECK(no_documents.code() == errc::shutting_down);
    CHECK(changed.code() == errc::shutting_down);
    bench.check_nothing_left();
}

TEST_CASE("Checks come in order: an empty list is answered before the generation is compared", "[H5]") {
    ManagerBench bench;
    Outcome<Embeddings> empty;
    Outcome<Embeddings> changed;
    bench.manager->async_embed(a, {}, {.expected_generation = Generation{7}}, empty.handler());
    bench.manager->async_embed(a, {"text"}, {.expected_generation = Generation{7}}, changed.handler());
    bench.run();
    CHECK(empty.code() == boost::system::error_code());
    CHECK(empty.value().empty());
    CHECK(changed.code() == errc::model_changed);
    CHECK(bench.world->counts().loads == 0);
    bench.check_end();
}

TEST_CASE("Checks come in order: model_changed comes before grant, cooling_down and overloaded", "[H5]") {
    SlotBench bench({.max_resident = 2, .max_leases = 1, .max_queue = 1});
    bench.world->fail_next(FakeStep::load, b, std::runtime_error("broken"));
    Outcome<Generation> broken;
    bench.slot->async_ensure_loaded(b, broken.handler());
    bench.run();
    REQUIRE(broken.code() == errc::load_failed);

    FakeLease held = bench.lease(a);
    held.release();
    const RequestOptions other{.expected_generation = Generation{99}};
    Outcome<FakeLease> ready;
    bench.slot->async_acquire(a, other, ready.handler());
    Outcome<FakeLease> cooling;
    bench.slot->async_acquire(b, other, cooling.handler());
    held = bench.lease(a);
    Outcome<FakeLease> waits;
    bench.slot->async_acquire(a, waits.handler());
    Outcome<FakeLease> full;
    bench.slot->async_acquire(a, other, full.handler());
    bench.run();
    CHECK(ready.code() == errc::model_changed);
    CHECK(cooling.code() == errc::model_changed);
    CHECK(full.code() == errc::model_changed);
    CHECK(full.error().stage() == Stage::admission);
    held.release();
    bench.run();
    REQUIRE(waits.calls() == 1);
    waits.value().release();
    bench.check_end();
}

TEST_CASE("Checks come in order: cooling_down comes before overloaded", "[H5]") {
    SlotBench bench({.max_queue = 1, .cooldown = 1s});
    bench.world->fail_next(FakeStep::load, b, std::runtime_error("broken"));
    Outcome<Generation> broken;
    bench.slot->async_ensure_loaded(b, broken.handler());
    bench.run();
    REQUIRE(broken.code() == errc::load_failed);

    Request<FakeLease> waits;
    bench.slot->async_acquire(a, waits.token());
    Outcome<FakeLease> cooling;
    Outcome<FakeLease> refused;
    bench.slot->async_acquire(b, cooling.handler());
    bench.slot->async_acquire(ModelKey("c"), refused.handler());
    run_ready(bench.control);
    CHECK(cooling.code() == errc::cooling_down);
    CHECK(cooling.error().retry_after() == 1s);
    CHECK(cooling.error().stage() == Stage::admission);
    CHECK(refused.code() == errc::overloaded);
    CHECK(bench.world->counts(b).loads == 1);
    waits.cancel();
    bench.run();
    CHECK(waits.calls() == 1);
    bench.check_end();
}

}  // namespace admission_test
