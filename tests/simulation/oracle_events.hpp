#pragma once

#include "simulation/oracle.hpp"

// What events say, against what happened.

namespace residency::simulation {

inline void Oracle::note_event(int slot, int key, const Event& event) {
    SlotFacts& facts = slots[index(slot)];
    EventFacts& events = facts.events;
    require(event.time >= events.latest, "H19: an event is older than the one before, slot ", slot);
    events.latest = event.time;
    ++events.counts[index(static_cast<std::size_t>(event.type))];
    switch (event.type) {
        case EventType::ready:
        case EventType::drain_ended:
        case EventType::inference_failed:
            require(event.generation != Generation{}, "H19: an event without its generation, slot ", slot);
            break;
        case EventType::load_failed:
        case EventType::shutdown_completed:
            require(!event.message.empty(), "H19: an event without its message, slot ", slot);
            break;
        case EventType::timed_out: {
            const bool known = std::any_of(requests.begin(), requests.end(), [&](const RequestFacts& request) {
                return request.slot == slot && request.key == key && request.wants_model() &&
                       (request.begun + event.duration == event.time ||
                        // It came to the queue once its backend had been asked, or what it needs to be cut was made.
                        ((request.overtaken || request.rows > 1) && request.begun + event.duration <= event.time)) &&
                       request.due() <= event.time;
            });
            require(known, "H19: no request timed out then, slot ", slot);
            require(event.stage != Stage::admission, "H19: a timeout without its stage, slot ", slot);
            require(event.queue_time >= event.queue_time.zero() && event.load_time >= event.load_time.zero() &&
                        event.call_time >= event.call_time.zero() &&
                        event.queue_time + event.load_time + event.call_time == event.duration,
                    "H19: a timeout that does not say what its time went into, slot ", slot);
            break;
        }
        case EventType::rejected: {
            constexpr std::array reasons{Reason::overloaded, Reason::cooling_down, Reason::unknown_model,
                                         Reason::insufficient_memory};
            const auto found = std::find(reasons.begin(), reasons.end(), event.reason);
            const auto reason = found == reasons.end() ? 0 : index(found - reasons.begin());
            require(event.count != 0 && found != reasons.end(), "H19: a refusal without its reason or its count, slot ",
                    slot);
            require(facts.closing || events.refused_at[reason] == Time::min() ||
                        event.time >= events.refused_at[reason] + std::chrono::seconds(1),
                    "H19: refusals are not summed up, slot ", slot);
            events.refused[reason] += event.count;
            events.refused_at[reason] = event.time;
            break;
        }
        case EventType::drain_started:
        case EventType::unloaded:
            require(event.type == EventType::unloaded || event.generation != Generation{},
                    "H19: an event without its generation, slot ", slot);
            require(memory.limited || event.reason != Reason::memory, "H36: room is made for memory without a budget");
            break;
        default: break;
    }
    const bool concerns_slot = event.type == EventType::shutdown_started || event.type == EventType::shutdown_completed;
    require(concerns_slot ? key == no_key : key != no_key, "H19: an event of the wrong key, slot ", slot);
}

inline void Oracle::check_events(int slot, const SlotStatus& status, Time now) {
    const EventFacts& events = slots[index(slot)].events;
    const SlotCounters& counters = status.counters;
    const auto matches = [&](EventType type, std::uint64_t count) {
        require(events.of(type) == count, "H19: events are not what the counters say: " + std::string(to_string(type)));
    };
    matches(EventType::load_started, counters.loads);
    matches(EventType::load_failed, counters.load_failures);
    matches(EventType::load_aborted, counters.loads_aborted);
    matches(EventType::unloaded, counters.unloaded());
    matches(EventType::timed_out, counters.timed_out);
    matches(EventType::shutdown_started, status.shutting_down ? 1 : 0);
    const std::array<std::uint64_t, 4> refused{counters.overloaded, counters.cooling_down, counters.unknown_model,
                                               counters.insufficient_memory};
    for (std::size_t reason = 0; reason < refused.size(); ++reason) {
        const bool all = status.shutting_down || events.refused_at[reason] == Time::min() ||
                         now >= events.refused_at[reason] + std::chrono::seconds(1);
        require(all ? events.refused[reason] == refused[reason] : events.refused[reason] <= refused[reason],
                "H19: refusals without an event, slot ", slot);
    }
    std::uint64_t begun = 0;
    std::uint64_t completed = 0;
    for (const RequestFacts& request : requests) {
        if (request.kind == Kind::shutdown && (request.both_slots || request.slot == slot)) {
            ++begun;
            completed += !request.outstanding() && !request.code ? 1U : 0U;
        }
    }
    const std::uint64_t announced = events.of(EventType::shutdown_completed);
    require(completed <= announced && announced <= begun, "H19: shutdowns without their event, slot ", slot);
}

}  // namespace residency::simulation
