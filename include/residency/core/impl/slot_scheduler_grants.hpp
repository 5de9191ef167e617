#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its leases: which waiter is granted one next.

namespace residency::core {

inline void SlotScheduler::use(Resident& resident, const RequestSpec& spec) noexcept {
    resident.keep_alive = spec.overrides_keep_alive ? spec.keep_alive : keep_alive_;
    resident.granted = ++grants_;
}

inline void SlotScheduler::count_lease(Resident& resident, const RequestSpec& spec, bool is_part) noexcept {
    resident.begin_lease(spec.priority);
    ++leases_;
    ++counters_.leases_granted;
    counters_.most_leases = (std::max)(counters_.most_leases, leases_);
    if (spec.is_inference) {
        count_call(resident, spec, is_part);
    }
}

// Grants the waiter, whose key's resident is ready, unless its deadline or its generation has passed.
inline void SlotScheduler::grant(Index request, Step& step) {
    if (fail_late(request, step)) {
        return;
    }
    const RequestSpec spec = queue_.requests()[request].spec;
    const Index key = queue_.requests()[request].key;
    const Index index = queue_.keys()[key].resident;
    Resident& resident = residents_[index];
    if (queue_.is_cut(request)) {
        give_part(request, index, step);
        return;
    }
    if (queue_.requests()[request].bulk != none) {
        if (const Index part = part_of(resident, spec, queue_.waiting() == 1); part != whole) {
            --step.left;
            queue_.cut(request, part);
            refresh(key);
            return;
        }
    }
    --step.left;
    use(resident, spec);
    if (spec.wants_lease) {
        count_lease(resident, spec);
    } else {
        resident.idle_since = step.now;
    }
    Action& action = act(ActionType::grant, request, index, step);
    action.generation = resident.generation;
    action.kept = queue_.leave(request, spec.wants_lease);
    if (spec.is_inference) {
        fill_batch(spec, index, step);
    }
    refresh(key);
}

// Whether the slot's limits allow the lease that the waiter wants.
inline bool SlotScheduler::can_serve(Index request) const noexcept {
    return leases_ < options_.max_leases && (!queue_.requests()[request].spec.is_inference || calls_ < max_calls_);
}

// The oldest waiter that its resident can serve now, if it is older than `aging`; or none.
inline Index SlotScheduler::oldest_to_grant(Time now) const noexcept {
    if (queue_.standings().grantable_by_age().empty()) {
        return none;
    }
    const Index first = queue_.oldest_unserved(residents_[queue_.standings().grantable_by_age().top()].key);
    if (!is_aged(first, now)) {
        return none;
    }
    if (can_serve(first)) {
        return first;
    }
    // No call is free: only a bare lease can be granted.
    Index oldest = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!queue_.standings().grantable_by_age().contains(index)) {
            continue;
        }
        const Index each = queue_.oldest_unserved(residents_[index].key);
        if (can_serve(each) && is_aged(each, now) &&
            (oldest == none || queue_.requests()[each].arrival < queue_.requests()[oldest].arrival)) {
            oldest = each;
        }
    }
    return oldest;
}

// The waiter that is granted next, or none. `by_age` becomes whether it is so because of its age.
//
//  1. No lease is free: none.
//  2. The last lease went by rank, and a waiter is older than `aging` (R15): the oldest such waiter that its resident
//     can serve.
//  3. The first by rank. While no call is free, of the keys whose first waiter wants a bare lease; else of all that are
//     not cut, and of those that are whose part may start.
inline Index SlotScheduler::next_to_grant(Time now, bool& by_age) const noexcept {
    by_age = false;
    if (leases_ >= options_.max_leases) {
        return none;
    }
    if (lease_by_age_) {
        if (const Index oldest = oldest_to_grant(now); oldest != none) {
            by_age = true;
            return oldest;
        }
    }
    Rank best;
    Index next = none;
    const auto consider = [&](const IndexedHeap<Rank>& heap) {
        if (!heap.empty() && (next == none || heap.top_rank() < best)) {
            best = heap.top_rank();
            next = queue_.first_lease(residents_[heap.top()].key);
        }
    };
    consider(queue_.standings().grantable(false));
    if (calls_ < max_calls_) {
        consider(queue_.standings().grantable(true));
        const Index part = next_part();
        if (part != none && (next == none || queue_.rank_of(part) < best)) {
            next = part;
        }
    }
    return next;
}

inline void SlotScheduler::grant_ready(Step& step) {
    bool by_age = false;
    for (Index next = next_to_grant(step.now, by_age); next != none; next = next_to_grant(step.now, by_age)) {
        if (step.left == 0) {
            resume(step.now);
            return;
        }
        const std::size_t before = leases_;
        grant(next, step);
        if (leases_ != before) {
            lease_by_age_ = !by_age;
        }
    }
}

// Completes the waiters for a load if the key's resident is ready.
inline void SlotScheduler::complete_ensures(Index key, Step& step) {
    const KeyEntry& entry = queue_.keys()[key];
    if (entry.resident == none || residents_[entry.resident].state != ResidentState::ready) {
        return;
    }
    for (Index next = queue_.first_ensure(key); next != none; next = queue_.first_ensure(key)) {
        if (step.left == 0) {
            resume(step.now);
            return;
        }
        grant(next, step);
    }
}

}  // namespace residency::core
