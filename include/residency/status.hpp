#pragma once

#include "residency/event.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/one_line.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace residency {

/// What a resident is doing.
enum class ResidentState : std::uint8_t {
    /// It has its place; the backend was not called yet.
    queued,
    /// The backend is loading it.
    loading,
    /// It can be leased.
    ready,
    /// It takes no new leases and waits for those that live.
    draining,
    /// Its model is being destroyed.
    unloading,
};

/// The state's name.
[[nodiscard]] constexpr std::string_view to_string(ResidentState state) noexcept {
    switch (state) {
        case ResidentState::queued: return "queued";
        case ResidentState::loading: return "loading";
        case ResidentState::ready: return "ready";
        case ResidentState::draining: return "draining";
        case ResidentState::unloading: return "unloading";
    }
    return "unknown";
}

/// Prints the state's name.
inline std::ostream& operator<<(std::ostream& out, ResidentState state) { return out << to_string(state); }

/// One resident, as `status()` saw it.
struct ResidentStatus {
    /// Its key.
    ModelKey key{};
    /// Its generation; none before it is ready.
    Generation generation{};
    /// What it is doing.
    ResidentState state = ResidentState::loading;
    /// How many leases on it live.
    std::size_t leases = 0;
    /// How long it has had no lease; none while it has one, or is not ready.
    std::optional<std::chrono::nanoseconds> idle_for{};
    /// After how long it is unloaded if no request comes; none if that is not due: it is in use, pinned, or not ready.
    std::optional<std::chrono::nanoseconds> unloads_in{};
    /// How many bytes it counts for in the slot's memory budget; zero without one.
    std::size_t memory = 0;
    /// Whether queries and documents differ for the model: it accepts each `EmbedAs`. False until it is ready.
    bool distinguishes = false;
};

/// A key whose last load failed.
struct FailureStatus {
    /// The key.
    ModelKey key{};
    /// The backend's message.
    std::string message{};
    /// How many loads of it failed in a row.
    std::size_t failures = 0;
    /// How long it still answers `cooling_down`; zero if it may be tried again.
    std::chrono::nanoseconds retry_after{0};
};

/// What a slot has done since it was made. Each figure only grows.
struct SlotCounters {
    /// Loads for which the backend was called.
    std::uint64_t loads = 0;
    /// Loads that gave a model.
    std::uint64_t loaded = 0;
    /// Loads that failed, and estimates of how much memory a model needs.
    std::uint64_t load_failures = 0;
    /// Loads that ended without a model after they were asked to stop.
    std::uint64_t loads_aborted = 0;
    /// Leases granted.
    std::uint64_t leases_granted = 0;
    /// Model calls of `embed` and `rerank` that were begun. Requests that share one count once.
    std::uint64_t batches = 0;
    /// The texts or pairs that these were about.
    std::uint64_t texts = 0;
    /// The most leases that lived at once.
    std::size_t most_leases = 0;
    /// The most requests that waited at once.
    std::size_t most_waiting = 0;
    /// Requests that were `overloaded`.
    std::uint64_t overloaded = 0;
    /// Requests that were answered `cooling_down`.
    std::uint64_t cooling_down = 0;
    /// Requests that were answered `unknown_model`, without a call of `load`.
    std::uint64_t unknown_model = 0;
    /// Requests that the memory budget had `insufficient_memory` for. Where a backend or a model says so, its load or
    /// its call has failed.
    std::uint64_t insufficient_memory = 0;
    /// Requests whose timeout passed.
    std::uint64_t timed_out = 0;
    /// Requests that were cancelled while they waited.
    std::uint64_t cancelled = 0;
    /// Models destroyed, by reason: index with `static_cast<std::size_t>(Reason)`.
    std::array<std::uint64_t, 13> unloads{};
    /// Timer waits started.
    std::uint64_t timer_waits = 0;

