#pragma once

// <filesystem>, also after a host's macros `min` and `max`; see std_deque.hpp.

#include "residency/compiler.hpp"

#pragma push_macro("min")
#pragma push_macro("max")
#undef min
#undef max

#include <filesystem>

#pragma pop_macro("max")
#pragma pop_macro("min")
