#pragma once

#include "residency/compiler.hpp"

// The one place where OpenVINO is included. Its headers do not hold up to every warning, nor to a host's macros `min`
// and `max`.
#if defined(__GNUC__)
#pragma GCC system_header
#endif

#pragma push_macro("min")
#pragma push_macro("max")
#undef min
#undef max

#include <openvino/op/constant.hpp>
#include <openvino/openvino.hpp>

#pragma pop_macro("max")
#pragma pop_macro("min")
