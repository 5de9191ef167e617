#pragma once

#include <bit>
#include <cstdint>

namespace residency::lexical {

/// The natural logarithm of `value`, which is at least 1, with an error below 2^-24.
///
/// By integer arithmetic alone: `std::log` may differ in its last bit from one C library to the next, and what is computed from it would
/// too. The base-2 logarithm is found bit by bit: a mantissa in [1, 2) is squared, and whenever it reaches 2 the next bit is one.
[[nodiscard]] constexpr double integer_log(std::uint64_t value) noexcept {
    constexpr unsigned fraction_bits = 30;
    constexpr double ln_2 = 0.6931471805599453;
    const auto exponent = static_cast<unsigned>(std::bit_width(value)) - 1;
    // The mantissa, with 31 bits behind the point.
    std::uint64_t mantissa = exponent > 31 ? value >> (exponent - 31) : value << (31 - exponent);
    std::uint64_t log_2 = exponent;
    for (unsigned bit = 0; bit < fraction_bits; ++bit) {
        mantissa = (mantissa * mantissa) >> 31U;
        const std::uint64_t reached = mantissa >> 32U;
        mantissa >>= reached;
        log_2 = (log_2 << 1U) | reached;
    }
    return static_cast<double>(log_2) * (ln_2 / static_cast<double>(1ULL << fraction_bits));
}

}  // namespace residency::lexical
