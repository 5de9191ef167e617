#pragma once

#include "residency/error_code.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"
#include "residency/one_line.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace residency {

/// What happened.
enum class EventType : std::uint8_t {
    /// The backend is called to load a model.
    load_started,
    /// The backend reported how far its load is: `progress`.
    load_progress,
    /// The backend wrote a line while loading: `message`, `severity`.
    load_log,
    /// The model can be leased. Published after that is so.
    ready,
    /// The backend could not load the model: `message`.
    load_failed,
    /// A load that was asked to stop has ended without a model. Not a failure.
    load_aborted,
    /// A resident takes no new leases, so that its place can be given away: `reason`.
    drain_started,
    /// The place is not wanted any more, or a request that goes first wants this resident: it takes leases again.
    drain_ended,
    /// The model is about to be destroyed: `reason`. Published before it is gone.
    unload_started,
    /// The model is gone and its memory back: `reason`.
    unloaded,
    /// Requests were turned away: `reason` is `overloaded`, `cooling_down` or `unknown_model`. At most one event a
    /// second a reason, with `count` and the latest `key`.
    rejected,
    /// A request's timeout passed: `stage`, and in `duration` how long it had waited or run.
    timed_out,
    /// The model threw or gave an unusable result: `message`.
    inference_failed,
    /// The slot takes no new requests.
    shutdown_started,
    /// A shutdown completed: `message` says what is left, if anything is.
    shutdown_completed,
    /// A completion handler threw on a thread of the library's: `message`.
    handler_threw,
    /// The observer was too slow: `count` events were dropped, after those before this one.
    dropped,
};

/// Why it happened.
enum class Reason : std::uint8_t {
    /// There is nothing to say.
    none,
    /// A request wanted the model.
    requested,
    /// Its keep-alive passed.
    idle,
    /// Its place goes to a model with another key.
    switched,
    /// `unload` was called.
    unload,
    /// `unload` was called with `UnloadMode::revoke`.
    revoked,
    /// The slot shuts down.
    shutdown,
    /// All its waiters left, and did not come back within `SlotOptions::abandon_after`.
    abandoned,
    /// The queue is full.
    overloaded,
    /// A load of the key failed lately.
    cooling_down,
    /// The backend knows no model with the key.
    unknown_model,
    /// The memory budget can never give what the model needs.
    insufficient_memory,
    /// Its memory goes to another model of the budget, or was asked for by `MemoryBudget::trim` or `set_limit`.
    memory,
};

/// How grave a line is that a backend wrote.
enum class Severity : std::uint8_t { debug, info, warning, error };

/// The event's name, as written in `EventType`.
[[nodiscard]] constexpr std::string_view to_string(EventType type) noexcept {
    switch (type) {
        case EventType::load_started: return "load_started";
        case EventType::load_progress: return "load_progress";
        case EventType::load_log: return "load_log";
        case EventType::ready: return "ready";
        case EventType::load_failed: return "load_failed";
        case EventType::load_aborted: return "load_aborted";
        case EventType::drain_started: return "drain_started";
        case EventType::drain_ended: return "drain_ended";
        case EventType::unload_started: return "unload_started";
        case EventType::unloaded: return "unloaded";
        case EventType::rejected: return "rejected";
        case EventType::timed_out: return "timed_out";
        case EventType::inference_failed: return "inference_failed";
        case EventType::shutdown_started: return "shutdown_started";
        case EventType::shutdown_completed: return "shutdown_completed";
        case EventType::handler_threw: return "handler_threw";
        case EventType::dropped: return "dropped";
    }
    return "unknown";
}

/// The reason's name, as written in `Reason`.
[[nodiscard]] constexpr std::string_view to_string(Reason reason) noexcept {
    switch (reason) {
        case Reason::none: return "none";
        case Reason::requested: return "requested";
        case Reason::idle: return "idle";
        case Reason::switched: return "switched";
        case Reason::unload: return "unload";
        case Reason::revoked: return "revoked";
        case Reason::shutdown: return "shutdown";
        case Reason::abandoned: return "abandoned";
        case Reason::overloaded: return "overloaded";
        case Reason::cooling_down: return "cooling_down";
        case Reason::unknown_model: return "unknown_model";
        case Reason::insufficient_memory: return "insufficient_memory";
        case Reason::memory: return "memory";
    }
    return "unknown";
}

