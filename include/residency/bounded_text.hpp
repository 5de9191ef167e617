#pragma once

#include "residency/compiler.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace residency::detail {

/// The most bytes of a message that comes from a backend, a model or a handler.
inline constexpr std::size_t max_message_size = 4096;

/// `text`, or as much of its beginning as leaves room for the mark "... (N bytes more)": at most `max_message_size`
/// bytes. A character in UTF-8 is kept whole or left out.
[[nodiscard]] inline std::string bounded(std::string_view text) {
    if (text.size() <= max_message_size) {
        return std::string(text);
    }
    constexpr std::string_view before = "... (";
    constexpr std::string_view after = " bytes more)";
    constexpr std::size_t most_digits = 20;
    std::size_t kept = max_message_size - before.size() - most_digits - after.size();
    // Up to three bytes that continue a character, or the text is no UTF-8 and may be cut anywhere.
    const auto continues = [text](std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U; };
    for (std::size_t back = 0; back < 4; ++back) {
        if (!continues(kept - back)) {
            kept -= back;
            break;
        }
    }
    std::string cut(text.substr(0, kept));
    cut += before;
    cut += std::to_string(text.size() - kept);
    cut += after;
    return cut;
}

}  // namespace residency::detail
