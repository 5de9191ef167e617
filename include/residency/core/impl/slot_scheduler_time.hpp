#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and time: what is due, and when the next thing is.

namespace residency::core {

// Looks at all that may be due:
//
//  1. Deadlines and claims whose time is over. What is due leaves before anything is granted.
//  2. A resident whose load has failed: more of its waiters fail.
//  3. A load for which nothing has waited for `abandon_after`: it is asked to stop (H1).
//  4. A resident that is ready: requests for its load complete; it is unloaded if it is idle and due (R5).
//  5. One that is not usable: waiters that expect it fail.
//  6. The slot is closed: more of what waits fails.
//  7. Keys that have needed too much memory since the limit was set: their waiters fail.
//  8. The budget wanted to look again.
//  9. Shutdowns complete at their deadlines (H9).
//  10. Refusals of one kind make an event, at the end of their period (H19).
//  11. Places and leases go to what is left.
//  12. The alarm has rung: it is set for what is due next, or for when a request that comes now could be.
inline void SlotScheduler::tick(Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    const bool rings = alarm_.time() <= now;
    alarm_.resume_at(never);
    expire_due(step);  // 1.
    while (!queue_.claims().empty() && queue_.claims().front().until <= now) {
        drop_claim(queue_.requests()[queue_.claims().front().request].key, step);
    }
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index)) {
            continue;
        }
        const Resident& resident = residents_[index];
        if (resident.failed) {  // 2.
            fail_waiters(index, step);
        } else if (resident.state == ResidentState::loading) {  // 3.
            if (resident.abandoned_at <= now) {
                stop_load(index, step);
            }
        } else if (resident.state == ResidentState::ready) {  // 4.
            complete_ensures(resident.key, step);
            if (queue_.keys()[resident.key].waiting == 0 && resident.idle() && resident.due() <= now) {
                start_unload(index, Reason::idle, step);
            }
        } else if (!resident.usable()) {  // 5.
            fail_expecting(resident.key, step);
        }
    }
    if (closed_) {  // 6.
        fail_closed(step);
    }
    refuse_keys(step);               // 7.
    if (alarm_.looks_at() <= now) {  // 8.
        alarm_.look_at(never);
        look_again();
    }
    for (Index index = 0; index < teardowns_.end_index(); ++index) {
        if (teardowns_.used(index) && teardowns_[index].deadline <= now) {  // 9.
            complete(index, true, step);
        }
    }
    for (const Reason reason : Refusals::reasons) {
        if (refusals_.is_due(reason, now)) {  // 10.
            publish_refusals(reason, step);
        }
    }
    decide(step);  // 11.
    if (!rings) {
        // What the alarm was set for may be over, but it stays: requests that have a timeout and end long before would
        // only move it to and fro.
        return;
    }
    recompute_alarm();  // 12.
    const Duration timeout = alarm_.take_timeout();
    if (residents_.size() != 0) {
        wake_by(later(now, timeout));
    }
}

// Forgets stale reasons to wake: the alarm stands at what is due next, exactly.
inline void SlotScheduler::recompute_alarm() noexcept {
    alarm_.restart();
    if (!queue_.deadlines().empty()) {
        wake_by(queue_.deadlines().top_rank());
    }
    if (!queue_.claims().empty()) {
        wake_by(queue_.claims().front().until);
    }
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index)) {
            continue;
        }
        const Resident& resident = residents_[index];
        if (resident.runs_load()) {
            wake_by(resident.abandoned_at);
        } else if (resident.idle() && queue_.keys()[resident.key].waiting == 0) {
            wake_by(resident.due());
        }
    }
    for (Index index = 0; index < teardowns_.end_index(); ++index) {
        if (teardowns_.used(index)) {
            wake_by(teardowns_[index].deadline);
        }
    }
    wake_by(refusals_.due());
}

}  // namespace residency::core
