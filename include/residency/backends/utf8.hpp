#pragma once

#include "residency/compiler.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace residency::detail {

/// How many bytes the character at the front of `text` has; 0 if it is not UTF-8. Precondition: `text` is not empty.
[[nodiscard]] constexpr std::size_t utf8_length(std::string_view text) noexcept {
    const auto byte = [text](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U; };
    const unsigned first = byte(0);
    if (first < 0x80) {
        return 1;
    }
    const std::size_t length = first >= 0xC2 && first < 0xE0   ? 2
                               : first >= 0xE0 && first < 0xF0 ? 3
                               : first >= 0xF0 && first < 0xF5 ? 4
                                                               : 0;
    // No character has a longer form than it needs, is a surrogate, or is beyond U+10FFFF.
    const unsigned least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    for (std::size_t at = 1; at < length; ++at) {
        if (byte(at) < (at == 1 ? least : 0x80U) || byte(at) > (at == 1 ? most : 0xBFU)) {
            return 0;
        }
    }
    return length;
}

/// The text with U+FFFD for each byte that is not UTF-8.
[[nodiscard]] inline std::string as_utf8(std::string_view text) {
    std::string valid;
    valid.reserve(text.size());
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        valid += length != 0 ? text.substr(0, length) : "\xEF\xBF\xBD";
        text.remove_prefix(length != 0 ? length : 1);
    }
    return valid;
}

}  // namespace residency::detail
