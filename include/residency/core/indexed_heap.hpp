#pragma once

#include "residency/core/slab.hpp"

#include <cstddef>
#include <vector>

namespace residency::core {

/// A priority queue of small integers, each with a rank, of which any may be taken out or ranked anew: the least rank is on top.
///
/// A 4-ary heap that knows where each of its members stands. Adding members in the order of their ranks, which is what deadlines
/// of equal length and arrivals do, takes constant time; everything else takes time in the logarithm of its size, four ranks to a
/// cache line. Equal ranks come in no particular order: give distinct ranks where it matters. A plain value.
template <class Rank>
class IndexedHeap {
public:
    /// Makes room for members 0 to `count` - 1, so that `push` of those never allocates.
    void reserve(std::size_t count) {
        if (positions_.size() < count) {
            const std::size_t room = count < positions_.size() * 2 ? positions_.size() * 2 : count;
            entries_.reserve(room);
            positions_.resize(room, none);
        }
    }

    /// Adds `member`; precondition: it is not in yet, and `reserve` has made room for it.
    void push(Index member, Rank rank) noexcept {
        entries_.push_back({rank, member});
        sift_up(entries_.size() - 1);
    }

    /// Takes `member` out, if it is in.
    void erase(Index member) noexcept {
        if (!contains(member)) {
            return;
        }
        const std::size_t hole = positions_[member];
        positions_[member] = none;
        const Entry last = entries_.back();
        entries_.pop_back();
        if (hole == entries_.size()) {
            return;
        }
        entries_[hole] = last;
        positions_[last.member] = static_cast<Index>(hole);
        sift_down(hole);
        sift_up(positions_[last.member]);
    }

    /// Gives `member` a new rank, adding it if it is not in.
    void update(Index member, Rank rank) noexcept {
        erase(member);
        push(member, rank);
    }

    /// Whether `member` is in.
    [[nodiscard]] bool contains(Index member) const noexcept {
        return member < positions_.size() && positions_[member] != none;
    }
    /// Whether there is no member.
    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
    /// How many members there are.
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    /// The member with the least rank; precondition: not empty.
    [[nodiscard]] Index top() const noexcept { return entries_.front().member; }
    /// The least rank; precondition: not empty.
    [[nodiscard]] const Rank& top_rank() const noexcept { return entries_.front().rank; }
    /// The rank of `member`; precondition: it is in.
    [[nodiscard]] const Rank& rank(Index member) const noexcept { return entries_[positions_[member]].rank; }

    /// How many members rank before `rank`, but no more than `most`. Takes time in `most`, not in the size.
    [[nodiscard]] std::size_t count_before(const Rank& rank, std::size_t most) const noexcept {
        return count_before(rank, most, 0);
    }

    /// Same members with the same ranks in the same places.
    friend bool operator==(const IndexedHeap&, const IndexedHeap&) = default;

private:
    static constexpr std::size_t arity = 4;

    struct Entry {
        Rank rank;
        Index member;
        friend bool operator==(const Entry&, const Entry&) = default;
    };

    // Of the member at `position` and those below it. Below one that does not rank before, none does.
    [[nodiscard]] std::size_t count_before(const Rank& rank, std::size_t most, std::size_t position) const noexcept {
        if (most == 0 || position >= entries_.size() || !(entries_[position].rank < rank)) {
            return 0;
        }
        std::size_t count = 1;
        for (std::size_t child = position * arity + 1; child <= position * arity + arity; ++child) {
            count += count_before(rank, most - count, child);
        }
        return count;
    }

    void place(std::size_t position, Entry entry) noexcept {
        positions_[entry.member] = static_cast<Index>(position);
        entries_[position] = entry;
    }

    void sift_up(std::size_t position) noexcept {
        const Entry moving = entries_[position];
        while (position > 0) {
            const std::size_t parent = (position - 1) / arity;
            if (!(moving.rank < entries_[parent].rank)) {
                break;
            }
            place(position, entries_[parent]);
            position = parent;
        }
        place(position, moving);
    }

    void sift_down(std::size_t position) noexcept {
        const Entry moving = entries_[position];
        for (;;) {
            const std::size_t first = position * arity + 1;
            if (first >= entries_.size()) {
                break;
            }
            const std::size_t end = first + arity < entries_.size() ? first + arity : entries_.size();
            std::size_t least = first;
            for (std::size_t child = first + 1; child < end; ++child) {
                if (entries_[child].rank < entries_[least].rank) {
                    least = child;
                }
            }
            if (!(entries_[least].rank < moving.rank)) {
                break;
            }
            place(position, entries_[least]);
            position = least;
        }
        place(position, moving);
    }

    std::vector<Entry> entries_;
    std::vector<Index> positions_;
};

}  // namespace residency::core
