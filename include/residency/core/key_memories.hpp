#pragma once

#include "residency/core/chunked_vector.hpp"
#include "residency/core/key_memory.hpp"
#include "residency/core/slab.hpp"

#include <cstddef>

namespace residency::core {

/// What a slot knows of the memory of each of its keys, by key entry, and how many of them are on their way to it.
/// Empty without a budget. A plain value.
class KeyMemories {
public:
    /// Makes room for the keys 0 to `count` - 1. Throws bad_alloc; what it throws changes nothing that is known.
    void reserve(std::size_t count) {
        while (memories_.size() < count) {
            memories_.push_back({});
        }
    }
    /// The key stands there now.
    void enter(Index key, MemoryPhase phase) noexcept {
        KeyMemory& memory = memories_[key];
        aside_ -= memory.is_aside() ? 1U : 0U;
        asking_ -= memory.phase == MemoryPhase::asking ? 1U : 0U;
        memory.phase = phase;
        aside_ += memory.is_aside() ? 1U : 0U;
        asking_ += memory.phase == MemoryPhase::asking ? 1U : 0U;
    }
    /// The entry may be another key's from now on: forgets all but what was last given back. Precondition: nothing of
    /// it is under way.
    void forget(Index key) noexcept { memories_[key] = KeyMemory{.given_back = memories_[key].given_back}; }

    /// Where the key stands is changed by `enter` alone.
    [[nodiscard]] KeyMemory& operator[](std::size_t key) noexcept { return memories_[key]; }
    /// What is known of the key.
    [[nodiscard]] const KeyMemory& operator[](std::size_t key) const noexcept { return memories_[key]; }
    /// For how many keys there is room.
    [[nodiscard]] std::size_t size() const noexcept { return memories_.size(); }
    /// How many keys stand aside: each may become a resident, as those that need a place.
    [[nodiscard]] std::size_t aside() const noexcept { return aside_; }
    /// For how many the budget is being asked. Until it has answered a place and a load are kept for each.
    [[nodiscard]] std::size_t asking() const noexcept { return asking_; }

    /// Same in every part.
    friend bool operator==(const KeyMemories&, const KeyMemories&) = default;

private:
    ChunkedVector<KeyMemory> memories_{};
    std::size_t aside_ = 0;
    std::size_t asking_ = 0;
};

}  // namespace residency::core
