// H19: every field that event.hpp promises, for each type of event.

#include "support/bench.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace event_fields_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a", "f16");
const ModelKey b("b", "f16");

/// A model that takes `length` for a step of its life.
void take(Bench& bench, FakeStep step, VirtualClock::duration length) {
    bench.world->on(step, [length](const FakeCall&) { VirtualClock::advance(length); });
}

/// The only event of its type.
Event only(const Bench& bench, EventType type) {
    const std::vector<Event> events = bench.events.all(type);
    INFO(type);
    REQUIRE(events.size() == 1);
    return events.front();
}

std::size_t sum_of_counts(const std::vector<Event>& events) {
    return std::accumulate(events.begin(), events.end(), std::size_t{0},
                           [](std::size_t sum, const Event& event) { return sum + event.count; });
}

}  // namespace

// -- Loads ------------------------------------------------------------------------------------------------------------

TEST_CASE("The events of a load: slot, key, reason, progress, lines, generation and how long it took", "[H19]") {
    SlotBench bench;
    bench.world->on(FakeStep::load, [](const FakeCall& call) {
        call.context->progress(0.5F);
        call.context->log(Severity::warning, "an old file");
        VirtualClock::advance(800ms);
    });
    bench.lease(a).release();
    for (const Event& event : bench.events.all()) {
        INFO(event);
        CHECK(event.slot == "model");
        CHECK(event.key == a);
        CHECK(event.count == 0);
    }
    const Event started = only(bench, EventType::load_started);
    CHECK(started.reason == Reason::requested);
    CHECK(started.generation == Generation());
    CHECK(started.duration == 0ns);
    const Event progress = only(bench, EventType::load_progress);
    CHECK(progress.progress == 0.5F);
    CHECK(progress.generation == Generation());
    const Event line = only(bench, EventType::load_log);
    CHECK(line.severity == Severity::warning);
    CHECK(line.message == "an old file");
    const Event ready = only(bench, EventType::ready);
    CHECK(ready.reason == Reason::requested);
    CHECK(ready.generation == bench.slot->generation());
    CHECK(ready.duration == 800ms);
    bench.check_end();
}

TEST_CASE("load_failed has the backend's message and how long the load took", "[H19]") {
    SlotBench bench;
    take(bench, FakeStep::load, 300ms);
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("no such file"));
    Outcome<Generation> failed;
    bench.slot->async_ensure_loaded(a, failed.handler());
    bench.run();
    CHECK(failed.code() == errc::load_failed);
    const Event event = only(bench, EventType::load_failed);
    CHECK(event.slot == "model");
    CHECK(event.key == a);
    CHECK(event.message == "no such file");
    CHECK(event.duration == 300ms);
    CHECK(event.generation == Generation());
    bench.check_end();
}

TEST_CASE("load_aborted says why the load was asked to stop, and how long it took", "[H19][H2]") {
    for (const Reason reason : {Reason::unload, Reason::shutdown}) {
        INFO(reason);
        SlotBench bench;
        Request<Generation> waiter;
        Outcome<> unloaded;
        Outcome<ShutdownReport> report;
        bool is_first = true;
        bench.world->on(FakeStep::load, [&](const FakeCall& call) {
            if (!std::exchange(is_first, false)) {
                return;
            }
            VirtualClock::advance(200ms);
            if (reason == Reason::unload) {
                bench.slot->async_unload(a, unloaded.handler());
            } else {
                bench.slot->async_shutdown(report.handler());
            }
            run_ready(bench.control);
            CHECK(call.stop.stop_requested());
            VirtualClock::advance(200ms);
            throw std::runtime_error("stopped half-way");
        });
        bench.slot->async_ensure_loaded(a, waiter.token());
        bench.run();
        const Event event = only(bench, EventType::load_aborted);
        CHECK(event.slot == "model");
        CHECK(event.key == a);
        CHECK(event.reason == reason);
        CHECK(event.duration == 400ms);
        CHECK(bench.events.count(EventType::load_failed) == 0);
        if (reason == Reason::unload) {
            bench.check_end();
        } else {
            CHECK(report.calls() == 1);
            bench.check_nothing_left();
        }
    }
}

