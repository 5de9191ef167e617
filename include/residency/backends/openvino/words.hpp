#pragma once

#include "residency/compiler.hpp"

#include <string>
#include <string_view>

namespace residency::detail::openvino {

/// What an error of OpenVINO says, without the lines that name places in its sources; the others in one line.
[[nodiscard]] inline std::string words_of(std::string_view what) {
    std::string words;
    while (!what.empty()) {
        const std::size_t end = what.find('\n');
        std::string_view line = what.substr(0, end);
        what.remove_prefix(end == std::string_view::npos ? what.size() : end + 1);
        const std::size_t begin = line.find_first_not_of(" \t\r");
        if (begin == std::string_view::npos) {
            continue;
        }
        line = line.substr(begin, line.find_last_not_of(" \t\r") + 1 - begin);
        if (!line.starts_with("Exception from") && !line.starts_with("Check '")) {
            words += words.empty() ? "" : "; ";
            words += line;
        }
    }
    return words.empty() ? "OpenVINO gives no reason" : words;
}

}  // namespace residency::detail::openvino
