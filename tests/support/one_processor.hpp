#pragma once

#include <cstddef>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace residency::test {

/// Calls `work` in a thread that may run on one processor only, and waits for its end. False, and nothing is called,
/// where that makes no difference or cannot be done.
template <class Work>
[[nodiscard]] bool on_one_processor(const Work& work) {
#if defined(__linux__)
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2) {
        return false;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t processor = 0; processor < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++processor) {
        if (CPU_ISSET(processor, &allowed)) {
            CPU_SET(processor, &one);
        }
    }
    bool restricted = false;
    std::thread([&] {
        restricted = ::sched_setaffinity(0, sizeof(one), &one) == 0;
        if (restricted) {
            work();
        }
    }).join();
    return restricted;
#else
    static_cast<void>(work);
    return false;
#endif
}

}  // namespace residency::test
