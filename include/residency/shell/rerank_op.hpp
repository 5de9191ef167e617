#pragma once

#include "residency/backend.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/text_lengths.hpp"
#include "residency/embed_as.hpp"
#include "residency/error.hpp"
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
    using model_type = Model;
    using result_type = Ranking;
    static constexpr bool stoppable = ReranksWithToken<Model> || ReranksPairsWithToken<Model>;
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

    // -- What parts need --
    using part_type = std::vector<float>;

    /// The scores of the parts that have ended. From any thread.
    class Assembly {
    public:
        explicit Assembly(const RerankWork& work) : scores_(work.documents.size()), ranking_(work.documents.size()) {}
        /// The scores of documents from `place` on.
        void put(const core::TextLengths& lengths, std::size_t place, const std::vector<float>& scores,
                 std::size_t /*of*/) noexcept {
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
    [[nodiscard]] std::vector<std::string> take(const core::TextLengths& lengths, std::size_t first,
                                                std::size_t count) {
        return take_texts(documents, lengths, first, count);
    }
    [[nodiscard]] std::vector<float> call_part(Model& model, std::span<const std::string> part,
                                               const std::stop_token& stop) const {
        std::vector<float> scores = call_rerank(model, query, part, stop);
        demand_scores(scores, part.size());
        demand_numbers(scores);
        return scores;
    }

    [[nodiscard]] Ranking operator()(Model& model, const std::stop_token& stop) {
        const std::vector<float> scores = call_part(model, documents, stop);
        rank(scores, ranking);
        return std::move(ranking);
    }

    /// One call for several requests; each gets its ranking. If it throws, none has got anything.
    static void run_together(Model& model, std::span<ModelCall<RerankWork>* const> calls, const std::stop_token& stop) {
        std::vector<RerankPair> pairs;
        std::size_t count = 0;
        for (const auto* const call : calls) {
            count += call->work.documents.size();
        }
        pairs.reserve(count);
        for (const auto* const call : calls) {
            for (const std::string& document : call->work.documents) {
                pairs.push_back({call->work.query, document});
            }
        }
        const std::vector<float> all = call_rerank(model, pairs, stop);
        demand_scores(all, count);
        std::span<const float> scores = all;
        for (auto* const call : calls) {
            const std::size_t own = call->work.documents.size();
            try {
                demand_numbers(scores.first(own));
                rank(scores.first(own), call->work.ranking);
                call->answer.result = std::move(call->work.ranking);
            } catch (...) {
                call->answer.error = call->failure(std::current_exception());
            }
            scores = scores.subspan(own);
        }
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
