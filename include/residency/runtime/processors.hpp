#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>

#if defined(__linux__)
#include "residency/runtime/cpu_quota.hpp"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <sched.h>
#include <string>
#include <sys/types.h>
#endif

namespace residency {
namespace runtime {

/// The processors of the system, as far as the standard library knows; at least 1.
[[nodiscard]] inline std::size_t system_processors() noexcept {
    return std::max<std::size_t>(1, std::thread::hardware_concurrency());
}

#if defined(__linux__)

/// How many processors the calling thread, and with it the threads that it makes, may run on; at least 1. `affinity` is
/// the system's function but in tests.
[[nodiscard]] inline std::size_t affinity_processors(int (*affinity)(pid_t, std::size_t,
                                                                     cpu_set_t*) = &::sched_getaffinity) noexcept {
    // The kernel refuses a set that is smaller than its own, whose size it does not say.
    constexpr std::size_t most = std::size_t{1} << 22U;
    for (std::size_t processors = 1024; processors <= most; processors *= 2) {
        cpu_set_t* const set = CPU_ALLOC(processors);
        const std::size_t size = CPU_ALLOC_SIZE(processors);
        const int error = set == nullptr ? ENOMEM : affinity(0, size, set) == 0 ? 0 : errno;
        const int found = error == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (error == 0) {
            return static_cast<std::size_t>((std::max)(1, found));
        }
        if (error != EINVAL) {
            break;
        }
    }
    return system_processors();
}

/// `affinity`, or what the CPU quota allows if that is less; at least 1.
/// `root` stands before each path: it is empty but in tests.
[[nodiscard]] inline std::size_t processors_within_quota(std::size_t affinity, const std::string& root) noexcept {
    try {
        if (const std::optional<std::uint64_t> quota = cpu_quota(root)) {
            affinity = static_cast<std::size_t>(std::min<std::uint64_t>(affinity, *quota));
        }
    } catch (...) {
        // No memory to look for a quota.
    }
    return std::max<std::size_t>(1, affinity);
}

#endif

}  // namespace runtime

/// How many processors this process may use at once; at least 1. The library's defaults are made of it.
///
/// On Linux: those of the calling thread's affinity (`taskset`, a container's `--cpuset-cpus`), or as many as the CPU
/// quota of the process's control groups keeps busy (a container's `--cpus`, a pod's limit, `CPUQuota=`), rounded up,
/// if they are fewer. Elsewhere: `std::thread::hardware_concurrency()`.
///
/// Each call looks anew, and reads some files of /proc and /sys: not for a hot path.
[[nodiscard]] inline std::size_t usable_processors() noexcept {
#if defined(__linux__)
    return runtime::processors_within_quota(runtime::affinity_processors(), {});
#else
    return runtime::system_processors();
#endif
}

}  // namespace residency
