// S20 to S22, H3: how a place goes from one model to another, and which resident makes room.

#include "support/bench.hpp"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace switch_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Ends, one after the other, the lease that was granted, and gives in which order that was: each by its place in
// `leases`.
std::vector<std::size_t> order_of_service(SlotBench& bench, std::vector<Outcome<FakeLease>>& leases) {
    std::vector<std::size_t> order;
    for (std::size_t served = 0; served < leases.size(); ++served) {
        bench.run();
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
    SlotBench bench;
    auto old = bench.acquire(a);
    bench.run();
    auto other = bench.acquire(b);
    bench.run();
    CHECK(bench.only_resident().state == ResidentState::draining);
    // From now on new requests for the old one come all the time. None of them keeps it.
    std::vector<Outcome<FakeLease>> late;
    for (int request = 0; request < 20; ++request) {
        late.push_back(bench.acquire(a));
        bench.advance(1s);
        CHECK_FALSE(bench.slot->try_acquire(a));
        CHECK(late.back().calls() == 0);
        CHECK(bench.only_resident().state == ResidentState::draining);
    }
    old.value().release();
    bench.run();
    REQUIRE(other.calls() == 1);
    CHECK(other.value().key() == b);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.world->counts().most_resident == 1);
    // And the other one is chosen to go in its turn, for those who came after it.
    CHECK(bench.only_resident().state == ResidentState::draining);
    other.value().release();
    bench.run();
    CHECK(std::count_if(late.begin(), late.end(), [](const auto& lease) { return lease.calls() == 1; }) == 10);
    CHECK(order_of_service(bench, late).size() == 20);
    CHECK(bench.world->counts(a).loads == 2);
    bench.finish(22);
}

TEST_CASE("S20: requests of two models that never stop coming are served in the order they came", "[S20][R9]") {
    SlotOptions options;
    options.max_leases = 1;
    SlotBench bench(options);
    auto first = bench.acquire(c);
    bench.run();
    std::vector<Outcome<FakeLease>> leases;
    std::vector<std::size_t> arrival;
    for (std::size_t request = 0; request < 12; ++request) {
        leases.push_back(bench.acquire(request % 2 == 0 ? a : b));
        arrival.push_back(request);
    }
    first.value().release();
    CHECK(order_of_service(bench, leases) == arrival);
    CHECK(bench.world->counts().most_resident == 1);
    bench.finish(13);
}

TEST_CASE("S20: threads that pull a slot to and fro between models all get through, each to the model it asked for",
          "[S20][R1][R2][R3][R11]") {
    ThreadedManager bench({.embedding = {.max_leases = 2}});
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> threads;
        for (const ModelKey* key : {&a, &a, &b, &b, &c}) {
            threads.emplace_back([&, key] {
                for (int call = 0; call < 40; ++call) {
                    if (call % 4 == 0) {
                        const FakeLease lease = bench.manager->embedding().acquire(*key);
                        wrong += lease.key() == *key && lease->key() == *key ? 0 : 1;
                        const Embeddings rows = lease->embed(std::vector<std::string>{"text"});
                        wrong += testing::answered_by(rows) == lease->serial() ? 0 : 1;
                    } else {
                        const Embeddings rows = bench.manager->embed(*key, {"text"});
                        wrong += bench.world->model(testing::answered_by(rows)).key == *key ? 0 : 1;
                    }
                    const Ranking ranking = bench.manager->rerank(*key, "query", {"text"});
                    wrong += bench.world->model(testing::answered_by(ranking)).key == *key ? 0 : 1;
                }
            });
        }
    }
    CHECK(wrong == 0);
    CHECK(bench.world->counts().calls == 400);
    // One in each slot.
    CHECK(bench.world->counts().most_resident <= 2);
    bench.finish(0);
}

