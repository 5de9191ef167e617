// H11: leases that outlive their manager, and contexts of the host's that end before it.

#include "support/bench.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>

#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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

TEST_CASE("A lease held beyond its slot keeps its model, and who drops the last one destroys it there", "[H11][R1]") {
    SlotBench bench;
    FakeLease first = bench.lease(a);
    FakeLease second = bench.lease(a);
    const Generation generation = first.generation();
    bench.slot.reset();
    bench.run();
    CHECK(bench.world->counts().live == 1);
    CHECK(first->key() == a);
    CHECK(first.key() == a);
    CHECK(first.generation() == generation);
    CHECK_FALSE(first.revoked());
    first.release();
    bench.run();
    CHECK(bench.world->counts().live == 1);
    CHECK(second->serial() == 1);

    std::thread::id dropper;
    std::thread([&dropper, lease = std::move(second)]() mutable {
        dropper = std::this_thread::get_id();
        lease.release();
    }).join();
    CHECK(bench.world->counts().live == 0);
    CHECK(bench.world->model(1).unloaded_on == dropper);
    bench.check_nothing_left();
}

TEST_CASE("The destructor does not wait for a lease, with threads of its own either", "[H11][H12]") {
    const auto world = std::make_shared<FakeWorld>();
    FakeLease held;
    {
        ModelSlot<PlainBackend> slot{PlainBackend(world)};
        held = slot.acquire(a);
        CHECK(slot.acquire(a)->serial() == held->serial());
    }
    CHECK(world->counts().live == 1);
    CHECK(held->serial() == 1);
    held.release();
    CHECK(world->counts().live == 0);
    CHECK(world->model(1).unloaded_on == std::this_thread::get_id());
    // Nothing of the slot is left either: only the world's own reference.
    CHECK(world.use_count() == 1);
}

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
    bench.destroy_contexts();
    CHECK(waiting.calls() + ensuring.calls() + unloading.calls() + ending.calls() + posted.calls() == 0);
    CHECK_FALSE(waiting.held());
    CHECK_FALSE(ensuring.held());
    CHECK_FALSE(unloading.held());
    CHECK_FALSE(ending.held());
    CHECK_FALSE(posted.held());
    bench.slot.reset();
    CHECK(bench.world->counts().live == 0);
    CHECK(bench.world->violations().empty());
    CHECK(bench.world.use_count() == 1);
}

TEST_CASE("A lease that was posted to a context that ends is given back", "[H11][R9]") {
    MortalBench bench;
    bench.lease(a).release();
    Outcome<FakeLease> posted;
    bench.slot->async_acquire(a, posted.handler());
    CHECK(bench.slot->status().leases == 1);
    SECTION("the slot lives") {
        bench.destroy_contexts();
        CHECK(bench.slot->status().leases == 0);
        bench.slot.reset();
    }
    SECTION("the slot is gone") {
        bench.slot.reset();
        bench.destroy_contexts();
    }
    CHECK(posted.calls() == 0);
    CHECK_FALSE(posted.held());
    CHECK(bench.world->counts().live == 0);
    CHECK(bench.world.use_count() == 1);
}

TEST_CASE("A slot does not touch a context that is gone: it refuses, and its leases go on", "[H11]") {
    for (std::size_t gone = 0; gone < 3; ++gone) {
        INFO("context " << gone);
        MortalBench bench;
        asio::io_context elsewhere;
        FakeLease held = bench.lease(a);
        Outcome<FakeLease> waiting;
        bench.slot->async_acquire(b, {.timeout = 1s}, asio::bind_executor(elsewhere, waiting.handler()));
        bench.run();
        bench.contexts[gone].reset();

        // A handler that belongs elsewhere is told there.
        run_ready(elsewhere);
        CHECK(waiting.calls() == 1);
        CHECK(waiting.code() == errc::shutting_down);
        CHECK(bench.slot->status().shutting_down);
        CHECK_FALSE(bench.slot->try_acquire(a));

        Outcome<FakeLease> lease;
        Outcome<Generation> ensured;
        Outcome<> unloaded;
        Outcome<ShutdownReport> report;
        bench.slot->async_acquire(a, asio::bind_executor(elsewhere, lease.handler()));
        bench.slot->async_ensure_loaded(a, asio::bind_executor(elsewhere, ensured.handler()));
        run_ready(elsewhere);
        CHECK(lease.code() == errc::shutting_down);
        CHECK(ensured.code() == errc::shutting_down);
        CHECK(lease.calls() + ensured.calls() == 2);
        CHECK_THROWS_AS(bench.slot->acquire(a), Error);

        // One without an executor of its own would run on control.
        Outcome<FakeLease> homeless;
        bench.slot->async_acquire(a, homeless.handler());
        CHECK(homeless.held() == (gone != 0));

        CHECK(held->key() == a);
        CHECK(bench.world->counts().live == 1);
        held.release();
        CHECK(bench.world->counts().live == 0);
        bench.slot.reset();
        bench.destroy_contexts();
        CHECK(homeless.calls() == 0);
        CHECK_FALSE(homeless.held());
        CHECK(bench.world.use_count() == 1);
    }
}

