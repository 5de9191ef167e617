#pragma once

#include "residency/compiler.hpp"

#include <cstddef>
#include <limits>

namespace residency {

/// How much one call of a model does best with, which its `batch_limits()` says. Requests for the same model share
/// calls up to these limits. The default is a model whose calls are not shared.
struct BatchLimits {
    /// How many texts or pairs. Zero counts as 1; with 1 each request has calls of its own.
    std::size_t texts = 1;
    /// How many bytes these are in all. Default: as many as there are.
    std::size_t bytes = (std::numeric_limits<std::size_t>::max)();

    /// Same in both.
    friend bool operator==(const BatchLimits&, const BatchLimits&) = default;
};

}  // namespace residency
