// H12, H16, R10 and R12: callbacks that use the manager while it is destroyed, contexts that end with their handler,
// and shutdowns that complete after the requests that were accepted before them.

#include "support/bench.hpp"
#include "support/thread_sanitizer.hpp"
#include "support/witness_executor.hpp"

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace callbacks_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using testing::Gate;

namespace {

const ModelKey a("a");
const ModelKey b("b");

// On the real clock, with threads of its own.
using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;

std::unique_ptr<Manager> make_manager(const std::shared_ptr<FakeWorld>& world, const ManagerOptions& options = {}) {
    return std::make_unique<Manager>(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world),
                                     options);
}

/// What one callback does with the manager: looks at it, and makes a request of each kind.
class Use {
public:
    void operator()(Manager& models) {
        was_closed = models.status().embedding.shutting_down && models.status().reranker.shutting_down;
        models.async_embed(a, {"text"}, embedded.handler());
        models.async_rerank(a, "query", {"text"}, ranked.handler());
        models.embedding().async_acquire(a, leased.handler());
        models.reranker().async_ensure_loaded(b, loaded.handler());
        models.embedding().async_unload(unloaded.handler());
        models.async_shutdown(1ms, report.handler());
        has_lease = static_cast<bool>(models.embedding().try_acquire(a));
    }

    /// That each request of it was refused, once, and its handler is gone. After the manager.
    void check_refused() const {
        CHECK(was_closed);
        CHECK_FALSE(has_lease);
        CHECK(embedded.code() == errc::shutting_down);
        CHECK(ranked.code() == errc::shutting_down);
        CHECK(leased.code() == errc::shutting_down);
        CHECK(loaded.code() == errc::shutting_down);
        CHECK(embedded.calls() + ranked.calls() + leased.calls() + loaded.calls() + unloaded.calls() + report.calls() ==
              6);
        const bool is_held =
            embedded.held() || ranked.held() || leased.held() || loaded.held() || unloaded.held() || report.held();
        CHECK_FALSE(is_held);
    }

private:
    // Of the thread that joins: read after it has.
    bool was_closed = false;
    bool has_lease = true;
    Outcome<Embeddings> embedded;
    Outcome<Ranking> ranked;
    Outcome<Lease<testing::FakeEmbedder>> leased;
    Outcome<Generation> loaded;
    Outcome<> unloaded;
    Outcome<ShutdownReport> report;
};

/// Destroys a manager on a thread of its own.
class Destroyer {
public:
    /// Returns once the destructor has completed what waited, which is for a load that is held back until then; the
    /// destructor waits for that load.
    Destroyer(std::unique_ptr<Manager>& models, FakeWorld& world) {
        const std::shared_ptr<Gate> loading = world.block(FakeStep::load, b);
        Outcome<Ranking> waiting;
        models->async_rerank(b, "query", {"text"}, asio::bind_executor(elsewhere_, waiting.handler()));
        loading->await_held();
        thread_ = std::thread([&models] { models.reset(); });
        waiting.wait();
        CHECK(waiting.code() == errc::shutting_down);
        loading->open();
    }

    /// Waits for the destructor.
    void join() { thread_.join(); }

private:
    // Outlives the thread, which may still be on its way out of Asio's post when the handler has run.
    asio::thread_pool elsewhere_{1};
    std::thread thread_;
};

void check_gone(const std::shared_ptr<FakeWorld>& world) {
    CHECK(world->counts().live == 0);
    CHECK(world->counts().calling == 0);
    CHECK(world->violations().empty());
    CHECK(world.use_count() == 1);
}

}  // namespace

TEST_CASE("An observer may use the manager while the destructor runs", "[H12][R10]") {
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    std::atomic<Manager*> used = nullptr;
    Use use;
    std::atomic<bool> has_used = false;
    // No alarm keeps anything of the slot alive.
    ManagerOptions options{.embedding = {.keep_alive = keep_alive_forever}};
    options.observer = [&](const Event& event) {
        if (event.type == EventType::ready && !has_used.exchange(true)) {
            gate.pass();
            use(*used);
        }
    };
    std::unique_ptr<Manager> models = make_manager(world, options);
    used = models.get();
    CHECK(models->embed(a, {"text"}).size() == 1);
    gate.await_held();
    Destroyer destroyer(models, *world);
    gate.open();
    destroyer.join();
    use.check_refused();
    check_gone(world);
}

