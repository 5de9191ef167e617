#pragma once

#include "residency/backend.hpp"
#include "residency/embed_as.hpp"
#include "residency/model_key.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <string_view>

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
    /// An inference gives a NaN: the last of its figures.
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
    FakeStep step;
    /// The model's key.
    const ModelKey& key;
    /// The number of the load that makes, or made, the model; from 1 in each world, and never used twice.
    std::uint64_t serial;
    /// How many texts or documents there are, in an inference.
    std::size_t rows = 0;
    /// These, valid during the call.
    std::span<const std::string_view> texts{};
    /// What the texts are to the model, in an `embed`.
    EmbedAs as = EmbedAs::as_is;
    /// The call's stop_token; that of a destructor never stops.
    std::stop_token stop{};
    /// The load's context; null in an inference and in a destructor.
    LoadContext* context = nullptr;
};

}  // namespace residency::testing
