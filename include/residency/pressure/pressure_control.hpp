#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace residency::detail {

/// What is to be done with a budget.
struct PressureStep {
    /// The limit that it is to have; none: it keeps the one that it has.
    std::optional<std::size_t> limit{};
    /// How many bytes are to come back from idle residents, as far as there are any.
    std::size_t trim = 0;
    /// Whether memory is short.
    bool is_short = false;

    bool operator==(const PressureStep&) const = default;
};

/// Decides what to do with a budget while memory is short, from what is used and what may be. A plain value.
///
/// 1. From the upper mark on the budget may not grow: its limit becomes what it uses, and idle residents are evicted
///    for as many bytes as lie between what is used and the lower mark. What the decision before asked for, and is
///    still being unloaded, is not asked for again.
/// 2. Between the marks nothing changes: memory that an eviction gave back is not taken again at once.
/// 3. Below the lower mark the limit comes back, as far as what is used stays below that mark when the budget is full.
/// 4. A limit that the host set meanwhile is the one to come back to.
class PressureControl {
public:
    /// Marks as fractions of what may be used. `least` is a limit below which the budget is not brought.
    PressureControl(double lower, double upper, std::size_t least) noexcept
        : lower_(lower), upper_(upper), least_(least) {}

    /// What to do when `used` of `limit` bytes are used, and `budget_used` of the budget's `budget_limit`.
    [[nodiscard]] PressureStep decide(std::uint64_t used, std::uint64_t limit, std::size_t budget_used,
                                      std::size_t budget_limit) noexcept {
        if (lowered_ != budget_limit) {
            lowered_.reset();
            given_ = budget_limit;
        }
        const std::uint64_t low = part(limit, lower_);
        const std::size_t coming = less(asked_, less(asked_at_, budget_used));
        asked_ = 0;
        if (used >= part(limit, upper_)) {
            const std::size_t next = (std::min)(budget_limit, (std::max)(budget_used, least_));
            lower_to(next);
            asked_ = less(sum(0, used - (std::min)(low, used)), coming);
            asked_at_ = budget_used;
            return {change(budget_limit, next), asked_, true};
        }
        if (lowered_ && used < low) {
            const std::size_t fits = sum(budget_used, low - used);
            const std::size_t next = (std::min)(given_, (std::max)(budget_limit, fits));
            lower_to(next);
            return {change(budget_limit, next), 0, false};
        }
        return {};
    }

    /// The limit to give back to a budget whose limit is `budget_limit`; none if it is nothing of ours.
    [[nodiscard]] std::optional<std::size_t> to_give_back(std::size_t budget_limit) const noexcept {
        return lowered_ == budget_limit ? std::optional(given_) : std::nullopt;
    }

    /// Whether the budget's limit is lower than the one to come back to.
    [[nodiscard]] bool lowered() const noexcept { return lowered_.has_value(); }

private:
    static std::uint64_t part(std::uint64_t whole, double fraction) noexcept {
        // 2^64: the largest number that is no std::uint64_t.
        const double product = static_cast<double>(whole) * fraction;
        return product >= 0x1p64 ? whole : static_cast<std::uint64_t>(product);
    }
    static std::size_t sum(std::size_t bytes, std::uint64_t more) noexcept {
        constexpr std::uint64_t most = (std::numeric_limits<std::size_t>::max)();
        return bytes + (std::min)(most - bytes, more);
    }
    static std::size_t less(std::size_t bytes, std::size_t taken) noexcept { return bytes - (std::min)(bytes, taken); }
    static std::optional<std::size_t> change(std::size_t from, std::size_t to) noexcept {
        return from == to ? std::nullopt : std::optional(to);
    }
    void lower_to(std::size_t limit) noexcept { lowered_ = limit < given_ ? std::optional(limit) : std::nullopt; }

    double lower_;
    double upper_;
    std::size_t least_;
    // The limit that the budget had before it was lowered.
    std::size_t given_ = 0;
    // The limit that the budget has by our doing.
    std::optional<std::size_t> lowered_{};
    // What idle residents were last asked for, and what the budget used then.
    std::size_t asked_ = 0;
    std::size_t asked_at_ = 0;
};

}  // namespace residency::detail
