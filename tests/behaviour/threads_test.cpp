// H12, H15 and H17: threads of the library's own, where a blocking call is refused, and clocks that need the host's
// executors.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace threads_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

// On the real clock, with threads of its own.
using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;

std::unique_ptr<Manager> make_manager(const std::shared_ptr<FakeWorld>& world, const ManagerOptions& options = {},
                                      const Executors& executors = {}) {
    return std::make_unique<Manager>(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options,
                                     executors);
}

// Waits until nothing holds the world but its owner: the slots with their backends are gone.
void await_alone(const std::shared_ptr<FakeWorld>& world) {
    while (world.use_count() != 1) {
        std::this_thread::yield();
    }
}

// Whether each blocking call of the manager throws would_deadlock here.
bool all_refused(Manager& models) {
    const std::vector<std::function<void()>> calls{
        [&] { (void)models.embed(a, {"text"}); },
        [&] { (void)models.embed(a, {}); },
        [&] { (void)models.rerank(a, "query", {"text"}); },
        [&] { (void)models.shutdown(); },
        [&] { (void)models.shutdown(1ms); },
        [&] { (void)models.embedding().acquire(a); },
        [&] { (void)models.embedding().ensure_loaded(a); },
        [&] { models.embedding().unload(a); },
        [&] { models.embedding().unload(); },
        [&] { (void)models.reranker().shutdown(); },
    };
    std::size_t refused = 0;
    for (const auto& call : calls) {
        try {
            call();
        } catch (const Error& error) {
            refused += error.code() == errc::would_deadlock && error.code() == condition::caller ? 1 : 0;
        }
    }
    return refused == calls.size();
}

}  // namespace

TEST_CASE("A manager destroyed in a completion handler on its own thread cancels, detaches and returns", "[H12]") {
    const auto world = std::make_shared<FakeWorld>();
    std::promise<bool> returned;
    Outcome<Ranking> other;
    const std::shared_ptr<testing::Gate> gate = world->block(FakeStep::load, b);
    Manager* const models = make_manager(world).release();
    models->async_rerank(b, "query", {"text"}, other.handler());
    models->async_embed(a, {"text"}, [&, models](std::exception_ptr error, const Embeddings&) {
        delete models;
        returned.set_value(!error);
    });
    CHECK(returned.get_future().get());
    // A load runs on: the destructor did not wait for it.
    gate->open();
    other.wait();
    CHECK(other.code() == errc::shutting_down);
    await_alone(world);
    CHECK(other.calls() == 1);
    CHECK(world->counts().live == 0);
    CHECK(world->violations().empty());
}

TEST_CASE("A manager destroyed inside a model call, a load or an unload of its own returns, and nothing is left",
          "[H12]") {
    for (const FakeStep step : {FakeStep::inference, FakeStep::load, FakeStep::unload}) {
        INFO("step " << static_cast<int>(step));
        const auto world = std::make_shared<FakeWorld>();
        std::atomic<Manager*> models = nullptr;
        std::promise<void> returned;
        world->on(step, [&](const FakeCall&) {
            if (Manager* const mine = models.exchange(nullptr)) {
                delete mine;
                returned.set_value();
            }
        });
        Outcome<Embeddings> answer;
        Manager* const made = make_manager(world).release();
        models = made;
        made->async_embed(a, {"text"}, {.keep_alive = 0ms}, answer.handler());
        returned.get_future().get();
        answer.wait();
        await_alone(world);
        CHECK(answer.calls() == 1);
        CHECK(answer.code() ==
              (step == FakeStep::unload ? boost::system::error_code() : make_error_code(errc::shutting_down)));
        CHECK(world->counts().live == 0);
        CHECK(world->violations().empty());
    }
}

TEST_CASE("A manager destroyed in its own observer returns, and the observer is called no more", "[H12][R10]") {
    const auto world = std::make_shared<FakeWorld>();
    std::atomic<Manager*> models = nullptr;
    std::atomic<int> events = 0;
    std::promise<void> returned;
    ManagerOptions options;
    options.observer = [&](const Event&) {
        ++events;
        while (models == nullptr) {
            std::this_thread::yield();
        }
        delete models.load();
        returned.set_value();
    };
    Outcome<Embeddings> answer;
    Manager* const made = make_manager(world, options).release();
    made->async_embed(a, {"text"}, answer.handler());
    models = made;
    returned.get_future().get();
    answer.wait();
    await_alone(world);
    CHECK(events == 1);
    CHECK(answer.calls() == 1);
    CHECK(world->counts().live == 0);
}

TEST_CASE("The destructor waits for model calls, loads and unloads that run, and joins", "[H12][R12][S33][R9]") {
    for (const FakeStep step : {FakeStep::inference, FakeStep::load, FakeStep::unload}) {
        INFO("step " << static_cast<int>(step));
        const auto world = std::make_shared<FakeWorld>();
        const std::shared_ptr<testing::Gate> gate = world->block(step, a);
        Outcome<Embeddings> answer;
        std::unique_ptr<Manager> models = make_manager(world);
        models->async_embed(a, {"text"}, {.keep_alive = 0ms}, answer.handler());
        gate->await_held();
        std::atomic<bool> destroyed = false;
        std::thread destroyer([&] {
            models.reset();
            destroyed = true;
        });
        if (step != FakeStep::unload) {
            // Its caller gets the error at once; the model is still held.
            answer.wait();
            CHECK(answer.code() == errc::shutting_down);
        }
        CHECK_FALSE(destroyed);
        gate->open();
        destroyer.join();
        CHECK(world->counts().live == 0);
        CHECK(world->counts().calling == 0);
        CHECK(world.use_count() == 1);
        CHECK(answer.calls() == 1);
        CHECK_FALSE(answer.held());
    }
}

