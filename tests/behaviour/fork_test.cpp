// H40: children made by fork() while a manager is there.

#include "residency/residency.hpp"
#include "residency/testing/gate.hpp"
#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/thread_sanitizer.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace fork_test {

using namespace residency;
using residency::test::in_child;
using residency::testing::Gate;

namespace {

using Manager = ModelManager<LexicalEmbeddingBackend, LexicalRerankerBackend>;
using Slot = ModelSlot<LexicalEmbeddingBackend>;

const ModelKey key{"lexical", "f32"};

// Whether `call` throws an Error that says it is for fork().
template <class Call>
bool is_refused(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.code() == errc::shutting_down &&
               std::string_view(error.what()).find("fork()") != std::string_view::npos;
    }
    return false;
}
bool is_refusal(const std::exception_ptr& error) {
    return error && is_refused([&] { std::rethrow_exception(error); });
}

// Blocks in its loads while `gate` is closed.
struct GatedBackend {
    using model_type = LexicalEmbeddingBackend::model_type;
    Gate* gate;
    std::unique_ptr<model_type> load(const ModelKey& of) {
        gate->pass();
        return LexicalEmbeddingBackend().load(of);
    }
};

// Holds a mutex of the manager's, as far as others can: its clock is read under it, in other threads but the test's.
struct StuckClock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<StuckClock>;
    static constexpr bool is_steady = true;
    static inline std::atomic<bool> stuck{false};
    static inline std::atomic<bool> reached{false};
    static time_point now() noexcept {
        while (stuck) {
            reached = true;
            reached.notify_all();
            stuck.wait(true);
        }
        return {};
    }
};

}  // namespace

TEST_CASE("a child that exits with a static manager of its parent's exits with what it wanted to", "[S47][H40]") {
    static Slot slot{{}};
    static Manager manager{};
    static_cast<void>(manager.embed(key, {"a text"}));
    const Slot::lease_type lease = slot.acquire(key);
    REQUIRE(in_child([]() -> bool { std::exit(0); }) == "exit 0");
    REQUIRE(in_child([]() -> bool { std::exit(7); }) == "exit 7");
    REQUIRE(manager.embed(key, {"a text"}).size() == 1);
}

TEST_CASE("a child destroys managers and leases of its parent's", "[S47][H40]") {
    auto manager = std::make_unique<Manager>();
    auto slot = std::make_unique<Slot>(LexicalEmbeddingBackend());
    auto lease = std::make_unique<Slot::lease_type>(slot->acquire(key));
    static_cast<void>(manager->embed(key, {"a text"}));
    REQUIRE(in_child([&] {
                const bool revoked = lease->revoked();
                manager.reset();
                slot.reset();
                lease.reset();
                return revoked;
            }) == "exit 0");
    REQUIRE(in_child([&] {
                lease.reset();
                slot.reset();
                return true;
            }) == "exit 0");
    REQUIRE_FALSE(lease->revoked());
}

TEST_CASE("blocking calls fail at once in a child", "[S47][H40]") {
    Manager manager{};
    static_cast<void>(manager.embed(key, {"a text"}));
    auto& slot = manager.embedding();
    REQUIRE(in_child([&] {
                return is_refused([&] { static_cast<void>(manager.embed(key, {"a text"})); }) &&
                       is_refused([&] { static_cast<void>(manager.embed(key, {})); }) &&
                       is_refused([&] { static_cast<void>(manager.embed({}, {"a text"})); }) &&
                       is_refused([&] { static_cast<void>(manager.rerank(key, "query", {"a text"})); }) &&
                       is_refused([&] { static_cast<void>(slot.acquire(key)); }) &&
                       is_refused([&] { slot.ensure_loaded(key); }) && is_refused([&] { slot.unload(key); }) &&
                       is_refused([&] { slot.unload(); }) && is_refused([&] { slot.shutdown(); }) &&
                       is_refused([&] { manager.shutdown(); }) && !slot.try_acquire(key) &&
                       manager.status().embedding.shutting_down && manager.status().embedding.residents.empty();
            }) == "exit 0");
    REQUIRE(manager.status().embedding.residents.size() == 1);
}

TEST_CASE("a request in a child completes on an executor that runs there", "[S47][H40]") {
    Manager manager{};
    static_cast<void>(manager.embed(key, {"a text"}));
    REQUIRE(in_child([&] {
                asio::io_context context;
                int refused = 0;
                const auto count = [&] {
                    return asio::bind_executor(context, [&](const std::exception_ptr& error, const auto&...) {
                        refused += is_refusal(error) ? 1 : 0;
                    });
                };
                manager.async_embed(key, {"a text"}, count());
                manager.async_rerank(key, "query", {"a text"}, count());
                manager.embedding().async_acquire(key, count());
                manager.embedding().async_ensure_loaded(key, count());
                manager.embedding().async_unload(key, count());
                manager.embedding().async_shutdown(count());
                manager.async_shutdown(count());
                const bool none_inside = refused == 0;
                context.run();
                return none_inside && refused == 7;
            }) == "exit 0");
}

