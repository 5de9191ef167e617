#pragma once

#include "residency/core/indexed_heap.hpp"
#include "residency/core/slab.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace residency::core {

/// Where a waiter or a key stands among all: the least is served first. Priority first, then arrival; a plain number.
struct Rank {
    /// The level in the highest bits, the arrival in the others.
    std::uint64_t value = ~std::uint64_t{0};

    /// The rank of an arrival at a level; the last of all if nothing is given.
    static constexpr Rank of(unsigned level, std::uint64_t arrival) noexcept {
        return {(std::uint64_t{level} << 60U) | arrival};
    }
    /// By level, then by arrival.
    friend constexpr bool operator<(Rank left, Rank right) noexcept { return left.value < right.value; }
    /// Same level and arrival.
    friend constexpr bool operator==(Rank, Rank) = default;
};

/// The arrival of nothing: later than all.
inline constexpr std::uint64_t no_arrival = ~std::uint64_t{0};

/// Who is next: the residents whose keys can be granted a lease, and the keys that need a place, each by rank and by
/// age. Its members are indexes of residents and of key entries. A plain value.
class Standings {
public:
    /// Makes room for `count` residents. Throws bad_alloc; then nothing has changed.
    void reserve_residents(std::size_t count) {
        for (IndexedHeap<Rank>& heap : by_rank_) {
            heap.reserve(count);
        }
        by_age_.reserve(count);
    }
    /// Makes room for keys 0 to `count` - 1, of which at most `most` need a place at once. Throws bad_alloc.
    void reserve_keys(std::size_t count, std::size_t most) {
        needs_by_rank_.reserve(count, most);
        needs_by_age_.reserve(count, most);
    }
    /// Gives back what that many keys do not need.
    void trim_keys(std::size_t count, std::size_t most) noexcept {
        needs_by_rank_.trim(count, most);
        needs_by_age_.trim(count, most);
    }

    /// A resident's key can be granted a lease: the best of its waiters that want a bare lease, a call, a part, each
    /// the last rank of all if there is none; and the arrival of the oldest.
    void take_leases(Index resident, Rank bare, Rank call, Rank part, std::uint64_t oldest) noexcept {
        place(by_rank_[0], resident, bare, Rank{});
        place(by_rank_[1], resident, call, Rank{});
        place(by_rank_[2], resident, part, Rank{});
        place(by_age_, resident, oldest, no_arrival);
    }
    /// It cannot.
    void take_no_leases(Index resident) noexcept { take_leases(resident, {}, {}, {}, no_arrival); }
    /// The key needs a place. `oldest` is the arrival of its oldest waiter, or `no_arrival` if its age is not to count.
    void need_place(Index key, Rank rank, std::uint64_t oldest) noexcept {
        place(needs_by_rank_, key, rank, Rank{});
        place(needs_by_age_, key, oldest, no_arrival);
    }
    /// It needs none.
    void need_no_place(Index key) noexcept {
        needs_by_rank_.erase(key);
        needs_by_age_.erase(key);
    }

    /// The residents by the best waiter that is not cut: those where it is a model call, or those where it is not.
    [[nodiscard]] const IndexedHeap<Rank>& grantable(bool is_inference) const noexcept {
        return by_rank_[is_inference ? 1 : 0];
    }
    /// The residents by the waiter that is given the next part.
    [[nodiscard]] const IndexedHeap<Rank>& grantable_parts() const noexcept { return by_rank_[2]; }
    /// The residents by the oldest waiter for a lease that is not served already.
    [[nodiscard]] const IndexedHeap<std::uint64_t>& grantable_by_age() const noexcept { return by_age_; }
    /// The keys that need a place, by rank.
    [[nodiscard]] const IndexedHeap<Rank>& needs_place() const noexcept { return needs_by_rank_; }
    /// The same keys, but for those that rank last, by the oldest waiter.
    [[nodiscard]] const IndexedHeap<std::uint64_t>& needs_place_by_age() const noexcept { return needs_by_age_; }

    /// Same in every part.
    friend bool operator==(const Standings&, const Standings&) = default;

private:
    // Moves the member only if that is needed, and takes it out if its order is that of nothing.
    template <class Order>
    static void place(IndexedHeap<Order>& heap, Index member, Order order, Order nothing) noexcept {
        if (order == nothing) {
            heap.erase(member);
        } else if (!heap.contains(member) || heap.rank(member) != order) {
            heap.update(member, order);
        }
    }

    // Bare leases, calls, parts.
    std::array<IndexedHeap<Rank>, 3> by_rank_{};
    IndexedHeap<std::uint64_t> by_age_{};
    IndexedHeap<Rank> needs_by_rank_{};
    IndexedHeap<std::uint64_t> needs_by_age_{};
};

}  // namespace residency::core
