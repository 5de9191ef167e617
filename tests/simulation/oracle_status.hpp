#pragma once

#include "simulation/oracle.hpp"

// What a slot says of itself, against what happened and against what it said before.

namespace residency::simulation {

inline void Oracle::observe(int slot, const SlotStatus& status, Generation counter, Time now) {
    SlotFacts& facts = slots[index(slot)];
    const SlotOptions& options = facts.options;
    require(status.residents.size() <= facts.places(), "R2: more residents than max_resident, slot ", slot);
    require(status.leases <= options.max_leases, "R8: more leases than max_leases, slot ", slot);
    require(status.waiting <= options.max_queue, "R8: more waiters than max_queue, slot ", slot);
    require(counter == status.generation, "R6: two readings of the counter differ, slot ", slot);
    require(static_cast<std::size_t>(facts.alive + facts.loading) <= status.residents.size(),
            "R1: a place was given away while its model lives, slot ", slot);
    require(static_cast<std::size_t>(facts.held + facts.calling) <= status.leases,
            "R4: leases that are not counted, slot ", slot);
    require(status.shutting_down ? facts.closing : !facts.closed, "R12: shutting_down is not what was asked for, slot ",
            slot);
    std::size_t sum = 0;
    std::size_t waiters = 0;
    for (const ResidentStatus& resident : status.residents) {
        sum += resident.leases;
    }
    for (const RequestFacts& request : requests) {
        waiters += request.slot == slot && request.wants_model() && request.outstanding() ? 1U : 0U;
    }
    require(sum == status.leases, "R4: the residents' leases are not the slot's, slot ", slot);
    require(status.waiting <= waiters, "R9: a waiter without a request, slot ", slot);
    require(status.counters.batches >= facts.batches && status.counters.texts >= facts.texts,
            "a batch that is not counted, slot ", slot);
    require(status.counters.leases_granted >= facts.counters.leases_granted &&
                status.counters.loads >= facts.counters.loads &&
                status.counters.unloaded() >= facts.counters.unloaded(),
            "a counter fell, slot ", slot);
    observe_generations(slot, status, counter.value(), now);
    facts.counters = status.counters;
}

// The only living model of the key is that generation.
inline void Oracle::know_living(int slot, int key, Generation generation) {
    const auto model = std::find_if(models.begin(), models.end(), [&](const ModelFacts& candidate) {
        return candidate.slot == slot && candidate.key == key && candidate.state == ModelFacts::State::alive;
    });
    require(model != models.end(), "R1: a residency without a model, slot ", slot);
    if (model != models.end() && model->generation != generation) {
        know(*model, generation);
    }
}

// The residencies that the status shows, against those that it showed last: the counter shows every difference.
inline void Oracle::observe_generations(int slot, const SlotStatus& status, std::uint64_t counter, Time now) {
    SlotFacts& facts = slots[index(slot)];
    require(counter >= facts.counter, "R6: the counter fell, slot ", slot);
    std::vector<ResidencyFacts> current;
    for (const ResidentStatus& resident : status.residents) {
        if (resident.generation == Generation{}) {
            continue;
        }
        ResidencyFacts seen;
        const auto known =
            std::find_if(facts.residencies.begin(), facts.residencies.end(),
                         [&](const ResidencyFacts& candidate) { return candidate.generation == resident.generation; });
        if (known == facts.residencies.end()) {
            require(resident.generation.value() > facts.counter && resident.generation.value() <= counter,
                    "R6: a residency whose generation was used before, slot ", slot);
            seen.generation = resident.generation;
            seen.key = resident.key.name.front() - 'a';
            seen.ready = ++sequence;
            seen.idle_low = seen.idle_high = seen.ready_high = now;
            seen.state = ResidentState::ready;
        } else {
            seen = *known;
        }
        if (resident.state == ResidentState::ready || resident.state == ResidentState::draining) {
            know_living(slot, seen.key, seen.generation);
        }
        if (resident.state == ResidentState::unloading && seen.state != ResidentState::unloading) {
            require(counter > facts.counter || may_be_revoked(facts, seen.key),
                    "R6: an unloading did not raise the counter, slot ", slot);
            note_unload(slot, seen, now);
        } else if (seen.leases != 0 && resident.leases == 0) {
            seen.idle_low = seen.idle_high = now;
        }
        seen.state = resident.state;
        seen.leases = resident.leases;
        current.push_back(seen);
    }
    for (const ResidencyFacts& earlier : facts.residencies) {
        const bool still_there = std::any_of(current.begin(), current.end(), [&](const ResidencyFacts& candidate) {
            return candidate.generation == earlier.generation;
        });
        if (!still_there && earlier.state != ResidentState::unloading) {
            require(counter > facts.counter || may_be_revoked(facts, earlier.key),
                    "R6: a residency ended without raising the counter, slot ", slot);
        }
    }
    facts.residencies = std::move(current);
    facts.counter = counter;
}

// Its unloading has begun. Unless something else was asked for, that was for idleness. A key whose waiter timed out may
// still have its turn, until the slot has looked at the time.
inline void Oracle::note_unload(int slot, ResidencyFacts residency, Time now) {
    const SlotFacts& facts = slots[index(slot)];
    if (residency.leases != 0) {
        residency.idle_low = now;
    }
    const bool switched = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
        return request.slot == slot && request.wants_model() && (request.outstanding() || may_claim(request)) &&
               request.key != residency.key;
    });
    const bool made_room = memory.limited && std::any_of(requests.begin(), requests.end(), [&](const auto& request) {
                               return request.slot != slot && makes_room_for(request, slot, residency);
                           });
    if (made_room && !switched && residency.leases == 0) {
        see(Sight::evicted_for_other_slot);
    } else if (memory.neighbour.waiting != 0 && !switched && residency.leases == 0) {
        see(Sight::evicted_for_neighbour);
    }
    if (!facts.closing && facts.keys[index(residency.key)].unload < residency.ready && !switched && !made_room &&
        !is_pressed(slot, residency)) {
        slots[index(slot)].idle_unloads.push_back({residency, now, sequence});
    }
}

}  // namespace residency::simulation
