#pragma once

#include "residency/runtime/cgroup.hpp"

// Control groups are Linux's own.
#if defined(__linux__)

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace residency::runtime {

/// Up to how many processors work for `quota` microseconds in each `period`, which are decimal numbers; at least 1.
/// Nothing if there is no quota (`max` or `-1`), or what is written there makes no sense.
[[nodiscard]] inline std::optional<std::uint64_t> quota_processors(std::string_view quota,
                                                                   std::string_view period) noexcept {
    const std::optional<std::uint64_t> used = cgroup_number(quota);
    const std::optional<std::uint64_t> whole = cgroup_number(period);
    if (!used || !whole || *whole == 0) {
        return std::nullopt;
    }
    return std::max<std::uint64_t>(1, *used / *whole + (*used % *whole != 0 ? 1 : 0));
}

/// The same from the contents of version 2's `cpu.max`: `QUOTA PERIOD`.
[[nodiscard]] inline std::optional<std::uint64_t> cpu_max_processors(std::string_view cpu_max) noexcept {
    std::string_view period = take_until(cpu_max, '\n');
    const std::string_view quota = take_until(period, ' ');
    return quota_processors(quota, period);
}

/// The same from the contents of version 1's `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
[[nodiscard]] inline std::optional<std::uint64_t> cfs_processors(std::string_view quota,
                                                                 std::string_view period) noexcept {
    return quota_processors(take_until(quota, '\n'), take_until(period, '\n'));
}

/// The smaller one, where nothing is no limit.
[[nodiscard]] inline std::optional<std::uint64_t> lesser(std::optional<std::uint64_t> one,
                                                         std::optional<std::uint64_t> other) noexcept {
    return one && other ? (std::min)(*one, *other) : (one ? one : other);
}

/// How many processors the CPU quotas of this process's control groups allow, rounded up; at least 1. Nothing if there
/// is no quota. The quota is the least of the group's own and its ancestors', as far up as they are mounted. `root`
/// stands before each path: it is empty but in tests.
[[nodiscard]] inline std::optional<std::uint64_t> cpu_quota(const std::string& root) {
    std::optional<std::uint64_t> least;
    for (const CgroupFolder& found : cgroup_folders(root, "cpu")) {
        found.for_each_level([&](const std::string& folder) {
            least = lesser(least, found.version == CgroupVersion::v2
                                      ? cpu_max_processors(contents_of(folder + "/cpu.max"))
                                      : cfs_processors(contents_of(folder + "/cpu.cfs_quota_us"),
                                                       contents_of(folder + "/cpu.cfs_period_us")));
        });
    }
    return least;
}

}  // namespace residency::runtime

#endif
