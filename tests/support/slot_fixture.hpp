#pragma once

// Slots and managers over fake models, for tests of their behaviour: on the virtual clock with executors that the test itself polls, so
// that every step is the test's, or on threads of the library's own. Each ends with a count of its handlers and a look at what is left.

#include "residency/model_manager.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"
#include "support/test_log.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::test {

using testing::FakeEmbedder;
using testing::FakeEmbeddingBackend;
using testing::FakeFault;
using testing::FakeRerankerBackend;
using testing::FakeStep;
using testing::FakeStop;
using testing::FakeWorld;
using testing::Gate;
using testing::Outcome;
using testing::VirtualClock;

/// Keys that the fakes know, as they know every key.
inline const ModelKey a{"a", "f16"};
inline const ModelKey b{"b", "f16"};
inline const ModelKey c{"c", "f16"};

/// A lease on a fake model.
using FakeLease = Lease<FakeEmbedder>;

/// Checks that nothing is left of a slot that was shut down, and that its figures agree with what its fakes saw.
inline void check_at_rest(const SlotStatus& slot) {
    INFO(slot);
    CHECK(slot.shutting_down);
    CHECK(slot.residents.empty());
    CHECK(slot.leases == 0);
    CHECK(slot.waiting == 0);
    CHECK(slot.counters.loads == slot.counters.loaded + slot.counters.load_failures + slot.counters.loads_aborted);
    CHECK(slot.counters.loaded == slot.counters.unloaded());
}

/// Checks that no fake model lives or runs, and that none was ever destroyed under a call.
inline void check_at_rest(const FakeWorld& world) {
    const testing::FakeCounts counts = world.counts();
    CHECK(counts.live == 0);
    CHECK(counts.loading == 0);
    CHECK(counts.calling == 0);
    CHECK(counts.loads == counts.unloads + counts.failed_loads);
    CHECK(world.violations() == std::vector<std::string>{});
}

/// Executors that the test polls.
struct PolledContexts {
    asio::io_context control;
    asio::io_context inference;
    asio::io_context loading;

    PolledContexts() { VirtualClock::reset(); }

    [[nodiscard]] Executors executors() { return {control.get_executor(), inference.get_executor(), loading.get_executor()}; }

    /// Runs all that is ready, on all three.
    std::size_t run() { return testing::run_ready(control, inference, loading); }
    /// Runs what is ready but loads and unloads: those stay where they are. Also for use within a load or an unload.
    std::size_t run_without_loading() { return testing::run_ready(control, inference); }
    /// Runs what is ready on control alone. Also for use within a model call.
    std::size_t run_control() { return testing::run_ready(control); }
    /// Moves the time on, and runs all that is ready.
    std::size_t pass(VirtualClock::duration time) {
        VirtualClock::advance(time);
        return run();
    }
    /// Whether no handler and no timer waits on any of them: `run()` of each would return at once.
    [[nodiscard]] bool idle() {
        const auto idle = [](asio::io_context& context) {
            context.restart();
            return context.poll() == 0 && context.stopped();
        };
        return idle(control) && idle(inference) && idle(loading);
    }
};

/// Calls a slot of fakes and counts its handlers. `Clock` says whether its test moves the time or it has threads.
template <class Clock>
class SlotCalls {
public:
    using Slot = ModelSlot<FakeEmbeddingBackend, Clock>;

