// H15: where a blocking call is refused because it could only hang, and where it is not.

#include "support/bench.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace blocking_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using testing::Gate;

namespace {

const ModelKey a("a");
const ModelKey b("b");

// On the real clock.
using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;

std::unique_ptr<Manager> make_manager(const std::shared_ptr<FakeWorld>& world, const ManagerOptions& options = {},
                                      const Executors& executors = {}) {
    return std::make_unique<Manager>(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options,
                                     executors);
}

enum class Answer { served, refused, failed };

/// How blocking calls of each kind end on this thread: all of them alike, or `failed`.
Answer block_on(Manager& models) {
    const std::vector<std::function<void()>> calls{
        [&] { (void)models.embed(b, {"text"}); },     [&] { (void)models.rerank(b, "query", {"text"}); },
        [&] { (void)models.embedding().acquire(b); }, [&] { (void)models.reranker().ensure_loaded(b); },
        [&] { models.embedding().unload(b); },        [&] { models.reranker().unload(); },
    };
    std::size_t served = 0;
    std::size_t refused = 0;
    for (const auto& call : calls) {
        try {
            call();
            ++served;
        } catch (const Error& error) {
            refused += error.code() == errc::would_deadlock ? 1 : 0;
        }
    }
    return served == calls.size() ? Answer::served : refused == calls.size() ? Answer::refused : Answer::failed;
}

/// Where the library calls user code on its own threads: each place, once, with a `visit` for it.
struct Places {
    std::function<void(const std::string& place)> visit;
    std::atomic<int> visited = 0;

    void here(const std::string& place) {
        ++visited;
        visit(place);
    }
};

/// Has a manager with threads of its own call user code in each place. `models` is set before the first.
void visit_all(Places& places, std::atomic<Manager*>& models) {
    const auto world = std::make_shared<FakeWorld>();
    std::atomic<bool> observed = false;
    ManagerOptions options;
    options.observer = [&](const Event& event) {
        if (event.type == EventType::ready && !observed.exchange(true)) {
            places.here("observer");
        }
    };
    const std::unique_ptr<Manager> owner = make_manager(world, options);
    models = owner.get();
    const auto once = [&](FakeStep step, const std::string& place) {
        world->on(step, [&places, place, done = std::make_shared<std::atomic<bool>>(false)](const FakeCall& call) {
            if (call.key == a && !done->exchange(true)) {
                places.here(place);
            }
        });
    };
    once(FakeStep::load, "load");
    once(FakeStep::inference, "inference");
    once(FakeStep::unload, "unload");
    std::promise<void> handled;
    owner->async_embed(a, {"text"}, [&](const std::exception_ptr&, const Embeddings&) {
        places.here("handler without an executor");
        handled.set_value();
    });
    handled.get_future().get();
    owner->embedding().unload(a);

    // A stop callback.
    Gate running;
    std::promise<void> stopped;
    world->on(FakeStep::inference, [&](const FakeCall& call) {
        const std::stop_callback callback(call.stop, [&] {
            places.here("stop callback");
            stopped.set_value();
        });
        running.pass();
    });
    Outcome<Embeddings> revoked;
    owner->async_embed(a, {"text"}, revoked.handler());
    running.await_held();
    owner->embedding().async_unload(a, UnloadMode::revoke, [](const std::exception_ptr&) {});
    stopped.get_future().get();
    running.open();
    CHECK(owner->shutdown().clean());
    revoked.wait();
    CHECK(revoked.code() == errc::model_changed);
}

}  // namespace

TEST_CASE("A blocking call on a manager whose thread runs user code is refused there", "[H15][bad_input]") {
    std::atomic<Manager*> models = nullptr;
    std::atomic<int> refused = 0;
    Places places;
    // Not CHECK: Catch2's assertions belong to one thread.
    places.visit = [&](const std::string&) {
        Manager& here = *models;
        refused += block_on(here) == Answer::refused ? 1 : 0;
        // Nothing to do is no exception, nor is the end.
        refused += code_of([&] { (void)here.embed(b, {}); }) == errc::would_deadlock ? 1 : 0;
        refused += code_of([&] { (void)here.shutdown(); }) == errc::would_deadlock ? 1 : 0;
        refused += code_of([&] { (void)here.shutdown(1ms); }) == errc::would_deadlock ? 1 : 0;
        refused += code_of([&] { (void)here.reranker().shutdown(); }) == errc::would_deadlock ? 1 : 0;
    };
    visit_all(places, models);
    CHECK(places.visited.load() == 6);
    CHECK(refused.load() == 6 * 5);
}

TEST_CASE("Another manager with idle threads of its own may be blocked on from inside user code", "[H15]") {
    const auto unrelated_world = std::make_shared<FakeWorld>();
    const std::unique_ptr<Manager> unrelated = make_manager(unrelated_world);
    std::atomic<Manager*> models = nullptr;
    std::atomic<int> served = 0;
    Places places;
    places.visit = [&](const std::string&) { served += block_on(*unrelated) == Answer::served ? 1 : 0; };
    visit_all(places, models);
    CHECK(places.visited.load() == 6);
    CHECK(served.load() == 6);
    CHECK(unrelated->shutdown().clean());
    CHECK(unrelated_world->counts().live == 0);
}