// -- Drains and unloads -----------------------------------------------------------------------------------------------

TEST_CASE("drain_started and drain_ended have key, generation and reason", "[H19][S22]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    const Generation generation = held.generation();
    Request<Generation> leaver;
    bench.slot->async_ensure_loaded(b, leaver.token());
    bench.run();
    const Event started = only(bench, EventType::drain_started);
    CHECK(started.slot == "model");
    CHECK(started.key == a);
    CHECK(started.generation == generation);
    CHECK(started.reason == Reason::switched);
    leaver.cancel();
    bench.run();
    const Event ended = only(bench, EventType::drain_ended);
    CHECK(ended.slot == "model");
    CHECK(ended.key == a);
    CHECK(ended.generation == generation);
    held.release();
    bench.check_end();
}

TEST_CASE("unload_started and unloaded have key, generation and reason, and unloaded how long it took", "[H19]") {
    struct Way {
        Reason reason;
        std::function<void(SlotBench&)> go;
    };
    const std::vector<Way> ways{
        {Reason::idle, [](SlotBench& bench) { bench.advance(1min); }},
        {Reason::switched, [](SlotBench& bench) { bench.lease(b).release(); }},
        {Reason::unload, [](SlotBench& bench) { bench.slot->async_unload([](const std::exception_ptr&) {}); }},
        {Reason::revoked,
         [](SlotBench& bench) { bench.slot->async_unload(UnloadMode::revoke, [](const std::exception_ptr&) {}); }},
        {Reason::shutdown,
         [](SlotBench& bench) { bench.slot->async_shutdown([](const std::exception_ptr&, const ShutdownReport&) {}); }},
    };
    for (const Way& way : ways) {
        INFO(way.reason);
        SlotBench bench({.keep_alive = 1min});
        Generation generation;
        {
            const FakeLease lease = bench.lease(a);
            generation = lease.generation();
        }
        take(bench, FakeStep::unload, 70ms);
        way.go(bench);
        bench.run();
        bench.world->on(FakeStep::unload, {});
        for (const EventType type : {EventType::unload_started, EventType::unloaded}) {
            const Event event = only(bench, type);
            INFO(event);
            CHECK(event.slot == "model");
            CHECK(event.key == a);
            CHECK(event.generation == generation);
            CHECK(event.reason == way.reason);
            CHECK(event.duration == (type == EventType::unloaded ? 70ms : 0ms));
        }
        bench.check_end();
    }
}

// -- Requests ---------------------------------------------------------------------------------------------------------

