#pragma once

// <deque>, also after a host's macros `min` and `max`: libstdc++ writes std::min without the parentheses that keep a
// macro from being expanded, in this header but in few others.

#include "residency/compiler.hpp"

#pragma push_macro("min")
#pragma push_macro("max")
#undef min
#undef max

#include <deque>

#pragma pop_macro("max")
#pragma pop_macro("min")
