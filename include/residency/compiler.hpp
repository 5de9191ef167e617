#pragma once

// What residency needs of the compiler's flags. Every header of ours includes this one first.

#if !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "residency reports errors as exceptions: compile without -fno-exceptions"
#include "residency/stopped"  // There is none: it ends the compilation, where a page of other errors would follow.
#endif
