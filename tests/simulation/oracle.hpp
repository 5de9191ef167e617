#pragma once

#include "simulation/facts.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace residency::simulation {

/// Holds the rules of DESIGN.md section 2 against what a simulation saw. Knows nothing of how the library works. The first rule that is
/// broken is kept as a sentence; what comes after it means nothing.
class Oracle {
public:
    Oracle(const SlotOptions& embedding, const SlotOptions& reranker, int keys) {
        slots[0].options = embedding;
        slots[1].options = reranker;
        for (SlotFacts& slot : slots) {
            slot.keys.resize(static_cast<std::size_t>(keys));
        }
    }

    /// Notes that a rule is broken.
    void violate(std::string sentence) {
        if (violation.empty()) {
            violation = std::move(sentence);
        }
    }
    void require(bool holds, std::string_view sentence) {
        if (!holds) {
            violate(std::string(sentence));
        }
    }
    void require(bool holds, std::string_view sentence, int number) {
        if (!holds) {
            violate(std::string(sentence) + std::to_string(number));
        }
    }

    // -- What the backend and the models are called for -----------------------------------------------------------------------------

    ModelFacts& begin_load(int slot, int key, Time now) {
        SlotFacts& facts = slots[index(slot)];
        KeyFacts& of_key = facts.keys[index(key)];
        require(of_key.loading == 0, "R3: a second load of a key while one is running, key ", key);
        require(facts.loading == 0, "H13: two loads of one slot at once, slot ", slot);
        require(now >= of_key.cooling_until, "R11: a load during its key's cooldown, key ", key);
        ModelFacts& model = models.emplace_back();
        model.serial = static_cast<int>(models.size());
        model.slot = slot;
        model.key = key;
        model.begun = ++sequence;
        ++facts.loading;
        of_key.loading = model.serial;
        check_places(slot);
        return model;
    }
    // The load is asked to stop: nobody may be left who waits for it.
    void stop_load(ModelFacts& model, Time now) {
        model.stopped = true;
        const SlotFacts& facts = slots[index(model.slot)];
        if (facts.closing || facts.keys[index(model.key)].unload > model.begun) {
            return;
        }
        for (const RequestFacts& request : requests) {
            if (request.outstanding() && request.wants_model() && request.slot == model.slot &&
                request.key == model.key && !request.may_be_cancelled && !request.starting && request.due() > now &&
                !request.options.expected_generation && !request.invalid && !request.full_at_call &&
                !request.cooling_at_call && !(request.kind == Kind::call && request.rows == 0) &&
                request.sequence > facts.keys[index(model.key)].vacant) {
                violate("R3: a load was asked to stop though request " + std::to_string(request.id) + " waits for it");
            }
        }
    }
    void end_load(ModelFacts& model, bool failed, bool cools_down, Time now) {
        SlotFacts& facts = slots[index(model.slot)];
        KeyFacts& of_key = facts.keys[index(model.key)];
        --facts.loading;
        of_key.loading = 0;
        if (!failed) {
            model.state = ModelFacts::State::alive;
            ++facts.alive;
            of_key.failures = 0;
            of_key.cooling_until = Time::min();
            check_places(model.slot);
            return;
        }
        model.state = ModelFacts::State::failed;
        of_key.vacant = ++sequence;
        if (!model.stopped && cools_down) {
            Time cooldown = facts.options.cooldown;
            for (int earlier = 0; earlier < of_key.failures; ++earlier) {
                cooldown = std::min<Time>(cooldown * 2, facts.options.max_cooldown);
            }
            ++of_key.failures;
            of_key.cooling_until = now + cooldown;
        }
    }
    void begin_call(ModelFacts& model, int id) {
        RequestFacts& request = requests[index(id)];
        SlotFacts& facts = slots[index(model.slot)];
        require(model.state == ModelFacts::State::alive, "R1: a model is called that does not live, ", model.serial);
        require(request.kind == Kind::call && request.slot == model.slot && request.key == model.key,
                "R11: a model is called for a request of another key, request ", id);
        require(request.outstanding(), "R9: a model is called for a request that is complete, ", id);
        require(++request.calls == 1, "R9: a model is called twice for request ", id);
        require(model.generation == Generation{} || !request.options.expected_generation ||
                    *request.options.expected_generation == model.generation,
                "H8: a request was given to another generation than it expected, request ", id);
        request.model = model.serial;
        ++model.calling;
        ++facts.calling;
        require(static_cast<std::size_t>(model.calling + model.held) <= model.capacity,
                "R8: more leases than a model takes, ", model.serial);
        check_leases(model.slot);
    }
    void end_call(ModelFacts& model, int id) {
        --model.calling;
        --slots[index(model.slot)].calling;
        require(model.state == ModelFacts::State::alive, "R1: a model died during the call of request ", id);
    }
    void begin_unload(ModelFacts& model) {
        require(model.state == ModelFacts::State::alive, "R1: a model is destroyed twice, ", model.serial);
        require(model.held == 0, "R1: a model is destroyed that is leased, ", model.serial);
        require(model.calling == 0, "R1: a model is destroyed that is being called, ", model.serial);
        model.state = ModelFacts::State::dying;
    }
    void end_unload(ModelFacts& model) {
        model.state = ModelFacts::State::gone;
        SlotFacts& facts = slots[index(model.slot)];
        --facts.alive;
        facts.keys[index(model.key)].vacant = ++sequence;
    }

