#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its memory budget: what a key needs, what the budget is asked for, and what it wants back. Without
// a budget none of this happens.

namespace residency::core {

// -- What a key needs -------------------------------------------------------------------------------------------------

// Whether a key without a resident may claim a place: it is known how much memory it needs, and the budget may have it.
inline bool SlotScheduler::may_claim_place(Index key) const noexcept {
    return !has_budget() || key_memory_[key].phase == MemoryPhase::sized || key_memory_[key].phase == MemoryPhase::held;
}

// Makes room for one more key, and for what the calls up to the next may have to say. Throws bad_alloc.
inline void SlotScheduler::reserve_memory() {
    const std::size_t keys = std::size_t{queue_.keys().end_index()} + 1;
    while (key_memory_.size() < keys) {
        key_memory_.push_back({});
    }
    constexpr std::size_t some = 16;
    const std::size_t most = 2 * (residents_.size() + 1) + (std::min)(keys, slice) + some;
    if (memory_requests_.capacity() < most) {
        memory_requests_.reserve(2 * most);
    }
}

// Keys that stand aside on their way to memory may all become residents, as those that need a place.
inline void SlotScheduler::enter(KeyMemory& memory, MemoryPhase phase) noexcept {
    aside_ -= memory.is_aside() ? 1U : 0U;
    memory.phase = phase;
    aside_ += memory.is_aside() ? 1U : 0U;
}

// Whether the key is known to need more than the limit. Without an estimate of the backend's the slot's options say it.
inline bool SlotScheduler::is_too_large(Index key) noexcept {
    KeyMemory& memory = key_memory_[key];
    if (memory.phase == MemoryPhase::unsized && !backend_sizes_) {
        memory.estimate = options_.model_memory;
        enter(memory, MemoryPhase::sized);
    }
    return memory.phase == MemoryPhase::sized && memory.need() > memory_limit_;
}

// A request waits for a key without a resident (H34):
//
//  1. How much the key needs is not known: the backend is asked.
//  2. The key waits for memory: the budget hears where it stands now.
inline void SlotScheduler::want_memory(Index key, Step& step) {
    KeyMemory& memory = key_memory_[key];
    if (memory.phase == MemoryPhase::unsized) {
        enter(memory, MemoryPhase::sizing);
        act(ActionType::size, none, none, step).key = key;
    } else if (memory.phase == MemoryPhase::lacking) {
        say(MemoryRequest::Type::move, key, memory.id, 0);
    }
}

inline void SlotScheduler::sized(Index key, std::size_t bytes, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    KeyMemory& memory = key_memory_[key];
    memory.estimate = bytes;
    enter(memory, MemoryPhase::sized);
    refuse_key(key, step);
    refresh(key);
    decide(step);
    collect_later(key);
}

inline void SlotScheduler::size_failed(Index key, errc code, SharedText message, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    ++counters_.load_failures;
    KeyMemory& memory = key_memory_[key];
    enter(memory, MemoryPhase::refused);
    // That it is the backend's own word stands in its message: the ledger has refused nothing.
    memory.refusal = code == errc::insufficient_memory ? errc::load_failed : code;
    note_failure(key, code, std::move(message), now);
    publish(EventType::load_failed, Reason::requested, none, Duration::zero(), step).key = key;
    refuse_key(key, step);
    decide(step);
    collect_later(key);
}

// -- What the budget says ---------------------------------------------------------------------------------------------

// The next place is in view for the key: the budget is asked for its memory.
inline void SlotScheduler::ask_for_memory(Index key) {
    KeyMemory& memory = key_memory_[key];
    enter(memory, MemoryPhase::asking);
    ++asking_;
    say(MemoryRequest::Type::reserve, key, {}, memory.need());
    memory_requests_.back().clears = std::exchange(memory.clears, false);
    refresh(key);
}

// An answer of the budget's:
//
//  1. Nothing waits for the key any more: what it got is given back.
//  2. The memory is reserved: the key may have a place.
//  3. It is lacking: the key waits for it, and another may have the place.
//  4. It can never be there: the key's waiters fail.
//  5. The resident is to go, or need not any more.
inline void SlotScheduler::memory_answered(Index key, MemoryId id, MemoryVerdict verdict, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    if (verdict == MemoryVerdict::evict || verdict == MemoryVerdict::keep) {
        const Index resident = queue_.keys().used(key) ? queue_.keys()[key].resident : none;
        if (resident == none || residents_[resident].memory != id) {
            return;
        }
        if (verdict == MemoryVerdict::evict) {
            evict_for_memory(resident, step);
        } else if (residents_[resident].may_return() && residents_[resident].for_memory) {
            end_drain(resident, step);
        }
        decide(step);
        return;
    }
    if (key >= key_memory_.size()) {
        return;
    }
    KeyMemory& memory = key_memory_[key];
    if (memory.phase == MemoryPhase::asking) {
        --asking_;
        memory.id = id;
    } else if (memory.phase != MemoryPhase::lacking || memory.id != id) {
        return;
    }
    if (verdict == MemoryVerdict::impossible) {
        memory.id = {};
        enter(memory, MemoryPhase::refused);
        memory.refusal = errc::insufficient_memory;
        refuse_key(key, step);
    } else {
        enter(memory, verdict == MemoryVerdict::reserved ? MemoryPhase::held : MemoryPhase::lacking);
        if (queue_.keys()[key].waiting == 0) {
            drop_memory(key);
        }
        refresh(key);
    }
    decide(step);
    collect_later(key);
}

// The load ran out of memory. False if that is an ordinary failure: it was tried again already, or nothing waits for
// it. Else idle residents go, and it is tried once more (H37).
inline bool SlotScheduler::tries_again(Index index, Duration took, Step& step) {
    const Resident& resident = residents_[index];
    if (!resident.memory.valid() || !wanted(resident)) {
        return false;
    }
    KeyMemory& memory = key_memory_[resident.key];
    if (std::exchange(memory.was_tried_again, true)) {
        return false;
    }
    memory.clears = true;
    ++counters_.load_failures;
    publish(EventType::load_failed, Reason::memory, index, took, step);
    gone(index, step);
    return true;
}

// The resident's memory is wanted (H36):
//
//  1. It drains for a switch: now it does for the budget, and returns only when that says so.
//  2. It has become pinned, or a bare lease lives on it: it stays. The budget looks again after this decision.
//  3. No lease on it lives: it is unloaded.
//  4. It is in use: it drains.
inline void SlotScheduler::evict_for_memory(Index index, Step& step) {
    Resident& resident = residents_[index];
    if (resident.switches()) {
        --switching_;
        resident.reason = Reason::memory;
        resident.for_memory = true;
        return;
    }
    if (resident.state != ResidentState::ready) {
        return;
    }
    if (resident.pinned() || resident.leases > resident.calls) {
        return;
    }
    if (resident.leases == 0) {
        start_unload(index, Reason::memory, step);
        return;
    }
    resident.state = ResidentState::draining;
    resident.reason = Reason::memory;
    resident.for_memory = true;
    resident.drained = ++drains_;
    refresh(resident.key);
    publish(EventType::drain_started, Reason::memory, index, Duration::zero(), step);
}

// The key, which has no resident, is to have no memory any more.
inline void SlotScheduler::drop_memory(Index key) noexcept {
    KeyMemory& memory = key_memory_[key];
    if (memory.id.valid()) {
        say(MemoryRequest::Type::give_back, key, std::exchange(memory.id, {}), 0);
        enter(memory, MemoryPhase::sized);
    }
}

// Fails the waiters of the key if it needs more than the limit, or is refused. What is left of them is for the next
// tick.
inline void SlotScheduler::refuse_key(Index key, Step& step) {
    KeyMemory& memory = key_memory_[key];
    if (!queue_.keys().used(key) || queue_.keys()[key].resident != none ||
        (memory.phase != MemoryPhase::refused && !is_too_large(key))) {
        return;
    }
    if (queue_.keys()[key].claim != none) {
        queue_.drop_claim(key);
    }
    const errc code = memory.phase == MemoryPhase::refused ? memory.refusal : errc::insufficient_memory;
    const bool lacks_memory = code == errc::insufficient_memory;
    const Duration retry_after = lacks_memory
                                     ? Duration(static_cast<Duration::rep>(memory.need()))
                                     : (std::max)(Duration::zero(), later(queue_.keys().cooling_until(key), -step.now));
    for (Index next = queue_.oldest(key); next != none; next = queue_.oldest(key)) {
        if (step.left == 0) {
            refusing_ = (std::min)(refusing_, key);
            refresh(key);
            resume(step.now);
            return;
        }
        if (lacks_memory) {
            ++counters_.insufficient_memory;
            refuse(Reason::insufficient_memory, queue_.keys()[key].key, step);
        }
        fail(next, code, retry_after, step);
        Action& action = step.actions.back();
        action.key = lacks_memory ? none : key;
        action.stage = action.stage == Stage::queue ? Stage::memory : action.stage;
    }
    if (memory.phase == MemoryPhase::refused) {
        enter(memory, lacks_memory ? MemoryPhase::sized : MemoryPhase::unsized);
    }
    note_left(key, step);
}

// The same for all keys that have not been looked at since the limit was set.
inline void SlotScheduler::refuse_keys(Step& step) {
    while (refusing_ < key_memory_.size()) {
        const Index key = std::exchange(refusing_, none);
        refuse_key(key, step);
        if (refusing_ == key) {
            return;
        }
        refusing_ = key + 1;
    }
    refusing_ = none;
}

inline void SlotScheduler::set_memory_limit(std::size_t bytes, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    memory_limit_ = bytes;
    for (std::size_t key = 0; key < key_memory_.size(); ++key) {
        key_memory_[key].used = 0;
    }
    refusing_ = 0;
    refuse_keys(step);
    decide(step);
}

// -- What the budget wants to know ------------------------------------------------------------------------------------

inline void SlotScheduler::look_at(Time at) noexcept {
    // A slot that is closed waits for nothing, and its alarm for no other time than that of the last resident's end.
    if (!closed_) {
        look_at_ = at;
        wake_by(at);
    }
}

inline void SlotScheduler::memory_uses(Time now, std::vector<MemoryUse>& uses) {
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index) || !residents_[index].memory.valid()) {
            continue;
        }
        Resident& resident = residents_[index];
        resident.settle(now);
        const bool awaited = queue_.keys()[resident.key].waiting != 0;
        MemoryUse use;
        use.id = resident.memory;
        use.granted = resident.granted;
        // One that drains for a switch may return, because of what the budget decides: to the budget it is in use.
        if (resident.state == ResidentState::unloading ||
            (resident.state == ResidentState::draining && resident.for_good)) {
            use.hold = MemoryHold::leaving;
        } else if (resident.is_load()) {
            use.hold = MemoryHold::loading;
        } else if (resident.pinned()) {
            use.hold = MemoryHold::pinned;
        } else if (resident.leases > resident.calls) {
            use.hold = MemoryHold::leased;
        } else if (resident.leases == 0 && !awaited) {
            use.hold = MemoryHold::idle;
            use.idle_since = resident.idle_since;
        } else {
            use.hold = resident.for_memory ? MemoryHold::draining : MemoryHold::in_use;
            use.rank = memory_rank(resident.key);
            const Priority serves = resident.served(now);
            if (const MemoryRank served{static_cast<unsigned>(serves), never};
                serves != Priority::low && served < use.rank) {
                use.rank = served;
            }
        }
        if (resident.state == ResidentState::ready && resident.keeps_place(awaited, now)) {
            use.keeps_until = resident.next_change(awaited, now);
        }
        uses.push_back(use);
    }
}

// Where the key stands among those of all slots.
inline MemoryRank SlotScheduler::memory_rank(Index key) const noexcept {
    const Index best = queue_.best(key);
    if (best == none) {
        return {};
    }
    const RequestSpec& spec = queue_.requests()[best].spec;
    return {static_cast<unsigned>(spec.priority), spec.since};
}

inline void SlotScheduler::say(MemoryRequest::Type type, Index key, MemoryId id, std::size_t bytes) {
    MemoryRequest request;
    request.type = type;
    request.key = key;
    request.id = id;
    request.bytes = bytes;
    if (type == MemoryRequest::Type::reserve || type == MemoryRequest::Type::move) {
        request.rank = memory_rank(key);
        const Index oldest = queue_.oldest(key);
        request.aged_at = oldest == none ? never : later(queue_.requests()[oldest].spec.since, aging_);
    }
    memory_requests_.push_back(request);
}

// While memory is lacking, the budget looks again after each decision that may change what there is.
inline void SlotScheduler::look_again(Step& step) {
    if (queue_.is_watched() && !std::exchange(step.looked, true)) {
        say(MemoryRequest::Type::look, none, {}, 0);
    }
}

}  // namespace residency::core