/// The severity's name.
[[nodiscard]] constexpr std::string_view to_string(Severity severity) noexcept {
    switch (severity) {
        case Severity::debug: return "debug";
        case Severity::info: return "info";
        case Severity::warning: return "warning";
        case Severity::error: return "error";
    }
    return "unknown";
}

/// Prints the event's name.
inline std::ostream& operator<<(std::ostream& out, EventType type) { return out << to_string(type); }
/// Prints the reason's name.
inline std::ostream& operator<<(std::ostream& out, Reason reason) { return out << to_string(reason); }
/// Prints the severity's name.
inline std::ostream& operator<<(std::ostream& out, Severity severity) { return out << to_string(severity); }

/// Something that happened in a slot. What a field does not apply to is left at its default.
struct Event {
    /// What happened.
    EventType type = EventType::load_started;
    /// Why.
    Reason reason = Reason::none;
    /// How grave, with `load_log`.
    Severity severity = Severity::info;
    /// The slot's name: "embedding" or "reranker" in a manager. Empty with `handler_threw` and `dropped`: a manager's
    /// threads, and its queue of events, are those of both.
    std::string slot{};
    /// The key that it happened to; empty if it concerns the whole slot.
    ModelKey key{};
    /// How many bytes the model counts for in the slot's memory budget, while it has a place; zero without a budget.
    std::size_t bytes = 0;
    /// The generation of the residency that it happened to; none before its model was ready.
    Generation generation{};
    /// When it happened, on the slot's clock: nanoseconds since its epoch. Zero with `dropped` and `handler_threw`,
    /// which are no slot's.
    std::chrono::nanoseconds time{0};
    /// How long it took: the load with `ready`, `load_failed` and `load_aborted`; the unload with `unloaded`; with
    /// `timed_out` and `inference_failed` the time since the request came.
    std::chrono::nanoseconds duration{0};
    /// Of that, with `timed_out` and `inference_failed`: how long the request waited, but for the load of its model.
    std::chrono::nanoseconds queue_time{0};
    /// The same: how long it waited for that load.
    std::chrono::nanoseconds load_time{0};
    /// The same: the time since its call, or the first of its parts, began.
    std::chrono::nanoseconds call_time{0};
    /// In which stage the request was, with `timed_out` and `inference_failed`.
    Stage stage = Stage::admission;
    /// From 0 to 1, with `load_progress`.
    float progress = 0.0F;
    /// How many: events with `dropped`, requests with `rejected`.
    std::size_t count = 0;
    /// More, for people.
    std::string message{};

    /// Prints one line: `embedding: ready minilm@q8_0 generation 3 (requested) after 812 ms: ...`. Control characters
    /// are escaped; numbers are the same in each locale.
    friend std::ostream& operator<<(std::ostream& out, const Event& event) {
        if (!event.slot.empty()) {
            out << detail::on_one_line(event.slot) << ": ";
        }
        out << event.type;
        if (!event.key.name.empty()) {
            out << ' ' << to_string(event.key);
        }
        if (event.generation != Generation{}) {
            out << " generation " << event.generation;
        }
        if (event.reason != Reason::none) {
            out << " (" << event.reason << ')';
        }
        if (event.type == EventType::load_progress) {
            const float done = detail::is_nan(event.progress) ? 0.0F : std::clamp(event.progress, 0.0F, 1.0F);
            out << ' ' << std::to_string(static_cast<int>(done * 100.0F)) << " %";
        }
        if (event.type == EventType::load_log) {
            out << ' ' << event.severity;
        }
        if (event.type == EventType::timed_out || event.type == EventType::inference_failed) {
            out << " in stage " << event.stage;
        }
        if (event.type == EventType::dropped) {
            out << ' ' << std::to_string(event.count);
        }
        if (event.type == EventType::rejected && event.count > 1) {
            out << ", " << std::to_string(event.count) << " requests";
        }
        if (event.bytes != 0) {
            out << ", " << std::to_string(event.bytes) << " bytes";
        }
        const auto ms = [](std::chrono::nanoseconds length) {
            return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(length).count()) + " ms";
        };
        if (event.duration.count() != 0) {
            out << " after " << ms(event.duration);
        }
        if (event.load_time.count() != 0 || event.call_time.count() != 0) {
            out << " (queue " << ms(event.queue_time) << ", load " << ms(event.load_time) << ", call "
                << ms(event.call_time) << ')';
        }
        if (!event.message.empty()) {
            out << ": " << detail::on_one_line(event.message);
        }
        return out;
    }
};

}  // namespace residency
