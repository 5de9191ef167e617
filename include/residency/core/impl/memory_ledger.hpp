#pragma once

#include "residency/core/memory_ledger.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

// MemoryLedger: messages first, then `settle` and its parts.

namespace residency::core {

// -- Messages ---------------------------------------------------------------------------------------------------------

inline MemoryId MemoryLedger::reserve(MemoryOwner owner, std::size_t bytes, const MemoryRank& rank, Time aged_at,
                                      bool clears) {
    for (std::vector<Index>* const list : {&order_, &holders_}) {
        if (list->capacity() <= entries_.size()) {
            list->reserve((std::max)(std::size_t{16}, 2 * entries_.size()));
        }
    }
    fresh_.reserve(fresh_.size() + 1);
    Entry entry;
    entry.owner = owner;
    entry.bytes = bytes;
    entry.rank = rank;
    entry.aged_at = aged_at;
    entry.clears = entry.follows = clears;
    entry.arrival = arrivals_;
    const MemoryId id = entries_.insert(entry);
    ++arrivals_;
    insert_in_order(id.index);
    fresh_.push_back(id);
    return id;
}

inline void MemoryLedger::move(MemoryId id, const MemoryRank& rank, Time aged_at) noexcept {
    if (!entries_.contains(id) || is_reserved(id)) {
        return;
    }
    erase_from_order(id.index);
    entries_[id.index].rank = rank;
    entries_[id.index].aged_at = aged_at;
    insert_in_order(id.index);
}

inline void MemoryLedger::use(MemoryId id, std::size_t bytes) noexcept {
    if (is_reserved(id)) {
        entries_[id.index].bytes = bytes;
        count();
    }
}

inline void MemoryLedger::give_back(MemoryId id) noexcept {
    if (!entries_.contains(id)) {
        return;
    }
    if (const Index place = entries_[id.index].holder; place != none) {
        holders_[place] = holders_.back();
        entries_[holders_[place]].holder = place;
        holders_.pop_back();
        count();
    } else {
        erase_from_order(id.index);
    }
    entries_.erase(id.index);
}

inline void MemoryLedger::give_back_all(Index slot) noexcept {
    for (Index index = 0; index < entries_.end_index(); ++index) {
        if (entries_.used(index) && entries_[index].owner.slot == slot) {
            give_back(entries_.handle(index));
        }
    }
}

inline void MemoryLedger::hold(Index index) noexcept {
    erase_from_order(index);
    entries_[index].holder = static_cast<Index>(holders_.size());
    holders_.push_back(index);
    count();
}

// A sum that is too large for a number could not be taken apart again: it is made anew.
inline void MemoryLedger::count() noexcept {
    reserved_ = 0;
    for (const Index each : holders_) {
        reserved_ = add_bytes(reserved_, entries_[each].bytes);
    }
}

inline bool MemoryLedger::ranks_before(Index one, Index other) const noexcept {
    const Entry& left = entries_[one];
    const Entry& right = entries_[other];
    return left.rank == right.rank ? left.arrival < right.arrival : left.rank < right.rank;
}

// There is room for it.
inline void MemoryLedger::insert_in_order(Index index) noexcept {
    const auto before = [this](Index one, Index other) { return ranks_before(one, other); };
    order_.insert(std::lower_bound(order_.begin(), order_.end(), index, before), index);
}

inline void MemoryLedger::erase_from_order(Index index) noexcept {
    const auto before = [this](Index one, Index other) { return ranks_before(one, other); };
    order_.erase(std::lower_bound(order_.begin(), order_.end(), index, before));
}

// -- Settling ---------------------------------------------------------------------------------------------------------

// A key that waits can be served at once if it is the only one, and fits. What drains because memory lacked is kept
// once it does no more.
inline bool MemoryLedger::lacks() const noexcept {
    const bool is_simple = order_.empty() || (order_.size() == 1 && fits(entries_[order_.front()].bytes) &&
                                              !entries_[order_.front()].follows);
    return !is_simple || reserved_ > limit_ || trim_ != 0 || lacked_;
}

// Gives out what is free, then makes room:
//
//  1. Idle residents go that are more than the limit, or that the host has no use for; all of them for a key whose load
//     ran out of memory.
//  2. Keys are served or refused, one after the other, as long as there is one.
//  3. The turn is by rank, but the first key in it cannot have what it needs: what is in use for others that rank before
//     it leaves too little. An aged key that can takes the turn: else it could wait for ever (R15).
//  4. Residents make room for the first key that could be served if all went that can.
//  5. Residents that drain, and need not any more, are kept.
inline void MemoryLedger::settle(Time now, const std::vector<MemoryUse>& uses, MemoryAnswers& answers) {
    for (const MemoryUse& each : uses) {
        if (is_reserved(each.id)) {
            entries_[each.id.index].seen = each;
        }
    }
    // 1.
    const std::size_t over = subtract_bytes(subtract_bytes(reserved_, limit_), sums().leaving);
    evict(MemoryHold::idle, (std::max)(over, std::exchange(trim_, 0)), none, now, answers);
    for (const MemoryId each : fresh_) {
        if (entries_.contains(each) && std::exchange(entries_[each.index].clears, false)) {
            evict(MemoryHold::idle, (std::numeric_limits<std::size_t>::max)(), none, now, answers);
        }
    }
    Index leader = none;
    while (serve_one(now, leader, answers)) {}                           // 2.
    if (leader != none && is_stuck(leader) && gives_turn_to_age(now)) {  // 3.
        while (serve_one(now, leader, answers)) {}
    }
    if (leader != none) {  // 4.
        make_room(leader, now, answers);
    }
    note_changes(now);
    for (const MemoryId each : fresh_) {
        if (entries_.contains(each) && !is_reserved(each)) {
            answer(MemoryVerdict::lacking, each.index, answers);
        }
    }
    fresh_.clear();
    for (const Index each : holders_) {
        Entry& entry = entries_[each];
        if (!std::exchange(entry.may_drain, false) && entry.seen.hold == MemoryHold::draining) {  // 5.
            answer(MemoryVerdict::keep, each, answers);
        }
        entry.seen = {};
    }
    lacked_ = !order_.empty() || reserved_ > limit_;
}

// Serves or refuses one key, or gives false. `leader` becomes the first key that waits for others to make room.
//
//  1. It needs more than the limit, or than pinned residents leave of it: impossible (H35).
//  2. There is enough, beside what is kept for the leader: it is served; one whose load ran out of memory only once
//     nothing leaves any more (H37). It is the leader's turn that is by rank or by age, and that lasts until it is
//     served: were a key that needs less to end it, the oldest key and one that ranks before it could evict each other
//     for ever while their slots have no lease free.
//  3. There would be enough if all went that can, and no key before it is the leader: it is the leader.
//  4. Else it is passed by.
inline bool MemoryLedger::serve_one(Time now, Index& leader, MemoryAnswers& answers) {
    leader = none;
    const Sums all = sums();
    const Index oldest = aged(now);
    const Index first = by_age_ ? oldest : none;
    std::size_t looked_at = 0;
    for (std::size_t place = first == none ? 1 : 0; place <= order_.size() && looked_at < most_passed_by; ++place) {
        // The one that goes by age comes before all, and once.
        const Index index = place == 0 ? first : order_[place - 1];
        if (place != 0 && index == first) {
            continue;
        }
        ++looked_at;
        const std::size_t bytes = entries_[index].bytes;
        if (!fits_beside(all.pinned, bytes, limit_)) {  // 1.
            answer(MemoryVerdict::impossible, index, answers);
            erase_from_order(index);
            entries_.erase(index);
            return true;
        }
        const std::size_t kept = leader == none ? 0 : subtract_bytes(entries_[leader].bytes, all.leaving);
        const bool may_go = !entries_[index].follows || all.leaving == 0;
        if (may_go && fits_beside(add_bytes(kept, reserved_), bytes, limit_)) {  // 2.
            if (leader == none) {
                by_age_ = !by_age_ || index != oldest;
            }
            hold(index);
            answer(MemoryVerdict::reserved, index, answers);
            return true;
        }
        if (leader == none && fits_beside(add_bytes(all.pinned, all.held), bytes, limit_)) {  // 3., 4.
            leader = index;
        }
    }
    return false;
}

// Whether the key cannot be served by rank, whatever loads, leases and stays end: what is pinned, has bare leases, or is
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

// Has the next reservation go by age although the last one did, if the oldest key is aged and can be served so.
inline bool MemoryLedger::gives_turn_to_age(Time now) noexcept {
    const Index oldest = aged(now);
    if (by_age_ || oldest == none) {
        return false;
    }
    const Sums all = sums();
    by_age_ = true;  // Who yields depends on it.
    by_age_ = fits_beside(add_bytes(all.pinned, all.held), entries_[oldest].bytes, limit_) &&
              room_for(oldest, now).suffices();
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
    for (Index index = 0; index < entries_.end_index(); ++index) {
        draining =
            entries_.used(index) && entries_[index].may_drain ? add_bytes(draining, entries_[index].bytes) : draining;
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

// The key of each priority that waits for the longest time, or none.
inline std::array<Index, 3> MemoryLedger::oldest() const noexcept {
    std::array<Index, 3> found{none, none, none};
    for (unsigned level = 0; level < found.size(); ++level) {
        const auto first = std::partition_point(order_.begin(), order_.end(),
                                                [&](Index each) { return entries_[each].rank.level < level; });
        if (first != order_.end() && entries_[*first].rank.level == level) {
            found[level] = *first;
        }
    }
    return found;
}

// The key that waits for the longest time, if it is aged; or none.
inline Index MemoryLedger::aged(Time now) const noexcept {
    Index first = none;
    for (const Index each : oldest()) {
        if (each != none && entries_[each].aged_at <= now &&
            (first == none || entries_[each].rank.since < entries_[first].rank.since)) {
            first = each;
        }
    }
    return first;
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

inline std::size_t MemoryLedger::sum_of(MemoryHold hold, Index to, Time now) const noexcept {
    std::size_t sum = 0;
    for (const Index each : holders_) {
        if (entries_[each].seen.hold == hold && yields(entries_[each], to, now)) {
            sum = add_bytes(sum, entries_[each].bytes);
        }
    }
    return sum;
}

// When a stay ends or a key comes of age, which may change the answer.
inline void MemoryLedger::note_changes(Time now) noexcept {
    next_look_ = never;
    const auto note = [&](Time at) { next_look_ = at > now ? (std::min)(next_look_, at) : next_look_; };
    for (const Index each : oldest()) {
        note(each == none ? never : entries_[each].aged_at);
    }
    for (const Index each : holders_) {
        note(order_.empty() ? never : entries_[each].seen.keeps_until);
    }
}

inline void MemoryLedger::answer(MemoryVerdict verdict, Index index, MemoryAnswers& answers) const {
    answers.push_back({verdict, entries_[index].owner, entries_.handle(index)});
}

}  // namespace residency::core
