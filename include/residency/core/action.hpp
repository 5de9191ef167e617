#pragma once

#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/error_code.hpp"
#include "residency/event.hpp"
#include "residency/generation.hpp"

#include <cstdint>
#include <vector>

namespace residency::core {

/// Names a request: a waiter, or a lease that has a deadline.
using RequestId = Handle<struct RequestTag>;
/// Names a residency, from the start of its load to the end of its unload.
using ResidentId = Handle<struct ResidentTag>;
/// Names an `unload` or a `shutdown` that has not completed.
using TeardownId = Handle<struct TeardownTag>;

/// What the shell has to do.
enum class ActionType : std::uint8_t {
    /// The waiter `subject` has its lease on `resident`, or what it wanted to be loaded is. It no longer waits.
    grant,
    /// The waiter `subject` shares the lease and the model call of the latest `grant`. It no longer waits.
    join,
    /// The waiter `subject` has a lease on `resident` for a part of its texts: `count` from place `first` on, in the
    /// order of its `TextLengths`. It waits for the next part, unless this is the last.
    part,
    /// The waiter `subject` gets `code` in `stage`. It no longer waits. If its load failed, that was of `resident`.
    fail,
    /// The deadline of `subject`, which has its lease, has passed: complete it early. The lease goes on until it is
    /// released.
    expire,
    /// Have the backend asked how much memory the model of the entry `key` needs; then call `sized` or `size_failed`.
    size,
    /// Have a loading thread call `load_begins` for `resident` and, if that returns true, the backend; then call
    /// `loaded` or `load_failed`.
    load,
    /// Ask the load of `resident` to stop. It still ends with `loaded` or `load_failed`.
    stop_load,
    /// Complete the requests that run on `resident` early, with `code`: it was revoked.
    revoke,
    /// Destroy the model of `resident`; then call `unloaded`.
    unload,
    /// The operation `subject` is complete.
    complete,
    /// Publish `event`.
    event,
};

/// One thing that the shell has to do, in its order among the others. Numbers only, so that a list of them never
/// allocates once it has its room.
struct Action {
    /// What is to be done.
    ActionType type = ActionType::event;
    /// What a failed request gets, with `fail`, `expire` and `revoke`.
    errc code = errc::invalid_request;
    /// Where it ended, with `fail`, `expire` and the event `timed_out`.
    Stage stage = Stage::queue;
    /// What happened, with `event`.
    EventType event = EventType::load_started;
    /// Why, with `event`.
    Reason reason = Reason::none;
    /// With `grant`, `join` and the last `part`: the request is still known, because its deadline goes on.
    bool kept = false;
    /// With `complete`: a shutdown completed at its deadline, not because it was done.
    bool late = false;
    /// The request's or the operation's index; none if it concerns neither.
    Index subject = none;
    /// The resident's index; none if it concerns none.
    Index resident = none;
    /// With `fail` because the backend could not say how much memory the key needs, and with `size`: the key's entry,
    /// which stays until the answer. With the event `timed_out`: the entry of the request's key; with `load_failed`
    /// without a resident: of the key; valid until the next call of the scheduler.
    Index key = none;
    /// With the event `rejected`: how many requests; `SlotScheduler::refusals` has the latest key. With `part`: how
    /// many texts.
    Index count = 0;
    /// With `part`: the place of the first of its texts.
    Index first = 0;
    /// With `part`: no more of them follow.
    bool is_last = false;
    /// The resident's generation.
    Generation generation{};
    /// How long it took, with `event`; after how long to try again, with `fail`, or how many bytes are needed, as a
    /// number, if that is with insufficient_memory.
    Duration duration{0};
    /// Of that, with the event `timed_out`: how long its model was being loaded, and how long its call has run.
    Duration load_time{0};
    Duration call_time{0};

    /// Same in every field.
    friend bool operator==(const Action&, const Action&) = default;
};

/// What the shell has to do, in order.
using Actions = std::vector<Action>;

}  // namespace residency::core
