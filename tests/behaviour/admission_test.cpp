// Scenarios 23 to 26: who is let in, and in which order.

#include "support/bench.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>
#include <utility>

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

RequestOptions with_priority(Priority priority) {
    RequestOptions options;
    options.priority = priority;
    return options;
}

void check_overloaded(const Error& error) {
    CHECK(error.code() == errc::overloaded);
    CHECK(error.code() == condition::capacity);
    CHECK(error.code() == condition::retryable);
    CHECK(error.stage() == Stage::admission);
}

}  // namespace

// -- 23 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S23: a full queue rejects at once, with the model ready, one text or a thousand", "[S23][R8]") {
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
    const auto urgent = bench.acquire(a, with_priority(Priority::high));
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

TEST_CASE("S23: the queue is as full while nothing is loaded", "[S23][R8]") {
    SlotBench bench(limits(1, 2));
    auto first = bench.acquire(a);
    auto second = bench.ensure(a);
    const auto third = bench.acquire(a);
    CHECK(bench.slot->status().waiting == 2);
    bench.run_control();
    check_overloaded(third.error());
    bench.run();
    REQUIRE(first.calls() == 1);
    REQUIRE(second.calls() == 1);
    first.value().release();
    bench.finish(3);
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

TEST_CASE("S24: a timeout names the stage that it ended in: queue, load or inference", "[S24][R9]") {
    ManagerBench bench({.embedding = limits(1, 10)});
    // In the queue for a lease.
    auto lease = bench.acquire(a);
    bench.run();
    const auto queued = bench.embed(a, {"text"}, with_timeout(1s));
    // In the queue for a place: the model that it waits for is not even loading.
    const auto needs_place = bench.embed(b, {"text"}, with_timeout(1s));
    bench.advance(1s);
    CHECK(queued.code() == errc::timed_out);
    CHECK(queued.error().stage() == Stage::queue);
    CHECK(needs_place.code() == errc::timed_out);
    CHECK(needs_place.error().stage() == Stage::queue);
    lease.value().release();

    // In the model: its caller goes at once, the lease lives until the model returns, and the model is asked to stop.
    const auto running = bench.embed(a, {"text"}, with_timeout(1s));
    bool stop_requested = false;
    bench.world->on(FakeStep::inference, [&](const testing::FakeCall& call) {
        VirtualClock::advance(1s);
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
    bench.run();
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

TEST_CASE("S26: within a key the waiters are served by priority, then by arrival", "[S26][R9][H6]") {
    SlotBench bench(limits(1, 100));
    auto held = bench.acquire(a);
    bench.run();
    std::vector<Outcome<FakeLease>> waiters;
    for (const Priority priority : {Priority::low, Priority::normal, Priority::high, Priority::low, Priority::high}) {
        waiters.push_back(bench.acquire(a, with_priority(priority)));
    }
    FakeLease last = std::move(held.value());
    for (const std::size_t next : {2U, 4U, 1U, 0U, 3U}) {
        auto& waiter = waiters[next];
        CHECK(waiter.calls() == 0);
        last.release();
        bench.run();
        REQUIRE(waiter.calls() == 1);
        last = std::move(waiter.value());
    }
    last.release();
    bench.finish(6);
}

TEST_CASE(
    "S26: of several ready models the one whose best waiter ranks first is next, and every second lease goes by age",
    "[S26][R15]") {
    SlotOptions options = limits(1, 100);
    options.max_resident = 4;
    options.aging = 30s;
    SlotBench bench(options);
    const ModelKey d{"d", "f16"};
    for (const ModelKey& key : {a, b, c, d}) {
        bench.load(key);
    }
    auto held = bench.acquire(d);
    bench.run();
    auto low = bench.acquire(a, with_priority(Priority::low));
    auto normal = bench.acquire(b);
    auto high = bench.acquire(c, with_priority(Priority::high));
    bench.advance(29s);
    auto late = bench.acquire(d, with_priority(Priority::high));
    std::vector<Outcome<FakeLease>*> order{&high, &late, &normal, &low};
    if (GENERATE(false, true)) {
        // The first three have now waited for the aging: the oldest of them has every second lease. The last has not.
        bench.advance(1s);
        order = {&low, &high, &normal, &late};
    }
    held.value().release();
    for (auto* next : order) {
        bench.run();
        CHECK(bench.slot->status().leases == 1);
        REQUIRE(next->calls() == 1);
        next->value().release();
    }
    CHECK(bench.world->counts().loads == 4);
    bench.finish(9);
}

TEST_CASE("S26: a place goes to the key whose best waiter ranks first when the place becomes free", "[S26][R2][H6]") {
    SlotBench bench(limits(1, 100));
    const ModelKey d{"d", "f16"};
    auto held = bench.acquire(d);
    bench.run();
    auto low = bench.acquire(a, with_priority(Priority::low));
    // The resident drains for the first by now; that gives it no claim.
    auto low_too = bench.acquire(b, with_priority(Priority::low));
    auto high = bench.acquire(c, with_priority(Priority::high));
    held.value().release();
    for (auto* next : {&high, &low, &low_too}) {
        bench.run();
        REQUIRE(next->calls() == 1);
        next->value().release();
    }
    CHECK(bench.world->counts().most_resident == 1);
    bench.finish(4);
}

TEST_CASE("S26: a thread's requests are served in the order it made them", "[S26][R9]") {
    ThreadedSlot bench(limits(1, 1000));
    FakeLease held = bench.slot->acquire(a);
    // All on one executor, so that the order in which they are called is the order of the grants.
    asio::io_context here;
    std::vector<std::pair<int, int>> of_thread;
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (int request = 0; request < 25; ++request) {
                    bench.slot->async_acquire(
                        a, asio::bind_executor(
                               here,
                               bench.handlers.count([&, thread, request](const std::exception_ptr&, FakeLease lease) {
                                   of_thread.emplace_back(thread, request);
                                   lease.release();
                               })));
                }
            });
        }
    }
    held.release();
    here.run();
    REQUIRE(of_thread.size() == 100);
    std::array<int, 4> next{};
    for (const auto& [thread, request] : of_thread) {
        CHECK(next[static_cast<std::size_t>(thread)]++ == request);
    }
    bench.finish(100);
}

}  // namespace admission_test
