#pragma once

// Defines RESIDENCY_TEST_THREAD_SANITIZER where ThreadSanitizer is on.

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RESIDENCY_TEST_THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(RESIDENCY_TEST_THREAD_SANITIZER)
#define RESIDENCY_TEST_THREAD_SANITIZER
#endif
