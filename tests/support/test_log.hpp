#pragma once

// What a test keeps of a slot's doings: how many completion handlers there were and ran, and the events in their order.

#include "residency/event.hpp"
#include "residency/options.hpp"
#include "residency/runtime/mutex.hpp"

#include "support/handler_tally.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// Keeps the events that an observer gets, as short lines: `unload_started a (idle)`. Any thread.
class EventLog {
    struct State {
        mutable runtime::Mutex mutex;
        std::vector<Event> events RESIDENCY_GUARDED_BY(mutex);
        Observer reaction RESIDENCY_GUARDED_BY(mutex);
    };

public:
    /// The observer.
    [[nodiscard]] Observer observer() const {
        return [state = state_](const Event& event) {
            Observer reaction;
            {
                const runtime::MutexLock lock(state->mutex);
                state->events.push_back(event);
                reaction = state->reaction;
            }
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

    /// The events.
    [[nodiscard]] std::vector<Event> events() const {
        const runtime::MutexLock lock(state_->mutex);
        return state_->events;
    }

    /// The events, a line each.
    [[nodiscard]] std::vector<std::string> lines() const {
        std::vector<std::string> lines;
        for (const Event& event : events()) {
            lines.push_back(line(event));
        }
        return lines;
    }

    /// How many events there were of a type.
    [[nodiscard]] std::size_t count(EventType type) const {
        const std::vector<Event> all = events();
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [type](const Event& event) { return event.type == type; }));
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
