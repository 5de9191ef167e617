#pragma once

// Allocations that are counted and can be let fail, thread by thread. Which ones: see memory.hpp and system_memory.hpp,
// of which a program includes one.

#include <cstddef>
#include <cstdint>

namespace residency::test {

/// Which allocations fail.
enum class FaultPattern : std::uint8_t {
    /// The n-th, with all that follow it: there is no more memory.
    from,
    /// The n-th alone: there was none for a moment.
    only,
};

/// What happens to the allocations of one thread.
struct Memory {
    /// How many there were.
    std::size_t allocations = 0;
    /// How many blocks were freed; only memory.hpp counts them.
    std::size_t frees = 0;
    /// The size of the largest allocation since a test set this to zero; only memory.hpp measures it.
    std::size_t largest = 0;
    /// How many of them failed.
    std::size_t failures = 0;
    /// Which one is the first to fail, counted from now. Zero: none fails.
    std::size_t fail_from = 0;
    /// Whether those after it fail, too.
    FaultPattern scarcity = FaultPattern::from;

    /// This thread's.
    [[nodiscard]] static Memory& here() noexcept {
        thread_local Memory memory;
        return memory;
    }
    /// How many more blocks were allocated than freed.
    [[nodiscard]] std::size_t blocks() const noexcept { return allocations - frees; }
    /// Whether the next allocation may be made; counts it.
    [[nodiscard]] bool grants() noexcept {
        ++allocations;
        if (fail_from == 0 || --fail_from != 0) {
            return true;
        }
        fail_from = scarcity == FaultPattern::from ? 1 : 0;
        ++failures;
        return false;
    }
};

/// Lets allocations of this thread fail, the `first`-th and maybe those after it, for as long as it lives.
class AllocationFaults {
public:
    explicit AllocationFaults(std::size_t first = 1, FaultPattern scarcity = FaultPattern::from) noexcept
        : failures_before_(Memory::here().failures) {
        Memory::here().fail_from = first;
        Memory::here().scarcity = scarcity;
    }
    ~AllocationFaults() { Memory::here().fail_from = 0; }
    AllocationFaults(const AllocationFaults&) = delete;
    AllocationFaults& operator=(const AllocationFaults&) = delete;
    /// How many have failed.
    [[nodiscard]] std::size_t failures() const noexcept { return Memory::here().failures - failures_before_; }

private:
    std::size_t failures_before_;
};

/// Lets allocations succeed within a AllocationFaults: for what is the test's own.
class AmpleMemory {
public:
    AmpleMemory() noexcept : fail_from_(Memory::here().fail_from) { Memory::here().fail_from = 0; }
    ~AmpleMemory() { Memory::here().fail_from = fail_from_; }
    AmpleMemory(const AmpleMemory&) = delete;
    AmpleMemory& operator=(const AmpleMemory&) = delete;

private:
    std::size_t fail_from_;
};

}  // namespace residency::test