// -- 21 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S21: traffic that never pauses on one model starves neither a switch nor an unload", "[S21][R1]") {
    SlotBench bench;
    std::vector<Outcome<FakeLease>> traffic;
    const auto take = [&] {
        traffic.push_back(bench.acquire(a));
        bench.run();
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
        bench.run();
    };
    take();
    take();
    go_on();
    CHECK(bench.world->counts(a).loads == 1);

    auto switched = bench.acquire(b);
    int steps = 0;
    while (switched.calls() == 0) {
        REQUIRE(++steps <= 2);
        go_on();
    }
    CHECK(switched.value().key() == b);
    switched.value().release();
    bench.run();
    CHECK(bench.world->counts(a).loads == 2);

    const auto unload = bench.unload(a);
    steps = 0;
    while (unload.calls() == 0) {
        REQUIRE(++steps <= 5);
        go_on();
    }
    CHECK(bench.world->counts(a).unloads == 2);
    // And those who came meanwhile have a fresh one.
    bench.run();
    CHECK(bench.world->counts(a).loads == 3);
    for (auto& lease : traffic) {
        REQUIRE(lease.calls() == 1);
        lease.value().release();
    }
    bench.finish(bench.handlers.made());
}

TEST_CASE("S21: threads that never pause on one model starve neither a switch nor an unload", "[S21][R1][R4]") {
    ThreadedManager bench;
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                while (!done) {
                    // Each thread holds a lease at nearly all times; together they hold one at all times.
                    const Embeddings rows = bench.manager->embed(a, {"text"});
                    wrong += bench.world->model(testing::answered_by(rows)).key == a ? 0 : 1;
                }
            });
        }
        for (int round = 0; round < 10; ++round) {
            const Embeddings rows = bench.manager->embed(b, {"text"});
            wrong += bench.world->model(testing::answered_by(rows)).key == b ? 0 : 1;
            bench.manager->embedding().unload(a);
            bench.manager->embedding().unload(a, UnloadMode::drain);
        }
        done = true;
    }
    CHECK(wrong == 0);
    CHECK(bench.world->counts(b).calls == 10);
    bench.finish(0);
}

// -- 22 ---------------------------------------------------------------------------------------------------------------

TEST_CASE("S22: a model that drains for a switch that is not wanted any more is ready again, without a reload",
          "[S22][R6]") {
    SlotBench bench;
    auto old = bench.acquire(a);
    bench.run();
    const Generation generation = bench.slot->generation();
    const bool by_timeout = GENERATE(true, false);
    asio::cancellation_signal leave;
    RequestOptions options;
    if (by_timeout) {
        options.timeout = 2s;
    }
    auto other = bench.acquire(b, options, leave.slot());
    auto late = bench.acquire(a);
    bench.run();
    CHECK(bench.only_resident().state == ResidentState::draining);
    CHECK(late.calls() == 0);
    CHECK(bench.slot->generation() == generation);

    if (by_timeout) {
        bench.advance(2s);
        CHECK(other.code() == errc::timed_out);
        CHECK(other.error().stage() == Stage::queue);
        // A client that retries still wants it: the claim lasts for `abandon_after` (H1).
        CHECK(bench.only_resident().state == ResidentState::draining);
        CHECK(late.calls() == 0);
        bench.advance(10s);
    } else {
        leave.emit(asio::cancellation_type::total);
        bench.run();
        CHECK(other.code() == asio::error::operation_aborted);
    }
    CHECK(bench.only_resident().state == ResidentState::ready);
    // Who had waited for it has it, and so has who comes now.
    REQUIRE(late.calls() == 1);
    CHECK(late.value()->serial() == 1);
    CHECK(late.value().generation() == generation);
    auto now = bench.slot->try_acquire(a);
    REQUIRE(now);
    CHECK(now->serial() == 1);
    CHECK(bench.slot->generation() == generation);
    CHECK(bench.world->counts().loads == 1);
    CHECK(bench.events.count(EventType::drain_started) == 1);
    CHECK(bench.events.count(EventType::drain_ended) == 1);
    now.release();
    late.value().release();
    old.value().release();
    // It lives for a keep-alive from here, as any other.
    CHECK(bench.only_resident().unloads_in == 5min);
    bench.finish(3);
}

