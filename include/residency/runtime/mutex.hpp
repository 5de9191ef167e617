#pragma once

#include "residency/compiler.hpp"

#include <mutex>

// Clang checks with -Wthread-safety that whatever is annotated here is touched under its mutex; other compilers see
// nothing.
#if defined(__clang__)
#define RESIDENCY_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define RESIDENCY_THREAD_ANNOTATION(x)
#endif
#define RESIDENCY_GUARDED_BY(mutex) RESIDENCY_THREAD_ANNOTATION(guarded_by(mutex))
#define RESIDENCY_REQUIRES(mutex) RESIDENCY_THREAD_ANNOTATION(requires_capability(mutex))
#define RESIDENCY_EXCLUDES(mutex) RESIDENCY_THREAD_ANNOTATION(locks_excluded(mutex))

namespace residency::runtime {

/// A std::mutex that the compiler knows of.
class RESIDENCY_THREAD_ANNOTATION(capability("mutex")) Mutex {
public:
    /// Waits until it is free and takes it.
    void lock() RESIDENCY_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
    /// Gives it back.
    void unlock() RESIDENCY_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
    /// For the compiler alone: this thread holds it, which the compiler cannot see in a lambda that is called under it.
    void assert_held() const noexcept RESIDENCY_THREAD_ANNOTATION(assert_capability(this)) {}
    /// The std::mutex itself, for a condition variable.
    [[nodiscard]] std::mutex& native() noexcept { return mutex_; }

private:
    std::mutex mutex_{};
};

/// Holds a `Mutex` for as long as it lives.
class RESIDENCY_THREAD_ANNOTATION(scoped_lockable) MutexLock {
public:
    /// Takes `mutex`.
    explicit MutexLock(Mutex& mutex) RESIDENCY_THREAD_ANNOTATION(acquire_capability(mutex)) : mutex_(mutex) {
        mutex_.lock();
    }
    /// Gives it back.
    ~MutexLock() RESIDENCY_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

private:
    Mutex& mutex_;
};

}  // namespace residency::runtime
