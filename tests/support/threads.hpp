#pragma once

// Replaces pthread_create for the whole program: the only way to let a thread fail to be made that works everywhere, as
// root too. For one source file of a program.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>

namespace residency::test {

/// How many threads may still be made; negative: any number.
inline std::atomic<int> threads_left = -1;
/// How many were.
inline std::atomic<int> threads_made = 0;

}  // namespace residency::test

// NOLINTNEXTLINE(misc-definitions-in-headers): a program includes this once.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    if (residency::test::threads_left == 0) {
        return EAGAIN;
    }
    if (residency::test::threads_left > 0) {
        --residency::test::threads_left;
    }
    ++residency::test::threads_made;
    return create(thread, attributes, start, argument);
}