    /// How many texts or pairs a model call was about; zero before the first.
    [[nodiscard]] double mean_texts() const noexcept {
        return batches == 0 ? 0.0 : static_cast<double>(texts) / static_cast<double>(batches);
    }

    /// Models destroyed, for whatever reason.
    [[nodiscard]] std::uint64_t unloaded() const noexcept {
        std::uint64_t sum = 0;
        for (const std::uint64_t count : unloads) {
            sum += count;
        }
        return sum;
    }

    /// Same figures.
    friend bool operator==(const SlotCounters&, const SlotCounters&) = default;
};

/// A slot, as `status()` saw it in one instant.
struct SlotStatus {
    /// The slot's name.
    std::string name{};
    /// The generation counter.
    Generation generation{};
    /// How many leases live, over all residents.
    std::size_t leases = 0;
    /// How many requests wait for a lease or a load.
    std::size_t waiting = 0;
    /// How many texts or pairs these are about that no call has begun with.
    std::size_t waiting_texts = 0;
    /// How many of them are cut into parts, and wait for the next one.
    std::size_t waiting_parts = 0;
    /// Whether the slot refuses new requests.
    bool shutting_down = false;
    /// What is resident.
    std::vector<ResidentStatus> residents{};
    /// The keys whose last load failed, the latest 256 of them.
    std::vector<FailureStatus> failures{};
    /// What has been done.
    SlotCounters counters{};
};

/// Both slots of a manager; each is consistent in itself.
struct ManagerStatus {
    /// The slot of the embedding models.
    SlotStatus embedding{};
    /// The slot of the reranker models.
    SlotStatus reranker{};
};

/// A key that a shutdown left behind.
struct Leftover {
    /// Its slot's name.
    std::string slot{};
    /// The key.
    ModelKey key{};
    /// Whether it was still queued or loading, leased (ready or draining) or unloading.
    ResidentState state = ResidentState::loading;
    /// How many leases on it lived.
    std::size_t leases = 0;

    /// Same in every field.
    friend bool operator==(const Leftover&, const Leftover&) = default;
};

/// How a shutdown went.
struct ShutdownReport {
    /// What was still leased, loading or unloading when the deadline passed; empty after a clean shutdown.
    std::vector<Leftover> leftovers{};

    /// Whether nothing was left: no model, no waiter, and no timer, but a wait that `control` had not ended by the
    /// deadline.
    [[nodiscard]] bool clean() const noexcept { return leftovers.empty(); }
};

/// Prints what a shutdown left behind, for people, on one line: `minilm@q8_0 draining with 2 leases in embedding`, or
/// `nothing is left`.
[[nodiscard]] inline std::string to_string(const ShutdownReport& report) {
    std::string text;
    for (const Leftover& leftover : report.leftovers) {
        text += text.empty() ? "left: " : ", ";
        text += to_string(leftover.key) + " " + std::string(to_string(leftover.state)) + " with " +
                std::to_string(leftover.leases) + (leftover.leases == 1 ? " lease in " : " leases in ") + leftover.slot;
    }
    return text.empty() ? "nothing is left" : text;
}

namespace detail {

inline void print_duration(std::ostream& out, std::chrono::nanoseconds duration) {
    using namespace std::chrono;
    const auto ms = duration_cast<milliseconds>(duration).count();
    if (ms < 10'000) {
        out << std::to_string(ms) << " ms";
    } else {
        out << std::to_string(duration_cast<seconds>(duration).count()) << " s";
    }
}

}  // namespace detail

/// Prints `minilm@q8_0 ready, generation 3, 2 leases` and so on, one line without its end.
inline std::ostream& operator<<(std::ostream& out, const ResidentStatus& resident) {
    out << to_string(resident.key) << ' ' << resident.state;
    if (resident.generation != Generation{}) {
        out << ", generation " << resident.generation;
    }
    out << ", " << std::to_string(resident.leases) << (resident.leases == 1 ? " lease" : " leases");
    if (resident.idle_for) {
        out << ", idle for ";
        detail::print_duration(out, *resident.idle_for);
    }
    if (resident.memory != 0) {
        out << ", " << std::to_string(resident.memory) << " bytes";
    }
    if (resident.unloads_in) {
        out << ", unloads in ";
        detail::print_duration(out, *resident.unloads_in);
    }
    if (resident.distinguishes) {
        out << ", queries and documents differ";
    }
    return out;
}