TEST_CASE("A handler without an executor may use the manager while the destructor runs", "[H12][R10]") {
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    Use use;
    std::unique_ptr<Manager> models = make_manager(world, {.embedding = {.keep_alive = keep_alive_forever}});
    Manager* const used = models.get();
    models->async_embed(a, {"text"}, [&](std::exception_ptr, const Embeddings&) {
        gate.pass();
        use(*used);
    });
    gate.await_held();
    Destroyer destroyer(models, *world);
    gate.open();
    destroyer.join();
    use.check_refused();
    check_gone(world);
}

TEST_CASE("A handler that control forwards is called although its request came while the destructor ran",
          "[H12][H21][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    std::unique_ptr<Manager> models = make_manager(world);
    Manager* const manager = models.get();
    asio::io_context elsewhere;
    Outcome<Embeddings> late;
    models->embedding().async_ensure_loaded(a, [&, manager](std::exception_ptr, Generation) {
        while (!manager->status().embedding.shutting_down) {
            std::this_thread::yield();
        }
        // Nothing else keeps control from ending by now.
        manager->async_embed(
            a, {"text"}, asio::bind_executor(asio::any_completion_executor(elsewhere.get_executor()), late.handler()));
    });
    models.reset();
    elsewhere.run();
    CHECK(late.calls() == 1);
    CHECK(late.code() == errc::shutting_down);
    check_gone(world);
}

TEST_CASE("A model, a load and an unload may use the manager while the destructor runs", "[H12][R10]") {
    for (const FakeStep step : {FakeStep::inference, FakeStep::load, FakeStep::unload}) {
        INFO("step " << static_cast<int>(step));
        const auto world = std::make_shared<FakeWorld>();
        Gate gate;
        Use use;
        std::unique_ptr<Manager> models = make_manager(world);
        Manager* const used = models.get();
        std::atomic<bool> has_used = false;
        world->on(step, [&](const FakeCall& call) {
            if (call.key == a && !has_used.exchange(true)) {
                gate.pass();
                use(*used);
            }
        });
        Outcome<Embeddings> answer;
        models->async_embed(a, {"text"}, {.keep_alive = 0ms}, answer.handler());
        gate.await_held();
        Destroyer destroyer(models, *world);
        gate.open();
        destroyer.join();
        use.check_refused();
        CHECK(answer.calls() == 1);
        check_gone(world);
    }
}

TEST_CASE("A model that goes after the threads for unloads have ended may use the manager while the destructor runs",
          "[H11][H12][R9][R10]") {
    const auto threads = [] {
        const std::filesystem::directory_iterator all("/proc/self/task");
        return std::distance(begin(all), end(all));
    };
    const auto others = threads();
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    Use use;
    std::unique_ptr<Manager> models = make_manager(world);
    Manager* const used = models.get();
    world->on(FakeStep::unload, [&](const FakeCall&) { use(*used); });
    auto lease = models->embedding().acquire(a);
    models->async_rerank(a, "", {}, [&](const std::exception_ptr&, const Ranking&) { gate.pass(); });
    gate.await_held();
    std::thread destroyer([&models] { models.reset(); });
    // Left are the destroyer, the thread for callbacks, which is held, and that for control.
    while (threads() != others + 3) {
        std::this_thread::yield();
    }
    lease.release();
    gate.open();
    destroyer.join();
    use.check_refused();
    check_gone(world);
}

