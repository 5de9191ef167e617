#pragma once

#include "residency/core/memory.hpp"
#include "residency/core/memory_ledger.hpp"

#include <cstddef>
#include <vector>

namespace residency::core {

/// How many bytes of the ledger's limit a key could have if everything went but residents that are pinned, and those on
/// which bare leases live. `uses` is what all slots say of their residents.
[[nodiscard]] inline std::size_t memory_available(const MemoryLedger& ledger,
                                                  const std::vector<MemoryUse>& uses) noexcept {
    std::size_t available = ledger.limit();
    for (const MemoryUse& use : uses) {
        if (use.hold == MemoryHold::pinned || use.hold == MemoryHold::leased) {
            available = subtract_bytes(available, ledger.bytes_of(use.id));
        }
    }
    return available;
}

}  // namespace residency::core