TEST_CASE("An unload or a shutdown that waits when a context ends is told so where its handler lives", "[H11][R9]") {
    MortalBench bench;
    asio::io_context elsewhere;
    FakeLease held = bench.lease(a);
    Outcome<> unloaded;
    Outcome<ShutdownReport> report;
    bench.slot->async_unload(a, asio::bind_executor(elsewhere, unloaded.handler()));
    bench.slot->async_shutdown(asio::bind_executor(elsewhere, report.handler()));
    bench.run();
    bench.destroy_contexts();
    run_ready(elsewhere);
    CHECK(unloaded.calls() == 1);
    CHECK(unloaded.code() == errc::shutting_down);
    REQUIRE(report.calls() == 1);
    CHECK_FALSE(report.value().clean());

    // Also when it is called only now.
    Outcome<> late_unload;
    Outcome<ShutdownReport> late_report;
    bench.slot->async_unload(a, asio::bind_executor(elsewhere, late_unload.handler()));
    bench.slot->async_shutdown(asio::bind_executor(elsewhere, late_report.handler()));
    run_ready(elsewhere);
    held.release();
    run_ready(elsewhere);
    bench.slot.reset();
    run_ready(elsewhere);
    CHECK(late_unload.calls() == 1);
    CHECK(late_report.calls() == 1);
    CHECK(bench.world->counts().live == 0);
    CHECK(is_idle(elsewhere));
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
        bench.destroy_contexts();
        // Nobody is there any more who could be told.
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

TEST_CASE("A call that waits for a thread of a context that ends gives its lease back", "[H11][R9]") {
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
        inference.reset();
        CHECK(models.embedding().status().leases == 0);
        CHECK(world->counts().live == 0);
    }
    run_ready(control);
    // Its own executor runs on: it is told.
    CHECK(answer.calls() == 1);
    CHECK(answer.code() == errc::shutting_down);
    CHECK(world->counts().calls == 0);
    CHECK(world.use_count() == 1);
    CHECK(is_idle(control));
}

TEST_CASE("A manager whose contexts ended refuses everything and can be destroyed", "[H11]") {
    VirtualClock::reset();
    const auto world = std::make_shared<FakeWorld>();
    auto context = std::make_unique<asio::io_context>();
    ManagerBench::Manager models{testing::FakeEmbeddingBackend(world),
                                 testing::FakeRerankerBackend(world),
                                 {},
                                 Executors::all(context->get_executor())};
    Outcome<Embeddings> answer;
    models.async_embed(a, {"text"}, {.keep_alive = keep_alive_forever}, answer.handler());
    run_ready(*context);
    REQUIRE(answer.calls() == 1);
    Outcome<Ranking> pending;
    models.async_rerank(a, "query", {"text"}, pending.handler());
    context.reset();
    CHECK(pending.calls() == 0);
    CHECK_FALSE(pending.held());
    CHECK_THROWS_AS(models.embed(a, {"text"}), Error);
    CHECK_THROWS_AS(models.rerank(a, "query", {"text"}), Error);
    CHECK(models.status().embedding.shutting_down);
    CHECK(models.status().reranker.shutting_down);
    CHECK(world->violations().empty());
}

TEST_CASE("A blocking call whose context ends throws rather than hang", "[H11]") {
    MortalBench bench;
    std::string message;
    std::thread caller([&] {
        try {
            (void)bench.slot->acquire(a);
            message = "a lease";
        } catch (const std::exception& error) {
            message = error.what();
        }
    });
    while (bench.slot->status().waiting == 0) {
        std::this_thread::yield();
    }
    bench.destroy_contexts();
    caller.join();
    CHECK_THAT(message, contains_text("shutting_down"));
}

