// Scenarios 20 to 22: how a place goes from one model to another.

#include "support/slot_fixture.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

namespace switch_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Ends, one after the other, the lease that was granted, and gives in which order that was: each by its place in
// `leases`.
std::vector<std::size_t> order_of_service(VirtualSlot& f, std::vector<Outcome<FakeLease>>& leases) {
    std::vector<std::size_t> order;
    for (std::size_t served = 0; served < leases.size(); ++served) {
        f.run();
        for (std::size_t index = 0; index < leases.size(); ++index) {
            if (leases[index].calls() == 1 && leases[index].value()) {
                order.push_back(index);
                leases[index].value().release();
                break;
            }
        }
    }
    return order;
}

}  // namespace

// -- 20 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S20: a model chosen to go is not revived by new requests, and they are served in their turn",
          "[S20][R1][R2]") {
    VirtualSlot f;
    auto old = f.acquire(a);
    f.run();
    auto other = f.acquire(b);
    f.run();
    CHECK(f.resident().state == ResidentState::draining);
    // From now on new requests for the old one come all the time. None of them keeps it.
    std::vector<Outcome<FakeLease>> late;
    for (int request = 0; request < 20; ++request) {
        late.push_back(f.acquire(a));
        f.pass(1s);
        CHECK_FALSE(f.slot->try_acquire(a));
        CHECK(late.back().calls() == 0);
        CHECK(f.resident().state == ResidentState::draining);
    }
    old.value().release();
    f.run();
    REQUIRE(other.calls() == 1);
    CHECK(other.value().key() == b);
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.world->counts().most_resident == 1);
    // And the other one is chosen to go in its turn, for those who came after it.
    CHECK(f.resident().state == ResidentState::draining);
    other.value().release();
    f.run();
    CHECK(std::count_if(late.begin(), late.end(), [](const auto& lease) { return lease.calls() == 1; }) == 10);
    CHECK(order_of_service(f, late).size() == 20);
    CHECK(f.world->counts(a).loads == 2);
    f.finish(22);
}

TEST_CASE("S20: requests of two models that never stop coming are served in the order they came", "[S20][R9]") {
    SlotOptions options;
    options.max_leases = 1;
    VirtualSlot f(options);
    auto first = f.acquire(c);
    f.run();
    std::vector<Outcome<FakeLease>> leases;
    std::vector<std::size_t> arrival;
    for (std::size_t request = 0; request < 12; ++request) {
        leases.push_back(f.acquire(request % 2 == 0 ? a : b));
        arrival.push_back(request);
    }
    first.value().release();
    CHECK(order_of_service(f, leases) == arrival);
    CHECK(f.world->counts().most_resident == 1);
    f.finish(13);
}

TEST_CASE("S20: threads that pull a slot to and fro between models all get through", "[S20][R1][R2][R3]") {
    SlotOptions options;
    options.max_leases = 2;
    ThreadedManager f(options);
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> threads;
        for (const ModelKey* key : {&a, &a, &b, &b, &c}) {
            threads.emplace_back([&, key] {
                for (int call = 0; call < 40; ++call) {
                    const Embeddings rows = f.models->embed(*key, {"text"});
                    wrong += f.world->model(testing::answered_by(rows)).key == *key ? 0 : 1;
                }
            });
        }
    }
    CHECK(wrong == 0);
    CHECK(f.world->counts().calls == 200);
    CHECK(f.world->counts().most_resident == 1);
    f.finish(0);
}

// -- 21 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S21: traffic that never pauses on one model starves neither a switch nor an unload", "[S21][R1]") {
    VirtualSlot f;
    std::vector<Outcome<FakeLease>> traffic;
    const auto take = [&] {
        traffic.push_back(f.acquire(a));
        f.run();
    };
    // Always a new lease before the old one ends: the count would never be zero.
    const auto go_on = [&] {
        take();
        for (auto lease = traffic.begin(); lease != traffic.end(); ++lease) {
            if (lease->calls() == 1 && lease->value()) {
                lease->value().release();
                break;
            }
        }
        f.run();
    };
    take();
    take();
    go_on();
    CHECK(f.world->counts(a).loads == 1);

    auto switched = f.acquire(b);
    int steps = 0;
    while (switched.calls() == 0) {
        REQUIRE(++steps <= 2);
        go_on();
    }
    CHECK(switched.value().key() == b);
    switched.value().release();
    f.run();
    CHECK(f.world->counts(a).loads == 2);

    const auto unload = f.unload(a);
    steps = 0;
    while (unload.calls() == 0) {
        REQUIRE(++steps <= 5);
        go_on();
    }
    CHECK(f.world->counts(a).unloads == 2);
    // And those who came meanwhile have a fresh one.
    f.run();
    CHECK(f.world->counts(a).loads == 3);
    for (auto& lease : traffic) {
        REQUIRE(lease.calls() == 1);
        lease.value().release();
    }
    f.finish(f.handlers.made());
}

TEST_CASE("S21: threads that never pause on one model starve neither a switch nor an unload", "[S21][R1][R4]") {
    ThreadedManager f;
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                while (!done) {
                    // Each thread holds a lease at nearly all times; together they hold one at all times.
                    const Embeddings rows = f.models->embed(a, {"text"});
                    wrong += f.world->model(testing::answered_by(rows)).key == a ? 0 : 1;
                }
            });
        }
        for (int round = 0; round < 10; ++round) {
            const Embeddings rows = f.models->embed(b, {"text"});
            wrong += f.world->model(testing::answered_by(rows)).key == b ? 0 : 1;
            f.models->embedding().unload(a);
            f.models->embedding().unload(a, UnloadMode::drain);
        }
        done = true;
    }
    CHECK(wrong == 0);
    CHECK(f.world->counts(b).calls == 10);
    f.finish(0);
}

