#pragma once

#include "residency/batch_limits.hpp"
#include "residency/options.hpp"
#include "simulation/choices.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <sstream>
#include <string>

namespace residency::simulation {

/// What a simulation is about, chosen before it begins.
struct Settings {
    std::array<SlotOptions, 2> slots{};
    /// How much a call of the slot's models does best with.
    std::array<BatchLimits, 2> limits{};
    int keys = 2;
    /// Whether the second slot is used, too.
    bool both = true;
    bool observed = true;
    /// Whether handlers have an executor of their own; if not, they run on callbacks.
    bool bound = true;
    /// Whether callbacks is an executor of its own; if not, it is control.
    bool callbacks_apart = true;
    /// Whether control, inference, loading and callbacks are one executor.
    bool one_executor = false;
    /// Whether the backends know each key only sometimes.
    bool denies = false;
    /// Whether the slots share a memory budget, and its limit; how much the models need, by slot and key.
    bool budgeted = false;
    std::size_t memory = 0;
    std::array<std::array<std::size_t, 3>, 2> sizes{};
    /// Whether a second manager has the same budget; both its slots, and how much its models need, by slot and key.
    static constexpr std::uint32_t neighbour_keys = 2;
    bool has_neighbour = false;
    SlotOptions neighbour{};
    std::array<std::array<std::size_t, neighbour_keys>, 2> neighbour_sizes{};
    /// Whether models may hold more or less than that.
    bool lies = false;
    std::uint32_t length = 40;

    static Settings choose(Choices& choices) {
        using std::chrono::milliseconds;
        const auto one_of = [&choices](auto... values) {
            const std::array all{values...};
            return all[choices.below(static_cast<std::uint32_t>(all.size()))];
        };
        Settings settings;
        for (SlotOptions& slot : settings.slots) {
            slot.keep_alive = one_of(milliseconds(100), milliseconds(0), milliseconds(20), keep_alive_forever);
            slot.max_resident = one_of(std::size_t{1}, std::size_t{1}, std::size_t{2});
            slot.max_leases = one_of(std::size_t{2}, std::size_t{1}, std::size_t{1}, std::size_t{4});
            slot.max_queue = one_of(std::size_t{6}, std::size_t{1}, std::size_t{2}, std::size_t{12});
            slot.cooldown = one_of(milliseconds(50), milliseconds(0));
            slot.max_cooldown = one_of(milliseconds(200), milliseconds(50));
            slot.aging = one_of(milliseconds(30'000), milliseconds(0), milliseconds(100));
            slot.max_calls = one_of(std::size_t{0}, std::size_t{1}, std::size_t{2});
            slot.max_loads = one_of(std::size_t{1}, std::size_t{1}, std::size_t{2});
            slot.abandon_after = one_of(milliseconds(10'000), milliseconds(0), milliseconds(50));
            const int stay = one_of(-1, 0, 20, 200);
            slot.min_stay = stay < 0 ? std::nullopt : std::optional(milliseconds(stay));
        }
        for (std::size_t slot = 0; slot < settings.slots.size(); ++slot) {
            settings.limits[slot] =
                one_of(BatchLimits{}, BatchLimits{2}, BatchLimits{3}, BatchLimits{8}, BatchLimits{8, 24});
            settings.slots[slot].max_batch_texts =
                one_of(std::size_t{0}, std::size_t{0}, std::size_t{0}, std::size_t{2}, std::size_t{1});
        }
        settings.keys = one_of(2, 1, 3);
        settings.both = one_of(false, true);
        settings.observed = one_of(true, true, false);
        settings.bound = one_of(true, false);
        settings.one_executor = one_of(false, false, false, true);
        settings.callbacks_apart = one_of(true, false) && !settings.one_executor;
        settings.length = one_of(40U, 20U, 80U);
        settings.denies = one_of(false, false, true);
        settings.budgeted = one_of(false, false, true);
        if (settings.budgeted) {
            settings.choose_memory(choices);
        }
        return settings;
    }
    // Little against the sizes. The slots share it, so that more often than without one both are used.
    void choose_memory(Choices& choices) {
        constexpr std::array<std::size_t, 5> budgets{4, 3, 2, 6, 9};
        constexpr std::array<std::size_t, 6> needs{1, 2, 2, 3, 3, 5};
        memory = budgets[choices.below(budgets.size())];
        both = both || choices.below(3) != 0;
        lies = choices.once_in(2);
        for (std::size_t slot = 0; slot < slots.size(); ++slot) {
            for (std::size_t& size : sizes[slot]) {
                size = needs[choices.below(needs.size())];
            }
            slots[slot].model_memory = choices.below(4);
            if (choices.once_in(2)) {
                slots[slot].max_resident = 0;
            }
        }
        has_neighbour = choices.once_in(2);
        for (std::size_t slot = 0; has_neighbour && slot < neighbour_sizes.size(); ++slot) {
            for (std::size_t& size : neighbour_sizes[slot]) {
                size = needs[choices.below(needs.size())];
            }
        }
        if (has_neighbour) {
            neighbour.max_resident = choices.below(3);
            neighbour.max_leases = 1 + choices.below(2);
            neighbour.max_queue = 4;
            neighbour.min_stay = std::chrono::milliseconds(0);
            neighbour.aging = std::chrono::milliseconds(choices.once_in(2) ? 0 : 100);
        }
    }

    [[nodiscard]] std::string text() const {
        std::ostringstream out;
        for (std::size_t index = 0; index < slots.size(); ++index) {
            const SlotOptions& slot = slots[index];
            out << "slot: keep_alive " << slot.keep_alive.count() << ", max_resident " << slot.max_resident
                << ", max_leases " << slot.max_leases << ", max_queue " << slot.max_queue << ", cooldown "
                << slot.cooldown.count() << " to " << slot.max_cooldown.count() << ", aging " << slot.aging.count()
                << ", max_calls " << slot.max_calls << ", max_loads " << slot.max_loads << ", abandon_after "
                << slot.abandon_after.count() << ", min_stay " << (slot.min_stay ? slot.min_stay->count() : -1)
                << ", a call takes " << limits[index].texts << " texts and " << limits[index].bytes
                << " bytes, max_batch_texts " << slot.max_batch_texts << '\n';
        }
        out << keys << " keys" << (both ? ", both slots" : ", one slot")
            << (observed ? ", an observer" : ", no observer")
            << (bound ? ", handlers with an executor" : ", handlers on callbacks")
            << (callbacks_apart ? ", callbacks apart" : "") << (one_executor ? ", one executor" : "")
            << (denies ? ", unknown keys" : "") << '\n';
        if (budgeted) {
            out << "memory " << memory << ", models need";
            for (std::size_t slot = 0; slot < slots.size(); ++slot) {
                for (const std::size_t size : sizes[slot]) {
                    out << ' ' << size;
                }
                out << " (" << slots[slot].model_memory << " by the options)";
            }
            out << (lies ? ", or another amount" : "") << '\n';
        }
        if (has_neighbour) {
            out << "a second manager: max_resident " << neighbour.max_resident << ", max_leases "
                << neighbour.max_leases << ", aging " << neighbour.aging.count() << ", models need";
            for (const auto& slot : neighbour_sizes) {
                for (const std::size_t size : slot) {
                    out << ' ' << size;
                }
            }
            out << '\n';
        }
        return out.str();
    }
};

}  // namespace residency::simulation
