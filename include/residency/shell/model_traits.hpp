#pragma once

#include "residency/compiler.hpp"

#include <cstddef>

namespace residency::detail {

/// What a slot has to know of a model.
struct ModelTraits {
    /// How many leases it takes at once.
    std::size_t capacity = 0;
    /// Whether queries and documents differ for it.
    bool distinguishes = false;
};

}  // namespace residency::detail
