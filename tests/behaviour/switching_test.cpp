// H3 and H6: which resident makes room for whom, and in which order those who wait are served.

#include "support/bench.hpp"

#include <string>
#include <vector>

namespace switching_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey c("c");
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

TEST_CASE("An idle resident without waiters goes at once, the least recently used first", "[H3][H6]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 3});
    bench.lease(a).release();
    bench.advance(1s);
    bench.lease(b).release();
    FakeLease on_c = bench.lease(c);
    std::string order;
    Taker taker(bench, d, "d", order);
    bench.run();
    CHECK(order == "d");
    CHECK_FALSE(bench.resident(a));
    CHECK(bench.is(b, ResidentState::ready));
    CHECK(bench.is(c, ResidentState::ready));
    CHECK(bench.slot->status().counters.unloads[static_cast<std::size_t>(Reason::switched)] == 1);
    taker.release(), on_c.release();
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

TEST_CASE("Who asks for a key that is unloading gets a fresh load", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    const Generation before = bench.lease(a).generation();
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    run_ready(bench.control);
    REQUIRE(bench.is(a, ResidentState::unloading));
    std::string order;
    Taker taker(bench, a, "a", order);
    bench.run();
    CHECK(order == "a");
    CHECK(taker.lease()->serial() == 2);
    CHECK(taker.lease().generation() > before);
    taker.release();
    bench.check_end();
}

TEST_CASE("Who asks for a key that drains for an unload gets a fresh load; for a switch, the same model", "[H3]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    Request<FakeLease> other;
    std::string order;

    SECTION("unload") {
        Outcome<> unloaded;
        bench.slot->async_unload(a, unloaded.handler());
        bench.run();
        REQUIRE(bench.is(a, ResidentState::draining));
        Taker taker(bench, a, "a", order);
        bench.run();
        CHECK(order.empty());
        held.release();
        bench.run();
        CHECK(unloaded.calls() == 1);
        CHECK(order == "a");
        CHECK(taker.lease()->serial() == 2);
        taker.release();
    }
    SECTION("switch that is not wanted any more") {
        bench.slot->async_acquire(b, other.token());
        bench.run();
        REQUIRE(bench.is(a, ResidentState::draining));
        Taker taker(bench, a, "a", order);
        bench.run();
        CHECK(order.empty());
        other.cancel();
        bench.run();
        CHECK(order == "a");
        CHECK(taker.lease()->serial() == 1);
        CHECK(bench.world->counts().loads == 1);
        taker.release();
        held.release();
    }
    bench.check_end();
}

TEST_CASE("Within a key the order is priority, then arrival", "[H6]") {
    SlotBench bench({.max_leases = 1});
    FakeLease held = bench.lease(a);
    std::string order;
    Taker first(bench, a, "1", order, {.priority = Priority::low});
    Taker second(bench, a, "2", order, {.priority = Priority::high});
    Taker third(bench, a, "3", order);
    Taker fourth(bench, a, "4", order, {.priority = Priority::high});
    held.release();
    for (Taker* taker : {&second, &fourth, &third, &first}) {
        bench.run();
        taker->release();
    }
    bench.run();
    CHECK(order == "2431");
    bench.check_end();
}

TEST_CASE("Priority orders the keys by their best waiter, and arrival orders those that are equal", "[H6]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 5, .max_leases = 1});
    for (const ModelKey& key : {a, b, c, d, e}) {
        bench.lease(key).release();
    }
    FakeLease held = bench.lease(a);
    std::string order;
    Taker low(bench, b, "low ", order, {.priority = Priority::low});
    Taker normal(bench, c, "normal ", order);
    Taker also_normal(bench, d, "also ", order);
    Taker high(bench, e, "high ", order, {.priority = Priority::high});
    // It is its key's best waiter, although it came behind a low one.
    Taker behind(bench, b, "behind ", order, {.priority = Priority::high});
    held.release();
    for (Taker* taker : {&high, &behind, &normal, &also_normal, &low}) {
        bench.run();
        taker->release();
    }
    bench.run();
    CHECK(order == "high behind normal also low ");
    bench.check_end();
}

TEST_CASE("A place goes to the key that ranks first when it becomes free", "[H6]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    std::string order;
    Taker now(bench, a, "a", order);
    // The place is taken by a load, so that neither can begin to have it.
    Taker later(bench, b, "b", order, {.priority = Priority::low});
    Taker sooner(bench, c, "c", order);
    bench.run();
    CHECK(order == "a");
    CHECK(bench.is(a, ResidentState::draining));
    now.release();
    bench.run();
    CHECK(order == "ac");
    sooner.release();
    bench.run();
    CHECK(order == "acb");
    later.release();
    bench.check_end();
}

TEST_CASE("Every second lease goes to the oldest waiter that is older than the ageing time, so that nothing starves",
          "[R15]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 2, .max_leases = 1, .aging = 30s});
    bench.lease(a).release();
    bench.lease(b).release();
    FakeLease held = bench.lease(a);
    std::string order;
    Taker starving(bench, b, "low ", order, {.priority = Priority::low});
    bench.advance(30s - 1ns);
    Taker first(bench, a, "high1 ", order, {.priority = Priority::high});
    Taker second(bench, a, "high2 ", order, {.priority = Priority::high});
    held.release();
    bench.run();
    CHECK(order == "high1 ");
    bench.advance(1ns);
    first.release();
    bench.run();
    CHECK(order == "high1 low ");
    starving.release();
    bench.run();
    CHECK(order == "high1 low high2 ");
    second.release();
    bench.check_end();
}

}  // namespace switching_test