    // -- Leases -------------------------------------------------------------------------------------------------------------------------

    void hold(ModelFacts& model, int slot, int key, Generation generation) {
        require(model.slot == slot && model.key == key, "R11: a lease on a model of another key, ", model.serial);
        require(model.state == ModelFacts::State::alive, "R1: a lease on a model that does not live, ", model.serial);
        know(model, generation);
        ++model.held;
        ++slots[index(slot)].held;
        require(static_cast<std::size_t>(model.calling + model.held) <= model.capacity,
                "R8: more leases than a model takes, ", model.serial);
        check_leases(slot);
    }
    void let_go(ModelFacts& model) {
        --model.held;
        --slots[index(model.slot)].held;
    }
    /// That model is that generation.
    void know(ModelFacts& model, Generation generation) {
        require(generation != Generation{}, "R6: no generation for model ", model.serial);
        require(model.generation == Generation{} || model.generation == generation, "R6: two generations of model ",
                model.serial);
        for (const ModelFacts& other : models) {
            require(other.serial == model.serial || other.slot != model.slot || other.generation != generation,
                    "R6: two models of one generation, one of them ", model.serial);
        }
        model.generation = generation;
    }

    // -- What the slot says of itself ----------------------------------------------------------------------------------------------------

    void observe(int slot, const SlotStatus& status, Generation counter, Time now) {
        SlotFacts& facts = slots[index(slot)];
        const SlotOptions& options = facts.options;
        require(status.residents.size() <= options.max_resident, "R2: more residents than max_resident, slot ", slot);
        require(status.leases <= options.max_leases, "R8: more leases than max_leases, slot ", slot);
        require(status.waiting <= options.max_queue, "R8: more waiters than max_queue, slot ", slot);
        require(counter == status.generation, "R6: two readings of the counter differ, slot ", slot);
        require(static_cast<std::size_t>(facts.alive + facts.loading) <= status.residents.size(),
                "R1: a place was given away while its model lives, slot ", slot);
        require(static_cast<std::size_t>(facts.held + facts.calling) <= status.leases,
                "R4: leases that are not counted, slot ", slot);
        require(status.shutting_down ? facts.closing : !facts.closed,
                "R12: shutting_down is not what was asked for, slot ", slot);
        std::size_t sum = 0;
        std::size_t waiters = 0;
        for (const ResidentStatus& resident : status.residents) {
            sum += resident.leases;
        }
        for (const RequestFacts& request : requests) {
            waiters += request.slot == slot && request.wants_model() && request.outstanding() ? 1U : 0U;
        }
        require(sum == status.leases, "R4: the residents' leases are not the slot's, slot ", slot);
        require(status.waiting <= waiters, "R9: a waiter for nobody, slot ", slot);
        require(status.counters.leases_granted >= facts.counters.leases_granted &&
                    status.counters.loads >= facts.counters.loads &&
                    status.counters.unloaded() >= facts.counters.unloaded(),
                "a counter fell, slot ", slot);
        observe_generations(slot, status, counter.value(), now);
        facts.counters = status.counters;
    }

