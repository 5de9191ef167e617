#pragma once

#include "residency/core/request.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/standings.hpp"
#include "residency/options.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace residency::core {

/// What a waiter waits for.
enum class WaitsFor : std::uint8_t {
    /// A lease, for all of it.
    lease,
    /// A load alone.
    load,
    /// A lease for its next part: it is cut.
    part,
};

/// The requests, by index.
using Requests = Slab<Request, RequestTag>;

/// Where a waiter stands among all; last of all if it is none.
[[nodiscard]] inline Rank rank_of(const Requests& requests, Index request) noexcept {
    if (request == none) {
        return {};
    }
    return Rank::of(static_cast<unsigned>(requests[request].spec.priority), requests[request].arrival);
}
/// The one that came first; either may be none.
[[nodiscard]] inline Index older_of(const Requests& requests, Index left, Index right) noexcept {
    if (left == none || right == none) {
        return left == none ? right : left;
    }
    return requests[right].arrival < requests[left].arrival ? right : left;
}

/// The waiters of one key: a list for each thing that they wait for and each priority, first in, first out; and beside
/// that those that expect a generation, the latest first.
///
/// Intrusive: the links are members of the requests, and the `previous` of a list's first is its last. No call
/// allocates; each takes the same time however many wait. A plain value.
class WaiterLists {
public:
    /// Adds the request behind all others of its priority.
    void append(Requests& requests, Index index, WaitsFor what) noexcept {
        Request& request = requests[index];
        Index& first = first_[place(what, request.spec.priority)];
        if (first == none) {
            first = request.previous = index;
        } else {
            request.previous = std::exchange(requests[first].previous, index);
            requests[request.previous].next = index;
        }
    }
    /// Takes it out; precondition: it was appended to wait for this.
    void remove(Requests& requests, Index index, WaitsFor what) noexcept {
        Request& request = requests[index];
        Index& first = first_[place(what, request.spec.priority)];
        if (request.next != none) {
            requests[request.next].previous = request.previous;
        } else if (first != index) {
            requests[first].previous = request.previous;
        }
        (first == index ? first : requests[request.previous].next) = request.next;
        request.previous = request.next = none;
    }
    /// Adds a request that expects a generation.
    void expect(Requests& requests, Index index) noexcept {
        requests[index].older_expecting = std::exchange(expecting_, index);
        if (requests[index].older_expecting != none) {
            requests[requests[index].older_expecting].newer_expecting = index;
        }
    }
    /// Takes out one that was added so.
    void stop_expecting(Requests& requests, Index index) noexcept {
        Request& request = requests[index];
        (request.newer_expecting == none ? expecting_ : requests[request.newer_expecting].older_expecting) =
            request.older_expecting;
        if (request.older_expecting != none) {
            requests[request.older_expecting].newer_expecting = request.newer_expecting;
        }
        request.older_expecting = request.newer_expecting = none;
    }

    /// The first of this priority that waits for this, or none; its `next` is the one behind it.
    [[nodiscard]] Index first(WaitsFor what, Priority priority) const noexcept { return first_[place(what, priority)]; }
    /// The first of the highest priority of which one waits for this, or none.
    [[nodiscard]] Index first(WaitsFor what) const noexcept {
        const std::size_t high = place(what, Priority::high);
        return first_[high] != none ? first_[high] : first_[high + 1] != none ? first_[high + 1] : first_[high + 2];
    }
    /// The latest of those that expect a generation, or none; its `older_expecting` is the one before it.
    [[nodiscard]] Index expecting() const noexcept { return expecting_; }
    /// The one that came first of all, or none.
    [[nodiscard]] Index oldest(const Requests& requests) const noexcept {
        Index oldest = none;
        for (const Index first : first_) {
            oldest = older_of(requests, oldest, first);
        }
        return oldest;
    }
    /// The one that ranks first of all, or none.
    [[nodiscard]] Index best(const Requests& requests) const noexcept {
        Index best = first(WaitsFor::lease);
        for (const Index other : {first(WaitsFor::load), first(WaitsFor::part)}) {
            best = rank_of(requests, other) < rank_of(requests, best) ? other : best;
        }
        return best;
    }
    /// Where that one stands among all; last of all if there is none.
    [[nodiscard]] Rank rank(const Requests& requests) const noexcept {
        return (std::min)({rank_of(requests, first(WaitsFor::lease)), rank_of(requests, first(WaitsFor::load)),
                           rank_of(requests, first(WaitsFor::part))});
    }

    /// Same in every part.
    friend bool operator==(const WaiterLists&, const WaiterLists&) = default;

private:
    [[nodiscard]] static std::size_t place(WaitsFor what, Priority priority) noexcept {
        return 3 * static_cast<std::size_t>(what) + static_cast<std::size_t>(priority);
    }

    // By what they wait for, then by priority.
    std::array<Index, 9> first_{none, none, none, none, none, none, none, none, none};
    Index expecting_ = none;
};

}  // namespace residency::core
