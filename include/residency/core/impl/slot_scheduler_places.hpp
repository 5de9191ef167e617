#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its places: which key gets one, and which resident gives way to which key.

namespace residency::core {

// Places that come free without a switch.
struct SlotScheduler::Coming {
    // Of residents that unload, or whose load is not wanted any more.
    std::size_t soon = 0;
    // Of residents that drain for good: when their leases end.
    std::size_t drained = 0;
};

// A drain comes before the next lease on the same resident, and a lease may be what kept a resident from draining.
inline void SlotScheduler::decide(Step& step) {
    assign_places(step);
    grant_ready(step);
    assign_places(step);
    rate_.run(calls_.running() != 0 && queue_.texts() != 0, step.now);
    if (queue_.is_watched()) {
        look_again();
    }
}

// Gives free places to keys, and makes as many more come free as are wanted (H3, H6):
//
//  1. A place is free and a load may begin: the next key gets the place, once the memory budget has given it memory.
//  2. More places come than are wanted: the last drain that began ends.
//  3. A resident drains for a key that no longer ranks before its own waiters: that drain ends.
//  4. Too few places come without a switch, and a resident that is idle yields: the one that has been so the longest is
//     unloaded.
//  5. No more places are wanted than come: done.
//  6. A resident yields to the key that lacks a place: the least recently granted one drains.
//  7. The last place went by age, no place or load is under way, and no resident yields by rank: the next place goes by
//     age, too (R15).
//  8. No resident yields: done.
//
// With a memory budget no resident gives its place to a key whose memory could not be there (`may_give_place`), and one
// after the other does: which key the place is for has to be known.
//
// While places are lacking the alarm rings when a resident's stay ends, or another reason for which it does not yield
// (H32).
inline void SlotScheduler::assign_places(Step& step) {
    const auto& needs_place = queue_.standings().needs_place();
    while (!closed_ && residents_.size() + key_memories_.asking() < max_resident_ &&
           loads_ + key_memories_.asking() < options_.max_loads && !needs_place.empty()) {  // 1.
        const Index key = next_key(step.now);
        if (has_budget_ && key_memories_[key].phase != MemoryPhase::held) {
            ask_for_memory(key);
        } else {
            start_load(key, step);
        }
    }
    alarm_.yield_at(never);
    for (Index index = 0; !needs_place.empty() && index < residents_.end_index(); ++index) {
        if (residents_.used(index)) {
            residents_[index].settle(step.now);
        }
    }
    while (!needs_place.empty() || switching_ != 0) {
        const std::size_t loads =
            closed_ ? 0 : options_.max_loads - (std::min)(options_.max_loads, loads_ + key_memories_.asking());
        const std::size_t most = has_budget_ ? (std::min)(loads, std::size_t{1}) : loads;
        const std::size_t wanted = (std::min)(needs_place.size(), most);
        const Coming coming = places_coming();
        const std::size_t sure = coming.soon + coming.drained;
        const Index oldest = aged_key(step.now);
        const Index aged = place_by_age_ ? oldest : none;
        const Index returns = switching_ == 0 ? none : next_to_return(sure, aged, switching_ + sure > wanted, step.now);
        if (returns != none) {  // 2., 3.
            end_drain(returns, step);
            continue;
        }
        // A drain may take as long as a lease: no key waits for one while it can have the place of an idle resident.
        if (coming.soon < wanted) {
            if (const Index idle = longest_idle(coming.soon, aged, step.now); idle != none) {  // 4.
                if (may_give_place(idle, step)) {
                    evict(idle, step);
                } else if (asks_for_available_) {
                    return;
                }
                continue;
            }
            alarm_.yield_at(next_to_yield(step.now));
        }
        if (switching_ + sure >= wanted) {  // 5.
            return;
        }
        Index victim = first_to_drain(switching_ + sure, aged, step.now);                           // 6.
        if (victim == none && aged == none && oldest != none && switching_ + sure + loads_ == 0) {  // 7.
            victim = first_to_drain(0, oldest, step.now);
            place_by_age_ = victim != none;
        }
        if (victim == none) {  // 8.
            return;
        }
        if (may_give_place(victim, step)) {
            switch_from(victim, step);
        } else if (asks_for_available_) {
            return;
        }
    }
}

// The key of the oldest waiter that has no resident, if that waiter is older than `aging`; or none. A key that was
// evicted for another is left out while it ranks last.
inline Index SlotScheduler::aged_key(Time now) const noexcept {
    if (queue_.standings().needs_place_by_age().empty()) {
        return none;
    }
    const Index key = queue_.standings().needs_place_by_age().top();
    return is_aged(queue_.oldest(key), now) ? key : none;
}

// The key that gets the next place; precondition: one needs a place.
inline Index SlotScheduler::next_key(Time now) const noexcept {
    const Index aged = place_by_age_ ? aged_key(now) : none;
    return aged != none ? aged : queue_.standings().needs_place().top();
}

// Places that come free without a switch.
inline SlotScheduler::Coming SlotScheduler::places_coming() const noexcept {
    Coming coming;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index)) {
            continue;
        }
        const Resident& resident = residents_[index];
        const bool given_up =
            resident.failed || (resident.state == ResidentState::queued && !wanted(resident)) ||
            (resident.state == ResidentState::loading && resident.stop_requested && !wanted(resident));
        if (resident.state == ResidentState::unloading || given_up) {
            ++coming.soon;
        } else if (resident.state == ResidentState::draining && !resident.switches()) {
            ++coming.drained;
        }
    }
    return coming;
}

