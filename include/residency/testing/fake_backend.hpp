#pragma once

#include "residency/backend.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "residency/testing/fake_answer.hpp"
#include "residency/testing/fake_world.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
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
        : life_(std::make_shared<const Life>(std::move(world), key, serial)),
          max_concurrency_(life_->world->begin_life(life_->key, serial)),
          batch_limits_(life_->world->batch_limits(life_->key)) {}
    FakeModel(const FakeModel&) = delete;
    FakeModel& operator=(const FakeModel&) = delete;

    /// Calls the hook for `unload`, waits at its gate, and notes that the model is gone. A hook that throws here ends
    /// the program, as a destructor that throws does.
    virtual ~FakeModel() {
        life_->world->begin_unload(life_->serial);
        life_->world->perform({.step = FakeStep::unload, .key = life_->key, .serial = life_->serial});
        life_->world->end_life(life_->key, life_->serial);
    }

    /// How many calls at once it takes: what `FakeWorld::set_max_concurrency` said when it was loaded.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return max_concurrency_; }
    /// How much one call does best with: what `FakeWorld::set_batch_limits` said when it was loaded.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return batch_limits_; }
    /// Its key.
    [[nodiscard]] const ModelKey& key() const noexcept { return life_->key; }
    /// The number of its load.
    [[nodiscard]] std::uint64_t serial() const noexcept { return life_->serial; }

protected:
    /// Does an inference over `rows` texts: counts it, does what the world asks of it, and gives `answer(serial,
    /// fault)`, with the fault to answer with, or none. `answer` must not touch the model: a fault of the library may
    /// have destroyed it meanwhile, and is to be reported rather than to crash.
    template <std::invocable<std::uint64_t, std::optional<FakeFault>> Answer>
    auto infer(std::size_t rows, std::stop_token stop, Answer answer, EmbedAs as = EmbedAs::as_is) {
        return infer(rows, {}, std::move(stop), std::move(answer), as);
    }
    /// The same over texts, which a hook sees.
    template <std::invocable<std::uint64_t, std::optional<FakeFault>> Answer>
    auto infer(const std::vector<std::string_view>& texts, std::stop_token stop, Answer answer,
               EmbedAs as = EmbedAs::as_is) {
        return infer(texts.size(), texts, std::move(stop), std::move(answer), as);
    }

    /// How many rows or scores an answer with this fault has.
    [[nodiscard]] static std::size_t rows_with(std::optional<FakeFault> fault, std::size_t rows) noexcept {
        if (fault == FakeFault::too_many) {
            return rows + 1;
        }
        return fault == FakeFault::too_few && rows != 0 ? rows - 1 : rows;
    }
    /// The rows of a fake embedder's answer.
    template <class Text>
    [[nodiscard]] static Embeddings rows_of(std::uint64_t serial, std::optional<FakeFault> fault,
                                            std::span<const Text> texts) {
        Embeddings rows(rows_with(fault, texts.size()), fake_dimension);
        for (std::size_t index = 0; index < (std::min)(rows.size(), texts.size()); ++index) {
            const auto row = fake_row(serial, texts[index]);
            std::copy(row.begin(), row.end(), rows[index].begin());
        }
        if (fault == FakeFault::nan && !rows.empty()) {
            rows[rows.size() - 1].back() = fake_nan;
        }
        return rows;
    }
    /// The scores of a fake reranker's answer.
    [[nodiscard]] static std::vector<float> scores_of(std::uint64_t serial, std::optional<FakeFault> fault,
                                                      std::span<const std::string_view> documents) {
        std::vector<float> scores(rows_with(fault, documents.size()));
        for (std::size_t index = 0; index < (std::min)(scores.size(), documents.size()); ++index) {
            scores[index] = fake_score(serial, documents[index]);
        }
        if (fault == FakeFault::nan && !scores.empty()) {
            scores.back() = fake_nan;
        }
        return scores;
    }

