#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its waiters: where a key stands, which request may wait, which waiter is failed.

namespace residency::core {

// What the time since a request came went into, but for waiting.
struct SlotScheduler::Spent {
    Duration load{0};
    Duration call{0};
};

inline bool SlotScheduler::expectation_fails(Index key, const RequestSpec& spec) const noexcept {
    if (!spec.expects) {
        return false;
    }
    if (key == none || queue_.keys()[key].resident == none) {
        return true;
    }
    const Resident& resident = residents_[queue_.keys()[key].resident];
    return !resident.usable() || resident.generation != spec.expected;
}

// Whether a load that is queued or running is of use: for a waiter or a claim of its key.
inline bool SlotScheduler::wanted(const Resident& load) const noexcept {
    return !load.discard && queue_.keys()[load.key].waiting != 0;
}

// What the key stands in line for:
//
//  1. Nothing waits for it: nothing.
//  2. It has no resident: a place, if its memory is no obstacle (H34).
//  3. Its resident takes one more lease, and a waiter wants one: that lease.
//  4. Else nothing.
inline QueueState SlotScheduler::state_of(Index key) const noexcept {
    const KeyEntry& entry = queue_.keys()[key];
    if (entry.waiting == 0) {  // 1.
        return QueueState::not_queued;
    }
    if (entry.resident == none) {  // 2.
        return !has_budget_ || key_memories_[key].may_claim_place() ? QueueState::needs_place : QueueState::not_queued;
    }
    const Resident& resident = residents_[entry.resident];
    const bool takes_one_more = resident.state == ResidentState::ready && resident.leases < resident.capacity;
    return takes_one_more && queue_.wants_lease(key) ? QueueState::grantable : QueueState::not_queued;  // 3., 4.
}

// Whether a request may wait beside those that do (H4).
inline bool SlotScheduler::fits_queue(const RequestSpec& spec) const noexcept {
    return queue_.waiting() < share_of_queue(options_.max_queue, spec.priority) &&
           queue_.bytes() + spec.bytes <= share_of_queue(options_.max_queue_bytes, spec.priority);
}

// Whether a waiter, whose key's resident is ready, has missed its deadline or its generation; then it fails.
inline bool SlotScheduler::fail_late(Index request, Step& step) {
    const RequestSpec& spec = queue_.requests()[request].spec;
    const Index key = queue_.requests()[request].key;
    if (spec.deadline <= step.now) {
        time_out(request, step);
        return true;
    }
    if (spec.expects && spec.expected != residents_[queue_.keys()[key].resident].generation) {
        fail(request, errc::model_changed, Duration::zero(), step);
        refresh(key);
        return true;
    }
    return false;
}

// Where a waiter is.
inline Stage SlotScheduler::stage_of(Index request) const noexcept {
    if (queue_.has_begun(request)) {
        return Stage::inference;
    }
    const Index key = queue_.requests()[request].key;
    const Index resident = queue_.keys()[key].resident;
    if (resident != none) {
        return residents_[resident].state == ResidentState::loading ? Stage::load : Stage::queue;
    }
    return has_budget_ && key_memories_[key].is_aside() ? Stage::memory : Stage::queue;
}

// Fails a waiter. The caller puts the key where it belongs then.
inline void SlotScheduler::fail(Index request, errc code, Duration retry_after, Step& step) {
    --step.left;
    Action& action = act(ActionType::fail, request, none, step);
    action.code = code;
    action.stage = stage_of(request);
    action.duration = retry_after;
    queue_.leave(request, false);
}

inline SlotScheduler::Spent SlotScheduler::spent_by(Index index, Time now) const noexcept {
    const Request& request = queue_.requests()[index];
    const bool has_begun = request.state == RequestState::leased || queue_.has_begun(index);
    const Time end = has_begun ? request.granted : now;
    Spent spent;
    spent.call = now - end;
    if (const Index model = queue_.keys()[request.key].resident;
        model != none && residents_[model].state != ResidentState::queued) {
        const Resident& resident = residents_[model];
        const Time loaded = resident.state == ResidentState::loading ? now : resident.ready_at;
        spent.load =
            (std::max)(Duration::zero(), (std::min)(end, loaded) - (std::max)(request.spec.since, resident.began));
    }
    return spent;
}

// The deadline of a request has passed.
//
//  1. It has its lease: it completes early, and the lease goes on.
//  2. It was the last waiter of a key whose load has not begun: it fails and becomes the key's claim (H1).
//  3. Else it fails.
inline void SlotScheduler::time_out(Index index, Step& step) {
    const Request& request = queue_.requests()[index];
    const Index key = request.key;
    const Duration since = step.now - request.spec.since;
    const Spent spent = spent_by(index, step.now);
    const KeyEntry& entry = queue_.keys()[key];
    const bool leased = request.state == RequestState::leased;
    const bool is_queued = entry.resident != none && residents_[entry.resident].state == ResidentState::queued &&
                           !residents_[entry.resident].discard;
    const bool may_claim = !closed_ && abandon_after_ != Duration::zero() && (entry.resident == none || is_queued);
    const bool is_last = entry.waiting == (entry.claim == none ? 1U : 2U);
    ++counters_.timed_out;
    Stage stage = Stage::inference;
    if (leased) {  // 1.
        --step.left;
        queue_.drop_deadline(index);
        Action& action = act(ActionType::expire, index, none, step);
        action.code = errc::timed_out;
        action.stage = stage;
    } else if (may_claim && is_last) {  // 2.
        if (entry.claim == none && queue_.claims().size() == Claims::most) {
            drop_claim(queue_.requests()[queue_.claims().front().request].key, step);
        }
        --step.left;
        Action& action = act(ActionType::fail, index, none, step);
        action.code = errc::timed_out;
        stage = action.stage = stage_of(index);
        queue_.keep_claim(index, later(step.now, abandon_after_));
        wake_by(later(step.now, abandon_after_));
    } else {  // 3.
        fail(index, errc::timed_out, Duration::zero(), step);
        stage = step.actions.back().stage;
    }
    Action& event = publish(EventType::timed_out, Reason::none, none, since, step);
    event.stage = stage;
    event.load_time = spent.load;
    event.call_time = spent.call;
    event.key = key;
    if (leased) {
        event.generation = residents_[entry.resident].generation;
    } else {
        note_left(key, step);
    }
}

inline void SlotScheduler::expire_due(Step& step) {
    while (!queue_.deadlines().empty() && queue_.deadlines().top_rank() <= step.now) {
        if (step.left == 0) {
            resume(step.now);
            return;
        }
        time_out(queue_.deadlines().top(), step);
    }
}

// The key's resident is no longer the one that these waiters expect.
inline void SlotScheduler::fail_expecting(Index key, Step& step) {
    while (queue_.keys()[key].lists.expecting() != none) {
        if (step.left == 0) {
            resume(step.now);
            break;
        }
        fail(queue_.keys()[key].lists.expecting(), errc::model_changed, Duration::zero(), step);
    }
}

// Fails the waiters of a failed load, not those that came later. Then the resident is gone.
inline void SlotScheduler::fail_waiters(Index index, Step& step) {
    const Resident& resident = residents_[index];
    const Index key = resident.key;
    const Duration retry_after = (std::max)(Duration::zero(), later(queue_.keys().cooling_until(key), -step.now));
    for (Index next = queue_.oldest(key); next != none && queue_.requests()[next].arrival <= resident.last_failed;
         next = queue_.oldest(key)) {
        if (step.left == 0) {
            resume(step.now);
            return;
        }
        fail(next, resident.failure, retry_after, step);
        step.actions.back().resident = index;
    }
    gone(index, step);
}

// Fails what waits in a slot that is closed.
inline void SlotScheduler::fail_closed(Step& step) {
    for (; closing_ < queue_.keys().end_index(); ++closing_) {
        if (!queue_.keys().used(closing_)) {
            continue;
        }
        for (Index next = queue_.oldest(closing_); next != none; next = queue_.oldest(closing_)) {
            if (step.left == 0) {
                refresh(closing_);
                resume(step.now);
                return;
            }
            fail(next, errc::shutting_down, Duration::zero(), step);
        }
        if (has_budget_ && queue_.keys()[closing_].resident == none) {
            drop_memory(closing_);
        }
        forgive(closing_);
        refresh(closing_);
        collect_later(closing_);
    }
    complete_teardowns(step);
}

// A waiter or a claim of the key has left. If it was the last:
//
//  1. A load that runs is asked to stop after `abandon_after` (H1).
//  2. A resident that is idle is unloaded after its keep-alive.
//  3. What the key has of the memory budget, or waits for, is given back, also what it has for a load that is queued.
//  4. A key that was evicted for this one no longer ranks last.
//
//  5. If not, and the key waits for memory, it stands where those that are left put it.
inline void SlotScheduler::note_left(Index key, Step& step) {
    const KeyEntry& entry = queue_.keys()[key];
    if (entry.waiting == 0) {
        if (entry.resident != none && residents_[entry.resident].runs_load()) {  // 1.
            Resident& resident = residents_[entry.resident];
            resident.abandoned_at = later(step.now, abandon_after_);
            if (resident.abandoned_at <= step.now) {
                stop_load(entry.resident, step);
            } else {
                wake_by(resident.abandoned_at);
            }
        } else if (entry.resident != none && residents_[entry.resident].idle()) {  // 2.
            wake_by(residents_[entry.resident].due());
        }
        if (has_budget_ && entry.resident == none) {  // 3.
            drop_memory(key);
        } else if (has_budget_ && residents_[entry.resident].state == ResidentState::queued) {  // 3.
            give_up_load(residents_[entry.resident]);
        }
        forgive(key);                                                              // 4.
    } else if (has_budget_ && key_memories_[key].phase == MemoryPhase::lacking) {  // 5.
        note_moved(key);
    }
    refresh(key);
    collect_later(key);
}

inline void SlotScheduler::drop_claim(Index key, Step& step) {
    queue_.drop_claim(key);
    note_left(key, step);
}

// Counts a request that is refused. The first one of a period makes an event at once, the others one at its end (H19).
inline void SlotScheduler::refuse(Reason reason, const SharedKey& key, Step& step) {
    if (refusals_.add(reason, key, step.now)) {
        publish_refusals(reason, step);
        // The alarm may have stood for it.
        recompute_alarm();
    } else {
        wake_by(refusals_.next(reason));
    }
}

inline void SlotScheduler::publish_refusals(Reason reason, Step& step) {
    publish(EventType::rejected, reason, none, Duration::zero(), step).count = refusals_.report(reason, step.now);
}

}  // namespace residency::core
