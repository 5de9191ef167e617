#pragma once

#include "residency/core/slot_scheduler.hpp"

// What SlotScheduler is told, method by method, in the order of the class. Whom it grants is in slot_scheduler_waiting.hpp, what it loads
// and unloads in slot_scheduler_places.hpp.

namespace residency::core {

inline SlotScheduler::SlotScheduler(const SlotOptions& options)
    : options_(options), keep_alive_(to_duration(options.keep_alive)), queue_(to_duration(options.aging)) {}

// -- Requests -----------------------------------------------------------------------------------------------------------------------

inline Attempt SlotScheduler::try_grant(const ModelKey& key, const RequestSpec& spec, Grant& grant) {
    if (closed_) {
        return Attempt::shutting_down;
    }
    const Index index = queue_.keys().find(key);
    if (expectation_fails(index, spec)) {
        return Attempt::model_changed;
    }
    if (index == none || leases_ >= options_.max_leases) {
        return Attempt::must_wait;
    }
    const KeyEntry& entry = queue_.keys()[index];
    if (entry.waiting != 0 || entry.resident == none) {
        return Attempt::must_wait;
    }
    Resident& resident = residents_[entry.resident];
    if (resident.state != ResidentState::ready || resident.leases >= resident.capacity) {
        return Attempt::must_wait;
    }
    grant.resident = residents_.handle(entry.resident);
    grant.request = {};
    if (spec.deadline_covers_lease && spec.deadline != never) {
        queue_.prepare(key, true);
        grant.request = queue_.keep_deadline(index, spec);
        wake_by(spec.deadline);
    }
    use(resident, spec);
    count_lease(resident);
    return Attempt::granted;
}

inline Attempt SlotScheduler::try_ensure(const ModelKey& key, const RequestSpec& spec, Time now, Generation& generation,
                                         Actions& actions) {
    if (closed_) {
        return Attempt::shutting_down;
    }
    const Index index = queue_.keys().find(key);
    if (expectation_fails(index, spec)) {
        return Attempt::model_changed;
    }
    if (index == none || queue_.keys()[index].waiting != 0 || queue_.keys()[index].resident == none) {
        return Attempt::must_wait;
    }
    const Index resident = queue_.keys()[index].resident;
    if (residents_[resident].state != ResidentState::ready) {
        return Attempt::must_wait;
    }
    generation = residents_[resident].generation;
    use(residents_[resident], spec);
    residents_[resident].idle_since = now;
    note_idle(resident, now, actions);
    return Attempt::granted;
}

inline Enqueued SlotScheduler::enqueue(const SharedKey& key, const RequestSpec& spec, Time now, Actions& actions) {
    if (residents_.size() < options_.max_resident) {
        residents_.reserve_one();
    }
    const Index index = queue_.prepare(key, spec.deadline != never);
    const KeyEntry& entry = queue_.keys()[index];
    Enqueued refused;
    if (entry.resident == none && now < entry.cooling_until) {
        refused.code = errc::cooling_down;
        refused.retry_after = entry.cooling_until - now;
        ++counters_.cooling_down;
    } else if (queue_.waiting() >= options_.max_queue) {
        refused.code = errc::overloaded;
        ++counters_.overloaded;
    } else if (spec.deadline <= now) {
        refused.code = errc::timed_out;
        ++counters_.timed_out;
    } else {
        const RequestId request = queue_.join(index, spec, now);
        counters_.most_waiting = std::max(counters_.most_waiting, queue_.waiting());
        wake_by(spec.deadline);
        complete_ensures(index, now, actions);
        grant_ready(now, actions);
        assign_places(now, actions);
        return {request, errc::overloaded, Duration::zero()};
    }
    queue_.keys().collect(index);
    return refused;
}

inline bool SlotScheduler::cancel(RequestId request, Time now, Actions& actions) {
    if (!queue_.requests().contains(request) || queue_.requests()[request.index].leased) {
        return false;
    }
    const Index key = queue_.requests()[request.index].key;
    queue_.leave(request.index, now, false);
    ++counters_.cancelled;
    abandon_if_unwanted(key, actions);
    complete_ensures(key, now, actions);
    grant_ready(now, actions);
    assign_places(now, actions);
    if (queue_.keys()[key].resident != none) {
        note_idle(queue_.keys()[key].resident, now, actions);
    }
    queue_.keys().collect(key);
    return true;
}

inline void SlotScheduler::release(const Grant& grant, Time now, Actions& actions) {
    const Index index = grant.resident.index;
    Resident& resident = residents_[index];
    --resident.leases;
    --leases_;
    if (grant.request.valid()) {
        queue_.erase(grant.request.index);
    }
    if (resident.leases == 0) {
        resident.idle_since = now;
        if (resident.state == ResidentState::draining) {
            start_unload(index, resident.reason, now, actions);
        }
    }
    if (queue_.waiting() != 0) {
        complete_ensures(resident.key, now, actions);
        // Who has waited long enough to rank first may want this very resident's place: that comes before the next lease on it.
        assign_places(now, actions);
        grant_ready(now, actions);
        assign_places(now, actions);
    }
    note_idle(index, now, actions);
}

// -- What the backend answered ---------------------------------------------------------------------------------------------------

inline void SlotScheduler::loaded(ResidentId id, std::size_t capacity, Time now, Actions& actions) {
    Resident& resident = residents_[id.index];
    const Index key = resident.key;
    const Duration took = now - resident.began;
    ++counters_.loaded;
    queue_.keys().clear_failures(key);
    if (resident.discard) {
        start_unload(id.index, resident.reason, now, actions);
        assign_places(now, actions);
        return;
    }
    raise_generation();
    resident.state = ResidentState::ready;
    resident.stop_requested = false;
    resident.generation = generation_;
    resident.capacity = std::max<std::size_t>(capacity, 1);
    resident.keep_alive = keep_alive_;
    resident.idle_since = now;
    resident.granted = ++grants_;
    publish(EventType::ready, Reason::requested, id.index, took, actions);
    complete_ensures(key, now, actions);
    grant_ready(now, actions);
    assign_places(now, actions);
    note_idle(id.index, now, actions);
}

inline void SlotScheduler::load_failed(ResidentId id, bool cools_down, std::string message, Time now,
                                       Actions& actions) {
    const Resident& resident = residents_[id.index];
    const Index key = resident.key;
    const Duration took = now - resident.began;
    if (resident.stop_requested) {
        ++counters_.loads_aborted;
        publish(EventType::load_aborted, resident.discard ? resident.reason : Reason::abandoned, id.index, took,
                actions);
    } else {
        ++counters_.load_failures;
        Duration cooldown = Duration::zero();
        if (cools_down) {
            cooldown = cooldown_after(queue_.keys()[key].failures);
            queue_.keys().note_failure(key, std::move(message), later(now, cooldown));
        }
        publish(EventType::load_failed, Reason::requested, id.index, took, actions);
        while (queue_.keys()[key].first != none) {
            fail(queue_.keys()[key].first, errc::load_failed, cooldown, now, actions);
        }
    }
    gone(id.index, now, actions);
}

inline Duration SlotScheduler::cooldown_after(Index failures) const noexcept {
    Duration cooldown = to_duration(options_.cooldown);
    const Duration longest = to_duration(options_.max_cooldown);
    // A cooldown of zero would never reach the longest, however often it is doubled.
    while (failures-- != 0 && cooldown < longest && cooldown != Duration::zero()) {
        cooldown = cooldown > longest / 2 ? longest : cooldown * 2;
    }
    return cooldown;
}

inline void SlotScheduler::unloaded(ResidentId id, Time now, Actions& actions) {
    const Resident& resident = residents_[id.index];
    ++counters_.unloads[static_cast<std::size_t>(resident.reason)];
    publish(EventType::unloaded, resident.reason, id.index, now - resident.began, actions);
    gone(id.index, now, actions);
}

// -- Time ---------------------------------------------------------------------------------------------------------------------------

inline void SlotScheduler::tick(Time now, Actions& actions) {
    const bool rings = wake_ <= now;
    // First everybody whose time is up leaves, and only then is anything granted: nobody gets a lease past its deadline.
    while (!queue_.deadlines().empty() && queue_.deadlines().top_rank() <= now) {
        const Index index = queue_.deadlines().top();
        const Request& request = queue_.requests()[index];
        if (request.leased) {
            ++counters_.timed_out;
            queue_.drop_deadline(index);
            Action action;
            action.type = ActionType::expire;
            action.code = errc::timed_out;
            action.stage = Stage::inference;
            action.subject = index;
            actions.push_back(action);
        } else {
            const Index key = request.key;
            fail(index, errc::timed_out, Duration::zero(), now, actions);
            abandon_if_unwanted(key, actions);
            refresh(key);
            queue_.keys().collect(key);
        }
    }
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index)) {
            continue;
        }
        const Index key = residents_[index].key;
        if (queue_.keys()[key].waiting != 0) {
            complete_ensures(key, now, actions);
        }
        if (queue_.keys()[key].waiting == 0 && residents_[index].idle() && residents_[index].due() <= now) {
            start_unload(index, Reason::idle, now, actions);
        }
    }
    for (Index index = 0; index < teardowns_.end_index(); ++index) {
        if (teardowns_.used(index) && teardowns_[index].deadline <= now) {
            complete(index, true, actions);
        }
    }
    grant_ready(now, actions);
    assign_places(now, actions);
    if (!rings) {
        // What the alarm was set for may be over, but it stays: requests that have a timeout and end long before would only move it to
        // and fro.
        return;
    }
    recompute_alarm();
    const Duration timeout = std::exchange(shortest_timeout_, Duration::max());
    if (residents_.size() != 0) {
        wake_by(later(now, timeout));
    }
}

