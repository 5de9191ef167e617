#pragma once

// For programs in which several files make managers. Define RESIDENCY_SEPARATE_COMPILATION for all files of the
// program, and include this header in exactly one of them: what every slot on std::chrono::steady_clock is made of is
// compiled there, and not in each. Builds take less time then, most of all those that do not optimise; nothing else
// changes.

#include "residency/shell/slot_shell.hpp"

#include <chrono>

#if defined(RESIDENCY_SEPARATE_COMPILATION)
namespace residency::detail {

template struct SlotState<std::chrono::steady_clock>;
template class SlotMemory<SlotShell<std::chrono::steady_clock>>;
template class SlotShell<std::chrono::steady_clock>;

}  // namespace residency::detail
#endif
