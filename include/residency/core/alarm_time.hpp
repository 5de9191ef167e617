#pragma once

#include "residency/core/time.hpp"

#include <algorithm>
#include <utility>

namespace residency::core {

/// When a slot is to be looked at next, at the latest, and those reasons for it that no request, resident or operation
/// has. The alarm is never later than one of these reasons. A plain value.
class AlarmTime {
public:
    /// It rings no later than this.
    void ring_by(Time due) noexcept { time_ = due < time_ ? due : time_; }
    /// A call at this time left work; `never`: none is left.
    void resume_at(Time now) noexcept { ring_by(resumes_at_ = now); }
    /// A resident may then give way to a key that lacks a place although nothing happens until then.
    void yield_at(Time at) noexcept { ring_by(yields_at_ = at); }
    /// The memory budget wants to look again then.
    void look_at(Time at) noexcept { ring_by(looks_at_ = at); }
    /// Forgets what it was set for, but for the reasons that stand here.
    void restart() noexcept { time_ = (std::min)({resumes_at_, yields_at_, looks_at_}); }

    /// A request comes with a timeout of this length. Others will follow, and most of them end long before: the next
    /// alarm is set so early that those need not move it.
    void note_timeout(Duration timeout) noexcept {
        if (timeout > Duration::zero()) {
            shortest_timeout_ = (std::min)(shortest_timeout_, timeout);
        }
    }
    /// The shortest timeout since this was last asked; `Duration::max()` for none.
    [[nodiscard]] Duration take_timeout() noexcept { return std::exchange(shortest_timeout_, (Duration::max)()); }

    /// When it rings; `never` if nothing will be due.
    [[nodiscard]] Time time() const noexcept { return time_; }
    /// When the call was that left work for the next; `never` if none did.
    [[nodiscard]] Time resumes_at() const noexcept { return resumes_at_; }
    /// When a resident may give way; `never` if none does of itself.
    [[nodiscard]] Time yields_at() const noexcept { return yields_at_; }
    /// When the memory budget wants to look again; `never` if it does not.
    [[nodiscard]] Time looks_at() const noexcept { return looks_at_; }
    /// The shortest timeout so far.
    [[nodiscard]] Duration noted_timeout() const noexcept { return shortest_timeout_; }

    /// Same in every part.
    friend bool operator==(const AlarmTime&, const AlarmTime&) = default;

private:
    Time time_ = never;
    Time resumes_at_ = never;
    Time yields_at_ = never;
    Time looks_at_ = never;
    Duration shortest_timeout_ = (Duration::max)();
};

}  // namespace residency::core
