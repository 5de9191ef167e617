#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its places: who has one, who gives way to whom, and what becomes of a resident from its load until it is gone.

namespace residency::core {

// Gives free places away, and sees to it that as many more come free as are wanted.
inline void SlotScheduler::assign_places(Time now, Actions& actions) {
    queue_.age(now);
    const auto& claimed = queue_.order(QueueState::claimed);
    const auto& needs_place = queue_.order(QueueState::needs_place);
    while (residents_.size() < options_.max_resident && queue_.wanted_places() != 0) {
        start_load((claimed.empty() ? needs_place : claimed).top(), now, actions);
    }
    while (queue_.wanted_places() + switching_ != 0) {
        const std::size_t wanted = queue_.wanted_places();
        const Coming coming = places_coming();
        const std::size_t sure = coming.soon + coming.drained;
        if (switching_ != 0 && switching_ + sure > wanted) {
            end_latest_drain(now, actions);
            continue;
        }
        // The places that come go to the keys with a claim first: is one of those left without, it is its turn.
        const bool claims_lack = needs_place.empty() || switching_ + sure < claimed.size();
        const auto& lacking = claims_lack ? claimed : needs_place;
        // A drain may take as long as a lease: nobody waits for one while the place of an idle resident can be had.
        const Index idle = coming.soon < wanted ? longest_idle() : none;
        if (idle != none) {
            switch_to(lacking.top(), idle, now, actions);
            continue;
        }
        if (switching_ + sure >= wanted) {
            return;
        }
        const Index victim = first_to_drain(lacking, switching_ + sure - (claims_lack ? 0 : claimed.size()));
        if (victim == none) {
            return;
        }
        switch_to(lacking.top(), victim, now, actions);
    }
}

// Places that come free without a switch.
inline SlotScheduler::Coming SlotScheduler::places_coming() const noexcept {
    Coming coming;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index)) {
            continue;
        }
        const Resident& resident = residents_[index];
        const bool given_up = resident.state == ResidentState::loading && resident.stop_requested &&
                              (resident.discard || queue_.keys()[resident.key].waiting == 0);
        if (resident.state == ResidentState::unloading || given_up) {
            ++coming.soon;
        } else if (resident.state == ResidentState::draining && resident.for_good) {
            ++coming.drained;
        }
    }
    return coming;
}

// The least recently used resident of those that are idle and that nobody waits for, or none.
inline Index SlotScheduler::longest_idle() const noexcept {
    Index longest = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].idle() && queue_.keys()[residents_[index].key].waiting == 0 &&
            (longest == none || residents_[index].idle_before(residents_[longest]))) {
            longest = index;
        }
    }
    return longest;
}

// The least recently granted resident of those that give way to a key that lacks a place: nobody waits for it, or that key comes
// before who does. Places are coming for the first `served` of the keys that are lacking. None if there is none.
inline Index SlotScheduler::first_to_drain(const IndexedHeap<Rank>& lacking, std::size_t served) const noexcept {
    Index first = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index) || residents_[index].state != ResidentState::ready) {
            continue;
        }
        const Resident& resident = residents_[index];
        const bool yields = queue_.keys()[resident.key].waiting == 0 ||
                            lacking.count_before(queue_.rank(resident.key), served + 1) > served;
        if (yields && (first == none || resident.used_before(residents_[first]))) {
            first = index;
        }
    }
    return first;
}

// Begins to give the victim's place to `key`, which has it for sure once it is free.
inline void SlotScheduler::switch_to(Index key, Index victim, Time now, Actions& actions) {
    queue_.keys()[key].claims = true;
    refresh(key);
    Resident& resident = residents_[victim];
    if (resident.leases == 0) {
        start_unload(victim, Reason::switched, now, actions);
        return;
    }
    resident.state = ResidentState::draining;
    resident.reason = Reason::switched;
    resident.drained = ++drains_;
    ++switching_;
    refresh(resident.key);
    publish(EventType::drain_started, Reason::switched, victim, Duration::zero(), actions);
}

inline void SlotScheduler::end_latest_drain(Time now, Actions& actions) {
    Index latest = none;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].state == ResidentState::draining &&
            !residents_[index].for_good && (latest == none || residents_[index].drained > residents_[latest].drained)) {
            latest = index;
        }
    }
    residents_[latest].state = ResidentState::ready;
    residents_[latest].reason = Reason::none;
    --switching_;
    publish(EventType::drain_ended, Reason::none, latest, Duration::zero(), actions);
    complete_ensures(residents_[latest].key, now, actions);
    grant_ready(now, actions);
}

