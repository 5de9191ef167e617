#pragma once

// Replaces aligned_alloc for the whole program, so that a test can count what Boost.Asio allocates for its executors
// and timers, which does not pass through operator new. For one source file of a program, beside memory.hpp. Where that
// cannot be, has_own_malloc is false.

#include "support/own_malloc.hpp"

#include <cstddef>

namespace residency::test {

/// How often this thread called aligned_alloc.
[[nodiscard]] inline std::size_t& aligned_allocations() noexcept {
    thread_local std::size_t allocations = 0;
    return allocations;
}

}  // namespace residency::test

#ifdef RESIDENCY_TEST_OWN_MALLOC
// NOLINTNEXTLINE(misc-definitions-in-headers): a program includes this once.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) {
    ++residency::test::aligned_allocations();
    return __libc_memalign(alignment, size);
}
#endif
