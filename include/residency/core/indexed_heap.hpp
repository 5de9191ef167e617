#pragma once

#include "residency/core/chunked_vector.hpp"
#include "residency/core/slab.hpp"

#include <cstddef>

namespace residency::core {

/// A priority queue of small integers, each with a rank, of which any may be taken out or ranked anew: the least rank
/// is on top.
///
/// A 4-ary heap that knows where each of its members stands. Adding members in the order of their ranks, which is what
/// deadlines of equal length and arrivals do, takes constant time; everything else takes time in the logarithm of its
/// size, four ranks to a cache line. Equal ranks come in no particular order: give distinct ranks where it matters.
/// Growth moves no member. A plain value.
template <class Rank>
class IndexedHeap {
public:
    /// Makes room for members 0 to `count` - 1, of which at most `most` are in at once: until `trim`, `push` of those
    /// never allocates. Throws bad_alloc; then the members are unchanged.
    void reserve(std::size_t count, std::size_t most) {
        ranks_.reserve(most);
        members_.reserve(most);
        positions_.reserve(count);
        while (positions_.size() < count) {
            positions_.push_back(none);
        }
    }
    /// The same if all of them may be in at once.
    void reserve(std::size_t count) { reserve(count, count); }

    /// Gives back memory that members 0 to `count` - 1, at most `most` of them at once, do not need; precondition: no
    /// other member is in. `push` of those still does not allocate if `reserve` had made room for them.
    void trim(std::size_t count, std::size_t most) noexcept {
        positions_.truncate(count);
        positions_.trim(count);
        ranks_.trim(most);
        members_.trim(most);
    }

    /// Adds `member`; precondition: it is not in yet, and `reserve` has made room for it. Allocates only in a copy.
    void push(Index member, Rank rank) noexcept {
        ranks_.push_back(rank);
        members_.push_back(member);
        sift_up(members_.size() - 1, rank, member);
    }

    /// Takes `member` out, if it is in.
    void erase(Index member) noexcept {
        if (!contains(member)) {
            return;
        }
        const std::size_t hole = positions_[member];
        positions_[member] = none;
        const std::size_t end = members_.size() - 1;
        const Rank rank = ranks_[end];
        const Index moving = members_[end];
        ranks_.pop_back();
        members_.pop_back();
        if (hole != end) {
            sift_up(sift_down(hole, rank), rank, moving);
        }
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
    [[nodiscard]] bool empty() const noexcept { return members_.empty(); }
    /// How many members there are.
    [[nodiscard]] std::size_t size() const noexcept { return members_.size(); }
    /// The member with the least rank; precondition: not empty.
    [[nodiscard]] Index top() const noexcept { return members_[0]; }
    /// The least rank; precondition: not empty.
    [[nodiscard]] const Rank& top_rank() const noexcept { return ranks_[0]; }
    /// The rank of `member`; precondition: it is in.
    [[nodiscard]] const Rank& rank(Index member) const noexcept { return ranks_[positions_[member]]; }

    /// How many members rank before `rank`, but no more than `most`. Takes time in `most`, not in the size.
    [[nodiscard]] std::size_t count_before(const Rank& rank, std::size_t most) const noexcept {
        return count_before(rank, most, 0);
    }

    /// Same members with the same ranks in the same places.
    friend bool operator==(const IndexedHeap&, const IndexedHeap&) = default;

private:
    static constexpr std::size_t arity = 4;

    // Of the member at `position` and those below it. Below one that does not rank before, none does.
    [[nodiscard]] std::size_t count_before(const Rank& rank, std::size_t most, std::size_t position) const noexcept {
        if (most == 0 || position >= ranks_.size() || !(ranks_[position] < rank)) {
            return 0;
        }
        std::size_t count = 1;
        for (std::size_t child = position * arity + 1; child <= position * arity + arity; ++child) {
            count += count_before(rank, most - count, child);
        }
        return count;
    }

    void place(std::size_t position, Rank rank, Index member) noexcept {
        ranks_[position] = rank;
        members_[position] = member;
        positions_[member] = static_cast<Index>(position);
    }

    // Moves down those above the free `position` that rank behind, and puts `member` in the place that becomes free.
    void sift_up(std::size_t position, Rank rank, Index member) noexcept {
        while (position > 0) {
            const std::size_t parent = (position - 1) / arity;
            if (!(rank < ranks_[parent])) {
                break;
            }
            place(position, ranks_[parent], members_[parent]);
            position = parent;
        }
        place(position, rank, member);
    }

    // Moves up those below the free `position` that rank before; returns the place that becomes free.
    [[nodiscard]] std::size_t sift_down(std::size_t position, Rank rank) noexcept {
        for (;;) {
            const std::size_t first = position * arity + 1;
            if (first >= ranks_.size()) {
                return position;
            }
            const std::size_t end = first + arity < ranks_.size() ? first + arity : ranks_.size();
            std::size_t least = first;
            for (std::size_t child = first + 1; child < end; ++child) {
                if (ranks_[child] < ranks_[least]) {
                    least = child;
                }
            }
            if (!(ranks_[least] < rank)) {
                return position;
            }
            place(position, ranks_[least], members_[least]);
            position = least;
        }
    }

    // By place, each beside the other: no space is lost between a rank and a member.
    ChunkedVector<Rank> ranks_{};
    ChunkedVector<Index> members_{};
    // By member: its place, or none.
    ChunkedVector<Index> positions_{};
};

}  // namespace residency::core
