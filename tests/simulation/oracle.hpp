#pragma once

#include "simulation/facts.hpp"
#include "simulation/fakes.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace residency::simulation {

/// Holds the rules (R1 to R16) against what a simulation saw. Knows nothing of how the library works. The
/// first rule that is broken is kept as a sentence; what comes after it means nothing.
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

    // -- What the backend and the models are called for ---------------------------------------------------------------

    /// `entered` and `entered_time`: when the job that loads it began to run.
    ModelFacts& begin_load(int slot, int key, Time now, std::uint64_t entered, Time entered_time) {
        SlotFacts& facts = slots[index(slot)];
        KeyFacts& of_key = facts.keys[index(key)];
        require(of_key.loading == 0, "R3: a second load of a key while one is running, key ", key);
        require(static_cast<std::size_t>(facts.loading) < facts.options.max_loads,
                "H13: more loads of one slot at once than max_loads, slot ", slot);
        require(now >= of_key.cooling_until, "R11: a load during its key's cooldown, key ", key);
        if (of_key.lacked_memory) {
            see(Sight::tried_again);
        }
        ModelFacts& model = models.emplace_back();
        model.serial = static_cast<int>(models.size());
        model.slot = slot;
        model.key = key;
        model.begun = ++sequence;
        model.entered = entered;
        model.entered_time = entered_time;
        ++facts.loading;
        of_key.loading = model.serial;
        require(std::any_of(requests.begin(), requests.end(),
                            [&](const RequestFacts& request) {
                                return request.wants_model() && request.slot == slot && request.key == key &&
                                       (request.outstanding() || request.completed_at > entered || may_claim(request));
                            }),
                "H1: a load that no request waits for, key ", key);
        check_places(slot);
        model.estimate = of_key.estimate;
        require(!memory.limited || model.estimate != 0, "H34: a load of a key whose size is not known, key ", key);
        return model;
    }
    // The load is asked to stop: there was no waiter for `abandon_after`. The request may come later than the decision.
    void stop_load(ModelFacts& model, Time now) {
        model.stopped = true;
        require(may_be_stopped(model, now), "H1: a load was asked to stop that is still wanted, ", model.serial);
    }
    void end_load(ModelFacts& model, bool failed, bool cools_down, Time now) {
        SlotFacts& facts = slots[index(model.slot)];
        KeyFacts& of_key = facts.keys[index(model.key)];
        --facts.loading;
        of_key.loading = 0;
        if (!failed) {
            model.state = ModelFacts::State::alive;
            ++facts.alive;
            of_key.failures = of_key.maybe_failures = 0;
            of_key.cooling_until = of_key.maybe_cooling_until = Time::min();
            of_key.lacked_memory = false;
            of_key.used = model.says != 0 ? model.says : of_key.used;
            memory.pressed = model.says > model.estimate ? ++sequence : memory.pressed;
            check_places(model.slot);
            note_change();
            return;
        }
        model.state = ModelFacts::State::failed;
        of_key.vacant = ++sequence;
        if (model.lacked_memory) {
            of_key.lacked_memory = true;
            memory.pressed = ++sequence;
        }
        if (!model.stopped && cools_down) {
            of_key.maybe_cooling_until = now + cooldown(facts.options, of_key.maybe_failures++);
            // Without memory it is tried once more (H37).
            if (!may_be_stopped(model, now) && !model.lacked_memory) {
                of_key.cooling_until = now + cooldown(facts.options, of_key.failures++);
            }
        }
    }
    // Where it is: oracle_calls.hpp.
    CallFacts& begin_call(ModelFacts& model, const FakeCall& made, Time now);
    void end_call(ModelFacts& model, CallFacts& call, bool stop_requested, Time now);
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

    // -- Calls: oracle_calls.hpp --------------------------------------------------------------------------------------

    /// Nothing is in flight now: the counters say what the models saw.
    void check_counters(int slot, const SlotCounters& counters);
    /// Whether the request was surely the one that its batch was granted for, and did not join it.
    [[nodiscard]] bool surely_first(const RequestFacts& request) const;
    /// Whether the request was granted and completed before its call began.
    [[nodiscard]] bool is_unseen(const RequestFacts& request) const;
    /// Whether the request's last call gave it an answer.
    [[nodiscard]] bool has_answer(const RequestFacts& request) const;
    /// A part of the request that failed it; and the part that gave it this row. Null if there is none.
    [[nodiscard]] const CallFacts* failed_part(const RequestFacts& request) const;
    [[nodiscard]] const CallFacts* part_with(const RequestFacts& request, int row) const;
    /// Whether the request's last call failed it.
    /// Whether the slot may have been closed when the others of a call that failed were to be called again.
    [[nodiscard]] bool maybe_closed(const RequestFacts& request, const CallFacts& last) const {
        return last.maybe_closed_at_end || slots[index(request.slot)].closing;
    }
    [[nodiscard]] bool is_failed(const RequestFacts& request) const;
    [[nodiscard]] bool is_spoiled(const RequestFacts& request) const;
    /// Which of the request's texts the call's fault is in, if it is in one.
    [[nodiscard]] std::optional<std::size_t> own_fault(const RequestFacts& request, const CallFacts& call) const;
    [[nodiscard]] const CallFacts& last_call(const RequestFacts& request) const {
        return calls[index(request.calls.back())];
    }
    void see(Sight sight) noexcept { ++sights[static_cast<std::size_t>(sight)]; }

    // -- Leases -------------------------------------------------------------------------------------------------------

    /// The request has a lease. That was decided no later, and no earlier than whatever had ended before it or ran
    /// within its steps.
    void note_lease(RequestFacts& request) {
        if (request.leased == 0) {
            request.leased = request.posted != 0 ? request.posted : ++sequence;
            request.leased_depth = request.posted != 0 ? request.posted_depth : depth;
        }
    }
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

    // -- What the slot says of itself ---------------------------------------------------------------------------------

    // Where it is: oracle_status.hpp.
    void observe(int slot, const SlotStatus& status, Generation counter, Time now);

    // -- Memory: oracle_memory.hpp ------------------------------------------------------------------------------------

    /// The backend is asked how much the key needs, and answers; throws if `bytes` is zero.
    void begin_size(int slot, int key);
    void end_size(int slot, int key, std::size_t bytes, Time now);
    /// A model holds so much from now on.
    void hold_memory(ModelFacts& model, std::size_t bytes);
    /// At every instant what the models of all managers hold is within the limit, but for what they hold beyond what
    /// was said of them.
    void check_held();
    /// The host sets another limit, and has; `used`: what is reserved then, as the budget says.
    std::uint64_t begin_limit(std::size_t bytes);
    void end_limit(std::uint64_t change, std::size_t used);
    /// What is reserved, as the budget says.
    void observe_memory(std::size_t used);
    /// Nothing is left to run now.
    void check_quiet_memory(std::size_t used);
    /// Something has changed that makes a need impossible, perhaps.
    void note_change();
    /// Whether idle models may go for what waits in another slot.
    [[nodiscard]] bool makes_room_for(const RequestFacts& request, int residency_slot,
                                      const ResidencyFacts& residency) const;
    [[nodiscard]] bool is_pressed(int slot, const ResidencyFacts& residency) const;
    [[nodiscard]] std::size_t pinned_beside(int slot, int key) const;
    [[nodiscard]] bool is_resident(int slot, int key) const;
    void check_waits_for_memory(const RequestFacts& request, std::size_t used);

    // -- Time: oracle_time.hpp ----------------------------------------------------------------------------------------

    /// How long a residency stays when it is idle, as far as that is known.
    struct Stay {
        Time least;
        Time most;
    };
    [[nodiscard]] std::optional<Stay> keep_alive(int slot, const ResidencyFacts& residency, std::uint64_t until) const;
    /// Looks at those that were unloaded as idle: never before their keep-alive had passed. Once every request is
    /// complete.
    void check_idle_unloads();
    /// Nothing is left to run now: what could be served has been, what is due has happened.
    void check_quiet(int slot, const SlotStatus& status, Time now);
    void check_claim(int slot, const SlotStatus& status, const RequestFacts& request, Time now);
    void check_waits_for_something(int slot, const SlotStatus& status, const RequestFacts& request);

    // -- Events: oracle_events.hpp ------------------------------------------------------------------------------------

    /// An event of the slot.
    void note_event(int slot, int key, const Event& event);
    /// All events have been delivered: they are what the counters say.
    void check_events(int slot, const SlotStatus& status, Time now);

    // -- Order: oracle_order.hpp --------------------------------------------------------------------------------------

    /// No request was passed over that goes first, but by priority, and aged ones not twice in a row. Once every
    /// request is complete.
    void check_order();
    void check_aged(const RequestFacts& waiter, const std::vector<const RequestFacts*>& passed);
    /// A shutdown's handler was posted after those of all requests before it.
    void check_posted_before(const RequestFacts& shutdown);

    // -- Answers: oracle_answers.hpp ----------------------------------------------------------------------------------

    void check_answer(RequestFacts& request, const std::exception_ptr& error, const ShutdownReport* report, Time now);
    [[nodiscard]] bool may_end_early(const RequestFacts& request, Time now) const;

    std::array<SlotFacts, 2> slots{};
    MemoryFacts memory{};
    /// The manager was destroyed; how many loads gave a null model; what was answered so far.
    bool destroyed = false;
    int null_models = 0;
    std::vector<std::exception_ptr> errors{};
    std::deque<RequestFacts> requests{};
    std::deque<ModelFacts> models{};
    std::deque<CallFacts> calls{};
    Sights sights{};
    /// Until when a residency that is idle may keep its place, if nothing happens (H32).
    [[nodiscard]] Time stays_until(int slot, const ResidencyFacts& residency) const {
        const SlotOptions& options = slots[index(slot)].options;
        const auto model = std::find_if(models.begin(), models.end(), [&](const ModelFacts& each) {
            return each.slot == slot && each.generation == residency.generation;
        });
        const Time aging = std::chrono::duration_cast<Time>(options.aging);
        const Time load = std::min(aging, model == models.end() ? aging : residency.ready_high - model->entered_time);
        const Time stay = options.min_stay ? std::min<Time>(aging, *options.min_stay) : load;
        return residency.idle_high + (stay == Time(0) ? stay : std::max(stay / 10, load));
    }

    std::uint64_t sequence = 0;
    /// Whether another request for the same model has no answer yet.
    [[nodiscard]] bool others_want(const RequestFacts& request) const {
        return std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& other) {
            return &other != &request && other.outstanding() && other.wants_model() && other.slot == request.slot &&
                   other.key == request.key;
        });
    }

    /// When what had been decided had last been carried out.
    std::uint64_t carried_out = 0;
    /// When nothing was left to run last.
    Time rested{0};
    /// Within how many others' steps this is.
    int depth = 0;
    std::string violation{};