TEST_CASE("Handlers that start the next request, and go on doing so while the manager is destroyed, are all called",
          "[H12][R9][R10][S46]") {
    constexpr std::size_t chains = 4;
    constexpr int more_after_refusal = 3;
    for (int round = 0; round < 20; ++round) {
        const auto world = std::make_shared<FakeWorld>();
        std::unique_ptr<Manager> models = make_manager(world);
        std::atomic<std::size_t> started = 0;
        std::atomic<std::size_t> ended = 0;
        std::atomic<std::size_t> refused = 0;
        std::promise<void> running;
        struct Chain {
            Manager& models;
            std::atomic<std::size_t>& started;
            std::atomic<std::size_t>& ended;
            std::atomic<std::size_t>& refused;
            std::promise<void>& running;
            int more = more_after_refusal;

            void next() {
                ++started;
                models.async_embed(a, {"text"}, [this](const std::exception_ptr& error, const Embeddings&) {
                    if (++ended == chains * 4) {
                        running.set_value();
                    }
                    if (error) {
                        ++refused;
                    }
                    if (!error || more-- > 0) {
                        next();
                    }
                });
            }
        };
        std::vector<Chain> all(chains, Chain{*models, started, ended, refused, running});
        for (Chain& chain : all) {
            chain.next();
        }
        running.get_future().get();
        models.reset();
        // The destructor waits until the last of them has returned.
        CHECK(started.load() == ended.load());
        CHECK(refused.load() == chains * (more_after_refusal + 1));
        check_gone(world);
    }
}

TEST_CASE("A handler that is still running after a blocking shutdown may use the manager until it is destroyed",
          "[H12][R10]") {
    const auto world = std::make_shared<FakeWorld>();
    Gate gate;
    Use use;
    std::atomic<bool> destroying = false;
    std::unique_ptr<Manager> models = make_manager(world);
    Manager* const used = models.get();
    models->async_embed(a, {"text"}, [&](std::exception_ptr, const Embeddings&) {
        gate.pass();
        while (!destroying) {
            std::this_thread::yield();
        }
        for (int again = 0; again < 10'000; ++again) {
            (void)used->status();
        }
        use(*used);
    });
    gate.await_held();
    // Its request has completed: a slow handler holds up no shutdown.
    CHECK(models->shutdown().clean());
    gate.open();
    destroying = true;
    models.reset();
    use.check_refused();
    check_gone(world);
}

// -- Contexts that end with their handler -----------------------------------------------------------------------------

namespace {

/// ThreadSanitizer sees what Asio's own post still does when the handler has run: it wakes a thread of the context
/// without its mutex.
#ifdef RESIDENCY_TEST_THREAD_SANITIZER
constexpr bool keeps_contexts = true;
#else
constexpr bool keeps_contexts = false;
#endif

constexpr auto ignore_all = [](const std::exception_ptr&, const auto&...) {};

/// A request whose handler runs on the executor of a Witness.
template <class Make>
void check_untouched(const std::string& name, const Make& make) {
    INFO(name);
    asio::io_context context;
    Witness witness;
    make(asio::bind_executor(WitnessExecutor(witness, context), ignore_all));
    CHECK(witness.has_run);
    CHECK(witness.late == 0);
}

/// The same of one that its caller cancels.
template <class Make>
void check_untouched_cancelled(SlotBench& bench, const std::string& name, const Make& make) {
    asio::cancellation_signal signal;
    check_untouched(name, [&](auto handler) {
        make(asio::bind_cancellation_slot(signal.slot(), std::move(handler)));
        signal.emit(asio::cancellation_type::terminal);
        bench.run();
    });
}

}  // namespace

