// A slot by itself: the forms a backend may have, the blocking calls, and what errors and status say. What it decides
// is tested in behaviour/.

#include "residency/model_slot.hpp"

#include "support/bench.hpp"

#include <atomic>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace model_slot_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a", "f16");
const ModelKey b("b", "f16");

// Anything that is expensive to hold and safe to drop: not a model at all.
struct Snapshot {
    std::string of;
};
struct PlainLoad {
    using model_type = Snapshot;
    std::unique_ptr<Snapshot> load(const ModelKey& key) {
        return std::make_unique<Snapshot>(Snapshot{"plain " + key.name});
    }
};
struct TokenLoad {
    using model_type = Snapshot;
    std::unique_ptr<Snapshot> load(const ModelKey& key, std::stop_token stop) {
        return std::make_unique<Snapshot>(Snapshot{(stop.stop_possible() ? "token " : "dead token ") + key.name});
    }
};
struct ContextLoad {
    using model_type = Snapshot;
    std::unique_ptr<Snapshot> load(const ModelKey& key, LoadContext& context) {
        context.progress(0.5F);
        context.log(Severity::warning, "half-way");
        return std::make_unique<Snapshot>(Snapshot{"context " + key.name});
    }
};
// A backend that reports more of its progress than is of use.
struct StepLoad {
    using model_type = Snapshot;
    std::unique_ptr<Snapshot> load(const ModelKey& key, LoadContext& context) {
        for (const float done :
             {0.5F, 0.5F, 0.495F, 0.505F, std::numeric_limits<float>::quiet_NaN(), 0.75F, 1.0F, 1.0F, 2.0F}) {
            context.progress(done);
        }
        return std::make_unique<Snapshot>(Snapshot{key.name});
    }
};
// A backend that can only be moved.
struct MovedLoad : PlainLoad {
    MovedLoad() = default;
    MovedLoad(MovedLoad&&) = default;
    std::unique_ptr<int> only_moved = std::make_unique<int>(1);
};

static_assert(!std::is_move_constructible_v<SlotBench::Slot> && !std::is_copy_constructible_v<SlotBench::Slot>);

boost::system::error_code code_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.code();
    }
    return {};
}

// The exception nested in the failure.
std::string nested_in(const std::exception_ptr& failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        try {
            std::rethrow_if_nested(error);
        } catch (const std::exception& nested) {
            return nested.what();
        } catch (...) {
            return "something else";
        }
    }
    return "nothing";
}

}  // namespace

TEMPLATE_TEST_CASE("ModelSlot: each form of load, on threads of its own", "[R12]", PlainLoad, TokenLoad, ContextLoad,
                   MovedLoad) {
    ModelSlot<TestType> slot{TestType()};
    const auto lease = slot.acquire("snapshot");
    CHECK_THAT(lease->of, contains_text("snapshot"));
    CHECK(lease->of.find("dead") == std::string::npos);
    CHECK(slot.generation() == lease.generation());
}

TEST_CASE("ModelSlot: what a load reports becomes events", "[H19]") {
    EventLog events;
    {
        ModelSlot<ContextLoad> slot{ContextLoad(), {}, {}, events.observer(), "snapshots"};
        (void)slot.ensure_loaded(a);
        CHECK(slot.shutdown().clean());
        events.wait_for(EventType::shutdown_completed);
    }
    REQUIRE(events.count(EventType::load_progress) == 1);
    CHECK(events.all(EventType::load_progress).front().progress == 0.5F);
    REQUIRE(events.count(EventType::load_log) == 1);
    const Event log = events.all(EventType::load_log).front();
    CHECK(log.message == "half-way");
    CHECK(log.severity == Severity::warning);
    CHECK(log.slot == "snapshots");
    CHECK(log.key == a);
    CHECK(events.types().back() == EventType::shutdown_completed);
}

TEST_CASE("ModelSlot: progress is published when it has gone on by a percent, and once at the end", "[H19]") {
    EventLog events;
    {
        ModelSlot<StepLoad> slot{StepLoad(), {}, {}, events.observer()};
        (void)slot.ensure_loaded(a);
        CHECK(slot.shutdown().clean());
        events.wait_for(EventType::shutdown_completed);
    }
    std::vector<float> published;
    for (const Event& event : events.all(EventType::load_progress)) {
        published.push_back(event.progress);
    }
    CHECK(published == std::vector{0.5F, 0.75F, 1.0F});
}

