#pragma once

#include "simulation/oracle.hpp"

// Who goes first.

namespace residency::simulation {

/// Only bare leases are looked at as waiters: when a model call was granted is not seen. It is certain that a waiter
/// was decided on after another lease if its handler was posted later, and the other decision was not made within the
/// steps of this one.
inline void Oracle::check_order() {
    for (const RequestFacts& waiter : requests) {
        if (waiter.kind != Kind::acquire || waiter.posted == 0) {
            continue;
        }
        std::vector<const RequestFacts*> passed;
        for (const RequestFacts& other : requests) {
            if (other.leased == 0 || (other.kind == Kind::call && !surely_first(other)) || other.slot != waiter.slot ||
                other.key != waiter.key || other.sequence <= waiter.returned || other.leased >= waiter.posted ||
                other.leased_depth > waiter.posted_depth) {
                continue;
            }
            require(other.kind != Kind::attempt, "H4: try_acquire passed over a waiter, request ", waiter.id);
            require(other.options.priority < waiter.options.priority,
                    "H6: passed over by a request of its key that ranks behind it, request ", waiter.id);
            passed.push_back(&other);
        }
        check_aged(waiter, passed);
    }
}

// R15, where it is certain: the slot has one place, the waiter is the oldest one, and it was older than `aging` when
// the others were granted.
inline void Oracle::check_aged(const RequestFacts& waiter, const std::vector<const RequestFacts*>& passed) {
    const SlotOptions& options = slots[index(waiter.slot)].options;
    const auto has_older_waiter = [&](std::uint64_t when) {
        return std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
            return request.slot == waiter.slot && (request.kind == Kind::call || request.kind == Kind::acquire) &&
                   request.sequence < waiter.sequence && !(request.leased != 0 && request.leased < when) &&
                   !(request.completed_at != 0 && request.completed_at < when);
        });
    };
    const auto generation = [&](const RequestFacts& request) {
        return !request.calls.empty() ? models[index(request.model - 1)].generation : request.granted;
    };
    for (const RequestFacts* first : passed) {
        const bool seen = first->kind == Kind::acquire;
        if (options.max_resident != 1 || (seen ? first->decided_time : first->begun) < waiter.begun + options.aging ||
            has_older_waiter(seen ? first->decided : first->sequence)) {
            continue;
        }
        for (const RequestFacts* second : passed) {
            require(second->leased <= first->leased || generation(*second) != generation(*first),
                    "R15: an aged waiter was passed over twice in a row, request ", waiter.id);
        }
    }
}

inline void Oracle::check_posted_before(const RequestFacts& shutdown) {
    if (shutdown.posted == 0) {
        return;
    }
    for (const RequestFacts& request : requests) {
        const bool concerned = shutdown.both_slots || request.slot == shutdown.slot;
        if (concerned && request.wants_model() && request.returned != 0 && request.returned < shutdown.sequence) {
            require(request.posted != 0 && request.posted < shutdown.posted,
                    "R12: a shutdown completed before a request that came before it, request ", request.id);
        }
    }
}

}  // namespace residency::simulation
