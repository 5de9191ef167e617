#pragma once

#include "residency/backend.hpp"
#include "residency/backend_calls.hpp"
#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/model_memory.hpp"
#include "residency/runtime/asio.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency {

namespace detail {

/// What the slot asks of a model once, after its load.
struct AnyModelFacts {
    /// Of a model that answers asynchronously, or not, as one of the kind that it is held as.
    template <class Model>
    [[nodiscard]] static AnyModelFacts of(const Model& model, bool is_later) {
        return {concurrency_of(model), batch_limits_of(model), joins(model), residency::detail::distinguishes(model),
                is_later};
    }

    std::size_t max_concurrency;
    BatchLimits batch_limits;
    bool joins_requests;
    bool distinguishes;
    bool answers_asynchronously;
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
    /// Errors   what the model throws; invalid_request: `as` is not `as_is`, and the model's `embed` takes no
    ///          `EmbedAs`, or it answers asynchronously
    /// Threads  as the model's own
    [[nodiscard]] virtual Embeddings embed(std::span<const std::string> texts, EmbedAs as,
                                           const std::stop_token& stop) = 0;
    /// The same for texts as they are.
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) { return embed(texts, EmbedAs::as_is, {}); }
    /// Has the model embed, whether it answers asynchronously or not. Texts and token are there until it has.
    ///
    /// Errors   what the model throws; invalid_request: `as` is not `as_is`, and the model's `embed` takes no `EmbedAs`
    /// Threads  as the model's own
    [[nodiscard]] virtual asio::awaitable<Embeddings> embed_later(std::span<const std::string> texts, EmbedAs as,
                                                                  const std::stop_token& stop) {
        co_return embed(texts, as, stop);
    }

    /// What the model says, or no limit.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.max_concurrency; }
    /// What the model says, or those of one whose calls are not shared.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return facts_.batch_limits; }
    /// Whether it answers asynchronously: then the slot awaits `embed_later`, and calls `embed` if not.
    [[nodiscard]] bool answers_asynchronously() const noexcept { return facts_.answers_asynchronously; }
    /// Whether requests may share its calls.
    [[nodiscard]] bool joins_requests() const noexcept { return facts_.joins_requests; }
    /// Whether queries and documents differ for it.
    [[nodiscard]] bool distinguishes() const noexcept { return facts_.distinguishes; }
    /// How many bytes the model holds now; no value if it does not say.
    ///
    /// Errors   what the model throws
    /// Threads  any
    [[nodiscard]] virtual std::optional<std::size_t> memory_used() const = 0;

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
    /// Errors   what the model throws; invalid_request: it answers asynchronously
    /// Threads  as the model's own
    [[nodiscard]] virtual std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                                    const std::stop_token& stop) = 0;
    /// Has the model score pairs of several queries.
    ///
    /// Errors   what the model throws; invalid_request: it takes no pairs, and the slot does not call it then, or it
    ///          answers asynchronously
    /// Threads  as the model's own
    [[nodiscard]] virtual std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop) = 0;
    /// Has the model score the documents, whether it answers asynchronously or not. Query, documents and token are
    /// there until it has.
    ///
    /// Errors   what the model throws
    /// Threads  as the model's own
    [[nodiscard]] virtual asio::awaitable<std::vector<float>> rerank_later(std::string_view query,
                                                                           std::span<const std::string> documents,
                                                                           const std::stop_token& stop) {
        co_return rerank(query, documents, stop);
    }
    /// The same for pairs of several queries.
    ///
    /// Errors   what the model throws; invalid_request: it takes no pairs
    /// Threads  as the model's own
    [[nodiscard]] virtual asio::awaitable<std::vector<float>> rerank_later(std::span<const RerankPair> pairs,
                                                                           const std::stop_token& stop) {
        co_return rerank(pairs, stop);
    }

    /// What the model says, or no limit.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.max_concurrency; }
    /// What the model says, or those of one whose calls are not shared.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return facts_.batch_limits; }
    /// Whether it answers asynchronously: then the slot awaits `rerank_later`, and calls `rerank` if not.
    [[nodiscard]] bool answers_asynchronously() const noexcept { return facts_.answers_asynchronously; }
    /// Whether requests may share its calls: it has batch limits, and takes pairs.
    [[nodiscard]] bool joins_requests() const noexcept { return facts_.joins_requests; }
    /// How many bytes the model holds now; no value if it does not say.
    ///
    /// Errors   what the model throws
    /// Threads  any
    [[nodiscard]] virtual std::optional<std::size_t> memory_used() const = 0;

protected:
    /// What the model says of itself.
    explicit AnyRerankerModel(const detail::AnyModelFacts& facts) noexcept : facts_(facts) {}

private:
    detail::AnyModelFacts facts_;
};