    // -- Time ----------------------------------------------------------------------------------------------------------------------------

    /// How long this residency stays when it is free, by the latest of those that were granted; nothing if that cannot be told.
    [[nodiscard]] std::optional<Time> keep_alive(int slot, const ResidencyFacts& residency, std::uint64_t until) const {
        std::chrono::milliseconds keep_alive = slots[index(slot)].options.keep_alive;
        for (const RequestFacts& request : requests) {
            if (request.slot != slot || request.key != residency.key || request.sequence > until) {
                continue;
            }
            if (request.kind == Kind::call && request.completions != 0 && request.calls == 0 && request.rows != 0) {
                // It may have been granted and told before it reached the model.
                if (request.options.timeout || request.may_be_cancelled ||
                    slots[index(slot)].keys[index(request.key)].revoke != 0) {
                    return std::nullopt;
                }
            }
            const bool granted =
                request.granted == residency.generation ||
                (request.calls != 0 && models[index(request.model - 1)].generation == residency.generation);
            const bool unclear = request.calls != 0 && models[index(request.model - 1)].generation == Generation{};
            if (unclear) {
                return std::nullopt;
            }
            if (granted) {
                keep_alive = request.options.keep_alive.value_or(slots[index(slot)].options.keep_alive);
            }
        }
        return keep_alive == keep_alive_forever ? never : std::chrono::duration_cast<Time>(keep_alive);
    }
    /// Looks at those that were unloaded as idle: never before their keep-alive had passed. Once every request is complete.
    void check_idle_unloads() {
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
                require(!stays || (*stays != never && unload.at >= since + *stays),
                        "R5: unloaded for idleness before its keep-alive, generation ",
                        static_cast<int>(unload.residency.generation.value()));
            }
        }
    }

    /// Nothing is left to run now: whoever could be served has been, whatever is due has happened.
    void check_quiet(int slot, const SlotStatus& status, Time now) {
        const SlotFacts& facts = slots[index(slot)];
        require(status.leases == static_cast<std::size_t>(facts.held), "R9: a lease was not given back, slot ", slot);
        std::size_t waiting = 0;
        for (const RequestFacts& request : requests) {
            if (!request.outstanding() || (request.slot != slot && !request.both_slots)) {
                continue;
            }
            require(request.due() > now || request.kind == Kind::shutdown,
                    "H14: a timeout has passed, and nobody was told: request ", request.id);
            require(!request.cancelled, "R9: a cancelled request has not completed: ", request.id);
            if (request.wants_model()) {
                ++waiting;
                check_waits_for_something(slot, status, request);
            } else if (request.kind == Kind::shutdown) {
                require(request.due() > now - (request.started - request.begun),
                        "H9: a shutdown's deadline has passed, request ", request.id);
                require(request.both_slots || facts.held != 0, "R9: a shutdown waits for nothing, request ",
                        request.id);
            } else {
                require(facts.held != 0, "R9: an unload waits for nothing, request ", request.id);
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
                require(!stays || *stays == never || now < residency.idle_high + *stays,
                        "R5: idle past its keep-alive and not unloaded, generation ",
                        static_cast<int>(residency.generation.value()));
            }
            require(residency.state != ResidentState::unloading, "R9: an unload that nobody carries out, slot ", slot);
            require(residency.state != ResidentState::draining || residency.leases != 0,
                    "R9: a drain that waits for nothing, slot ", slot);
        }
        require(facts.loading == 0, "a load runs though nothing does, slot ", slot);
    }

    // Where the rest of it is: oracle_answers.hpp.
    void check_answer(const RequestFacts& request, const std::exception_ptr& error, const ShutdownReport* report,
                      Time now);

    std::array<SlotFacts, 2> slots{};
    /// The manager was destroyed; how many loads gave a null model; what was answered so far.
    bool destroyed = false;
    int null_models = 0;
    std::vector<std::exception_ptr> errors{};
    std::deque<RequestFacts> requests{};
    std::deque<ModelFacts> models{};
    std::uint64_t sequence = 0;
    std::string violation{};