TEST_CASE("timed_out has the key, how long the request waited, and in which stage", "[H19][S24]") {
    SECTION("in stage queue") {
        SlotBench bench({.max_leases = 1});
        FakeLease held = bench.lease(a);
        bench.advance(5s);
        Outcome<FakeLease> late;
        bench.slot->async_acquire(a, {.timeout = 300ms}, late.handler());
        bench.advance(300ms);
        CHECK(late.error().stage() == Stage::queue);
        const Event event = only(bench, EventType::timed_out);
        CHECK(event.slot == "model");
        CHECK(event.key == a);
        CHECK(event.duration == 300ms);
        CHECK(event.queue_time == 300ms);
        CHECK(event.stage == Stage::queue);
        held.release();
        bench.check_end();
    }
    SECTION("in stage load") {
        SlotBench bench;
        Outcome<FakeLease> late;
        bench.world->on(FakeStep::load, [&](const FakeCall&) {
            VirtualClock::advance(300ms);
            run_ready(bench.control);
        });
        bench.slot->async_acquire(a, {.timeout = 300ms}, late.handler());
        bench.run();
        CHECK(late.error().stage() == Stage::load);
        const Event event = only(bench, EventType::timed_out);
        CHECK(event.key == a);
        CHECK(event.duration == 300ms);
        CHECK(event.load_time == 300ms);
        CHECK(event.stage == Stage::load);
        bench.check_end();
    }
    SECTION("in stage inference") {
        ManagerBench bench;
        Outcome<Ranking> late;
        bench.world->on(FakeStep::load, [](const FakeCall&) { VirtualClock::advance(200ms); });
        bench.world->on(FakeStep::inference, [&](const FakeCall&) {
            VirtualClock::advance(100ms);
            run_ready(bench.control);
        });
        bench.manager->async_rerank(a, "query", {"text"}, {.timeout = 300ms}, late.handler());
        bench.run();
        CHECK(late.error().stage() == Stage::inference);
        const Event event = only(bench, EventType::timed_out);
        CHECK(event.slot == "reranker");
        CHECK(event.key == a);
        CHECK(event.duration == 300ms);
        CHECK(event.queue_time == 0ms);
        CHECK(event.load_time == 200ms);
        CHECK(event.call_time == 100ms);
        CHECK(event.stage == Stage::inference);
        bench.check_end();
    }
}

TEST_CASE("inference_failed has slot, key, generation and the model's message", "[H19][S27]") {
    ManagerBench bench;
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("no memory on the device"));
    Outcome<Embeddings> failed;
    bench.manager->async_embed(a, {"text"}, failed.handler());
    bench.run();
    CHECK(failed.code() == errc::inference_failed);
    const Event event = only(bench, EventType::inference_failed);
    CHECK(event.slot == "embedding");
    CHECK(event.key == a);
    CHECK(event.generation == bench.manager->embedding().generation());
    CHECK(event.message == "no memory on the device");
    bench.check_end();
}

TEST_CASE("inference_failed says what the request's time went into", "[H19]") {
    ManagerOptions options;
    options.embedding.max_calls = 1;
    enum class Way { alone, shared, in_parts };
    for (const Way way : {Way::alone, Way::shared, Way::in_parts}) {
        INFO("way " << static_cast<int>(way));
        ManagerBench bench(options);
        if (way != Way::alone) {
            bench.world->set_batch_limits(a, {2});
        }
        std::deque<Outcome<Embeddings>> answers(3);
        std::size_t calls = 0;
        bench.world->on(FakeStep::load, [](const FakeCall&) { VirtualClock::advance(200ms); });
        bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
            VirtualClock::advance(100ms);
            if (++calls == (way == Way::in_parts ? 3 : 2)) {
                throw way == Way::shared ? Error(errc::inference_failed, call.key, Stage::inference, "no").at_text(0)
                                         : Error(errc::inference_failed, call.key, Stage::inference, "no");
            }
        });
        // As much as a call takes.
        bench.manager->async_embed(a, {"first", "second"}, answers[0].handler());
        VirtualClock::advance(10ms);
        bench.manager->async_embed(
            a, way == Way::in_parts ? std::vector<std::string>(4, "text") : std::vector<std::string>(1, "text"),
            answers[1].handler());
        if (way == Way::shared) {
            bench.manager->async_embed(a, {"third"}, answers[2].handler());
        }
        bench.run();
        CHECK(answers[1].code() == errc::inference_failed);
        const Event event = only(bench, EventType::inference_failed);
        CHECK(event.load_time == 200ms);
        CHECK(event.queue_time == 100ms);
        CHECK(event.call_time == (way == Way::in_parts ? 200ms : 100ms));
        CHECK(event.duration == event.load_time + event.queue_time + event.call_time);
        bench.check_end();
    }
}

