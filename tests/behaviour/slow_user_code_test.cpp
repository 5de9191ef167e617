// H13, H14, H19 and R16: stop callbacks, observers and handlers that are slow, and that hold up nothing but what runs
// after them on their own executor.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

namespace slow_user_code_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using testing::Gate;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey c("c");

/// Embedding slots in which `calls` models' calls run at once.
SlotOptions with_calls(std::size_t calls, std::size_t residents = 1) {
    SlotOptions options;
    options.max_resident = residents;
    options.max_calls = calls;
    return options;
}

/// The code of what `call` throws; no error if it throws nothing.
template <class Call>
boost::system::error_code code_of(const Call& call) {
    try {
        call();
        return {};
    } catch (const Error& error) {
        return error.code();
    }
}

/// Two calls that run at once on the virtual clock, the second within the first. Calls `then` while both run; each has
/// registered `on_stop` for its stop.
void while_two_run(ManagerBench& bench, const std::function<void()>& on_stop, const std::function<void()>& then) {
    int depth = 0;
    bench.world->on(FakeStep::inference, [&bench, &on_stop, &then, depth](const FakeCall& call) mutable {
        const std::stop_callback<std::function<void()>> callback(call.stop, on_stop);
        if (++depth == 1) {
            run_ready(bench.inference);
        } else {
            then();
        }
    });
    bench.run();
    bench.world->on(FakeStep::inference, {});
}

}  // namespace

// -- Stop callbacks ---------------------------------------------------------------------------------------------------

TEST_CASE("A revoke returns before a stop callback is called, and every caller is completed before", "[R16][R10]") {
    ManagerBench bench({.embedding = with_calls(2)});
    Outcome<Embeddings> first;
    Outcome<Embeddings> second;
    Outcome<> unloaded;
    std::vector<std::size_t> completed_at_stop;
    bench.manager->async_embed(a, {"text"}, first.handler());
    bench.manager->async_embed(a, {"text"}, second.handler());
    while_two_run(
        bench, [&] { completed_at_stop.push_back(first.calls() + second.calls()); },
        [&] {
            bench.manager->embedding().async_unload(a, UnloadMode::revoke, unloaded.handler());
            CHECK(completed_at_stop.empty());
            run_ready(bench.control);
        });
    CHECK(completed_at_stop == std::vector<std::size_t>{2, 2});
    CHECK(first.code() == errc::model_changed);
    CHECK(second.code() == errc::model_changed);
    CHECK(unloaded.calls() == 1);
    bench.check_end();
}

TEST_CASE("A stop is requested on the callbacks executor, and nothing else waits for it", "[R16][H14]") {
    Bench bench;
    asio::io_context callbacks;
    Executors executors = bench.executors();
    executors.callbacks = callbacks.get_executor();
    ManagerOptions options;
    options.embedding = with_calls(1, 2);
    std::optional<ManagerBench::Manager> models(std::in_place, testing::FakeEmbeddingBackend(bench.world),
                                                testing::FakeRerankerBackend(bench.world), options, executors);
    const auto on_control = [&](auto handler) { return asio::bind_executor(bench.control, std::move(handler)); };
    Outcome<Embeddings> late;
    Outcome<Generation> other;
    std::size_t stops = 0;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        const std::stop_callback callback(call.stop, [&] { ++stops; });
        VirtualClock::advance(1s);
        run_ready(bench.control, bench.loading);
        CHECK(late.code() == errc::timed_out);
        // Loads, grants and unloads go on.
        models->embedding().async_ensure_loaded(b, on_control(other.handler()));
        run_ready(bench.control, bench.loading);
        CHECK(other.calls() == 1);
        CHECK(stops == 0);
        CHECK_FALSE(call.stop.stop_requested());
        run_ready(callbacks);
        CHECK(stops == 1);
        CHECK(call.stop.stop_requested());
    });
    models->async_embed(a, {"text"}, {.timeout = 1s}, on_control(late.handler()));
    bench.run();
    CHECK(late.calls() == 1);
    CHECK(stops == 1);
    Outcome<ShutdownReport> report;
    models->async_shutdown(on_control(report.handler()));
    bench.run();
    CHECK(report.value().clean());
    models.reset();
    bench.check_nothing_left();
    CHECK(is_idle(callbacks));
}

