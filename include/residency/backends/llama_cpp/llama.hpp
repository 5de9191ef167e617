#pragma once

#include "residency/compiler.hpp"

// The one place where llama.cpp is included. Its headers do not hold up to every warning, and where it is built along
// with a project they are not a system's.
#if defined(__GNUC__)
#pragma GCC system_header
#endif

#include <llama.h>