TEST_CASE("Nothing of a handler's context is touched once the handler has run: a slot's requests", "[H16]") {
    SlotBench bench({.max_leases = 1, .max_queue = 1});
    auto& slot = *bench.slot;
    check_untouched("a request that is invalid", [&](auto handler) {
        slot.async_acquire("", handler);
        bench.run();
    });
    check_untouched("acquire that waits for the load", [&](auto handler) {
        slot.async_acquire(a, handler);
        bench.run();
    });
    check_untouched("acquire that is granted at once", [&](auto handler) {
        slot.async_acquire(a, handler);
        bench.run();
    });
    check_untouched("ensure_loaded of what is loaded", [&](auto handler) {
        slot.async_ensure_loaded(a, handler);
        bench.run();
    });
    check_untouched("ensure_loaded that waits for the load", [&](auto handler) {
        slot.async_ensure_loaded(b, handler);
        bench.run();
    });
    check_untouched("a load that fails", [&](auto handler) {
        bench.world->fail_next(FakeStep::load, a, std::runtime_error("no such file"));
        slot.async_ensure_loaded(a, handler);
        bench.run();
    });
    check_untouched("a key that cools down", [&](auto handler) {
        slot.async_ensure_loaded(a, handler);
        bench.run();
    });
    {
        FakeLease held = bench.lease(b);
        check_untouched("a timeout", [&](auto handler) {
            slot.async_acquire(b, {.timeout = 1s}, handler);
            bench.advance(1s);
        });
        check_untouched_cancelled(bench, "a cancelled acquire", [&](auto handler) { slot.async_acquire(b, handler); });
        Outcome<FakeLease> fills;
        slot.async_acquire(b, {.timeout = 1s}, fills.handler());
        check_untouched("a full queue", [&](auto handler) {
            slot.async_acquire(b, handler);
            bench.run();
        });
        bench.advance(1s);
        CHECK(fills.code() == errc::timed_out);
        check_untouched_cancelled(bench, "a cancelled unload", [&](auto handler) { slot.async_unload(b, handler); });
        check_untouched("a revoke", [&](auto handler) {
            slot.async_unload(b, UnloadMode::revoke, handler);
            held.release();
            bench.run();
        });
    }
    check_untouched("an unload of what is not there", [&](auto handler) {
        slot.async_unload(b, handler);
        bench.run();
    });
    FakeLease left = bench.lease(b);
    check_untouched("a shutdown at its deadline", [&](auto handler) {
        slot.async_shutdown(1s, handler);
        bench.advance(1s);
    });
    check_untouched_cancelled(bench, "a cancelled shutdown", [&](auto handler) { slot.async_shutdown(handler); });
    check_untouched("a shutdown", [&](auto handler) {
        slot.async_shutdown(handler);
        left.release();
        bench.run();
    });
    check_untouched("a request after the shutdown", [&](auto handler) {
        slot.async_acquire(b, handler);
        bench.run();
    });
    bench.check_nothing_left();
}

TEST_CASE("Nothing of a handler's context is touched once the handler has run: a manager's requests", "[H16]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    check_untouched("embed", [&](auto handler) {
        models.async_embed(a, {"text"}, handler);
        bench.run();
    });
    check_untouched("rerank", [&](auto handler) {
        models.async_rerank(a, "query", {"text"}, handler);
        bench.run();
    });
    check_untouched("embed of nothing", [&](auto handler) {
        models.async_embed(a, {}, handler);
        bench.run();
    });
    check_untouched("an inference that fails", [&](auto handler) {
        bench.world->fail_next(FakeStep::inference, a, std::runtime_error("no memory on the device"));
        models.async_embed(a, {"text"}, handler);
        bench.run();
    });
    check_untouched("an early completion", [&](auto handler) {
        bench.world->on(FakeStep::inference, [&](const FakeCall&) {
            VirtualClock::advance(1s);
            run_ready(bench.control);
        });
        models.async_embed(a, {"text"}, {.timeout = 1s}, handler);
        bench.run();
        bench.world->on(FakeStep::inference, {});
    });
    check_untouched("a shutdown", [&](auto handler) {
        models.async_shutdown(handler);
        bench.run();
    });
    bench.check_nothing_left();
}

TEST_CASE("Nothing of a handler's context is touched once the handler has run: requests that the destructor completes",
          "[H16][H12]") {
    SlotBench bench({.max_leases = 1});
    FakeLease held = bench.lease(a);
    check_untouched("a waiter", [&](auto handler) {
        bench.slot->async_acquire(a, handler);
        check_untouched("an unload", [&](auto other) {
            bench.slot->async_unload(a, other);
            bench.slot.reset();
            bench.run();
        });
    });
    held.release();
    bench.check_nothing_left();
}