TEST_CASE("A model that obeys its stop_token has not failed, whatever it throws", "[H19]") {
    enum class Cause { timeout, cancel, revoke, destruction };
    for (const Cause cause : {Cause::timeout, Cause::cancel, Cause::revoke, Cause::destruction}) {
        INFO("cause " << static_cast<int>(cause));
        ManagerBench bench;
        auto& models = *bench.manager;
        Request<Embeddings> request;
        bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
            switch (cause) {
                case Cause::timeout: VirtualClock::advance(1s); break;
                case Cause::cancel: request.cancel(); break;
                case Cause::revoke:
                    models.embedding().async_unload(UnloadMode::revoke, [](const std::exception_ptr&) {});
                    break;
                case Cause::destruction: bench.manager.reset(); break;
            }
            run_ready(bench.control);
            CHECK(call.stop.stop_requested());
            throw std::runtime_error("stopped as I was asked to");
        });
        models.async_embed(a, {"text"}, {.timeout = 1s}, request.token());
        bench.run();
        CHECK(request.calls() == 1);
        CHECK(bench.events.count(EventType::inference_failed) == 0);
        if (bench.manager) {
            bench.check_end();
        } else {
            bench.check_nothing_left();
        }
    }
}

// -- Refusals ---------------------------------------------------------------------------------------------------------

