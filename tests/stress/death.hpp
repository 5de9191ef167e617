#pragma once

// What is printed when a run does not get to its end: when a sanitizer has found something, when it aborts, when it
// hangs.

#include "stress/black_box.hpp"
#include "stress/facts.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RESIDENCY_STRESS_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RESIDENCY_STRESS_SANITIZED 1
#endif

#ifdef RESIDENCY_STRESS_SANITIZED
extern "C" void __sanitizer_set_death_callback(void (*callback)());  // NOLINT(bugprone-reserved-identifier)

/// The first report ends the run, so that what led to it is still in the black box.
extern "C" const char* __tsan_default_options() {  // NOLINT(bugprone-reserved-identifier)
    return "halt_on_error=1:second_deadlock_stack=1";
}
/// libstdc++ counts the owners of an exception within its own library, where ThreadSanitizer does not see that the last
/// of them comes after the others. A condition variable may be destroyed as soon as no thread waits on it (POSIX);
/// ThreadSanitizer takes the thread that signals it, here one that posts the last handler of a context, for one that
/// still uses it.
extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
    return "race:std::__exception_ptr::exception_ptr::_M_release\n"
           "race:boost::asio::detail::posix_event::~posix_event\n";
}
#endif

namespace residency::stress {

/// The one of this program.
inline BlackBox& black_box() {
    static BlackBox box;
    return box;
}

/// Ends the program, with what is in the black box, if nothing happens for a long time; and sees to it that it is
/// printed as well if the program dies in another way.
class Watchdog {
public:
    explicit Watchdog(const BlackBox& box) : box_(box), thread_([this] { watch(); }) {
#ifdef RESIDENCY_STRESS_SANITIZED
        __sanitizer_set_death_callback([] { black_box().print(stderr); });
#else
        for (const int signal : {SIGABRT, SIGSEGV, SIGBUS}) {
            std::signal(signal, [](int number) {
                std::signal(number, SIG_DFL);
                black_box().print(stderr);
                std::raise(number);
            });
        }
#endif
    }
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;
    ~Watchdog() {
        {
            const std::lock_guard lock(mutex_);
            over_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

private:
    // Two minutes in which nothing whatsoever happens are no matter of a slow machine.
    static constexpr int most_quiet_seconds = 120;

    void watch() {
        std::unique_lock lock(mutex_);
        std::uint64_t seen = 0;
        int quiet = 0;
        while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return over_; })) {
            const std::uint64_t now = box_.noted();
            quiet = now == seen ? quiet + 1 : 0;
            seen = now;
            if (quiet == most_quiet_seconds) {
                std::fprintf(stderr, "nothing has happened for %d s: a request waits for ever\n", quiet);
                box_.print(stderr);
                std::_Exit(1);
            }
        }
    }

    const BlackBox& box_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool over_ = false;
    std::thread thread_;
};

}  // namespace residency::stress
