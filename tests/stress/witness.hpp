#pragma once

#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "residency/runtime/mutex.hpp"
#include "stress/black_box.hpp"
#include "stress/facts.hpp"
#include "stress/relaxed.hpp"
#include "stress/settings.hpp"
#include "stress/shared_memory.hpp"
#include "stress/tally.hpp"

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
        /// How often the backend did not know it.
        Relaxed<int> denials{0};
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
        Relaxed<std::uint32_t> all_calls{0};
        /// Batches whose first call began, and their texts.
        Relaxed<std::uint64_t> batches{0};
        Relaxed<std::uint64_t> texts{0};
        /// It has answered a request with `shutting_down`.
        Relaxed<bool> refused{false};
        Relaxed<std::uint64_t> loads{0};
        Relaxed<std::uint64_t> models{0};
        Relaxed<std::uint64_t> unloads{0};
        Relaxed<int> revokes{0};
        /// A generation that a caller learnt of lately.
        Relaxed<std::uint64_t> last_known{0};
        std::array<Key, most_keys> keys{};
        std::vector<ModelFacts> all{};
        Relaxed<std::uint32_t> next{0};
    };

    /// With room for `most_models` in each slot. `limit`: of the memory budget; zero if there is none.
    Witness(BlackBox& black_box, std::size_t most_models, std::size_t limit)
        : box(black_box), memory_limit(limit), held(black_box, limit) {
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
        const int residents = in.residents.count();
        require(in.options.max_resident == 0 || residents <= static_cast<int>(in.options.max_resident),
                "R2: more residents than max_resident");
        held.add(bytes_of(slot, key));
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
        model.memory_used = model.counted_bytes = bytes_of(slot, key);
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
        held.remove(model.counted_bytes);
        box.note(Note::load_failed, model.slot, model.key, model.serial);
    }
    /// A load that failed found no memory.
    void out_of_memory() { did(Deed::load_out_of_memory); }
    /// A caller learnt that this load failed.
    void failure_seen(ModelFacts& load) {
        load.counted.set(true);
        check_cooldown(load);
    }
    /// `memory_used`: what it will say that it holds.
    void loaded(ModelFacts& model, std::size_t memory_used) {
        if (memory_used < model.counted_bytes) {
            held.remove(model.counted_bytes - memory_used);
            model.counted_bytes = memory_used;
        } else if (memory_used > model.counted_bytes && memory_limit != 0) {
            did(Deed::overrun);
        }
        model.memory_used = memory_used;
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
        held.remove(model.counted_bytes);
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
    /// A model is called. Finds out for which requests.
    void begin_call(ModelFacts& model, Call& call, Requests& requests) {
        Slot& in = slots[model.slot];
        call.number = in.all_calls.count();
        box.note(Note::call_begun, model.slot, model.key, call.number);
        for (const TextOf& text : call.texts) {
            RequestFacts& request = requests.at(text.request);
            if (call.requests.empty() || call.requests.back() != &request) {
                call.requests.push_back(&request);
            } else {
                require(text.row == (&text - 1)->row + 1, "R14: a call does not have its texts in their order");
            }
        }
        RequestFacts& first = *call.requests.front();
        call.is_part = call.requests.size() == 1 && (call.texts.size() != first.rows || first.is_cut.get());
        call.is_first = call.is_part ? begin_part(model, call, first) : first.calls.get() == 0;
        std::size_t texts = 0;
        std::map<std::uint32_t, std::size_t> calls_before;
        for (const RequestFacts* const request : call.requests) {
            ++calls_before[request->call.get()];
        }
        for (RequestFacts* const request : call.requests) {
            if (call.is_part) {
                break;
            }
            texts += request->rows;
            request->begun_texts.set(request->all_texts());
            check_may_join(model, call, *request, calls_before[request->call.get()]);
            request->fate.set(Fate::running);
            request->call.set(call.number);
            request->together.set(call.requests.size());
            request->answered_by.set(&model);
        }
        require(call.is_part || texts == call.texts.size(), "R14: a joint call has some of a request's texts");
        require(!clean.get(), "R12: a call after a clean shutdown");
        check_limits(model, call);
        if (call.is_first) {
            in.batches.count();
            in.texts.add(call.texts.size());
        }
        require(in.calls.count() <= in.limits.max_calls, "R8: more calls at once than max_calls");
        take(model);
    }
    void end_call(ModelFacts& model, Call& call, bool stop_requested) {
        box.note(Note::call_ended, model.slot, model.key, call.number);
        Slot& in = slots[model.slot];
        std::size_t first = 0;
        bool is_wanted = false;
        if (call.is_part) {
            is_wanted = end_part(call, *call.requests.front());
            call.requests.clear();
        }
        for (RequestFacts* const request : call.requests) {
            is_wanted = is_wanted || !may_end_early(*request);
            const bool has_fault = call.at >= first && call.at - first < request->rows;
            request->faulty.set(has_fault && call.ending == Ending::names_text ? static_cast<int>(call.at - first)
                                                                               : -1);
            const Fate fate = fate_of(call, has_fault);
            // Its handler has run, so it has no other call.
            const bool left = request->ends.get() != 0;
            if (call.requests.size() > 1) {
                did(Deed::joined_call);
                if (fate == Fate::failed && call.ending == Ending::busy) {
                    did(Deed::busy_joint_call);
                }
            }
            request->fate.set(left ? Fate::left : fate);
            first += request->rows;
        }
        require(!stop_requested || !is_wanted, "H29: a call was asked to stop that is still wanted");
        if (stop_requested && call.requests.size() > 1) {
            did(Deed::joint_call_stopped);
        }
        in.calls.uncount();
        give_back(model);
    }
    /// Whether the request may be complete before its model returns.
    [[nodiscard]] bool may_end_early(const RequestFacts& request) const {
        return request.cancelled.get() || closing.get() || slots.at(request.slot).revokes.get() != 0 ||
               (request.options.timeout && Clock::now() >= request.begun + *request.options.timeout);
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
    /// A caller learnt at `time`, or later, that this generation is loaded: that was a use of it.
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
        require(held.now() == 0, "S34: bytes are held by no model");
    }

    BlackBox& box;
    /// Where deeds are counted, if anywhere.
    Tally* tally = nullptr;
    const std::size_t memory_limit;
    HeldMemory held;
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
    /// Whether they answer asynchronously.
    bool asynchronous = false;
    /// Calls the library, if that is allowed now. What the library calls may do so at any place.
    std::function<void()> call_back{};
    /// The same, in a stop callback.
    std::function<void()> call_back_in_stop{};

private:
    void did(Deed deed) const {
        if (tally != nullptr) {
            tally->did(deed);
        }
    }
    // That the request has a call now, with the others of it, of which `alike`, itself among them, had the same call
    // before.
    void check_may_join(const ModelFacts& model, const Call& call, RequestFacts& request, std::size_t alike) {
        require(request.is_call() && request.slot == model.slot && request.key == model.key,
                "R11: a model called for another's request");
        require(request.options.as == call.as, "H24: a text is given to the model as something else");
        const bool is_first = request.calls.count() == 1;
        require(is_first == call.is_first, "H30: a request joins others that are called again");
        switch (request.fate.get()) {
            case Fate::none: require(is_first, "R9: a call of a request that is lost"); break;
            case Fate::running: require(false, "R14: a request is in two calls at once"); break;
            case Fate::served:
            case Fate::failed:
            case Fate::spoiled: require(false, "H30: a model is called again, and there is no reason to"); break;
            case Fate::again_in_part:
                did(Deed::rerun_in_part);
                require(alike <= request.together.get() - request.together.get() / 2,
                        "H30: requests share a call again though one of them is at fault");
                break;
            case Fate::again_together:
                did(Deed::rerun_together);
                require(alike < request.together.get(), "H30: called again with the text at fault");
                break;
            case Fate::again_halved:
                did(Deed::rerun_halved);
                require(call.requests.size() <= request.together.get() - request.together.get() / 2,
                        "H30: called again out of memory, and not halved");
                break;
            case Fate::left: require(false, "H31: called again for a request that is complete"); break;
        }
    }
    // A part of a request has a call now. Gives whether that is its first: it is not if the model ran out of memory,
    // and the part was halved.
    bool begin_part(ModelFacts& model, Call& call, RequestFacts& request) {
        for (const TextOf& text : call.texts) {
            call.part |= std::uint32_t{1} << text.row;
        }
        const std::size_t most = slots[model.slot].options.max_batch_texts;
        require(request.is_call() && request.slot == model.slot && request.key == model.key,
                "R11: a model called for a part of another's request");
        require(request.options.as == call.as, "H24: a part is given to the model as something else");
        require(call.texts.size() <= model.limits.texts && (most == 0 || call.texts.size() <= most) &&
                    (call.text_bytes <= model.limits.bytes || call.texts.size() == 1),
                "H26: a part that is larger than a call");
        const std::uint32_t running = request.running_texts.include(call.part);
        require((running & call.part) == 0, "R14: a text is in two calls at once");
        require((request.served_texts.get() & call.part) == 0, "R14: a text is computed twice");
        const std::uint32_t begun = request.begun_texts.include(call.part) & call.part;
        require(begun == 0 || begun == call.part, "R14: a part with texts of two others");
        request.is_cut.set(true);
        request.calls.count();
        request.call.set(call.number);
        request.together.set(1);
        ModelFacts* const before = request.answered_by.exchange(&model);
        did(Deed::part);
        if (running != 0) {
            did(Deed::parts_at_once);
        }
        if (begun != 0) {
            did(Deed::part_halved);
        }
        if (before != nullptr && before != &model) {
            did(Deed::parts_on_two_models);
        }
        return begun == 0;
    }
    // The call for a part is over. Gives whether the request still wants it.
    bool end_part(const Call& call, RequestFacts& request) {
        // One that expects a generation fails when that drains, though a part of it runs.
        const bool is_wanted =
            !may_end_early(request) && request.failed.get() == 0 && !request.options.expected_generation;
        request.running_texts.exclude(call.part);
        switch (call.ending) {
            case Ending::sound: request.served_texts.include(call.part); return is_wanted;
            case Ending::out_of_memory:
                if (call.texts.size() > 1) {
                    return is_wanted;
                }
                break;
            default: break;
        }
        did(Deed::part_failed);
        FailedPart& failed = request.failed_parts.at(request.failed.get() % most_rows);
        failed.call.set(call.number);
        failed.faulty.set(call.ending == Ending::names_text ? static_cast<int>(call.texts[call.at].row) : -1);
        failed.is_spoiled.set(call.ending == Ending::nan || call.ending == Ending::too_many ||
                              call.ending == Ending::too_few);
        request.failed.count();
        return is_wanted;
    }

    void check_limits(const ModelFacts& model, const Call& call) {
        if (call.requests.size() == 1) {
            return;
        }
        did(model.slot == 0 ? Deed::joint_call : Deed::joint_call_of_pairs);
        const std::size_t most = slots[model.slot].options.max_batch_texts;
        require(call.texts.size() <= model.limits.texts && (most == 0 || call.texts.size() <= most),
                "H25: a joint call with more texts than its limit");
        require(call.bytes <= model.limits.bytes, "H25: a joint call with more bytes than its limit");
    }
    // What the call means to a request of it; `has_fault`: the text at fault is one of its own.
    [[nodiscard]] static Fate fate_of(const Call& call, bool has_fault) noexcept {
        const bool alone = call.requests.size() == 1;
        switch (call.ending) {
            case Ending::sound: return Fate::served;
            case Ending::nan: return has_fault ? Fate::spoiled : Fate::served;
            case Ending::too_many:
            case Ending::too_few: return alone ? Fate::spoiled : Fate::again_in_part;
            case Ending::threw: return alone ? Fate::failed : Fate::again_in_part;
            case Ending::names_text: return has_fault ? Fate::failed : Fate::again_together;
            case Ending::out_of_memory: return alone ? Fate::failed : Fate::again_halved;
            case Ending::busy: return Fate::failed;
        }
        return Fate::none;
    }

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