TEST_CASE("Refusals are summed up: one event a second, with their count and the latest key", "[H19]") {
    SlotBench bench({.max_leases = 1, .max_queue = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> fills;
    bench.slot->async_acquire(a, fills.handler());
    bench.run();
    std::size_t refused = 0;
    const auto overload = [&](const ModelKey& key, std::size_t times) {
        for (std::size_t count = 0; count < times; ++count) {
            Outcome<FakeLease> answer;
            bench.slot->async_acquire(key, answer.handler());
            bench.run();
            REQUIRE(answer.code() == errc::overloaded);
            ++refused;
        }
    };
    overload(a, 500);
    overload(b, 500);
    CHECK(bench.events.count(EventType::rejected) <= 1);
    // The alarm sends the last of them, although no request comes any more.
    bench.advance(1s);
    std::vector<Event> events = bench.events.all(EventType::rejected);
    CHECK(events.size() <= 2);
    CHECK(sum_of_counts(events) == refused);
    REQUIRE_FALSE(events.empty());
    CHECK(events.back().key == b);
    for (const Event& event : events) {
        CHECK(event.slot == "model");
        CHECK(event.reason == Reason::overloaded);
        CHECK(event.count >= 1);
    }
    // Ten seconds of an overload, with a request every 10 ms.
    const std::size_t before = events.size();
    for (int step = 0; step < 1000; ++step) {
        overload(step % 2 == 0 ? a : b, 1);
        bench.advance(10ms);
    }
    bench.advance(1s);
    events = bench.events.all(EventType::rejected);
    CHECK(sum_of_counts(events) == refused);
    CHECK(events.size() - before >= 10);
    CHECK(events.size() - before <= 12);
    CHECK(bench.slot->status().counters.overloaded == refused);
    held.release();
    bench.run();
    fills.value().release();
    bench.check_end();
}

TEST_CASE("Refusals of one kind are summed up apart from those of another, and those of one slot from the other's",
          "[H19]") {
    ManagerBench bench({.embedding = {.max_leases = 1, .max_queue = 1, .cooldown = 1h, .max_cooldown = 1h}});
    auto& models = *bench.manager;
    bench.world->fail_next(FakeStep::load, b, std::runtime_error("no such file"), 2);
    Outcome<Generation> failed;
    Outcome<Generation> other;
    models.embedding().async_ensure_loaded(b, failed.handler());
    models.reranker().async_ensure_loaded(b, other.handler());
    bench.run();
    CHECK(failed.code() == errc::load_failed);
    CHECK(other.code() == errc::load_failed);
    Outcome<Lease<testing::FakeEmbedder>> held;
    models.embedding().async_acquire(a, held.handler());
    bench.run();
    REQUIRE(held.calls() == 1);
    Outcome<Lease<testing::FakeEmbedder>> fills;
    models.embedding().async_acquire(a, fills.handler());
    bench.run();
    const auto ignore = [](const std::exception_ptr&, const auto&) {};
    for (int count = 0; count < 3; ++count) {
        models.embedding().async_acquire(a, ignore);
        models.embedding().async_acquire(b, ignore);
        models.embedding().async_acquire(b, ignore);
    }
    // The reranker's slot has the default cooldown of a second.
    models.reranker().async_ensure_loaded(b, ignore);
    bench.advance(1s);
    const auto count_of = [&](std::string_view slot, Reason reason) {
        std::vector<Event> events = bench.events.all(EventType::rejected);
        std::erase_if(events, [&](const Event& event) { return event.slot != slot || event.reason != reason; });
        return sum_of_counts(events);
    };
    CHECK(count_of("embedding", Reason::overloaded) == 3);
    CHECK(count_of("embedding", Reason::cooling_down) == 6);
    CHECK(count_of("reranker", Reason::cooling_down) == 1);
    CHECK(count_of("reranker", Reason::overloaded) == 0);
    held.value().release();
    bench.run();
    fills.value().release();
    bench.check_end();
}

// -- Shutdowns --------------------------------------------------------------------------------------------------------

TEST_CASE("shutdown_started and shutdown_completed have the slot and the reason, and the latter a message", "[H19]") {
    ManagerBench bench;
    Outcome<Embeddings> answer;
    bench.manager->async_embed(a, {"text"}, answer.handler());
    bench.run();
    CHECK(answer.calls() == 1);
    Outcome<ShutdownReport> report;
    bench.manager->async_shutdown(report.handler());
    bench.run();
    CHECK(report.value().clean());
    for (const EventType type : {EventType::shutdown_started, EventType::shutdown_completed}) {
        const std::vector<Event> events = bench.events.all(type);
        REQUIRE(events.size() == 2);
        CHECK(events[0].slot != events[1].slot);
        for (const Event& event : events) {
            INFO(event);
            CHECK((event.slot == "embedding" || event.slot == "reranker"));
            CHECK(event.key == ModelKey());
            CHECK(event.reason == Reason::shutdown);
            CHECK(event.message.empty() == (type == EventType::shutdown_started));
        }
    }
    bench.check_nothing_left();
}

TEST_CASE("shutdown_completed comes at a deadline, too, and its message says what is left", "[H19][S31][S44]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(1s, report.handler());
    bench.run();
    CHECK(bench.events.count(EventType::shutdown_completed) == 0);
    bench.advance(1s);
    REQUIRE(report.calls() == 1);
    CHECK_FALSE(report.value().clean());
    const Event event = only(bench, EventType::shutdown_completed);
    CHECK(event.slot == "model");
    CHECK(event.reason == Reason::shutdown);
    CHECK_THAT(event.message, contains_text(to_string(a)));
    held.release();
    bench.check_nothing_left();
}

// -- Order ------------------------------------------------------------------------------------------------------------

TEST_CASE("Events come in the order in which things happened, however late they are delivered", "[H19]") {
    SlotBench bench({.keep_alive = 0ms});
    Outcome<Generation> first;
    Outcome<Generation> second;
    // The observer is behind: nothing is delivered before all has happened.
    bench.slot->async_ensure_loaded(a, first.handler());
    run_ready(bench.loading);
    bench.slot->async_ensure_loaded(b, second.handler());
    run_ready(bench.loading);
    bench.run();
    CHECK(first.calls() + second.calls() == 2);
    CHECK(bench.events.types() == std::vector{EventType::load_started, EventType::ready, EventType::unload_started,
                                              EventType::unloaded, EventType::load_started, EventType::ready,
                                              EventType::unload_started, EventType::unloaded});
    bench.check_end();
}

}  // namespace event_fields_test
