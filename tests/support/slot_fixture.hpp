#pragma once

// Slots and managers over fake models, for tests of their behaviour: on the virtual clock with executors that the test
// itself polls, so that every step is the test's, or on threads of the library's own. Each ends with a count of its
// handlers and a look at what is left.

#include "residency/model_manager.hpp"

#include "support/catch.hpp"
#include "support/fakes.hpp"
#include "support/test_log.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// A lease on a fake model.
using FakeLease = Lease<FakeEmbedder>;

/// Calls a slot of fakes and counts its handlers. `Clock` says whether its test moves the time or it has threads.
template <class Clock>
class SlotCalls {
public:
    using Slot = ModelSlot<FakeEmbeddingBackend, Clock>;

    [[nodiscard]] Outcome<FakeLease> acquire(const ModelKey& key, RequestOptions options = {},
                                             asio::cancellation_slot cancel = {}) {
        Outcome<FakeLease> outcome;
        slot->async_acquire(key, options, asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<Generation> ensure(const ModelKey& key, RequestOptions options = {},
                                             asio::cancellation_slot cancel = {}) {
        Outcome<Generation> outcome;
        slot->async_ensure_loaded(key, options,
                                  asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<> unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain,
                                   asio::cancellation_slot cancel = {}) {
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

    /// Takes a lease, and gives it back as soon as it has it.
    void use(const ModelKey& key, RequestOptions options = {}) {
        auto lease = acquire(key, options);
        run();
        REQUIRE(lease.calls() == 1);
        lease.value().release();
        run();
    }
    /// Loads a model.
    void load(const ModelKey& key) {
        const auto loaded = ensure(key);
        run();
        REQUIRE(loaded.calls() == 1);
        CHECK_FALSE(loaded.exception());
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

    /// As above; precondition: no lease is held.
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

    [[nodiscard]] Outcome<Embeddings> embed(const ModelKey& key, std::vector<std::string> texts = {"text"},
                                            RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<Embeddings> outcome;
        models->async_embed(key, std::move(texts), options,
                            asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<Ranking> rerank(const ModelKey& key,
                                          std::vector<std::string> documents = {"long document", "short"},
                                          RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<Ranking> outcome;
        models->async_rerank(key, "query", std::move(documents), options,
                             asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
        return outcome;
    }
    [[nodiscard]] Outcome<FakeLease> acquire(const ModelKey& key, RequestOptions options = {},
                                             asio::cancellation_slot cancel = {}) {
        Outcome<FakeLease> outcome;
        models->embedding().async_acquire(key, options,
                                          asio::bind_cancellation_slot(cancel, handlers.count(outcome.handler())));
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
    explicit ThreadedManager(const SlotOptions& embedding = {}, const SlotOptions& reranker = {},
                             const Observer& observer = {}) {
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

}  // namespace residency::test