TEST_CASE("ModelSlot: the blocking calls, from several threads", "[R3][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    {
        ModelSlot<PlainBackend> slot{PlainBackend(world)};
        std::atomic<int> same = 0;
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                const Generation generation = slot.ensure_loaded(a);
                const FakeLease lease = slot.acquire(a, {.expected_generation = generation});
                same += lease.generation() == generation && lease->serial() == 1 ? 1 : 0;
            });
        }
        threads.clear();
        CHECK(same == 4);
        CHECK(world->counts().loads == 1);
        slot.unload(a);
        CHECK(world->counts().live == 0);
        slot.unload(a);
        CHECK(slot.acquire(b)->key() == b);
        slot.unload(UnloadMode::revoke);
        CHECK(world->counts().live == 0);
        CHECK(slot.status().residents.empty());
        CHECK(slot.shutdown(1h).clean());
        CHECK(slot.shutdown().clean());
        CHECK(code_of([&] { (void)slot.acquire(a); }) == errc::shutting_down);
        CHECK(code_of([&] { (void)slot.ensure_loaded(a); }) == errc::shutting_down);
        CHECK_NOTHROW(slot.unload());
    }
    CHECK(world.use_count() == 1);
}

TEST_CASE("ModelSlot: a blocking shutdown past its deadline says what is left", "[H9]") {
    ModelSlot<PlainBackend> slot{PlainBackend(), {}, {}, {}, "left"};
    FakeLease held = slot.acquire(a);
    ShutdownReport report;
    std::thread([&] { report = slot.shutdown(0ms); }).join();
    REQUIRE(report.leftovers.size() == 1);
    CHECK(report.leftovers.front() == Leftover{"left", a, ResidentState::draining, 1});
    held.release();
    CHECK(slot.shutdown().clean());
}

TEST_CASE("ModelSlot: no more leases on a model than calls that it takes at once", "[R8]") {
    SlotBench bench({.max_resident = 2, .max_leases = 5});
    bench.world->set_max_concurrency(a, 2);
    FakeLease first = bench.lease(a);
    FakeLease second = bench.lease(a);
    CHECK_FALSE(bench.slot->try_acquire(a));
    Outcome<FakeLease> waits;
    bench.slot->async_acquire(a, waits.handler());
    bench.run();
    CHECK(waits.calls() == 0);
    // The slot's own limit is over all its residents.
    FakeLease third = bench.lease(b);
    FakeLease fourth = bench.lease(b);
    FakeLease fifth = bench.lease(b);
    CHECK_FALSE(bench.slot->try_acquire(b));
    first.release();
    bench.run();
    REQUIRE(waits.calls() == 1);
    second.release(), third.release(), fourth.release(), fifth.release();
    waits.value().release();
    bench.check_end();
}

TEST_CASE("ModelSlot: load_failed and cooling_down carry all that a caller needs", "[R11]") {
    SlotBench bench({.cooldown = 2s, .max_cooldown = 5s});
    const auto fail = [&] { bench.world->fail_next(FakeStep::load, a, std::runtime_error("no such file: a.gguf")); };
    fail();
    Outcome<FakeLease> first;
    Outcome<Generation> second;
    bench.slot->async_acquire(a, first.handler());
    bench.slot->async_ensure_loaded(a, second.handler());
    bench.run();
    const Error error = first.error();
    CHECK(error.code() == errc::load_failed);
    CHECK(error.code() == condition::backend);
    CHECK_FALSE(error.code() == condition::retryable);
    CHECK(error.key() == a);
    CHECK(error.stage() == Stage::load);
    CHECK(error.retry_after() == 2s);
    CHECK(nested_in(first.exception()) == "no such file: a.gguf");
    for (const char* part : {"load_failed", "a@f16", "load", "no such file: a.gguf", "2000 ms"}) {
        CHECK_THAT(std::string(error.what()), contains_text(part));
    }
    // Each its own exception object.
    CHECK(second.error().code() == errc::load_failed);
    CHECK(first.exception() != second.exception());

    bench.advance(500ms);
    Outcome<FakeLease> cooling;
    bench.slot->async_acquire(a, cooling.handler());
    bench.run();
    const Error refused = cooling.error();
    CHECK(refused.code() == errc::cooling_down);
    CHECK(refused.code() == condition::retryable);
    CHECK_FALSE(refused.code() == condition::backend);
    CHECK(refused.stage() == Stage::admission);
    CHECK(refused.retry_after() == 1500ms);
    CHECK(bench.world->counts().loads == 1);

    // Doubles, up to the longest; ended by a success.
    bench.advance(1500ms);
    for (const auto expected : {4s, 5s, 5s}) {
        fail();
        Outcome<FakeLease> again;
        bench.slot->async_acquire(a, again.handler());
        bench.run();
        CHECK(again.error().retry_after() == expected);
        bench.advance(expected);
    }
    bench.lease(a).release();
    CHECK(bench.slot->status().failures.empty());
    bench.check_end();
}

