#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its loads: from the place of a key to a model that is ready, or to a failure.

namespace residency::core {

inline void SlotScheduler::start_load(Index key, Step& step) {
    place_by_age_ = !place_by_age_ || key != aged_key(step.now);
    Resident resident;
    resident.key = key;
    resident.began = step.now;
    resident.birth = ++births_;
    if (has_budget_) {
        resident.memory = std::exchange(key_memories_[key].id, {});
        resident.bytes = key_memories_[key].asked;
        key_memories_.enter(key, MemoryPhase::sized);
    }
    const Index index = residents_.insert(resident).index;
    KeyEntry& entry = queue_.keys()[key];
    entry.ranks_last = false;
    queue_.stand(key, QueueState::not_queued);
    entry.resident = index;
    ++loads_;
    act(ActionType::load, none, index, step);
}

// A queued load has got its turn:
//
//  1. No waiter and no claim of its key wants it any more: the resident is gone, and the backend is not called.
//  2. It begins.
//  3. Its key has a claim: that has got what it was for, and goes. Without a waiter the load is stopped after
//     `abandon_after`, counted from now (H1).
inline bool SlotScheduler::load_begins(ResidentId id, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    Resident& resident = residents_[id.index];
    const KeyEntry& entry = queue_.keys()[resident.key];
    if (!wanted(resident)) {  // 1.
        end_load(resident);
        gone(id.index, step);
        return false;
    }
    resident.state = ResidentState::loading;  // 2.
    resident.began = now;
    ++counters_.loads;
    publish(EventType::load_started, Reason::requested, id.index, Duration::zero(), step);
    if (entry.claim != none) {  // 3.
        drop_claim(resident.key, step);
    }
    return true;
}

// A load has given a model:
//
//  1. `unload` or a shutdown came in between: it is unloaded unused (H2).
//  2. It is ready, also after its load was asked to stop because nothing waited (H1): the generation is raised (R6),
//     and its stay begins (H32). Its own waiters come before any other decision.
inline void SlotScheduler::loaded(ResidentId id, const ModelLimits& limits, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    Resident& resident = residents_[id.index];
    const Duration took = now - resident.began;
    ++counters_.loaded;
    queue_.keys().clear_failures(resident.key);
    if (resident.memory.valid()) {
        key_memories_[resident.key].was_tried_again = false;
    }
    if (resident.memory.valid() && limits.memory != 0) {
        key_memories_[resident.key].used = resident.bytes = limits.memory;
        say(MemoryRequest::Type::use, none, resident.memory, limits.memory);
    }
    end_load(resident);
    if (resident.discard) {  // 1.
        start_unload(id.index, resident.reason, step);
        decide(step);
        return;
    }
    raise_generation();  // 2.
    resident.state = ResidentState::ready;
    resident.stop_requested = false;
    resident.generation = generation_;
    resident.capacity = std::max<std::size_t>(limits.capacity, 1);
    resident.batch = limits.batch;
    if (options_.max_batch_texts != 0) {
        resident.batch.texts = (std::min)(resident.batch.texts, options_.max_batch_texts);
    }
    resident.cuts = resident.batch.texts > 1;
    resident.joins = resident.cuts && limits.joins;
    resident.spreads = resident.cuts && limits.spreads;
    resident.keep_alive = keep_alive_;
    resident.idle_since = resident.ready_at = now;
    set_stay(resident, took, now);
    resident.granted = resident.readied = ++grants_;
    publish(EventType::ready, Reason::requested, id.index, took, step);
    refresh(resident.key);
    complete_ensures(resident.key, step);
    // The load has cost much: its waiters are granted before another key may have the place.
    grant_ready(step);
    decide(step);
    note_idle(id.index, step);
}

// How long a resident that has become ready keeps its place: `min_stay`, or as long as its load took, but shorter where
// more keys wait for a place than there are places. With n keys to a place each waits for n - 1 others: stays of
// n / (2 n - 2) of a load take half as long as the n loads do, so that no key waits for more than one and a half times
// of what it would without stays. Never longer than `aging`, so that R15 holds with a delay that is bounded.
inline void SlotScheduler::set_stay(Resident& resident, Duration took, Time now) const noexcept {
    const Duration load = (std::min)(took, aging_);
    const std::size_t waiting = queue_.standings().needs_place().size();
    if (min_stay_ >= Duration::zero()) {
        resident.stay = (std::min)(min_stay_, aging_);
    } else if (waiting <= max_resident_) {
        resident.stay = load;
    } else {
        resident.stay =
            load / 2 + load / 2 / static_cast<Duration::rep>(waiting) * static_cast<Duration::rep>(max_resident_);
    }
    resident.stays_until = later(now, resident.stay);
    resident.guard = resident.stay == Duration::zero() ? Duration::zero() : load;
}

// A load has ended without a model:
//
//  1. It was asked to stop: it is aborted, without cooldown and last error (H1). Waiters get a fresh load.
//  2. It ran out of memory and is tried again (H37).
//  3. It has failed: the cooldown begins, a claim of the key goes, and the waiters that have come until now fail.
inline void SlotScheduler::load_failed(ResidentId id, errc code, SharedText message, Time now, Actions& actions,
                                       bool out_of_memory) {
    begin_call();
    Step step{now, actions};
    Resident& resident = residents_[id.index];
    const Duration took = now - resident.began;
    end_load(resident);
    if (resident.stop_requested) {  // 1.
        ++counters_.loads_aborted;
        publish(EventType::load_aborted, resident.discard ? resident.reason : Reason::abandoned, id.index, took, step);
        gone(id.index, step);
        return;
    }
    if (out_of_memory && tries_again(id.index, took, step)) {  // 2.
        return;
    }
    ++counters_.load_failures;  // 3.
    note_failure(resident.key, code, std::move(message), now);
    publish(EventType::load_failed, Reason::requested, id.index, took, step);
    // A load that could not begin still has its key's claim, which is no waiter.
    if (queue_.keys()[resident.key].claim != none) {
        drop_claim(resident.key, step);
    }
    resident.failed = true;
    resident.failure = code;
    resident.last_failed = queue_.arrivals();
    fail_waiters(id.index, step);
}

// The load ran out of memory. Whether it is tried again (H37):
//
//  1. There is no budget, or nothing waits for the load: no.
//  2. It was tried again already, and the key has not loaded since: no.
//  3. Else yes: the waiters stay, and the next time that the key asks for memory idle residents go first.
inline bool SlotScheduler::tries_again(Index index, Duration took, Step& step) {
    const Resident& resident = residents_[index];
    if (!resident.memory.valid() || !wanted(resident)) {  // 1.
        return false;
    }
    KeyMemory& memory = key_memories_[resident.key];
    if (std::exchange(memory.was_tried_again, true)) {  // 2.
        return false;
    }
    memory.clears = true;  // 3.
    ++counters_.load_failures;
    publish(EventType::load_failed, Reason::memory, index, took, step);
    gone(index, step);
    return true;
}

// A request that was invalid, or for a key that the backend does not know, starts no cooldown.
inline void SlotScheduler::note_failure(Index key, errc code, SharedText message, Time now) {
    if (code != errc::invalid_request && code != errc::unknown_model) {
        const Duration cooldown = cooldown_after(queue_.keys().failures_of(key));
        const Index forgotten = queue_.keys().note_failure(key, std::move(message), later(now, cooldown));
        if (forgotten != none) {
            collect_later(forgotten);
        }
    }
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

inline void SlotScheduler::stop_load(Index index, Step& step) {
    Resident& resident = residents_[index];
    if (!resident.stop_requested && !resident.failed) {
        resident.stop_requested = true;
        act(ActionType::stop_load, none, index, step);
    }
}

// The queued load is of no use any more: its resident is gone once it gets its turn, and has no memory until then.
inline void SlotScheduler::give_up_load(Resident& resident) noexcept {
    resident.discard = true;
    resident.bytes = 0;
    if (const MemoryId id = std::exchange(resident.memory, {}); id.valid()) {
        say(MemoryRequest::Type::give_back, none, id, 0);
    }
}

// The load was not begun, or it has ended.
inline void SlotScheduler::end_load(const Resident& resident) noexcept {
    --loads_;
    forgive(resident.key);
}

}  // namespace residency::core
