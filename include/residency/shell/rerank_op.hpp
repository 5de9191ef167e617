#pragma once

#include "residency/backend.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"
#include "residency/options.hpp"
#include "residency/ranking.hpp"
#include "residency/shell/inference_op.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_ref.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace residency::detail {

/// One `rerank`: the query and the documents, and the call with its result checked and put in order.
template <class Model>
struct RerankWork {
    using result_type = Ranking;
    static constexpr bool stoppable = ReranksWithToken<Model>;

    std::string query;
    std::vector<std::string> documents;
    // Room for the answer, so that it needs no memory when the model has given it.
    Ranking ranking = Ranking(documents.size());

    [[nodiscard]] Ranking operator()(Model& model, const std::stop_token& stop) {
        const std::vector<float> scores = call_rerank(model, query, documents, stop);
        if (scores.size() != documents.size()) {
            bad_result("the model gave " + std::to_string(scores.size()) + " scores for " +
                       std::to_string(documents.size()) + " documents");
        }
        const auto odd = std::find_if(scores.begin(), scores.end(), [](const float& score) { return is_nan(score); });
        if (odd != scores.end()) {
            bad_result("the model gave a NaN as the score of document " + std::to_string(odd - scores.begin()));
        }
        rank(scores, ranking);
        return std::move(ranking);
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
        start_inference<Model>(std::forward<Handler>(handler), slot.owner(), key, options, std::move(error),
                               nothing_to_do, RerankWork<Model>{std::move(query), std::move(documents)});
    }
};

}  // namespace residency::detail
