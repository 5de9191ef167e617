#pragma once

#include "residency/core/memory_ledger.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

// MemoryLedger: messages first, then `settle`: who is served. What goes for it is in memory_ledger_room.hpp.

namespace residency::core {

// -- Messages ---------------------------------------------------------------------------------------------------------

inline MemoryId MemoryLedger::reserve(MemoryOwner owner, std::size_t bytes, const MemoryRank& rank, Time aged_at,
                                      bool clears) {
    const auto reserve_one = [](auto& list, std::size_t size) {
        if (list.capacity() <= size) {
            list.reserve((std::max)(std::size_t{16}, 2 * size));
        }
    };
    reserve_one(order_, entries_.size());
    reserve_one(holders_, entries_.size());
    reserve_one(fresh_, fresh_.size());
    ages_.reserve(std::size_t{entries_.end_index()} + 1);
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
    const Entry& entry = entries_[index];
    ages_.push(index, {entry.aged_at, entry.rank.since, entry.arrival});
}

inline void MemoryLedger::erase_from_order(Index index) noexcept {
    const auto before = [this](Index one, Index other) { return ranks_before(one, other); };
    order_.erase(std::lower_bound(order_.begin(), order_.end(), index, before));
    ages_.erase(index);
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
//  3. The turn is by rank, but the first key in it cannot have what it needs: what is in use for others that rank
//     before it leaves too little. An aged key that can takes the turn: else it could wait for ever (R15).
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
    while (serve_one(now, leader, answers)) {}               // 2.
    if (leader != none && gives_turn_to_age(leader, now)) {  // 3.
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

// Of the aged keys the one whose oldest waiter has been so for the longest time, or none. That is not always the key's
// best waiter, by which it ranks.
inline Index MemoryLedger::aged(Time now) const noexcept {
    return !ages_.empty() && ages_.top_rank().aged_at <= now ? ages_.top() : none;
}

// When a stay ends or a key comes of age, which may change the answer. Beside one that is aged others that come of age
// change nothing.
inline void MemoryLedger::note_changes(Time now) noexcept {
    next_look_ = never;
    const auto note = [&](Time at) { next_look_ = at > now ? (std::min)(next_look_, at) : next_look_; };
    note(ages_.empty() ? never : ages_.top_rank().aged_at);
    for (const Index each : holders_) {
        note(order_.empty() ? never : entries_[each].seen.keeps_until);
    }
}

inline void MemoryLedger::answer(MemoryVerdict verdict, Index index, MemoryAnswers& answers) const {
    answers.push_back({verdict, entries_[index].owner, entries_.handle(index)});
}

}  // namespace residency::core
