#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
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
    std::vector<float> floats(bytes / 4);
    auto* out = reinterpret_cast<unsigned char*>(floats.data());  // NOLINT(cppcoreguidelines-pro-type-reinterpret-cast)
    unsigned bad = 0;                                             // 64 or more: a character that is none.
    const auto three_bytes = [&bad](const char* four) {
        const auto value = [four](std::size_t place) {
            return std::uint32_t{base64_values[static_cast<unsigned char>(four[place])]};
        };
        const std::array<std::uint32_t, 4> values{value(0), value(1), value(2), value(3)};
        bad |= values[0] | values[1] | values[2] | values[3];
        return values[0] << 18U | values[1] << 12U | values[2] << 6U | values[3];
    };
    const std::size_t whole = bytes / 3 * 4;
    for (std::size_t at = 0; at < whole; at += 4) {
        const std::uint32_t three = three_bytes(&text[at]);
        *out++ = static_cast<unsigned char>(three >> 16U);
        *out++ = static_cast<unsigned char>(three >> 8U);
        *out++ = static_cast<unsigned char>(three);
    }
    if (padding != 0) {
        std::array<char, 4> last{text[whole], text[whole + 1], padding == 2 ? 'A' : text[whole + 2], 'A'};
        const std::uint32_t three = three_bytes(last.data());
        *out++ = static_cast<unsigned char>(three >> 16U);
        if (padding == 1) {
            *out++ = static_cast<unsigned char>(three >> 8U);
        }
    }
    if (bad > 63) {
        return std::nullopt;
    }
    if constexpr (std::endian::native == std::endian::big) {
        for (float& each : floats) {
            auto bits = std::bit_cast<std::array<unsigned char, 4>>(each);
            std::reverse(bits.begin(), bits.end());
            each = std::bit_cast<float>(bits);
        }
    }
    return floats;
}

}  // namespace residency::detail::remote
