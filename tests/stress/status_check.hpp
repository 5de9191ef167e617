#pragma once

#include "residency/status.hpp"
#include "stress/world.hpp"

#include <cstddef>
#include <cstdint>

namespace residency::stress {

/// What a slot says of itself must agree with itself, and with the options.
inline void check_status(World& world, std::uint32_t slot, const SlotStatus& status) {
    const auto require = [&](bool holds, const char* sentence) { world.witness.require(holds, sentence); };
    const SlotOptions& options = world.settings.slots.at(slot);
    const SlotCounters& counters = status.counters;
    require(options.max_resident == 0 || status.residents.size() <= options.max_resident,
            "R2: the status shows more than max_resident");
    require(status.leases <= options.max_leases && counters.most_leases <= options.max_leases,
            "R8: the status shows more than max_leases");
    require(status.waiting <= options.max_queue && counters.most_waiting <= options.max_queue,
            "R8: the status shows more than max_queue");
    if (status.residents.size() > 1) {
        world.tally.did(Deed::two_residents);
        require(status.residents[0].key != status.residents[1].key, "R3: the status shows two residents of one key");
    }
    std::size_t leases = 0;
    std::uint64_t queued = 0;
    std::uint64_t loading = 0;
    for (const ResidentStatus& resident : status.residents) {
        const bool waits = resident.state == ResidentState::queued;
        const bool loads = waits || resident.state == ResidentState::loading;
        leases += resident.leases;
        queued += waits ? 1 : 0;
        loading += loads && !waits ? 1 : 0;
        require(resident.generation <= status.generation, "R6: a resident's generation is past the counter");
        require(!loads || (resident.leases == 0 && resident.generation == Generation{}),
                "R1: a lease on what is loading");
        require(resident.state != ResidentState::unloading || resident.leases == 0, "R1: a lease on what is unloading");
        require(resident.state != ResidentState::draining || resident.leases != 0,
                "R9: a drain that waits for nothing");
    }
    require(leases == status.leases, "R4: the residents' leases are not the slot's");
    require(counters.loads == counters.loaded + counters.load_failures + counters.loads_aborted + loading,
            "S34: a load that is lost");
    require(counters.loaded == counters.unloaded() + status.residents.size() - loading - queued,
            "S34: a model that is lost");
}

}  // namespace residency::stress
