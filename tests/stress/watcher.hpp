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

/// Looks at the events of one manager, which come one at a time and in order. Its own state has no lock for that
/// reason. Nothing waits for their delivery (H19): the model of an event may be gone.
class Watcher {
public:
    /// `slow`: some events take long.
    Watcher(Witness& witness, bool slow) : witness_(witness), slow_(slow) {}

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
        if (slow_ && dice().once_in(3)) {
            dawdle(300);
            witness_.call_back();
        }
        busy_.set(false);
        if (dice().once_in(50)) {
            throw std::runtime_error("the observer was made to throw");
        }
    }

    [[nodiscard]] std::size_t events() const noexcept { return events_; }

private:
    enum class State : std::uint8_t { none, loading, ready, unloading };
    struct Resident {
        State state = State::none;
        /// Null if it is not known.
        ModelFacts* model = nullptr;
        /// Of this key, so far.
        std::uint64_t models = 0;
    };

    void require(bool holds, const char* sentence) noexcept { witness_.require(holds, sentence); }

    void look(const Event& event, std::uint32_t slot, std::uint32_t key) {
        Resident& resident = residents_.at(slot).at(key);
        State& state = resident.state;
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
                resident.model = next_model(resident, slot, key);
                if (resident.model != nullptr) {
                    witness_.know(*resident.model, event.generation);
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
                if (state == State::loading) {
                    resident.model = next_model(resident, slot, key);
                }
                state = State::unloading;
                if (event.reason == Reason::idle && resident.model != nullptr) {
                    idle(slot, *resident.model);
                }
                break;
            case EventType::unloaded:
                require(state == State::unloading, "section 8: unloaded without unload_started");
                state = State::none;
                break;
            default: break;
        }
    }
    // The model that the event is about, if the key has loaded no other since.
    ModelFacts* next_model(Resident& resident, std::uint32_t slot, std::uint32_t key) {
        ++resident.models;
        ModelFacts* const latest = witness_.slots.at(slot).keys.at(key).latest.get();
        return latest != nullptr && latest->ordinal.get() == resident.models ? latest : nullptr;
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
    const bool slow_;
    Relaxed<bool> busy_{false};
    std::size_t events_ = 0;
    std::array<std::array<Resident, most_keys>, 2> residents_{};
    std::array<Generation, 2> latest_{};
};

}  // namespace residency::stress
