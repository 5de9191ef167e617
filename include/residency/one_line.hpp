#pragma once

#include "residency/compiler.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace residency::detail {

/// How many bytes at `at` are a control character: one for those of ASCII, two for U+0080 to U+009F in UTF-8, zero for
/// anything else.
[[nodiscard]] constexpr std::size_t control_character(std::string_view text, std::size_t at) noexcept {
    const auto byte = [text](std::size_t index) { return static_cast<unsigned char>(text[index]); };
    if (byte(at) < 0x20 || byte(at) == 0x7f) {
        return 1;
    }
    return byte(at) == 0xc2 && at + 1 < text.size() && byte(at + 1) >= 0x80 && byte(at + 1) < 0xa0 ? 2 : 0;
}

/// `text` with its control characters escaped (`\n`, `\t`, `\x1b`). Keys come from requests and messages from backends:
/// a line break in one must not look like a line of its own, nor may anything in one steer a terminal.
[[nodiscard]] inline std::string on_one_line(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string line;
    line.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t controls = control_character(text, at);
        if (controls == 0) {
            line += text[at++];
            continue;
        }
        for (const std::size_t end = at + controls; at < end; ++at) {
            const auto code = static_cast<unsigned char>(text[at]);
            if (code == '\n') {
                line += "\\n";
            } else if (code == '\t') {
                line += "\\t";
            } else {
                line += "\\x";
                line += digits[code >> 4U];
                line += digits[code & 0xFU];
            }
        }
    }
    return line;
}

}  // namespace residency::detail
