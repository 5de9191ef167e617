#pragma once

#include "residency/compiler.hpp"

#include <bit>
#include <cstdint>

namespace residency::lexical {

/// What `integer_log` gives for a logarithm of 1: its results have 30 bits behind the point.
inline constexpr std::uint64_t log_one = std::uint64_t{1} << 30U;

/// The natural logarithm of `value`, which is at least 1, times `log_one`; wrong by less than 2^-24.
///
/// By integer arithmetic alone: `std::log` may differ in its last bit from one C library to the next, and what is
/// computed from it would too. The base-2 logarithm is found bit by bit: a mantissa in [1, 2) is squared, and whenever
/// it reaches 2 the next bit is one.
[[nodiscard]] constexpr std::uint64_t integer_log(std::uint64_t value) noexcept {
    const auto exponent = static_cast<std::uint64_t>(63 - std::countl_zero(value));
    // The mantissa, with 31 bits behind the point.
    std::uint64_t mantissa = exponent > 31 ? value >> (exponent - 31) : value << (31 - exponent);
    std::uint64_t fraction = 0;
    for (unsigned bit = 0; bit < 30; ++bit) {
        mantissa = (mantissa * mantissa) >> 31U;
        const std::uint64_t reached = mantissa >> 32U;
        mantissa >>= reached;
        fraction = (fraction << 1U) | reached;
    }
    constexpr std::uint64_t ln_2 = 2'977'044'472;  // With 32 bits behind the point.
    return ((exponent * ln_2) >> 2U) + ((fraction * ln_2) >> 32U);
}

}  // namespace residency::lexical
