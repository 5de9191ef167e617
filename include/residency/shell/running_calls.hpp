#pragma once

#include "residency/shell/waiter.hpp"

namespace residency::detail {

/// Counts `call` among the calls on its record. Under the slot's mutex.
inline void begin_call(InferenceWaiter& call) noexcept {
    call.next_running = call.record->running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = &call;
    }
    call.record->running = &call;
}

/// The call has ended. Under the slot's mutex.
inline void end_call(InferenceWaiter& call) noexcept {
    call.state = Waiter::State::done;
    (call.previous_running == nullptr ? call.record->running : call.previous_running->next_running) = call.next_running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = call.previous_running;
    }
}

}  // namespace residency::detail