TEST_CASE("With one executor for everything a stop callback runs in the deciding call, after everything else",
          "[R16]") {
    Bench bench;
    ManagerOptions options;
    options.embedding = with_calls(2);
    ManagerBench::Manager models(testing::FakeEmbeddingBackend(bench.world), testing::FakeRerankerBackend(bench.world),
                                 options, Executors::all(bench.control.get_executor()));
    Outcome<Embeddings> first;
    Outcome<Embeddings> second;
    Outcome<> unloaded;
    std::vector<std::size_t> completed_at_stop;
    int depth = 0;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        const std::stop_callback callback(call.stop, [&] {
            run_ready(bench.control);
            completed_at_stop.push_back(first.calls() + second.calls());
        });
        if (++depth == 1) {
            run_ready(bench.control);
        } else if (depth == 2) {
            models.embedding().async_unload(a, UnloadMode::revoke, unloaded.handler());
            CHECK(completed_at_stop == std::vector<std::size_t>{2, 2});
        }
    });
    models.async_embed(a, {"text"}, first.handler());
    models.async_embed(a, {"text"}, second.handler());
    bench.run();
    CHECK(depth == 2);
    CHECK(first.code() == errc::model_changed);
    CHECK(second.code() == errc::model_changed);
    CHECK(unloaded.calls() == 1);
    bench.check_ends_clean(models);
}

TEST_CASE("The destructor requests stops itself, after it has completed everything", "[R16][H12]") {
    ManagerBench bench({.embedding = with_calls(1)});
    Outcome<Embeddings> running;
    Outcome<Embeddings> waiting;
    Outcome<Generation> other;
    std::vector<std::size_t> completed_at_stop;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        const std::stop_callback callback(call.stop, [&] {
            run_ready(bench.control);
            completed_at_stop.push_back(running.calls() + waiting.calls() + other.calls());
        });
        bench.manager.reset();
        CHECK(completed_at_stop == std::vector<std::size_t>{3});
    });
    bench.manager->async_embed(a, {"text"}, running.handler());
    bench.manager->async_embed(a, {"text"}, waiting.handler());
    bench.manager->embedding().async_ensure_loaded(b, other.handler());
    bench.run();
    CHECK(completed_at_stop.size() == 1);
    CHECK(running.code() == errc::shutting_down);
    CHECK(waiting.code() == errc::shutting_down);
    CHECK(other.code() == errc::shutting_down);
    bench.check_nothing_left();
}

TEST_CASE("A stop callback that blocks holds up no caller, no timeout, no load and no unload", "[R16][S45]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::thread_pool mine(1);
    const auto on_mine = [&](auto handler) { return asio::bind_executor(mine, std::move(handler)); };
    ManagerOptions options;
    options.embedding = with_calls(2, 3);
    ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models(
        testing::FakeEmbeddingBackend{world}, testing::FakeRerankerBackend{world}, options);
    auto& slot = models.embedding();
    Gate stopping;
    Gate running;
    world->on(FakeStep::inference, [&](const FakeCall& call) {
        const std::stop_callback callback(call.stop, [&] { stopping.pass(); });
        running.pass();
    });
    Outcome<Embeddings> first;
    Outcome<Embeddings> second;
    models.async_embed(a, {"text"}, on_mine(first.handler()));
    models.async_embed(a, {"text"}, on_mine(second.handler()));
    running.await_held(2);

    // Returns while the callback is held back.
    Outcome<> unloaded;
    slot.async_unload(a, UnloadMode::revoke, on_mine(unloaded.handler()));
    first.wait();
    second.wait();
    CHECK(first.code() == errc::model_changed);
    CHECK(second.code() == errc::model_changed);
    stopping.await_held();
    // Both calls still run, so a third waits.
    Outcome<Embeddings> late;
    models.async_embed(b, {"text"}, {.timeout = 1ms}, on_mine(late.handler()));
    late.wait();
    CHECK(late.code() == errc::timed_out);
    CHECK(code_of([&] { (void)models.embed(b, {"text"}, {.timeout = 1ms}); }) == errc::timed_out);
    (void)slot.ensure_loaded(c);
    slot.unload(c);
    CHECK(world->counts(c).unloads == 1);
    CHECK(stopping.held() == 1);

    stopping.open();
    running.open();
    unloaded.wait();
    CHECK(models.shutdown().clean());
    mine.join();
    CHECK(world->counts().live == 0);
}

// -- Observers --------------------------------------------------------------------------------------------------------

