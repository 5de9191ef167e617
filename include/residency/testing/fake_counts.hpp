#pragma once

#include "residency/model_key.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>

namespace residency::testing {

/// What has happened to the fakes of one key, or of all. The figures named `most_` are the most at once.
struct FakeCounts {
    /// Loads that were started.
    std::size_t loads = 0;
    /// Loads that are running.
    std::size_t loading = 0;
    /// The most loads at once.
    std::size_t most_loading = 0;
    /// Loads that threw or gave no model.
    std::size_t failed_loads = 0;
    /// Models that are alive, those in their destructor included.
    std::size_t live = 0;
    /// The most models at once, those being loaded and in their destructor included: what `max_resident` limits.
    std::size_t most_resident = 0;
    /// Models that are gone.
    std::size_t unloads = 0;
    /// Inferences that were started.
    std::size_t calls = 0;
    /// Inferences that are running.
    std::size_t calling = 0;
    /// The most inferences at once.
    std::size_t most_calling = 0;
};

/// What has happened to one model.
struct FakeModelRecord {
    /// The number of its load, from 1 in each world.
    std::uint64_t serial = 0;
    /// Its key.
    ModelKey key{};
    /// How many inferences it takes at once.
    std::size_t max_concurrency = 0;
    /// The thread that loaded it.
    std::thread::id loaded_on{};
    /// The thread that destroyed it; none while it lives.
    std::optional<std::thread::id> unloaded_on{};
    /// Inferences that were started on it.
    std::size_t calls = 0;
    /// Inferences that are running on it.
    std::size_t calling = 0;
    /// The most inferences on it at once.
    std::size_t most_calling = 0;
};

}  // namespace residency::testing