inline void SlotScheduler::start_load(Index key, Time now, Actions& actions) {
    Resident resident;
    resident.key = key;
    resident.began = now;
    resident.birth = ++births_;
    const Index index = residents_.insert(resident).index;
    KeyEntry& entry = queue_.keys()[key];
    entry.resident = index;
    entry.claims = false;
    refresh(key);
    ++counters_.loads;
    publish(EventType::load_started, Reason::requested, index, Duration::zero(), actions);
    Action action;
    action.type = ActionType::load;
    action.resident = index;
    actions.push_back(action);
}

inline void SlotScheduler::stop_load(Index index, Actions& actions) {
    if (residents_[index].stop_requested) {
        return;
    }
    residents_[index].stop_requested = true;
    Action action;
    action.type = ActionType::stop_load;
    action.resident = index;
    actions.push_back(action);
}

// Takes a resident out of use for good, for `unload` or shutdown.
inline void SlotScheduler::remove(Index index, UnloadMode mode, Reason reason, Time now, Actions& actions) {
    Resident& resident = residents_[index];
    if (resident.state == ResidentState::unloading) {
        return;
    }
    if (resident.state == ResidentState::loading) {
        if (!resident.discard) {
            resident.discard = true;
            resident.reason = reason;
        }
        stop_load(index, actions);
        return;
    }
    const bool revokes = mode == UnloadMode::revoke && !resident.revoked;
    const bool drains_for_switch = resident.state == ResidentState::draining && !resident.for_good;
    if (!resident.for_good || revokes) {
        resident.reason = reason;
    }
    if (drains_for_switch) {
        --switching_;
    }
    if (resident.state == ResidentState::ready && resident.leases != 0) {
        publish(EventType::drain_started, reason, index, Duration::zero(), actions);
    }
    resident.state = ResidentState::draining;
    resident.for_good = true;
    if (revokes) {
        resident.revoked = true;
        raise_generation();
        Action action;
        action.type = ActionType::revoke;
        action.resident = index;
        actions.push_back(action);
    }
    if (resident.leases == 0) {
        start_unload(index, resident.reason, now, actions);
        return;
    }
    fail_expecting(resident.key, now, actions);
    refresh(resident.key);
}

inline void SlotScheduler::start_unload(Index index, Reason reason, Time now, Actions& actions) {
    Resident& resident = residents_[index];
    if (resident.state == ResidentState::draining && !resident.for_good) {
        --switching_;
    }
    if (resident.state != ResidentState::loading && !resident.revoked) {
        raise_generation();
    }
    resident.state = ResidentState::unloading;
    resident.reason = reason;
    resident.began = now;
    publish(EventType::unload_started, reason, index, Duration::zero(), actions);
    Action action;
    action.type = ActionType::unload;
    action.resident = index;
    actions.push_back(action);
    fail_expecting(resident.key, now, actions);
    refresh(resident.key);
}

// The resident's place is free.
inline void SlotScheduler::gone(Index index, Time now, Actions& actions) {
    const Index key = residents_[index].key;
    const std::uint64_t birth = residents_[index].birth;
    residents_.erase(index);
    queue_.keys()[key].resident = none;
    for (Index operation = 0; operation < teardowns_.end_index(); ++operation) {
        if (teardowns_.used(operation) && teardowns_[operation].birth > birth &&
            (teardowns_[operation].key == none || teardowns_[operation].key == key) &&
            --teardowns_[operation].remaining == 0) {
            complete(operation, false, actions);
        }
    }
    refresh(key);
    assign_places(now, actions);
    queue_.keys().collect(key);
    recompute_alarm();
}

inline void SlotScheduler::complete(Index operation, bool late, Actions& actions) {
    Action action;
    action.type = ActionType::complete;
    action.subject = operation;
    action.late = late;
    actions.push_back(action);
    teardowns_.erase(operation);
}

// Unloads the resident if it is idle and due, or sees to it that somebody looks when it is.
inline void SlotScheduler::note_idle(Index index, Time now, Actions& actions) {
    const Resident& resident = residents_[index];
    if (!resident.idle() || queue_.keys()[resident.key].waiting != 0) {
        return;
    }
    if (resident.due() <= now) {
        start_unload(index, Reason::idle, now, actions);
        assign_places(now, actions);
    } else {
        wake_by(resident.due());
    }
}

// Forgets stale reasons to wake: the alarm stands at what is due next, exactly.
inline void SlotScheduler::recompute_alarm() noexcept {
    wake_ = queue_.deadlines().empty() ? never : queue_.deadlines().top_rank();
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].idle() && queue_.keys()[residents_[index].key].waiting == 0) {
            wake_by(residents_[index].due());
        }
    }
    for (Index index = 0; index < teardowns_.end_index(); ++index) {
        if (teardowns_.used(index)) {
            wake_by(teardowns_[index].deadline);
        }
    }
}

}  // namespace residency::core
