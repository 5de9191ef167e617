#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its residents: what becomes of one that leaves, until it is gone; unload and shutdown.

namespace residency::core {

// Takes a resident out of use for good, for `unload` or a shutdown:
//
//  1. It is being unloaded: nothing happens.
//  2. Its load is queued or running: what it yields will not be used, and a running one is asked to stop (H2).
//  3. It drains for good from now on, also if it drained for a switch or for memory and could have returned. The reason
//     is the first that was given, unless a revoke comes after it.
//  4. It is revoked, for the first time: what runs on it completes early.
//  5. No lease on it lives: it is unloaded.
//  6. It is in use: waiters that expect this residency fail, the others wait for the next.
inline void SlotScheduler::remove(Index index, UnloadMode mode, Reason reason, Step& step) {
    Resident& resident = residents_[index];
    if (resident.state == ResidentState::unloading) {  // 1.
        return;
    }
    if (resident.is_load()) {  // 2.
        if (!resident.discard) {
            resident.discard = true;
            resident.reason = reason;
        }
        if (resident.state == ResidentState::loading) {
            stop_load(index, step);
        } else {
            give_up_load(resident);
        }
        return;
    }
    const bool revokes = mode == UnloadMode::revoke && !resident.revoked;
    if (!resident.for_good || revokes) {  // 3.
        resident.reason = reason;
    }
    if (resident.switches()) {
        --switching_;
    }
    if (resident.state == ResidentState::ready && resident.leases != 0) {
        publish(EventType::drain_started, reason, index, Duration::zero(), step);
    }
    resident.state = ResidentState::draining;
    resident.for_good = true;
    if (revokes) {  // 4.
        revoke(index, errc::model_changed, step);
    }
    if (resident.leases == 0) {  // 5.
        start_unload(index, resident.reason, step);
        return;
    }
    fail_expecting(resident.key, step);  // 6.
    refresh(resident.key);
}

// Completes the requests that run on a resident early, with `code`.
inline void SlotScheduler::revoke(Index index, errc code, Step& step) {
    residents_[index].revoked = true;
    raise_generation();
    act(ActionType::revoke, none, index, step).code = code;
}

inline void SlotScheduler::start_unload(Index index, Reason reason, Step& step) {
    Resident& resident = residents_[index];
    if (resident.switches()) {
        --switching_;
    }
    if (resident.state != ResidentState::loading && !resident.revoked) {
        raise_generation();
    }
    resident.state = ResidentState::unloading;
    resident.reason = reason;
    resident.began = step.now;
    publish(EventType::unload_started, reason, index, Duration::zero(), step);
    act(ActionType::unload, none, index, step);
    fail_expecting(resident.key, step);
    refresh(resident.key);
}

inline void SlotScheduler::unloaded(ResidentId id, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    const Resident& resident = residents_[id.index];
    ++counters_.unloads[static_cast<std::size_t>(resident.reason)];
    publish(EventType::unloaded, resident.reason, id.index, now - resident.began, step);
    gone(id.index, step);
}

// The resident's place is free.
inline void SlotScheduler::gone(Index index, Step& step) {
    const Index key = residents_[index].key;
    const std::uint64_t birth = residents_[index].birth;
    if (residents_[index].memory.valid()) {
        say(MemoryRequest::Type::give_back, none, residents_[index].memory, 0);
    }
    residents_.erase(index);
    queue_.keys()[key].resident = none;
    for (Index operation = 0; operation < teardowns_.end_index(); ++operation) {
        if (teardowns_.used(operation) && teardowns_[operation].birth > birth &&
            (teardowns_[operation].key == none || teardowns_[operation].key == key)) {
            --teardowns_[operation].remaining;
        }
    }
    complete_teardowns(step);
    refresh(key);
    // While there was a resident, a lower limit, or what its model used, did not matter to those that wait.
    if (has_budget_ && !closed_) {
        refuse_key(key, step);
    }
    decide(step);
    collect_later(key);
    recompute_alarm();
}

inline void SlotScheduler::complete(Index operation, bool late, Step& step) {
    for (Index index = 0; late && teardowns_[operation].revokes && index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].leases != 0 && !residents_[index].revoked) {
            revoke(index, errc::shutting_down, step);
        }
    }
    act(ActionType::complete, operation, none, step).late = late;
    teardowns_.erase(operation);
}

// Completes the operations whose residents are gone; a shutdown only when the waiters are gone, too (R12).
inline void SlotScheduler::complete_teardowns(Step& step) {
    for (Index operation = 0; operation < teardowns_.end_index(); ++operation) {
        if (teardowns_.used(operation) && teardowns_[operation].remaining == 0 &&
            (!teardowns_[operation].shutdown || queue_.empty())) {
            complete(operation, false, step);
        }
    }
}

// Unloads the resident if it is idle and due, or makes the alarm ring when it will be.
inline void SlotScheduler::note_idle(Index index, Step& step) {
    const Resident& resident = residents_[index];
    if (!resident.idle() || queue_.keys()[resident.key].waiting != 0) {
        return;
    }
    if (resident.due() <= step.now) {
        start_unload(index, Reason::idle, step);
        decide(step);
    } else {
        wake_by(resident.due());
    }
}

// -- Unload and shutdown ----------------------------------------------------------------------------------------------

inline TeardownId SlotScheduler::unload(const ModelKey* key, UnloadMode mode, Time now, Actions& actions) {
    const Index only = key == nullptr ? none : queue_.keys().find(*key);
    if (residents_.size() == 0 || (key != nullptr && (only == none || queue_.keys()[only].resident == none))) {
        return {};
    }
    Teardown operation;
    operation.key = only;
    operation.birth = births_ + 1;
    operation.remaining = only == none ? residents_.size() : 1;
    const TeardownId id = teardowns_.insert(operation);
    ++births_;
    begin_call();
    Step step{now, actions};
    const Reason reason = mode == UnloadMode::revoke ? Reason::revoked : Reason::unload;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && (only == none || residents_[index].key == only)) {
            remove(index, mode, reason, step);
        }
    }
    decide(step);
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
    begin_call();
    Step step{now, actions};
    closed_ = true;
    alarm_.yield_at(never);
    alarm_.look_at(never);
    publish(EventType::shutdown_started, Reason::shutdown, none, Duration::zero(), step);
    for (const Reason reason : Refusals::reasons) {
        if (refusals_.count(reason) != 0) {
            publish_refusals(reason, step);
        }
    }
    while (!queue_.claims().empty()) {
        drop_claim(queue_.requests()[queue_.claims().front().request].key, step);
    }
    fail_closed(step);
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index)) {
            remove(index, UnloadMode::drain, Reason::shutdown, step);
        }
    }
    recompute_alarm();
}

inline TeardownId SlotScheduler::shut_down(Time deadline, Time now, Actions& actions, bool revokes) {
    teardowns_.reserve_one();
    close(now, actions);
    if (residents_.size() == 0 && queue_.empty()) {
        return {};
    }
    Teardown operation;
    operation.shutdown = true;
    operation.birth = ++births_;
    operation.remaining = residents_.size();
    operation.deadline = deadline;
    operation.revokes = revokes;
    wake_by(deadline);
    return teardowns_.insert(operation);
}

}  // namespace residency::core