TEST_CASE("Nothing waits for the delivery of an event: not an unload, a switch, a shutdown or the destructor",
          "[H19][R16]") {
    Bench bench;
    asio::io_context callbacks;
    Executors executors = bench.executors();
    executors.callbacks = callbacks.get_executor();
    std::optional<SlotBench::Slot> slot(std::in_place, PlainBackend(bench.world),
                                        SlotOptions{.max_leases = 1, .max_queue = 1}, executors,
                                        bench.events.observer());
    const auto on_control = [&](auto handler) { return asio::bind_executor(bench.control, std::move(handler)); };
    {
        Outcome<FakeLease> held;
        Outcome<FakeLease> waiting;
        slot->async_acquire(a, on_control(held.handler()));
        bench.run();
        REQUIRE(held.calls() == 1);
        slot->async_acquire(a, {.timeout = 1s}, on_control(waiting.handler()));
        // An overload makes thousands of refusals.
        for (int count = 0; count < 5000; ++count) {
            slot->async_acquire(a, on_control([](const std::exception_ptr&, const FakeLease&) {}));
        }
        bench.advance(1s);
        CHECK(waiting.code() == errc::timed_out);
        held.value().release();
    }
    Outcome<Generation> switched;
    slot->async_ensure_loaded(b, on_control(switched.handler()));
    bench.run();
    REQUIRE(switched.calls() == 1);
    CHECK_FALSE(switched.exception());
    Outcome<> unloaded;
    slot->async_unload(b, on_control(unloaded.handler()));
    bench.run();
    CHECK(unloaded.calls() == 1);
    CHECK(bench.world->counts().live == 0);
    Outcome<ShutdownReport> report;
    slot->async_shutdown(on_control(report.handler()));
    bench.run();
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    CHECK(bench.events.all().empty());
    slot.reset();
    // No call of the observer begins after the destructor.
    run_ready(callbacks);
    CHECK(bench.events.all().empty());
    bench.check_nothing_left();
}

namespace {

/// A slot on the real clock, with threads of its own.
using Slot = ModelSlot<PlainBackend>;

/// Destroys `slot` while user code holds `gate` on `callbacks`: the destructor completes what waits, and then waits for
/// the one call that runs. The waiter's handler runs on `mine`.
void check_destructor_waits_for(Gate& gate, std::unique_ptr<Slot> slot, FakeWorld& world, asio::thread_pool& mine) {
    const std::shared_ptr<Gate> loading = world.block(FakeStep::load, c);
    Outcome<Generation> waiting;
    slot->async_ensure_loaded(c, asio::bind_executor(mine, waiting.handler()));
    loading->await_held();
    std::atomic<bool> destroyed = false;
    std::thread destroyer([&] {
        slot.reset();
        destroyed = true;
    });
    waiting.wait();
    CHECK(waiting.code() == errc::shutting_down);
    loading->open();
    CHECK_FALSE(destroyed.load());
    gate.open();
    destroyer.join();
    mine.join();
    CHECK(world.counts().live == 0);
}

}  // namespace

TEST_CASE("An observer that blocks holds up no unload, no switch, no timeout and no blocking call", "[H19][R16][S45]") {
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    asio::thread_pool mine(1);
    const auto on_mine = [&](auto handler) { return asio::bind_executor(mine, std::move(handler)); };
    std::atomic<std::size_t> observed = 0;
    auto slot =
        std::make_unique<Slot>(PlainBackend(world), SlotOptions{.max_leases = 1}, Executors{}, [&](const Event&) {
            ++observed;
            gate.pass();
        });
    (void)slot->ensure_loaded(a);
    gate.await_held();
    slot->unload(a);
    CHECK(world->counts(a).unloads == 1);
    (void)slot->ensure_loaded(a);
    (void)slot->ensure_loaded(b);
    CHECK(world->counts(a).unloads == 2);
    {
        const auto lease = slot->acquire(b);
        Outcome<FakeLease> late;
        slot->async_acquire(b, {.timeout = 1ms}, on_mine(late.handler()));
        late.wait();
        CHECK(late.code() == errc::timed_out);
        CHECK(code_of([&] { (void)slot->acquire(b, {.timeout = 1ms}); }) == errc::timed_out);
    }
    CHECK(observed.load() == 1);

    check_destructor_waits_for(gate, std::move(slot), *world, mine);
}

// -- Handlers ---------------------------------------------------------------------------------------------------------

TEST_CASE("A handler that blocks holds up no unload, no switch, no timeout and no blocking call", "[H14][R16][S45]") {
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    asio::thread_pool mine(1);
    const auto on_mine = [&](auto handler) { return asio::bind_executor(mine, std::move(handler)); };
    auto slot = std::make_unique<Slot>(PlainBackend(world), SlotOptions{.max_leases = 1, .max_queue = 1});
    // It has no executor of its own.
    slot->async_ensure_loaded(a, [&](const std::exception_ptr&, const Generation&) { gate.pass(); });
    gate.await_held();
    {
        const auto lease = slot->acquire(a);
        Outcome<FakeLease> late;
        slot->async_acquire(a, {.timeout = 1ms}, on_mine(late.handler()));
        late.wait();
        CHECK(late.code() == errc::timed_out);
        CHECK(code_of([&] { (void)slot->acquire(a, {.timeout = 1ms}); }) == errc::timed_out);
        // Its place in the queue is free again.
        Outcome<FakeLease> next;
        slot->async_acquire(a, {.timeout = 1ms}, on_mine(next.handler()));
        next.wait();
        CHECK(next.code() == errc::timed_out);
    }
    (void)slot->ensure_loaded(b);
    slot->unload(b);
    CHECK(world->counts().unloads == 2);
    CHECK(gate.held() == 1);

    check_destructor_waits_for(gate, std::move(slot), *world, mine);
}

