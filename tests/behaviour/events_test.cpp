// H19: how events reach the observer, what an overflow looks like, and what is remembered of keys that failed.

#include "support/bench.hpp"

#include "residency/shell/event_queue.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace events_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

constexpr std::size_t capacity = detail::EventQueue::capacity;
constexpr std::size_t remembered = 256;

}  // namespace

TEST_CASE("Thousands of timeouts in one instant come in slices, which leave the observer its turn", "[H14][H19]") {
    constexpr std::size_t waiters = capacity + 100;
    SlotBench bench({.keep_alive = keep_alive_forever, .max_leases = 1, .max_queue = waiters});
    const FakeLease held = bench.lease(a);
    std::size_t seen = 0;
    for (std::size_t index = 0; index < waiters; ++index) {
        bench.slot->async_acquire(
            a, {.timeout = 1s}, [&seen](const std::exception_ptr& error, const FakeLease&) { seen += error ? 1 : 0; });
    }
    bench.advance(1s);
    CHECK(seen == waiters);
    CHECK(bench.events.count(EventType::timed_out) == waiters);
    CHECK(bench.events.count(EventType::dropped) == 0);
}

TEST_CASE("Observers get their events on callbacks, in order, one at a time", "[H19]") {
    SlotBench bench({.keep_alive = 1min});
    std::vector<EventType> types;
    int depth = 0;
    int deepest = 0;
    bool on_control = true;
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{.keep_alive = 1min}, bench.executors(),
                       [&](const Event& event) {
                           deepest = std::max(deepest, ++depth);
                           on_control = on_control && bench.control.get_executor().running_in_this_thread() &&
                                        !bench.loading.get_executor().running_in_this_thread();
                           types.push_back(event.type);
                           // May call back into the library; what that publishes comes after this.
                           CHECK(bench.slot->status().name == "model");
                           if (event.type == EventType::ready) {
                               bench.slot->async_unload([](std::exception_ptr) {});
                           }
                           run_ready(bench.control);
                           --depth;
                       });
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    CHECK(types.empty());
    bench.run();
    CHECK(on_control);
    CHECK(deepest == 1);
    CHECK(types ==
          std::vector{EventType::load_started, EventType::ready, EventType::unload_started, EventType::unloaded});
    CHECK(loaded.calls() == 1);
    bench.check_end();
}

TEST_CASE("ready is published after the model can be leased", "[H19]") {
    SlotBench bench;
    bool leased = false;
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{}, bench.executors(), [&](const Event& event) {
        if (event.type == EventType::ready) {
            leased = static_cast<bool>(bench.slot->try_acquire(a));
            CHECK(event.generation == bench.slot->generation());
            CHECK(event.key == a);
        }
    });
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    bench.run();
    CHECK(leased);
    CHECK(loaded.calls() == 1);
    bench.check_end();
}

TEST_CASE("An overflow is one event with a count, and what follows is delivered", "[H19]") {
    SlotBench bench;
    // Callbacks stands still while one load logs far too much.
    constexpr std::size_t too_many = 100;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        // load_started waits already.
        for (std::size_t line = 0; line + 1 < capacity + too_many; ++line) {
            call.context->log(Severity::info, "line " + std::to_string(line));
        }
    });
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    run_ready(bench.loading);
    // ready did not fit either.
    CHECK(bench.events.all().empty());
    bench.run();
    CHECK(loaded.calls() == 1);
    // The gap is reported once what was before it has been: nothing may ever follow.
    REQUIRE(bench.events.all().size() == capacity + 1);
    CHECK(bench.events.all()[capacity - 1].message == "line " + std::to_string(capacity - 2));

    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.run();
    CHECK(unloaded.calls() == 1);
    const std::vector<Event> all = bench.events.all();
    REQUIRE(all.size() == capacity + 3);
    CHECK(all[capacity].type == EventType::dropped);
    CHECK(all[capacity].count == too_many + 1);
    // Both slots of a manager share the queue.
    CHECK(all[capacity].slot.empty());
    CHECK(all[capacity + 1].type == EventType::unload_started);
    CHECK(all[capacity + 2].type == EventType::unloaded);
    bench.check_end();
}

