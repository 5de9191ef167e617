#pragma once

// Replaces malloc and aligned_alloc for the whole program, so that a test can let fail whatever asks the system for
// memory: operator new, which calls malloc; Boost.Asio, which calls aligned_alloc for its handlers and timers; and the
// C++ runtime, for exceptions. For one source file of a program. Where that cannot be, has_own_malloc is false.

#include "support/allocation_faults.hpp"
#include "support/own_malloc.hpp"

#include <cstddef>

namespace residency::test {

/// How many of this thread's failures were of aligned_alloc: of what an executor or a timer of Boost.Asio's asked for.
[[nodiscard]] inline std::size_t& aligned_failures() noexcept {
    thread_local std::size_t failures = 0;
    return failures;
}

}  // namespace residency::test

#ifdef RESIDENCY_TEST_OWN_MALLOC
// NOLINTBEGIN(misc-definitions-in-headers): a program includes this once.
extern "C" void* malloc(std::size_t size) {
    return residency::test::Memory::here().grants() ? __libc_malloc(size) : nullptr;
}
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) {
    if (residency::test::Memory::here().grants()) {
        return __libc_memalign(alignment, size);
    }
    ++residency::test::aligned_failures();
    return nullptr;
}
// NOLINTEND(misc-definitions-in-headers)
#endif