    [[nodiscard]] Outcome<FakeLease> acquire(const ModelKey& key, RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<FakeLease> outcome;
        slot->async_acquire(key, options, asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<Generation> ensure(const ModelKey& key, RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<Generation> outcome;
        slot->async_ensure_loaded(key, options, asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<> unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain, asio::cancellation_slot cancel = {}) {
        Outcome<> outcome;
        slot->async_unload(key, mode, asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<ShutdownReport> shutdown(std::optional<std::chrono::milliseconds> deadline = {}) {
        Outcome<ShutdownReport> outcome;
        if (deadline) {
            slot->async_shutdown(*deadline, handlers.count(outcome.handler()));
        } else {
            slot->async_shutdown(handlers.count(outcome.handler()));
        }
        return outcome;
    }

    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    EventLog events;
    HandlerTally handlers;
    std::optional<Slot> slot;
};

/// A slot on the virtual clock.
class VirtualSlot : public PolledContexts, public SlotCalls<VirtualClock> {
public:
    explicit VirtualSlot(const SlotOptions& options = {}) {
        slot.emplace(FakeEmbeddingBackend(world), options, executors(), events.observer());
    }

    /// Its only resident.
    [[nodiscard]] ResidentStatus resident() const {
        const SlotStatus status = slot->status();
        REQUIRE(status.residents.size() == 1);
        return status.residents.front();
    }

    /// Shuts it down, and checks that of `expected` handlers each ran once and that nothing is left.
    void finish(std::size_t expected) {
        const Outcome<ShutdownReport> report = shutdown();
        run();
        REQUIRE(report.calls() == 1);
        check_nothing_left(expected + 1);
    }
    /// The same after a shutdown.
    void check_nothing_left(std::size_t expected) {
        check_at_rest(slot->status());
        CHECK(idle());
        slot.reset();
        check_gone(expected);
    }
    /// The same after its destruction.
    void check_gone(std::size_t expected) {
        check_at_rest(*world);
        CHECK(handlers.made() == expected);
        CHECK(handlers.ran() == expected);
        CHECK(idle());
    }
};

/// A slot with threads of its own.
class ThreadedSlot : public SlotCalls<std::chrono::steady_clock> {
public:
    explicit ThreadedSlot(const SlotOptions& options = {}, const Observer& observer = {}) {
        slot.emplace(FakeEmbeddingBackend(world), options, Executors{}, observer);
    }

    /// As above; precondition: nobody holds a lease.
    void finish(std::size_t expected) {
        CHECK(slot->shutdown().clean());
        check_at_rest(slot->status());
        slot.reset();
        check_gone(expected);
    }
    void check_gone(std::size_t expected) {
        check_at_rest(*world);
        CHECK(handlers.made() == expected);
        CHECK(handlers.ran() == expected);
    }
};

/// Calls a manager of fakes and counts its handlers.
template <class Clock>
class ManagerCalls {
public:
    using Manager = ModelManager<FakeEmbeddingBackend, FakeRerankerBackend, Clock>;

    [[nodiscard]] Outcome<Embeddings> embed(const ModelKey& key, std::vector<std::string> texts = {"text"}, RequestOptions options = {},
                                            asio::cancellation_slot cancel = {}) {
        Outcome<Embeddings> outcome;
        models->async_embed(key, std::move(texts), options, asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<Ranking> rerank(const ModelKey& key, std::vector<std::string> documents = {"long document", "short"},
                                          RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<Ranking> outcome;
        models->async_rerank(key, "query", std::move(documents), options,
                             asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<FakeLease> acquire(const ModelKey& key, RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<FakeLease> outcome;
        models->embedding().async_acquire(key, options, asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<Generation> ensure(const ModelKey& key, RequestOptions options = {}) {
        Outcome<Generation> outcome;
        models->embedding().async_ensure_loaded(key, options, handlers.count(outcome.handler()));
        return outcome;
    }
    [[nodiscard]] Outcome<> unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain) {
        Outcome<> outcome;
        models->embedding().async_unload(key, mode, handlers.count(outcome.handler()));
        return outcome;
    }
    [[nodiscard]] Outcome<ShutdownReport> shutdown(std::optional<std::chrono::milliseconds> deadline = {}) {
        Outcome<ShutdownReport> outcome;
        if (deadline) {
            models->async_shutdown(*deadline, handlers.count(outcome.handler()));
        } else {
            models->async_shutdown(handlers.count(outcome.handler()));
        }
        return outcome;
    }

    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    EventLog events;
    HandlerTally handlers;
    std::optional<Manager> models;
};

/// A manager on the virtual clock; both its backends share a world.
class VirtualManager : public PolledContexts, public ManagerCalls<VirtualClock> {
public:
    explicit VirtualManager(const SlotOptions& embedding = {}, const SlotOptions& reranker = {}) {
        ManagerOptions options;
        options.embedding = embedding;
        options.reranker = reranker;
        options.observer = events.observer();
        models.emplace(FakeEmbeddingBackend(world), FakeRerankerBackend(world), options, executors());
    }

    /// As VirtualSlot's.
    void finish(std::size_t expected) {
        const Outcome<ShutdownReport> report = shutdown();
        run();
        REQUIRE(report.calls() == 1);
        check_nothing_left(expected + 1);
    }
    void check_nothing_left(std::size_t expected) {
        const ManagerStatus status = models->status();
        check_at_rest(status.embedding);
        check_at_rest(status.reranker);
        CHECK(idle());
        models.reset();
        check_gone(expected);
    }
    void check_gone(std::size_t expected) {
        check_at_rest(*world);
        CHECK(handlers.made() == expected);
        CHECK(handlers.ran() == expected);
        CHECK(idle());
    }
};

/// A manager with threads of its own.
class ThreadedManager : public ManagerCalls<std::chrono::steady_clock> {
public:
    explicit ThreadedManager(const SlotOptions& embedding = {}, const SlotOptions& reranker = {}, const Observer& observer = {}) {
        ManagerOptions options;
        options.embedding = embedding;
        options.reranker = reranker;
        options.observer = observer;
        models.emplace(FakeEmbeddingBackend(world), FakeRerankerBackend(world), options);
    }

    /// As ThreadedSlot's.
    void finish(std::size_t expected) {
        CHECK(models->shutdown().clean());
        const ManagerStatus status = models->status();
        check_at_rest(status.embedding);
        check_at_rest(status.reranker);
        models.reset();
        check_gone(expected);
    }
    void check_gone(std::size_t expected) {
        check_at_rest(*world);
        CHECK(handlers.made() == expected);
        CHECK(handlers.ran() == expected);
    }
};

/// Calls `act` within the next call of a fake for `step`, once. On the virtual clock this is "while the model loads", "while it answers"
/// or "while it unloads".
inline void during(FakeWorld& world, FakeStep step, std::function<void()> act) {
    world.on(step, [act = std::move(act)](const testing::FakeCall&) mutable {
        if (const std::function<void()> once = std::exchange(act, nullptr)) {
            once();
        }
    });
}

/// The message of what is nested in `exception`; empty if nothing is.
[[nodiscard]] inline std::string nested_message(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& error) {
        try {
            std::rethrow_if_nested(error);
        } catch (const std::exception& cause) {
            return cause.what();
        } catch (...) {
            return "not a std::exception";
        }
    }
    return {};
}

/// The code of what `call` throws; no error if it throws nothing.
template <class Call>
[[nodiscard]] boost::system::error_code code_of(Call call) {
    try {
        call();
        return {};
    } catch (const boost::system::system_error& error) {
        return error.code();
    }
}

}  // namespace residency::test