namespace detail {

/// Whether what a model gives for a `Result` can be passed on: it, or an
/// awaitable of it with the default executor.
template <class Given, class Result>
inline constexpr bool can_be_passed_on =
    std::is_same_v<Given, Result> || std::is_same_v<Given, asio::awaitable<Result>>;

/// What a synchronous call of an asynchronous model throws.
[[nodiscard]] inline Error answers_later(const std::string& instead) {
    return Error(errc::invalid_request, ModelKey(), Stage::inference,
                 "the model answers asynchronously; await its " + instead + " instead");
}

/// An embedding model behind its type-erased face.
template <EmbeddingModel Model>
class HeldEmbeddingModel final : public AnyEmbeddingModel {
    static_assert(can_be_passed_on<decltype(call_embed(std::declval<Model&>(), std::span<const std::string>(),
                                                       EmbedAs::as_is, std::stop_token())),
                                   Embeddings>,
                  "what an asynchronous model gives must be a boost::asio::awaitable whose executor is "
                  "boost::asio::any_io_executor, its default");

public:
    explicit HeldEmbeddingModel(std::unique_ptr<Model> model)
        : AnyEmbeddingModel(AnyModelFacts::of(*model, EmbedsLater<Model>)), model_(std::move(model)) {}

    [[nodiscard]] Embeddings embed(std::span<const std::string> texts, EmbedAs as,
                                   const std::stop_token& stop) override {
        if constexpr (EmbedsLater<Model>) {
            throw answers_later("embed_later");
        } else {
            demand_taken(as);
            return call_embed(*model_, texts, as, stop);
        }
    }
    [[nodiscard]] asio::awaitable<Embeddings> embed_later(std::span<const std::string> texts, EmbedAs as,
                                                          const std::stop_token& stop) override {
        if constexpr (EmbedsLater<Model>) {
            demand_taken(as);
            return call_embed(*model_, texts, as, stop);
        } else {
            return AnyEmbeddingModel::embed_later(texts, as, stop);
        }
    }
    [[nodiscard]] std::optional<std::size_t> memory_used() const override { return memory_used_of(*model_); }

private:
    static void demand_taken(EmbedAs as) {
        if (!takes_embed_as<Model> && as != EmbedAs::as_is) {
            throw Error(errc::invalid_request, ModelKey(), Stage::inference,
                        "the model makes no difference between queries and documents; leave RequestOptions::as at "
                        "as_is");
        }
    }

    std::unique_ptr<Model> model_;
};

/// A reranker behind its type-erased face.
template <RerankerModel Model>
class HeldRerankerModel final : public AnyRerankerModel {
    static_assert(can_be_passed_on<decltype(call_rerank(std::declval<Model&>(), std::string_view(),
                                                        std::span<const std::string>(), std::stop_token())),
                                   std::vector<float>>,
                  "what an asynchronous model gives must be a boost::asio::awaitable whose executor is "
                  "boost::asio::any_io_executor, its default");
    static_assert(reranks_pairs_alike<Model>,
                  "both forms of rerank, of documents and of pairs, must answer asynchronously, or neither");

public:
    explicit HeldRerankerModel(std::unique_ptr<Model> model)
        : AnyRerankerModel(AnyModelFacts::of(*model, ReranksLater<Model>)), model_(std::move(model)) {}

    [[nodiscard]] std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                            const std::stop_token& stop) override {
        if constexpr (ReranksLater<Model>) {
            throw answers_later("rerank_later");
        } else {
            return call_rerank(*model_, query, documents, stop);
        }
    }
    [[nodiscard]] std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop) override {
        if constexpr (!ReranksPairs<Model>) {
            throw takes_no_pairs();
        } else if constexpr (ReranksLater<Model>) {
            throw answers_later("rerank_later");
        } else {
            return call_rerank(*model_, pairs, stop);
        }
    }
    [[nodiscard]] asio::awaitable<std::vector<float>> rerank_later(std::string_view query,
                                                                   std::span<const std::string> documents,
                                                                   const std::stop_token& stop) override {
        if constexpr (ReranksLater<Model>) {
            return call_rerank(*model_, query, documents, stop);
        } else {
            return AnyRerankerModel::rerank_later(query, documents, stop);
        }
    }
    [[nodiscard]] asio::awaitable<std::vector<float>> rerank_later(std::span<const RerankPair> pairs,
                                                                   const std::stop_token& stop) override {
        if constexpr (ReranksPairs<Model> && ReranksLater<Model>) {
            return call_rerank(*model_, pairs, stop);
        } else {
            return AnyRerankerModel::rerank_later(pairs, stop);
        }
    }
    [[nodiscard]] std::optional<std::size_t> memory_used() const override { return memory_used_of(*model_); }

private:
    [[nodiscard]] static Error takes_no_pairs() {
        return Error(errc::invalid_request, ModelKey(), Stage::inference,
                     "the model takes the documents of one query at a time, and no pairs");
    }

    std::unique_ptr<Model> model_;
};

}  // namespace detail
}  // namespace residency
