// H11: leases that outlive their manager, and contexts of the host's that end before it.

#include "support/bench.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace lifetimes_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

using Slot = SlotBench::Slot;

// A slot whose contexts can be destroyed one by one.
struct MortalBench {
    MortalBench() {
        VirtualClock::reset();
        for (auto& context : contexts) {
            context = std::make_unique<asio::io_context>();
        }
        slot.emplace(PlainBackend(world), SlotOptions{.max_leases = 2}, executors(), events.observer());
    }
    [[nodiscard]] Executors executors() {
        return {contexts[0]->get_executor(), contexts[1]->get_executor(), contexts[2]->get_executor()};
    }
    void run() { run_ready(*contexts[0], *contexts[1], *contexts[2]); }
    [[nodiscard]] FakeLease lease(const ModelKey& key) {
        Outcome<FakeLease> answer;
        slot->async_acquire(key, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return std::move(answer.value());
    }
    void destroy_contexts() {
        for (auto& context : contexts) {
            context.reset();
        }
    }

    // control, inference, loading
    std::array<std::unique_ptr<asio::io_context>, 3> contexts;
    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    EventLog events;
    std::optional<Slot> slot;
};

}  // namespace

TEST_CASE("A lease on its way to a handler outlives its slot like any other", "[H11][R9]") {
    SlotBench bench;
    bench.lease(a).release();
    Outcome<FakeLease> answer;
    bench.slot->async_acquire(a, answer.handler());
    bench.slot.reset();
    CHECK(answer.calls() == 0);
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(answer.value()->serial() == 1);
    CHECK(bench.world->counts().live == 1);
    answer.value().release();
    CHECK(bench.world->counts().live == 0);
    bench.check_nothing_left();
}

TEST_CASE("The destructor with the host's executors returns at once, and what runs owns what it needs", "[H11]") {
    SlotBench bench;
    Outcome<FakeLease> waiter;
    bool stopped = false;
    bench.world->on(FakeStep::load, [&](const FakeCall& call) {
        bench.slot.reset();
        stopped = call.stop.stop_requested();
        run_ready(bench.control);
        CHECK(waiter.calls() == 1);
    });
    bench.slot->async_acquire(a, waiter.handler());
    bench.run();
    CHECK(stopped);
    CHECK(waiter.code() == errc::shutting_down);
    CHECK(waiter.calls() == 1);
    CHECK(bench.world->counts().unloads == 1);
    bench.check_nothing_left();
}

TEST_CASE("A handler whose executor never runs again is destroyed uncalled, together with its context", "[H11][R9]") {
    MortalBench bench;
    Outcome<FakeLease> waiting;
    Outcome<FakeLease> answered;
    Outcome<Generation> ensuring;
    Outcome<> unloading;
    Outcome<ShutdownReport> ending;
    FakeLease held = bench.lease(a);
    bench.slot->async_acquire(b, waiting.handler());
    bench.slot->async_ensure_loaded(b, ensuring.handler());
    Outcome<FakeLease> posted;
    bench.slot->async_unload(a, unloading.handler());
    held.release();
    bench.slot->async_shutdown(ending.handler());
    bench.slot->async_acquire(a, posted.handler());
    bench.slot.reset();
    bench.destroy_contexts();
    CHECK(waiting.calls() + ensuring.calls() + unloading.calls() + ending.calls() + posted.calls() == 0);
    CHECK_FALSE(waiting.held());
    CHECK_FALSE(ensuring.held());
    CHECK_FALSE(unloading.held());
    CHECK_FALSE(ending.held());
    CHECK_FALSE(posted.held());
    CHECK(bench.world->counts().live == 0);
    CHECK(bench.world->violations().empty());
    CHECK(bench.world.use_count() == 1);
}

TEST_CASE("A lease that was posted to a context that ends after its slot is given back", "[H11][R9]") {
    MortalBench bench;
    bench.lease(a).release();
    Outcome<FakeLease> posted;
    bench.slot->async_acquire(a, posted.handler());
    CHECK(bench.slot->status().leases == 1);
    bench.slot.reset();
    bench.destroy_contexts();
    CHECK(posted.calls() == 0);
    CHECK_FALSE(posted.held());
    CHECK(bench.world->counts().live == 0);
    CHECK(bench.world.use_count() == 1);
}

