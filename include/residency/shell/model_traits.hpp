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

/// What a slot has to know of its backend.
struct BackendTraits {
    /// Whether it says which keys it knows.
    bool knows_keys = false;
    /// Whether it says how much memory a key needs.
    bool says_memory = false;
};

}  // namespace residency::detail
