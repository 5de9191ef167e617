// What requests and observers get: which words an error has in which stage, and which events come of what, with
// nothing beside them.

#include "support/bench.hpp"

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

namespace early_completion_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

/// Lets a slot decide and load; no call of a model begins.
void run_without_inference(Bench& bench) { run_ready(bench.control, bench.loading); }

}  // namespace

TEST_CASE("A timeout names what was going on", "[R9]") {
    ManagerBench bench;
    auto& slot = bench.manager->embedding();

    Outcome<Embeddings> loading;
    bench.manager->async_embed(a, {"text"}, {.timeout = 1s}, loading.handler());
    bench.world->on(FakeStep::load, [&bench](const FakeCall&) {
        VirtualClock::advance(1s);
        run_ready(bench.control);
    });
    bench.run();
    bench.world->on(FakeStep::load, {});
    REQUIRE(loading.calls() == 1);
    CHECK(loading.error().stage() == Stage::load);
    CHECK_THAT(std::string(loading.error().what()), contains_text("while the model was being loaded"));

    Outcome<Embeddings> working;
    bench.manager->async_embed(a, {"text"}, {.timeout = 1s}, working.handler());
    run_without_inference(bench);
    VirtualClock::advance(1s);
    run_without_inference(bench);
    CHECK(working.error().stage() == Stage::inference);
    CHECK_THAT(std::string(working.error().what()), contains_text("while the model was at work"));
    bench.run();

    Outcome<Lease<testing::FakeEmbedder>> held;
    slot.async_acquire(a, held.handler());
    bench.run();
    Outcome<Embeddings> waiting;
    bench.manager->async_embed(b, {"text"}, {.timeout = 1s}, waiting.handler());
    bench.advance(1s);
    CHECK(waiting.error().stage() == Stage::queue);
    CHECK_THAT(std::string(waiting.error().what()),
               contains_text("while the request waited for a lease or a place in slot 'embedding'"));

    const std::vector<Event> events = bench.events.all(EventType::timed_out);
    REQUIRE(events.size() == 3);
    CHECK(events[0].key == a);
    CHECK(events[1].key == a);
    CHECK(events[2].key == b);
    for (const Event& event : events) {
        CHECK(event.reason == Reason::none);
        CHECK(event.slot == "embedding");
    }
    held.value().release();
    bench.check_end();
}

