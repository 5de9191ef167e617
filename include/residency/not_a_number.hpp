#pragma once

#include "residency/compiler.hpp"

#include <bit>
#include <cstdint>

namespace residency::detail {

/// Whether `value` is a NaN. Looks at the bits: with -ffast-math the compiler takes it for granted that there is none,
/// and leaves out std::isnan and comparisons. By reference, because clang takes it for granted of arguments, too.
[[nodiscard]] constexpr bool is_nan(const float& value) noexcept {
    return (std::bit_cast<std::uint32_t>(value) & 0x7fffffffU) > 0x7f800000U;
}
/// The same of a double.
[[nodiscard]] constexpr bool is_nan(const double& value) noexcept {
    return (std::bit_cast<std::uint64_t>(value) & 0x7fffffffffffffffU) > 0x7ff0000000000000U;
}

}  // namespace residency::detail
