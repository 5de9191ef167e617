#pragma once

#include "residency/core/slot_scheduler.hpp"

// What SlotScheduler decides, method by method, in the order of the class.

namespace residency::core {

inline SlotScheduler::SlotScheduler(const SlotOptions& options)
    : options_(options), keep_alive_(to_duration(options.keep_alive)), room_(to_duration(options.aging)) {}

// -- Requests -----------------------------------------------------------------------------------------------------------------------

inline Attempt SlotScheduler::try_grant(const ModelKey& key, const RequestSpec& spec, Grant& grant) {
    if (closed_) {
        return Attempt::shutting_down;
    }
    const Index index = room_.keys().find(key);
    if (expectation_fails(index, spec)) {
        return Attempt::model_changed;
    }
    if (index == none || leases_ >= options_.max_leases) {
        return Attempt::must_wait;
    }
    const KeyEntry& entry = room_.keys()[index];
    if (entry.waiting != 0 || entry.resident == none) {
        return Attempt::must_wait;
    }
    Resident& resident = residents_[entry.resident];
    if (resident.state != ResidentState::ready || resident.leases >= resident.capacity) {
        return Attempt::must_wait;
    }
    grant.resident = residents_.handle(entry.resident);
    grant.request = {};
    if (spec.deadline_covers_lease && spec.deadline != never) {
        room_.prepare(key, true);
        grant.request = room_.keep_deadline(index, spec);
        wake_by(spec.deadline);
    }
    use(resident, spec);
    count_lease(resident);
    return Attempt::granted;
}

inline Attempt SlotScheduler::try_ensure(const ModelKey& key, const RequestSpec& spec, Time now, Generation& generation,
                                         Actions& actions) {
    if (closed_) {
        return Attempt::shutting_down;
    }
    const Index index = room_.keys().find(key);
    if (expectation_fails(index, spec)) {
        return Attempt::model_changed;
    }
    if (index == none || room_.keys()[index].waiting != 0 || room_.keys()[index].resident == none) {
        return Attempt::must_wait;
    }
    const Index resident = room_.keys()[index].resident;
    if (residents_[resident].state != ResidentState::ready) {
        return Attempt::must_wait;
    }
    generation = residents_[resident].generation;
    use(residents_[resident], spec);
    residents_[resident].idle_since = now;
    note_idle(resident, now, actions);
    return Attempt::granted;
}

inline Enqueued SlotScheduler::enqueue(const SharedKey& key, const RequestSpec& spec, Time now, Actions& actions) {
    if (residents_.size() < options_.max_resident) {
        residents_.reserve_one();
    }
    const Index index = room_.prepare(key, spec.deadline != never);
    const KeyEntry& entry = room_.keys()[index];
    Enqueued refused;
    if (entry.resident == none && now < entry.cooling_until) {
        refused.code = errc::cooling_down;
        refused.retry_after = entry.cooling_until - now;
        ++counters_.cooling_down;
    } else if (room_.waiting() >= options_.max_queue) {
        refused.code = errc::overloaded;
        ++counters_.overloaded;
    } else if (spec.deadline <= now) {
        refused.code = errc::timed_out;
        ++counters_.timed_out;
    } else {
        const RequestId request = room_.join(index, spec, now);
        counters_.most_waiting = std::max(counters_.most_waiting, room_.waiting());
        wake_by(spec.deadline);
        serve(index, now, actions);
        settle(now, actions);
        balance(now, actions);
        return {request, errc::overloaded, Duration::zero()};
    }
    room_.keys().collect(index);
    return refused;
}

inline bool SlotScheduler::cancel(RequestId request, Time now, Actions& actions) {
    if (!room_.requests().contains(request) || room_.requests()[request.index].leased) {
        return false;
    }
    const Index key = room_.requests()[request.index].key;
    room_.leave(request.index, now, false);
    ++counters_.cancelled;
    abandon_if_unwanted(key, actions);
    serve(key, now, actions);
    settle(now, actions);
    balance(now, actions);
    if (room_.keys()[key].resident != none) {
        note_idle(room_.keys()[key].resident, now, actions);
    }
    room_.keys().collect(key);
    return true;
}

inline void SlotScheduler::release(const Grant& grant, Time now, Actions& actions) {
    const Index index = grant.resident.index;
    Resident& resident = residents_[index];
    --resident.leases;
    --leases_;
    if (grant.request.valid()) {
        room_.erase(grant.request.index);
    }
    if (resident.leases == 0) {
        resident.idle_since = now;
        if (resident.state == ResidentState::draining) {
            start_unload(index, resident.reason, now, actions);
        }
    }
    if (room_.waiting() != 0) {
        serve(resident.key, now, actions);
        // Who has waited long enough to rank first may want this very resident's place: that comes before the next lease on it.
        balance(now, actions);
        settle(now, actions);
        balance(now, actions);
    }
    note_idle(index, now, actions);
}

// -- What the backend answered ---------------------------------------------------------------------------------------------------

inline void SlotScheduler::loaded(ResidentId id, std::size_t capacity, Time now, Actions& actions) {
    Resident& resident = residents_[id.index];
    const Index key = resident.key;
    const Duration took = now - resident.began;
    ++counters_.loaded;
    room_.keys().clear_failures(key);
    if (resident.discard) {
        start_unload(id.index, resident.reason, now, actions);
        balance(now, actions);
        return;
    }
    raise_generation();
    resident.state = ResidentState::ready;
    resident.stop_requested = false;
    resident.generation = generation_;
    resident.capacity = std::max<std::size_t>(capacity, 1);
    resident.keep_alive = keep_alive_;
    resident.idle_since = now;
    resident.granted = ++grants_;
    publish(EventType::ready, Reason::requested, id.index, took, actions);
    serve(key, now, actions);
    settle(now, actions);
    balance(now, actions);
    note_idle(id.index, now, actions);
}

inline void SlotScheduler::load_failed(ResidentId id, bool cools_down, std::string message, Time now,
                                       Actions& actions) {
    const Resident& resident = residents_[id.index];
    const Index key = resident.key;
    const Duration took = now - resident.began;
    if (resident.stop_requested) {
        ++counters_.loads_aborted;
        publish(EventType::load_aborted, resident.discard ? resident.reason : Reason::abandoned, id.index, took,
                actions);
    } else {
        ++counters_.load_failures;
        Duration cooldown = Duration::zero();
        if (cools_down) {
            cooldown = cooldown_after(room_.keys()[key].failures);
            room_.keys().note_failure(key, std::move(message), later(now, cooldown));
        }
        publish(EventType::load_failed, Reason::requested, id.index, took, actions);
        while (room_.keys()[key].first != none) {
            fail(room_.keys()[key].first, errc::load_failed, cooldown, now, actions);
        }
    }
    gone(id.index, now, actions);
}

inline Duration SlotScheduler::cooldown_after(Index failures) const noexcept {
    Duration cooldown = to_duration(options_.cooldown);
    const Duration longest = to_duration(options_.max_cooldown);
    // A cooldown of zero would never reach the longest, however often it is doubled.
    while (failures-- != 0 && cooldown < longest && cooldown != Duration::zero()) {
        cooldown = cooldown > longest / 2 ? longest : cooldown * 2;
    }
    return cooldown;
}

inline void SlotScheduler::unloaded(ResidentId id, Time now, Actions& actions) {
    const Resident& resident = residents_[id.index];
    ++counters_.unloads[static_cast<std::size_t>(resident.reason)];
    publish(EventType::unloaded, resident.reason, id.index, now - resident.began, actions);
    gone(id.index, now, actions);
}

// -- Time ---------------------------------------------------------------------------------------------------------------------------

inline void SlotScheduler::tick(Time now, Actions& actions) {
    const bool rings = wake_ <= now;
    // First everybody whose time is up leaves, and only then is anything granted: nobody gets a lease past its deadline.
    while (!room_.deadlines().empty() && room_.deadlines().top_rank() <= now) {
        const Index index = room_.deadlines().top();
        const Request& request = room_.requests()[index];
        if (request.leased) {
            ++counters_.timed_out;
            room_.drop_deadline(index);
            Action action;
            action.type = ActionType::expire;
            action.code = errc::timed_out;
            action.stage = Stage::inference;
            action.subject = index;
            actions.push_back(action);
        } else {
            const Index key = request.key;
            fail(index, errc::timed_out, Duration::zero(), now, actions);
            abandon_if_unwanted(key, actions);
            refresh(key);
            room_.keys().collect(key);
        }
    }
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (!residents_.used(index)) {
            continue;
        }
        const Index key = residents_[index].key;
        if (room_.keys()[key].waiting != 0) {
            serve(key, now, actions);
        }
        if (room_.keys()[key].waiting == 0 && residents_[index].idle() && residents_[index].due() <= now) {
            start_unload(index, Reason::idle, now, actions);
        }
    }
    for (Index index = 0; index < operations_.end_index(); ++index) {
        if (operations_.used(index) && operations_[index].deadline <= now) {
            complete(index, true, actions);
        }
    }
    settle(now, actions);
    balance(now, actions);
    if (!rings) {
        // What the alarm was set for may be over, but it stays: requests that have a timeout and end long before would only move it to
        // and fro.
        return;
    }
    look_ahead();
    const Duration timeout = std::exchange(shortest_timeout_, Duration::max());
    if (residents_.size() != 0) {
        wake_by(later(now, timeout));
    }
}

