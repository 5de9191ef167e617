#pragma once

// What of this process is in memory, as Linux says.

#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <string>

namespace residency::test {

inline constexpr double mebibyte = 1024.0 * 1024.0;

/// The resident set now, in MiB.
inline double resident_mebibytes() {
    std::ifstream statm("/proc/self/statm");
    std::size_t pages = 0;
    statm >> pages >> pages;
    return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / mebibyte;
}

/// What /proc/self/status says at `name`, in MiB; 0 if it does not.
inline double status_mebibytes(const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word == name) {
            double kibibytes = 0;
            status >> kibibytes;
            return kibibytes / 1024.0;
        }
    }
    return 0;
}

/// The largest that it has been, in MiB.
inline double most_resident_mebibytes() { return status_mebibytes("VmHWM:"); }

/// What of it is of no file, in MiB.
inline double anonymous_mebibytes() { return status_mebibytes("RssAnon:"); }

}  // namespace residency::test