TEST_CASE("All bookkeeping is finished before a handler is called", "[H12][R9]") {
    SlotBench slots({.max_leases = 1, .max_queue = 1});
    ManagerBench bench({.embedding = {.max_leases = 1, .max_queue = 1}});
    auto& models = *bench.manager;
    int handlers = 0;
    models.async_embed(a, {"text"}, [&](std::exception_ptr error, const Embeddings&) {
        ++handlers;
        CHECK_FALSE(error);
        const SlotStatus status = models.embedding().status();
        CHECK(status.leases == 0);
        CHECK(status.waiting == 0);
        CHECK(models.embedding().try_acquire(a));
    });
    bench.run();
    CHECK(handlers == 1);

    slots.slot->async_acquire(a, [&](std::exception_ptr error, FakeLease lease) {
        ++handlers;
        CHECK_FALSE(error);
        CHECK(slots.slot->status().leases == 1);
        CHECK(slots.slot->status().waiting == 0);
        lease.release();
        CHECK(slots.slot->status().leases == 0);
        slots.slot->async_shutdown([&](std::exception_ptr failed, const ShutdownReport& report) {
            ++handlers;
            CHECK_FALSE(failed);
            CHECK(report.clean());
            CHECK(slots.slot->status().residents.empty());
            CHECK(slots.world->counts().live == 0);
        });
    });
    slots.run();
    CHECK(handlers == 3);
    slots.check_end();
    bench.check_end();
}

TEST_CASE("What a handler throws leaves run() on the host's executors, and harms nothing", "[H12]") {
    SlotBench bench;
    int calls = 0;
    bench.slot->async_acquire(a, [&](std::exception_ptr, FakeLease) {
        ++calls;
        throw std::runtime_error("out of the handler");
    });
    CHECK_THROWS_WITH(bench.run(), "out of the handler");
    CHECK(calls == 1);
    CHECK(bench.events.count(EventType::handler_threw) == 0);
    // Its lease went with it.
    bench.run();
    CHECK(bench.slot->status().leases == 0);
    CHECK(bench.lease(a)->serial() == 1);
    // A blocking call is not refused for what was thrown earlier: the mark is gone.
    CHECK_THROWS_AS(bench.slot->acquire(ModelKey("")), Error);
    bench.check_end();
}

TEST_CASE("A blocking call is refused on a thread that runs one of the manager's executors", "[H15]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::io_context io;
    asio::thread_pool pool(2);
    asio::io_context unrelated;
    for (int which = 0; which < 3; ++which) {
        INFO("the io_context in place " << which);
        Executors executors = Executors::all(pool.get_executor());
        (which == 0 ? executors.control : which == 1 ? executors.inference : executors.loading) = io.get_executor();
        const auto models = make_manager(world, {}, executors);
        bool on_io = false;
        bool on_unrelated = false;
        std::promise<bool> on_pool;
        asio::post(io, [&] { on_io = all_refused(*models); });
        asio::post(pool, [&] { on_pool.set_value(all_refused(*models)); });
        io.restart();
        io.run();
        CHECK(on_io);
        CHECK(on_pool.get_future().get());

        // A thread that runs something else may block.
        asio::post(unrelated, [&] { on_unrelated = models->shutdown().clean(); });
        unrelated.restart();
        unrelated.run();
        CHECK(on_unrelated);
    }
    pool.join();
    CHECK(world->counts().loads == 0);
}

TEST_CASE("would_deadlock says what to do instead, and changes nothing", "[H15]") {
    SlotBench bench;
    bool caught = false;
    asio::post(bench.control, [&] {
        try {
            (void)bench.slot->acquire(a);
        } catch (const Error& error) {
            caught = true;
            CHECK(error.code() == errc::would_deadlock);
            CHECK(error.key() == a);
            CHECK(error.stage() == Stage::admission);
            CHECK_THAT(std::string(error.what()), contains_text("async_"));
        }
    });
    bench.run();
    CHECK(caught);
    CHECK(bench.slot->status().waiting == 0);
    CHECK(bench.world->counts().loads == 0);
    bench.check_end();
}

TEST_CASE("A clock of one's own needs the host's executors, and executors come all three or not at all", "[H17]") {
    using Virtual = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend, VirtualClock>;
    asio::io_context context;
    const asio::any_io_executor here = context.get_executor();
    CHECK_THROWS_AS(Virtual(), std::invalid_argument);
    CHECK_THROWS_WITH(Virtual(), contains_text("Clock"));
    CHECK_THROWS_AS(SlotBench::Slot(PlainBackend()), std::invalid_argument);
    for (const Executors& some :
         {Executors{here, {}, {}}, Executors{{}, here, {}}, Executors{{}, {}, here}, Executors{here, here, {}}}) {
        CHECK_THROWS_AS(Manager({}, {}, {}, some), std::invalid_argument);
        CHECK_THROWS_WITH(Manager({}, {}, {}, some), contains_text("Executors"));
    }
    CHECK_NOTHROW(Virtual({}, {}, {}, Executors::all(here)));
    CHECK_NOTHROW(Manager({}, {}, {}, Executors::all(here)));
    CHECK(is_idle(context));
}

}  // namespace threads_test
