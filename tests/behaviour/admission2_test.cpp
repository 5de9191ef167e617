// H4 and H5: who needs a place in the queue, and in which order a request is checked.

#include "support/bench.hpp"

#include <stdexcept>
#include <vector>

namespace admission2_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

}  // namespace

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

TEST_CASE("Any request that must wait needs a place, ensure_loaded like acquire", "[H4][R8]") {
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
    CHECK(third.code() == errc::overloaded);
    CHECK(fourth.code() == errc::overloaded);
    CHECK(fourth.error().stage() == Stage::admission);
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

TEST_CASE("A request is overloaded also if its model is resident, when no lease and no place is left", "[H4][R8]") {
    SlotBench bench({.max_leases = 1, .max_queue = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> waits;
    Outcome<FakeLease> refused;
    bench.slot->async_acquire(a, waits.handler());
    bench.slot->async_acquire(a, refused.handler());
    bench.run();
    CHECK(waits.calls() == 0);
    CHECK(refused.code() == errc::overloaded);
    held.release();
    bench.run();
    REQUIRE(waits.calls() == 1);
    waits.value().release();
    bench.check_end();
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

}  // namespace admission2_test
