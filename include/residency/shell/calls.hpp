#pragma once

#include "residency/backend.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/ranking.hpp"
#include "residency/shell/operations.hpp"
#include "residency/shell/slot_base.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::detail {

/// Throws bad_result.
[[noreturn]] inline void bad_result(const std::string& detail) {
    throw Error(errc::bad_result, ModelKey(), Stage::inference, detail);
}

/// One `embed`: the texts, and the call with its result checked.
template <class Model>
struct EmbedWork {
    using result_type = Embeddings;
    static constexpr bool stoppable = EmbedsWithToken<Model>;

    std::vector<std::string> texts;

    [[nodiscard]] Embeddings operator()(Model& model, const std::stop_token& stop) const {
        Embeddings embeddings = call_embed(model, texts, stop);
        if (embeddings.size() != texts.size()) {
            bad_result("the model gave " + std::to_string(embeddings.size()) + " rows for " +
                       std::to_string(texts.size()) + " texts");
        }
        const auto values = embeddings.values();
        const auto odd = std::find_if(values.begin(), values.end(), [](float value) { return std::isnan(value); });
        if (odd != values.end()) {
            const auto position = static_cast<std::size_t>(odd - values.begin());
            bad_result("the model gave a NaN in the row of text " + std::to_string(position / embeddings.dimension()));
        }
        return embeddings;
    }
};

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
        const auto odd = std::find_if(scores.begin(), scores.end(), [](float score) { return std::isnan(score); });
        if (odd != scores.end()) {
            bad_result("the model gave a NaN as the score of document " + std::to_string(odd - scores.begin()));
        }
        rank(scores, ranking);
        return std::move(ranking);
    }
};

/// Starts a call that is sound, or completes one that is not, or that has nothing to do.
template <class Model, class Handler, class Slot, class Work>
void start_call(Handler&& handler, const std::shared_ptr<Slot>& slot, const ModelKey& key,
                const RequestOptions& options, std::exception_ptr error, bool nothing_to_do, Work work) {
    using Plain = std::decay_t<Handler>;
    using Result = typename Work::result_type;
    if (!error && nothing_to_do && slot->closed()) {
        error = make_error(Error(errc::shutting_down, key, Stage::admission));
    }
    if (error || nothing_to_do) {
        deliver<std::exception_ptr, Result>(*slot, Plain(std::forward<Handler>(handler)), std::move(error), Result());
        return;
    }
    submit<InferenceOp<Plain, Model, Work>>(Plain(std::forward<Handler>(handler)), slot, key, options, std::move(work));
}

}  // namespace residency::detail
