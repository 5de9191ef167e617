#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and the memory of its residents: what they do with it, which gives it up, and for which key. Without a
// budget none of this happens.

namespace residency::core {

// Whether a resident that yields gives its place to the key that gets the next one, as far as memory is concerned
// (R13):
//
//  1. There is no budget, or the key's memory is reserved: yes.
//  2. The budget has to say how much memory there could be, and is asked: not yet.
//  3. There could be enough, but for what others of the slot keep: yes.
//  4. There could not: no. The key waits for memory before it costs another its place, or is refused.
inline bool SlotScheduler::may_give_place(Index index, Step& step) {
    const Index key = next_key(step.now);
    if (!has_budget_ || key_memories_[key].phase == MemoryPhase::held) {  // 1.
        return true;
    }
    if (!available_) {  // 2.
        if (!std::exchange(asks_for_available_, true)) {
            say(MemoryRequest::Type::available, none, {}, 0);
        }
        return false;
    }
    std::size_t could = *available_;
    for (Index other = 0; other < residents_.end_index(); ++other) {
        const bool stays = other != index && residents_.used(other) && residents_[other].stays_for_memory();
        could = stays ? subtract_bytes(could, residents_[other].bytes) : could;
    }
    if (key_memories_[key].need() <= could) {  // 3.
        return true;
    }
    ask_for_memory(key);  // 4.
    return false;
}

inline void SlotScheduler::memory_available(std::size_t bytes, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    asks_for_available_ = false;
    available_ = bytes;
    decide(step);
    available_.reset();
}

// The resident's memory is wanted (H36):
//
//  1. It drains for a switch: now it does for the budget, and returns only when that says so.
//  2. It loads, or leaves already: nothing happens.
//  3. It has become pinned, or a bare lease lives on it: it stays. The budget looks again after this decision.
//  4. No lease on it lives: it is unloaded.
//  5. It is in use: it drains.
inline void SlotScheduler::evict_for_memory(Index index, Step& step) {
    Resident& resident = residents_[index];
    if (resident.switches()) {  // 1.
        --switching_;
        resident.reason = Reason::memory;
        resident.for_memory = true;
        return;
    }
    if (resident.state != ResidentState::ready) {  // 2.
        return;
    }
    if (resident.stays_for_memory()) {  // 3.
        return;
    }
    if (resident.leases == 0) {  // 4.
        start_unload(index, Reason::memory, step);
        return;
    }
    resident.state = ResidentState::draining;  // 5.
    resident.reason = Reason::memory;
    resident.for_memory = true;
    resident.drained = ++drains_;
    refresh(resident.key);
    publish(EventType::drain_started, Reason::memory, index, Duration::zero(), step);
}

inline void SlotScheduler::look_at(Time at) noexcept {
    // A slot that is closed waits for nothing, and its alarm for no other time than that of the last resident's end.
    if (!closed_) {
        alarm_.look_at(at);
    }
}

// What each resident does with its memory (H35, H36):
//
//  1. It leaves for good, and no bare lease lives on it: how long one does is not known. One that drains for a switch
//     may return, because of what the budget decides: it is in use.
//  2. It loads.
//  3. It is pinned.
//  4. A bare lease lives on it.
//  5. It is idle, and nothing waits for it.
//  6. It is in use, or drains for the budget: with the rank of its best waiter, or of what it serves (H32).
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
        if (resident.state == ResidentState::unloading ||
            (resident.state == ResidentState::draining && resident.for_good && !resident.has_bare_lease())) {  // 1.
            use.hold = MemoryHold::leaving;
        } else if (resident.is_load()) {  // 2.
            use.hold = MemoryHold::loading;
        } else if (resident.pinned() && !resident.for_good) {  // 3.
            use.hold = MemoryHold::pinned;
        } else if (resident.has_bare_lease()) {  // 4.
            use.hold = MemoryHold::leased;
        } else if (resident.leases == 0 && !awaited) {  // 5.
            use.hold = MemoryHold::idle;
            use.idle_since = resident.idle_since;
        } else {  // 6.
            use.hold = resident.for_memory ? MemoryHold::draining : MemoryHold::in_use;
            use.unused = resident.unused();
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

// The budget looks again after this decision. It does so after whatever else it has yet to hear, too.
inline void SlotScheduler::look_again() {
    if (memory_requests_.empty()) {
        say(MemoryRequest::Type::look, none, {}, 0);
    }
}

}  // namespace residency::core