TEST_CASE("Who may not wait at all is timed out in the queue, and an event says so", "[R9]") {
    SlotBench bench({.max_leases = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> impatient;
    bench.slot->async_acquire(a, {.timeout = 0s}, impatient.handler());
    bench.run();
    CHECK(impatient.code() == errc::timed_out);
    CHECK(impatient.error().stage() == Stage::queue);
    REQUIRE(bench.events.count(EventType::timed_out) == 1);
    CHECK(bench.events.all(EventType::timed_out).front().reason == Reason::none);
    CHECK(bench.events.count(EventType::rejected) == 0);
    held.release();
    bench.check_end();
}

TEST_CASE("Model_changed says whether the model was revoked or is another one", "[R9]") {
    ManagerBench bench;
    auto& slot = bench.manager->embedding();
    Outcome<Embeddings> working;
    bench.manager->async_embed(a, {"text"}, working.handler());
    run_without_inference(bench);
    Outcome<> unloaded;
    slot.async_unload(a, UnloadMode::revoke, unloaded.handler());
    run_without_inference(bench);
    CHECK(working.code() == errc::model_changed);
    CHECK_THAT(std::string(working.error().what()), contains_text("was revoked while it was at work"));
    bench.run();
    CHECK(unloaded.calls() == 1);

    Outcome<Embeddings> expecting;
    bench.manager->async_embed(a, {"text"}, {.expected_generation = Generation(1)}, expecting.handler());
    bench.run();
    CHECK(expecting.code() == errc::model_changed);
    CHECK_THAT(std::string(expecting.error().what()), contains_text("not resident"));
    bench.check_end();
}

TEST_CASE("A call that began at once completes while its model is at work, as one is that waited", "[H10][R9]") {
    const std::vector<errc> reasons{errc::timed_out, errc::model_changed, errc::shutting_down};
    for (const errc reason : reasons) {
        CAPTURE(reason);
        ManagerBench bench;
        Outcome<Embeddings> before;
        bench.manager->async_embed(a, {"text"}, before.handler());
        bench.run();
        REQUIRE(before.calls() == 1);
        // The model is ready: they have their leases when they have been asked for.
        std::vector<Outcome<Embeddings>> calls(3);
        for (Outcome<Embeddings>& call : calls) {
            bench.manager->async_embed(a, {"text"}, {.timeout = 1s}, call.handler());
        }
        REQUIRE(bench.manager->embedding().status().leases == 3);
        Outcome<> unloaded;
        if (reason == errc::timed_out) {
            run_without_inference(bench);
            VirtualClock::advance(1s);
        } else if (reason == errc::model_changed) {
            bench.manager->embedding().async_unload(a, UnloadMode::revoke, unloaded.handler());
        } else {
            bench.manager.reset();
        }
        run_without_inference(bench);
        for (Outcome<Embeddings>& call : calls) {
            REQUIRE(call.calls() == 1);
            CHECK(call.code() == reason);
            CHECK(call.error().stage() == Stage::inference);
        }
        bench.run();
        if (bench.manager) {
            bench.check_end();
        }
        bench.check_nothing_left();
    }
}

TEST_CASE("The events of a load that fails are its beginning and its end, however many waited", "[R11]") {
    SlotBench bench;
    bench.world->fail_next(testing::FakeStep::load, a, std::runtime_error("no such file"));
    Outcome<FakeLease> first;
    Outcome<FakeLease> second;
    bench.slot->async_acquire(a, first.handler());
    bench.slot->async_acquire(a, second.handler());
    bench.run();
    CHECK(first.code() == errc::load_failed);
    CHECK(second.code() == errc::load_failed);
    CHECK(bench.events.types() == std::vector{EventType::load_started, EventType::load_failed});
    CHECK(bench.events.all(EventType::load_failed).front().message == "no such file");
    bench.check_end();
}

TEST_CASE("Events say how long the load and the unload took", "[R9]") {
    SlotBench bench({.keep_alive = 1min});
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    // Time in which the load only queues does not count.
    VirtualClock::advance(1s);
    bench.world->on(FakeStep::load, [](const FakeCall&) { VirtualClock::advance(3s); });
    bench.run();
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    run_ready(bench.control);
    VirtualClock::advance(2s);
    bench.run();
    REQUIRE(unloaded.calls() == 1);
    REQUIRE(bench.events.count(EventType::ready) == 1);
    CHECK(bench.events.all(EventType::ready).front().duration == 3s);
    REQUIRE(bench.events.count(EventType::unloaded) == 1);
    CHECK(bench.events.all(EventType::unloaded).front().duration == 2s);
    CHECK(bench.events.all(EventType::unloaded).front().key == a);
    bench.check_end();
}

TEST_CASE("A NaN is reported by the text whose row it is in", "[R9]") {
    ManagerBench bench;
    bench.world->spoil_next(testing::FakeFault::nan, a);
    Outcome<Embeddings> spoilt;
    bench.manager->async_embed(a, {"one", "two"}, spoilt.handler());
    bench.run();
    CHECK(spoilt.code() == errc::bad_result);
    CHECK_THAT(std::string(spoilt.error().what()), contains_text(": the model gave a NaN in its row"));
    bench.check_end();
}

TEST_CASE("Of a bad key and an empty query, the key is named first", "[R9]") {
    ManagerBench bench;
    Outcome<Ranking> refused;
    bench.manager->async_rerank(ModelKey(""), "", {"document"}, refused.handler());
    bench.run();
    CHECK(refused.code() == errc::invalid_request);
    CHECK_THAT(std::string(refused.error().what()), contains_text("the model key has an empty name"));
    bench.check_end();
}

}  // namespace early_completion_test
