#pragma once

#include "residency/shell/slot_shell.hpp"

// What people read of SlotShell: its status, and what a shutdown left behind.

namespace residency::detail {

template <class Clock>
ShutdownReport SlotShell<Clock>::leftovers() const {
    ShutdownReport report;
    const auto& residents = scheduler_.residents();
    for (core::Index index = 0; index < residents.end_index(); ++index) {
        if (residents.used(index)) {
            report.leftovers.push_back(
                {name_, *scheduler_.key_of(index), residents[index].state, residents[index].leases});
        }
    }
    return report;
}

template <class Clock>
void SlotShell<Clock>::report_leftovers(PendingOperation& pending) const noexcept {
    try {
        pending.report = leftovers();
    } catch (...) {
        pending.unreported = true;
    }
}

template <class Clock>
SlotStatus SlotShell<Clock>::status() const {
    SlotStatus status;
    status.name = name_;
    const Lock lock(mutex_);
    const core::Time time = now();
    status.generation = scheduler_.generation();
    status.leases = scheduler_.leases();
    status.waiting = scheduler_.waiting();
    status.shutting_down = scheduler_.closed();
    status.counters = scheduler_.counters();
    status.counters.timer_waits = timer_waits_;
    const auto& residents = scheduler_.residents();
    const core::KeyTable& keys = scheduler_.queue().keys();
    status.residents.reserve(residents.size());
    for (core::Index index = 0; index < residents.end_index(); ++index) {
        if (!residents.used(index)) {
            continue;
        }
        const core::Resident& resident = residents[index];
        ResidentStatus entry;
        entry.key = *keys[resident.key].key;
        entry.generation = resident.generation;
        entry.state = resident.state;
        entry.leases = resident.leases;
        if (resident.idle()) {
            entry.idle_for = time - resident.idle_since;
            if (resident.due() != core::never && keys[resident.key].waiting == 0) {
                entry.unloads_in = std::max(core::Duration::zero(), resident.due() - time);
            }
        }
        status.residents.push_back(std::move(entry));
    }
    for (core::Index index = keys.newest_failure(); index != core::none; index = keys[index].older_failure) {
        status.failures.push_back({*keys[index].key, keys[index].failure_message, keys[index].failures,
                                   std::max(core::Duration::zero(), core::later(keys[index].cooling_until, -time))});
    }
    return status;
}

}  // namespace residency::detail
