// An option that does not exist is not passed over.
// GNU: 'residency::SlotOptions' has no non-static data member named 'keep_alives'
// Clang: 'keep_alives' does not refer to any field

#include "residency/options.hpp"

#include <chrono>

residency::SlotOptions options() {
#if defined(CONTROL)
    return residency::SlotOptions{.keep_alive = std::chrono::minutes{5}};
#else
    return residency::SlotOptions{.keep_alives = std::chrono::minutes{5}};
#endif
}