// -- Unloading ----------------------------------------------------------------------------------------------------------------------

inline TeardownId SlotScheduler::unload(const ModelKey* key, UnloadMode mode, Time now, Actions& actions) {
    const Index only = key == nullptr ? none : queue_.keys().find(*key);
    if (key != nullptr && (only == none || queue_.keys()[only].resident == none)) {
        return {};
    }
    if (residents_.size() == 0) {
        return {};
    }
    Teardown operation;
    operation.key = only;
    operation.birth = ++births_;
    operation.remaining = only == none ? residents_.size() : 1;
    const TeardownId id = teardowns_.insert(operation);
    const Reason reason = mode == UnloadMode::revoke ? Reason::revoked : Reason::unload;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && (only == none || residents_[index].key == only)) {
            remove(index, mode, reason, now, actions);
        }
    }
    assign_places(now, actions);
    return id;
}

inline void SlotScheduler::forget(TeardownId operation) noexcept {
    if (teardowns_.contains(operation)) {
        teardowns_.erase(operation.index);
    }
}

inline void SlotScheduler::close(Time now, Actions& actions) {
    if (closed_) {
        return;
    }
    closed_ = true;
    publish(EventType::shutdown_started, Reason::shutdown, none, Duration::zero(), actions);
    for (Index key = 0; key < queue_.keys().end_index(); ++key) {
        if (queue_.keys().used(key) && queue_.keys()[key].waiting != 0) {
            while (queue_.keys()[key].first != none) {
                fail(queue_.keys()[key].first, errc::shutting_down, Duration::zero(), now, actions);
            }
            refresh(key);
            queue_.keys().collect(key);
        }
    }
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index)) {
            remove(index, UnloadMode::drain, Reason::shutdown, now, actions);
        }
    }
    recompute_alarm();
}

inline TeardownId SlotScheduler::shut_down(Time deadline, Time now, Actions& actions) {
    teardowns_.reserve_one();
    close(now, actions);
    if (residents_.size() == 0) {
        return {};
    }
    Teardown operation;
    operation.shutdown = true;
    operation.birth = ++births_;
    operation.remaining = residents_.size();
    operation.deadline = deadline;
    wake_by(deadline);
    return teardowns_.insert(operation);
}

inline void SlotScheduler::publish(EventType type, Reason reason, Index resident, Duration duration,
                                   Actions& actions) const {
    Action action;
    action.type = ActionType::event;
    action.event = type;
    action.reason = reason;
    action.resident = resident;
    action.generation = resident == none ? Generation{} : residents_[resident].generation;
    action.duration = duration;
    actions.push_back(action);
}

}  // namespace residency::core

#include "residency/core/impl/slot_scheduler_places.hpp"   // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_waiting.hpp"  // IWYU pragma: export
