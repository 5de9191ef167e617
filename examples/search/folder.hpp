#pragma once

#include "search/arguments.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace search {

/// What was left out, by reason.
struct Skipped {
    std::size_t binary = 0;
    /// Files and folders that could not be opened or read, and links that lead nowhere.
    std::size_t unreadable = 0;
    std::size_t links_outside = 0;
    /// Links to something in the folder: it is read at its own place.
    std::size_t links_inside = 0;
    /// Sockets, pipes, devices.
    std::size_t not_files = 0;
    /// The folders in which git, Mercurial and Subversion keep their own.
    std::size_t version_control = 0;

    Skipped& operator+=(const Skipped& other) {
        binary += other.binary;
        unreadable += other.unreadable;
        links_outside += other.links_outside;
        links_inside += other.links_inside;
        not_files += other.not_files;
        version_control += other.version_control;
        return *this;
    }
};

/// A file that may be text.
struct File {
    std::filesystem::path path{};
    /// As it is printed: from the folder that the user named.
    std::string shown{};
    std::uintmax_t size = 0;
};

/// The files of a folder.
struct Folder {
    /// In the order of their names, whatever order the file system has.
    std::vector<File> files{};
    std::uintmax_t bytes = 0;
    Skipped skipped{};
};

namespace detail {

inline bool is_inside(const std::filesystem::path& path, const std::filesystem::path& root) {
    return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

inline void look_at(const std::filesystem::directory_entry& entry, const std::filesystem::path& root, Folder& folder,
                    std::vector<std::filesystem::path>& open) {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::file_status status = entry.symlink_status(error);
    if (error) {
        ++folder.skipped.unreadable;
    } else if (fs::is_symlink(status)) {
        const fs::path target = fs::canonical(entry.path(), error);
        ++(error                     ? folder.skipped.unreadable
           : is_inside(target, root) ? folder.skipped.links_inside
                                     : folder.skipped.links_outside);
    } else if (fs::is_directory(status)) {
        const fs::path name = entry.path().filename();
        if (name == ".git" || name == ".hg" || name == ".svn") {
            ++folder.skipped.version_control;
        } else {
            open.push_back(entry.path());
        }
    } else if (fs::is_regular_file(status)) {
        const std::uintmax_t size = entry.file_size(error);
        if (error) {
            ++folder.skipped.unreadable;
        } else {
            folder.files.push_back({entry.path(), {}, size});
            folder.bytes += size;
        }
    } else {
        ++folder.skipped.not_files;
    }
}

}  // namespace detail

/// The files under `path`. Links are not followed, so nothing is seen twice and nothing outside. Throws UsageError if
/// there is no such folder. Ends early, with what it has, when stop is requested.
inline Folder list(const std::filesystem::path& path, const std::stop_token& stop) {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) {
        throw UsageError("There is no folder '" + path.string() + "'.");
    }
    if (!fs::is_directory(status)) {
        throw UsageError("'" + path.string() + "' is not a folder.");
    }
    const fs::path root = fs::canonical(path, error);
    if (error) {
        throw UsageError("The folder '" + path.string() + "' cannot be opened: " + error.message() + ".");
    }

    Folder folder;
    std::vector<fs::path> open{root};
    while (!open.empty() && !stop.stop_requested()) {
        const fs::path next = std::move(open.back());
        open.pop_back();
        fs::directory_iterator entry(next, error);
        if (error && next == root) {
            throw UsageError("The folder '" + path.string() + "' cannot be read: " + error.message() + ".");
        }
        for (; !error && entry != fs::directory_iterator() && !stop.stop_requested(); entry.increment(error)) {
            detail::look_at(*entry, root, folder, open);
        }
        folder.skipped.unreadable += error ? 1 : 0;
    }
    for (File& file : folder.files) {
        const fs::path below = file.path.lexically_relative(root);
        file.shown = (path == "." ? below : path / below).generic_string();
    }
    std::sort(folder.files.begin(), folder.files.end(),
              [](const File& left, const File& right) { return left.shown < right.shown; });
    return folder;
}

}  // namespace search
