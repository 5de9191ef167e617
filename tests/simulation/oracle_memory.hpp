#pragma once

#include "simulation/oracle.hpp"

// What models hold, against the limit of the budget that the slots share (R13, H33 to H38). What is reserved the oracle
// works out by what backends and models say; what the budget itself says of it is held against that.

namespace residency::simulation {

inline void Oracle::begin_size(int slot, int key) {
    KeyFacts& facts = slots[index(slot)].keys[index(key)];
    require(memory.limited, "H34: a size is asked for without a budget, slot ", slot);
    require(!std::exchange(facts.sizing, true), "H34: a key is sized twice at once, key ", key);
    require(std::none_of(models.begin(), models.end(),
                         [&](const ModelFacts& model) {
                             return model.slot == slot && model.key == key && model.holds_memory();
                         }),
            "H34: a key is sized that has a model, key ", key);
}

inline void Oracle::end_size(int slot, int key, std::size_t bytes, Time now) {
    SlotFacts& facts = slots[index(slot)];
    KeyFacts& of_key = facts.keys[index(key)];
    of_key.sizing = false;
    if (bytes != 0) {
        of_key.estimate = bytes;
        note_change();
        return;
    }
    of_key.vacant = ++sequence;
    of_key.maybe_cooling_until = now + cooldown(facts.options, of_key.maybe_failures++);
    of_key.cooling_until = now + cooldown(facts.options, of_key.failures++);
}

inline void Oracle::hold_memory(ModelFacts& model, std::size_t bytes) {
    model.holds = bytes;
    check_held();
}

inline void Oracle::check_held() {
    std::size_t held = memory.neighbour.holds;
    std::size_t lies = 0;
    for (const ModelFacts& each : models) {
        if (each.holds_memory()) {
            const std::size_t reserved = each.says != 0 ? std::min(each.says, each.estimate) : each.estimate;
            held += each.holds;
            lies += each.holds - std::min(each.holds, reserved);
        }
    }
    require(held <= memory.ceiling + lies, "R13: models hold more than the limit");
    if (lies != 0) {
        see(Sight::lied);
    }
}

inline std::uint64_t Oracle::begin_limit(std::size_t bytes) {
    memory.limit = bytes;
    memory.lowest = std::min(memory.lowest, bytes);
    memory.ceiling = std::max(memory.ceiling, bytes);
    memory.pressed = ++sequence;
    ++memory.setting;
    note_change();
    return ++memory.changes;
}

inline void Oracle::end_limit(std::uint64_t change, std::size_t used) {
    if (--memory.setting == 0) {
        memory.lowest = memory.limit;
    }
    // Unless others came between, nothing more is reserved now but what fits.
    if (change == memory.changes) {
        memory.ceiling = std::max(memory.limit, used);
    }
    if (used > memory.limit) {
        see(Sight::beyond_limit);
    }
}

inline void Oracle::observe_memory(std::size_t used) {
    std::size_t least = memory.neighbour.holds;
    for (const ModelFacts& model : models) {
        if (model.holds_memory()) {
            least += model.says != 0 ? std::min(model.says, model.estimate) : model.estimate;
        }
    }
    require(least <= used, "R1: memory was given away while its model lives");
    memory.ceiling = std::max(memory.limit, std::min(memory.ceiling, used));
    if (used > memory.limit) {
        memory.pressed = ++sequence;
    }
    note_change();
}

// A need is impossible if it is more than the limit, or than pinned models may leave of it.
inline void Oracle::note_change() {
    for (int slot = 0; memory.limited && slot < 2; ++slot) {
        for (int key = 0; index(key) < slots[index(slot)].keys.size(); ++key) {
            KeyFacts& facts = slots[index(slot)].keys[index(key)];
            if (facts.most() + pinned_beside(slot, key) > memory.lowest) {
                facts.impossible = sequence;
            }
        }
    }
    for (std::size_t need = 0; memory.limited && need < memory.impossible.size(); ++need) {
        if (need + pinned_beside(no_key, no_key) > memory.lowest) {
            memory.impossible[need] = sequence;
        }
    }
}

inline std::size_t Oracle::pinned_beside(int slot, int key) const {
    std::size_t pinned = 0;
    for (const ModelFacts& model : models) {
        const SlotFacts& facts = slots[index(model.slot)];
        const KeyFacts& of_model = facts.keys[index(model.key)];
        const bool may_be_pinned = of_model.may_be_pinned || facts.options.keep_alive == keep_alive_forever;
        if (model.state == ModelFacts::State::alive && may_be_pinned && (model.slot != slot || model.key != key)) {
            pinned += of_model.most();
        }
    }
    return pinned;
}

// Whether it may have had to go although no request waits for its memory: also because its own load took too much.
inline bool Oracle::is_pressed(int slot, const ResidencyFacts& residency) const {
    const auto model = std::find_if(models.rbegin(), models.rend(), [&](const ModelFacts& each) {
        return each.slot == slot && each.key == residency.key && each.state != ModelFacts::State::failed;
    });
    return memory.neighbour.waiting != 0 || memory.trims_later ||
           memory.pressed > (model == models.rend() ? residency.ready : model->begun);
}

inline bool Oracle::makes_room_for(const RequestFacts& request, int residency_slot,
                                   const ResidencyFacts& residency) const {
    if (!request.wants_model() || !(request.outstanding() || may_claim(request))) {
        return false;
    }
    // A key that can never fit evicts nothing.
    const std::size_t estimate = slots[index(request.slot)].keys[index(request.key)].estimate;
    return estimate <= memory.limit || is_pressed(residency_slot, residency);
}

inline bool Oracle::is_resident(int slot, int key) const {
    const std::vector<ResidencyFacts>& all = slots[index(slot)].residencies;
    return std::any_of(all.begin(), all.end(), [&](const ResidencyFacts& each) { return each.key == key; });
}

// What is reserved is what the models count for, and what may be reserved for keys that wait. A request waits for
// memory only if there is not enough.
inline void Oracle::check_quiet_memory(std::size_t used) {
    std::size_t least = memory.neighbour.holds;
    std::size_t most = memory.neighbour.holds + memory.neighbour.wanted;
    // What drains for good counts as memory that comes back.
    bool drains = memory.neighbour.drains;
    for (const ModelFacts& model : models) {
        if (model.holds_memory()) {
            least += model.says != 0 ? model.says : model.estimate;
            most += model.says != 0 ? model.says : slots[index(model.slot)].keys[index(model.key)].most();
        }
    }
    for (int slot = 0; slot < 2; ++slot) {
        const SlotFacts& facts = slots[index(slot)];
        for (int key = 0; index(key) < facts.keys.size(); ++key) {
            const bool wanted = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
                return request.slot == slot && request.key == key && request.wants_model() &&
                       (request.outstanding() || may_claim(request));
            });
            most += wanted && !is_resident(slot, key) ? facts.keys[index(key)].most() : 0;
        }
        for (const ResidencyFacts& residency : facts.residencies) {
            drains = drains || residency.state == ResidentState::draining;
        }
    }
    require(used >= least, "H34: less is reserved than models say that they use");
    require(used <= most, "H34: memory is reserved for nothing");
    for (const RequestFacts& request : requests) {
        if (request.outstanding() && request.wants_model() && !is_resident(request.slot, request.key)) {
            check_waits_for_memory(request, used);
        }
    }
    for (int slot = 0; used > memory.limit && !drains && slot < 2; ++slot) {
        const SlotFacts& facts = slots[index(slot)];
        for (const ResidencyFacts& residency : facts.residencies) {
            const bool wanted = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
                return request.outstanding() && request.wants_model() && request.slot == slot &&
                       request.key == residency.key;
            });
            const bool may_be_pinned =
                facts.keys[index(residency.key)].may_be_pinned || facts.options.keep_alive == keep_alive_forever;
            require(residency.state != ResidentState::ready || residency.leases != 0 || wanted || may_be_pinned,
                    "H38: more is used than the limit, and an idle model stays, slot ", slot);
        }
    }
}

inline void Oracle::check_waits_for_memory(const RequestFacts& request, std::size_t used) {
    const SlotFacts& facts = slots[index(request.slot)];
    const KeyFacts& key = facts.keys[index(request.key)];
    require(!key.sizing && key.estimate != 0, "H34: a request waits, and its key was never sized: ", request.id);
    require(key.estimate <= memory.limit, "H35: a request waits for what it can never have: ", request.id);
    const bool others_wait =
        memory.neighbour.waiting != 0 || std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& other) {
            return other.wants_model() && (other.outstanding() || may_claim(other)) &&
                   (other.slot != request.slot || other.key != request.key) && !is_resident(other.slot, other.key);
        });
    const bool lacks_place = facts.residencies.size() >= facts.places();
    const bool lacks_memory = used > memory.limit || key.most() > memory.limit - used || key.lacked_memory;
    require(others_wait || lacks_place || lacks_memory,
            "R9: a request waits though its memory and a place are free: lost wake-up, request ", request.id);
    if (lacks_memory && !lacks_place) {
        see(memory.neighbour.leases == 0 ? Sight::waits_for_memory : Sight::waits_for_neighbour);
    }
}

}  // namespace residency::simulation
