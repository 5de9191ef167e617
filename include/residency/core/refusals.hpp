#pragma once

#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/event.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <utility>

namespace residency::core {

/// The requests that a slot refuses, summed up by reason, so that a flood of them makes few events (H19): the first of
/// a reason makes one at once, those of the period after it make one together at the period's end. A plain value.
class Refusals {
public:
    /// What requests are refused for that an event reports.
    static constexpr std::array reasons{Reason::overloaded, Reason::cooling_down, Reason::unknown_model,
                                        Reason::insufficient_memory};
    /// How long refusals for one reason are summed up into one event.
    static constexpr Duration period = std::chrono::seconds(1);

    /// Counts a request for `key`. Whether its event is due now; if not, it is due at `next(reason)`.
    [[nodiscard]] bool add(Reason reason, const SharedKey& key, Time now) noexcept {
        Sum& sum = sums_[index_of(reason)];
        sum.key = key;
        ++sum.count;
        return sum.next <= now;
    }
    /// An event says so at `now`: gives the count for it, and begins the next period.
    [[nodiscard]] Index report(Reason reason, Time now) noexcept {
        Sum& sum = sums_[index_of(reason)];
        sum.next = later(now, period);
        return std::exchange(sum.count, 0);
    }

    /// How many requests were refused for this reason since the last event said so.
    [[nodiscard]] std::size_t count(Reason reason) const noexcept { return of(reason).count; }
    /// When the next event may say so.
    [[nodiscard]] Time next(Reason reason) const noexcept { return of(reason).next; }
    /// The key of the latest of them.
    [[nodiscard]] const SharedKey& key(Reason reason) const noexcept { return of(reason).key; }
    /// Whether an event is due that says so.
    [[nodiscard]] bool is_due(Reason reason, Time now) const noexcept {
        return of(reason).count != 0 && of(reason).next <= now;
    }
    /// When the next event is due; `never` if all refusals were reported.
    [[nodiscard]] Time due() const noexcept {
        Time due = never;
        for (const Sum& sum : sums_) {
            due = sum.count != 0 ? (std::min)(due, sum.next) : due;
        }
        return due;
    }

    /// Same in every part.
    friend bool operator==(const Refusals&, const Refusals&) = default;

private:
    // What was refused for one reason since the last event.
    struct Sum {
        SharedKey key{};
        Index count = 0;
        // The next event comes no earlier.
        Time next = (Time::min)();
        friend bool operator==(const Sum&, const Sum&) = default;
    };

    // Their place among `reasons`, which are neighbours in `Reason`, too.
    [[nodiscard]] static std::size_t index_of(Reason reason) noexcept {
        return static_cast<std::size_t>(reason) - static_cast<std::size_t>(reasons.front());
    }
    [[nodiscard]] const Sum& of(Reason reason) const noexcept { return sums_[index_of(reason)]; }

    std::array<Sum, reasons.size()> sums_{};
};

}  // namespace residency::core
