#pragma once

#include "residency/compiler.hpp"

#include <chrono>

namespace residency::core {

/// A length of time, as the decisions reckon with it.
using Duration = std::chrono::nanoseconds;

/// A point in time: nanoseconds since the epoch of whichever monotonic clock the caller uses. core/ has no clock of its
/// own.
using Time = std::chrono::nanoseconds;

/// Later than every other time: not due at all.
inline constexpr Time never = (Time::max)();

/// `length`, which counts whole nanoseconds or more, as a Duration; what is too large for it becomes the largest, which
/// is as good as forever.
template <class Rep, class Period>
[[nodiscard]] constexpr Duration to_duration(std::chrono::duration<Rep, Period> length) noexcept {
    using Wide = std::chrono::duration<Duration::rep, Period>;
    const Wide wide = length;
    if (wide >= std::chrono::duration_cast<Wide>((Duration::max)())) {
        return (Duration::max)();
    }
    return wide <= std::chrono::duration_cast<Wide>((Duration::min)()) ? (Duration::min)() : Duration(wide);
}

/// `start + length`, or `never` where that is past the end of time.
[[nodiscard]] constexpr Time later(Time start, Duration length) noexcept {
    if (length >= Duration::zero()) {
        return start > (Time::max)() - length ? never : start + length;
    }
    return start < (Time::min)() - length ? (Time::min)() : start + length;
}

}  // namespace residency::core
