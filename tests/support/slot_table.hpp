#pragma once

// A SlotScheduler on a table: a test makes the calls that a slot would make, at times that it chooses, and sees what
// each of them did.

#include "residency/core/slot_scheduler.hpp"
#include "support/actions.hpp"
#include "support/catch.hpp"

#include <chrono>
#include <memory>
#include <string>

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

/// A scheduler, the time, and what the last call did. Each `load` begins at once, after the call that asked for it,
/// unless `begins_loads` is false.
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
        const Attempt attempt = scheduler.try_ensure(key, spec, now, generation, actions);
        begin_loads();
        return attempt;
    }
    Enqueued enqueue(const ModelKey& key, RequestSpec spec = {}) {
        actions.clear();
        spec.since = now;
        Grant grant;
        REQUIRE((spec.wants_lease ? scheduler.try_grant(key, spec, grant)
                                  : scheduler.try_ensure(key, spec, now, generation, actions)) == Attempt::must_wait);
        const Enqueued enqueued = scheduler.enqueue(key, spec, now, actions);
        begin_loads();
        return enqueued;
    }
    /// A waiter that must be let in.
    RequestId wait(const ModelKey& key, const RequestSpec& spec = {}) {
        const Enqueued enqueued = enqueue(key, spec);
        REQUIRE(enqueued.request.valid());
        return enqueued.request;
    }
    bool cancel(RequestId request) {
        actions.clear();
        const bool cancelled = scheduler.cancel(request, now, actions);
        begin_loads();
        return cancelled;
    }
    /// A loading thread comes to the load of `resident`.
    bool load_begins(ResidentId resident) {
        actions.clear();
        const bool begins = scheduler.load_begins(resident, now, actions);
        begin_loads();
        return begins;
    }
    const Actions& release(const Grant& grant) {
        actions.clear();
        scheduler.release(grant, now, actions);
        return begin_loads();
    }
    const Actions& loaded(ResidentId resident, std::size_t capacity = 100) {
        actions.clear();
        scheduler.loaded(resident, capacity, now, actions);
        return begin_loads();
    }
    const Actions& loaded(ResidentId resident, const core::ModelLimits& limits) {
        actions.clear();
        scheduler.loaded(resident, limits, now, actions);
        return begin_loads();
    }
    const Actions& load_failed(ResidentId resident, errc code = errc::load_failed,
                               const std::string& message = "no such file") {
        actions.clear();
        scheduler.load_failed(resident, code, std::make_shared<const std::string>(message), now, actions);
        return begin_loads();
    }
    const Actions& unloaded(ResidentId resident) {
        actions.clear();
        scheduler.unloaded(resident, now, actions);
        return begin_loads();
    }
    const Actions& tick() {
        actions.clear();
        scheduler.tick(now, actions);
        return begin_loads();
    }
    TeardownId unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain) {
        actions.clear();
        return began(scheduler.unload(&key, mode, now, actions));
    }
    TeardownId unload_all(UnloadMode mode = UnloadMode::drain) {
        actions.clear();
        return began(scheduler.unload(nullptr, mode, now, actions));
    }
    const Actions& close() {
        actions.clear();
        scheduler.close(now, actions);
        return begin_loads();
    }
    TeardownId shut_down(core::Time deadline = core::never) {
        actions.clear();
        return began(scheduler.shut_down(deadline, now, actions));
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
    /// How many keys the scheduler remembers; the next call forgets those of which nothing is known any more.
    [[nodiscard]] std::size_t known_keys() const {
        SlotScheduler copy = scheduler;
        core::Actions nothing;
        copy.tick(now, nothing);
        return copy.queue().keys().size();
    }
    [[nodiscard]] std::uint64_t counter() const { return scheduler.generation().value(); }

    /// The lease that the last call granted to `request`.
    [[nodiscard]] Grant granted_to(RequestId request, bool is_inference = false) const {
        for (const Action& action : actions) {
            if (action.type == ActionType::grant && action.subject == request.index) {
                return {scheduler.residents().handle(action.resident), action.kept ? request : RequestId{},
                        is_inference || action.kept};
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
    /// Wants a lease for a model call.
    static RequestSpec inference() {
        RequestSpec spec;
        spec.is_inference = true;
        return spec;
    }
    /// Wants a call about so many texts, of a byte each.
    static RequestSpec about(core::Index texts) {
        RequestSpec spec = inference();
        spec.texts = spec.bytes = texts;
        return spec;
    }
    /// Waits until `deadline` at the latest; `in_all`: it is for a model call, and its lease counts too.
    static RequestSpec until(milliseconds deadline, bool in_all = false) {
        RequestSpec spec;
        spec.deadline = deadline;
        spec.is_inference = in_all;
        return spec;
    }
    static RequestSpec keeping_alive(core::Duration keep_alive) {
        RequestSpec spec;
        spec.overrides_keep_alive = true;
        spec.keep_alive = keep_alive;
        return spec;
    }
    /// Is for a key that the backend does not know.
    static RequestSpec unknown(RequestSpec spec = {}) {
        spec.is_unknown = true;
        return spec;
    }
    static RequestSpec expecting(std::uint64_t number) {
        RequestSpec spec;
        spec.expects = true;
        spec.expected = Generation{number};
        return spec;
    }

    /// The event of a request for `key` that timed out in the last call.
    [[nodiscard]] Action timed_out_event(const ModelKey& key, Stage stage, core::Duration duration,
                                         std::uint64_t number = 0, core::Duration load = {},
                                         core::Duration call = {}) const {
        return timed_out(scheduler.queue().keys().lookup(key), stage, duration, number, load, call);
    }

    SlotScheduler scheduler;
    bool begins_loads = true;
    core::Time now{0};
    Actions actions;
    Generation generation{};

private:
    const Actions& begin_loads() {
        for (std::size_t index = 0; begins_loads && index < actions.size(); ++index) {
            if (actions[index].type == ActionType::load) {
                REQUIRE(scheduler.load_begins(scheduler.residents().handle(actions[index].resident), now, actions));
            }
        }
        return actions;
    }
    TeardownId began(TeardownId operation) {
        begin_loads();
        return operation;
    }
};

}  // namespace residency::test
