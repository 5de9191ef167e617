// A model whose destructor takes its time: it delays what needs its place, and nothing else.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>

#include <memory>
#include <optional>
#include <thread>
#include <utility>

namespace slow_destructor_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

TEST_CASE("A slow destructor: the other slot answers, deadlines are met, and who needs the place waits for it",
          "[R2][R9][H13]") {
    // Without a claim of a key whose waiters have timed out (H1).
    ManagerBench bench({.embedding = {.abandon_after = 0ms}});
    auto first = bench.embed(a);
    // The other slot's model is loaded by then: on one loading context its load could only come after the unload.
    auto ready = bench.rerank(b);
    bench.run();
    std::optional<Outcome<Embeddings>> again;
    std::optional<Outcome<Embeddings>> in_time;
    during(*bench.world, FakeStep::unload, [&] {
        again = bench.embed(a);
        in_time = bench.embed(b, {"text"}, {.timeout = 1s});
        auto beside = bench.rerank(b);
        bench.run_without_loading();
        CHECK(beside.calls() == 1);
        CHECK_FALSE(beside.exception());
        const SlotStatus status = bench.manager->embedding().status();
        REQUIRE(status.residents.size() == 1);
        CHECK(status.residents.front().state == ResidentState::unloading);
        CHECK(status.waiting == 2);
        CHECK_FALSE(bench.manager->embedding().try_acquire(a));
        VirtualClock::advance(1s);
        bench.run_without_loading();
        REQUIRE(in_time->calls() == 1);
        CHECK(in_time->code() == errc::timed_out);
        CHECK(again->calls() == 0);
    });
    const auto unloaded = bench.unload(a);
    bench.run();
    CHECK(unloaded.calls() == 1);
    REQUIRE(again);
    REQUIRE(again->calls() == 1);
    // A fresh one, loaded after the other was gone.
    CHECK(testing::answered_by(again->value()) == 3);
    CHECK(bench.world->counts(a).most_resident == 1);
    CHECK(bench.world->counts(a).unloads == 1);
    CHECK_FALSE(ready.exception());
    CHECK_FALSE(first.exception());
    bench.finish(6);
}

TEST_CASE(
    "A slow destructor: a shutdown past its deadline says that the model is unloading, and one that waits ends when it "
    "is gone",
    "[R9][R12][H9]") {
    SlotBench bench;
    bench.load(a);
    std::optional<Outcome<ShutdownReport>> late;
    std::optional<Outcome<ShutdownReport>> patient;
    during(*bench.world, FakeStep::unload, [&] {
        late = bench.shutdown(1s);
        patient = bench.shutdown();
        bench.run_without_loading();
        CHECK(late->calls() == 0);
        VirtualClock::advance(1s);
        bench.run_without_loading();
        REQUIRE(late->calls() == 1);
        REQUIRE(late->value().leftovers.size() == 1);
        CHECK(late->value().leftovers.front().key == a);
        CHECK(late->value().leftovers.front().state == ResidentState::unloading);
        CHECK(patient->calls() == 0);
    });
    const auto unloaded = bench.unload(a);
    bench.run();
    CHECK(unloaded.calls() == 1);
    REQUIRE(patient);
    REQUIRE(patient->calls() == 1);
    CHECK(patient->value().clean());
    bench.check_ended(4);
}

TEST_CASE("A slow destructor: its slot may be destroyed meanwhile, and the model is destroyed once", "[R9][R12][H11]") {
    SlotBench bench;
    bench.load(a);
    std::optional<Outcome<FakeLease>> waiter;
    during(*bench.world, FakeStep::unload, [&] {
        waiter = bench.acquire(a);
        bench.slot.reset();
        bench.run_without_loading();
        REQUIRE(waiter->calls() == 1);
        CHECK(waiter->code() == errc::shutting_down);
    });
    const auto unloaded = bench.unload(a);
    bench.run();
    CHECK(unloaded.calls() == 1);
    CHECK(unloaded.code() == errc::shutting_down);
    CHECK(bench.world->counts().unloads == 1);
    bench.check_gone(3);
}

TEST_CASE("A slow destructor on the thread that ended the last lease keeps no other thread from ending theirs",
          "[R1][R10][H11]") {
    SlotOptions options;
    options.max_resident = 2;
    const auto world = std::make_shared<FakeWorld>();
    FakeLease slow;
    FakeLease other;
    {
        ModelSlot<FakeEmbeddingBackend> slot{FakeEmbeddingBackend(world), options};
        slow = slot.acquire(a);
        other = slot.acquire(b);
    }
    const auto gate = world->block(FakeStep::unload, a);
    std::thread thread([lease = std::move(slow)]() mutable { lease.release(); });
    gate->await_held();
    CHECK_FALSE(other.revoked());
    CHECK(other->key() == b);
    other.release();
    CHECK(world->counts(b).live == 0);
    CHECK(world->counts(a).live == 1);
    gate->open();
    thread.join();
    check_at_rest(*world);
    CHECK(world.use_count() == 1);
}

TEST_CASE("A slow destructor on threads of the library's own delays neither the other slot nor who is turned away",
          "[R2][R9][H13]") {
    ThreadedManager bench;
    CHECK(bench.manager->embed(a, {"text"}).size() == 1);
    const auto gate = bench.world->block(FakeStep::unload, a);
    const auto unloaded = bench.unload(a);
    gate->await_held();
    CHECK(bench.manager->rerank(c, "query", {"document"}).size() == 1);
    CHECK(code_of([&] { (void)bench.manager->embed(b, {"text"}, {.timeout = 1ms}); }) == errc::timed_out);
    const auto again = bench.embed(a);
    CHECK(unloaded.calls() == 0);
    gate->open();
    again.wait();
    unloaded.wait();
    CHECK_FALSE(again.exception());
    CHECK(bench.world->counts(a).most_resident == 1);
    bench.finish(2);
}

}  // namespace slow_destructor_test