TEST_CASE("ModelSlot: an Error of the backend's own keeps its code; invalid_request starts no cooldown", "[R11]") {
    SlotBench bench;
    bench.world->fail_next(FakeStep::load, a, Error(errc::invalid_request, a, Stage::load, "no model of that name"));
    Outcome<FakeLease> unknown;
    bench.slot->async_acquire(a, unknown.handler());
    bench.run();
    CHECK(unknown.code() == errc::invalid_request);
    CHECK(unknown.code() == condition::caller);
    CHECK(unknown.error().retry_after() == std::nullopt);
    CHECK_THAT(std::string(unknown.error().what()), contains_text("no model of that name"));
    CHECK(bench.lease(a)->serial() == 2);

    bench.world->fail_next(FakeStep::load, b,
                           Error(make_error_code(boost::system::errc::not_enough_memory), b, Stage::load));
    Outcome<FakeLease> full;
    bench.slot->async_acquire(b, full.handler());
    bench.run();
    CHECK(full.code() == boost::system::errc::not_enough_memory);
    Outcome<FakeLease> cooling;
    bench.slot->async_acquire(b, cooling.handler());
    bench.run();
    CHECK(cooling.code() == errc::cooling_down);
    bench.check_end();
}

TEST_CASE("ModelSlot: overloaded, timed_out and shutting_down carry all that a caller needs", "[R8][R9]") {
    SlotBench bench({.max_leases = 1, .max_queue = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> late;
    Outcome<FakeLease> refused;
    bench.slot->async_acquire(a, {.timeout = 1s}, late.handler());
    bench.slot->async_acquire(b, refused.handler());
    bench.advance(1s);
    CHECK(refused.code() == errc::overloaded);
    CHECK(refused.code() == condition::capacity);
    CHECK(refused.code() == condition::retryable);
    CHECK(refused.error().key() == b);
    CHECK_THAT(std::string(refused.error().what()), contains_text("max_queue") && contains_text("'model'"));
    CHECK(late.code() == errc::timed_out);
    CHECK(late.code() == condition::retryable);
    CHECK(late.error().key() == a);
    CHECK(late.error().stage() == Stage::queue);
    CHECK_FALSE(late.error().retry_after());
    held.release();
    bench.check_end();
    Outcome<FakeLease> closed;
    bench.slot->async_acquire(a, closed.handler());
    bench.run();
    CHECK(closed.code() == errc::shutting_down);
    CHECK_FALSE(closed.code() == condition::caller);
    CHECK_FALSE(closed.code() == condition::retryable);
    CHECK(closed.error().stage() == Stage::admission);
}

TEST_CASE("ModelSlot: status says what is there, in numbers and in words") {
    SlotBench bench({.keep_alive = 1min, .max_resident = 2});
    FakeLease held = bench.lease(a);
    bench.lease(b).release();
    bench.advance(10s);
    const SlotStatus status = bench.slot->status();
    CHECK(status.name == "model");
    CHECK(status.generation == Generation{2});
    CHECK(status.leases == 1);
    REQUIRE(status.residents.size() == 2);
    CHECK(bench.resident(a)->leases == 1);
    CHECK(bench.resident(a)->idle_for == std::nullopt);
    CHECK(bench.resident(a)->unloads_in == std::nullopt);
    CHECK(bench.resident(b)->idle_for == 10s);
    CHECK(bench.resident(b)->unloads_in == 50s);
    CHECK(status.counters.leases_granted == 2);
    CHECK(status.counters.most_leases == 2);
    std::ostringstream text;
    text << status;
    for (const char* part : {"model: generation 2, 1 leased", "a@f16 ready", "b@f16 ready", "unloads in 50 s"}) {
        CHECK_THAT(text.str(), contains_text(part));
    }
    held.release();
    bench.check_end();
    CHECK(bench.slot->status().shutting_down);
}

TEST_CASE("ModelSlot: status does not say that an idle model will be unloaded while a request waits for it", "[R5]") {
    SlotBench bench({.max_resident = 2, .max_leases = 1});
    const FakeLease other = bench.lease("b");
    Outcome<Generation> loaded;
    bench.slot->async_ensure_loaded("a", loaded.handler());
    bench.run();
    REQUIRE(bench.resident("a")->unloads_in);
    Outcome<FakeLease> waiting;
    bench.slot->async_acquire("a", waiting.handler());
    bench.run();
    REQUIRE(waiting.calls() == 0);
    const std::optional<ResidentStatus> idle = bench.resident("a");
    REQUIRE(idle);
    CHECK(idle->leases == 0);
    CHECK(idle->idle_for);
    CHECK_FALSE(idle->unloads_in);
}

TEST_CASE("ModelSlot: options are checked before anything is made", "[R12]") {
    const auto world = std::make_shared<FakeWorld>();
    CHECK_THROWS_WITH((ModelSlot<PlainBackend>(PlainBackend(world), {.max_leases = 0}, {}, {}, "mine")),
                      contains_text("mine.max_leases"));
    CHECK(world.use_count() == 1);
}

}  // namespace model_slot_test
