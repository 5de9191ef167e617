#pragma once

// What a string of bytes says: a history of a slot without a memory budget or, if its first byte is a `b` in
// hexadecimal digits followed by any other, of one with a budget.

#include "fuzz/memory_bytes.hpp"
#include "fuzz/scheduler_bytes.hpp"

#include <cstddef>
#include <cstdint>
#include <ostream>

namespace residency::test {

/// Lets the bytes happen. Throws Violation if a promise is broken; writes each step to `trace`, if that is not null.
inline void run_history(const std::uint8_t* bytes, std::size_t size, std::ostream* trace) {
    constexpr std::uint8_t with_budget = 0xb;
    if (size != 0 && *bytes >> 4U == with_budget) {
        MemoryHistory(bytes + 1, size - 1, trace).run();
    } else {
        SchedulerHistory(bytes, size, trace).run();
    }
}

}  // namespace residency::test
