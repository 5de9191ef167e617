#pragma once

#include "residency/event.hpp"
#include "residency/options.hpp"
#include "residency/runtime/mutex.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// Keeps the events of a slot or a manager, in order. From any thread.
class EventLog {
    struct State {
        mutable runtime::Mutex mutex;
        std::vector<Event> events RESIDENCY_GUARDED_BY(mutex);
        Observer reaction RESIDENCY_GUARDED_BY(mutex);
        std::atomic<std::size_t> kept{0};
    };

public:
    /// An observer that writes here.
    [[nodiscard]] Observer observer() const {
        return [state = state_](const Event& event) {
            Observer reaction;
            {
                const runtime::MutexLock lock(state->mutex);
                state->events.push_back(event);
                reaction = state->reaction;
            }
            ++state->kept;
            state->kept.notify_all();
            if (reaction) {
                reaction(event);
            }
        };
    }
    /// Calls `reaction` with each event from now on, after it was kept. It may throw, and call the library.
    void on_event(Observer reaction) const {
        const runtime::MutexLock lock(state_->mutex);
        state_->reaction.swap(reaction);
    }
    /// Blocks until one of this type was delivered: neither a shutdown nor a destructor waits for that (H19).
    void wait_for(EventType type) const {
        for (std::size_t kept = state_->kept; count(type) == 0; kept = state_->kept) {
            state_->kept.wait(kept);
        }
    }

    /// All of them.
    [[nodiscard]] std::vector<Event> all() const {
        const runtime::MutexLock lock(state_->mutex);
        return state_->events;
    }
    /// Those of one type.
    [[nodiscard]] std::vector<Event> all(EventType type) const {
        std::vector<Event> chosen = all();
        std::erase_if(chosen, [type](const Event& event) { return event.type != type; });
        return chosen;
    }
    /// How many of one type.
    [[nodiscard]] std::size_t count(EventType type) const { return all(type).size(); }
    /// The types, in order.
    [[nodiscard]] std::vector<EventType> types() const {
        std::vector<EventType> types;
        for (const Event& event : all()) {
            types.push_back(event.type);
        }
        return types;
    }
    /// All of them as short lines: `unload_started a (idle)`.
    [[nodiscard]] std::vector<std::string> lines() const {
        std::vector<std::string> lines;
        for (const Event& event : all()) {
            lines.push_back(line(event));
        }
        return lines;
    }

    /// Forgets what there was.
    void clear() const {
        const runtime::MutexLock lock(state_->mutex);
        state_->events.clear();
    }

private:
    static std::string line(const Event& event) {
        std::ostringstream out;
        out << event.type;
        if (!event.key.name.empty()) {
            out << ' ' << event.key.name;
        }
        if (event.reason != Reason::none && event.reason != Reason::requested) {
            out << " (" << event.reason << ')';
        }
        return out.str();
    }

    std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// What an EventLog's lines are compared with.
using Lines = std::vector<std::string>;

}  // namespace residency::test