/// Prints the slot on a few lines, for people.
inline std::ostream& operator<<(std::ostream& out, const SlotStatus& slot) {
    const char* const end = !slot.shutting_down ? "" : slot.residents.empty() ? " (shut down)" : " (shutting down)";
    out << slot.name << end << ": generation " << slot.generation << ", " << std::to_string(slot.leases) << " leased, "
        << std::to_string(slot.waiting) << " waiting";
    if (slot.waiting_texts != 0) {
        out << " with " << std::to_string(slot.waiting_texts) << (slot.waiting_texts == 1 ? " text" : " texts");
    }
    if (slot.waiting_parts != 0) {
        out << ", " << std::to_string(slot.waiting_parts) << " in parts";
    }
    out << '\n';
    for (const ResidentStatus& resident : slot.residents) {
        out << "  resident  " << resident << '\n';
    }
    for (const FailureStatus& failure : slot.failures) {
        out << "  failed    " << to_string(failure.key) << ", " << std::to_string(failure.failures) << " in a row";
        if (failure.retry_after.count() > 0) {
            out << ", try again in ";
            detail::print_duration(out, failure.retry_after);
        }
        out << ": " << detail::on_one_line(failure.message) << '\n';
    }
    const SlotCounters& done = slot.counters;
    out << "  loads     " << std::to_string(done.loads) << " started, " << std::to_string(done.loaded) << " ready, "
        << std::to_string(done.load_failures) << " failed, " << std::to_string(done.loads_aborted) << " aborted\n";
    out << "  leases    " << std::to_string(done.leases_granted) << " granted, at most "
        << std::to_string(done.most_leases) << " at once, at most " << std::to_string(done.most_waiting)
        << " waiting\n";
    const std::uint64_t tenths = done.batches == 0 ? 0 : (done.texts * 10 + done.batches / 2) / done.batches;
    out << "  calls     " << std::to_string(done.batches) << ", of " << std::to_string(tenths / 10) << '.'
        << std::to_string(tenths % 10) << " texts on average\n";
    out << "  refused   " << std::to_string(done.overloaded) << " overloaded, " << std::to_string(done.cooling_down)
        << " cooling down, " << std::to_string(done.unknown_model) << " unknown, ";
    if (done.insufficient_memory != 0) {
        out << std::to_string(done.insufficient_memory) << " without memory, ";
    }
    out << std::to_string(done.timed_out) << " timed out, " << std::to_string(done.cancelled) << " cancelled\n";
    out << "  unloads   " << std::to_string(done.unloaded());
    for (std::size_t index = 0; index < done.unloads.size(); ++index) {
        if (done.unloads[index] != 0) {
            out << ", " << to_string(static_cast<Reason>(index)) << ' ' << std::to_string(done.unloads[index]);
        }
    }
    return out << '\n';
}

/// Prints both slots.
inline std::ostream& operator<<(std::ostream& out, const ManagerStatus& status) {
    return out << status.embedding << status.reranker;
}

/// Prints `clean`, or what was left, one line without its end.
inline std::ostream& operator<<(std::ostream& out, const ShutdownReport& report) {
    if (report.clean()) {
        return out << "clean";
    }
    out << "left:";
    for (const Leftover& leftover : report.leftovers) {
        out << ' ' << leftover.slot << '/' << to_string(leftover.key) << " (" << leftover.state << ", "
            << std::to_string(leftover.leases) << (leftover.leases == 1 ? " lease)" : " leases)");
    }
    return out;
}

}  // namespace residency
