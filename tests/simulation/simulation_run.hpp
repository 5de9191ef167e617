#pragma once

#include "simulation/simulation.hpp"

// What runs when.

namespace residency::simulation {

inline std::string Simulation::run() {
    Clock::reset();
    if (stream_ != nullptr) {
        std::fputs(settings_.text().c_str(), stream_);
    }
    // Request 0 is nobody's.
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

inline void Simulation::make_manager() {
    ManagerOptions options;
    options.embedding = settings_.slots[0];
    options.reranker = settings_.slots[1];
    if (settings_.observed) {
        options.observer = [this](const Event& published) { event(published); };
    }
    const Executors executors =
        settings_.one_executor ? Executors::all(QueueExecutor(control_))
                               : Executors{QueueExecutor(control_), QueueExecutor(inference_), QueueExecutor(loading_)};
    manager_ = std::make_unique<Manager>(SimulatedEmbedding(*this), SimulatedReranking(*this), options, executors);
}

inline std::vector<SeededQueue*> Simulation::ready_queues() {
    std::vector<SeededQueue*> ready;
    for (SeededQueue* queue : {&client_, &control_, &loading_, &inference_}) {
        const bool runs_handlers = queue == (settings_.bound ? &client_ : &control_);
        if (queue->size() != 0 && (emitting_ == 0 || !runs_handlers)) {
            ready.push_back(queue);
        }
    }
    return ready;
}

inline void Simulation::step() {
    ++steps_;
    switch (choices_.weighted({9, 8, 2, 2, 1})) {
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
            if (depth_ == 0) {
                come_to_rest();
                check_quiet();
            }
            break;
    }
    observe();
}

inline void Simulation::run_item(SeededQueue& queue, std::size_t index) {
    note("run ", queue.name(), ' ', index, " of ", queue.size());
    const InFrame frame(*this, &queue);
    try {
        queue.run(index);
    } catch (const Thrown&) {
        note("a handler threw");
    }
}

inline void Simulation::poll_timers() {
    if (polling_) {
        return;
    }
    polling_ = true;
    context_.restart();
    note("timers: ", context_.poll());
    polling_ = false;
}

inline void Simulation::advance(Time by) {
    Clock::advance(by);
    note("time ", now().count());
}

// When the next thing is due that the host knows of.
inline Time Simulation::next_due() const {
    Time due = never;
    const auto consider = [&due](Time candidate) { due = candidate > now() && candidate < due ? candidate : due; };
    for (const RequestFacts& request : oracle_.requests) {
        if (request.outstanding()) {
            consider(request.due());
        }
    }
    for (int slot = 0; slot < 2; ++slot) {
        for (const ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(slot)].residencies) {
            const auto stays = oracle_.keep_alive(slot, residency, oracle_.sequence);
            if (stays && *stays != never) {
                consider(residency.idle_high + *stays);
            }
        }
        for (const KeyFacts& key : oracle_.slots[static_cast<std::size_t>(slot)].keys) {
            consider(key.cooling_until);
        }
    }
    return due;
}

inline void Simulation::advance_somehow() {
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

/// Runs everything in order until nothing is left to run; the time stands still, loads succeed, nobody interferes.
inline void Simulation::come_to_rest() {
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
        if (++ran > 5000) {
            oracle_.violate("it does not come to rest");
            break;
        }
    }
    quiet_ = was_quiet;
}

inline void Simulation::check_quiet() {
    note("at rest");
    if (!manager_) {
        return;
    }
    oracle_.check_quiet(0, manager_->embedding().status(), now());
    oracle_.check_quiet(1, manager_->reranker().status(), now());
}

// Other threads come between: a few steps in the midst of another.
inline void Simulation::nest(std::uint32_t times) {
    if (calm() || polling_ || depth_ >= deepest) {
        return;
    }
    observe();
    for (std::uint32_t count = choices_.below(times + 1); count != 0 && !calm(); --count) {
        ++depth_;
        step();
        --depth_;
    }
}

inline void Simulation::posting() noexcept {
    if (!calm() && !polling_ && depth_ < deepest && choices_.once_in(16)) {
        note("between");
        nest(3);
    }
}

inline void Simulation::observe() {
    if (manager_ && oracle_.violation.empty()) {
        oracle_.observe(0, manager_->embedding().status(), manager_->embedding().generation(), now());
        oracle_.observe(1, manager_->reranker().status(), manager_->reranker().generation(), now());
        if (settings_.bound) {
            oracle_.require(control_.tracked() <= (settings_.both ? 2 : 1), "R7: more than one wait of a slot's timer");
        }
    }
}

// Nothing is asked for any more: everybody has to be served, whatever is idle has to go, and in the end nothing may be left.
inline void Simulation::finish() {
    quiet_ = true;
    note("the end");
    come_to_rest();
    check_quiet();
    if (manager_) {
        // Leases end one by one: whoever waits for them gets his turn.
        while (!leases_.empty()) {
            release(0);
            come_to_rest();
            check_quiet();
        }
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
            oracle_.require(!settings_.bound || !oracle_.requests.back().both_slots || control_.tracked() == 0,
                            "R12: a timer waits after shutdown");
        }
        const std::size_t held = choices_.below(2);
        if (held != 0) {
            start(ask(Kind::acquire));
            come_to_rest();
        }
        destroy();
    }
    come_to_rest();
    // H11: a lease outlives its manager; who drops the last one destroys the model.
    while (!leases_.empty()) {
        release(0);
    }
    come_to_rest();
    check_gone();
}

// R5 on the whole manager: what is idle is there until just before its time, and gone at it.
inline void Simulation::let_all_idle() {
    for (int rounds = 0; rounds < 8 && oracle_.violation.empty(); ++rounds) {
        Time due = never;
        for (int slot = 0; slot < 2; ++slot) {
            for (const ResidencyFacts& residency : oracle_.slots[static_cast<std::size_t>(slot)].residencies) {
                const auto stays = oracle_.keep_alive(slot, residency, oracle_.sequence);
                due = stays && *stays != never ? std::min(due, std::max(now(), residency.idle_high + *stays)) : due;
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

inline void Simulation::check_gone() {
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
    oracle_.require(loaded == gone, "S34: loads are not unloads, left: ", loaded - gone);
    for (const SeededQueue* queue : {&control_, &inference_, &loading_, &client_}) {
        oracle_.require(queue->tracked() == 0, "R12: an executor is told of work that is not there");
    }
    context_.restart();
    oracle_.require(context_.poll() == 0 && context_.stopped(), "R12: a timer is left");
}

}  // namespace residency::simulation