// -- 22 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S22: a model that drains for a switch that is not wanted any more is ready again, without a reload",
          "[S22][R6]") {
    VirtualSlot f;
    auto old = f.acquire(a);
    f.run();
    const Generation generation = f.slot->generation();
    const bool by_timeout = GENERATE(true, false);
    asio::cancellation_signal leave;
    RequestOptions options;
    if (by_timeout) {
        options.timeout = 2s;
    }
    auto other = f.acquire(b, options, leave.slot());
    auto late = f.acquire(a);
    f.run();
    CHECK(f.resident().state == ResidentState::draining);
    CHECK(late.calls() == 0);
    CHECK(f.slot->generation() == generation);

    if (by_timeout) {
        f.pass(2s);
        CHECK(other.code() == errc::timed_out);
        CHECK(other.error().stage() == Stage::queue);
        // A client that retries still wants it: the claim lasts for `abandon_after` (H1).
        CHECK(f.resident().state == ResidentState::draining);
        CHECK(late.calls() == 0);
        f.pass(10s);
    } else {
        leave.emit(asio::cancellation_type::total);
        f.run();
        CHECK(other.code() == asio::error::operation_aborted);
    }
    CHECK(f.resident().state == ResidentState::ready);
    // Who had waited for it has it, and so has who comes now.
    REQUIRE(late.calls() == 1);
    CHECK(late.value()->serial() == 1);
    CHECK(late.value().generation() == generation);
    auto now = f.slot->try_acquire(a);
    REQUIRE(now);
    CHECK(now->serial() == 1);
    CHECK(f.slot->generation() == generation);
    CHECK(f.world->counts().loads == 1);
    CHECK(f.events.count(EventType::drain_started) == 1);
    CHECK(f.events.count(EventType::drain_ended) == 1);
    now.release();
    late.value().release();
    old.value().release();
    // It lives for a keep-alive from here, as any other.
    CHECK(f.resident().unloads_in == 5min);
    f.finish(3);
}

TEST_CASE("S22: a switch that is still wanted goes on, and a drain for an unload never ends otherwise", "[S22][R6]") {
    VirtualSlot f;
    auto old = f.acquire(a);
    f.run();
    asio::cancellation_signal leave;
    const auto left = f.acquire(b, {}, leave.slot());
    auto stays = f.acquire(b);
    f.run();
    leave.emit(asio::cancellation_type::total);
    f.run();
    CHECK(left.calls() == 1);
    CHECK(f.resident().state == ResidentState::draining);
    old.value().release();
    f.run();
    REQUIRE(stays.calls() == 1);

    const auto unload = f.unload(b);
    asio::cancellation_signal leave_again;
    const auto other = f.acquire(a, {}, leave_again.slot());
    f.run();
    leave_again.emit(asio::cancellation_type::total);
    f.run();
    CHECK(other.calls() == 1);
    CHECK(f.resident().state == ResidentState::draining);
    stays.value().release();
    f.run();
    CHECK(unload.calls() == 1);
    CHECK(f.world->counts(b).live == 0);
    f.finish(5);
}

TEST_CASE("S22: threads that want another model and change their minds leave the old one usable", "[S22][R2][R9]") {
    ThreadedSlot f;
    FakeLease old = f.slot->acquire(a);
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                // The handlers run on this thread, and there they are cancelled, before or after they have found their
                // place.
                asio::io_context here;
                for (int round = 0; round < 50; ++round) {
                    asio::cancellation_signal leave;
                    Outcome<FakeLease> other;
                    f.slot->async_acquire(
                        b, asio::bind_cancellation_slot(leave.slot(),
                                                        asio::bind_executor(here, f.handlers.count(other.handler()))));
                    asio::post(here, [&] { leave.emit(asio::cancellation_type::total); });
                    here.restart();
                    here.run();
                }
            });
        }
    }
    // It was in use all the time: no other was ever loaded, and it can still be had.
    FakeLease again = f.slot->acquire(a);
    CHECK(again->serial() == old->serial());
    CHECK(again.generation() == old.generation());
    CHECK(f.world->counts().loads == 1);
    CHECK(f.slot->status().counters.cancelled == 150);
    again.release();
    old.release();
    f.finish(150);
}

// -- Which one goes ---------------------------------------------------------------------------------------------------

TEST_CASE("S20: with several places, the least recently used model makes room", "[S20][R2]") {
    SlotOptions options;
    options.max_resident = 2;
    VirtualSlot f(options);
    f.use(a);
    f.use(b);
    f.pass(1s);
    f.use(a);
    auto third = f.acquire(c);
    f.run();
    REQUIRE(third.calls() == 1);
    CHECK(f.world->counts(a).live == 1);
    CHECK(f.world->counts(b).live == 0);
    CHECK(f.world->counts().most_resident == 2);
    // One that is leased stays, however long ago it was granted; the idle one goes.
    f.pass(1s);
    f.use(a);
    auto fourth = f.acquire(b);
    f.run();
    REQUIRE(fourth.calls() == 1);
    CHECK(f.world->counts(c).live == 1);
    CHECK(f.world->counts(a).live == 0);
    third.value().release();
    fourth.value().release();
    f.finish(6);
}

}  // namespace switch_test
