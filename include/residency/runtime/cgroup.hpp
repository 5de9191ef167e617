#pragma once

#include "residency/compiler.hpp"

// Control groups are Linux's own.
#if defined(__linux__)

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

namespace residency::runtime {

/// The interfaces of control groups. A system may have both mounted.
enum class CgroupVersion : std::uint8_t { v1, v2 };

/// A folder in which control groups are found.
struct CgroupMount {
    /// The group that the folder stands for.
    std::string root{};
    /// The folder.
    std::string point{};

    bool operator==(const CgroupMount&) const = default;
};

/// A group of this process's, and where its folder and those of its ancestors are.
struct CgroupFolder {
    /// Which files there are.
    CgroupVersion version = CgroupVersion::v2;
    /// The folder of the highest ancestor that is mounted.
    std::string mounted{};
    /// The rest of the path of the group's own folder: empty, or it begins with a slash.
    std::string group{};

    bool operator==(const CgroupFolder&) const = default;

    /// Calls `visit` with the path of the group's folder, and then with those of its ancestors as far up as they are
    /// mounted.
    template <class Visit>
    void for_each_level(const Visit& visit) const {
        std::string folder = mounted + group;
        while (true) {
            visit(std::as_const(folder));
            if (folder.size() <= mounted.size()) {
                return;
            }
            folder.resize(folder.rfind('/'));
        }
    }
};

/// Removes from `text` what stands before the first `separator`, and the separator; gives what stood before it. All of
/// `text` if there is none.
inline std::string_view take_until(std::string_view& text, char separator) noexcept {
    const std::size_t end = (std::min)(text.find(separator), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix((std::min)(end + 1, text.size()));
    return part;
}

/// Whether one of the `separator`-separated parts of `text` is `part`.
[[nodiscard]] inline bool has_part(std::string_view text, char separator, std::string_view part) noexcept {
    while (!text.empty()) {
        if (take_until(text, separator) == part) {
            return true;
        }
    }
    return false;
}

/// The decimal number that `text` is; nothing if it is anything else, or past 2^64.
[[nodiscard]] inline std::optional<std::uint64_t> cgroup_number(std::string_view text) noexcept {
    constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
    std::uint64_t value = 0;
    for (const char each : text) {
        const auto digit = static_cast<std::uint64_t>(each - '0');
        if (each < '0' || each > '9' || value > (most - digit) / 10) {
            return std::nullopt;
        }
        value = value * 10 + digit;
    }
    return text.empty() ? std::nullopt : std::optional(value);
}

/// The process's group, from the contents of `/proc/self/cgroup`: in version 1's hierarchy of `controller`, or in
/// version 2's only one. Nothing if there is no such line.
[[nodiscard]] inline std::optional<std::string_view> cgroup_path(std::string_view contents, CgroupVersion version,
                                                                 std::string_view controller) noexcept {
    while (!contents.empty()) {
        // HIERARCHY:CONTROLLERS:PATH, and the path may hold colons.
        std::string_view path = take_until(contents, '\n');
        const std::string_view hierarchy = take_until(path, ':');
        const std::string_view controllers = take_until(path, ':');
        const bool wanted = version == CgroupVersion::v2 ? hierarchy == "0" && controllers.empty()
                                                         : has_part(controllers, ',', controller);
        if (wanted && path.starts_with('/')) {
            return path;
        }
    }
    return std::nullopt;
}

/// `field` of `/proc/self/mountinfo` without its escapes: a backslash and three octal digits stand for a character.
[[nodiscard]] inline std::string without_escapes(std::string_view field) {
    std::string plain;
    while (!field.empty()) {
        const std::string_view digits = field.substr(1, 3);
        if (field.front() == '\\' && digits.size() == 3 && digits.front() < '4' &&
            digits.find_first_not_of("01234567") == std::string_view::npos) {
            plain += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
            field.remove_prefix(4);
        } else {
            plain += field.front();
            field.remove_prefix(1);
        }
    }
    return plain;
}

/// Where the groups of `version` are mounted, from the contents of `/proc/self/mountinfo`; of version 1 the hierarchy
/// of `controller`.
[[nodiscard]] inline std::vector<CgroupMount> cgroup_mounts(std::string_view contents, CgroupVersion version,
                                                            std::string_view controller) {
    std::vector<CgroupMount> mounts;
    while (!contents.empty()) {
        // ID PARENT DEVICE ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER_OPTIONS
        std::string_view line = take_until(contents, '\n');
        for (int skipped = 0; skipped < 3; ++skipped) {
            take_until(line, ' ');
        }
        const std::string_view root = take_until(line, ' ');
        const std::string_view point = take_until(line, ' ');
        while (!line.empty() && take_until(line, ' ') != "-") {}
        const std::string_view type = take_until(line, ' ');
        take_until(line, ' ');
        const bool wanted =
            version == CgroupVersion::v2 ? type == "cgroup2" : type == "cgroup" && has_part(line, ',', controller);
        if (wanted && root.starts_with('/') && point.starts_with('/')) {
            mounts.push_back({without_escapes(root), without_escapes(point)});
        }
    }
    return mounts;
}

/// The group `path` as seen from the group `root`: empty for `root` itself, else it begins with a slash. Nothing if it
/// is not in it.
[[nodiscard]] inline std::optional<std::string_view> path_within(std::string_view path,
                                                                 std::string_view root) noexcept {
    const auto without_slash = [](std::string_view text) {
        return text.ends_with('/') ? text.substr(0, text.size() - 1) : text;
    };
    path = without_slash(path);
    root = without_slash(root);
    if (!path.starts_with(root)) {
        return std::nullopt;
    }
    path.remove_prefix(root.size());
    // `/..` is how the kernel writes a group outside of the process's namespace.
    if ((!path.empty() && path.front() != '/') || has_part(path, '/', "..")) {
        return std::nullopt;
    }
    return path;
}

/// A file that is read; closed at the end of its life.
class ReadFile {
public:
    /// Opens the file, or reads nothing if it cannot be opened.
    // `e`: a program that the host starts at the same time does not inherit it.
    explicit ReadFile(const std::string& path) noexcept : file_(std::fopen(path.c_str(), "re")) {}
    ReadFile(const ReadFile&) = delete;
    ReadFile& operator=(const ReadFile&) = delete;
    ~ReadFile() {
        if (file_ != nullptr) {
            std::fclose(file_);
        }
    }

    /// Reads up to `size` bytes; gives how many there were, zero at the end.
    std::size_t read(char* to, std::size_t size) noexcept {
        return file_ == nullptr ? 0 : std::fread(to, 1, size, file_);
    }

private:
    std::FILE* file_;
};

/// The contents of a file; empty if it cannot be read.
[[nodiscard]] inline std::string contents_of(const std::string& path) {
    ReadFile file(path);
    std::string contents;
    std::array<char, 4096> part{};
    while (const std::size_t size = file.read(part.data(), part.size())) {
        contents.append(part.data(), size);
    }
    return contents;
}

/// The folders of this process's groups, as `controller` sees them. `root` stands before each path: it is empty but in
/// tests.
///
/// 1. Both versions are looked at: a system may have mounted both, the controller being in one of them.
/// 2. A container may see its group under another name than `/proc/self/cgroup` has for it. Where no mount has a folder
///    of that name, each mount stands for the group.
[[nodiscard]] inline std::vector<CgroupFolder> cgroup_folders(const std::string& root, std::string_view controller) {
    const std::string groups = contents_of(root + "/proc/self/cgroup");
    const std::string mountinfo = contents_of(root + "/proc/self/mountinfo");
    std::vector<CgroupFolder> folders;
    for (const CgroupVersion version : {CgroupVersion::v1, CgroupVersion::v2}) {
        const std::optional<std::string_view> path = cgroup_path(groups, version, controller);
        if (!path) {
            continue;
        }
        const std::vector<CgroupMount> mounts = cgroup_mounts(mountinfo, version, controller);
        bool found = false;
        for (const CgroupMount& mount : mounts) {
            const std::string mounted = root + mount.point;
            const std::optional<std::string_view> group = path_within(*path, mount.root);
            if (group && ::access((mounted + std::string(*group)).c_str(), F_OK) == 0) {
                found = true;
                folders.push_back({version, mounted, std::string(*group)});
            }
        }
        if (!found) {
            for (const CgroupMount& mount : mounts) {
                folders.push_back({version, root + mount.point, {}});
            }
        }
    }
    return folders;
}

}  // namespace residency::runtime

#endif
