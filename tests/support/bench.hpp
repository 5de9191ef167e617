#pragma once

// Slots and managers over fake models, for tests of their behaviour: on the virtual clock with executors that the test
// itself runs, so that every step is the test's, or on threads of the library's own. Each ends with a look at what is
// left.

#include "residency/event.hpp"
#include "residency/lease.hpp"
#include "residency/model_key.hpp"
#include "residency/model_manager.hpp"
#include "residency/model_slot.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/status.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"
#include "support/contexts.hpp"
#include "support/event_log.hpp"
#include "support/handler_tally.hpp"
#include "support/request.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

using testing::FakeCall;
using testing::FakeCounts;
using testing::FakeEmbedder;
using testing::FakeEmbeddingBackend;
using testing::FakeFault;
using testing::FakeModel;
using testing::FakeRerankerBackend;
using testing::FakeStep;
using testing::FakeStop;
using testing::FakeWorld;
using testing::Gate;

/// A backend for slots.
using PlainBackend = FakeEmbeddingBackend;
/// A lease on one of its models.
using FakeLease = Lease<FakeEmbedder>;

/// Keys that the fakes know, as they know every key.
inline const ModelKey a{"a", "f16"};
inline const ModelKey b{"b", "f16"};
inline const ModelKey c{"c", "f16"};

/// Checks that nothing is left of a slot that was shut down, and that its figures agree with each other.
inline void check_at_rest(const SlotStatus& slot) {
    INFO(slot);
    CHECK(slot.shutting_down);
    CHECK(slot.residents.empty());
    CHECK(slot.leases == 0);
    CHECK(slot.waiting == 0);
    CHECK(slot.counters.loads == slot.counters.loaded + slot.counters.load_failures + slot.counters.loads_aborted);
    CHECK(slot.counters.loaded == slot.counters.unloaded());
}
/// The same of a manager.
inline void check_at_rest(const ManagerStatus& manager) {
    check_at_rest(manager.embedding);
    check_at_rest(manager.reranker);
}
/// Checks that no fake model lives or runs, and that none was ever destroyed under a call.
inline void check_at_rest(const FakeWorld& world) {
    const FakeCounts counts = world.counts();
    CHECK(counts.live == 0);
    CHECK(counts.loading == 0);
    CHECK(counts.calling == 0);
    CHECK(counts.loads == counts.unloads + counts.failed_loads);
    CHECK(world.violations() == std::vector<std::string>{});
}

