#pragma once

#include "simulation/oracle.hpp"

// How long what is idle stays, and what may be left when nothing runs.

namespace residency::simulation {

/// By the grant that was the latest; if it is unclear which was, by all that may have been. Nothing if that is not
/// known.
inline std::optional<Oracle::Stay> Oracle::keep_alive(int slot, const ResidencyFacts& residency,
                                                      std::uint64_t until) const {
    const std::chrono::milliseconds usual = slots[index(slot)].options.keep_alive;
    std::vector<const RequestFacts*> granted;
    std::uint64_t latest = 0;
    for (const RequestFacts& request : requests) {
        if (request.slot != slot || request.key != residency.key || request.sequence > until) {
            continue;
        }
        if (request.kind == Kind::call && request.completions != 0 && request.calls.empty() && request.rows != 0) {
            // It may have been granted, and have completed before it reached the model.
            if (request.options.timeout || request.may_be_cancelled ||
                slots[index(slot)].keys[index(request.key)].revoke != 0) {
                return std::nullopt;
            }
        }
        if (request.is_cut) {
            // Each part has applied it anew.
            return std::nullopt;
        }
        const Generation called = !request.calls.empty() ? models[index(request.model - 1)].generation : Generation{};
        if (!request.calls.empty() && called == Generation{}) {
            return std::nullopt;
        }
        if (request.granted == residency.generation || called == residency.generation) {
            granted.push_back(&request);
            latest = std::max(latest, request.sequence);
        }
    }
    std::optional<Stay> stay;
    for (const RequestFacts* request : granted) {
        // Another one came when this one had its grant: that one's is later.
        if ((request->leased != 0 && request->leased < latest) ||
            (request->kind == Kind::ensure && request->completed_at != 0 && request->completed_at < latest)) {
            continue;
        }
        // The longest of its batch applies.
        std::chrono::milliseconds each = request->options.keep_alive.value_or(usual);
        if (!request->calls.empty()) {
            for (const int other : calls[index(request->calls.front())].requests) {
                each = std::max(each, requests[index(other)].options.keep_alive.value_or(usual));
            }
        }
        const Time time = each == keep_alive_forever ? never : std::chrono::duration_cast<Time>(each);
        stay = stay ? Stay{std::min(stay->least, time), std::max(stay->most, time)} : Stay{time, time};
    }
    if (!stay) {
        const Time time = usual == keep_alive_forever ? never : std::chrono::duration_cast<Time>(usual);
        stay = Stay{time, time};
    }
    return stay;
}

inline void Oracle::check_idle_unloads() {
    for (int slot = 0; slot < 2; ++slot) {
        for (const IdleUnload& unload : slots[index(slot)].idle_unloads) {
            const auto stays = keep_alive(slot, unload.residency, unload.sequence);
            Time since = unload.residency.idle_low;
            for (const RequestFacts& request : requests) {
                if (request.kind == Kind::ensure && request.slot == slot &&
                    request.granted == unload.residency.generation) {
                    since = std::max(since, request.begun);
                }
            }
            require(!stays || (stays->least != never && unload.at >= since + stays->least),
                    "R5: unloaded for idleness before its keep-alive, generation ",
                    static_cast<int>(unload.residency.generation.value()));
        }
    }
}

inline void Oracle::check_quiet(int slot, const SlotStatus& status, Time now) {
    const SlotFacts& facts = slots[index(slot)];
    rested = now;
    check_counters(slot, status.counters);
    require(status.leases == static_cast<std::size_t>(facts.held), "R9: a lease was not given back, slot ", slot);
    std::size_t waiting = 0;
    for (const RequestFacts& request : requests) {
        if (!request.outstanding() || (request.slot != slot && !request.both_slots)) {
            continue;
        }
        require(request.due() > now || request.kind == Kind::shutdown,
                "H14: a timeout has passed, and the request has not completed: ", request.id);
        require(!request.cancelled, "R9: a cancelled request has not completed: ", request.id);
        if (request.wants_model()) {
            ++waiting;
            check_waits_for_something(slot, status, request);
        } else if (request.kind == Kind::shutdown) {
            require(request.due() > now - (request.started - request.begun),
                    "H9: a shutdown's deadline has passed, request ", request.id);
            require(request.both_slots || facts.held != 0, "R9: a shutdown waits for nothing, request ", request.id);
        } else {
            require(facts.held != 0, "R9: an unload waits for nothing, request ", request.id);
        }
    }
    for (const RequestFacts& request : requests) {
        if (request.slot == slot && request.wants_model()) {
            check_claim(slot, status, request, now);
        }
    }
    require(waiting == status.waiting, "R9: the queue is not what waits, slot ", slot);
    for (const ResidencyFacts& residency : facts.residencies) {
        const bool wanted = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
            return request.outstanding() && request.wants_model() && request.slot == slot &&
                   request.key == residency.key;
        });
        if (residency.state == ResidentState::ready && residency.leases == 0 && !wanted) {
            const auto stays = keep_alive(slot, residency, sequence);
            require(!stays || stays->most == never || now < residency.idle_high + stays->most,
                    "R5: idle past its keep-alive and not unloaded, generation ",
                    static_cast<int>(residency.generation.value()));
        }
        require(residency.state != ResidentState::unloading, "R9: an unload that does not run, slot ", slot);
        require(residency.state != ResidentState::draining || residency.leases != 0,
                "R9: a drain that waits for nothing, slot ", slot);
    }
    require(facts.loading == 0, "a load runs though nothing does, slot ", slot);
    for (const ResidentStatus& resident : status.residents) {
        require(resident.state != ResidentState::queued && resident.state != ResidentState::loading,
                "R9: a load that does not run, slot ", slot);
    }
}

