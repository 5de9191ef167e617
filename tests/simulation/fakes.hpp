#pragma once

#include "residency/backend.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "simulation/facts.hpp"

#include <charconv>
#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace residency::simulation {

/// How a fake call ends.
enum class Ending : std::uint8_t { sound, too_few, too_many, nan };

/// What the fakes ask what they are to do, and notify of what they do.
class FakeStage {
public:
    FakeStage() = default;
    virtual ~FakeStage() = default;
    FakeStage(const FakeStage&) = delete;
    FakeStage& operator=(const FakeStage&) = delete;

    /// A load runs: throws to fail; null for a null model.
    virtual ModelFacts* load(int slot, const ModelKey& key, LoadContext& context) = 0;
    /// A model is called; throws to fail.
    virtual Ending call(ModelFacts& model, int request, const std::stop_token& stop) = 0;
    /// A model is being destroyed.
    virtual void unload(ModelFacts& model) = 0;
};

/// The number of the request that a text is of.
[[nodiscard]] inline int request_of(std::string_view text) {
    int id = 0;
    std::from_chars(text.data(), text.data() + text.size(), id);
    return id;
}

/// What both kinds of fake models have in common. A row or a score holds the model's number and the request's.
class SimulatedModel {
public:
    SimulatedModel(FakeStage& stage, ModelFacts& facts) : stage_(stage), facts_(facts) {}
    SimulatedModel(const SimulatedModel&) = delete;
    SimulatedModel& operator=(const SimulatedModel&) = delete;
    ~SimulatedModel() { stage_.unload(facts_); }

    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.capacity; }
    [[nodiscard]] ModelFacts& facts() noexcept { return facts_; }

protected:
    FakeStage& stage_;
    ModelFacts& facts_;
};

[[nodiscard]] inline std::size_t rows_at(Ending ending, std::size_t rows) noexcept {
    return ending == Ending::too_few ? rows - 1 : ending == Ending::too_many ? rows + 1 : rows;
}

class SimulatedEmbedder : public SimulatedModel {
public:
    using SimulatedModel::SimulatedModel;

    Embeddings embed(std::span<const std::string> texts, std::stop_token stop) {
        const int request = request_of(texts.front());
        const int serial = facts_.serial;
        const Ending ending = stage_.call(facts_, request, stop);
        Embeddings rows(rows_at(ending, texts.size()), 3);
        for (std::size_t row = 0; row < rows.size(); ++row) {
            rows[row][0] = static_cast<float>(serial);
            rows[row][1] = static_cast<float>(request);
            rows[row][2] = ending == Ending::nan ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(row);
        }
        return rows;
    }
};

class SimulatedReranker : public SimulatedModel {
public:
    using SimulatedModel::SimulatedModel;

    std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents,
                              std::stop_token stop) {
        const int request = request_of(documents.front());
        const int serial = facts_.serial;
        const Ending ending = stage_.call(facts_, request, stop);
        std::vector<float> scores(rows_at(ending, documents.size()));
        for (std::size_t row = 0; row < scores.size(); ++row) {
            scores[row] = ending == Ending::nan
                              ? std::numeric_limits<float>::quiet_NaN()
                              : static_cast<float>((serial * 512 + request) * 4) + static_cast<float>(row);
        }
        return scores;
    }
};

template <class Model, int Slot>
class SimulatedBackend {
public:
    using model_type = Model;

    explicit SimulatedBackend(FakeStage& stage) : stage_(&stage) {}

    std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) {
        ModelFacts* const facts = stage_->load(Slot, key, context);
        return facts == nullptr ? nullptr : std::make_unique<Model>(*stage_, *facts);
    }

private:
    FakeStage* stage_;
};

using SimulatedEmbedding = SimulatedBackend<SimulatedEmbedder, 0>;
using SimulatedReranking = SimulatedBackend<SimulatedReranker, 1>;

}  // namespace residency::simulation
