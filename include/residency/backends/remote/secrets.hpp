#pragma once

#include "residency/backends/remote/json.hpp"
#include "residency/one_line.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::remote {

/// What an endpoint gets and no message has: the API key, and the values of headers.
class Secrets {
public:
    /// Adds what a message must not have; nothing if it is empty.
    void add(std::string_view secret) {
        if (secret.empty()) {
            return;
        }
        std::string escaped;
        append_escaped(escaped, secret);
        if (escaped != secret) {
            texts_.push_back(std::move(escaped));
        }
        texts_.emplace_back(secret);
    }

    /// Adds the value of a header, and what comes after its scheme (`Bearer KEY`). Less than four bytes are no secret,
    /// and would be found in many a word.
    void add_header(std::string_view value) {
        for (const std::string_view part : {value, value.substr(value.rfind(' ') + 1)}) {
            if (part.size() >= 4) {
                add(part);
            }
        }
    }

    /// The beginning of `text` with `***` in place of each secret, on one line: at most 512 bytes, before control
    /// characters are escaped. A secret across that limit is found, too.
    [[nodiscard]] std::string words(std::string_view text) const {
        constexpr std::size_t most = 512;
        std::string words;
        while (!text.empty() && words.size() <= most) {
            std::size_t secret = 0;  // The longest that begins here.
            for (const std::string& each : texts_) {
                secret = text.starts_with(each) ? (std::max)(secret, each.size()) : secret;
            }
            words += secret == 0 ? text.substr(0, 1) : "***";
            text.remove_prefix((std::max)(secret, std::size_t{1}));
        }
        if (words.size() > most) {
            // A character that is cut: up to three bytes of it, and what continues for longer is no UTF-8.
            std::size_t end = most;
            for (int back = 0; back < 3 && continues(words[end]); ++back) {
                --end;
            }
            words.resize(continues(words[end]) ? most : end);
        }
        return on_one_line(words);
    }

private:
    static bool continues(char byte) noexcept { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; }

    std::vector<std::string> texts_{};
};

}  // namespace residency::detail::remote
