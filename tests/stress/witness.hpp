#pragma once

#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "residency/runtime/mutex.hpp"
#include "stress/black_box.hpp"
#include "stress/facts.hpp"
#include "stress/relaxed.hpp"
#include "stress/settings.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace residency::stress {

/// What the fakes of one manager see of the library, on whichever thread, and what the rules say of it.
///
/// Each figure is counted up after the library has counted and down before it does, so that it is never more than the
/// library's own and a limit that it passes is one that the library has passed.
class Witness {
public:
    struct Key {
        Relaxed<int> loading{0};
        Relaxed<int> residents{0};
        Relaxed<int> failures{0};
        /// Failures that say that the request was wrong: they start no cooldown.
        Relaxed<int> refusals{0};
        /// What was loaded last.
        Relaxed<ModelFacts*> latest{nullptr};
        /// How many of its loads gave a model.
        Relaxed<std::uint64_t> models{0};
        // The last load, if it failed in a way that starts a cooldown. Touched within loads of the key alone (R3).
        ModelFacts* failed = nullptr;
        runtime::Mutex mutex{};
        std::map<std::uint32_t, std::uint64_t> generations RESIDENCY_GUARDED_BY(mutex){};
    };
    struct Slot {
        SlotOptions options{};
        Limits limits{};
        /// The shortest keep-alive that anybody asks for.
        std::chrono::milliseconds least_keep_alive{0};
        Relaxed<int> residents{0};
        Relaxed<std::size_t> leases{0};
        Relaxed<std::size_t> loading{0};
        Relaxed<std::size_t> calls{0};
        /// It has answered a request with `shutting_down`.
        Relaxed<bool> refused{false};
        Relaxed<std::uint64_t> loads{0};
        Relaxed<std::uint64_t> models{0};
        Relaxed<std::uint64_t> unloads{0};
        Relaxed<int> revokes{0};
        /// A generation that somebody was told of lately.
        Relaxed<std::uint64_t> last_known{0};
        std::array<Key, most_keys> keys{};
        std::vector<ModelFacts> all{};
        Relaxed<std::uint32_t> next{0};
    };

    /// With room for `most_models` in each slot.
    Witness(BlackBox& black_box, std::size_t most_models) : box(black_box) {
        for (Slot& slot : slots) {
            slot.all = std::vector<ModelFacts>(most_models);
        }
    }

    void require(bool holds, const char* sentence) noexcept { box.require(holds, sentence); }

    // -- Loads and unloads --------------------------------------------------------------------------------------------

    ModelFacts& begin_load(std::uint32_t slot, std::uint32_t key, std::size_t capacity) {
        Slot& in = slots[slot];
        Key& of = in.keys[key];
        box.note(Note::load_begun, slot, key, static_cast<std::uint32_t>(in.loads.count()));
        require(of.loading.count() == 1, "R3: two loads of one key at once");
        require(of.residents.count() == 1, "R3: two residents of one key");
        require(in.residents.count() <= static_cast<int>(in.options.max_resident),
                "R2: more residents than max_resident");
        require(in.loading.count() <= in.limits.max_loads, "H13: more loads at once than max_loads");
        require(!clean.get(), "R12: a load after a clean shutdown");
        if (of.failed != nullptr) {
            of.failed->next_began.set(Clock::now().time_since_epoch().count());
            check_cooldown(*std::exchange(of.failed, nullptr));
        }
        const std::uint32_t serial = in.next.count();
        require(serial <= in.all.size(), "more loads than all requests can ask for");
        ModelFacts& model = in.all.at(serial - 1);
        model.slot = slot;
        model.key = key;
        model.serial = serial;
        model.capacity = capacity;
        return model;
    }
    void load_failed(ModelFacts& model, bool refused) {
        Slot& in = slots[model.slot];
        Key& of = in.keys[model.key];
        model.alive.set(false);
        model.gone.set(true);
        of.failures.count();
        if (refused) {
            of.refusals.count();
        } else {
            of.failed = &model;
            model.failed_at.set(Clock::now().time_since_epoch().count());
        }
        end_load(in, of);
        of.residents.uncount();
        in.residents.uncount();
        box.note(Note::load_failed, model.slot, model.key, model.serial);
    }
    /// Somebody was told that this load failed.
    void failure_told(ModelFacts& load) {
        load.counted.set(true);
        check_cooldown(load);
    }
    void loaded(ModelFacts& model) {
        Slot& in = slots[model.slot];
        Key& of = in.keys[model.key];
        model.used.set(Clock::now().time_since_epoch().count());
        model.ordinal.set(of.models.count());
        of.latest.set(&model);
        in.models.count();
        end_load(in, of);
        box.note(Note::loaded, model.slot, model.key, model.serial);
    }
    void begin_unload(ModelFacts& model) {
        box.note(Note::unload_begun, model.slot, model.key, model.serial);
        require(model.alive.exchange(false), "R1: a model is destroyed twice");
        require(model.held.get() == 0, "R1: a model is destroyed that is leased or called");
    }
    void end_unload(ModelFacts& model) {
        Slot& in = slots[model.slot];
        Key& of = in.keys[model.key];
        box.note(Note::unload_ended, model.slot, model.key, model.serial);
        require(model.held.get() == 0, "R1: a lease on a model that is being destroyed");
        model.gone.set(true);
        in.unloads.count();
        of.residents.uncount();
        in.residents.uncount();
    }