TEST_CASE("A gap comes after what had room, and before what follows while that is on its way", "[H19]") {
    asio::io_context control;
    std::vector<Event> seen;
    std::shared_ptr<detail::EventQueue> queue;
    const auto push = [&queue](const std::string& message) { queue->push(Event{.message = message}); };
    queue = std::make_shared<detail::EventQueue>(
        [&](const Event& event) {
            seen.push_back(event);
            // The first makes room for another.
            if (seen.size() == 1) {
                push("late");
            }
        },
        control.get_executor(), nullptr);
    for (std::size_t line = 0; line < capacity; ++line) {
        push(std::to_string(line));
    }
    push("too much");
    push("too much");
    queue->flush();
    control.run();
    REQUIRE(seen.size() == capacity + 2);
    CHECK(seen[capacity - 1].message == std::to_string(capacity - 1));
    CHECK(seen[capacity].type == EventType::dropped);
    CHECK(seen[capacity].count == 2);
    CHECK(seen[capacity + 1].message == "late");
}

TEST_CASE("Both slots of a manager share one queue, and each event names its slot", "[H19]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Generation> embedder;
    Outcome<Generation> reranker;
    models.embedding().async_ensure_loaded(a, embedder.handler());
    models.reranker().async_ensure_loaded(b, reranker.handler());
    bench.run();
    CHECK(embedder.calls() + reranker.calls() == 2);
    std::vector<std::string> slots;
    for (const Event& event : bench.events.all(EventType::load_started)) {
        slots.push_back(event.slot + " " + event.key.name);
    }
    CHECK(slots == std::vector<std::string>{"embedding a", "reranker b"});
    bench.check_end();
}

TEST_CASE("A flood of events does not keep callbacks from its other work", "[H19]") {
    SlotBench bench;
    std::size_t events_before_work = 0;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        for (std::size_t line = 0; line < capacity / 2; ++line) {
            call.context->log(Severity::info, "line");
        }
        // What else callbacks has to do comes after what is there by now, and before all those lines.
        asio::post(bench.control, [&] { events_before_work = bench.events.all().size(); });
    });
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded(a, loaded.handler());
    bench.run();
    CHECK(loaded.calls() == 1);
    CHECK(events_before_work < capacity / 2);
    CHECK(bench.events.count(EventType::load_log) == capacity / 2);
    bench.check_end();
}

TEST_CASE("The latest 256 failed keys are remembered, the oldest forgotten", "[H19]") {
    SlotBench bench({.cooldown = 1h, .max_cooldown = 1h});
    bench.world->on(FakeStep::load, [](const FakeCall& call) {
        if (call.key.name.starts_with("bad")) {
            throw std::runtime_error("no such file: " + call.key.name);
        }
    });
    for (std::size_t index = 0; index < remembered + 10; ++index) {
        Outcome<Generation> failed;
        bench.slot->async_ensure_loaded(ModelKey("bad" + std::to_string(index)), failed.handler());
        bench.run();
        REQUIRE(failed.code() == errc::load_failed);
    }
    const std::vector<FailureStatus> failures = bench.slot->status().failures;
    REQUIRE(failures.size() == remembered);
    // The latest first.
    CHECK(failures.front().key == ModelKey("bad" + std::to_string(remembered + 9)));
    CHECK(failures.front().message == "no such file: bad" + std::to_string(remembered + 9));
    CHECK(failures.back().key == ModelKey("bad10"));
    CHECK(failures.front().failures == 1);
    CHECK(failures.front().retry_after == 1h);

    // Who is forgotten is tried again; who is remembered cools down.
    Outcome<Generation> forgotten;
    Outcome<Generation> cooling;
    bench.slot->async_ensure_loaded(ModelKey("bad0"), forgotten.handler());
    bench.run();
    bench.slot->async_ensure_loaded(ModelKey("bad200"), cooling.handler());
    bench.run();
    CHECK(forgotten.code() == errc::load_failed);
    CHECK(cooling.code() == errc::cooling_down);
    bench.check_end();
}

TEST_CASE("Without an observer there are no events, and nothing waits for one", "[H19]") {
    SlotBench bench;
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{}, bench.executors());
    bench.lease(a).release();
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    run_ready(bench.loading);
    CHECK(bench.world->counts().live == 0);
    bench.run();
    CHECK(unloaded.calls() == 1);
    CHECK(bench.events.all().empty());
    bench.check_end();
}

}  // namespace events_test
