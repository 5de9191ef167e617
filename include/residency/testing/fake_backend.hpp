#pragma once

#include "residency/backend.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "residency/testing/fake_answer.hpp"
#include "residency/testing/fake_world.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::testing {

/// A model that does nothing but be counted. `FakeBackend<FakeModel>` loads it; derive from it, with
/// `using FakeModel::FakeModel;`, for a model with a call of its own.
class FakeModel {
public:
    /// What a FakeBackend makes a model with.
    FakeModel(std::shared_ptr<FakeWorld> world, const ModelKey& key, std::uint64_t serial)
        : world_(std::move(world)), key_(key), serial_(serial), max_concurrency_(world_->begin_life(key, serial)) {}
    FakeModel(const FakeModel&) = delete;
    FakeModel& operator=(const FakeModel&) = delete;

    /// Calls the hook for `unload`, waits at its gate, and notes that the model is gone. A hook that throws here ends
    /// the program, as a destructor that throws does.
    virtual ~FakeModel() {
        world_->begin_unload(serial_);
        world_->perform({.step = FakeStep::unload, .key = key_, .serial = serial_});
        world_->end_life(key_, serial_);
    }

    /// How many calls at once it takes: what `FakeWorld::set_max_concurrency` said when it was loaded.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return max_concurrency_; }
    /// Its key.
    [[nodiscard]] const ModelKey& key() const noexcept { return key_; }
    /// The number of its load.
    [[nodiscard]] std::uint64_t serial() const noexcept { return serial_; }

protected:
    /// Does an inference over `rows` texts: counts it, does what the world was told, and calls `answer` with the fault
    /// to answer with, or none.
    template <std::invocable<std::optional<FakeFault>> Answer>
    auto infer(std::size_t rows, std::stop_token stop, Answer answer) {
        const Counted counted(*this);
        return answer(world_->perform(
            {.step = FakeStep::inference, .key = key_, .serial = serial_, .rows = rows, .stop = std::move(stop)}));
    }

    /// How many rows or scores an answer with this fault has.
    [[nodiscard]] static std::size_t rows_with(std::optional<FakeFault> fault, std::size_t rows) noexcept {
        if (fault == FakeFault::too_many) {
            return rows + 1;
        }
        return fault == FakeFault::too_few && rows != 0 ? rows - 1 : rows;
    }

private:
    // One running inference.
    class Counted {
    public:
        explicit Counted(FakeModel& model) : model_(model) { model_.world_->begin_call(model_.key_, model_.serial_); }
        ~Counted() { model_.world_->end_call(model_.key_, model_.serial_); }
        Counted(const Counted&) = delete;
        Counted& operator=(const Counted&) = delete;

    private:
        FakeModel& model_;
    };

    std::shared_ptr<FakeWorld> world_;
    ModelKey key_;
    std::uint64_t serial_;
    std::size_t max_concurrency_;
};

/// An embedding model whose rows are `fake_row`: they tell which model gave them, and for which text.
class FakeEmbedder : public FakeModel {
public:
    using FakeModel::FakeModel;

    /// A row of `fake_dimension` floats for each text.
    Embeddings embed(std::span<const std::string> texts, std::stop_token stop = {}) {
        return infer(texts.size(), std::move(stop), [&](std::optional<FakeFault> fault) {
            Embeddings rows(rows_with(fault, texts.size()), fake_dimension);
            for (std::size_t index = 0; index < std::min(rows.size(), texts.size()); ++index) {
                const auto row = fake_row(serial(), index, texts[index]);
                std::copy(row.begin(), row.end(), rows[index].begin());
            }
            if (fault == FakeFault::nan && !rows.empty()) {
                rows[rows.size() - 1].back() = std::numeric_limits<float>::quiet_NaN();
            }
            return rows;
        });
    }
};

/// A reranker whose scores are `fake_score`: they tell which model gave them; the longest document is best.
class FakeReranker : public FakeModel {
public:
    using FakeModel::FakeModel;

    /// A score for each document.
    std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents,
                              std::stop_token stop = {}) {
        return infer(documents.size(), std::move(stop), [&](std::optional<FakeFault> fault) {
            std::vector<float> scores(rows_with(fault, documents.size()));
            for (std::size_t index = 0; index < std::min(scores.size(), documents.size()); ++index) {
                scores[index] = fake_score(serial(), documents[index]);
            }
            if (fault == FakeFault::nan && !scores.empty()) {
                scores.back() = std::numeric_limits<float>::quiet_NaN();
            }
            return scores;
        });
    }
};

/// A backend whose models live in a FakeWorld, where a test sees and directs them. It knows every key. Copies share the
/// world.
template <std::derived_from<FakeModel> Model>
class FakeBackend {
public:
    using model_type = Model;

    /// A backend in a world of its own.
    FakeBackend() : FakeBackend(std::make_shared<FakeWorld>()) {}
    /// A backend in `world`, which must not be null.
    explicit FakeBackend(std::shared_ptr<FakeWorld> world) : world_(std::move(world)) {}

    /// Loads a model, unless the world was told otherwise.
    std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) {
        const std::uint64_t serial = world_->begin_load(key);
        try {
            const std::optional<FakeFault> fault = world_->perform(
                {.step = FakeStep::load, .key = key, .serial = serial, .stop = context.stop_token(), .context = &context});
            if (!fault) {
                return std::make_unique<Model>(world_, key, serial);
            }
        } catch (...) {
            world_->fail_load(key, serial);
            throw;
        }
        world_->fail_load(key, serial);
        return nullptr;
    }

    /// The world that its models live in.
    [[nodiscard]] FakeWorld& world() const noexcept { return *world_; }

private:
    std::shared_ptr<FakeWorld> world_;
};

/// A backend of fake embedding models.
using FakeEmbeddingBackend = FakeBackend<FakeEmbedder>;
/// A backend of fake rerankers.
using FakeRerankerBackend = FakeBackend<FakeReranker>;

static_assert(EmbeddingBackend<FakeEmbeddingBackend> && RerankerBackend<FakeRerankerBackend>);

}  // namespace residency::testing
