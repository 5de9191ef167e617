#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its requests: how they come and leave, and the end of a lease. The other parts are included at the
// end.

namespace residency::core {

inline SlotScheduler::SlotScheduler(const SlotOptions& options)
    : options_(options),
      max_resident_(options.max_resident == 0 ? max_count_limit : options.max_resident),
      keep_alive_(to_duration(options.keep_alive)),
      aging_(to_duration(options.aging)),
      min_stay_(options.min_stay ? to_duration(*options.min_stay) : Duration(-1)),
      abandon_after_(to_duration(options.abandon_after)),
      calls_(options.max_calls == 0 ? options.max_leases : (std::min)(options.max_calls, options.max_leases)) {}

inline SlotScheduler::SlotScheduler(const SlotOptions& options, std::size_t limit, bool backend_sizes)
    : SlotScheduler(options) {
    has_budget_ = true;
    backend_sizes_ = backend_sizes;
    memory_limit_ = limit;
    // The budget may ask a slot that has had no request.
    reserve_memory();
}

// Entries of keys of which nothing is known any more go at the beginning of the next call: until then the actions may
// name them.
inline void SlotScheduler::begin_call() noexcept {
    while (unused_ != none) {
        const Index key = unused_;
        KeyEntry& entry = queue_.keys()[key];
        unused_ = std::exchange(entry.texts, Index{0});
        entry.unused = false;
        if (has_budget_) {
            key_memories_.forget(key);
        }
        queue_.collect(key);
    }
}

inline void SlotScheduler::collect_later(Index key) noexcept {
    KeyEntry& entry = queue_.keys()[key];
    if (!entry.unused && key != joining_ && !entry.ranks_last && entry.waiting == 0 && entry.resident == none &&
        queue_.keys().failures_of(key) == 0 && (!has_budget_ || key_memories_[key].is_at_rest())) {
        entry.unused = true;
        entry.texts = std::exchange(unused_, key);
    }
}

// -- Requests ---------------------------------------------------------------------------------------------------------

// A lease at once (H4, H5):
//
//  1. The slot is closed: shutting_down.
//  2. The request expects another residency: model_changed.
//  3. No lease or, for a model call, no call is free; the key has waiters other than those that are cut; its resident
//     can take no lease; or the request is to be cut: must_wait.
//  4. The lease is granted.
inline Attempt SlotScheduler::try_grant(const ModelKey& key, const RequestSpec& spec, Grant& grant) {
    if (closed_) {  // 1.
        return Attempt::shutting_down;
    }
    const Index index = queue_.keys().find(key);
    if (expectation_fails(index, spec)) {  // 2.
        return Attempt::model_changed;
    }
    if (index == none || leases_ >= options_.max_leases ||
        (spec.is_inference && !calls_.may_begin(spec.priority))) {  // 3.
        return Attempt::must_wait;
    }
    const KeyEntry& entry = queue_.keys()[index];
    if (entry.resident == none || (entry.waiting != 0 && !queue_.only_cut(index))) {  // 3.
        return Attempt::must_wait;
    }
    Resident& resident = residents_[entry.resident];
    if (resident.state != ResidentState::ready || resident.leases >= resident.capacity ||
        (spec.texts > 1 && spec.is_inference && part_of(resident, spec, queue_.empty()) != whole)) {  // 3.
        return Attempt::must_wait;
    }
    grant.resident = residents_.handle(entry.resident);  // 4.
    grant.request = {};
    grant.is_inference = spec.is_inference;
    if (spec.is_inference && spec.deadline != never) {
        queue_.prepare_deadline();
        grant.request = queue_.keep_deadline(index, spec);
        wake_by(spec.deadline);
    }
    grant.texts = spec.texts;
    grant.priority = spec.priority;
    if (spec.is_inference && calls_.running() != 0) {
        calls_.note_company();
    }
    use(resident, spec);
    count_lease(resident, spec);
    if (entry.waiting != 0) {
        refresh(index);
    }
    return Attempt::granted;
}

// The same for a request that waits for a load alone (H4):
//
//  1. The slot is closed: shutting_down.
//  2. The request expects another residency: model_changed.
//  3. The key has no resident that is ready: must_wait.
//  4. It is ready, whatever waits for it: granted. That counts as a use (H7), so its time of idleness begins anew.
inline Attempt SlotScheduler::try_ensure(const ModelKey& key, const RequestSpec& spec, Time now, Generation& generation,
                                         Actions& actions) {
    if (closed_) {  // 1.
        return Attempt::shutting_down;
    }
    const Index index = queue_.keys().find(key);
    if (expectation_fails(index, spec)) {  // 2.
        return Attempt::model_changed;
    }
    const Index resident = index == none ? none : queue_.keys()[index].resident;
    if (resident == none || residents_[resident].state != ResidentState::ready) {  // 3.
        return Attempt::must_wait;
    }
    begin_call();  // 4.
    Step step{now, actions};
    generation = residents_[resident].generation;
    use(residents_[resident], spec);
    residents_[resident].idle_since = now;
    note_idle(resident, step);
    return Attempt::granted;
}

// The checks that are left after `try_grant` or `try_ensure` (H5):
//
//  1. The key has no resident, and the backend does not know it: unknown_model. Nothing of the key is remembered.
//  2. The key cools down: cooling_down.
//  3. It is known to need more than the memory budget's limit: insufficient_memory.
//  4. The queue is full, also after what is due has left it: overloaded. The last quarter is kept from `low`.
//  5. The deadline has passed: timed_out.
//  6. The request waits.
inline Enqueued SlotScheduler::enqueue(const SharedKey& key, const RequestSpec& spec, Time now, Actions& actions,
                                       const TextLengths* lengths) {
    begin_call();
    Step step{now, actions, submit_slice};
    Enqueued result;
    if (spec.is_unknown && !has_resident(*key)) {  // 1.
        result.code = errc::unknown_model;
        ++counters_.unknown_model;
        refuse(Reason::unknown_model, key, step);
        return result;
    }
    // Every key that waits may become a resident in a call that must not allocate.
    const std::size_t residents = (std::min)(
        max_resident_, residents_.size() + key_memories_.aside() + queue_.standings().needs_place().size() + 1);
    residents_.reserve(residents);
    if (has_budget_) {
        reserve_memory();
    }
    const Index index = queue_.prepare(key, spec, residents);
    const KeyEntry& entry = queue_.keys()[index];
    if (!has_resident(index) && now < queue_.keys().cooling_until(index)) {  // 2.
        result.code = errc::cooling_down;
        result.retry_after = queue_.keys().cooling_until(index) - now;
        ++counters_.cooling_down;
        refuse(Reason::cooling_down, entry.key, step);
        collect_later(index);
        return result;
    }
    if (has_budget_ && !has_resident(index) && is_too_large(index)) {  // 3.
        result.code = errc::insufficient_memory;
        result.retry_after = Duration(static_cast<Duration::rep>(key_memories_[index].need()));
        ++counters_.insufficient_memory;
        refuse(Reason::insufficient_memory, entry.key, step);
        collect_later(index);
        return result;
    }
    const bool was_full = !fits_queue(spec);
    if (was_full) {
        joining_ = index;
        expire_due(step);
        joining_ = none;
    }
    if (!fits_queue(spec)) {  // 4.
        result.retry_after = rate_.time_for(queue_.texts()).value_or(Duration::zero());
        ++counters_.overloaded;
        refuse(Reason::overloaded, entry.key, step);
    } else if (spec.deadline <= now) {  // 5.
        result.code = errc::timed_out;
        result.stage = Stage::queue;
        ++counters_.timed_out;
        Action& event = publish(EventType::timed_out, Reason::none, none, now - spec.since, step);
        event.stage = Stage::queue;
        event.key = index;
    } else {  // 6.
        result.joined_after = actions.size();
        if (spec.is_inference && (calls_.running() != 0 || queue_.texts() != 0)) {
            calls_.note_company();
        }
        result.request = queue_.join(index, spec, now, lengths);
        counters_.most_waiting = (std::max)(counters_.most_waiting, queue_.waiting());
        wake_by(spec.deadline);
        if (entry.resident != none) {
            residents_[entry.resident].abandoned_at = never;
        } else if (has_budget_) {
            want_memory(index, step);
        }
        refresh(index);
        complete_ensures(index, step);
    }
    if (result.request.valid() || was_full) {
        decide(step);
    }
    collect_later(index);
    return result;
}

inline bool SlotScheduler::cancel(RequestId request, Time now, Actions& actions) {
    const bool waits = give_up(request, now, actions);
    counters_.cancelled += waits ? 1U : 0U;
    return waits;
}

// A waiter leaves before all of it was granted:
//
//  1. It does not wait: nothing happens.
//  2. It was the last waiter of a key that has a claim: the claim goes, too, and with it a load that is queued (H1).
//  3. Else what it leaves behind is for `note_left`, and may be of use to others.
inline bool SlotScheduler::give_up(RequestId request, Time now, Actions& actions) {
    if (!queue_.requests().contains(request) ||
        queue_.requests()[request.index].state != RequestState::waiting) {  // 1.
        return false;
    }
    begin_call();
    Step step{now, actions};
    const Index key = queue_.requests()[request.index].key;
    queue_.leave(request.index, false);
    const KeyEntry& entry = queue_.keys()[key];
    if (entry.claim != none && entry.waiting == 1) {  // 2.
        queue_.drop_claim(key);
    }
    note_left(key, step);  // 3.
    decide(step);
    if (entry.resident != none) {
        note_idle(entry.resident, step);
    }
    return true;
}

// A lease has ended:
//
//  1. It was the last on a resident that drains for a switch: that is evicted for the key that gets its place.
//  2. It was the last on one that drains for another reason: that is unloaded.
//  3. Something waits: it may be granted the lease, or need the place.
//  4. Nothing does, but the memory budget lacks memory: it looks again.
//  5. The resident is idle: it is unloaded if it is due, or the alarm is set for that.
inline void SlotScheduler::release(const Grant& grant, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    const Index index = grant.resident.index;
    Resident& resident = residents_[index];
    end_lease(resident, grant, now);
    if (grant.is_inference) {
        rate_.note(grant.texts, now);
    }
    if (grant.is_part) {
        queue_.end_part(grant.request);
    } else if (grant.request.valid()) {
        queue_.erase(grant.request.index);
    }
    if (resident.leases == 0) {
        resident.idle_since = now;
    }
    if (resident.leases == 0 && resident.switches()) {  // 1.
        evict(index, step);
    } else if (resident.leases == 0 && resident.state == ResidentState::draining) {  // 2.
        start_unload(index, resident.reason, step);
    }
    if (!queue_.empty()) {  // 3.
        refresh(resident.key);
        decide(step);
    } else if (queue_.is_watched()) {  // 4.
        look_again();
    }
    note_idle(index, step);  // 5.
}

// The same if it changes nothing but counts and the time of last use:
//
//  1. Something waits, the resident drains, or the lease's request has a deadline or other parts: no.
//  2. It is the resident's last lease, and would be due before the alarm: no.
//  3. Else yes. When a lease ended that is not the last is not known, and does not matter until then.
inline bool SlotScheduler::release_quietly(const Grant& grant, Time now) noexcept {
    Resident& resident = residents_[grant.resident.index];
    if (!queue_.is_calm() || resident.state != ResidentState::ready || grant.request.valid() || grant.is_part) {  // 1.
        return false;
    }
    const bool is_last = resident.leases == 1;
    if (is_last) {
        const Time due = later(now, resident.keep_alive);
        if (due < alarm_.time()) {  // 2.
            return false;
        }
        resident.idle_since = now;
    }
    end_lease(resident, grant, is_last ? now : never);  // 3.
    return true;
}

// -- Actions ----------------------------------------------------------------------------------------------------------

inline Action& SlotScheduler::act(ActionType type, Index subject, Index resident, Step& step) {
    Action action;
    action.type = type;
    action.subject = subject;
    action.resident = resident;
    return step.actions.emplace_back(action);
}

inline Action& SlotScheduler::publish(EventType type, Reason reason, Index resident, Duration duration,
                                      Step& step) const {
    Action& action = act(ActionType::event, none, resident, step);
    action.event = type;
    action.reason = reason;
    action.generation = resident == none ? Generation{} : residents_[resident].generation;
    action.duration = duration;
    return action;
}

}  // namespace residency::core

#include "residency/core/impl/slot_scheduler_batches.hpp"      // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_grants.hpp"       // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_loads.hpp"        // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_memory.hpp"       // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_memory_uses.hpp"  // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_places.hpp"       // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_residents.hpp"    // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_time.hpp"         // IWYU pragma: export
#include "residency/core/impl/slot_scheduler_waiting.hpp"      // IWYU pragma: export
