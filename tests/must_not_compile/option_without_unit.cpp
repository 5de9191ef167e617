// A length of time has a unit: 5 what?
// GNU: could not convert '5'
// Clang: no viable conversion from 'int'

#include "residency/options.hpp"

#include <chrono>

residency::SlotOptions options() {
#if defined(CONTROL)
    return residency::SlotOptions{.keep_alive = std::chrono::minutes{5}};
#else
    return residency::SlotOptions{.keep_alive = 5};
#endif
}
