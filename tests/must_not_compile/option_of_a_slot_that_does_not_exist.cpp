// An option that does not exist is named, two braces deep, too: as long as the options have a name of their own.
// GNU: 'residency::SlotOptions' has no non-static data member named 'keep_alives'
// Clang: 'keep_alives' does not refer to any field

#include "residency/options.hpp"

#include <chrono>

residency::ManagerOptions options() {
#if defined(CONTROL)
    const residency::ManagerOptions options{.embedding = {.keep_alive = std::chrono::minutes{5}, .max_leases = 4}};
#else
    const residency::ManagerOptions options{.embedding = {.keep_alives = std::chrono::minutes{5}, .max_leases = 4}};
#endif
    return options;
}