TEST_CASE("S22: a switch that is still wanted goes on, and a drain for an unload never ends otherwise", "[S22][R6]") {
    SlotBench bench;
    auto old = bench.acquire(a);
    bench.run();
    asio::cancellation_signal leave;
    const auto left = bench.acquire(b, {}, leave.slot());
    auto stays = bench.acquire(b);
    bench.run();
    leave.emit(asio::cancellation_type::total);
    bench.run();
    CHECK(left.calls() == 1);
    CHECK(bench.only_resident().state == ResidentState::draining);
    old.value().release();
    bench.run();
    REQUIRE(stays.calls() == 1);

    const auto unload = bench.unload(b);
    asio::cancellation_signal leave_again;
    const auto other = bench.acquire(a, {}, leave_again.slot());
    bench.run();
    leave_again.emit(asio::cancellation_type::total);
    bench.run();
    CHECK(other.calls() == 1);
    CHECK(bench.only_resident().state == ResidentState::draining);
    stays.value().release();
    bench.run();
    CHECK(unload.calls() == 1);
    CHECK(bench.world->counts(b).live == 0);
    bench.finish(5);
}

TEST_CASE("S22: threads that want another model and change their minds leave the old one usable", "[S22][R2][R9]") {
    ThreadedSlot bench;
    FakeLease old = bench.slot->acquire(a);
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
                    bench.slot->async_acquire(
                        b, asio::bind_cancellation_slot(
                               leave.slot(), asio::bind_executor(here, bench.handlers.count(other.handler()))));
                    asio::post(here, [&] { leave.emit(asio::cancellation_type::total); });
                    here.restart();
                    here.run();
                }
            });
        }
    }
    // It was in use all the time: no other was ever loaded, and it can still be had.
    FakeLease again = bench.slot->acquire(a);
    CHECK(again->serial() == old->serial());
    CHECK(again.generation() == old.generation());
    CHECK(bench.world->counts().loads == 1);
    CHECK(bench.slot->status().counters.cancelled == 150);
    again.release();
    old.release();
    bench.finish(150);
}

// -- Which one goes ---------------------------------------------------------------------------------------------------

TEST_CASE("S20: with several places, the least recently used model makes room", "[S20][R2][H3][H6]") {
    SlotOptions options;
    options.max_resident = 2;
    SlotBench bench(options);
    bench.use(a);
    bench.use(b);
    bench.advance(1s);
    bench.use(a);
    auto third = bench.acquire(c);
    bench.run();
    REQUIRE(third.calls() == 1);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.world->counts(b).live == 0);
    CHECK(bench.world->counts().most_resident == 2);
    // One that is leased stays, however long ago it was granted; the idle one goes.
    bench.advance(1s);
    bench.use(a);
    auto fourth = bench.acquire(b);
    bench.run();
    REQUIRE(fourth.calls() == 1);
    CHECK(bench.world->counts(c).live == 1);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.slot->status().counters.unloads[static_cast<std::size_t>(Reason::switched)] == 2);
    third.value().release();
    fourth.value().release();
    bench.finish(6);
}

// -- Drains -----------------------------------------------------------------------------------------------------------

namespace {

const ModelKey d("d");
const ModelKey e("e");

// A request that writes down when it is granted, and keeps its lease.
class Taker {
public:
    Taker(SlotBench& bench, const ModelKey& key, std::string mark, std::string& order,
          const RequestOptions& options = {}) {
        bench.slot->async_acquire(key, options,
                                  [this, mark = std::move(mark), &order](std::exception_ptr error, FakeLease lease) {
                                      order += error ? "!" : mark;
                                      lease_ = std::move(lease);
                                      ++calls_;
                                  });
    }
    Taker(const Taker&) = delete;
    Taker& operator=(const Taker&) = delete;

    void release() { lease_.release(); }
    [[nodiscard]] FakeLease& lease() { return lease_; }
    [[nodiscard]] int calls() const { return calls_; }

private:
    FakeLease lease_;
    int calls_ = 0;
};

}  // namespace

