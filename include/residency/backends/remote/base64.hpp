#pragma once

#include "residency/compiler.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace residency::detail::remote {

/// The value of each character in base64; 255 for those that are none.
inline constexpr std::array<std::uint8_t, 256> base64_values = [] {
    constexpr std::string_view characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::array<std::uint8_t, 256> values{};
    values.fill(255);
    for (std::size_t value = 0; value < characters.size(); ++value) {
        values[static_cast<unsigned char>(characters[value])] = static_cast<std::uint8_t>(value);
    }
    return values;
}();

/// The floats that `text` is in base64: little-endian IEEE 754, four bytes each. None if it is not valid base64 with
/// its padding, or not a whole number of floats.
[[nodiscard]] inline std::optional<std::vector<float>> floats_of_base64(std::string_view text) {
    if (text.size() % 4 != 0) {
        return std::nullopt;
    }
    const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    const std::size_t bytes = text.size() / 4 * 3 - padding;
    if (bytes % 4 != 0) {
        return std::nullopt;
    }
    text.remove_suffix(padding);
    std::vector<float> floats;
    floats.reserve(bytes / 4);
    std::uint32_t word = 0;     // The bytes of a float so far, the first one lowest.
    unsigned in_word = 0;       // How many bits of `word` are there.
    std::uint32_t pending = 0;  // Bits that make no whole byte yet.
    unsigned bits = 0;
    for (const char character : text) {
        const std::uint8_t value = base64_values[static_cast<unsigned char>(character)];
        if (value == 255) {
            return std::nullopt;
        }
        pending = (pending << 6U | value) & 0xffffU;
        bits += 6;
        if (bits < 8) {
            continue;
        }
        bits -= 8;
        word |= (pending >> bits & 0xffU) << in_word;
        in_word += 8;
        if (in_word == 32) {
            floats.push_back(std::bit_cast<float>(word));
            word = 0;
            in_word = 0;
        }
    }
    return floats;
}

}  // namespace residency::detail::remote
