#pragma once

#include "residency/core/key_table.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/core/time.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/status.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace residency::detail {

/// Reads a slot's status in two steps, so that the copies of keys and messages, which may be long, are made without its
/// mutex. `State` is the slot's `SlotState`.
template <class State>
class StatusReader {
public:
    explicit StatusReader(std::string name) { status_.name = std::move(name); }

    /// Under the slot's mutex.
    void read(const State& state) {
        const core::SlotScheduler& scheduler = state.scheduler;
        now_ = state.now();
        status_.generation = scheduler.generation();
        status_.leases = scheduler.leases();
        status_.waiting = scheduler.waiting();
        status_.waiting_texts = scheduler.queue().texts();
        status_.waiting_parts = scheduler.queue().cut();
        status_.shutting_down = scheduler.closed();
        status_.counters = scheduler.counters();
        status_.counters.timer_waits = state.timer_waits;
        const auto& residents = scheduler.residents();
        const core::KeyTable& keys = scheduler.queue().keys();
        residents_.reserve(residents.size());
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (residents.used(index)) {
                const ResidentRecord* const record = state.records.find(index);
                residents_.push_back({scheduler.key_of(index), residents[index],
                                      keys[residents[index].key].waiting != 0,
                                      record != nullptr && record->distinguishes});
            }
        }
        failures_ = keys.failures();
        failed_.reserve(failures_.size());
        for (const core::Failure& failure : failures_) {
            failed_.push_back(keys[failure.key].key);
        }
    }

    /// Without it.
    [[nodiscard]] SlotStatus finish() {
        status_.residents.reserve(residents_.size());
        for (const Seen& seen : residents_) {
            status_.residents.push_back(status_of(seen));
        }
        status_.failures.reserve(failures_.size());
        for (std::size_t place = failures_.size(); place-- != 0;) {
            const core::Failure& failure = failures_[place];
            status_.failures.push_back({*failed_[place], failure.message ? *failure.message : std::string(),
                                        failure.count,
                                        (std::max)(core::Duration::zero(), core::later(failure.cooling_until, -now_))});
        }
        return std::move(status_);
    }

private:
    struct Seen {
        core::SharedKey key;
        core::Resident resident;
        bool has_waiter;
        bool distinguishes;
    };

    [[nodiscard]] ResidentStatus status_of(const Seen& seen) const {
        const core::Resident& resident = seen.resident;
        ResidentStatus entry;
        entry.key = *seen.key;
        entry.generation = resident.generation;
        entry.state = resident.state;
        entry.leases = resident.leases;
        entry.memory = resident.bytes;
        entry.distinguishes = seen.distinguishes;
        if (resident.idle()) {
            entry.idle_for = now_ - resident.idle_since;
            if (resident.due() != core::never && !seen.has_waiter) {
                entry.unloads_in = (std::max)(core::Duration::zero(), resident.due() - now_);
            }
        }
        return entry;
    }

    SlotStatus status_{};
    core::Time now_{0};
    std::vector<Seen> residents_{};
    std::vector<core::SharedKey> failed_{};
    std::vector<core::Failure> failures_{};
};

}  // namespace residency::detail