    // -- Leases and calls ---------------------------------------------------------------------------------------------

    /// A lease on it is there.
    void take(ModelFacts& model) {
        Slot& in = slots[model.slot];
        require(model.alive.get(), "R1: a lease on a model that is gone");
        require(model.held.count() <= model.capacity, "R8: more leases than a model takes");
        const std::size_t leases = in.leases.count();
        require(leases <= in.options.max_leases, "R8: more leases than max_leases");
        box.note(Note::lease_taken, model.slot, model.key, model.serial);
    }
    /// A lease on it is about to end.
    void give_back(ModelFacts& model) {
        require(model.alive.get(), "R1: a leased model is gone");
        box.note(Note::lease_ended, model.slot, model.key, model.serial);
        model.used.raise(Clock::now().time_since_epoch().count());
        slots[model.slot].leases.uncount();
        model.held.uncount();
    }
    void begin_call(ModelFacts& model, RequestFacts& request) {
        box.note(Note::call_begun, model.slot, model.key, request.id);
        require(request.is_call() && request.slot == model.slot && request.key == model.key,
                "R11: a model called for another's request");
        require(request.calls.count() == 1, "R9: a model is called twice for one request");
        require(!clean.get(), "R12: a call after a clean shutdown");
        request.answered_by.set(&model);
        Slot& in = slots[model.slot];
        require(in.calls.count() <= in.limits.max_calls, "R8: more calls at once than max_calls");
        take(model);
    }
    void end_call(ModelFacts& model, const RequestFacts& request) {
        box.note(Note::call_ended, model.slot, model.key, request.id);
        slots[model.slot].calls.uncount();
        give_back(model);
    }

    // -- Generations --------------------------------------------------------------------------------------------------

    /// That model is that generation: it never was another, and those of its key that were loaded before it are less.
    void know(ModelFacts& model, Generation generation) {
        require(generation != Generation{}, "R6: a residency without a generation");
        const std::uint64_t known = model.generation.set_if(0, generation.value());
        require(known == 0 || known == generation.value(), "R6: one model of two generations");
        Slot& in = slots[model.slot];
        in.last_known.set(generation.value());
        if (known != 0) {
            return;
        }
        Key& of = in.keys[model.key];
        const runtime::MutexLock lock(of.mutex);
        const auto [at, is_new] = of.generations.emplace(model.serial, generation.value());
        require(is_new, "R6: one model twice");
        require(at == of.generations.begin() || std::prev(at)->second < at->second,
                "R6: a generation that is not the greatest so far");
        require(std::next(at) == of.generations.end() || at->second < std::next(at)->second,
                "R6: a generation that a later one does not pass");
    }
    /// Somebody was told at `time`, or later, that this generation is loaded: that was a use of it.
    void used(std::uint32_t slot, Generation generation, Clock::time_point time) {
        for (Key& key : slots[slot].keys) {
            ModelFacts* const model = key.latest.get();
            if (model != nullptr && model->generation.get() == generation.value()) {
                model->used.raise(time.time_since_epoch().count());
            }
        }
    }
    /// The slot's counter, read just now: past the generation of every model that is gone.
    void check_counter(std::uint32_t slot, const std::function<Generation()>& counter) {
        for (Key& key : slots[slot].keys) {
            const ModelFacts* const model = key.latest.get();
            if (model != nullptr && model->generation.get() != 0 && !model->alive.get()) {
                require(counter().value() > model->generation.get(),
                        "R6: the counter was not raised when a model stopped being usable");
            }
        }
    }

    /// All is over.
    void check_nothing_left() {
        for (Slot& slot : slots) {
            require(slot.residents.get() == 0, "S34: a model is left");
            require(slot.leases.get() == 0, "S34: a lease is left");
            require(slot.models.get() == slot.unloads.get(), "S34: loads are not unloads");
        }
    }

    BlackBox& box;
    std::array<Slot, 2> slots{};
    /// A shutdown has begun.
    Relaxed<bool> shut_down{false};
    /// A shutdown or the manager's destruction is about to begin.
    Relaxed<bool> closing{false};
    /// The manager's destruction is about to begin: from then on models are also destroyed where their last lease ends.
    Relaxed<bool> ending{false};
    /// A shutdown said that nothing is left.
    Relaxed<bool> clean{false};
    /// Whether a model may wait for its stop_token: not where it keeps the timer from the thread that it needs.
    bool waits_for_stop = false;
    /// Calls the library, if that is allowed now. What the library calls may do so at any place.
    std::function<void()> call_back{};
    /// The same, in a stop callback.
    std::function<void()> call_back_in_stop{};

private:
    // Whichever comes last, the next load or the news, finds both.
    void check_cooldown(const ModelFacts& load) {
        if (load.counted.get() && load.next_began.get() != 0) {
            const Clock::duration passed{load.next_began.get() - load.failed_at.get()};
            require(passed >= slots.at(load.slot).options.cooldown, "R11: a load within its key's cooldown");
        }
    }
    static void end_load(Slot& in, Key& of) {
        in.loading.uncount();
        of.loading.uncount();
    }
};

}  // namespace residency::stress
