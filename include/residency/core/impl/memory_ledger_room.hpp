#pragma once

#include "residency/core/memory_ledger.hpp"

#include <cstddef>
#include <vector>

// MemoryLedger, after impl/memory_ledger.hpp: which residents make room for a key that waits.

namespace residency::core {

// Whether the key cannot be served by rank, whatever loads, calls and stays end: what is pinned, has bare leases, or is
// in use for others that rank before it leaves too little.
inline bool MemoryLedger::is_stuck(Index leader) const noexcept {
    const Entry& key = entries_[leader];
    std::size_t stays = 0;
    for (const Index each : holders_) {
        const MemoryUse& seen = entries_[each].seen;
        const bool serves = seen.hold == MemoryHold::in_use || seen.hold == MemoryHold::draining;
        if (seen.hold == MemoryHold::pinned || seen.hold == MemoryHold::leased || (serves && !(key.rank < seen.rank))) {
            stays = add_bytes(stays, entries_[each].bytes);
        }
    }
    return !fits_beside(stays, key.bytes, limit_);
}

// Has the next reservation go by age although the last one did, if the leader's turn by rank brings it nothing, and the
// oldest key is aged and can be served so.
inline bool MemoryLedger::gives_turn_to_age(Index leader, Time now) noexcept {
    const Index oldest = by_age_ ? none : aged(now);
    if (oldest == none || !is_stuck(leader)) {
        return false;
    }
    by_age_ = true;  // Who yields depends on it.
    by_age_ = room_for(oldest, now).suffices();
    return by_age_;
}

inline MemoryLedger::Room MemoryLedger::room_for(Index key, Time now) const noexcept {
    const std::size_t need = entries_[key].bytes;
    const std::size_t room = add_bytes(limit_, sums().leaving);
    Room result;
    result.lacking = reserved_ <= room ? subtract_bytes(need, room - reserved_) : add_bytes(need, reserved_ - room);
    result.idle = sum_of(MemoryHold::idle, key, now);
    result.drained = sum_of(MemoryHold::draining, key, now);
    result.in_use = sum_of(MemoryHold::in_use, key, now);
    return result;
}

// Has residents make room for the leader:
//
//  1. What leaves already is enough, or what is idle beside it: as much as suffices goes, the longest idle first.
//  2. What drains already would be enough beside those: it goes on, as far as it is needed.
//  3. Residents in use that yield (H32) would be enough beside those: they drain, the least recently granted first.
//  4. Nothing would be enough: nothing goes.
inline void MemoryLedger::make_room(Index leader, Time now, MemoryAnswers& answers) {
    const Room room = room_for(leader, now);
    if (!room.suffices()) {  // 4.
        return;
    }
    const std::size_t to_drain = subtract_bytes(room.lacking, room.idle);
    evict(MemoryHold::draining, to_drain, leader, now, answers);                              // 2.
    evict(MemoryHold::in_use, subtract_bytes(to_drain, room.drained), leader, now, answers);  // 3.
    // What drains may be more than is needed of it.
    std::size_t draining = 0;
    for (const Index each : holders_) {
        draining = entries_[each].may_drain ? add_bytes(draining, entries_[each].bytes) : draining;
    }
    evict(MemoryHold::idle, subtract_bytes(room.lacking, draining), leader, now, answers);  // 1.
}

// Has those that hold memory in this way give back `bytes` bytes, as far as they yield to the key `to`, if it is not
// none; precondition: an index or none.
inline void MemoryLedger::evict(MemoryHold hold, std::size_t bytes, Index to, Time now, MemoryAnswers& answers) {
    while (bytes != 0) {
        const Index index = next_to_go(hold, to, now);
        if (index == none) {
            return;
        }
        Entry& entry = entries_[index];
        bytes = subtract_bytes(bytes, entry.bytes);
        if (hold == MemoryHold::idle) {
            entry.seen.hold = MemoryHold::leaving;
        } else {
            entry.may_drain = true;
        }
        if (hold != MemoryHold::draining) {
            answer(MemoryVerdict::evict, index, answers);
        }
    }
}

// Whether a resident gives its memory to a key that waits (H32): its stay is over, and it is idle, or the key ranks
// before what it serves; one that goes by age, if it came before that and the resident was used since its load. Were it
// evicted unused, the two could be loaded and evicted for ever while their slots have no lease free.
inline bool MemoryLedger::yields(const Entry& holder, Index to, Time now) const noexcept {
    if (to == none || holder.seen.hold == MemoryHold::idle) {
        return to == none || holder.seen.keeps_until <= now;
    }
    const Entry& key = entries_[to];
    const bool goes_by_age = by_age_ && key.aged_at <= now && key.rank.since < holder.seen.rank.since;
    return holder.seen.keeps_until <= now && (key.rank < holder.seen.rank || (goes_by_age && !holder.seen.unused));
}

// Of those that hold memory in this way and yield, the one that was used the longest time ago; or none.
inline Index MemoryLedger::next_to_go(MemoryHold hold, Index to, Time now) const noexcept {
    Index first = none;
    const auto used_before = [this](Index one, Index other) {
        const MemoryUse& left = entries_[one].seen;
        const MemoryUse& right = entries_[other].seen;
        return left.idle_since == right.idle_since ? left.granted < right.granted : left.idle_since < right.idle_since;
    };
    for (const Index each : holders_) {
        const Entry& entry = entries_[each];
        if (entry.seen.hold == hold && !entry.may_drain && yields(entry, to, now) &&
            (first == none || used_before(each, first))) {
            first = each;
        }
    }
    return first;
}

inline std::size_t MemoryLedger::available(Index slot, const std::vector<MemoryUse>& uses) const noexcept {
    std::size_t available = limit_;
    for (const MemoryUse& use : uses) {
        const bool stays = use.hold == MemoryHold::pinned || use.hold == MemoryHold::leased;
        if (stays && entries_.contains(use.id) && entries_[use.id.index].owner.slot != slot) {
            available = subtract_bytes(available, entries_[use.id.index].bytes);
        }
    }
    return available;
}

inline std::size_t MemoryLedger::sum_of(MemoryHold hold, Index to, Time now) const noexcept {
    std::size_t sum = 0;
    for (const Index each : holders_) {
        if (entries_[each].seen.hold == hold && yields(entries_[each], to, now)) {
            sum = add_bytes(sum, entries_[each].bytes);
        }
    }
    return sum;
}

inline MemoryLedger::Sums MemoryLedger::sums() const noexcept {
    Sums all;
    for (const Index each : holders_) {
        const std::size_t bytes = entries_[each].bytes;
        switch (entries_[each].seen.hold) {
            case MemoryHold::pinned: all.pinned = add_bytes(all.pinned, bytes); break;
            case MemoryHold::leased: all.held = add_bytes(all.held, bytes); break;
            case MemoryHold::leaving: all.leaving = add_bytes(all.leaving, bytes); break;
            default: break;
        }
    }
    return all;
}

}  // namespace residency::core
