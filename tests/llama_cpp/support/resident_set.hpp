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

/// The largest that it has been, in MiB.
inline double most_resident_mebibytes() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word == "VmHWM:") {
            double kibibytes = 0;
            status >> kibibytes;
            return kibibytes / 1024.0;
        }
    }
    return 0;
}

}  // namespace residency::test