// -- Unloading ----------------------------------------------------------------------------------------------------------------------

inline OperationId SlotScheduler::unload(const ModelKey* key, UnloadMode mode, Time now, Actions& actions) {
    const Index only = key == nullptr ? none : room_.keys().find(*key);
    if (key != nullptr && (only == none || room_.keys()[only].resident == none)) {
        return {};
    }
    if (residents_.size() == 0) {
        return {};
    }
    Operation operation;
    operation.key = only;
    operation.birth = ++births_;
    operation.remaining = only == none ? residents_.size() : 1;
    const OperationId id = operations_.insert(operation);
    const Reason reason = mode == UnloadMode::revoke ? Reason::revoked : Reason::unload;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && (only == none || residents_[index].key == only)) {
            remove(index, mode, reason, now, actions);
        }
    }
    balance(now, actions);
    return id;
}

inline void SlotScheduler::forget(OperationId operation) noexcept {
    if (operations_.contains(operation)) {
        operations_.erase(operation.index);
    }
}

inline void SlotScheduler::close(Time now, Actions& actions) {
    if (closed_) {
        return;
    }
    closed_ = true;
    publish(EventType::shutdown_started, Reason::shutdown, none, Duration::zero(), actions);
    for (Index key = 0; key < room_.keys().end_index(); ++key) {
        if (room_.keys().used(key) && room_.keys()[key].waiting != 0) {
            while (room_.keys()[key].first != none) {
                fail(room_.keys()[key].first, errc::shutting_down, Duration::zero(), now, actions);
            }
            refresh(key);
            room_.keys().collect(key);
        }
    }
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index)) {
            remove(index, UnloadMode::drain, Reason::shutdown, now, actions);
        }
    }
    look_ahead();
}

