#pragma once

#include "residency/core/time.hpp"

#include <cstddef>
#include <optional>

namespace residency::core {

/// How fast a slot computes texts while others wait: a moving average, in which each call weighs 7/8 of the one after
/// it. It decides nothing: it only says when to try again. A plain value.
class TextRate {
public:
    /// Whether texts are computed while others wait: only that time counts. Called after whatever changed it.
    void run(bool runs, Time now) noexcept { since_ = !runs ? never : since_ == never ? now : since_; }

    /// A call about so many texts has ended.
    void note(std::size_t texts, Time now) noexcept {
        if (since_ == never) {
            return;
        }
        constexpr double kept = 7.0 / 8.0;
        texts_ = texts_ * kept + static_cast<double>(texts);
        time_ = time_ * kept + static_cast<double>((now - since_).count());
        since_ = now;
    }

    /// How long it takes to compute so many; nothing if no such call has ended yet, or if they are none.
    [[nodiscard]] std::optional<Duration> time_for(std::size_t texts) const noexcept {
        if (texts == 0 || texts_ == 0.0) {
            return std::nullopt;
        }
        const double nanoseconds = static_cast<double>(texts) * time_ / texts_;
        // As a double, the longest duration is one more than it is.
        constexpr double longest = static_cast<double>((Duration::max)().count());
        return nanoseconds < 1.0        ? Duration(1)
               : nanoseconds >= longest ? (Duration::max)()
                                        : Duration(static_cast<Duration::rep>(nanoseconds));
    }

    /// Same in every part.
    friend bool operator==(const TextRate&, const TextRate&) = default;

private:
    double texts_ = 0.0;
    // In nanoseconds.
    double time_ = 0.0;
    // The end of the latest call, or when this began; never if it does not run.
    Time since_ = never;
};

}  // namespace residency::core