TEST_CASE("Only as many residents drain as places are wanted beyond those that are coming free", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 3, .max_loads = 3});
    FakeLease on_a = bench.lease(a);
    FakeLease on_b = bench.lease(b);
    FakeLease on_c = bench.lease(c);
    std::string order;
    Taker first(bench, d, "d", order);
    bench.run();
    CHECK(bench.is(a, ResidentState::draining));
    CHECK(bench.is(b, ResidentState::ready));
    CHECK(bench.is(c, ResidentState::ready));

    // A second request for the same key wants no second place.
    Taker again(bench, d, "d", order);
    bench.run();
    CHECK(bench.is(b, ResidentState::ready));
    Taker second(bench, e, "e", order);
    bench.run();
    CHECK(bench.is(b, ResidentState::draining));
    CHECK(bench.is(c, ResidentState::ready));
    CHECK(order.empty());

    on_a.release();
    bench.run();
    CHECK(order == "dd");
    on_b.release();
    bench.run();
    CHECK(order == "dde");
    CHECK(bench.is(c, ResidentState::ready));
    CHECK(bench.world->counts().most_resident == 3);
    first.release(), again.release(), second.release(), on_c.release();
    bench.check_end();
}

TEST_CASE("A place that is unloading already is waited for, and nothing else drains", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 2});
    bench.lease(a).release();
    FakeLease on_b = bench.lease(b);
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    run_ready(bench.control);
    CHECK(bench.is(a, ResidentState::unloading));
    std::string order;
    Taker taker(bench, c, "c", order);
    run_ready(bench.control);
    CHECK(bench.is(b, ResidentState::ready));
    bench.run();
    CHECK(order == "c");
    CHECK(bench.events.count(EventType::drain_started) == 0);
    taker.release(), on_b.release();
    bench.check_end();
}

TEST_CASE("The least recently granted resident drains first", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 2});
    FakeLease on_a = bench.lease(a);
    FakeLease on_b = bench.lease(b);
    // A second lease on a makes b the one that was granted longest ago.
    FakeLease again = bench.lease(a);
    std::string order;
    Taker taker(bench, c, "c", order);
    bench.run();
    CHECK(bench.is(a, ResidentState::ready));
    CHECK(bench.is(b, ResidentState::draining));
    on_b.release();
    bench.run();
    CHECK(order == "c");
    taker.release(), on_a.release(), again.release();
    bench.check_end();
}

TEST_CASE(
    "The drain that began last is the first to end, and who waits for a key that returns is granted on it in order",
    "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 2, .max_loads = 2});
    FakeLease on_a = bench.lease(a);
    FakeLease on_b = bench.lease(b);
    Request<FakeLease> on_c;
    Request<FakeLease> on_d;
    bench.slot->async_acquire(c, on_c.token());
    bench.slot->async_acquire(d, on_d.token());
    bench.run();
    CHECK(bench.is(a, ResidentState::draining));
    CHECK(bench.is(b, ResidentState::draining));
    std::string order;
    Taker first(bench, b, "1", order);
    Taker second(bench, b, "2", order);
    Taker third(bench, b, "3", order);
    bench.run();
    CHECK(order.empty());

    // One place less is wanted: of the two, b began to drain last.
    on_d.cancel();
    bench.run();
    CHECK(bench.is(a, ResidentState::draining));
    CHECK(bench.is(b, ResidentState::ready));
    CHECK(order == "123");
    CHECK(first.lease()->serial() == on_b->serial());
    CHECK(bench.events.count(EventType::drain_ended) == 1);
    CHECK(first.lease().generation() == on_b.generation());

    on_a.release();
    bench.run();
    CHECK(on_c.calls() == 1);
    CHECK(on_d.code() == asio::error::operation_aborted);
    on_c.value().release();
    first.release(), second.release(), third.release(), on_b.release();
    bench.check_end();
}

TEST_CASE("A request for a key that drains for an unload gets a fresh load", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.run();
    REQUIRE(bench.is(a, ResidentState::draining));
    Outcome<FakeLease> next;
    bench.slot->async_acquire(a, next.handler());
    bench.run();
    CHECK(next.calls() == 0);
    held.release();
    bench.run();
    CHECK(unloaded.calls() == 1);
    REQUIRE(next.calls() == 1);
    CHECK(next.value()->serial() == 2);
    next.value().release();
    bench.check_end();
}

}  // namespace switch_test