inline OperationId SlotScheduler::shut_down(Time deadline, Time now, Actions& actions) {
    operations_.reserve_one();
    close(now, actions);
    if (residents_.size() == 0) {
        return {};
    }
    Operation operation;
    operation.shutdown = true;
    operation.birth = ++births_;
    operation.remaining = residents_.size();
    operation.deadline = deadline;
    wake_by(deadline);
    return operations_.insert(operation);
}

// -- Who waits ----------------------------------------------------------------------------------------------------------------------

inline bool SlotScheduler::expectation_fails(Index key, const RequestSpec& spec) const noexcept {
    if (spec.expected == Generation{}) {
        return false;
    }
    if (key == none || room_.keys()[key].resident == none) {
        return true;
    }
    const Resident& resident = residents_[room_.keys()[key].resident];
    return !resident.usable() || resident.generation != spec.expected;
}

inline Standing SlotScheduler::standing(Index key) const noexcept {
    const KeyEntry& entry = room_.keys()[key];
    if (entry.waiting == 0) {
        return Standing::nowhere;
    }
    if (entry.resident == none) {
        return entry.claims ? Standing::claimed : Standing::placeless;
    }
    const Resident& resident = residents_[entry.resident];
    const bool takes_one_more = resident.state == ResidentState::ready && resident.leases < resident.capacity;
    return takes_one_more ? Standing::grantable : Standing::nowhere;
}

