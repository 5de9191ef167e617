#pragma once

// Replaces aligned_alloc for the whole program, so that a test can count what Boost.Asio allocates for its executors and timers, which
// does not pass through operator new. For one source file of a program, beside memory.hpp. Only with glibc, and without a sanitizer, each
// of which has a malloc of its own.

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
/// Whether aligned_alloc is replaced.
inline constexpr bool counts_aligned = true;
#else
inline constexpr bool counts_aligned = false;
#endif

/// How often this thread called aligned_alloc.
[[nodiscard]] inline std::size_t& aligned_allocations() noexcept {
    thread_local std::size_t allocations = 0;
    return allocations;
}

}  // namespace residency::test

#if defined(__GLIBC__) && !defined(RESIDENCY_TEST_SANITIZED)

// glibc's own, under the name that is left when the usual one is taken.
extern "C" void* __libc_memalign(std::size_t alignment, std::size_t size);  // NOLINT(bugprone-reserved-identifier)

// NOLINTNEXTLINE(misc-definitions-in-headers): a program includes this once.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) {
    ++residency::test::aligned_allocations();
    return __libc_memalign(alignment, size);
}

#endif
#undef RESIDENCY_TEST_SANITIZED
