#pragma once

#include "simulation/simulation.hpp"

// What the library calls: handlers, the observer, the backend and its models.

namespace residency::simulation {

inline void Simulation::require_frame(const SeededQueue& queue, const char* what) {
    const SeededQueue& wanted = settings_.one_executor && &queue != &client_ ? control_ : queue;
    oracle_.require(!frames_.empty() && frames_.back().queue == &wanted, what);
}

template <class... Results>
void Simulation::completed(RequestFacts& request, const std::exception_ptr& error, Results... results) {
    require_frame(handlers(), "R9: a handler was called where it does not belong, or inside the call");
    oracle_.require(++request.completions == 1, "R9: a request completed twice, ", request.id);
    std::string answer = "ok";
    if (error) {
        try {
            std::rethrow_exception(error);
        } catch (const std::exception& failure) {
            answer = failure.what();
        }
    }
    note("answer ", request.id, ": ", answer);
    if constexpr (std::is_same_v<std::tuple<Results...>, std::tuple<ShutdownReport>>) {
        (oracle_.check_answer(request, error, &results, now()), ...);
    } else {
        (check_value(request, error, results), ...);
        oracle_.check_answer(request, error, nullptr, now());
    }
    request.completed_at = ++oracle_.sequence;
    request.completed_time = now();
    if (calm()) {
        return;
    }
    switch (choices_.weighted({12, 3, 1, 1})) {
        case 1: act(); break;
        case 2: nest(2); break;
        case 3: throw Thrown();
        default: break;
    }
}

inline void Simulation::check_value(RequestFacts& request, const std::exception_ptr& error, Embeddings& rows) {
    oracle_.require(rows.size() == (error ? 0U : static_cast<std::size_t>(request.rows)),
                    "a wrong number of rows, request ", request.id);
    for (std::size_t row = 0; row < rows.size() && request.calls == 1; ++row) {
        oracle_.require(rows[row][0] == static_cast<float>(request.model) &&
                            rows[row][1] == static_cast<float>(request.id) && rows[row][2] == static_cast<float>(row),
                        "R11: an answer of another request, ", request.id);
    }
}

inline void Simulation::check_value(RequestFacts& request, const std::exception_ptr& error, Ranking& ranking) {
    oracle_.require(ranking.size() == (error ? 0U : static_cast<std::size_t>(request.rows)),
                    "a wrong number of scores, request ", request.id);
    for (const RankedDocument& document : ranking) {
        oracle_.require(document.score == static_cast<float>((request.model * 512 + request.id) * 4) +
                                              static_cast<float>(document.index),
                        "R11: an answer of another request, ", request.id);
    }
}

inline void Simulation::check_value(RequestFacts& request, const std::exception_ptr& error, Generation& generation) {
    oracle_.require((generation == Generation{}) == (error != nullptr), "ensure_loaded without a generation, request ",
                    request.id);
    request.granted = generation;
    for (ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(request.slot)].residencies) {
        if (residency.generation == generation) {
            residency.idle_high = now();
        }
    }
}

template <class Model>
void Simulation::check_value(RequestFacts& request, const std::exception_ptr& error, Lease<Model>& lease) {
    oracle_.require(static_cast<bool>(lease) == (error == nullptr), "a lease with an error, or neither, request ",
                    request.id);
    if (lease) {
        keep(request, std::move(lease));
        if (!calm() && choices_.once_in(3)) {
            release(leases_.size() - 1);
        }
    }
}

inline void Simulation::event(const Event& published) {
    require_frame(callbacks(), "H19: an event outside callbacks");
    oracle_.require(!std::exchange(observing_, true), "section 8: two events at once");
    std::ostringstream line;
    line << published;
    note("event ", line.str());
    oracle_.note_event(published.slot == "embedding" ? 0 : 1,
                       published.key.name.empty() ? no_key : published.key.name.front() - 'a', published);
    if (!calm()) {
        const std::size_t what = choices_.weighted({12, 2, 1, 1});
        if (what == 1) {
            act();
        } else if (what == 2) {
            nest(2);
        }
        observing_ = false;
        if (what == 3) {
            throw Thrown();
        }
    }
    observing_ = false;
}

inline ModelFacts* Simulation::load(int slot, const ModelKey& key, LoadContext& context) {
    require_frame(loading_, "a load outside the loading executor");
    const Frame job = frames_.back();
    ModelFacts& model = oracle_.begin_load(slot, key.name.front() - 'a', now(), job.sequence, job.time);
    model.capacity = calm() ? 100 : choices_.weighted({3, 1, 1}) == 0 ? 100 : 1 + choices_.below(2);
    note("load ", model.serial, ": slot ", slot, " key ", model.key);
    std::size_t ending = 0;
    {
        bool at_once = true;
        const std::stop_callback stopped(context.stop_token(), [&] {
            oracle_.stop_load(model, now());
            if (settings_.callbacks_apart && !oracle_.destroyed && !at_once) {
                require_frame(callbacks_, "R16: a load was asked to stop outside callbacks");
            }
        });
        at_once = false;
        const LibraryFrame frame(*this);
        if (!calm()) {
            context.progress(0.5F);
            // Some loads take long: waiters come and leave meanwhile.
            nest(choices_.once_in(4) ? 16 : 4);
            ending = calm() ? 0 : choices_.weighted({8, 2, 1, 1});
        }
    }
    model.stopped = context.stop_token().stop_requested();
    note("loaded ", model.serial, ": ", ending);
    oracle_.end_load(model, ending != 0, ending != 3, now());
    switch (ending) {
        case 1: throw FakeFailure(model.serial, model.stopped);
        case 2: ++oracle_.null_models; return nullptr;
        case 3:
            model.refused = true;
            throw Error(errc::invalid_request, key, Stage::load, "the fake knows no such model");
        default: return &model;
    }
}

inline Ending Simulation::call(ModelFacts& model, int request, const std::stop_token& stop) {
    if (request == 0) {
        oracle_.require(model.state == ModelFacts::State::alive, "R1: a leased model does not live, ", model.serial);
        return Ending::sound;
    }
    require_frame(inference_, "a model was called outside the inference executor");
    note("model ", model.serial, " called for ", request);
    oracle_.begin_call(model, request);
    std::size_t ending = 0;
    if (!calm()) {
        const LibraryFrame frame(*this);
        nest(4);
        ending = calm() ? 0 : choices_.weighted({8, 1, 1, 1, 1});
    }
    note("model ", model.serial, " done with ", request, ": ", ending);
    oracle_.end_call(model, request);
    RequestFacts& facts = oracle_.requests[static_cast<std::size_t>(request)];
    oracle_.require(!stop.stop_requested() || oracle_.may_end_early(facts, now()),
                    "R9: a call was asked to stop that is still wanted, request ", request);
    facts.call_threw = ending == 1;
    facts.call_spoiled = ending > 1;
    switch (ending) {
        case 1: throw FakeFailure(model.serial, false);
        case 2: return Ending::too_few;
        case 3: return Ending::too_many;
        case 4: return Ending::nan;
        default: return Ending::sound;
    }
}

inline void Simulation::unload(ModelFacts& model) {
    if (!oracle_.destroyed) {
        require_frame(loading_, "S12: a model destroyed outside the loading executor");
    }
    note("unload ", model.serial);
    oracle_.begin_unload(model);
    if (!calm()) {
        const LibraryFrame frame(*this);
        nest(3);
    }
    oracle_.end_unload(model);
}

}  // namespace residency::simulation
