#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>

namespace residency::detail::remote {

/// The time that an HTTP-date says, in each of the three forms of RFC 9110, or nothing if it is none. The day of the
/// week is not looked at. A year of two digits is the nearest to `now`, at most 50 years after it.
///
///     Sun, 06 Nov 1994 08:49:37 GMT     Sunday, 06-Nov-94 08:49:37 GMT     Sun Nov  6 08:49:37 1994
[[nodiscard]] inline std::optional<std::chrono::sys_seconds> http_date_of(std::string_view text,
                                                                          std::chrono::sys_seconds now) {
    std::array<std::string_view, 6> words{};
    std::size_t count = 0;
    while (!text.empty()) {
        const std::string_view word = text.substr(0, text.find_first_of(" ,-"));
        if (!word.empty()) {
            if (count == words.size()) {
                return std::nullopt;
            }
            words[count++] = word;
        }
        text.remove_prefix((std::min)(word.size() + 1, text.size()));
    }
    const bool is_asctime = count == 5;
    if (!is_asctime && (count != 6 || words[5] != "GMT")) {
        return std::nullopt;
    }
    bool holds = true;
    const auto number = [&holds](std::string_view digits) {
        unsigned value = 0;
        const char* const last = digits.data() + digits.size();
        const auto [stopped, error] = std::from_chars(digits.data(), last, value);
        holds = holds && !digits.empty() && digits.size() <= 4 && error == std::errc() && stopped == last;
        return value;
    };
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const std::string_view month_word = words[is_asctime ? 1 : 2];
    const std::size_t month = months.find(month_word);
    const std::string_view time = words[is_asctime ? 3 : 4];
    if (month_word.size() != 3 || month == std::string_view::npos || month % 3 != 0 || time.size() != 8 ||
        time[2] != ':' || time[5] != ':') {
        return std::nullopt;
    }
    const unsigned day = number(words[is_asctime ? 2 : 1]);
    unsigned year = number(words[is_asctime ? 4 : 3]);
    const unsigned hour = number(time.substr(0, 2));
    const unsigned minute = number(time.substr(3, 2));
    const unsigned second = number(time.substr(6, 2));
    if (words[3].size() == 2) {
        const std::chrono::year_month_day today{std::chrono::floor<std::chrono::days>(now)};
        const auto this_year = static_cast<unsigned>(static_cast<int>(today.year()));
        year += this_year - this_year % 100;
        if (year > this_year + 50) {
            year -= 100;
        } else if (year + 50 <= this_year) {
            year += 100;
        }
    }
    const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)),
                                           std::chrono::month(static_cast<unsigned>(month / 3 + 1)),
                                           std::chrono::day(day)};
    // A leap second is the second after it.
    if (!holds || !date.ok() || hour > 23 || minute > 59 || second > 60) {
        return std::nullopt;
    }
    return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
           std::chrono::seconds(second);
}

}  // namespace residency::detail::remote
