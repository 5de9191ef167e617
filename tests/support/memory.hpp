#pragma once

// Replaces operator new for the whole program, so that a test can count allocations and let them fail. For one source
// file of a program. What Boost.Asio allocates for its executors and timers does not pass through here;
// system_memory.hpp has that, too.

#include "support/allocation_faults.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

// Not inlined: where g++ sees one of a pair and not the other, it warns that they do not match.
// NOLINTBEGIN(misc-definitions-in-headers): a program includes this once.
[[gnu::noinline]] void* operator new(std::size_t size) {
    residency::test::Memory& here = residency::test::Memory::here();
    here.largest = std::max(here.largest, size);
    if (here.grants()) {
        if (void* const memory = std::malloc(size == 0 ? 1 : size)) {
            return memory;
        }
    }
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return residency::test::Memory::here().grants() ? std::malloc(size == 0 ? 1 : size) : nullptr;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    residency::test::Memory::here().frees += memory != nullptr ? 1U : 0U;
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { operator delete(memory); }
// NOLINTEND(misc-definitions-in-headers)