private:
    [[nodiscard]] bool code_thrown_by_load(const RequestFacts& request) const;
    template <class Number>
    static std::size_t index(Number number) noexcept {
        return static_cast<std::size_t>(number);
    }

    void check_places(int slot) {
        const SlotFacts& facts = slots[index(slot)];
        require(static_cast<std::size_t>(facts.alive + facts.loading) <= facts.options.max_resident,
                "R2: more models than max_resident, slot ", slot);
    }
    void check_leases(int slot) {
        const SlotFacts& facts = slots[index(slot)];
        require(static_cast<std::size_t>(facts.held + facts.calling) <= facts.options.max_leases,
                "R8: more leases than max_leases, slot ", slot);
    }

    void check_waits_for_something(int slot, const SlotStatus& status, const RequestFacts& request) {
        const SlotFacts& facts = slots[index(slot)];
        require(facts.held != 0, "R9: a request waits though nobody holds a lease: lost wake-up, request ", request.id);
        bool resident = false;
        for (const ResidencyFacts& residency : facts.residencies) {
            if (residency.key == request.key) {
                resident = true;
                const auto model = std::find_if(models.begin(), models.end(), [&](const ModelFacts& candidate) {
                    return candidate.slot == slot && candidate.generation == residency.generation;
                });
                const bool full = model != models.end() && residency.leases >= model->capacity;
                require(residency.state != ResidentState::ready || full || status.leases >= facts.options.max_leases ||
                            model == models.end(),
                        "R9: a request waits for a model that could be leased: lost wake-up, request ", request.id);
            }
        }
        require(resident || status.residents.size() >= facts.options.max_resident,
                "R9: a request waits though a place is free: lost wake-up, request ", request.id);
    }

    // The residencies that the status shows, against those that it showed last: the counter tells every difference.
    void observe_generations(int slot, const SlotStatus& status, std::uint64_t counter, Time now) {
        SlotFacts& facts = slots[index(slot)];
        require(counter >= facts.counter, "R6: the counter fell, slot ", slot);
        std::vector<ResidencyFacts> current;
        for (const ResidentStatus& resident : status.residents) {
            if (resident.generation == Generation{}) {
                continue;
            }
            ResidencyFacts seen;
            const auto known = std::find_if(
                facts.residencies.begin(), facts.residencies.end(),
                [&](const ResidencyFacts& candidate) { return candidate.generation == resident.generation; });
            if (known == facts.residencies.end()) {
                require(resident.generation.value() > facts.counter && resident.generation.value() <= counter,
                        "R6: a residency whose generation was used before, slot ", slot);
                seen.generation = resident.generation;
                seen.key = resident.key.name.front() - 'a';
                seen.ready = ++sequence;
                seen.idle_low = seen.idle_high = now;
                seen.state = ResidentState::ready;
            } else {
                seen = *known;
            }
            if (resident.state == ResidentState::unloading && seen.state != ResidentState::unloading) {
                require(counter > facts.counter || facts.keys[index(seen.key)].revoke != 0,
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
                require(counter > facts.counter || facts.keys[index(earlier.key)].revoke != 0,
                        "R6: a residency ended without raising the counter, slot ", slot);
            }
        }
        facts.residencies = std::move(current);
        facts.counter = counter;
    }

    // Its unloading has begun. Unless something else was asked for, that was for idleness.
    void note_unload(int slot, ResidencyFacts residency, Time now) {
        const SlotFacts& facts = slots[index(slot)];
        if (residency.leases != 0) {
            residency.idle_low = now;
        }
        const bool switched = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
            return request.slot == slot && request.wants_model() && request.outstanding() &&
                   request.key != residency.key;
        });
        if (!facts.closing && facts.keys[index(residency.key)].unload < residency.ready && !switched) {
            slots[index(slot)].idle_unloads.push_back({residency, now, sequence});
        }
    }
};

}  // namespace residency::simulation

#include "simulation/oracle_answers.hpp"  // IWYU pragma: export
