#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace residency::runtime {

/// One timer with at most one wait outstanding. Before a wait is replaced it is cancelled and its handler has run: the
/// next wait starts only after `ended()` (R7).
///
/// Its owner plans under its own mutex (`wants`, `plan`, `ended`, `quiet`) and calls `sync` without it, on any thread.
/// An expiry decides nothing: its handler calls `ended()` and looks at the owner's state.
template <class Clock>
class Alarm {
public:
    /// Nanoseconds since the clock's epoch.
    using Time = std::chrono::nanoseconds;
    /// No wait is wanted.
    static constexpr Time never = (Time::max)();

    /// What is to be done with the timer.
    enum class Step : std::uint8_t {
        /// Nothing: the present wait is early enough, or the handler of a cancelled one has yet to run.
        none,
        /// Start the wait.
        start,
        /// Cancel it.
        cancel,
    };

    /// An alarm on `executor`'s timers.
    explicit Alarm(const asio::any_io_executor& executor) : timer_(std::in_place, executor) {}

    /// Whether `plan(wanted)` would ask for a step. Under the owner's mutex.
    [[nodiscard]] bool wants(Time wanted) const noexcept {
        return !cancelling_ && (wanted < due_ || (wanted == never && due_ != never));
    }

    /// Brings the plan in line with the time at which the owner wants to be woken at the latest. A wait that ends
    /// earlier is good enough; one that ends later is replaced. Under the owner's mutex.
    [[nodiscard]] Step plan(Time wanted) noexcept {
        if (!wants(wanted)) {
            return Step::none;
        }
        if (due_ == never) {
            due_ = wanted;
            return Step::start;
        }
        cancelling_ = true;
        return Step::cancel;
    }

    /// The wait's handler runs. Under the owner's mutex.
    void ended() noexcept {
        due_ = never;
        cancelling_ = false;
    }

    /// Whether no wait is outstanding. Under the owner's mutex.
    [[nodiscard]] bool quiet() const noexcept { return due_ == never; }

    /// Does what `next()` asks for, a pair of a step and a time, until that is `Step::none`. `next` takes the owner's
    /// mutex and calls `plan`: steps are planned and taken one at a time, so that two threads cannot swap theirs.
    /// `make_handler()` gives the handler of a wait. Throws what starting a wait throws; then no wait is outstanding,
    /// and the owner has to call `ended()`.
    template <class Next, class MakeHandler>
    void sync(const Next& next, const MakeHandler& make_handler) {
        const MutexLock lock(mutex_);
        while (timer_) {
            const auto [step, at] = next();
            if (step == Step::none) {
                return;
            }
            if (step == Step::cancel) {
                timer_->cancel();
                continue;
            }
            // Rounded up to the clock's ticks: it never wakes before something is due.
            timer_->expires_at(typename Clock::time_point(std::chrono::ceil<typename Clock::duration>(at)));
            timer_->async_wait(make_handler());
        }
    }

    /// Gives the timer up for good; the handler of an outstanding wait still runs. No wait starts afterwards.
    void close() {
        const MutexLock lock(mutex_);
        timer_.reset();
    }

private:
    // Guarded by the owner's mutex.
    Time due_ = never;
    bool cancelling_ = false;

    // Held while the timer is used, and before the owner's mutex: never the other way round.
    Mutex mutex_{};
    std::optional<asio::basic_waitable_timer<Clock>> timer_ RESIDENCY_GUARDED_BY(mutex_);
};

}  // namespace residency::runtime
