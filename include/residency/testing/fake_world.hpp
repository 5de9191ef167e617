#pragma once

#include "residency/backend.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "residency/ranking.hpp"
#include "residency/testing/gate.hpp"

#include <algorithm>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace residency::testing {

/// What a fake backend or model is called for.
enum class FakeStep : std::uint8_t {
    /// `load` of the backend.
    load,
    /// `embed` or `rerank` of a model.
    inference,
    /// The model's destructor.
    unload,
};

/// How a fake may answer wrongly without throwing.
enum class FakeFault : std::uint8_t {
    /// `load` gives a null pointer.
    null_model,
    /// An inference gives a row, or a score, too few.
    too_few,
    /// An inference gives a row, or a score, too many.
    too_many,
    /// An inference gives a NaN among its figures.
    nan,
};

/// What a blocked fake does when its stop_token asks it to stop.
enum class FakeStop : std::uint8_t {
    /// It does not look at it, as most models do not.
    ignore,
    /// It throws `operation_aborted`.
    honour,
};

/// One call of a fake, as a hook sees it.
struct FakeCall {
    /// What it was called for.
    FakeStep step = FakeStep::load;
    /// The model's key.
    const ModelKey& key;
    /// The number of the load that makes, or made, the model; from 1 in each world, never used twice.
    std::uint64_t serial = 0;
    /// How many texts or documents there are, in an inference.
    std::size_t rows = 0;
    /// The call's stop_token; that of a destructor never stops.
    std::stop_token stop{};
    /// The load's context; null in an inference and in a destructor.
    LoadContext* context = nullptr;
};

/// What has happened to one key, or to all. `most_` figures are the most at once.
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
    /// The most models at once, those being loaded included.
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

/// One model, living or gone.
struct FakeModelRecord {
    /// The number of its load.
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
