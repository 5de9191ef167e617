#pragma once

#include "residency/runtime/asio.hpp"

#include <chrono>
#include <optional>
#include <utility>

namespace residency::runtime {

/// One timer with at most one wait outstanding. Before a wait is replaced it is cancelled, and its handler has run: the next wait
/// starts only after `ended()`.
///
/// Its owner decides under a mutex (`plan`, `ended`, `quiet`, `stands_at`) and acts without it (`start`, `cancel`), one thread at a
/// time. An expiry decides nothing: its handler calls `ended()` and looks at the owner's state.
template <class Clock>
class Alarm {
public:
    /// Nanoseconds since the clock's epoch.
    using Time = std::chrono::nanoseconds;
    /// No wait is wanted.
    static constexpr Time never = Time::max();

    /// What the owner has to do next, outside its mutex.
    enum class Step {
        /// The wait that stands, or that there is none, is right, or the handler of a cancelled one has yet to run.
        nothing,
        /// Call `start`.
        start,
        /// Call `cancel`.
        cancel,
    };

    /// An alarm on `executor`'s timers.
    explicit Alarm(const asio::any_io_executor& executor) : timer_(std::in_place, executor) {}

    /// Brings the alarm in line with the time at which its owner wants to be woken at the latest. A wait that ends earlier is
    /// good enough; one that ends later is replaced. Under the owner's mutex.
    [[nodiscard]] Step plan(Time wanted) noexcept {
        if (!timer_ || cancelling_) {
            return Step::nothing;
        }
        if (stands_at_ == never) {
            if (wanted == never) {
                return Step::nothing;
            }
            stands_at_ = wanted;
            return Step::start;
        }
        if (wanted < stands_at_ || wanted == never) {
            cancelling_ = true;
            return Step::cancel;
        }
        return Step::nothing;
    }

    /// Whether `plan(wanted)` would ask for something. Under the owner's mutex.
    [[nodiscard]] bool wants(Time wanted) const noexcept {
        return timer_ && !cancelling_ && (wanted < stands_at_ || (wanted == never && stands_at_ != never));
    }

    /// The handler has run. Under the owner's mutex.
    void ended() noexcept {
        stands_at_ = never;
        cancelling_ = false;
    }

    /// Whether no wait is outstanding. Under the owner's mutex.
    [[nodiscard]] bool quiet() const noexcept { return stands_at_ == never; }

    /// Starts the planned wait: `handler(error_code)` runs when it ends, for whatever reason.
    template <class Handler>
    void start(Time at, Handler handler) {
        // Rounded up to the clock's ticks, so that it never wakes before something is due.
        timer_->expires_at(typename Clock::time_point(std::chrono::ceil<typename Clock::duration>(at)));
        timer_->async_wait(std::move(handler));
    }

    /// Ends the wait early; its handler still runs.
    void cancel() { timer_->cancel(); }

    /// Gives the timer up for good, because its context ends or its owner does: takes it out, to be destroyed without the owner's mutex.
    std::optional<asio::basic_waitable_timer<Clock>> take() {
        std::optional<asio::basic_waitable_timer<Clock>> timer = std::move(timer_);
        timer_.reset();
        return timer;
    }

private:
    std::optional<asio::basic_waitable_timer<Clock>> timer_;
    Time stands_at_ = never;
    bool cancelling_ = false;
};

}  // namespace residency::runtime
