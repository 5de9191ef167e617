#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and the memory of keys without a resident: what one needs, and what the budget is asked and answers.
// Without a budget none of this happens.

namespace residency::core {

// -- What a key needs -------------------------------------------------------------------------------------------------

// Makes room for one more key, and for what the calls up to the next may have to say, though the budget hears none of
// it meanwhile: each key moves, gives memory back and asks for it, each resident says what it uses, gives it back, and
// its key asks for more. Throws bad_alloc.
inline void SlotScheduler::reserve_memory() {
    const std::size_t keys = std::size_t{queue_.keys().end_index()} + 1;
    key_memories_.reserve(keys);
    constexpr std::size_t some = 16;
    memory_requests_.reserve(3 * keys + 3 * (residents_.size() + 1) + some);
}

// Whether the key is known to need more than the limit. Without an estimate of the backend's the slot's options say it.
inline bool SlotScheduler::is_too_large(Index key) noexcept {
    KeyMemory& memory = key_memories_[key];
    if (memory.phase == MemoryPhase::unsized && !backend_sizes_) {
        memory.estimate = options_.model_memory;
        key_memories_.enter(key, MemoryPhase::sized);
    }
    return memory.phase == MemoryPhase::sized && memory.need() > memory_limit_;
}

// A request waits for a key without a resident (H34):
//
//  1. How much the key needs is not known: the backend is asked.
//  2. The key waits for memory: the budget hears where it stands now.
inline void SlotScheduler::want_memory(Index key, Step& step) {
    KeyMemory& memory = key_memories_[key];
    if (memory.phase == MemoryPhase::unsized) {  // 1.
        key_memories_.enter(key, MemoryPhase::sizing);
        act(ActionType::size, none, none, step).key = key;
    } else if (memory.phase == MemoryPhase::lacking) {  // 2.
        note_moved(key);
    }
}

// A waiter of a key that waits for memory has come or left. However many do before the budget listens, it hears of it
// once.
inline void SlotScheduler::note_moved(Index key) {
    const MemoryId id = key_memories_[key].id;
    memory_requests_.erase_move(id);
    say(MemoryRequest::Type::move, key, id, 0);
}

inline void SlotScheduler::sized(Index key, std::size_t bytes, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    KeyMemory& memory = key_memories_[key];
    memory.estimate = bytes;
    key_memories_.enter(key, MemoryPhase::sized);
    refuse_key(key, step);
    refresh(key);
    decide(step);
    collect_later(key);
}

inline void SlotScheduler::size_failed(Index key, errc code, SharedText message, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    ++counters_.load_failures;
    KeyMemory& memory = key_memories_[key];
    key_memories_.enter(key, MemoryPhase::refused);
    // That it is the backend's own word stands in its message: the ledger has refused nothing.
    memory.refusal = code == errc::insufficient_memory ? errc::load_failed : code;
    note_failure(key, code, std::move(message), now);
    publish(EventType::load_failed, Reason::requested, none, Duration::zero(), step).key = key;
    refuse_key(key, step);
    decide(step);
    collect_later(key);
}

// -- What the budget says ---------------------------------------------------------------------------------------------

// The budget is asked for the memory of a key: its place is in view, or has to wait for that.
inline void SlotScheduler::ask_for_memory(Index key) {
    KeyMemory& memory = key_memories_[key];
    key_memories_.enter(key, MemoryPhase::asking);
    memory.asked = memory.need();
    say(MemoryRequest::Type::reserve, key, {}, memory.asked, std::exchange(memory.clears, false));
    refresh(key);
}

// An answer of the budget's:
//
//  1. It is about a resident, which is gone: nothing happens.
//  2. The resident is to go.
//  3. It need not any more: if that is why it drains, it returns.
//  4. It is about memory that the key gave back, or does not wait for: nothing happens.
//  5. There is not so much, but the key needs less by now: it asks anew, unless the limit is too low for that, too.
//  6. The memory can never be there: the key's waiters fail.
//  7. It is reserved, and the key may have a place; or it is lacking, the key waits for it, and another may have the
//     place.
//  8. Nothing waits for the key any more: what it has, or waits for, is given back.
//  9. The limit has become too low for it meanwhile: the same, and its waiters fail.
inline void SlotScheduler::memory_answered(Index key, MemoryId id, MemoryVerdict verdict, Time now, Actions& actions) {
    begin_call();
    Step step{now, actions};
    if (verdict == MemoryVerdict::evict || verdict == MemoryVerdict::keep) {
        const Index resident = queue_.keys().used(key) ? queue_.keys()[key].resident : none;
        if (resident == none || residents_[resident].memory != id) {  // 1.
            return;
        }
        if (verdict == MemoryVerdict::evict) {  // 2.
            evict_for_memory(resident, step);
        } else if (residents_[resident].may_return() && residents_[resident].for_memory) {  // 3.
            end_drain(resident, step);
        }
        decide(step);
        return;
    }
    if (key >= key_memories_.size()) {  // 4.
        return;
    }
    KeyMemory& memory = key_memories_[key];
    if (id.valid() && id == memory.given_back) {  // 4.
        return;
    }
    if (memory.phase == MemoryPhase::asking) {
        memory.id = id;
    } else if (memory.phase != MemoryPhase::lacking || memory.id != id) {  // 4.
        return;
    }
    if (memory.asked > memory.need() && verdict != MemoryVerdict::reserved) {  // 5.
        if (verdict == MemoryVerdict::lacking) {
            drop_memory(key);
        }
        memory.id = {};
        key_memories_.enter(key, MemoryPhase::sized);
        refuse_key(key, step);
        refresh(key);
    } else if (verdict == MemoryVerdict::impossible) {  // 6.
        memory.id = {};
        key_memories_.enter(key, MemoryPhase::refused);
        memory.refusal = errc::insufficient_memory;
        refuse_key(key, step);
    } else {  // 7.
        key_memories_.enter(key, verdict == MemoryVerdict::reserved ? MemoryPhase::held : MemoryPhase::lacking);
        if (queue_.keys()[key].waiting == 0 || memory.holds_more_than(memory_limit_)) {  // 8., 9.
            drop_memory(key);
        }
        refuse_key(key, step);  // 9.
        refresh(key);
    }
    decide(step);
    collect_later(key);
}

// The key, which has no resident, is to have no memory any more.
inline void SlotScheduler::drop_memory(Index key) noexcept {
    KeyMemory& memory = key_memories_[key];
    if (memory.id.valid()) {
        memory.given_back = std::exchange(memory.id, {});
        say(MemoryRequest::Type::give_back, key, memory.given_back, 0);
        key_memories_.enter(key, MemoryPhase::sized);
    }
}

// Fails the waiters of a key that needs more than the limit, or is refused:
//
//  1. The key has a resident, or needs no more than the limit: nothing happens.
//  2. Its claim goes.
//  3. Its waiters fail, the oldest first. Those that are too many for one step are left to the next tick.
//  4. What it was refused for is over: the next request has it looked at again.
inline void SlotScheduler::refuse_key(Index key, Step& step) {
    KeyMemory& memory = key_memories_[key];
    if (!queue_.keys().used(key) || queue_.keys()[key].resident != none ||
        (memory.phase != MemoryPhase::refused && !is_too_large(key))) {  // 1.
        return;
    }
    if (queue_.keys()[key].claim != none) {  // 2.
        queue_.drop_claim(key);
    }
    const errc code = memory.phase == MemoryPhase::refused ? memory.refusal : errc::insufficient_memory;
    const bool lacks_memory = code == errc::insufficient_memory;
    const Duration retry_after = lacks_memory
                                     ? Duration(static_cast<Duration::rep>(memory.need()))
                                     : (std::max)(Duration::zero(), later(queue_.keys().cooling_until(key), -step.now));
    for (Index next = queue_.oldest(key); next != none; next = queue_.oldest(key)) {  // 3.
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
    if (memory.phase == MemoryPhase::refused) {  // 4.
        key_memories_.enter(key, lacks_memory ? MemoryPhase::sized : MemoryPhase::unsized);
    }
    note_left(key, step);
}

// The same for all keys that have not been looked at since the limit was set.
inline void SlotScheduler::refuse_keys(Step& step) {
    while (refusing_ < key_memories_.size()) {
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
    for (std::size_t key = 0; key < key_memories_.size(); ++key) {
        KeyMemory& memory = key_memories_[key];
        const bool needs_less = std::exchange(memory.used, 0) > memory.estimate;
        if (memory.holds_more_than(memory_limit_)) {
            drop_memory(static_cast<Index>(key));
            refresh(static_cast<Index>(key));
        }
        // One that asks hears what it is given first.
        if (needs_less && memory.phase == MemoryPhase::lacking) {
            drop_memory(static_cast<Index>(key));
            refresh(static_cast<Index>(key));
        }
    }
    refusing_ = 0;
    refuse_keys(step);
    decide(step);
}

// -- What the budget hears --------------------------------------------------------------------------------------------

// Where the key stands among those of all slots.
inline MemoryRank SlotScheduler::memory_rank(Index key) const noexcept {
    const Index best = queue_.best(key);
    if (best == none) {
        return {};
    }
    const RequestSpec& spec = queue_.requests()[best].spec;
    return {static_cast<unsigned>(spec.priority), spec.since};
}

inline void SlotScheduler::say(MemoryRequest::Type type, Index key, MemoryId id, std::size_t bytes, bool clears) {
    MemoryRequest request;
    request.type = type;
    request.key = key;
    request.id = id;
    request.bytes = bytes;
    request.clears = clears;
    if (type == MemoryRequest::Type::reserve || type == MemoryRequest::Type::move) {
        request.rank = memory_rank(key);
        const Index oldest = queue_.oldest(key);
        request.aged_at = oldest == none ? never : later(queue_.requests()[oldest].spec.since, aging_);
    }
    memory_requests_.push(request);
}

}  // namespace residency::core
