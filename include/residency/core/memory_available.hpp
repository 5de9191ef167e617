#pragma once

#include "residency/core/memory.hpp"
#include "residency/core/memory_ledger.hpp"

#include <cstddef>
#include <vector>

namespace residency::core {

/// How many bytes of the ledger's limit a slot could have if everything of the others went but residents that are
/// pinned, and those on which bare leases live. What of its own stays the slot sees itself, when it decides. `uses` is
/// what all slots say of their residents.
[[nodiscard]] inline std::size_t memory_available(const MemoryLedger& ledger, const std::vector<MemoryUse>& uses,
                                                  Index slot) noexcept {
    std::size_t available = ledger.limit();
    for (const MemoryUse& use : uses) {
        if ((use.hold == MemoryHold::pinned || use.hold == MemoryHold::leased) && ledger.slot_of(use.id) != slot) {
            available = subtract_bytes(available, ledger.bytes_of(use.id));
        }
    }
    return available;
}

}  // namespace residency::core
