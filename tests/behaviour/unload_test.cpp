// Two faults of an earlier manager: a task that was to unload a model when its time came was cancelled, went on all the
// same, and unloaded what its successor had just begun to use; and a model could be unloaded while a request for it
// arrived.
//
// Here there is one timer, whose expiry decides nothing, one unload of a residency, and a request that comes meanwhile
// waits for the next.

#include "support/bench.hpp"
#include "support/time_machine.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

namespace unload_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

TEST_CASE("Review: a cancelled unload and its successor are one unload, and the next residency is none of theirs",
          "[R2][R6][R9]") {
    SlotOptions options;
    options.keep_alive = 10s;
    SlotBench bench(options);
    bench.load(a);
    asio::cancellation_signal leave;
    Outcome<> second;
    Outcome<> third;
    Outcome<FakeLease> next;
    const auto first = bench.unload(a, UnloadMode::drain, leave.slot());
    during(*bench.world, FakeStep::unload, [&] {
        leave.emit(asio::cancellation_type::terminal);
        second = bench.unload(a);
        next = bench.acquire(a);
        third = bench.unload(a, UnloadMode::revoke);
        bench.run_without_loading();
        CHECK(first.code() == asio::error::operation_aborted);
        // Nothing runs beside the destructor.
        CHECK(second.calls() == 0);
        CHECK(third.calls() == 0);
        CHECK(next.calls() == 0);
        CHECK(bench.world->counts().loads == 1);
    });
    bench.run();
    CHECK(second.calls() == 1);
    CHECK(third.calls() == 1);
    CHECK(bench.world->counts(a).unloads == 1);
    CHECK(bench.world->counts(a).most_resident == 1);
    REQUIRE(next.calls() == 1);
    CHECK(next.value()->serial() == 2);
    CHECK_FALSE(next.value().revoked());
    CHECK(bench.only_resident().state == ResidentState::ready);
    bench.advance(1h);
    CHECK(bench.world->counts(a).live == 1);
    next.value().release();
    bench.advance(10s - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).unloads == 2);
    bench.finish(5);
}

TEST_CASE("Review: unloads that threads begin and abandon never run beside one another, nor beside a load",
          "[R2][R3][R9]") {
    ThreadedSlot bench;
    std::atomic<int> at_work{0};
    std::atomic<int> beside{0};
    // A load and a destructor both take a moment in which another would be seen.
    const auto work = [&](const testing::FakeCall&) {
        beside += ++at_work == 1 ? 0 : 1;
        std::this_thread::yield();
        --at_work;
    };
    bench.world->on(FakeStep::load, work);
    bench.world->on(FakeStep::unload, work);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                asio::io_context here;
                for (int round = 0; round < 60; ++round) {
                    asio::cancellation_signal leave;
                    Outcome<> unload;
                    bench.slot->async_unload(
                        a, asio::bind_cancellation_slot(
                               leave.slot(), asio::bind_executor(here, bench.handlers.count(unload.handler()))));
                    asio::post(here, [&] { leave.emit(asio::cancellation_type::terminal); });
                    bench.slot->acquire(a).release();
                    here.restart();
                    here.run();
                }
            });
        }
    }
    CHECK(beside == 0);
    CHECK(bench.world->counts().most_resident == 1);
    CHECK(bench.world->counts().most_loading == 1);
    bench.finish(180);
}

TEST_CASE("Review: a timer that was replaced unloads no other model, while threads have it replaced all the time",
          "[R5][R7]") {
    constexpr std::size_t users = 3;
    SlotOptions options;
    options.max_resident = users;
    options.keep_alive = 50ms;
    SlotBench bench(options);
    const std::array<ModelKey, users> keys{a, b, c};
    // Each key has one user, who knows until when its model must stay. All share the alarm.
    std::array<std::atomic<std::int64_t>, users> stays_until{};
    std::atomic<int> idle_unloads{0};
    std::atomic<int> too_early{0};
    bench.events.on_event([&](const Event& event) {
        if (event.type == EventType::unload_started) {
            const auto user = static_cast<std::size_t>(std::find(keys.begin(), keys.end(), event.key) - keys.begin());
            too_early += VirtualClock::now().time_since_epoch().count() < stays_until.at(user) ? 1 : 0;
            ++idle_unloads;
        }
    });
    {
        const TimeMachine time(bench, 1ms);
        std::vector<std::jthread> threads;
        for (std::size_t user = 0; user < users; ++user) {
            threads.emplace_back([&, user] {
                for (std::size_t round = user; idle_unloads < 40; ++round) {
                    RequestOptions stay;
                    stay.keep_alive = std::chrono::milliseconds(1 + round * 7 % 11);
                    FakeLease lease = bench.slot->acquire(keys[user], stay);
                    stays_until[user] = (VirtualClock::now().time_since_epoch() + *stay.keep_alive).count();
                    lease.release();
                    const auto until = VirtualClock::now() + std::chrono::milliseconds(round * 5 % 13);
                    while (VirtualClock::now() < until) {
                        std::this_thread::yield();
                    }
                    // No longer: by the next grant it may have another.
                    stays_until[user] = 0;
                }
            });
        }
    }
    CHECK(too_early == 0);
    // The alarm was started no more often than there was a reason to: once for each request, and once for each expiry.
    const SlotCounters counters = bench.slot->status().counters;
    CHECK(counters.timer_waits <= 2 * counters.leases_granted + counters.unloaded());
    bench.finish(0);
}

TEST_CASE("Review: a request that arrives at any point of an unload is served", "[R1][R4][R6]") {
    enum class Point { due, decided, destroying };
    const Point point = GENERATE(Point::due, Point::decided, Point::destroying);
    SlotOptions options;
    options.keep_alive = 10s;
    ManagerBench bench({.embedding = options});
    const auto before = bench.embed(a);
    bench.run();
    CHECK(before.calls() == 1);
    VirtualClock::advance(10s);
    Outcome<Embeddings> answer;
    switch (point) {
        case Point::due: answer = bench.embed(a); break;
        case Point::decided:
            bench.run_control();
            answer = bench.embed(a);
            break;
        case Point::destroying: during(*bench.world, FakeStep::unload, [&] { answer = bench.embed(a); }); break;
    }
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(testing::answered_by(answer.value()) == (point == Point::due ? 1U : 2U));
    CHECK(bench.world->counts(a).most_resident == 1);
    bench.finish(2);
}

TEST_CASE("Review: no request meets a model that is being unloaded, while threads unload it all the time", "[R1][R4]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options, .reranker = options});
    std::atomic<int> using_it{3};
    std::atomic<int> failed{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 60; ++call) {
                    failed += code_of([&] { (void)bench.manager->embed(a, {"one", "two"}); }) ? 1 : 0;
                    failed += code_of([&] { (void)bench.manager->rerank(b, "query", {"one", "two"}); }) ? 1 : 0;
                }
                --using_it;
            });
        }
        threads.emplace_back([&] {
            while (using_it != 0) {
                bench.manager->embedding().unload(a);
                bench.manager->reranker().unload();
            }
        });
    }
    CHECK(failed == 0);
    CHECK(bench.world->counts(a).calls == 180);
    CHECK(bench.world->counts(b).calls == 180);
    CHECK(bench.world->counts(a).most_resident == 1);
    bench.finish(0);
}

}  // namespace unload_test
