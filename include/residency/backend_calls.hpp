#pragma once

// Version 14 takes concepts apart, as in backend.hpp.
// clang-format off

#include "residency/backend.hpp"
#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>

// How the library calls backends and models, and what it asks them, whichever of the forms they have that the concepts
// of backend.hpp allow.

namespace residency::detail {

/// Calls whichever `load` the backend has; the one that takes most wins.
template <ModelBackend Backend>
std::unique_ptr<typename Backend::model_type> call_load(Backend& backend, const ModelKey& key, LoadContext& context) {
    if constexpr (LoadsWithContext<Backend>) {
        return backend.load(key, context);
    } else if constexpr (LoadsWithToken<Backend>) {
        return backend.load(key, context.stop_token());
    } else {
        return backend.load(key);
    }
}

/// Whether the backend knows the key; one that does not say so may know any.
template <ModelBackend Backend>
[[nodiscard]] bool call_knows(const Backend& backend, const ModelKey& key) {
    if constexpr (SaysWhatItKnows<Backend>) {
        return backend.knows(key);
    } else {
        static_assert(!requires(Backend& asked) { asked.knows(key); }, "knows() must be const and give a bool");
        return true;
    }
}

/// Whether the model's `embed` takes an `EmbedAs`.
template <class Model>
inline constexpr bool takes_embed_as = EmbedsAsWithToken<Model> || EmbedsAs<Model>;

/// Calls whichever `embed` the model has; one that takes an `EmbedAs` wins. Precondition: `as` is `as_is`, or there is
/// such a one.
template <EmbeddingModel Model>
auto call_embed(Model& model, std::span<const std::string> texts, EmbedAs as, const std::stop_token& stop) {
    if constexpr (EmbedsAsWithToken<Model>) {
        return model.embed(texts, as, stop);
    } else if constexpr (EmbedsAs<Model>) {
        return model.embed(texts, as);
    } else if constexpr (EmbedsWithToken<Model>) {
        return model.embed(texts, stop);
    } else {
        return model.embed(texts);
    }
}

/// Calls whichever `rerank` the model has.
template <RerankerModel Model>
auto call_rerank(Model& model, std::string_view query, std::span<const std::string> documents,
                               const std::stop_token& stop) {
    if constexpr (ReranksWithToken<Model>) {
        return model.rerank(query, documents, stop);
    } else {
        return model.rerank(query, documents);
    }
}

/// Calls whichever `rerank` of pairs the model has.
template <ReranksPairs Model>
auto call_rerank(Model& model, std::span<const RerankPair> pairs, const std::stop_token& stop) {
    if constexpr (ReranksPairsWithToken<Model>) {
        return model.rerank(pairs, stop);
    } else {
        return model.rerank(pairs);
    }
}

// Whether the model gives what is awaited.
template <class Model>
concept EmbedsLater = EmbeddingModel<Model> && requires(Model& model, std::span<const std::string> texts) {
    typename decltype(call_embed(model, texts, EmbedAs::as_is, {}))::executor_type;
};
template <class Model>
concept ReranksLater = RerankerModel<Model> && requires(Model& model, std::span<const std::string> documents) {
    typename decltype(call_rerank(model, {}, documents, {}))::executor_type;
};

template <class Model>
concept ReranksPairsLater = ReranksPairs<Model> && requires(Model& model, std::span<const RerankPair> pairs) {
    typename decltype(call_rerank(model, pairs, {}))::executor_type;
};

/// Whether the model's `rerank` of pairs, if it has that, answers asynchronously exactly if the other does.
template <class Model>
inline constexpr bool reranks_pairs_alike = !ReranksPairs<Model> || ReranksPairsLater<Model> == ReranksLater<Model>;

/// Whether a model that is there answers asynchronously: of whichever kind, if it embeds and reranks.
template <class Model>
bool answers_asynchronously(const Model& model) {
    if constexpr (SaysHowItAnswers<Model>) {
        return model.answers_asynchronously();
    } else {
        return EmbedsLater<Model> || ReranksLater<Model>;
    }
}

/// How much one call of this model does best with.
template <class Model>
BatchLimits batch_limits_of(const Model& model) {
    if constexpr (SaysBatchLimits<Model>) {
        return model.batch_limits();
    } else {
        static_assert(!requires(Model& asked) { asked.batch_limits(); },
                      "batch_limits() must be const and give a residency::BatchLimits");
        return {};
    }
}

/// Whether requests may share a call of this model: of whichever kind, if it embeds and reranks.
template <class Model>
inline constexpr bool joins_requests = SaysBatchLimits<Model> && (EmbeddingModel<Model> || RerankerModel<Model>) &&
                                       (!RerankerModel<Model> || ReranksPairs<Model>);

/// The same of a model that is there: one that is type-erased says it of what it holds.
template <class Model>
bool joins(const Model& model) {
    if constexpr (joins_requests<Model> && SaysWhetherItJoins<Model>) {
        return model.joins_requests();
    } else {
        return joins_requests<Model>;
    }
}

/// Whether queries and documents differ for this model.
template <class Model>
bool distinguishes(const Model& model) {
    if constexpr (SaysWhetherItDistinguishes<Model>) {
        return model.distinguishes();
    } else {
        static_assert(!requires(Model& asked) { asked.distinguishes(); },
                      "distinguishes() must be const and give a bool");
        return takes_embed_as<Model>;
    }
}

/// How many leases may live on this model at once; at least 1.
template <class Model>
std::size_t concurrency_of(const Model& model) {
    if constexpr (SaysConcurrency<Model>) {
        const auto limit = model.max_concurrency();
        if constexpr (std::is_signed_v<decltype(limit)>) {
            if (limit < 0) {
                return 1;
            }
        }
        return std::max<std::size_t>(1, static_cast<std::size_t>(limit));
    } else {
        static_assert(!requires(Model& asked) { asked.max_concurrency(); },
                      "max_concurrency() must be const and give a number");
        return static_cast<std::size_t>(-1);
    }
}

}  // namespace residency::detail
