#pragma once

// The scheduler's actions, written down as a test expects them and printed when they differ.

#include "residency/core/action.hpp"

#include <chrono>
#include <ostream>

namespace residency::core {

inline std::ostream& operator<<(std::ostream& out, const Action& action) {
    switch (action.type) {
        case ActionType::grant: out << "granted("; break;
        case ActionType::join: out << "joined("; break;
        case ActionType::part: out << "part(" << action.first << (action.is_last ? ", last, " : ", "); break;
        case ActionType::fail: out << "failed(" << to_string(action.code) << ", " << action.stage << ", "; break;
        case ActionType::expire: out << "expired(" << to_string(action.code) << ", " << action.stage << ", "; break;
        case ActionType::size: out << "size("; break;
        case ActionType::load: out << "load("; break;
        case ActionType::stop_load: out << "stop_load("; break;
        case ActionType::revoke: out << "revoke("; break;
        case ActionType::unload: out << "unload("; break;
        case ActionType::complete: out << "completed("; break;
        case ActionType::event: out << action.event << '(' << action.reason << ", "; break;
    }
    if (action.subject != none) {
        out << "subject " << action.subject << ", ";
    }
    if (action.resident != none) {
        out << "resident " << action.resident << ", ";
    }
    if (action.key != none) {
        out << "key " << action.key << ", stage " << action.stage << ", ";
    }
    if (action.count != 0) {
        out << "count " << action.count << ", ";
    }
    return out << "generation " << action.generation << ", " << action.duration.count() / 1'000'000 << " ms"
               << (action.kept ? ", kept" : "") << (action.late ? ", late" : "") << ')';
}

}  // namespace residency::core

namespace residency::test {

using core::Action;
using core::Actions;
using core::ActionType;

namespace detail {

inline Action action(ActionType type, core::Index subject, core::Index resident) {
    Action made;
    made.type = type;
    made.subject = subject;
    made.resident = resident;
    return made;
}

}  // namespace detail

/// The waiter has its lease, or what it wanted loaded is.
inline Action granted(core::RequestId request, core::ResidentId resident, std::uint64_t generation, bool kept = false) {
    Action made = detail::action(ActionType::grant, request.index, resident.index);
    made.generation = Generation{generation};
    made.kept = kept;
    return made;
}

/// The waiter has failed; `resident` is that whose load failed, if that is why.
inline Action failed(core::RequestId request, errc code, Stage stage, core::ResidentId resident = {},
                     core::Duration retry_after = {}) {
    Action made = detail::action(ActionType::fail, request.index, resident.index);
    made.code = code;
    made.stage = stage;
    made.duration = retry_after;
    return made;
}

/// The deadline of a request that has its lease has passed.
inline Action expired(core::RequestId request) {
    Action made = detail::action(ActionType::expire, request.index, core::none);
    made.code = errc::timed_out;
    made.stage = Stage::inference;
    return made;
}

inline Action load(core::ResidentId resident) { return detail::action(ActionType::load, core::none, resident.index); }
inline Action stop_load(core::ResidentId resident) {
    return detail::action(ActionType::stop_load, core::none, resident.index);
}
inline Action revoke(core::ResidentId resident, errc code = errc::model_changed) {
    Action made = detail::action(ActionType::revoke, core::none, resident.index);
    made.code = code;
    return made;
}
inline Action unload(core::ResidentId resident) {
    return detail::action(ActionType::unload, core::none, resident.index);
}

inline Action completed(core::TeardownId operation, bool late = false) {
    Action made = detail::action(ActionType::complete, operation.index, core::none);
    made.late = late;
    return made;
}

/// An event; a generation of 0 is none.
inline Action event(EventType type, Reason reason, core::ResidentId resident = {}, std::uint64_t generation = 0,
                    core::Duration duration = {}) {
    Action made = detail::action(ActionType::event, core::none, resident.index);
    made.event = type;
    made.reason = reason;
    made.generation = Generation{generation};
    made.duration = duration;
    return made;
}

/// Requests were refused.
inline Action rejected(Reason reason, core::Index count) {
    Action made = event(EventType::rejected, reason);
    made.count = count;
    return made;
}

/// A request of the key with this entry has timed out; `generation` is that of its lease. Of `duration` its model was
/// being loaded for `load`, and its call has run for `call`.
inline Action timed_out(core::Index key, Stage stage, core::Duration duration, std::uint64_t generation = 0,
                        core::Duration load = {}, core::Duration call = {}) {
    Action made = event(EventType::timed_out, Reason::none, {}, generation, duration);
    made.key = key;
    made.stage = stage;
    made.load_time = load;
    made.call_time = call;
    return made;
}

}  // namespace residency::test