TEST_CASE("A blocking call in what a load's or an inference's stop runs is refused", "[H15]") {
    for (const FakeStep step : {FakeStep::load, FakeStep::inference}) {
        INFO("step " << static_cast<int>(step));
        const auto world = std::make_shared<FakeWorld>();
        const std::unique_ptr<Manager> models = make_manager(world);
        Gate gate;
        boost::system::error_code code;
        world->on(step, [&](const FakeCall& call) {
            std::promise<void> ran;
            const std::stop_callback stopped(call.stop, [&] {
                code = code_of([&] { models->embedding().unload(b); });
                ran.set_value();
            });
            gate.pass(call.stop);
            // The gate hears of the stop first, and a callback that is destroyed before its turn is not called.
            ran.get_future().get();
        });
        std::promise<void> done;
        asio::cancellation_signal signal;
        models->async_embed(
            a, {"text"}, asio::bind_cancellation_slot(signal.slot(), [&](const std::exception_ptr&, const Embeddings&) {
                done.set_value();
            }));
        gate.await_held();
        // On this thread, which is none of the library's: only the stop is.
        signal.emit(asio::cancellation_type::terminal);
        done.get_future().get();
        CHECK(models->shutdown().clean());
        CHECK(code == errc::would_deadlock);
    }
}

TEST_CASE("A handler that runs on a context of the host's own may block: it occupies no thread of the manager's",
          "[H15]") {
    const auto world = std::make_shared<FakeWorld>();
    const std::unique_ptr<Manager> models = make_manager(world);
    asio::io_context elsewhere;
    Answer answer = Answer::failed;
    models->async_embed(a, {"text"}, asio::bind_executor(elsewhere, [&](const std::exception_ptr&, const Embeddings&) {
                            answer = block_on(*models);
                        }));
    elsewhere.run();
    CHECK(answer == Answer::served);
    CHECK(models->shutdown().clean());
}

TEST_CASE("A manager over the same executors is refused, too: its threads are those that the call occupies", "[H15]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::thread_pool pool(2);
    const std::unique_ptr<Manager> first = make_manager(world, {}, Executors::all(pool.get_executor()));
    const std::unique_ptr<Manager> second = make_manager(world, {}, Executors::all(pool.get_executor()));
    std::promise<Answer> answer;
    first->async_embed(a, {"text"},
                       [&](const std::exception_ptr&, const Embeddings&) { answer.set_value(block_on(*second)); });
    CHECK(answer.get_future().get() == Answer::refused);
    CHECK(first->shutdown().clean());
    CHECK(second->shutdown().clean());
    pool.join();
}

namespace {

/// How blocking calls end on a thread of `context`, which has two, if `executor` is the manager's for everything.
template <class Context>
Answer block_on_thread_of(Context& context, const asio::any_io_executor& executor) {
    const auto world = std::make_shared<FakeWorld>();
    const std::unique_ptr<Manager> models = make_manager(world, {}, Executors::all(executor));
    std::promise<Answer> answer;
    asio::post(context, [&] { answer.set_value(block_on(*models)); });
    const Answer result = answer.get_future().get();
    CHECK(models->shutdown().clean());
    return result;
}

/// `executor` with each property that it may be required with and stays the same executor.
template <class Executor>
std::vector<std::pair<std::string, asio::any_io_executor>> with_properties(const Executor& executor) {
    namespace ex = asio::execution;
    const auto tracked = asio::require(executor, ex::outstanding_work.tracked);
    return {
        {"as it is", executor},
        {"outstanding_work.tracked", tracked},
        {"blocking.never", asio::require(executor, ex::blocking.never)},
        {"blocking.possibly", asio::require(executor, ex::blocking.possibly)},
        {"relationship.continuation", asio::require(executor, ex::relationship.continuation)},
        {"tracked, never and continuation", asio::require(tracked, ex::blocking.never, ex::relationship.continuation)},
        {"an allocator", asio::require(executor, ex::allocator(std::allocator<void>()))},
        {"a strand", asio::make_strand(executor)},
        {"a strand of what is tracked", asio::make_strand(tracked)},
        {"a strand of any executor", asio::make_strand(asio::any_io_executor(executor))},
        {"a strand of any strand", asio::make_strand(asio::any_io_executor(asio::make_strand(executor)))},
        {"a strand of any tracked executor", asio::make_strand(asio::any_io_executor(tracked))},
        {"any executor, tracked", asio::prefer(asio::any_io_executor(executor), ex::outstanding_work.tracked)},
    };
}

}  // namespace

TEST_CASE("An io_context's executor is recognised, whatever properties it was required with", "[H15]") {
    asio::io_context context;
    {
        const auto busy = asio::make_work_guard(context);
        std::thread first([&] { context.run(); });
        std::thread second([&] { context.run(); });
        for (const auto& [name, executor] : with_properties(context.get_executor())) {
            INFO(name);
            CHECK(block_on_thread_of(context, executor) == Answer::refused);
        }
        context.stop();
        first.join();
        second.join();
    }
}

TEST_CASE("A thread_pool's executor is recognised, whatever properties it was required with", "[H15]") {
    asio::thread_pool pool(2);
    for (const auto& [name, executor] : with_properties(pool.get_executor())) {
        INFO(name);
        CHECK(block_on_thread_of(pool, executor) == Answer::refused);
    }
    pool.join();
}

TEST_CASE("A thread of another context may block on a manager over an executor with properties", "[H15]") {
    asio::thread_pool pool(2);
    asio::thread_pool other(1);
    for (const auto& [name, executor] : with_properties(pool.get_executor())) {
        INFO(name);
        const auto world = std::make_shared<FakeWorld>();
        const std::unique_ptr<Manager> models = make_manager(world, {}, Executors::all(executor));
        std::promise<Answer> answer;
        asio::post(other, [&] { answer.set_value(block_on(*models)); });
        CHECK(answer.get_future().get() == Answer::served);
        CHECK(models->shutdown().clean());
    }
    other.join();
    pool.join();
}

}  // namespace blocking_test
