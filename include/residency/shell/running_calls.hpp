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

/// No call of this request runs any more. Under the slot's mutex.
inline void leave_running(InferenceWaiter& call) noexcept {
    (call.previous_running == nullptr ? call.record->running : call.previous_running->next_running) = call.next_running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = call.previous_running;
    }
    call.previous_running = call.next_running = nullptr;
}

/// The call has ended. Under the slot's mutex.
inline void end_call(InferenceWaiter& call) noexcept {
    call.state = Waiter::State::done;
    leave_running(call);
}

}  // namespace residency::detail
