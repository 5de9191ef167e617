#pragma once

#include "simulation/simulation.hpp"

// What runs when.

namespace residency::simulation {

template <bool Asynchronous>
std::string SimulationOf<Asynchronous>::run() {
    Clock::reset();
    if (stream_ != nullptr) {
        std::fputs(trace().c_str(), stream_);
    }
    // Request 0 stands for calls on a bare lease.
    oracle_.requests.emplace_back().completions = 1;
    signals_.emplace_back();
    make_manager();
    quiet_ = false;
    while (!calm() && choices_.below(settings_.length) != 0) {
        step();
    }
    finish();
    return oracle_.violation;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::make_manager() {
    ManagerOptions options;
    options.embedding = settings_.slots[0];
    options.reranker = settings_.slots[1];
    options.memory = budget_;
    if (settings_.observed) {
        options.observer = [this](const Event& published) { event(published); };
    }
    Executors executors = Executors::all(QueueExecutor(control_));
    if (!settings_.one_executor) {
        executors.inference = QueueExecutor(inference_);
        executors.loading = QueueExecutor(loading_);
        executors.callbacks =
            settings_.callbacks_apart ? asio::any_io_executor(QueueExecutor(callbacks_)) : asio::any_io_executor();
    }
    if (settings_.has_neighbour) {
        neighbour_ = std::make_unique<Neighbour>(settings_, oracle_, budget_, next_door_, [this] { nest(2); });
    }
    manager_ = std::make_unique<Manager>(SimulatedBackend<Embedder, 0>(*this), SimulatedBackend<Reranker, 1>(*this),
                                         options, executors);
}

template <bool Asynchronous>
std::vector<SeededQueue*> SimulationOf<Asynchronous>::ready_queues() {
    std::vector<SeededQueue*> ready;
    for (SeededQueue* queue : {&client_, &control_, &loading_, &inference_, &callbacks_, &next_door_}) {
        const bool runs_handlers = queue == &handlers();
        if (queue->size() != 0 && (emitting_ == 0 || !runs_handlers)) {
            ready.push_back(queue);
        }
    }
    return ready;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::step() {
    ++steps_;
    switch (choices_.weighted({9, 8, 2, 2, 1, 1, Asynchronous ? 2U : 0U})) {
        case 0: {
            const std::vector<SeededQueue*> ready = ready_queues();
            if (!ready.empty()) {
                SeededQueue& queue = *ready[choices_.below(static_cast<std::uint32_t>(ready.size()))];
                run_item(queue, choices_.below(static_cast<std::uint32_t>(queue.size())));
            }
            break;
        }
        case 1: act(); break;
        case 2: advance_somehow(); break;
        case 3: poll_timers(); break;
        case 4:
            if (oracle_.depth == 0) {
                come_to_rest();
                check_quiet();
            }
            break;
        case 5:
            if (oracle_.depth == 0) {
                for (std::uint32_t more = 1 + choices_.below(3); more != 0; --more) {
                    burst();
                }
                come_to_rest();
                check_quiet();
            }
            break;
        case 6:
            if (!suspended_.empty()) {
                resume(choices_.below(static_cast<std::uint32_t>(suspended_.size())));
            }
            break;
    }
    observe();
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::run_item(SeededQueue& queue, std::size_t index) {
    note("run ", queue.name(), ' ', index, " of ", queue.size());
    const InFrame frame(*this, &queue);
    try {
        queue.run(index);
    } catch (const Thrown&) {
        note("a handler threw");
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::poll_timers() {
    if (polling_) {
        return;
    }
    polling_ = true;
    context_.restart();
    others_[0].restart();
    others_[4].restart();
    note("timers: ", context_.poll() + others_[0].poll() + others_[4].poll());
    polling_ = false;
}

// What an asynchronous call waits for has happened: it goes on when the inference executor next runs it.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::resume(std::size_t index) {
    note("resume call ", suspended_[index].first);
    suspended_[index].second->cancel();
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::advance(Time by) {
    Clock::advance(by);
    note("time ", now().count());
}

// When the next thing is due that the host knows of.
template <bool Asynchronous>
Time SimulationOf<Asynchronous>::next_due() const {
    Time due = never;
    const auto consider = [&due](Time candidate) { due = candidate > now() && candidate < due ? candidate : due; };
    for (const RequestFacts& request : oracle_.requests) {
        if (request.outstanding()) {
            consider(request.due());
        }
        // When a load is abandoned that it waited for.
        const Time left = request.code ? request.completed_time : request.due();
        if (left != never) {
            consider(left + oracle_.slots[static_cast<std::size_t>(request.slot)].options.abandon_after);
        }
    }
    for (int slot = 0; slot < 2; ++slot) {
        for (const ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(slot)].residencies) {
            const auto stays = oracle_.keep_alive(slot, residency, oracle_.sequence);
            if (stays && stays->most != never) {
                consider(residency.idle_high + stays->most);
            }
            consider(oracle_.stays_until(slot, residency));
        }
        for (const KeyFacts& key : oracle_.slots[static_cast<std::size_t>(slot)].keys) {
            consider(key.cooling_until);
        }
    }
    return due;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::advance_somehow() {
    using std::chrono::milliseconds;
    const Time due = next_due();
    const Time left = due == never ? Time(milliseconds(10)) : due - now();
    switch (choices_.below(6)) {
        case 0: advance(milliseconds(10)); break;
        case 1: advance(left); break;
        case 2: advance(left - Time(1)); break;
        case 3: advance(left + Time(1)); break;
        case 4: advance(milliseconds(60)); break;
        case 5: advance(std::chrono::minutes(1)); break;
    }
}

/// Runs everything in order until nothing is left to run; the time stands still, loads succeed, nothing interferes.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::come_to_rest() {
    const bool was_quiet = std::exchange(quiet_, true);
    observe();
    std::size_t ran = 0;
    for (bool busy = true; busy;) {
        busy = false;
        for (SeededQueue* queue : ready_queues()) {
            run_item(*queue, 0);
            observe();
            busy = true;
        }
        if (!busy) {
            poll_timers();
            busy = !ready_queues().empty();
        }
        if (!busy && !suspended_.empty()) {
            resume(0);
            poll_timers();
            busy = true;
        }
        if (++ran > 5000) {
            oracle_.violate("it does not come to rest");
            break;
        }
    }
    quiet_ = was_quiet;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::check_quiet() {
    note("at rest");
    if (neighbour_) {
        neighbour_->check_quiet(budget_->used());
    }
    if (!manager_) {
        return;
    }
    oracle_.check_quiet(0, manager_->embedding().status(), now());
    oracle_.check_quiet(1, manager_->reranker().status(), now());
    if (budget_) {
        oracle_.check_quiet_memory(budget_->used());
    }
    if (settings_.observed) {
        oracle_.check_events(0, manager_->embedding().status(), now());
        oracle_.check_events(1, manager_->reranker().status(), now());
    }
}

// Other threads come between: a few steps in the midst of another.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::nest(std::uint32_t times) {
    if (calm() || polling_ || oracle_.depth >= deepest) {
        return;
    }
    observe();
    for (std::uint32_t count = choices_.below(times + 1); count != 0 && !calm(); --count) {
        ++oracle_.depth;
        step();
        --oracle_.depth;
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::posting() noexcept {
    if (!calm() && !polling_ && oracle_.depth < deepest && choices_.once_in(16)) {
        note("between");
        ++posts_;
        nest(3);
        --posts_;
    }
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::observe() {
    if (oracle_.depth == 0 && frames_.empty()) {
        oracle_.carried_out = oracle_.sequence;
    }
    if (budget_ && oracle_.violation.empty()) {
        oracle_.observe_memory(budget_->used());
    }
    if (manager_ && oracle_.violation.empty()) {
        oracle_.observe(0, manager_->embedding().status(), manager_->embedding().generation(), now());
        oracle_.observe(1, manager_->reranker().status(), manager_->reranker().generation(), now());
        // The coroutines of the one executor count as its work, too.
        if (&handlers() != &control_ && !(Asynchronous && settings_.one_executor)) {
            oracle_.require(control_.tracked() <= (settings_.both ? 2 : 1), "R7: more than one wait of a slot's timer");
        }
    }
    if (oracle_.depth == 0 && frames_.empty()) {
        oracle_.memory.trims_later = false;
    }
}

// Nothing is asked for any more: all requests have to be served, whatever is idle has to go, and in the end nothing may
// be left.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::finish() {
    quiet_ = true;
    note("the end");
    come_to_rest();
    check_quiet();
    if (budget_ && choices_.below(2) == 0) {
        set_limit(settings_.memory);
        come_to_rest();
        check_quiet();
    }
    if (manager_) {
        serve_all();
        oracle_.require(oracle_.memory.neighbour.waiting == 0, "R9: a request of the neighbour's was never answered");
        for (const RequestFacts& request : oracle_.requests) {
            oracle_.require(!request.outstanding(), "R9: a request was never answered: ", request.id);
        }
        let_all_idle();
        if (choices_.below(2) == 0) {
            shut_down();
            come_to_rest();
            check_quiet();
            oracle_.require(!oracle_.requests.back().outstanding(), "R12: a shutdown did not complete, ",
                            oracle_.requests.back().id);
            oracle_.require(&handlers() == &control_ || !oracle_.requests.back().both_slots || control_.tracked() == 0,
                            "R12: a timer waits after shutdown");
            oracle_.require(!budget_ || !oracle_.requests.back().both_slots || !leases_.empty() ||
                                budget_->used() == oracle_.memory.neighbour.holds,
                            "R12: memory is reserved after shutdown");
        }
        const std::size_t held = choices_.below(2);
        if (held != 0) {
            start(ask(Kind::acquire));
            come_to_rest();
        }
        destroy();
    }
    come_to_rest();
    // H11: a lease outlives its manager; dropping the last one destroys the model.
    while (!leases_.empty()) {
        release(0);
    }
    if (neighbour_) {
        neighbour_->end();
        while (oracle_.memory.neighbour.leases != 0) {
            neighbour_->release();
        }
    }
    come_to_rest();
    check_gone();
    oracle_.check_order();
}

// Leases end one by one, and where a model keeps its place time passes: what waits gets its turn.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::serve_all() {
    for (int rounds = 0; rounds < 64 && oracle_.violation.empty(); ++rounds) {
        while (!leases_.empty() || oracle_.memory.neighbour.leases != 0) {
            if (leases_.empty()) {
                neighbour_->release();
            } else {
                release(0);
            }
            come_to_rest();
            check_quiet();
        }
        Time due = never;
        for (int slot = 0; slot < 2; ++slot) {
            for (const ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(slot)].residencies) {
                const Time ends = oracle_.stays_until(slot, residency);
                due = ends > now() ? std::min(due, ends) : due;
            }
        }
        const bool waits = std::any_of(oracle_.requests.begin(), oracle_.requests.end(),
                                       [](const RequestFacts& request) { return request.outstanding(); }) ||
                           oracle_.memory.neighbour.waiting != 0;
        if (!waits || due == never) {
            return;
        }
        advance(due - now());
        come_to_rest();
        check_quiet();
    }
}

// R5 on the whole manager: what is idle is there until just before its time, and gone at it.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::let_all_idle() {
    for (int rounds = 0; rounds < 8 && oracle_.violation.empty(); ++rounds) {
        Time due = never;
        for (int slot = 0; slot < 2; ++slot) {
            for (const ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(slot)].residencies) {
                const auto stays = oracle_.keep_alive(slot, residency, oracle_.sequence);
                due = stays && stays->most != never ? std::min(due, std::max(now(), residency.idle_high + stays->most))
                                                    : due;
            }
        }
        if (due == never) {
            break;
        }
        if (due > now() + Time(1)) {
            advance(due - now() - Time(1));
            come_to_rest();
            check_quiet();
        }
        advance(due - now());
        come_to_rest();
        check_quiet();
    }
    oracle_.check_idle_unloads();
}

// Before anything of it is in its queue.
template <bool Asynchronous>
void SimulationOf<Asynchronous>::posted(int request) noexcept {
    RequestFacts& facts = oracle_.requests[static_cast<std::size_t>(request)];
    oracle_.require(facts.posted == 0, "R9: a handler was posted twice, request ", request);
    facts.posted = ++oracle_.sequence;
    facts.posted_depth = oracle_.depth;
    facts.decided = frames_.empty() ? facts.posted : frames_.back().sequence;
    facts.decided_time = frames_.empty() ? now() : frames_.back().time;
}

template <bool Asynchronous>
void SimulationOf<Asynchronous>::check_gone() {
    for (const RequestFacts& request : oracle_.requests) {
        oracle_.require(request.completions == 1, "R9: a request completed not once, ", request.id);
        oracle_.require(request.handlers == 0, "R12: a handler is left, ", request.id);
    }
    int loaded = 0;
    int gone = 0;
    for (const ModelFacts& model : oracle_.models) {
        loaded += model.state != ModelFacts::State::failed ? 1 : 0;
        gone += model.state == ModelFacts::State::gone ? 1 : 0;
    }
    oracle_.require(oracle_.memory.neighbour.waiting == 0, "R9: a request of the neighbour's was never answered");
    oracle_.require(oracle_.memory.neighbour.holds == 0, "S34: a model of the neighbour's is left");
    oracle_.require(loaded == gone, "S34: loads are not unloads, left: ", loaded - gone);
    oracle_.require(!budget_ || (budget_->used() == 0 && budget_->status().waiting.empty()),
                    "R12: memory is reserved for nothing, bytes: ", budget_ ? static_cast<int>(budget_->used()) : 0);
    for (const SeededQueue* queue : {&control_, &inference_, &loading_, &callbacks_, &client_, &next_door_}) {
        oracle_.require(queue->tracked() == 0, "R12: an executor still counts work that has ended");
    }
    context_.restart();
    oracle_.require(context_.poll() == 0 && context_.stopped(), "R12: a timer is left");
    others_[0].restart();
    oracle_.require(suspended_.empty() && others_[0].poll() == 0 && others_[0].stopped(),
                    "R12: a call that waits is left");
}

}  // namespace residency::simulation