/// Calls `act` within the next call of a fake for `step`, once. On the virtual clock this is "while the model loads",
/// "while it answers" or "while it unloads".
inline void during(FakeWorld& world, FakeStep step, std::function<void()> act) {
    world.on(step, [act = std::move(act)](const FakeCall&) mutable {
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

/// A world of fake models, the events, and a count of handlers.
struct Fakes {
    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    EventLog events;
    HandlerTally handlers;

    /// Checks that no model is left, and that of `expected` handlers each ran once.
    void check_gone(std::size_t expected) {
        check_at_rest(*world);
        CHECK(handlers.made() == expected);
        CHECK(handlers.ran() == expected);
    }
    /// The same of a slot or a manager that has shut down, which goes.
    template <class Target>
    void check_ended(std::optional<Target>& target, std::size_t expected) {
        check_at_rest(target->status());
        target.reset();
        check_gone(expected);
    }
    /// Shuts a slot or a manager with threads of its own down, and checks the same; precondition: no lease is held.
    template <class Target>
    void finish(std::optional<Target>& target, std::size_t expected) {
        CHECK(target->shutdown().clean());
        check_ended(target, expected);
    }
};

/// What a test of one thread needs.
struct Bench : Contexts, Fakes {
    /// Checks that nothing is left behind once slots or managers have shut down or are gone: no model, no call, nothing
    /// pending.
    void check_nothing_left() {
        run();
        check_at_rest(*world);
        CHECK(at_rest());
    }
    /// Shuts `target` down, a slot or a manager, and checks that nothing is left behind.
    template <class Target>
    void check_ends_clean(Target& target) {
        Outcome<ShutdownReport> report;
        target.async_shutdown(report.handler());
        run();
        REQUIRE(report.calls() == 1);
        CHECK(report.value().clean());
        CHECK_FALSE(report.held());
        check_nothing_left();
    }
    /// As Fakes', and that nothing is pending.
    void check_gone(std::size_t expected) {
        Fakes::check_gone(expected);
        CHECK(at_rest());
    }
    template <class Target>
    void check_ended(std::optional<Target>& target, std::size_t expected) {
        CHECK(at_rest());
        Fakes::check_ended(target, expected);
        CHECK(at_rest());
    }
};

/// Counts the handlers of calls.
template <class Base>
struct Calls : Base {
    /// Shuts a slot or a manager down.
    template <class Target>
    [[nodiscard]] Outcome<ShutdownReport> shut_down(Target& target, std::optional<std::chrono::milliseconds> deadline) {
        Outcome<ShutdownReport> outcome;
        if (deadline) {
            target.async_shutdown(*deadline, counted(outcome));
        } else {
            target.async_shutdown(counted(outcome));
        }
        return outcome;
    }
    template <class Result>
    auto counted(Outcome<Result>& outcome, asio::cancellation_slot cancel = {}) {
        return asio::bind_cancellation_slot(cancel, this->handlers.count(outcome.handler()));
    }
};

/// Calls a slot of fakes and counts its handlers.
template <class Base, class Clock>
struct SlotCalls : Calls<Base> {
    using Slot = ModelSlot<FakeEmbeddingBackend, Clock>;

    [[nodiscard]] Outcome<FakeLease> acquire(const ModelKey& key, RequestOptions options = {},
                                             asio::cancellation_slot cancel = {}) {
        Outcome<FakeLease> outcome;
        slot->async_acquire(key, options, this->counted(outcome, cancel));
        return outcome;
    }
    [[nodiscard]] Outcome<Generation> ensure(const ModelKey& key, RequestOptions options = {},
                                             asio::cancellation_slot cancel = {}) {
        Outcome<Generation> outcome;
        slot->async_ensure_loaded(key, options, this->counted(outcome, cancel));
        return outcome;
    }
    [[nodiscard]] Outcome<> unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain,
                                   asio::cancellation_slot cancel = {}) {
        Outcome<> outcome;
        slot->async_unload(key, mode, this->counted(outcome, cancel));
        return outcome;
    }
    [[nodiscard]] Outcome<ShutdownReport> shutdown(std::optional<std::chrono::milliseconds> deadline = {}) {
        return this->shut_down(*slot, deadline);
    }

    std::optional<Slot> slot;
};

/// A bench with a slot on it.
struct SlotBench : SlotCalls<Bench, VirtualClock> {
    explicit SlotBench(const SlotOptions& options = {}) {
        slot.emplace(FakeEmbeddingBackend(world), options, executors(), events.observer());
    }

    /// Takes a lease on `key`, which can be had without waiting for anything but its load.
    [[nodiscard]] FakeLease lease(const ModelKey& key, const RequestOptions& request = {}) {
        Outcome<FakeLease> answer;
        slot->async_acquire(key, request, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return std::move(answer.value());
    }
    /// Takes a lease, counted, and gives it back as soon as it has it.
    void use(const ModelKey& key, RequestOptions options = {}) {
        auto lease = acquire(key, options);
        run();
        REQUIRE(lease.calls() == 1);
        lease.value().release();
        run();
    }
    /// Loads a model, counted.
    void load(const ModelKey& key) {
        const auto loaded = ensure(key);
        run();
        REQUIRE(loaded.calls() == 1);
        CHECK_FALSE(loaded.exception());
    }

    /// The resident of `key`, if there is one.
    [[nodiscard]] std::optional<ResidentStatus> resident(const ModelKey& key) const {
        for (const ResidentStatus& entry : slot->status().residents) {
            if (entry.key == key) {
                return entry;
            }
        }
        return {};
    }
    /// The only resident.
    [[nodiscard]] ResidentStatus only_resident() const {
        const SlotStatus status = slot->status();
        REQUIRE(status.residents.size() == 1);
        return status.residents.front();
    }
    /// Whether `key` is resident in this state.
    [[nodiscard]] bool is(const ModelKey& key, ResidentState state) const {
        const std::optional<ResidentStatus> entry = resident(key);
        return entry && entry->state == state;
    }

    /// Shuts the slot down, and checks that nothing is left behind.
    void check_end() { check_ends_clean(*slot); }
    /// The same, and that of `expected` handlers each ran once.
    void finish(std::size_t expected) {
        const Outcome<ShutdownReport> report = shutdown();
        run();
        REQUIRE(report.calls() == 1);
        check_ended(expected + 1);
    }
    /// The same after a shutdown.
    void check_ended(std::size_t expected) { Bench::check_ended(slot, expected); }
};

/// A slot with threads of its own.
struct ThreadedSlot : SlotCalls<Fakes, std::chrono::steady_clock> {
    explicit ThreadedSlot(const SlotOptions& options = {}, const Observer& observer = {}) {
        slot.emplace(FakeEmbeddingBackend(world), options, Executors{}, observer);
    }

    /// As Fakes'.
    void finish(std::size_t expected) { Fakes::finish(slot, expected); }
};

/// Calls a manager of fakes and counts its handlers. Both its backends live in one world.
template <class Base, class Clock>
struct ManagerCalls : Calls<Base> {
    using Manager = ModelManager<FakeEmbeddingBackend, FakeRerankerBackend, Clock>;

    [[nodiscard]] Outcome<Embeddings> embed(const ModelKey& key, std::vector<std::string> texts = {"text"},
                                            RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<Embeddings> outcome;
        manager->async_embed(key, std::move(texts), options, this->counted(outcome, cancel));
        return outcome;
    }
    [[nodiscard]] Outcome<Ranking> rerank(const ModelKey& key,
                                          std::vector<std::string> documents = {"long document", "short"},
                                          RequestOptions options = {}, asio::cancellation_slot cancel = {}) {
        Outcome<Ranking> outcome;
        manager->async_rerank(key, "query", std::move(documents), options, this->counted(outcome, cancel));
        return outcome;
    }
    [[nodiscard]] Outcome<FakeLease> acquire(const ModelKey& key, RequestOptions options = {},
                                             asio::cancellation_slot cancel = {}) {
        Outcome<FakeLease> outcome;
        manager->embedding().async_acquire(key, options, this->counted(outcome, cancel));
        return outcome;
    }
    [[nodiscard]] Outcome<Generation> ensure(const ModelKey& key, RequestOptions options = {}) {
        Outcome<Generation> outcome;
        manager->embedding().async_ensure_loaded(key, options, this->counted(outcome));
        return outcome;
    }
    [[nodiscard]] Outcome<> unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain) {
        Outcome<> outcome;
        manager->embedding().async_unload(key, mode, this->counted(outcome));
        return outcome;
    }
    [[nodiscard]] Outcome<ShutdownReport> shutdown(std::optional<std::chrono::milliseconds> deadline = {}) {
        return this->shut_down(*manager, deadline);
    }

    std::optional<Manager> manager;
};

/// A bench with a manager on it.
struct ManagerBench : ManagerCalls<Bench, VirtualClock> {
    explicit ManagerBench(ManagerOptions options = {}) {
        options.observer = events.observer();
        manager.emplace(FakeEmbeddingBackend(world), FakeRerankerBackend(world), options, executors());
    }

    /// As SlotBench's.
    void check_end() { check_ends_clean(*manager); }
    void finish(std::size_t expected) {
        const Outcome<ShutdownReport> report = shutdown();
        run();
        REQUIRE(report.calls() == 1);
        check_ended(expected + 1);
    }
    void check_ended(std::size_t expected) { Bench::check_ended(manager, expected); }
};

/// A manager with threads of its own.
struct ThreadedManager : ManagerCalls<Fakes, std::chrono::steady_clock> {
    explicit ThreadedManager(const ManagerOptions& options = {}) {
        manager.emplace(FakeEmbeddingBackend(world), FakeRerankerBackend(world), options);
    }

    /// As Fakes'.
    void finish(std::size_t expected) { Fakes::finish(manager, expected); }
};

}  // namespace residency::test

#if defined(RESIDENCY_SEPARATE_COMPILATION)
#include "support/compiled.hpp"
#endif