// H1: a key whose waiter timed out keeps its turn for `abandon_after`. So if no load of it has begun since, no place is
// free.
inline void Oracle::check_claim(int slot, const SlotStatus& status, const RequestFacts& request, Time now) {
    const SlotFacts& facts = slots[index(slot)];
    const KeyFacts& key = facts.keys[index(request.key)];
    const bool joined = request.code && *request.code == errc::timed_out && request.options.timeout->count() > 0 &&
                        !request.resident_at_call && !request.options.expected_generation && !request.overtaken;
    if (!joined || facts.closing || now >= request.due() + facts.options.abandon_after ||
        key.vacant > request.sequence || key.unload > request.sequence) {
        return;
    }
    const bool ended = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& other) {
        return other.slot == slot && other.key == request.key && other.may_be_cancelled;
    });
    const bool begun = std::any_of(models.begin(), models.end(), [&](const ModelFacts& model) {
        return model.slot == slot && model.key == request.key && model.entered > request.sequence;
    });
    // With a budget it may have to wait for memory, or its size may not be known.
    require(ended || begun || memory.limited || status.residents.size() >= facts.places(),
            "H1: a key has lost its turn with its last waiter's timeout, request ", request.id);
}

inline void Oracle::check_waits_for_something(int slot, const SlotStatus& status, const RequestFacts& request) {
    const SlotFacts& facts = slots[index(slot)];
    bool stays = false;
    bool held = memory.neighbour.leases != 0;
    for (int other = 0; other < 2; ++other) {
        const SlotFacts& each = slots[index(other)];
        // What models of the other slot hold may be what is lacking.
        if (other == slot || memory.limited) {
            held = held || each.held != 0;
            stays =
                stays || std::any_of(each.residencies.begin(), each.residencies.end(), [&](const auto& residency) {
                    return (other != slot || residency.key != request.key) && rested < stays_until(other, residency);
                });
        }
    }
    require(held || stays, "R9: a request waits though no lease is held: lost wake-up, request ", request.id);
    bool resident = false;
    for (const ResidencyFacts& residency : facts.residencies) {
        if (residency.key == request.key) {
            resident = true;
            const auto model = std::find_if(models.begin(), models.end(), [&](const ModelFacts& candidate) {
                return candidate.slot == slot && candidate.generation == residency.generation;
            });
            const bool full = model != models.end() && residency.leases >= model->capacity;
            require(residency.state != ResidentState::ready || request.kind != Kind::ensure,
                    "H4: a request waits for a load that has ended: ", request.id);
            require(residency.state != ResidentState::ready || full || status.leases >= facts.options.max_leases ||
                        model == models.end(),
                    "R9: a request waits for a model that could be leased: lost wake-up, request ", request.id);
        }
    }
    require(resident || memory.limited || status.residents.size() >= facts.places(),
            "R9: a request waits though a place is free: lost wake-up, request ", request.id);
}

}  // namespace residency::simulation