private:
    friend class FakeAsyncModel;

    template <class Answer>
    auto infer(std::size_t rows, std::span<const std::string_view> texts, std::stop_token stop, Answer answer,
               EmbedAs as) {
        const Inference running(life_);
        return answer(running.life->serial, running.life->world->perform({.step = FakeStep::inference,
                                                                          .key = running.life->key,
                                                                          .serial = running.life->serial,
                                                                          .rows = rows,
                                                                          .texts = texts,
                                                                          .as = as,
                                                                          .stop = std::move(stop)}));
    }

    struct Life {
        Life(std::shared_ptr<FakeWorld> in_world, const ModelKey& with_key, std::uint64_t with_serial)
            : world(std::move(in_world)), key(with_key), serial(with_serial) {}
        std::shared_ptr<FakeWorld> world;
        ModelKey key;
        std::uint64_t serial;
    };

    struct Inference {
        explicit Inference(std::shared_ptr<const Life> of) : life(std::move(of)) {
            life->world->begin_call(life->key, life->serial);
        }
        ~Inference() { life->world->end_call(life->key, life->serial); }
        Inference(const Inference&) = delete;
        Inference& operator=(const Inference&) = delete;
        std::shared_ptr<const Life> life;
    };

    std::shared_ptr<const Life> life_;
    std::size_t max_concurrency_;
    BatchLimits batch_limits_;
};

/// An embedding model whose rows are `fake_row`: they show which model gave them, and for which text. It takes an
/// `EmbedAs`, which a hook sees in its `FakeCall` and which changes no row.
class FakeEmbedder : public FakeModel {
public:
    using FakeModel::FakeModel;

    /// A row of `fake_dimension` floats for each text.
    Embeddings embed(std::span<const std::string> texts, EmbedAs as, std::stop_token stop = {}) {
        const auto answer = [texts](std::uint64_t serial, std::optional<FakeFault> fault) {
            return rows_of(serial, fault, texts);
        };
        return infer(std::vector<std::string_view>(texts.begin(), texts.end()), std::move(stop), answer, as);
    }
    /// The same for texts as they are.
    Embeddings embed(std::span<const std::string> texts, std::stop_token stop = {}) {
        return embed(texts, EmbedAs::as_is, std::move(stop));
    }
};

/// A reranker whose scores are `fake_score`: they show which model gave them; the longest document is best.
class FakeReranker : public FakeModel {
public:
    using FakeModel::FakeModel;

    /// A score for each document.
    std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents,
                              std::stop_token stop = {}) {
        return score({documents.begin(), documents.end()}, std::move(stop));
    }
    /// A score for each pair.
    std::vector<float> rerank(std::span<const RerankPair> pairs, std::stop_token stop = {}) {
        std::vector<std::string_view> documents;
        for (const RerankPair& pair : pairs) {
            documents.push_back(pair.document);
        }
        return score(documents, std::move(stop));
    }

private:
    std::vector<float> score(const std::vector<std::string_view>& documents, std::stop_token stop) {
        return infer(documents, std::move(stop), [&documents](std::uint64_t serial, std::optional<FakeFault> fault) {
            return scores_of(serial, fault, documents);
        });
    }
};

/// A backend whose models live in a FakeWorld, where a test sees and directs them. It knows every key. Copies share the
/// world.
template <std::derived_from<FakeModel> Model>
class FakeBackend {
public:
    /// The type of the models.
    using model_type = Model;

    /// A backend in a world of its own.
    FakeBackend() : FakeBackend(std::make_shared<FakeWorld>()) {}
    /// A backend in `world`, which must not be null.
    explicit FakeBackend(std::shared_ptr<FakeWorld> world) : world_(std::move(world)) {}

    /// Loads a model, unless the world asks for something else.
    std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) {
        const std::uint64_t serial = world_->begin_load(key);
        try {
            const std::optional<FakeFault> fault = world_->perform({.step = FakeStep::load,
                                                                    .key = key,
                                                                    .serial = serial,
                                                                    .stop = context.stop_token(),
                                                                    .context = &context});
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
