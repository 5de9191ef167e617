#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and those who wait: where a key stands, who is granted, who is failed.

namespace residency::core {

inline bool SlotScheduler::expectation_fails(Index key, const RequestSpec& spec) const noexcept {
    if (spec.expected == Generation{}) {
        return false;
    }
    if (key == none || queue_.keys()[key].resident == none) {
        return true;
    }
    const Resident& resident = residents_[queue_.keys()[key].resident];
    return !resident.usable() || resident.generation != spec.expected;
}

inline QueueState SlotScheduler::standing(Index key) const noexcept {
    const KeyEntry& entry = queue_.keys()[key];
    if (entry.waiting == 0) {
        return QueueState::not_queued;
    }
    if (entry.resident == none) {
        return entry.claims ? QueueState::claimed : QueueState::needs_place;
    }
    const Resident& resident = residents_[entry.resident];
    const bool takes_one_more = resident.state == ResidentState::ready && resident.leases < resident.capacity;
    return takes_one_more ? QueueState::grantable : QueueState::not_queued;
}

inline void SlotScheduler::use(Resident& resident, const RequestSpec& spec) noexcept {
    resident.keep_alive = spec.overrides_keep_alive ? spec.keep_alive : keep_alive_;
    resident.granted = ++grants_;
}

inline void SlotScheduler::count_lease(Resident& resident) noexcept {
    ++resident.leases;
    ++leases_;
    ++counters_.leases_granted;
    counters_.most_leases = std::max(counters_.most_leases, leases_);
}

inline void SlotScheduler::grant_front(Index key, Time now, Actions& actions) {
    const KeyEntry& entry = queue_.keys()[key];
    const Index index = entry.first;
    const RequestSpec spec = queue_.requests()[index].spec;
    Resident& resident = residents_[entry.resident];
    use(resident, spec);
    if (spec.wants_lease) {
        count_lease(resident);
    } else {
        resident.idle_since = now;
    }
    Action action;
    action.type = ActionType::grant;
    action.subject = index;
    action.resident = entry.resident;
    action.generation = resident.generation;
    action.kept = queue_.leave(index, now, spec.wants_lease);
    actions.push_back(action);
}

inline void SlotScheduler::fail(Index request, errc code, Duration retry_after, Time now, Actions& actions) {
    const KeyEntry& entry = queue_.keys()[queue_.requests()[request].key];
    Action action;
    action.type = ActionType::fail;
    action.code = code;
    action.stage = entry.resident != none && residents_[entry.resident].state == ResidentState::loading ? Stage::load
                                                                                                        : Stage::queue;
    action.subject = request;
    action.resident = entry.resident;
    action.duration = retry_after;
    actions.push_back(action);
    if (code == errc::timed_out) {
        ++counters_.timed_out;
    }
    queue_.leave(request, now, false);
}

inline void SlotScheduler::fail_expecting(Index key, Time now, Actions& actions) {
    Index next = queue_.keys()[key].first;
    while (queue_.keys()[key].expecting != 0 && next != none) {
        const Index request = next;
        next = queue_.requests()[request].next;
        if (queue_.requests()[request].spec.expected != Generation{}) {
            fail(request, errc::model_changed, Duration::zero(), now, actions);
        }
    }
}

inline void SlotScheduler::abandon_if_unwanted(Index key, Actions& actions) {
    const KeyEntry& entry = queue_.keys()[key];
    if (entry.waiting == 0 && entry.resident != none && residents_[entry.resident].state == ResidentState::loading) {
        stop_load(entry.resident, actions);
    }
}

// Completes whoever at the front of the key's queue needs no lease, and puts the key where it belongs.
inline void SlotScheduler::complete_ensures(Index key, Time now, Actions& actions) {
    const KeyEntry& entry = queue_.keys()[key];
    while (entry.resident != none && residents_[entry.resident].state == ResidentState::ready && entry.first != none &&
           !queue_.requests()[entry.first].spec.wants_lease) {
        grant_front(key, now, actions);
    }
    refresh(key);
}

// Grants whatever can be granted, in order.
inline void SlotScheduler::grant_ready(Time now, Actions& actions) {
    queue_.age(now);
    while (leases_ < options_.max_leases && !queue_.order(QueueState::grantable).empty()) {
        const Index key = queue_.order(QueueState::grantable).top();
        grant_front(key, now, actions);
        complete_ensures(key, now, actions);
    }
}

}  // namespace residency::core
