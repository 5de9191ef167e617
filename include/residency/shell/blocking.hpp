#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/blocking_call.hpp"
#include "residency/runtime/completion.hpp"

#include <algorithm>
#include <chrono>
#include <optional>

namespace residency::detail {

/// Starts an operation and waits for its result on this thread. Throws would_deadlock where that could only hang.
///
/// The wait ends at `timeout` by this thread's own clock: the thread then lets the slot, and `others` that the
/// operation is about, look at what is due, so that nothing that keeps a slot's alarm from being handled delays the
/// caller. A slot with another Clock than steady_clock has only its alarm.
template <class Result, class Slot, class Start, class... Others>
Result block_on(Slot& slot, const ModelKey& key, std::optional<std::chrono::milliseconds> timeout, const Start& start,
                Others&... others) {
    if (slot.would_deadlock()) {
        throw Error(errc::would_deadlock, key, Stage::admission);
    }
    runtime::BlockingCall<Result> call;
    start(call.handler());
    if constexpr (Slot::is_steady) {
        using Clock = std::chrono::steady_clock;
        // A year is as good as forever, and within every clock's range.
        if (timeout && *timeout < std::chrono::hours(24 * 365)) {
            // Read after the start: not before the request's own deadline.
            Clock::time_point deadline = Clock::now() + (std::max)(*timeout, std::chrono::milliseconds::zero());
            while (!call.wait_until(deadline)) {
                slot.tick();
                (others.tick(), ...);
                // Either this very request has completed, or others that were due before it come first.
                deadline = Clock::now() + std::chrono::milliseconds(1);
            }
        }
    }
    return call.wait();
}

}  // namespace residency::detail
