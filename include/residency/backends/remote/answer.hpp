#pragma once

#include "residency/backends/remote/http_date.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace residency::detail::remote {

/// What a peer answered: a whole HTTP response.
struct Answer {
    /// The status: 200 and so on.
    unsigned status = 0;
    /// Whether the body says that it is JSON.
    bool is_json = false;
    /// The `Retry-After`, if it has one.
    std::optional<std::chrono::milliseconds> retry_after{};
    /// The body.
    std::string body{};
};

/// Why there is no answer.
enum class Fault : std::uint8_t {
    /// There is one.
    nothing,
    /// No connection could be made.
    no_connection,
    /// The connection ended before a byte of the answer came.
    no_answer,
    /// What came is no whole HTTP response, or one that is too large.
    broken,
    /// The request's time was over.
    timed_out,
    /// A stop was requested.
    stopped,
};

/// What became of one HTTP request.
struct Exchange {
    /// The answer, if `fault` is `nothing`.
    Answer answer{};
    /// Why there is none.
    Fault fault = Fault::nothing;
    /// The same for people.
    std::string why{};
};

/// What a `Retry-After` header says: a number of seconds, or a date; a date that is over is zero. At most a day. `date`
/// is the answer's `Date`: a date is counted from that, or, if it is none, from `now`.
[[nodiscard]] inline std::optional<std::chrono::milliseconds> retry_after_of(std::string_view value,
                                                                             std::string_view date,
                                                                             std::chrono::sys_seconds now) {
    constexpr std::uint64_t most = 24 * 60 * 60;
    if (const std::optional<std::chrono::sys_seconds> until = http_date_of(value, now)) {
        const std::chrono::seconds wait = *until - http_date_of(date, now).value_or(now);
        return std::clamp(wait, std::chrono::seconds::zero(), std::chrono::seconds(most));
    }
    std::uint64_t seconds = 0;
    const char* const last = value.data() + value.size();
    const auto [stopped, error] = std::from_chars(value.data(), last, seconds);
    if (value.empty() || stopped != last || (error != std::errc() && error != std::errc::result_out_of_range)) {
        return std::nullopt;
    }
    if (error == std::errc::result_out_of_range || seconds > most) {
        seconds = most;
    }
    return std::chrono::seconds(seconds);
}

}  // namespace residency::detail::remote
