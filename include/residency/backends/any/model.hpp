#pragma once

#include "residency/backend.hpp"
#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency {

namespace detail {

/// What the slot asks of a model once, after its load.
struct AnyModelFacts {
    template <class Model>
    [[nodiscard]] static AnyModelFacts of(const Model& model) {
        return {concurrency_of(model), batch_limits_of(model), joins(model), residency::detail::distinguishes(model)};
    }

    std::size_t max_concurrency;
    BatchLimits batch_limits;
    bool joins_requests;
    bool distinguishes;
};

}  // namespace detail

/// An embedding model of whichever type, as `AnyEmbeddingBackend` loads it.
class AnyEmbeddingModel {
public:
    AnyEmbeddingModel(const AnyEmbeddingModel&) = delete;
    AnyEmbeddingModel& operator=(const AnyEmbeddingModel&) = delete;
    /// Unloads the model.
    virtual ~AnyEmbeddingModel() = default;

    /// Has the model embed. One that takes no stop_token is not asked to stop.
    ///
    /// Errors   what the model throws; invalid_request: `as` is not `as_is`, and the model's `embed` takes no `EmbedAs`
    /// Threads  as the model's own
    [[nodiscard]] virtual Embeddings embed(std::span<const std::string> texts, EmbedAs as,
                                           const std::stop_token& stop) = 0;
    /// The same for texts as they are.
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) { return embed(texts, EmbedAs::as_is, {}); }

    /// What the model says, or no limit.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.max_concurrency; }
    /// What the model says, or those of one whose calls are not shared.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return facts_.batch_limits; }
    /// Whether requests may share its calls.
    [[nodiscard]] bool joins_requests() const noexcept { return facts_.joins_requests; }
    /// Whether queries and documents differ for it.
    [[nodiscard]] bool distinguishes() const noexcept { return facts_.distinguishes; }

protected:
    /// What the model says of itself.
    explicit AnyEmbeddingModel(const detail::AnyModelFacts& facts) noexcept : facts_(facts) {}

private:
    detail::AnyModelFacts facts_;
};

/// A reranker of whichever type, as `AnyRerankerBackend` loads it.
class AnyRerankerModel {
public:
    AnyRerankerModel(const AnyRerankerModel&) = delete;
    AnyRerankerModel& operator=(const AnyRerankerModel&) = delete;
    /// Unloads the model.
    virtual ~AnyRerankerModel() = default;

    /// Has the model score the documents. One that takes no stop_token is not asked to stop.
    ///
    /// Errors   what the model throws
    /// Threads  as the model's own
    [[nodiscard]] virtual std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                                    const std::stop_token& stop) = 0;
    /// Has the model score pairs of several queries.
    ///
    /// Errors   what the model throws; invalid_request: it takes no pairs. The slot does not call it then
    /// Threads  as the model's own
    [[nodiscard]] virtual std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop) = 0;

    /// What the model says, or no limit.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.max_concurrency; }
    /// What the model says, or those of one whose calls are not shared.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return facts_.batch_limits; }
    /// Whether requests may share its calls: it has batch limits, and takes pairs.
    [[nodiscard]] bool joins_requests() const noexcept { return facts_.joins_requests; }

protected:
    /// What the model says of itself.
    explicit AnyRerankerModel(const detail::AnyModelFacts& facts) noexcept : facts_(facts) {}

private:
    detail::AnyModelFacts facts_;
};

namespace detail {

/// An embedding model behind its type-erased face.
template <EmbeddingModel Model>
class HeldEmbeddingModel final : public AnyEmbeddingModel {
public:
    explicit HeldEmbeddingModel(std::unique_ptr<Model> model)
        : AnyEmbeddingModel(AnyModelFacts::of(*model)), model_(std::move(model)) {}

    [[nodiscard]] Embeddings embed(std::span<const std::string> texts, EmbedAs as,
                                   const std::stop_token& stop) override {
        if constexpr (!takes_embed_as<Model>) {
            if (as != EmbedAs::as_is) {
                throw Error(errc::invalid_request, ModelKey(), Stage::inference,
                            "the model makes no difference between queries and documents; leave RequestOptions::as at "
                            "as_is");
            }
        }
        return call_embed(*model_, texts, as, stop);
    }

private:
    std::unique_ptr<Model> model_;
};

/// A reranker behind its type-erased face.
template <RerankerModel Model>
class HeldRerankerModel final : public AnyRerankerModel {
public:
    explicit HeldRerankerModel(std::unique_ptr<Model> model)
        : AnyRerankerModel(AnyModelFacts::of(*model)), model_(std::move(model)) {}

    [[nodiscard]] std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                            const std::stop_token& stop) override {
        return call_rerank(*model_, query, documents, stop);
    }
    [[nodiscard]] std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop) override {
        if constexpr (ReranksPairs<Model>) {
            return call_rerank(*model_, pairs, stop);
        } else {
            throw Error(errc::invalid_request, ModelKey(), Stage::inference,
                        "the model takes the documents of one query at a time, and no pairs");
        }
    }

private:
    std::unique_ptr<Model> model_;
};

}  // namespace detail
}  // namespace residency
