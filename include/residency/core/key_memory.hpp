#pragma once

#include "residency/core/memory.hpp"
#include "residency/core/time.hpp"
#include "residency/error_code.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace residency::core {

/// Where a key without a resident stands on its way to memory: unsized -> sizing -> sized -> asking -> held, or
/// asking -> lacking -> held; refused from each of them.
enum class MemoryPhase : std::uint8_t {
    /// How much it needs is not known.
    unsized,
    /// The backend is being asked how much.
    sizing,
    /// It is known. The key may claim a place.
    sized,
    /// The budget is being asked: it has a place in view, or waits for memory before it takes one.
    asking,
    /// The budget has not enough now. The key claims no place.
    lacking,
    /// Its memory is reserved. The key may claim a place.
    held,
    /// It gets none: its waiters are being failed.
    refused,
};

/// What a slot with a budget knows of one key's memory, beside its entry.
struct KeyMemory {
    /// What the backend says that the key needs, or what the slot's options say.
    std::size_t estimate = 0;
    /// What its last model used; zero if that is not known.
    std::size_t used = 0;
    /// Its memory, while it is lacking or held.
    MemoryId id{};
    /// How much of it there is, or was asked for: more than the key needs once that was forgotten.
    std::size_t asked = 0;
    /// What was last given back while the key had no resident: an answer about that may still be on its way, also when
    /// the entry is another key's.
    MemoryId given_back{};
    /// Where it stands.
    MemoryPhase phase = MemoryPhase::unsized;
    /// Whether its load ran out of memory and was, or is to be, tried once more, and it has not loaded since.
    bool was_tried_again = false;
    bool clears = false;
    /// Why it is refused.
    errc refusal = errc::insufficient_memory;

    /// Whether nothing of it is under way: the key may be forgotten.
    [[nodiscard]] bool is_at_rest() const noexcept {
        return phase == MemoryPhase::unsized || phase == MemoryPhase::sized;
    }
    /// Whether the key claims no place until an answer has come.
    [[nodiscard]] bool is_aside() const noexcept { return !is_at_rest() && phase != MemoryPhase::held; }
    /// Whether the key may claim a place: it is known how much it needs, and the budget may have it.
    [[nodiscard]] bool may_claim_place() const noexcept {
        return phase == MemoryPhase::sized || phase == MemoryPhase::held;
    }
    /// Whether the key, which has no resident, has more than the limit: no load may begin with it.
    [[nodiscard]] bool holds_more_than(std::size_t limit) const noexcept {
        return phase == MemoryPhase::held && asked > limit;
    }
    /// How much it needs.
    [[nodiscard]] std::size_t need() const noexcept { return (std::max)(estimate, used); }
    /// Same in every field.
    friend bool operator==(const KeyMemory&, const KeyMemory&) = default;
};

/// What a slot says to its budget.
struct MemoryRequest {
    /// What is said.
    enum class Type : std::uint8_t {
        /// The key needs `bytes`; the answer is `memory_answered`.
        reserve,
        /// The best waiter of a key that waits has changed.
        move,
        /// The model of `id` needs `bytes`, now that it is loaded.
        use,
        /// The memory is given back, or no longer waited for.
        give_back,
        /// How much memory could there be? The answer is `memory_available`.
        available,
        /// Something has changed that the budget may want to know while memory is lacking.
        look,
    };

    /// What is said.
    Type type = Type::look;
    /// The key's entry, with `reserve`.
    Index key = none;
    /// The memory, but with `reserve`, `available` and `look`.
    MemoryId id{};
    /// How much.
    std::size_t bytes = 0;
    /// With `reserve`: whether idle residents are to go first, because a load of the key ran out of memory.
    bool clears = false;
    /// Where the key stands, and from when on it goes by age; with `reserve` and `move`.
    MemoryRank rank{};
    Time aged_at = never;

    /// Same in every field.
    friend bool operator==(const MemoryRequest&, const MemoryRequest&) = default;
};

}  // namespace residency::core
