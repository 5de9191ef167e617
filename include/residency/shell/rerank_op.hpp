#pragma once

#include "residency/backend.hpp"
#include "residency/backend_calls.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/text_lengths.hpp"
#include "residency/embed_as.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"
#include "residency/options.hpp"
#include "residency/ranking.hpp"
#include "residency/shell/inference_op.hpp"
#include "residency/shell/model_call.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_ref.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail {

/// One `rerank`: the query and the documents, and the call with its result checked and put in order.
template <class Model>
struct RerankWork {
    static_assert(reranks_pairs_alike<Model>,
                  "both forms of rerank, of documents and of pairs, must answer asynchronously, or neither");

    using model_type = Model;
    using result_type = Ranking;
    /// What the model gives.
    using given_type = std::vector<float>;
    static constexpr bool is_asynchronous = is_given_later<decltype(call_rerank(
        std::declval<Model&>(), std::string_view(), std::span<const std::string>(), std::stop_token()))>();
    static constexpr bool may_be_asynchronous = is_asynchronous || SaysHowItAnswers<Model>;
    static constexpr bool stoppable = is_asynchronous || ReranksWithToken<Model> || ReranksPairsWithToken<Model>;
    static constexpr bool joins = joins_requests<Model>;
    static constexpr bool splits = SaysBatchLimits<Model>;
    static constexpr std::string_view noun = "document";

    std::string query;
    std::vector<std::string> documents;
    // Room for the answer, so that it needs no memory when the model has given it.
    Ranking ranking = Ranking(documents.size());

    [[nodiscard]] core::Index size() const noexcept { return static_cast<core::Index>(documents.size()); }
    [[nodiscard]] core::Index bytes() const noexcept { return bytes_of(documents, query.size()); }
    [[nodiscard]] static EmbedAs kind() noexcept { return EmbedAs::as_is; }
    [[nodiscard]] std::size_t hash() const noexcept { return hash_of(documents, std::hash<std::string>()(query)); }

    // -- What parts need --
    /// The scores of the parts that have ended. From any thread.
    class Assembly {
    public:
        explicit Assembly(const RerankWork& work) : scores_(work.documents.size()), ranking_(work.documents.size()) {}
        /// The scores of documents from `place` on.
        void put(const core::TextLengths& lengths, std::size_t place, const std::vector<float>& scores,
                 std::size_t /*of*/, Generation /*by*/) noexcept {
            for (std::size_t index = 0; index < scores.size(); ++index) {
                scores_[lengths[place + index]] = scores[index];
            }
        }
        [[nodiscard]] Ranking finish() noexcept {
            rank(scores_, ranking_);
            return std::move(ranking_);
        }

    private:
        std::vector<float> scores_;
        Ranking ranking_;
    };

    [[nodiscard]] std::span<const std::string> cut_texts() const noexcept { return documents; }
    [[nodiscard]] std::vector<std::string>& own() noexcept { return documents; }

    // -- One model call for some documents of this request --
    template <bool asynchronously>
    [[nodiscard]] auto call(Model& model, std::span<const std::string> some, const std::stop_token& stop) const {
        if constexpr (asynchronously && SaysHowItAnswers<Model>) {
            return model.rerank_later(query, some, stop);
        } else {
            return call_rerank(model, query, some, stop);
        }
    }
    /// Throws bad_result unless these can be the scores of so many documents.
    static void demand(std::span<const float> scores, std::size_t count) {
        demand_scores(scores, count);
        demand_numbers(scores);
    }
    /// The result of a call for all documents. Throws bad_result.
    [[nodiscard]] Ranking result_of(const std::vector<float>& scores) {
        demand(scores, documents.size());
        rank(scores, ranking);
        return std::move(ranking);
    }

    // -- One model call for several requests --
    using input_type = std::vector<RerankPair>;
    using Calls = CallMembers<RerankWork>;

    /// Puts their pairs together. Throws bad_alloc.
    [[nodiscard]] static input_type gather(const Calls& calls) {
        input_type pairs;
        std::size_t count = 0;
        calls.for_each([&](const auto& call) { count += call.work.documents.size(); });
        pairs.reserve(count);
        calls.for_each([&](const auto& call) {
            for (const std::string& document : call.work.documents) {
                pairs.push_back({call.work.query, document});
            }
        });
        return pairs;
    }
    /// They have their texts still.
    static void give_back(const Calls& /*calls*/, const input_type& /*pairs*/) noexcept {}
    template <bool asynchronously>
    [[nodiscard]] static auto call_for(const Calls& /*calls*/, Model& model, const input_type& pairs,
                                       const std::stop_token& stop) {
        if constexpr (asynchronously && SaysHowItAnswers<Model>) {
            return model.rerank_later(pairs, stop);
        } else {
            return call_rerank(model, std::span<const RerankPair>(pairs), stop);
        }
    }
    /// Gives each its ranking. Throws bad_result, and then none has got anything.
    static void share(const Calls& calls, std::span<const float> scores, const input_type& pairs) {
        demand_scores(scores, pairs.size());
        calls.for_each([&](auto& call) {
            const std::size_t own = call.work.documents.size();
            try {
                demand_numbers(scores.first(own));
                rank(scores.first(own), call.work.ranking);
                call.answer.result = std::move(call.work.ranking);
            } catch (...) {
                call.answer.error = call.failure(std::current_exception());
            }
            scores = scores.subspan(own);
        });
    }

private:
    static void demand_scores(std::span<const float> scores, std::size_t documents) {
        if (scores.size() != documents) {
            bad_result("the model gave " + std::to_string(scores.size()) + " scores for " + std::to_string(documents) +
                       " documents");
        }
    }
    static void demand_numbers(std::span<const float> scores) {
        const auto odd = std::find_if(scores.begin(), scores.end(), [](const float& score) { return is_nan(score); });
        if (odd != scores.end()) {
            bad_result("the model gave a NaN as its score", static_cast<std::size_t>(odd - scores.begin()));
        }
    }
};

/// Starts `async_rerank`.
template <class Slot, class Model>
struct InitiateRerank {
    SlotRef<Slot> slot;

    template <class Handler>
    void operator()(Handler&& handler, const ModelKey& key, std::string query, std::vector<std::string> documents,
                    const RequestOptions& options) const {
        std::exception_ptr error = invalid(key, options);
        if (!error && query.empty()) {
            error = make_error(Error(errc::invalid_request, key, Stage::admission, "the query is empty"));
        }
        const bool nothing_to_do = documents.empty();
        start_inference(std::forward<Handler>(handler), slot.owner(), key, options, std::move(error), nothing_to_do,
                        RerankWork<Model>{std::move(query), std::move(documents)});
    }
};

}  // namespace residency::detail
