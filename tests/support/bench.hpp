#pragma once

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
#include "support/request.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace residency::test {

using testing::FakeCall;
using testing::FakeCounts;
using testing::FakeFault;
using testing::FakeModel;
using testing::FakeStep;
using testing::FakeStop;
using testing::FakeWorld;
using testing::Outcome;
using testing::run_ready;
using testing::VirtualClock;

/// A backend of models that are not called: for slots.
using PlainBackend = testing::FakeBackend<FakeModel>;
/// A lease on one.
using FakeLease = Lease<FakeModel>;

/// Whether `context` has nothing to do and waits for nothing: no handler, no timer, no outstanding work.
inline bool is_idle(asio::io_context& context) {
    context.restart();
    return context.poll() == 0 && context.stopped();
}

/// Keeps the events of a slot or a manager, in order. From any thread.
class EventLog {
public:
    /// An observer that writes here. The log must outlive it.
    [[nodiscard]] Observer observer() {
        return [this](const Event& event) {
            {
                const runtime::MutexLock lock(mutex_);
                events_.push_back(event);
            }
            ++kept_;
            kept_.notify_all();
        };
    }
    /// Blocks until one of this type was delivered: neither a shutdown nor a destructor waits for that (H19).
    void wait_for(EventType type) const {
        for (std::size_t kept = kept_; count(type) == 0; kept = kept_) {
            kept_.wait(kept);
        }
    }
    /// All of them.
    [[nodiscard]] std::vector<Event> all() const {
        const runtime::MutexLock lock(mutex_);
        return events_;
    }
    /// Those of one type.
    [[nodiscard]] std::vector<Event> all(EventType type) const {
        std::vector<Event> chosen = all();
        std::erase_if(chosen, [type](const Event& event) { return event.type != type; });
        return chosen;
    }
    /// How many of one type.
    [[nodiscard]] std::size_t count(EventType type) const { return all(type).size(); }
    /// The types, in order.
    [[nodiscard]] std::vector<EventType> types() const {
        std::vector<EventType> types;
        for (const Event& event : all()) {
            types.push_back(event.type);
        }
        return types;
    }

private:
    mutable runtime::Mutex mutex_;
    std::vector<Event> events_ RESIDENCY_GUARDED_BY(mutex_);
    std::atomic<std::size_t> kept_{0};
};

/// What a test of one thread needs: the virtual clock at its beginning, three contexts that only the test runs, so that
/// what is not run stands still, a world of fakes, and the events.
struct Bench {
    Bench() { VirtualClock::reset(); }

    /// An executor for each purpose.
    [[nodiscard]] Executors executors() {
        return {control.get_executor(), inference.get_executor(), loading.get_executor()};
    }
    /// Runs whatever is ready, everywhere.
    void run() { run_ready(control, inference, loading); }
    /// Moves the time on, and runs whatever that makes ready.
    void advance(VirtualClock::duration by) {
        VirtualClock::advance(by);
        run();
    }
    /// Whether nothing is left to do or to wait for.
    [[nodiscard]] bool at_rest() { return is_idle(control) && is_idle(inference) && is_idle(loading); }

    /// Checks that nothing is left behind once slots or managers have shut down or are gone: no model, no call, nothing
    /// pending.
    void check_nothing_left() {
        run();
        const FakeCounts counts = world->counts();
        CHECK(counts.live == 0);
        CHECK(counts.loading == 0);
        CHECK(counts.calling == 0);
        CHECK(counts.loads == counts.unloads + counts.failed_loads);
        CHECK(world->violations().empty());
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

    asio::io_context control;
    asio::io_context inference;
    asio::io_context loading;
    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    EventLog events;
};

/// A bench with a slot on it.
struct SlotBench : Bench {
    using Slot = ModelSlot<PlainBackend, VirtualClock>;

    explicit SlotBench(const SlotOptions& options = {})
        : slot(std::in_place, PlainBackend(world), options, executors(), events.observer()) {}

    /// Takes a lease on `key`, which can be had without waiting for anybody.
    [[nodiscard]] FakeLease lease(const ModelKey& key, const RequestOptions& request = {}) {
        Outcome<FakeLease> answer;
        slot->async_acquire(key, request, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return std::move(answer.value());
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
    /// Whether `key` is resident in this state.
    [[nodiscard]] bool is(const ModelKey& key, ResidentState state) const {
        const std::optional<ResidentStatus> entry = resident(key);
        return entry && entry->state == state;
    }
    /// Shuts the slot down, and checks that nothing is left behind.
    void check_end() { check_ends_clean(*slot); }

    std::optional<Slot> slot;
};

/// A bench with a manager on it. Both its backends live in one world.
struct ManagerBench : Bench {
    using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend, VirtualClock>;

    explicit ManagerBench(ManagerOptions options = {}) {
        options.observer = events.observer();
        manager.emplace(testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options,
                        executors());
    }

    /// Shuts the manager down, and checks that nothing is left behind.
    void check_end() { check_ends_clean(*manager); }

    std::optional<Manager> manager;
};

}  // namespace residency::test
