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

inline void SlotScheduler::end_lease(Resident& resident, const Grant& grant, Time when) noexcept {
    resident.end_lease(when);
    --leases_;
    if (grant.is_inference) {
        calls_.end(grant.priority, grant.is_part);
        --resident.calls;
    }
    resident.texts -= grant.texts;
    resident.parts -= grant.is_part ? 1U : 0U;
}

// It is the turn of a waiter whose key's resident is ready:
//
//  1. Its deadline or its generation has passed: it fails.
//  2. It is cut: it gets its next part.
//  3. It is to be cut from now on: it stands among those that are, and gets its first part when that is next.
//  4. It gets its lease, or completes if it waited for the load alone.
//  5. It is a model call: others join it.
inline void SlotScheduler::grant(Index request, Step& step) {
    if (fail_late(request, step)) {  // 1.
        return;
    }
    const RequestSpec spec = queue_.requests()[request].spec;
    const Index key = queue_.requests()[request].key;
    const Index index = queue_.keys()[key].resident;
    Resident& resident = residents_[index];
    if (queue_.is_cut(request)) {  // 2.
        give_part(request, index, step);
        return;
    }
    if (queue_.requests()[request].bulk != none) {
        if (const Index part = part_of(resident, spec, queue_.waiting() == 1); part != whole) {  // 3.
            --step.left;
            queue_.cut(request, part);
            refresh(key);
            return;
        }
    }
    --step.left;  // 4.
    use(resident, spec);
    if (spec.wants_lease) {
        count_lease(resident, spec);
    } else {
        resident.idle_since = step.now;
    }
    Action& action = act(ActionType::grant, request, index, step);
    action.generation = resident.generation;
    action.kept = queue_.leave(request, spec.wants_lease);
    if (action.kept) {
        queue_.note_granted(request, step.now);
    }
    if (spec.is_inference) {  // 5.
        fill_batch(spec, index, step);
    }
    refresh(key);
}

// Whether the slot's limits allow the lease that the waiter wants.
inline bool SlotScheduler::can_serve(Index request) const noexcept {
    const RequestSpec& spec = queue_.requests()[request].spec;
    return leases_ < options_.max_leases && (!spec.is_inference || calls_.may_begin(spec.priority));
}

// The oldest waiter for a lease on the resident that may go by age, or none: one that is cut only if its part may
// start.
inline Index SlotScheduler::oldest_on(Index resident) const noexcept {
    const Index key = residents_[resident].key;
    Index oldest = queue_.oldest_unserved(key, false);
    for (const Priority priority : {Priority::high, Priority::normal, Priority::low}) {
        const Index cut = queue_.unserved_cut(key, priority);
        if (cut != none && may_start_part(resident, cut)) {
            oldest = queue_.older(oldest, cut);
        }
    }
    return oldest;
}

// The oldest waiter that its resident can serve now, if it is older than `aging`; or none.
inline Index SlotScheduler::oldest_to_grant(Time now) const noexcept {
    const auto& heap = queue_.standings().grantable_by_age();
    if (heap.empty() || !is_aged(queue_.oldest_unserved(residents_[heap.top()].key), now)) {
        return none;
    }
    Index oldest = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        const Index each = heap.contains(index) ? oldest_on(index) : none;
        if (each != none && can_serve(each) && is_aged(each, now) &&
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
//  3. The first by rank: of the keys whose first waiter wants a bare lease; of those where it wants a call, if it may
//     start; of those whose waiter is cut, if its part may start.
inline Index SlotScheduler::next_to_grant(Time now, bool& by_age) const noexcept {
    by_age = false;
    if (leases_ >= options_.max_leases) {  // 1.
        return none;
    }
    if (lease_by_age_) {  // 2.
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
    consider(queue_.standings().grantable(false));  // 3.
    if (calls_.running() < calls_.most()) {
        const auto& calls = queue_.standings().grantable(true);
        if (!calls.empty() &&
            calls_.may_begin(queue_.requests()[queue_.first_lease(residents_[calls.top()].key)].spec.priority)) {
            consider(calls);
        }
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
