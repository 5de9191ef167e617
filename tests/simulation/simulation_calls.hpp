#pragma once

#include "simulation/simulation.hpp"

// What the library calls: handlers, the observer, the backend and its models.

namespace residency::simulation {

template <bool Asynchronous>
void SimulationOf<Asynchronous>::require_frame(const SeededQueue& queue, const char* what) {
    const SeededQueue& wanted = settings_.one_executor && &queue != &client_ ? control_ : queue;
    oracle_.require(!frames_.empty() && frames_.back().queue == &wanted, what);
}

template <bool Asynchronous>
template <class... Results>
void SimulationOf<Asynchronous>::completed(RequestFacts& request, const std::exception_ptr& error, Results... results) {
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

template <bool Asynchronous>
void SimulationOf<Asynchronous>::check_value(RequestFacts& request, const std::exception_ptr& error, Embeddings& rows) {
    oracle_.require(rows.size() == (error ? 0U : static_cast<std::size_t>(request.rows)),
                    "a wrong number of rows, request ", request.id);
    for (std::size_t row = 0; row < rows.size() && !request.calls.empty(); ++row) {
        const CallFacts* const part = oracle_.part_with(request, static_cast<int>(row));
        const int model = part != nullptr ? part->model : request.model;
        oracle_.require(rows[row].size() == 4 && rows[row][0] == static_cast<float>(model) &&
                            rows[row][1] == static_cast<float>(request.id) && rows[row][2] == static_cast<float>(row),
                        "R14: a row of another request or text, request ", request.id);
        oracle_.require(rows[row][3] == static_cast<float>(part != nullptr ? part->id : request.calls.back()),
                        "R14: a row of an earlier call, request ", request.id);
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::check_value(RequestFacts& request, const std::exception_ptr& error, Ranking& ranking) {
    oracle_.require(ranking.size() == (error ? 0U : static_cast<std::size_t>(request.rows)),
                    "a wrong number of scores, request ", request.id);
    // The last document is the best, if they are of one model.
    int row = request.rows;
    for (const RankedDocument& document : ranking) {
        if (request.is_cut) {
            const int index = static_cast<int>(document.index);
            const CallFacts* const part = oracle_.part_with(request, index);
            oracle_.require(part != nullptr && document.score == score_of(part->model, {request.id, index}),
                            "R14: a score of another request or document, request ", request.id);
            continue;
        }
        oracle_.require(document.index == static_cast<std::size_t>(--row) &&
                            document.score == score_of(request.model, {request.id, row}),
                        "R14: a score of another request or document, request ", request.id);
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::check_value(RequestFacts& request, const std::exception_ptr& error,
                                             Generation& generation) {
    oracle_.require((generation == Generation{}) == (error != nullptr), "ensure_loaded without a generation, request ",
                    request.id);
    request.granted = generation;
    for (ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(request.slot)].residencies) {
        if (residency.generation == generation) {
            residency.idle_high = now();
        }
    }
}

template <bool Asynchronous>
template <class Model>
void SimulationOf<Asynchronous>::check_value(RequestFacts& request, const std::exception_ptr& error,
                                             Lease<Model>& lease) {
    oracle_.require(static_cast<bool>(lease) == (error == nullptr), "a lease with an error, or neither, request ",
                    request.id);
    if (lease) {
        keep(request, std::move(lease));
        if (!calm() && choices_.once_in(3)) {
            release(leases_.size() - 1);
        }
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::event(const Event& published) {
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

template <bool Asynchronous>
bool SimulationOf<Asynchronous>::knows(int slot, const ModelKey& key) {
    oracle_.require(asking_ != nullptr && asking_->slot == slot && key_of(asking_->key) == key,
                    "H5: a backend is asked about a key that no request was just made for");
    if (asking_ == nullptr) {
        return true;
    }
    ++asking_->asked;
    asking_->overtaken = oracle_.sequence != asking_->sequence || now() != asking_->begun;
    asking_->load_may_begin = oracle_.others_want(*asking_) && oracle_.memory.limited;
    asking_->denied = settings_.denies && !calm() && choices_.once_in(4);
    note("request ", asking_->id, asking_->denied ? ": unknown key" : ": known key");
    return !asking_->denied;
}

template <bool Asynchronous>
std::optional<std::size_t> SimulationOf<Asynchronous>::memory_needed(int slot, const ModelKey& key) {
    require_frame(loading_, "H34: a size is asked for outside the loading executor");
    const int number = key.name.front() - 'a';
    oracle_.begin_size(slot, number);
    const auto of = static_cast<std::size_t>(slot);
    std::optional<std::size_t> bytes = settings_.sizes[of][static_cast<std::size_t>(number)];
    std::size_t ending = 0;
    {
        const LibraryFrame frame(*this);
        if (!calm()) {
            nest(3);
            ending = calm() ? 0 : choices_.weighted({8, 1, 1, 1});
        }
    }
    const std::size_t by_options = settings_.slots[of].model_memory;
    switch (ending) {
        case 1: bytes.reset(); break;
        case 2: bytes = *bytes + 1; break;
        default: break;
    }
    const bool throws = ending == 3;
    const std::size_t needs = throws ? 0 : bytes.value_or(by_options);
    note("slot ", slot, " key ", number, " needs ", needs, throws ? ": not known" : bytes ? "" : " by the options");
    oracle_.end_size(slot, number, needs, now());
    if (throws) {
        throw FakeSizeFailure(slot, number);
    }
    // The library then fails it in its own words.
    oracle_.null_models += needs == 0 ? 1 : 0;
    return bytes;
}

// What a model says of what it holds.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::say_memory(ModelFacts& model) {
    if (!budget_ || calm()) {
        return;
    }
    const std::uint32_t lies = settings_.lies ? 1 : 0;
    switch (choices_.weighted({3, 3, lies, lies})) {
        case 1: model.says = model.holds; break;
        case 2: model.says = model.holds + 1; break;
        case 3: model.says = std::max<std::size_t>(1, model.holds - 1); break;
        default: break;
    }
}

template <bool Asynchronous>
ModelFacts* SimulationOf<Asynchronous>::load(int slot, const ModelKey& key, LoadContext& context) {
    require_frame(loading_, "a load outside the loading executor");
    const Frame job = frames_.back();
    ModelFacts& model = oracle_.begin_load(slot, key.name.front() - 'a', now(), job.sequence, job.time);
    model.limits = settings_.limits[static_cast<std::size_t>(slot)];
    model.most_texts = model.limits.texts;
    model.capacity = calm() ? 100 : choices_.weighted({3, 1, 1}) == 0 ? 100 : 1 + choices_.below(2);
    if (budget_) {
        const std::uint32_t lies = settings_.lies && !calm() ? 1 : 0;
        const std::array<std::size_t, 3> holds{model.estimate, 1, model.estimate + 2};
        oracle_.hold_memory(model, holds[choices_.weighted({3, lies, lies})]);
    }
    note("load ", model.serial, ": slot ", slot, " key ", model.key, " holds ", model.holds);
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
            const std::uint32_t lacks = budget_ ? 1 : 0;
            ending = calm() ? 0 : choices_.weighted({8, 2, 1, 1, 2 * lacks, lacks});
        }
    }
    model.stopped = context.stop_token().stop_requested();
    model.lacked_memory = ending > 3;
    model.says_lacking = ending == 5;
    if (ending == 0) {
        say_memory(model);
    }
    note("loaded ", model.serial, ": ", ending, " says ", model.says);
    oracle_.end_load(model, ending != 0, ending != 3, now());
    switch (ending) {
        case 1: throw FakeFailure(model.serial, model.stopped);
        case 2: ++oracle_.null_models; return nullptr;
        case 3:
            model.refused = true;
            throw Error(errc::invalid_request, key, Stage::load, "the fake knows no such model");
        case 4: throw FakeShortage(model.serial);
        case 5: throw Error(errc::insufficient_memory, key, Stage::load, "the fake has no memory");
        default: return &model;
    }
}

template <bool Asynchronous>
FakeAnswer SimulationOf<Asynchronous>::call(ModelFacts& model, const FakeCall& made) {
    if (made.texts.front().request == 0) {
        oracle_.require(model.state == ModelFacts::State::alive, "R1: a leased model does not live, ", model.serial);
        return {};
    }
    CallFacts& call = begin_call(model, made);
    if (oracle_.violation.empty()) {
        const LibraryFrame frame(*this);
        leave(call);
        nest(4);
        call.ending = end_somehow(call);
    }
    return end_call(model, call, made.stop.stop_requested());
}

// It waits for something up to three times. One that honours its cancellation then ends at once.
template <bool Asynchronous>
asio::awaitable<FakeAnswer> SimulationOf<Asynchronous>::call_later(ModelFacts& model, const FakeCall& made) {
    CallFacts& call = begin_call(model, made);
    bool cancelled = false;
    if (oracle_.violation.empty()) {
        // What a fault of the library cancels must be seen here.
        co_await asio::this_coro::throw_if_cancelled(false);
        if (choices_.once_in(2)) {
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        }
        {
            const LibraryFrame frame(*this);
            leave(call);
            nest(2);
        }
        for (std::uint32_t times = choices_.below(4); times != 0 && !cancelled; --times) {
            const bool was_stopped = made.stop.stop_requested();
            cancelled = co_await suspend(call.id);
            require_frame(inference_, "H39: a coroutine was resumed outside the inference executor");
            oracle_.require(!cancelled || made.stop.stop_requested(), "H39: a call was cancelled, not asked to stop");
            if (cancelled) {
                oracle_.see(Sight::cancelled);
            } else if (made.stop.stop_requested() && !was_stopped) {
                oracle_.see(Sight::resumed_unwanted);
            }
        }
        const LibraryFrame frame(*this);
        nest(2);
        call.ending = cancelled ? Ending::threw : end_somehow(call);
    }
    const FakeAnswer answer = end_call(model, call, cancelled || made.stop.stop_requested());
    co_return answer;
}

// Gives whether it was cancelled.
template <bool Asynchronous>
asio::awaitable<bool> SimulationOf<Asynchronous>::suspend(int call) {
    const auto timer = std::make_shared<Timer>(co_await asio::this_coro::executor, Timer::time_point::max());
    note("call ", call, " waits");
    suspended_.emplace_back(call, timer);
    oracle_.see(suspended_.size() == 1 ? Sight::waits : Sight::wait_together);
    co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
    std::erase_if(suspended_, [&](const auto& each) { return each.second == timer; });
    const asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
    const bool cancelled = state.cancelled() != asio::cancellation_type::none;
    note("call ", call, cancelled ? " is cancelled" : " goes on");
    co_return cancelled;
}

template <bool Asynchronous>
CallFacts& SimulationOf<Asynchronous>::begin_call(ModelFacts& model, const FakeCall& made) {
    require_frame(inference_, "a model was called outside the inference executor");
    CallFacts& call = oracle_.begin_call(model, made, now());
    std::string about;
    for (const int request : call.requests) {
        about += ' ' + std::to_string(request);
    }
    note("call ", call.id, " of model ", model.serial, " for", about);
    return call;
}

// Also at rest, where most joint calls are. Requests leave them one after the other.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::leave(const CallFacts& call) {
    while (call.requests.size() > 1 && choices_.once_in(3)) {
        const std::uint32_t which = choices_.below(static_cast<std::uint32_t>(call.requests.size()));
        cancel(oracle_.requests[static_cast<std::size_t>(call.requests[which])], asio::cancellation_type::terminal);
    }
}

template <bool Asynchronous>
FakeAnswer SimulationOf<Asynchronous>::end_call(ModelFacts& model, CallFacts& call, bool stopped) {
    note("call ", call.id, " done: ", static_cast<int>(call.ending), " at ", call.at);
    oracle_.end_call(model, call, stopped, now());
    const auto fails = [&](std::optional<std::chrono::milliseconds> retry_after = std::nullopt) {
        return Error(errc::inference_failed, key_of(model.key), Stage::inference, "the fake fails", retry_after);
    };
    switch (call.ending) {
        case Ending::threw: throw FakeFailure(model.serial, false);
        case Ending::names_text:
        case Ending::names_none: throw FakeError(model.serial, fails().at_text(call.at));
        case Ending::busy: throw FakeError(model.serial, fails(std::chrono::milliseconds(5)));
        case Ending::out_of_memory: throw FakeShortage(model.serial);
        default: return {call.ending, call.at, call.id};
    }
}

// Calls of several requests fail more often: much depends on how.
template <bool Asynchronous>
Ending SimulationOf<Asynchronous>::end_somehow(CallFacts& call) {
    const std::uint32_t sound = call.requests.size() == 1 ? 16 : 8;
    const auto ending = static_cast<Ending>(choices_.weighted({sound, 2, 1, 1, 2, 2, 1, 1, 2}));
    if (ending == Ending::nan || ending == Ending::names_text) {
        call.at = choices_.below(static_cast<std::uint32_t>(call.texts));
    } else {
        call.at = call.texts;
    }
    return ending;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::unload(ModelFacts& model) {
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