TEST_CASE("A handler on a context of its own may end that context, with threads of the library's own", "[H16]") {
    const auto world = std::make_shared<FakeWorld>();
    std::vector<std::unique_ptr<asio::io_context>> kept;
    const std::unique_ptr<Manager> models = make_manager(world);
    for (int round = 0; round < 100; ++round) {
        const auto ends = [&kept](const auto& start) {
            auto context = std::make_unique<asio::io_context>();
            start(asio::bind_executor(context->get_executor(),
                                      [&](const std::exception_ptr&, const auto&...) { context->stop(); }));
            context->run();
            if (keeps_contexts) {
                kept.push_back(std::move(context));
            }
        };
        ends([&](auto handler) { models->async_embed(a, {"text"}, handler); });
        ends([&](auto handler) { models->async_rerank(a, "query", {"text"}, handler); });
        ends([&](auto handler) { models->embedding().async_acquire(a, handler); });
        ends([&](auto handler) { models->embedding().async_ensure_loaded(b, handler); });
        ends([&](auto handler) { models->embedding().async_unload(b, handler); });
    }
    CHECK(models->shutdown().clean());
    CHECK(world->counts().live == 0);
}

// -- A shutdown and the requests before it ----------------------------------------------------------------------------

TEST_CASE("A shutdown's handler is posted after those of thousands of waiters of one failed load", "[R12]") {
    constexpr std::size_t waiters = 5000;
    SlotBench bench({.max_queue = waiters});
    asio::io_context handlers;
    std::function<void()> before_post;
    const HookedExecutor executor(handlers, before_post);
    std::size_t ended = 0;
    std::size_t failed = 0;
    std::optional<std::size_t> ended_before_shutdown;
    for (std::size_t index = 0; index < waiters; ++index) {
        bench.slot->async_ensure_loaded(
            a, asio::bind_executor(executor, [&](const std::exception_ptr& error, const Generation&) {
                ++ended;
                failed += error ? 1 : 0;
            }));
    }
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("no such file"));
    // The load has failed, and the first of its waiters is being completed.
    before_post = [&] {
        bench.slot->async_shutdown(
            asio::bind_executor(executor, [&](const std::exception_ptr& error, const ShutdownReport& report) {
                CHECK_FALSE(error);
                CHECK(report.clean());
                ended_before_shutdown = ended;
            }));
        run_ready(bench.control, bench.inference);
    };
    bench.run();
    run_ready(handlers, bench.control, bench.inference, bench.loading);
    CHECK(failed == waiters);
    CHECK(ended_before_shutdown == waiters);
    bench.check_nothing_left();
}

TEST_CASE("A shutdown's handler is posted after that of a request whose model has returned", "[R12]") {
    ManagerBench bench;
    asio::io_context handlers;
    std::function<void()> before_post;
    const HookedExecutor executor(handlers, before_post);
    std::vector<std::string> order;
    const auto shut_down = [&] {
        bench.manager->async_shutdown(
            asio::bind_executor(executor, [&](const std::exception_ptr&, const ShutdownReport& report) {
                CHECK(report.clean());
                order.emplace_back("shutdown");
            }));
        // Whatever the shutdown needs, but the inference executor, which is at the end of the call.
        run_ready(bench.control, bench.loading);
    };
    before_post = shut_down;
    bench.manager->async_embed(a, {"text"},
                               asio::bind_executor(executor, [&](const std::exception_ptr& error, const Embeddings&) {
                                   CHECK_FALSE(error);
                                   order.emplace_back("embed");
                               }));
    bench.run();
    run_ready(handlers, bench.control, bench.inference, bench.loading);
    CHECK(order == std::vector<std::string>{"embed", "shutdown"});
    bench.check_nothing_left();
}

TEST_CASE("A shutdown's handler is posted after that of an ensure_loaded that is granted at once", "[R12]") {
    SlotBench bench;
    bench.lease(a).release();
    asio::io_context handlers;
    std::function<void()> before_post;
    const HookedExecutor executor(handlers, before_post);
    std::vector<std::string> order;
    before_post = [&] {
        bench.slot->async_shutdown(asio::bind_executor(
            executor, [&](const std::exception_ptr&, const ShutdownReport&) { order.emplace_back("shutdown"); }));
        bench.run();
    };
    bench.slot->async_ensure_loaded(
        a, asio::bind_executor(executor, [&](const std::exception_ptr& error, const Generation&) {
            CHECK_FALSE(error);
            order.emplace_back("ensure_loaded");
        }));
    bench.run();
    run_ready(handlers, bench.control, bench.inference, bench.loading);
    CHECK(order == std::vector<std::string>{"ensure_loaded", "shutdown"});
    bench.check_nothing_left();
}

}  // namespace callbacks_test
