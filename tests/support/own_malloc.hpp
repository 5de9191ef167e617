#pragma once

// Whether a program may replace malloc and aligned_alloc: only with glibc, which has its own under other names as well,
// and without a sanitizer, each of which has a malloc of its own. Where it may, RESIDENCY_TEST_OWN_MALLOC is defined.

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
#if defined(__GLIBC__) && !defined(RESIDENCY_TEST_SANITIZED)
#define RESIDENCY_TEST_OWN_MALLOC
#endif
#undef RESIDENCY_TEST_SANITIZED

#ifdef RESIDENCY_TEST_OWN_MALLOC
// glibc's own, under the names that are left when the usual ones are taken.
extern "C" void* __libc_malloc(std::size_t size);                           // NOLINT(bugprone-reserved-identifier)
extern "C" void* __libc_memalign(std::size_t alignment, std::size_t size);  // NOLINT(bugprone-reserved-identifier)
#endif

namespace residency::test {

/// The same, for those who ask at run time.
#ifdef RESIDENCY_TEST_OWN_MALLOC
inline constexpr bool has_own_malloc = true;
#else
inline constexpr bool has_own_malloc = false;
#endif

}  // namespace residency::test
