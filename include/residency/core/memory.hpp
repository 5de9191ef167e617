#pragma once

#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace residency::core {

/// Names bytes of a budget that a slot asked for, until it gives them back.
using MemoryId = Handle<struct MemoryTag>;

/// `one + other`, or the greatest number if that is too much: sizes may be anything.
[[nodiscard]] constexpr std::size_t add_bytes(std::size_t one, std::size_t other) noexcept {
    const std::size_t sum = one + other;
    return sum < one ? (std::numeric_limits<std::size_t>::max)() : sum;
}
/// `one - other`, or zero if that is negative.
[[nodiscard]] constexpr std::size_t subtract_bytes(std::size_t one, std::size_t other) noexcept {
    return one - (std::min)(one, other);
}
/// Whether `one + other` is at most `limit`.
[[nodiscard]] constexpr bool fits_beside(std::size_t one, std::size_t other, std::size_t limit) noexcept {
    return one <= limit && other <= limit - one;
}

/// Where a key stands among those of all slots of a budget: by priority, then by the time of its best waiter. The least
/// is served first.
struct MemoryRank {
    /// The priority as a number; one more than the last for what nothing waits for.
    unsigned level = 3;
    /// When the request came.
    Time since = never;

    /// By level, then by time.
    friend constexpr bool operator<(const MemoryRank& left, const MemoryRank& right) noexcept {
        return left.level == right.level ? left.since < right.since : left.level < right.level;
    }
    /// Same level and time.
    friend constexpr bool operator==(const MemoryRank&, const MemoryRank&) = default;
};

/// Who asks for memory: a slot of the budget, by its number, and a key of it, by its entry.
struct MemoryOwner {
    /// The slot's number.
    Index slot = none;
    /// The key's entry.
    Index key = none;

    /// Same slot and key.
    friend constexpr bool operator==(const MemoryOwner&, const MemoryOwner&) = default;
};

/// How a resident holds its memory, as its slot sees it in this moment.
enum class MemoryHold : std::uint8_t {
    /// It cannot give it back yet: it loads, or is about to.
    loading,
    /// It cannot give it back, and for how long is not known: a bare lease on it lives.
    leased,
    /// It must not: it is pinned.
    pinned,
    /// It is idle, and its key has no waiter.
    idle,
    /// Model calls run on it, or its key has waiters.
    in_use,
    /// It drains for the budget: it unloads when its leases have ended, unless it is kept.
    draining,
    /// It unloads, or drains for good without a bare lease: its memory comes back without the budget's doing.
    leaving,
};

/// What a slot says of one resident when memory is lacking.
struct MemoryUse {
    /// Its memory.
    MemoryId id{};
    /// How it holds it.
    MemoryHold hold = MemoryHold::loading;
    /// Idle: since when.
    Time idle_since{0};
    /// In use or draining: when it was last granted, in an order of the slot's.
    std::uint64_t granted = 0;
    /// In use or draining: the best of what waits for it and of what it serves (H32).
    MemoryRank rank{};
    /// Until when it keeps its place, if nothing happens (H32).
    Time keeps_until = (Time::min)();
    /// In use: whether it was never granted since its load.
    bool unused = false;

    /// Same in every field.
    friend bool operator==(const MemoryUse&, const MemoryUse&) = default;
};

/// What the budget says to a slot.
enum class MemoryVerdict : std::uint8_t {
    /// The memory is reserved: the key may be loaded.
    reserved,
    /// It is lacking: the key waits for it, and another of the slot may have its place.
    lacking,
    /// It can never be there: more than the limit, or than what pinned residents leave of it. The name is void.
    impossible,
    /// Unload the resident as soon as it is idle.
    evict,
    /// It need not be unloaded any more.
    keep,
};

/// One of these.
struct MemoryAnswer {
    /// What.
    MemoryVerdict verdict = MemoryVerdict::lacking;
    /// To which slot, about which key.
    MemoryOwner owner{};
    /// About which memory.
    MemoryId id{};

    /// Same in every field.
    friend bool operator==(const MemoryAnswer&, const MemoryAnswer&) = default;
};

/// What is to be said to slots, in order.
using MemoryAnswers = std::vector<MemoryAnswer>;

}  // namespace residency::core