inline void SlotScheduler::use(Resident& resident, const RequestSpec& spec) noexcept {
    resident.keep_alive = spec.overrides_keep_alive ? spec.keep_alive : keep_alive_;
    resident.granted = ++grants_;
}

inline void SlotScheduler::count_lease(Resident& resident) noexcept {
    ++resident.leases;
    ++leases_;
    ++counters_.leases_granted;
    counters_.most_leases = std::max(counters_.most_leases, leases_);
}

inline void SlotScheduler::grant_front(Index key, Time now, Actions& actions) {
    const KeyEntry& entry = room_.keys()[key];
    const Index index = entry.first;
    const RequestSpec spec = room_.requests()[index].spec;
    Resident& resident = residents_[entry.resident];
    use(resident, spec);
    if (spec.wants_lease) {
        count_lease(resident);
    } else {
        resident.idle_since = now;
    }
    Action action;
    action.type = ActionType::grant;
    action.subject = index;
    action.resident = entry.resident;
    action.generation = resident.generation;
    action.kept = room_.leave(index, now, spec.wants_lease);
    actions.push_back(action);
}

inline void SlotScheduler::fail(Index request, errc code, Duration retry_after, Time now, Actions& actions) {
    const KeyEntry& entry = room_.keys()[room_.requests()[request].key];
    Action action;
    action.type = ActionType::fail;
    action.code = code;
    action.stage = entry.resident != none && residents_[entry.resident].state == ResidentState::loading ? Stage::load
                                                                                                        : Stage::queue;
    action.subject = request;
    action.resident = entry.resident;
    action.duration = retry_after;
    actions.push_back(action);
    if (code == errc::timed_out) {
        ++counters_.timed_out;
    }
    room_.leave(request, now, false);
}

inline void SlotScheduler::fail_expecting(Index key, Time now, Actions& actions) {
    Index next = room_.keys()[key].first;
    while (room_.keys()[key].expecting != 0 && next != none) {
        const Index request = next;
        next = room_.requests()[request].next;
        if (room_.requests()[request].spec.expected != Generation{}) {
            fail(request, errc::model_changed, Duration::zero(), now, actions);
        }
    }
}

inline void SlotScheduler::abandon_if_unwanted(Index key, Actions& actions) {
    const KeyEntry& entry = room_.keys()[key];
    if (entry.waiting == 0 && entry.resident != none && residents_[entry.resident].state == ResidentState::loading) {
        stop_load(entry.resident, actions);
    }
}

// Completes whoever at the front of the key's queue needs no lease, and puts the key where it belongs.
inline void SlotScheduler::serve(Index key, Time now, Actions& actions) {
    const KeyEntry& entry = room_.keys()[key];
    while (entry.resident != none && residents_[entry.resident].state == ResidentState::ready && entry.first != none &&
           !room_.requests()[entry.first].spec.wants_lease) {
        grant_front(key, now, actions);
    }
    refresh(key);
}

// Grants whatever can be granted, in order.
inline void SlotScheduler::settle(Time now, Actions& actions) {
    room_.age(now);
    while (leases_ < options_.max_leases && !room_.order(Standing::grantable).empty()) {
        const Index key = room_.order(Standing::grantable).top();
        grant_front(key, now, actions);
        serve(key, now, actions);
    }
}

// -- What is resident ---------------------------------------------------------------------------------------------------------------

