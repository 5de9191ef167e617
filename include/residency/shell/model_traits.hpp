#pragma once

#include "residency/core/resident.hpp"

namespace residency::detail {

/// What a slot has to know of a model.
struct ModelTraits {
    /// How much it takes.
    core::ModelLimits limits{};
    /// Whether queries and documents differ for it.
    bool distinguishes = false;
};

}  // namespace residency::detail
