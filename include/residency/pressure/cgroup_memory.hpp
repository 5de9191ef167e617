#pragma once

#include "residency/runtime/cgroup.hpp"

// Control groups are Linux's own.
#if defined(__linux__)

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace residency::detail {

/// What a control group uses and may use, in bytes.
struct CgroupMemory {
    /// What it uses but for pages of files that were not used lately: the kernel drops those before anything else.
    std::uint64_t used = 0;
    /// From here on its processes are slowed down or ended.
    std::uint64_t limit = 0;

    bool operator==(const CgroupMemory&) const = default;

    /// How full it is: from 0, and 1 at its limit.
    [[nodiscard]] double fullness() const noexcept {
        return limit == 0 ? std::numeric_limits<double>::infinity()
                          : static_cast<double>(used) / static_cast<double>(limit);
    }
};

/// What one look at the groups of the process found.
struct CgroupReading {
    /// Of the groups with a limit the fullest; none if no limit is known.
    std::optional<CgroupMemory> memory{};
    /// The first thing that could not be read; empty if there was none.
    std::string flaw{};
};

/// Reads a group's files.
class CgroupMemoryReader {
public:
    /// The files of `folder`, with those of its ancestors as far up as they are mounted: a group has no more than they
    /// have. What cannot be read is left out, and is noted.
    void read(const runtime::CgroupFolder& folder) {
        folder.for_each_level([&](const std::string& level) { read_level(folder.version, level); });
    }

    /// What was found. `flaw` also says so if no group had anything.
    [[nodiscard]] CgroupReading reading() && {
        if (!found_) {
            note("no control group of this process says what memory it uses");
        }
        return std::move(reading_);
    }

private:
    // The names that a version has for the same.
    struct Names {
        const char* used;
        const char* high;
        const char* max;
        std::string_view unused_files;
    };
    static Names names_of(runtime::CgroupVersion version) noexcept {
        return version == runtime::CgroupVersion::v2
                   ? Names{"/memory.current", "/memory.high", "/memory.max", "inactive_file"}
                   : Names{"/memory.usage_in_bytes", nullptr, "/memory.limit_in_bytes", "total_inactive_file"};
    }

    void read_level(runtime::CgroupVersion version, const std::string& level) {
        const Names names = names_of(version);
        const std::optional<std::uint64_t> used = number(level + names.used);
        const std::optional<std::uint64_t> max = number(level + names.max);
        const std::optional<std::uint64_t> high = names.high != nullptr ? number(level + names.high) : std::nullopt;
        if (!used) {
            if (max || high) {
                note("'" + level + names.used + "' cannot be read");
            }
            return;
        }
        found_ = true;
        if (!max && !high) {
            return;
        }
        const std::uint64_t unused = (std::min)(unused_files(level, names.unused_files), *used);
        const std::uint64_t limit = (std::min)(max.value_or(*high), high.value_or(*max));
        const CgroupMemory memory{*used - unused, limit};
        if (!reading_.memory || memory.fullness() > reading_.memory->fullness()) {
            reading_.memory = memory;
        }
    }

    // The number in a file; none where there is no such file, or no limit.
    std::optional<std::uint64_t> number(const std::string& path) {
        const std::string contents = runtime::contents_of(path);
        std::string_view rest = contents;
        const std::string_view line = runtime::take_until(rest, '\n');
        const std::optional<std::uint64_t> value = runtime::cgroup_number(line);
        if (!value && !line.empty() && line != "max") {
            note("'" + path + "' holds no number");
        }
        return value;
    }

    std::uint64_t unused_files(const std::string& level, std::string_view name) {
        const std::string contents = runtime::contents_of(level + "/memory.stat");
        std::string_view rest = contents;
        while (!rest.empty()) {
            std::string_view line = runtime::take_until(rest, '\n');
            if (runtime::take_until(line, ' ') == name) {
                if (const std::optional<std::uint64_t> value = runtime::cgroup_number(line)) {
                    return *value;
                }
            }
        }
        note("'" + level + "/memory.stat' does not say " + std::string(name));
        return 0;
    }

    void note(const std::string& flaw) {
        if (reading_.flaw.empty()) {
            reading_.flaw = flaw;
        }
    }

    CgroupReading reading_{};
    bool found_ = false;
};

}  // namespace residency::detail

#endif
