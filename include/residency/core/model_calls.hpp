#pragma once

#include "residency/options.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace residency::core {

/// What parts of requests have of the calls of a slot, or of one of its residents.
struct PartsShare {
    /// How many calls may run at once.
    std::size_t most = 0;
    /// How many of those that run are for parts.
    std::size_t parts = 0;
    /// The number of the latest call that was not; zero if there was none.
    std::uint64_t whole_at = 0;
    /// Whether the latest call of all was.
    bool last_is_part = false;
};

/// The model calls of a slot: how many run, and which may begin beside them (H25, H26). A plain value.
///
/// Calls are numbered as they begin, from 1. What was in one of the latest 2 x `most()` of them counts as present: a
/// caller that asks again as soon as it has its answer is.
class ModelCalls {
public:
    /// None. `most`: how many may run at once.
    explicit ModelCalls(std::size_t most) noexcept : most_(most) {}

    /// A call of this priority begins; `is_part`: it is for a part of a request. Precondition: fewer than `most` run.
    void begin(Priority priority, bool is_part) noexcept {
        ++running_;
        ++begun_;
        ++running_of_[static_cast<std::size_t>(priority)];
        latest_of_[static_cast<std::size_t>(priority)] = begun_;
        last_is_part_ = is_part;
        if (is_part) {
            ++parts_;
        } else {
            whole_at_ = begun_;
        }
    }
    /// It ends.
    void end(Priority priority, bool is_part) noexcept {
        --running_;
        --running_of_[static_cast<std::size_t>(priority)];
        parts_ -= is_part ? 1U : 0U;
    }
    /// A request has come for a call while another had one or waited for one: for a while none counts as alone.
    void note_company() noexcept { company_until_ = begun_ + 2 * most_; }

    /// How many may run at once.
    [[nodiscard]] std::size_t most() const noexcept { return most_; }
    /// How many run.
    [[nodiscard]] std::size_t running() const noexcept { return running_; }
    /// How many of these are of this priority.
    [[nodiscard]] std::size_t running(Priority priority) const noexcept {
        return running_of_[static_cast<std::size_t>(priority)];
    }
    /// How many have begun so far: the number of the latest.
    [[nodiscard]] std::uint64_t begun() const noexcept { return begun_; }
    /// The number of the latest of this priority; zero if there was none.
    [[nodiscard]] std::uint64_t latest(Priority priority) const noexcept {
        return latest_of_[static_cast<std::size_t>(priority)];
    }
    /// What parts of requests have of them.
    [[nodiscard]] PartsShare parts() const noexcept { return {most_, parts_, whole_at_, last_is_part_}; }
    /// Until so many have begun no request counts as alone.
    [[nodiscard]] std::uint64_t company_until() const noexcept { return company_until_; }
    /// Whether no two requests were there at once lately.
    [[nodiscard]] bool had_no_company() const noexcept { return begun_ >= company_until_; }

    /// Whether a call of this priority may begin: one is free, and is not left to a higher priority (H26).
    [[nodiscard]] bool may_begin(Priority priority) const noexcept {
        return running_ + 1 < most_ || (running_ < most_ && (most_ == 1 || may_take_last(priority)));
    }
    /// Whether one more call on what `share` is about may be for a part, as far as requests go that are not cut (H26).
    /// `wait`: one of those waits for a call on it.
    [[nodiscard]] bool may_begin_part(const PartsShare& share, bool wait) const noexcept;

    /// Same in every part.
    friend bool operator==(const ModelCalls&, const ModelCalls&) = default;

private:
    [[nodiscard]] bool may_take_last(Priority priority) const noexcept;
    // Whether the call was one of the latest; there was none if the number is zero.
    [[nodiscard]] bool is_recent(std::uint64_t number) const noexcept {
        return number != 0 && begun_ - number < 2 * most_;
    }

    std::size_t most_;
    std::size_t running_ = 0;
    std::size_t parts_ = 0;
    std::uint64_t begun_ = 0;
    // By priority.
    std::array<std::size_t, 3> running_of_{};
    std::array<std::uint64_t, 3> latest_of_{};
    // The number of the latest call that is not for a part.
    std::uint64_t whole_at_ = 0;
    std::uint64_t company_until_ = 0;
    bool last_is_part_ = false;
};

// Whether a call of this priority may take the only one that is free, of several. Requests of a priority are present if
// one was in one of the latest calls; those that wait with a higher one go first anyway.
//
//  1. Requests of a higher priority are present, and calls of lower ones run on all other calls: it may not.
//  2. Else it may.
inline bool ModelCalls::may_take_last(Priority priority) const noexcept {
    std::size_t lower = running_;
    for (std::size_t higher = 0; higher < static_cast<std::size_t>(priority); ++higher) {
        lower -= running_of_[higher];
        if (is_recent(latest_of_[higher]) && lower >= most_ - 1) {  // 1.
            return false;
        }
    }
    return true;  // 2.
}

// Requests that are not cut are present if one waits, or was in one of the latest calls.
//
//  1. One call may run: not after a part, if one waits that could have the call.
//  2. None is present: it may.
//  3. More calls may run: one of them is left to the others.
inline bool ModelCalls::may_begin_part(const PartsShare& share, bool wait) const noexcept {
    if (share.most == 1) {  // 1.
        return !wait || !share.last_is_part;
    }
    return (!wait && !is_recent(share.whole_at)) || share.parts < share.most - 1;  // 2., 3.
}

}  // namespace residency::core
