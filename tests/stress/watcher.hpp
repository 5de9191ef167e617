#pragma once

#include "residency/event.hpp"
#include "stress/facts.hpp"
#include "stress/witness.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace residency::stress {

/// Looks at the events of one manager, which come one at a time and in order. Its own state has no lock for that reason.
class Watcher {
public:
    explicit Watcher(Witness& witness) : witness_(witness) {}

    void operator()(const Event& event) {
        require(!busy_.exchange(true), "section 8: two events at once");
        ++events_;
        require(event.type != EventType::dropped, "the stress is to stay below what the queue of events holds");
        if (!event.key.name.empty()) {
            const std::uint32_t slot = event.slot == "embedding" ? 0 : 1;
            const auto key = static_cast<std::uint32_t>(event.key.name.front() - 'a');
            witness_.box.note(Note::event, slot, key, static_cast<std::uint32_t>(event.type));
            look(event, slot, key);
        }
        witness_.call_back();
        busy_.set(false);
        if (dice().once_in(50)) {
            throw std::runtime_error("the observer was told to throw");
        }
    }

    [[nodiscard]] std::size_t events() const noexcept { return events_; }

private:
    enum class State : std::uint8_t { none, loading, ready, unloading };

    void require(bool holds, const char* sentence) noexcept { witness_.require(holds, sentence); }

    void look(const Event& event, std::uint32_t slot, std::uint32_t key) {
        State& state = states_.at(slot).at(key);
        ModelFacts* const model = witness_.slots.at(slot).keys.at(key).latest.get();
        switch (event.type) {
            case EventType::load_started:
                require(state == State::none, "section 8: load_started for a key that is resident");
                state = State::loading;
                break;
            case EventType::ready:
                require(state == State::loading, "section 8: ready without load_started");
                require(event.generation > latest_.at(slot),
                        "R6: ready with a generation that is not the greatest so far");
                latest_.at(slot) = event.generation;
                if (!witness_.ending.get()) {
                    require(model != nullptr && model->alive.get(),
                            "H19: a model is gone before its events were delivered");
                }
                if (model != nullptr && model->alive.get()) {
                    witness_.know(*model, event.generation);
                }
                state = State::ready;
                break;
            case EventType::load_failed:
            case EventType::load_aborted:
                require(state == State::loading, "section 8: the end of a load that had not started");
                state = State::none;
                break;
            case EventType::drain_started:
            case EventType::drain_ended:
                require(state == State::ready, "section 8: a drain of what is not ready");
                break;
            case EventType::unload_started:
                require(state == State::ready || state == State::loading,
                        "section 8: unload_started for what is not resident");
                require(witness_.ending.get() || (model != nullptr && model->alive.get()),
                        "H19: unload_started for a model that is gone");
                state = State::unloading;
                if (event.reason == Reason::idle && model != nullptr) {
                    idle(slot, *model);
                }
                break;
            case EventType::unloaded:
                require(state == State::unloading, "section 8: unloaded without unload_started");
                state = State::none;
                break;
            default: break;
        }
    }
    void idle(std::uint32_t slot, const ModelFacts& model) {
        const std::chrono::milliseconds keep_alive = witness_.slots.at(slot).least_keep_alive;
        require(keep_alive != keep_alive_forever, "R5: unloaded for idleness though it was to stay for ever");
        if (keep_alive != keep_alive_forever) {
            const Clock::time_point used{Clock::duration(model.used.get())};
            require(Clock::now() >= used + keep_alive, "R5: unloaded for idleness before its keep-alive");
        }
    }

    Witness& witness_;
    Relaxed<bool> busy_{false};
    std::size_t events_ = 0;
    std::array<std::array<State, most_keys>, 2> states_{};
    std::array<Generation, 2> latest_{};
};

}  // namespace residency::stress