TEST_CASE("a request in a child completes on the host's executors if they run there", "[S47][H40]") {
    asio::io_context context;
    Manager manager{{}, {}, {}, Executors::all(context.get_executor())};
    REQUIRE(in_child([&] {
                context.notify_fork(asio::execution_context::fork_child);
                bool refused = false;
                manager.async_embed(key, {"a text"}, [&](const std::exception_ptr& error, const Embeddings&) {
                    refused = is_refusal(error);
                });
                context.run();
                return refused;
            }) == "exit 0");
}

TEST_CASE("what a host's context had to do for a manager is not done in a child", "[S47][H40]") {
    std::atomic<int> loads{0};
    struct CountingBackend {
        using model_type = LexicalEmbeddingBackend::model_type;
        std::atomic<int>* loads;
        std::unique_ptr<model_type> load(const ModelKey& of) {
            ++*loads;
            return LexicalEmbeddingBackend().load(of);
        }
    };
    asio::io_context context;
    auto slot = std::make_unique<ModelSlot<CountingBackend>>(CountingBackend{&loads}, SlotOptions(),
                                                             Executors::all(context.get_executor()));
    bool ready = false;
    slot->async_ensure_loaded(key, [&](const std::exception_ptr& error, Generation) { ready = !error; });
    REQUIRE(in_child([&] {
                context.notify_fork(asio::execution_context::fork_child);
                context.poll();
                slot.reset();
                context.poll();
                return loads == 0;
            }) == "exit 0");
    while (!ready) {
        context.run_one();
    }
    REQUIRE(loads == 1);
    slot.reset();
    context.poll();
}

TEST_CASE("a child made during a load or with waiters exits and refuses", "[S47][H40]") {
    Gate gate;
    ModelSlot<GatedBackend> slot{{&gate}};
    auto loaded = std::async(std::launch::async, [&] { return slot.ensure_loaded(key); });
    gate.await_held();
    REQUIRE(in_child([&] { return is_refused([&] { slot.ensure_loaded(key); }); }) == "exit 0");
    REQUIRE(in_child([&] {
                slot.~ModelSlot();
                return true;
            }) == "exit 0");
    gate.open();
    const Generation generation = loaded.get();
    REQUIRE(generation == slot.generation());
}

TEST_CASE("a child does not wait for a mutex that a thread of its parent's held", "[S47][H40]") {
    asio::thread_pool pool(1);
    using StuckSlot = ModelSlot<LexicalEmbeddingBackend, StuckClock>;
    StuckSlot slot{{}, {}, Executors::all(pool.get_executor())};
    StuckSlot::lease_type lease = slot.acquire(key);
    StuckClock::stuck = true;
    std::thread holder([&] { static_cast<void>(slot.status()); });
    StuckClock::reached.wait(false);
    REQUIRE(in_child([&] {
                StuckClock::stuck = false;
                const bool refused = is_refused([&] { slot.ensure_loaded(key); }) &&
                                     is_refused([&] { slot.shutdown(); }) && !slot.try_acquire(key) &&
                                     slot.status().shutting_down && lease.revoked();
                lease.release();
                slot.~StuckSlot();
                return refused;
            }) == "exit 0");
    StuckClock::stuck = false;
    StuckClock::stuck.notify_all();
    holder.join();
    lease.release();
    slot.shutdown();
}

#ifndef RESIDENCY_TEST_THREAD_SANITIZER
// ThreadSanitizer ends a child that starts a thread, if its parent had several. To ask for system_executor's context
// starts its threads.
TEST_CASE("a request in a child throws if its handler's threads are the parent's", "[S47][H40]") {
    Manager manager{};
    static_cast<void>(manager.embed(key, {"a text"}));
    REQUIRE(in_child([&] {
                const auto never = [](const std::exception_ptr&, const auto&...) { std::abort(); };
                return is_refused([&] { manager.async_embed(key, {"a text"}, never); }) &&
                       is_refused([&] { manager.embedding().async_unload(never); }) &&
                       is_refused([&] { manager.async_shutdown(never); }) && is_refused([&] {
                           manager.async_embed(key, {"a text"}, asio::bind_executor(asio::system_executor(), never));
                       }) &&
                       is_refused([&] { manager.async_embed(key, {"a text"}, asio::use_future).get(); });
            }) == "exit 0");
}

TEST_CASE("a manager made in a child works, and its own child refuses", "[S47][H40]") {
    Manager parents{};
    static_cast<void>(parents.embed(key, {"a text"}));
    REQUIRE(in_child([&] {
                Manager manager{};
                const bool works = manager.embed(key, {"a text"}).size() == 1;
                const bool refuses = is_refused([&] { static_cast<void>(parents.embed(key, {"a text"})); });
                const std::string grandchild = in_child([&] {
                    return is_refused([&] { static_cast<void>(manager.embed(key, {"a text"})); }) &&
                           is_refused([&] { static_cast<void>(parents.embed(key, {"a text"})); });
                });
                return works && refuses && grandchild == "exit 0" && manager.embed(key, {"a text"}).size() == 1;
            }) == "exit 0");
}
#endif

}  // namespace fork_test