// The resident that has been idle for the longest time, of those that nothing waits for and that yield; or none.
inline Index SlotScheduler::longest_idle(std::size_t served, Index aged, Time now) const noexcept {
    Index longest = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && is_spare(residents_[index]) &&
            (longest == none || residents_[index].idle_before(residents_[longest])) &&
            yields(residents_[index], served, aged, now)) {
            longest = index;
        }
    }
    return longest;
}

// When a resident next yields of itself that does not now, at the earliest: its stay ends, it has been idle for long
// enough, what ran on it counts no more, or a waiter comes of age: the oldest without a resident, against which that
// never counts, or that of a key whose last load failed, which counts from then on. `never` if time alone changes
// nothing.
inline Time SlotScheduler::next_to_yield(Time now) const noexcept {
    Time next = never;
    bool may_serve = false;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].state == ResidentState::ready) {
            const Resident& resident = residents_[index];
            next = (std::min)(next, resident.next_change(queue_.keys()[resident.key].waiting != 0, now));
            may_serve = may_serve || resident.served(now) != Priority::low;
        }
    }
    const auto comes_of_age = [&](Index key) {
        const Time aged = later(queue_.requests()[queue_.oldest(key)].spec.since, aging_);
        next = aged > now ? (std::min)(next, aged) : next;
    };
    if (may_serve && !queue_.standings().needs_place_by_age().empty()) {
        comes_of_age(queue_.standings().needs_place_by_age().top());
    }
    for (const Failure& failure : queue_.keys().failures()) {
        if (queue_.standings().needs_place().contains(failure.key)) {
            comes_of_age(failure.key);
        }
    }
    return next;
}

// Whether a ready resident gives its place to the key that lacks one while the first `served` keys have one coming.
// `aged` is the key that gets the next place because of its age, or none.
//
//  1. It keeps its place for its stay, unless it has been idle for a tenth of that (H32): no.
//  2. For `aged`: if the resident has no waiter, or only younger ones and was used since its load. Were it evicted
//     unused, it could be loaded and evicted for ever while no lease is free.
//  3. Else, if more keys than are served rank before the waiters of the resident, among which what it serves counts as
//     the last of its priority (H32). A key whose last load failed does not count before its waiter is older than
//     `aging`, unless the resident is idle.
inline bool SlotScheduler::yields(const Resident& resident, std::size_t served, Index aged, Time now) const noexcept {
    const auto& needs_place = queue_.standings().needs_place();
    const bool has_waiter = queue_.keys()[resident.key].waiting != 0;
    if (resident.state == ResidentState::ready && resident.keeps_place(has_waiter, now)) {  // 1.
        return false;
    }
    if (aged != none && served-- == 0) {  // 2.
        const auto arrival = [&](Index key) { return queue_.requests()[queue_.oldest(key)].arrival; };
        return !has_waiter || (!resident.unused() && arrival(aged) < arrival(resident.key));
    }
    const Priority serves = resident.served(now);  // 3.
    const Rank served_rank = serves == Priority::low ? Rank{} : Rank::of(static_cast<unsigned>(serves) + 1, 0);
    const Rank rank = (std::min)(queue_.rank(resident.key), served_rank);
    // Of the keys that rank before, these do not count.
    std::size_t others = aged != none && needs_place.rank(aged) < rank ? 1 : 0;
    for (const Failure& failure : queue_.keys().failures()) {
        others += !is_spare(resident) && needs_place.contains(failure.key) && needs_place.rank(failure.key) < rank &&
                          !is_aged(queue_.oldest(failure.key), now)
                      ? 1U
                      : 0U;
    }
    return needs_place.count_before(rank, served + others + 1) > served + others;
}

