#pragma once

#include "residency/core/time.hpp"
#include "residency/runtime/asio.hpp"

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <tuple>

namespace residency::testing {

/// A clock that stands still until a test moves it on: `ModelManager<E, R, VirtualClock>` makes no test wait.
///
/// There is one time for the whole process, as with every clock. A test begins with `reset()`, gives the manager its
/// io_context for all three executors, and moves time with `advance(context, 5min)`. All functions may be called from
/// any thread.
///
///     VirtualClock::reset();
///     asio::io_context context;
///     ModelManager<FakeEmbeddingBackend, FakeRerankerBackend, VirtualClock> models{
///         {}, {}, {}, Executors::all(context.get_executor())};
///     Outcome<Embeddings> answer;
///     models.async_embed("minilm", texts, answer.handler());
///     run_ready(context);                 // loads the model, and answers
///     advance(context, 5min);             // it has been idle for its keep-alive: it is unloaded
///
/// Never call `context.run()` while a timer of this clock waits: Asio asks the clock again and again then, and never
/// sleeps. How a timer's handler is ordered against handlers that were posted while the timer was already due is up to
/// the kernel; a test that wants even that the same on every run defines `BOOST_ASIO_DISABLE_EPOLL` for its whole
/// program.
class VirtualClock {
public:
    /// What a clock has to have, as std::chrono names it.
    using duration = std::chrono::nanoseconds;
    /// A duration's number.
    using rep = duration::rep;
    /// What that counts.
    using period = duration::period;
    /// A point on the virtual clock.
    using time_point = std::chrono::time_point<VirtualClock>;
    /// It never goes back, but by `reset`.
    static constexpr bool is_steady = true;

    /// The time.
    [[nodiscard]] static time_point now() noexcept { return time_point(duration(ticks().load())); }

    /// Moves the time on by `by`; it stops at the end of time rather than pass it. Runs nothing: see `run_ready`.
    /// Throws std::invalid_argument if `by` is negative.
    template <class Rep, class Period>
    static void advance(const std::chrono::duration<Rep, Period>& by) {
        go_on(core::to_duration(by));
    }

    /// Sets the time back to the clock's epoch. Precondition: nothing waits on this clock.
    static void reset() noexcept { ticks().store(0); }

private:
    static void go_on(duration by) {
        if (by < duration::zero()) {
            throw std::invalid_argument("residency: VirtualClock::advance goes forward only");
        }
        rep before = ticks().load();
        rep after = 0;
        do {
            after = before > (duration::max)().count() - by.count() ? (duration::max)().count() : before + by.count();
        } while (!ticks().compare_exchange_weak(before, after));
    }

    static std::atomic<rep>& ticks() noexcept {
        static std::atomic<rep> ticks{0};
        return ticks;
    }
};

}  // namespace residency::testing

/// Makes timers on the virtual clock look at it whenever their io_context is polled, for real time says nothing about
/// it.
template <>
struct boost::asio::wait_traits<residency::testing::VirtualClock> {
    /// Nothing: ask the clock again at once.
    static residency::testing::VirtualClock::duration to_wait_duration(
        const residency::testing::VirtualClock::duration& /*until*/) noexcept {
        return residency::testing::VirtualClock::duration::zero();
    }
    /// Nothing: ask the clock again at once.
    static residency::testing::VirtualClock::duration to_wait_duration(
        const residency::testing::VirtualClock::time_point& /*until*/) noexcept {
        return residency::testing::VirtualClock::duration::zero();
    }
};

namespace residency::testing {

namespace detail {

// The probes that ran on this thread, and how many of those ran in rounds within another.
struct Probes {
    std::size_t ran = 0;
    std::size_t nested = 0;
};
inline Probes& probes() noexcept {
    thread_local Probes probes;
    return probes;
}

// One round: whatever ran in it ran in a nested one for the round around it, however this one ends.
class RoundScope {
public:
    RoundScope() noexcept : before_(probes()) {}
    RoundScope(const RoundScope&) = delete;
    RoundScope& operator=(const RoundScope&) = delete;
    ~RoundScope() { probes().nested = before_.nested + ran(); }

    // How many probes ran in this round itself: its own, and those that an earlier round left behind because a handler
    // threw or stopped the context.
    [[nodiscard]] std::size_t ran_directly() const noexcept { return ran() - (probes().nested - before_.nested); }

private:
    [[nodiscard]] std::size_t ran() const noexcept { return probes().ran - before_.ran; }

    const Probes before_;
};

// Polls until every handler that is ready and every timer that is due has run, or a handler stops the context. Gives
// how many ran.
inline std::size_t run_round(asio::io_context& context) {
    // It is not promised that one `poll()` sees every timer that is due: Asio learns it from the kernel. A timer of our
    // own that is due before all others shows when they have been looked at, for Asio takes all that are due at once.
    const auto seen = std::make_shared<bool>(false);
    asio::basic_waitable_timer<VirtualClock> probe(context, (VirtualClock::time_point::min)());
    probe.async_wait([round = std::weak_ptr<bool>(seen)](const boost::system::error_code&) {
        ++probes().ran;
        if (const std::shared_ptr<bool> mine = round.lock()) {
            *mine = true;
        }
    });
    const RoundScope scope;
    std::size_t count = 0;
    while (!*seen && !context.stopped()) {
        count += context.poll();
    }
    return count - scope.ran_directly();
}

// Makes a context that has stopped usable again, and keeps it from stopping for want of work.
inline auto keep_running(asio::io_context& context) {
    if (context.stopped()) {
        context.restart();
    }
    return asio::make_work_guard(context);
}

}  // namespace detail

/// Runs everything that is ready in these contexts, and what becomes ready by that, until nothing is. Gives how many
/// handlers ran; those that a nested call of this function ran are counted by that.
///
/// The time stands still, but for what the handlers themselves advance it by. What a handler throws leaves this call. A
/// context that had stopped is restarted; once a handler stops one, no more is run. Precondition: no other thread runs
/// one of the contexts. What other threads are still at, a load on an executor of their own for one, is not waited for:
/// `Outcome::wait` and `FakeWorld::await` do that.
template <std::same_as<asio::io_context>... More>
std::size_t run_ready(asio::io_context& context, More&... more) {
    const std::tuple guards(detail::keep_running(context), detail::keep_running(more)...);
    std::size_t count = 0;
    std::size_t before = 0;
    do {
        before = count;
        count += (detail::run_round(context) + ... + detail::run_round(more));
    } while (count != before && !(context.stopped() || ... || more.stopped()));
    return count;
}

/// Moves the time on by `by` and runs what that makes ready. Gives how many handlers ran.
///
/// With `step`, it goes there in steps of that length and runs what is ready after each, so that whatever is due on the
/// way happens at most a step late, rather than all of it at the end.
/// Throws std::invalid_argument if `by` is negative or `step` is not positive.
template <class Rep, class Period>
std::size_t advance(asio::io_context& context, std::chrono::duration<Rep, Period> by,
                    VirtualClock::duration step = (VirtualClock::duration::max)()) {
    // A template, so that it is a better match than std::advance, which is found for the sake of the duration.
    if (step <= VirtualClock::duration::zero()) {
        throw std::invalid_argument("residency: advance needs a positive step");
    }
    VirtualClock::duration left = core::to_duration(by);
    std::size_t count = 0;
    for (; left > step; left -= step) {
        VirtualClock::advance(step);
        count += run_ready(context);
    }
    VirtualClock::advance(left);
    return count + run_ready(context);
}

}  // namespace residency::testing