// Gives free places away, and sees to it that as many more come free as are wanted.
inline void SlotScheduler::balance(Time now, Actions& actions) {
    room_.age(now);
    const auto& claimed = room_.order(Standing::claimed);
    const auto& placeless = room_.order(Standing::placeless);
    while (residents_.size() < options_.max_resident && room_.wanted_places() != 0) {
        start_load((claimed.empty() ? placeless : claimed).top(), now, actions);
    }
    while (room_.wanted_places() + switching_ != 0) {
        const std::size_t wanted = room_.wanted_places();
        const Coming coming = places_coming();
        const std::size_t sure = coming.soon + coming.drained;
        if (switching_ != 0 && switching_ + sure > wanted) {
            end_latest_drain(now, actions);
            continue;
        }
        // The places that come go to the keys with a claim first: is one of those left without, it is its turn.
        const bool claims_lack = placeless.empty() || switching_ + sure < claimed.size();
        const auto& lacking = claims_lack ? claimed : placeless;
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
                              (resident.discard || room_.keys()[resident.key].waiting == 0);
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
        if (residents_.used(index) && residents_[index].idle() && room_.keys()[residents_[index].key].waiting == 0 &&
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
        const bool yields = room_.keys()[resident.key].waiting == 0 ||
                            lacking.count_before(room_.rank(resident.key), served + 1) > served;
        if (yields && (first == none || resident.used_before(residents_[first]))) {
            first = index;
        }
    }
    return first;
}

// Begins to give the victim's place to `key`, which has it for sure once it is free.
inline void SlotScheduler::switch_to(Index key, Index victim, Time now, Actions& actions) {
    room_.keys()[key].claims = true;
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
    serve(residents_[latest].key, now, actions);
    settle(now, actions);
}

inline void SlotScheduler::start_load(Index key, Time now, Actions& actions) {
    Resident resident;
    resident.key = key;
    resident.began = now;
    resident.birth = ++births_;
    const Index index = residents_.insert(resident).index;
    KeyEntry& entry = room_.keys()[key];
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
    room_.keys()[key].resident = none;
    for (Index operation = 0; operation < operations_.end_index(); ++operation) {
        if (operations_.used(operation) && operations_[operation].birth > birth &&
            (operations_[operation].key == none || operations_[operation].key == key) &&
            --operations_[operation].remaining == 0) {
            complete(operation, false, actions);
        }
    }
    refresh(key);
    balance(now, actions);
    room_.keys().collect(key);
    look_ahead();
}

inline void SlotScheduler::complete(Index operation, bool late, Actions& actions) {
    Action action;
    action.type = ActionType::complete;
    action.subject = operation;
    action.late = late;
    actions.push_back(action);
    operations_.erase(operation);
}

// Unloads the resident if it is idle and due, or sees to it that somebody looks when it is.
inline void SlotScheduler::note_idle(Index index, Time now, Actions& actions) {
    const Resident& resident = residents_[index];
    if (!resident.idle() || room_.keys()[resident.key].waiting != 0) {
        return;
    }
    if (resident.due() <= now) {
        start_unload(index, Reason::idle, now, actions);
        balance(now, actions);
    } else {
        wake_by(resident.due());
    }
}

// Forgets stale reasons to wake: the alarm stands at what is due next, exactly.
inline void SlotScheduler::look_ahead() noexcept {
    wake_ = room_.deadlines().empty() ? never : room_.deadlines().top_rank();
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].idle() && room_.keys()[residents_[index].key].waiting == 0) {
            wake_by(residents_[index].due());
        }
    }
    for (Index index = 0; index < operations_.end_index(); ++index) {
        if (operations_.used(index)) {
            wake_by(operations_[index].deadline);
        }
    }
}

inline void SlotScheduler::publish(EventType type, Reason reason, Index resident, Duration duration,
                                   Actions& actions) const {
    Action action;
    action.type = ActionType::event;
    action.event = type;
    action.reason = reason;
    action.resident = resident;
    action.generation = resident == none ? Generation{} : residents_[resident].generation;
    action.duration = duration;
    actions.push_back(action);
}

}  // namespace residency::core