TEST_CASE("A cancellation signal may outlive the context and the slot of the request that it was for", "[H11][H16]") {
    Request<FakeLease> waiting;
    Request<FakeLease> posted;
    Request<> unloading;
    Request<ShutdownReport> ending;
    {
        MortalBench bench;
        FakeLease held = bench.lease(a);
        bench.slot->async_acquire(b, {.timeout = 1s}, waiting.token());
        bench.slot->async_acquire(a, posted.token());
        bench.slot->async_unload(a, unloading.token());
        bench.slot->async_shutdown(1s, ending.token());
        bench.slot.reset();
        bench.destroy_contexts();
        waiting.cancel();
        posted.cancel();
        unloading.cancel();
        ending.cancel();
    }
    CHECK(waiting.calls() + posted.calls() + unloading.calls() + ending.calls() == 0);
    waiting.cancel();
    unloading.cancel();
    ending.cancel();
    CHECK_FALSE(waiting.held());
    CHECK_FALSE(posted.held());
    CHECK_FALSE(unloading.held());
    CHECK_FALSE(ending.held());
}

TEST_CASE("A call that waits for a thread of a context that ends after its manager gives its lease back", "[H11][R9]") {
    VirtualClock::reset();
    const auto world = std::make_shared<FakeWorld>();
    asio::io_context control;
    auto inference = std::make_unique<asio::io_context>();
    Outcome<Embeddings> answer;
    {
        ManagerBench::Manager models{testing::FakeEmbeddingBackend(world),
                                     testing::FakeRerankerBackend(world),
                                     {},
                                     {control.get_executor(), inference->get_executor(), control.get_executor()}};
        models.async_embed(a, {"text"}, answer.handler());
        run_ready(control);
        REQUIRE(models.embedding().status().leases == 1);
    }
    CHECK(world->counts().live == 1);
    inference.reset();
    CHECK(world->counts().live == 0);
    run_ready(control);
    CHECK(answer.calls() == 1);
    CHECK(answer.code() == errc::shutting_down);
    CHECK(world->counts().calls == 0);
    CHECK(world.use_count() == 1);
    CHECK(is_idle(control));
}

TEST_CASE("A lease outlives its manager and the contexts of the host's", "[H11][R1]") {
    std::optional<MortalBench> bench(std::in_place);
    const std::shared_ptr<FakeWorld> world = bench->world;
    FakeLease held = bench->lease(a);
    bench->slot.reset();
    bench->destroy_contexts();
    CHECK(world->counts().live == 1);
    CHECK(held->serial() == 1);
    held.release();
    CHECK(world->counts().live == 0);
    bench.reset();
    CHECK(world.use_count() == 1);
}

namespace {

// Erased with all that belongs to it: no executor to which it could be posted directly.
template <class Function>
auto erased(asio::io_context& context, Function function) {
    return asio::bind_executor(asio::any_completion_executor(context.get_executor()), std::move(function));
}

}  // namespace

TEST_CASE("A handler that control forwards keeps control busy", "[H16][R9]") {
    SlotBench bench;
    asio::io_context elsewhere;
    FakeLease held = bench.lease(a);
    bench.run();
    Outcome<FakeLease> waiting;
    bench.slot->async_acquire(b, erased(elsewhere, waiting.handler()));
    bench.run();
    // Else threads that run control could end before they have forwarded it.
    CHECK_FALSE(is_idle(bench.control));
    held.release();
    bench.run();
    run_ready(elsewhere);
    REQUIRE(waiting.calls() == 1);
    waiting.value().release();
    bench.check_end();
}

namespace {

// A handler's last owner is gone when `kept` has expired.
template <class Handler>
auto watched(std::weak_ptr<int>& kept, Handler handler) {
    auto token = std::make_shared<int>(0);
    kept = token;
    return [token = std::move(token), handler = std::move(handler)](auto&&... results) mutable {
        std::move(handler)(std::forward<decltype(results)>(results)...);
    };
}

// A shutdown that nothing is left to do for but to end the wait for the alarm, which control has not done.
void wait_for_alarm(MortalBench& bench, asio::io_context& elsewhere, std::weak_ptr<int>& kept,
                    Outcome<ShutdownReport>& report) {
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{.keep_alive = 1h}, bench.executors());
    bench.lease(a).release();
    bench.run();
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    run_ready(*bench.contexts[2]);
    CHECK(bench.slot->status().residents.empty());
    bench.slot->async_shutdown(asio::bind_executor(elsewhere.get_executor(), watched(kept, report.handler())));
    CHECK_FALSE(kept.expired());
}

}  // namespace

TEST_CASE("A shutdown that waits for the alarm completes when its slot is destroyed", "[H9][R9]") {
    MortalBench bench;
    asio::io_context elsewhere;
    std::weak_ptr<int> kept;
    Outcome<ShutdownReport> report;
    wait_for_alarm(bench, elsewhere, kept, report);
    bench.slot.reset();
    run_ready(elsewhere);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
}

}  // namespace lifetimes_test