TEST_CASE("A handler that blocks holds up no other context's handlers, and no model call", "[R16][S45]") {
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    asio::thread_pool slow(1);
    asio::thread_pool mine(1);
    ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models(
        testing::FakeEmbeddingBackend{world}, testing::FakeRerankerBackend{world});
    models.async_embed(a, {"text"},
                       asio::bind_executor(slow, [&](const std::exception_ptr&, const Embeddings&) { gate.pass(); }));
    gate.await_held();
    Outcome<Embeddings> other;
    models.async_embed(a, {"text"}, asio::bind_executor(mine, other.handler()));
    other.wait();
    CHECK(other.value().size() == 1);
    CHECK(models.rerank(a, "query", {"text"}).size() == 1);
    CHECK(models.shutdown().clean());
    gate.open();
    slow.join();
    mine.join();
    CHECK(world->counts().live == 0);
}

// -- Deadlines while the alarm is late --------------------------------------------------------------------------------

TEST_CASE("A waiter past its deadline is not granted, however late the alarm is", "[H14]") {
    SlotBench bench({.max_leases = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> late;
    Outcome<FakeLease> patient;
    bench.slot->async_acquire(a, {.timeout = 1s}, late.handler());
    bench.slot->async_acquire(a, patient.handler());
    bench.run();
    // Control does not run: it is busy with something else.
    VirtualClock::advance(1s);
    held.release();
    bench.run();
    REQUIRE(late.calls() == 1);
    CHECK(late.code() == errc::timed_out);
    CHECK(late.error().stage() == Stage::queue);
    REQUIRE(patient.calls() == 1);
    patient.value().release();
    bench.check_end();
}

TEST_CASE("A newcomer is not refused for a waiter that is past its deadline, however late the alarm is", "[H14]") {
    SlotBench bench({.max_leases = 1, .max_queue = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> late;
    Outcome<FakeLease> newcomer;
    bench.slot->async_acquire(a, {.timeout = 1s}, late.handler());
    bench.run();
    VirtualClock::advance(1s);
    bench.slot->async_acquire(a, newcomer.handler());
    CHECK(bench.slot->status().waiting == 1);
    bench.run();
    CHECK(late.code() == errc::timed_out);
    CHECK(newcomer.calls() == 0);
    held.release();
    bench.run();
    REQUIRE(newcomer.calls() == 1);
    CHECK_FALSE(newcomer.exception());
    newcomer.value().release();
    CHECK(bench.slot->status().counters.overloaded == 0);
    bench.check_end();
}

TEST_CASE("A blocking call waits no longer than its timeout, although none of its executors runs", "[H14][R16]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::io_context busy;
    {
        Slot slot(PlainBackend(world), {}, Executors::all(busy.get_executor()));
        CHECK(code_of([&] { (void)slot.acquire(a, {.timeout = 1ms}); }) == errc::timed_out);
        CHECK(code_of([&] { (void)slot.ensure_loaded(a, {.timeout = 1ms}); }) == errc::timed_out);
        CHECK(code_of([&] { (void)slot.acquire(a, {.timeout = 0ms}); }) == errc::timed_out);
    }
    run_ready(busy);
    CHECK(world->counts().live == 0);
    CHECK(is_idle(busy));
}

TEST_CASE("A blocking shutdown waits no longer than its deadline, although control does not run", "[H9][H14][R16]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::io_context busy;
    asio::thread_pool work(1);
    const Executors executors{busy.get_executor(), work.get_executor(), work.get_executor()};
    SECTION("nothing is left but the alarm's wait, which control has yet to end") {
        Slot slot(PlainBackend(world), {}, executors);
        (void)slot.ensure_loaded(a);
        slot.unload(a);
        CHECK(slot.shutdown(1ms).clean());
    }
    SECTION("what is left is in one slot of a manager") {
        ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models(
            testing::FakeEmbeddingBackend{world}, testing::FakeRerankerBackend{world}, {}, executors);
        const bool reranks = GENERATE(false, true);
        decltype(models.embedding().try_acquire(a)) embedder;
        decltype(models.reranker().try_acquire(a)) reranker;
        if (reranks) {
            reranker = models.reranker().acquire(a);
        } else {
            embedder = models.embedding().acquire(a);
        }
        CHECK(models.shutdown(1ms).leftovers.size() == 1);
    }
    run_ready(busy);
    work.join();
    run_ready(busy);
    CHECK(world->counts().live == 0);
    CHECK(is_idle(busy));
}

}  // namespace slow_user_code_test