// The least recently granted resident that yields, or none.
inline Index SlotScheduler::first_to_drain(std::size_t served, Index aged, Time now) const noexcept {
    Index first = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].state == ResidentState::ready &&
            (first == none || residents_[index].used_before(residents_[first])) &&
            yields(residents_[index], served, aged, now)) {
            first = index;
        }
    }
    return first;
}

// The drain for a switch that ends, or none: the last that began,
//
//  1. of all, if there is a surplus;
//  2. else of those that no longer yield. Drains serve keys in the order in which they began, after the places that
//     come without a switch.
inline Index SlotScheduler::next_to_return(std::size_t sure, Index aged, bool surplus, Time now) const noexcept {
    Index last = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index) || !residents_[index].switches() ||
            (last != none && residents_[index].drained < residents_[last].drained)) {
            continue;
        }
        bool returns = surplus;  // 1.
        const bool serves = residents_[index].served(now) != Priority::low;
        if (!surplus && (serves || queue_.keys()[residents_[index].key].waiting != 0)) {  // 2.
            std::size_t served = sure;
            for (Index other = 0; other < residents_.end_index(); ++other) {
                served += residents_.used(other) && residents_[other].switches() &&
                                  residents_[other].drained < residents_[index].drained
                              ? 1U
                              : 0U;
            }
            returns = !yields(residents_[index], served, aged, now);
        }
        if (returns) {
            last = index;
        }
    }
    return last;
}

// Begins to give the victim's place to a key that lacks one.
inline void SlotScheduler::switch_from(Index victim, Step& step) {
    Resident& resident = residents_[victim];
    if (resident.leases == 0) {
        evict(victim, step);
        return;
    }
    resident.state = ResidentState::draining;
    resident.reason = Reason::switched;
    resident.drained = ++drains_;
    ++switching_;
    refresh(resident.key);
    publish(EventType::drain_started, Reason::switched, victim, Duration::zero(), step);
}

// Unloads the victim for the key that gets the next place. The victim's key ranks last until that key's load has ended
// or its waiters have left: else the two could take the place from each other for ever (H6).
inline void SlotScheduler::evict(Index victim, Step& step) {
    const Index key = residents_[victim].key;
    if (!queue_.standings().needs_place().empty()) {
        const Index other = next_key(step.now);
        forgive(other);
        queue_.keys()[other].evicted = key;
        queue_.keys()[key].ranks_last = true;
    }
    start_unload(victim, Reason::switched, step);
}

// The key that was evicted for this one ranks as any other.
inline void SlotScheduler::forgive(Index key) noexcept {
    const Index evicted = std::exchange(queue_.keys()[key].evicted, none);
    if (evicted != none && queue_.keys().used(evicted) && queue_.keys()[evicted].ranks_last) {
        queue_.keys()[evicted].ranks_last = false;
        refresh(evicted);
        collect_later(evicted);
    }
}

inline void SlotScheduler::end_drain(Index index, Step& step) {
    Resident& resident = residents_[index];
    switching_ -= resident.switches() ? 1U : 0U;
    resident.state = ResidentState::ready;
    resident.reason = Reason::none;
    resident.for_memory = false;
    publish(EventType::drain_ended, Reason::none, index, Duration::zero(), step);
    refresh(resident.key);
    complete_ensures(resident.key, step);
    grant_ready(step);
}

}  // namespace residency::core
