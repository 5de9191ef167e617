#pragma once

#include "residency/batch_limits.hpp"
#include "residency/options.hpp"
#include "stress/random.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>

namespace residency::stress {

/// Where a manager does its work.
enum class Home : std::uint8_t { owned_threads, one_pool, strand_and_pool, separate_contexts };
/// How it ends.
enum class End : std::uint8_t {
    /// Nothing is left to do.
    quiet,
    /// The same, and what was idle has gone by itself.
    idle,
    /// With requests, calls, loads and leases in flight, while other threads cancel and end leases.
    busy,
    /// The same, in one of its own handlers.
    on_own_thread,
    /// The same, in the handler of its shutdown, while the start of that may still run.
    as_shut_down,
    /// As soon as a shutdown that blocks has returned, which handlers and events may follow.
    after_shutdown,
};

/// How many model calls and loads may run at once in a slot (R8, H13).
struct Limits {
    std::size_t max_calls = 0;
    std::size_t max_loads = 0;
};

/// Draws the options that limit calls and loads, as far as the library has them.
template <class Options>
[[nodiscard]] Limits draw_limits(Options& options, Random& random) {
    Limits limits{options.max_leases, 1};
    if constexpr (requires { options.max_calls; }) {
        limits.max_calls = 1 + random.below(static_cast<std::uint32_t>(options.max_leases));
        options.max_calls = limits.max_calls;
    }
    if constexpr (requires { options.max_loads; }) {
        limits.max_loads = 1 + random.below(2);
        options.max_loads = limits.max_loads;
    }
    if constexpr (requires { options.abandon_after; }) {
        options.abandon_after = std::array{std::chrono::milliseconds(0), std::chrono::milliseconds(2),
                                           std::chrono::milliseconds(30'000)}[random.below(3)];
    }
    return limits;
}

/// What one manager is to be like.
struct Settings {
    std::uint64_t seed = 0;
    std::uint64_t number = 0;
    Home home = Home::owned_threads;
    End end = End::quiet;
    std::array<SlotOptions, 2> slots{};
    std::array<Limits, 2> limits{};
    /// How much a call of the slot's models does best with.
    std::array<BatchLimits, 2> batches{};
    /// Whether requests of that slot may override its keep-alive.
    std::array<bool, 2> overrides{};
    bool observed = false;
    /// Whether the observer is slow, so that events are still queued when the manager is destroyed.
    bool slow_observer = false;
    bool calls_back = false;
    /// Whether some of the threads shut it down, after half of their steps or later.
    bool shuts_down = false;
    std::uint32_t pool_threads = 1;
    /// The limit of the memory budget of both slots, and of other managers; zero if there is none.
    std::size_t memory_limit = 0;
    /// How often each thread does something.
    std::uint32_t steps = 0;
    /// Whether its models answer asynchronously.
    bool asynchronous = false;

    /// The settings of a run's manager `number`: always the same with the same seed.
    static Settings draw(std::uint64_t seed, std::uint64_t number, bool asynchronous) {
        using std::chrono::milliseconds;
        Random random(seed + number * 0x9E3779B97F4A7C15U);
        Settings settings;
        settings.seed = seed;
        settings.number = number;
        settings.asynchronous = asynchronous;
        settings.home = std::array{Home::owned_threads, Home::owned_threads, Home::one_pool, Home::strand_and_pool,
                                   Home::separate_contexts}[random.below(5)];
        settings.end = std::array{End::quiet,         End::idle,         End::busy,          End::busy,
                                  End::on_own_thread, End::as_shut_down, End::after_shutdown}[random.below(7)];
        for (std::size_t index = 0; index < 2; ++index) {
            SlotOptions& slot = settings.slots[index];
            slot.keep_alive =
                std::array{milliseconds(1), milliseconds(3), milliseconds(0), keep_alive_forever}[random.below(4)];
            if (settings.end == End::idle && slot.keep_alive == keep_alive_forever) {
                slot.keep_alive = milliseconds(2);
            }
            slot.max_resident = 1 + random.below(2);
            slot.max_leases = 1 + random.below(6);
            slot.max_queue = 1 + random.below(20);
            // The longest is met by requests also where other programs keep the threads waiting.
            slot.cooldown =
                std::array{milliseconds(0), milliseconds(1), milliseconds(1), milliseconds(20)}[random.below(4)];
            slot.max_cooldown = (std::max)(milliseconds(2), 2 * slot.cooldown);
            slot.aging = std::array{milliseconds(0), milliseconds(2), milliseconds(30'000)}[random.below(3)];
            slot.min_stay = std::array<std::optional<milliseconds>, 4>{std::nullopt, std::nullopt, milliseconds(0),
                                                                       milliseconds(2)}[random.below(4)];
            settings.limits[index] = draw_limits(slot, random);
            settings.overrides[index] = random.coin();
            settings.batches[index] = std::array{BatchLimits{8}, BatchLimits{}, BatchLimits{3}, BatchLimits{16, 250},
                                                 BatchLimits{64}}[random.below(5)];
            slot.max_batch_texts = std::array<std::size_t, 4>{0, 0, 0, 4}[random.below(4)];
        }
        settings.observed = !random.once_in(4);
        settings.slow_observer = settings.observed && random.once_in(3);
        settings.calls_back = random.coin();
        settings.shuts_down = random.once_in(3);
        settings.pool_threads = 1 + random.below(4);
        // Few enough for an observer's queue to have room for all of their events.
        settings.steps = settings.observed ? 20 + random.below(80) : 20 + random.below(400);
        if (random.coin()) {
            // One of the largest models alone, two of the smallest, or most of them.
            settings.memory_limit = std::array<std::size_t, 3>{41, 65, 130}[random.below(3)];
            for (SlotOptions& slot : settings.slots) {
                slot.max_resident = random.coin() ? 0 : slot.max_resident;
            }
        }
        return settings;
    }

    /// Whether the destructor waits for the callbacks on the manager's threads (H12).
    [[nodiscard]] bool destructor_joins() const noexcept {
        return home == Home::owned_threads && end != End::on_own_thread && end != End::as_shut_down;
    }
    /// Whether the callbacks leave the manager alone before it ends, so that everything comes to rest.
    [[nodiscard]] bool comes_to_rest() const noexcept { return end == End::quiet || end == End::idle; }

    [[nodiscard]] std::string describe() const {
        constexpr std::array homes{"owned threads", "one thread_pool", "a strand and a thread_pool",
                                   "contexts of their own"};
        constexpr std::array ends{
            "quiet", "idle", "busy", "on its own thread", "as it is shut down", "after a blocking shutdown"};
        std::ostringstream out;
        out << "seed " << seed << ", manager " << number << " (again and again: --seed " << seed << " --only " << number
            << (asynchronous ? " --models asynchronous" : "") << "): on " << homes[static_cast<std::size_t>(home)]
            << " (" << pool_threads << "), ends " << ends[static_cast<std::size_t>(end)]
            << (observed ? ", observed" : "") << (slow_observer ? " slowly" : "") << (calls_back ? ", calls back" : "")
            << (shuts_down ? ", shut down" : "") << ", " << steps << " steps";
        if (memory_limit != 0) {
            out << ", a budget of " << memory_limit << " bytes";
        }
        for (std::size_t index = 0; index < 2; ++index) {
            const SlotOptions& slot = slots[index];
            out << (index == 0 ? "\n  embedding:" : "\n  reranker:") << " keep_alive ";
            if (slot.keep_alive == keep_alive_forever) {
                out << "forever";
            } else {
                out << slot.keep_alive.count() << " ms";
            }
            out << (overrides[index] ? " or another" : "") << ", max_resident " << slot.max_resident << ", max_leases "
                << slot.max_leases << ", calls at once " << limits[index].max_calls << ", loads at once "
                << limits[index].max_loads << ", max_queue " << slot.max_queue << ", cooldown " << slot.cooldown.count()
                << " ms, aging " << slot.aging.count() << " ms, min_stay "
                << (slot.min_stay ? std::to_string(slot.min_stay->count()) + " ms" : "its load's")
                << ", texts and bytes a call " << batches[index].texts << " and " << batches[index].bytes
                << ", max_batch_texts " << slot.max_batch_texts;
        }
        return out.str();
    }
};

}  // namespace residency::stress
