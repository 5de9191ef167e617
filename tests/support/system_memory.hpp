#pragma once

// Replaces malloc and aligned_alloc for the whole program, so that a test can let fail whatever asks the system for memory: operator new,
// which calls malloc; Boost.Asio, which calls aligned_alloc for its handlers and timers; and the C++ runtime, for exceptions. For one
// source file of a program. Only with glibc, and without a sanitizer, each of which has a malloc of its own.

#include "support/scarce_memory.hpp"

#include <cstddef>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RESIDENCY_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RESIDENCY_TEST_SANITIZED
#endif

namespace residency::test {

#if defined(__GLIBC__) && !defined(RESIDENCY_TEST_SANITIZED)
/// Whether malloc and aligned_alloc are replaced.
inline constexpr bool replaces_malloc = true;
#else
inline constexpr bool replaces_malloc = false;
#endif

/// How many of this thread's failures were of aligned_alloc: of what an executor or a timer of Boost.Asio's asked for.
[[nodiscard]] inline std::size_t& aligned_failures() noexcept {
    thread_local std::size_t failures = 0;
    return failures;
}

}  // namespace residency::test

#if defined(__GLIBC__) && !defined(RESIDENCY_TEST_SANITIZED)

// glibc's own, under the names that are left when the usual ones are taken.
extern "C" void* __libc_malloc(std::size_t size);                           // NOLINT(bugprone-reserved-identifier)
extern "C" void* __libc_memalign(std::size_t alignment, std::size_t size);  // NOLINT(bugprone-reserved-identifier)

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
#undef RESIDENCY_TEST_SANITIZED