TEST_CASE("A lease outlives its manager and the contexts of the host's", "[H11][R1]") {
    std::optional<MortalBench> bench(std::in_place);
    const std::shared_ptr<FakeWorld> world = bench->world;
    FakeLease held = bench->lease(a);
    SECTION("slot first") {
        bench->slot.reset();
        bench->destroy_contexts();
    }
    SECTION("contexts first") {
        bench->destroy_contexts();
        bench->slot.reset();
    }
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

TEST_CASE("Who goes by way of control keeps that busy", "[H11][R9]") {
    SlotBench bench;
    asio::io_context elsewhere;
    FakeLease held = bench.lease(a);
    bench.run();
    Outcome<FakeLease> waiting;
    bench.slot->async_acquire(b, erased(elsewhere, waiting.handler()));
    bench.run();
    // Else threads that run control could end before they have passed it on.
    CHECK_FALSE(is_idle(bench.control));
    held.release();
    bench.run();
    run_ready(elsewhere);
    REQUIRE(waiting.calls() == 1);
    waiting.value().release();
    bench.check_end();
}

TEST_CASE("Who would go by way of control is not called inside the call that starts it, if control has ended",
          "[H11][R9]") {
    MortalBench bench;
    asio::io_context elsewhere;
    Outcome<FakeLease> waiting;
    bench.slot->async_acquire(a, erased(elsewhere, waiting.handler()));
    bool inside = true;
    bool called_inside = false;
    bool called = false;
    asio::post(elsewhere, [&] {
        // Whose context runs in this very thread, where who waited may be called.
        bench.destroy_contexts();
        bench.slot->async_acquire(a, erased(elsewhere, [&](std::exception_ptr error, const FakeLease& /*none*/) {
                                      called = error != nullptr;
                                      called_inside = inside;
                                  }));
        inside = false;
    });
    elsewhere.run();
    CHECK(waiting.code() == errc::shutting_down);
    CHECK(called);
    CHECK_FALSE(called_inside);
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

TEST_CASE("A shutdown that waits for the alarm goes with the context of its handler", "[H9][H11][R9]") {
    for (const bool control_runs : {true, false}) {
        MortalBench bench;
        std::weak_ptr<int> kept;
        Outcome<ShutdownReport> report;
        wait_for_alarm(bench, *bench.contexts[2], kept, report);
        bench.contexts[2].reset();
        CHECK(kept.expired());
        if (control_runs) {
            run_ready(*bench.contexts[0]);
        }
        bench.destroy_contexts();
        CHECK(report.calls() == 0);
    }
}

TEST_CASE("A shutdown that waits for the alarm is told when its slot is destroyed", "[H9][H11][R9]") {
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

TEST_CASE("A shutdown that waits for its event goes with the context of its handler", "[H9][H11][R9]") {
    MortalBench bench;
    std::weak_ptr<int> kept;
    bool expired = false;
    bench.slot.emplace(PlainBackend(bench.world), SlotOptions{}, bench.executors(), [&](const Event& event) {
        if (event.type == EventType::shutdown_completed) {
            bench.contexts[2].reset();
            expired = kept.expired();
        }
    });
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(asio::bind_executor(bench.contexts[2]->get_executor(), watched(kept, report.handler())));
    run_ready(*bench.contexts[0]);
    CHECK(expired);
    CHECK(report.calls() == 0);
}

TEST_CASE("Who goes by way of control and waits when a context ends is on its way before that is gone", "[H11][R9]") {
    MortalBench bench;
    for (const std::size_t own : {0U, 2U}) {
        for (auto& context : bench.contexts) {
            context = std::make_unique<asio::io_context>();
        }
        bench.slot.emplace(PlainBackend(bench.world), SlotOptions{},
                           own == 0 ? Executors::all(bench.contexts[0]->get_executor()) : bench.executors());
        std::weak_ptr<int> kept;
        Outcome<FakeLease> waiting;
        bench.slot->async_acquire(a, erased(*bench.contexts[own], watched(kept, waiting.handler())));
        bench.contexts[own].reset();
        CHECK(kept.expired());
        bench.destroy_contexts();
        CHECK(waiting.calls() == 0);
    }
}

TEST_CASE("What is unloaded when control ends is unloaded while loading lives", "[H11][R12]") {
    for (const bool observed : {false, true}) {
        MortalBench bench;
        bench.slot.emplace(PlainBackend(bench.world), SlotOptions{.max_resident = 2}, bench.executors(),
                           observed ? Observer([](const Event&) {}) : Observer());
        bench.lease(a).release();
        bench.lease(b).release();
        bench.run();
        CHECK(bench.world->counts().live == 2);
        Outcome<> unloaded;
        bench.slot->async_unload(unloaded.handler());
        bench.contexts[0].reset();
        run_ready(*bench.contexts[2]);
        CHECK(bench.world->counts().live == 0);
        CHECK(bench.slot->status().residents.empty());
    }
}