private:
    [[nodiscard]] bool code_thrown_by_load(const RequestFacts& request) const;
    template <class Number>
    static std::size_t index(Number number) noexcept {
        return static_cast<std::size_t>(number);
    }

    // Whether the request timed out, and its key may keep its turn.
    [[nodiscard]] bool may_claim(const RequestFacts& request) const {
        return request.code && *request.code == errc::timed_out &&
               rested < request.completed_time + slots[index(request.slot)].options.abandon_after;
    }
    [[nodiscard]] static bool may_be_revoked(const SlotFacts& facts, int key) {
        return facts.revoking || facts.keys[index(key)].revoke != 0;
    }
    // The request waits for a load of the key since before it began, or it came in time to keep that.
    [[nodiscard]] bool waits_for_load(const RequestFacts& request, int slot, int key, Time now) const {
        return request.outstanding() && request.wants_model() && request.slot == slot && request.key == key &&
               !request.may_be_cancelled && !request.starting && request.due() > now &&
               !request.options.expected_generation && !request.invalid && !request.maybe_full_at_call &&
               !request.maybe_cooling_at_call && !request.denied && !request.overtaken &&
               !(request.kind == Kind::call && request.rows == 0) &&
               request.sequence > slots[index(slot)].keys[index(key)].vacant;
    }
    // Whether the load may have been asked to stop: the slot shuts down, it was unloaded, or it may have had no waiter
    // for `abandon_after`.
    [[nodiscard]] bool may_be_stopped(const ModelFacts& model, Time now) const {
        const SlotFacts& facts = slots[index(model.slot)];
        if (facts.closing || facts.keys[index(model.key)].unload > model.entered) {
            return true;
        }
        const Time abandoned = model.entered_time + facts.options.abandon_after;
        return now >= abandoned && std::none_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
                   return waits_for_load(request, model.slot, model.key, now) &&
                          (request.returned < model.entered || request.begun < abandoned);
               });
    }
    [[nodiscard]] static Time cooldown(const SlotOptions& options, int failures) {
        Time cooldown = options.cooldown;
        for (int earlier = 0; earlier < failures; ++earlier) {
            cooldown = std::min<Time>(cooldown * 2, options.max_cooldown);
        }
        return cooldown;
    }

    void check_places(int slot) {
        const SlotFacts& facts = slots[index(slot)];
        require(static_cast<std::size_t>(facts.alive + facts.loading) <= facts.places(),
                "R2: more models than max_resident, slot ", slot);
    }
    void check_called(const RequestFacts& request, const ModelFacts& model, const FakeCall& made);
    void begin_part(CallFacts& call, const ModelFacts& model, RequestFacts& request, const FakeCall& made);
    void check_texts(const CallFacts& call, const ModelFacts& model, const FakeCall& made);
    void check_batch(const CallFacts& call, const ModelFacts& model);
    void check_rerun(const CallFacts& call, const RequestFacts& request, Time now);
    void see_failure(const RequestFacts& request);
    void check_leases(int slot) {
        const SlotFacts& facts = slots[index(slot)];
        require(static_cast<std::size_t>(facts.held + facts.calling) <= facts.options.max_leases,
                "R8: more leases than max_leases, slot ", slot);
    }

    void know_living(int slot, int key, Generation generation);
    void observe_generations(int slot, const SlotStatus& status, std::uint64_t counter, Time now);
    void note_unload(int slot, ResidencyFacts residency, Time now);
};

}  // namespace residency::simulation

#include "simulation/oracle_answers.hpp"  // IWYU pragma: export
#include "simulation/oracle_calls.hpp"    // IWYU pragma: export
#include "simulation/oracle_events.hpp"   // IWYU pragma: export
#include "simulation/oracle_memory.hpp"   // IWYU pragma: export
#include "simulation/oracle_order.hpp"    // IWYU pragma: export
#include "simulation/oracle_status.hpp"   // IWYU pragma: export
#include "simulation/oracle_time.hpp"     // IWYU pragma: export
