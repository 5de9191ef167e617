#pragma once

// A SlotScheduler on a table: a test makes the calls that a slot would make, at times that it chooses, and sees what each of them did.

#include "residency/core/slot_scheduler.hpp"
#include "support/actions.hpp"
#include "support/catch.hpp"

#include <chrono>
#include <string>
#include <utility>

namespace residency::test {

using core::Attempt;
using core::Enqueued;
using core::Grant;
using core::RequestId;
using core::RequestSpec;
using core::ResidentId;
using core::SlotScheduler;
using core::TeardownId;
using std::chrono::milliseconds;

/// A scheduler, the time, and what the last call did.
class SlotTable {
public:
    explicit SlotTable(const SlotOptions& options) : scheduler(options) {}

    /// It is that time now.
    SlotTable& at(milliseconds time) {
        now = time;
        return *this;
    }

    Attempt try_grant(const ModelKey& key, Grant& grant, const RequestSpec& spec = {}) {
        actions.clear();
        return scheduler.try_grant(key, spec, grant);
    }
    /// A lease that must be had at once.
    Grant lease(const ModelKey& key, const RequestSpec& spec = {}) {
        Grant grant;
        REQUIRE(try_grant(key, grant, spec) == Attempt::granted);
        return grant;
    }
    Attempt ensure(const ModelKey& key, const RequestSpec& spec = load_only()) {
        actions.clear();
        return scheduler.try_ensure(key, spec, now, generation, actions);
    }
    Enqueued enqueue(const ModelKey& key, const RequestSpec& spec = {}) {
        actions.clear();
        Grant grant;
        REQUIRE((spec.wants_lease ? scheduler.try_grant(key, spec, grant)
                                  : scheduler.try_ensure(key, spec, now, generation, actions)) == Attempt::must_wait);
        return scheduler.enqueue(key, spec, now, actions);
    }
    /// A waiter that must be let in.
    RequestId wait(const ModelKey& key, const RequestSpec& spec = {}) {
        const Enqueued enqueued = enqueue(key, spec);
        REQUIRE(enqueued.request.valid());
        return enqueued.request;
    }
    bool cancel(RequestId request) {
        actions.clear();
        return scheduler.cancel(request, now, actions);
    }
    const Actions& release(const Grant& grant) {
        actions.clear();
        scheduler.release(grant, now, actions);
        return actions;
    }
    const Actions& loaded(ResidentId resident, std::size_t capacity = 100) {
        actions.clear();
        scheduler.loaded(resident, capacity, now, actions);
        return actions;
    }
    const Actions& load_failed(ResidentId resident, bool cools_down = true, std::string message = "no such file") {
        actions.clear();
        scheduler.load_failed(resident, cools_down, std::move(message), now, actions);
        return actions;
    }
    const Actions& unloaded(ResidentId resident) {
        actions.clear();
        scheduler.unloaded(resident, now, actions);
        return actions;
    }
    const Actions& tick() {
        actions.clear();
        scheduler.tick(now, actions);
        return actions;
    }
    TeardownId unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain) {
        actions.clear();
        return scheduler.unload(&key, mode, now, actions);
    }
    TeardownId unload_all(UnloadMode mode = UnloadMode::drain) {
        actions.clear();
        return scheduler.unload(nullptr, mode, now, actions);
    }
    const Actions& close() {
        actions.clear();
        scheduler.close(now, actions);
        return actions;
    }
    TeardownId shut_down(core::Time deadline = core::never) {
        actions.clear();
        return scheduler.shut_down(deadline, now, actions);
    }

    /// The resident of `key`, which must have one.
    [[nodiscard]] ResidentId resident(const ModelKey& key) const {
        const core::Index entry = scheduler.queue().keys().lookup(key);
        REQUIRE(entry != core::none);
        const core::Index index = scheduler.queue().keys()[entry].resident;
        REQUIRE(index != core::none);
        return scheduler.residents().handle(index);
    }
    [[nodiscard]] bool has_resident(const ModelKey& key) const {
        const core::Index entry = scheduler.queue().keys().lookup(key);
        return entry != core::none && scheduler.queue().keys()[entry].resident != core::none;
    }
    [[nodiscard]] ResidentState state(const ModelKey& key) const {
        return scheduler.residents()[resident(key).index].state;
    }
    [[nodiscard]] std::size_t leases(const ModelKey& key) const {
        return scheduler.residents()[resident(key).index].leases;
    }
    [[nodiscard]] std::uint64_t counter() const { return scheduler.generation().value(); }

    /// The lease that the last call granted to `request`.
    [[nodiscard]] Grant granted_to(RequestId request) const {
        for (const Action& action : actions) {
            if (action.type == ActionType::grant && action.subject == request.index) {
                return {scheduler.residents().handle(action.resident), action.kept ? request : RequestId{}};
            }
        }
        FAIL("the last call did not grant that request");
        return {};
    }

    /// Loads `key`'s model, which must not be resident and must get its place at once, and leaves it without a lease.
    ResidentId make_ready(const ModelKey& key, std::size_t capacity = 100) {
        wait(key, load_only());
        const ResidentId made = resident(key);
        loaded(made, capacity);
        return made;
    }

    /// Wants a load, no lease.
    static RequestSpec load_only() {
        RequestSpec spec;
        spec.wants_lease = false;
        return spec;
    }
    static RequestSpec with_priority(Priority priority) {
        RequestSpec spec;
        spec.priority = priority;
        return spec;
    }
    /// Waits until `deadline` at the latest; `in_all`: its lease counts too.
    static RequestSpec until(milliseconds deadline, bool in_all = false) {
        RequestSpec spec;
        spec.deadline = deadline;
        spec.deadline_covers_lease = in_all;
        return spec;
    }
    static RequestSpec keeping_alive(core::Duration keep_alive) {
        RequestSpec spec;
        spec.overrides_keep_alive = true;
        spec.keep_alive = keep_alive;
        return spec;
    }
    static RequestSpec expecting(std::uint64_t number) {
        RequestSpec spec;
        spec.expected = Generation{number};
        return spec;
    }

    SlotScheduler scheduler;
    core::Time now{0};
    Actions actions;
    Generation generation{};
};

}  // namespace residency::test
