#pragma once

#include "residency/compiler.hpp"

#include <cmath>
#include <span>

namespace residency::detail {

/// Scales the vector to length 1, unless it has none.
inline void scale_to_length_1(std::span<float> vector) noexcept {
    double sum = 0.0;
    for (const float value : vector) {
        sum += static_cast<double>(value) * static_cast<double>(value);
    }
    if (sum > 0.0) {
        const auto factor = static_cast<float>(1.0 / std::sqrt(sum));
        for (float& value : vector) {
            value *= factor;
        }
    }
}

}  // namespace residency::detail
