#pragma once

#include "residency/compiler.hpp"

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace residency::detail {

/// Returns freed memory to the system when it is destroyed, if wanted. Declare it before the objects that free memory.
class TrimMemory {
public:
    explicit TrimMemory(bool wanted) noexcept : wanted_(wanted) {}
    ~TrimMemory() {
#if defined(__GLIBC__)
        if (wanted_) {
            malloc_trim(0);
        }
#endif
    }
    TrimMemory(const TrimMemory&) = delete;
    TrimMemory& operator=(const TrimMemory&) = delete;

    /// Not any more: what was to be freed lives on.
    void keep() noexcept { wanted_ = false; }

private:
    bool wanted_;
};

}  // namespace residency::detail
