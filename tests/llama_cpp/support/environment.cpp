// Linked into every program of this folder: when ggml ends the process it would start a debugger first, for a
// backtrace.

#include <cstdlib>

namespace {

[[maybe_unused]] const int no_backtrace = ::setenv("GGML_NO_BACKTRACE", "1", 0);

}  // namespace
