#pragma once

#include "residency/runtime/user_code_scope.hpp"

#include <cstdint>
#include <exception>

namespace residency::detail {

template <class Work>
class ModelCall;

/// Where a request that shares a call stands. Its model call is to come, the least first: to be its own; it, or another
/// that stands there, is at fault; again, without one that was at fault; the first. Or it is being made, or has given
/// its answer.
enum class Turn : std::uint8_t { alone, suspect, again, waits, in_call, over };

/// The requests that share a lease, and those of them that the current model call is about.
template <class Work>
struct CallMembers {
    /// The first of them all.
    ModelCall<Work>& first;

    /// Calls `visit` with each that the current model call is about, in order.
    template <class Visit>
    void for_each(const Visit& visit) const {
        for_each_at(Turn::in_call, visit);
    }
    /// The same for those that stand there.
    template <class Visit>
    void for_each_at(Turn turn, const Visit& visit) const {
        for (ModelCall<Work>* each = &first; each != nullptr; each = each->next()) {
            if (each->turn == turn) {
                visit(*each);
            }
        }
    }
};

/// Makes the model calls that `Calls` wants, on this thread, and ends it.
template <class Calls>
void make_calls(Calls&& calls, const void* owner) noexcept {
    {
        const runtime::UserCodeScope scope(owner);
        while (calls.next()) {
            try {
                calls.gave(calls.template call<false>());
            } catch (...) {
                calls.threw(std::current_exception());
            }
        }
    }
    calls.end();
}

}  // namespace residency::detail
