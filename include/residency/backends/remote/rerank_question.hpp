#pragma once

#include "residency/backends/remote/endpoint.hpp"
#include "residency/backends/remote/json.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/backends/remote/question.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::remote {

/// Asks for the scores of documents.
class RerankQuestion final : public Question {
public:
    /// Asks for the scores of `documents` to `query` by `model`; all outlive it.
    RerankQuestion(std::string_view model, std::string_view query, std::span<const std::string> documents) noexcept
        : model_(model), query_(query), documents_(documents) {}

    [[nodiscard]] std::string_view noun() const noexcept override { return "document"; }

    [[nodiscard]] Post post(const Endpoint& endpoint) override {
        Post post;
        std::string& body = post.body;
        const bool is_tei = endpoint.dialect == RemoteDialect::tei;
        post.path = endpoint.dialect == RemoteDialect::cohere ? "/v2/rerank" : "/rerank";
        if (is_tei) {
            body = R"({"truncate":false,"raw_scores":false,"return_text":false,"query":)";
        } else {
            body = R"({"model":)";
            append_string(body, model_);
            body += R"(,"top_n":)" + std::to_string(documents_.size());
            if (endpoint.dialect == RemoteDialect::openai) {
                body += R"(,"return_documents":false)";
            }
            body += R"(,"query":)";
        }
        append_string(body, query_);
        body += is_tei ? R"(,"texts":)" : R"(,"documents":)";
        append_strings(body, documents_);
        body += '}';
        return post;
    }

    void read(Endpoint& endpoint, std::string_view body) override {
        const Json json(body);
        const bool is_tei = endpoint.dialect == RemoteDialect::tei;
        const boost::json::array& results =
            is_tei ? array_of(&json.root(), "of scores") : array_of(member_of(json.root(), "results"), "`results`");
        const std::size_t count = documents_.size();
        if (results.size() != count) {
            throw Error(errc::bad_result, ModelKey(), Stage::inference,
                        "the answer has " + std::to_string(results.size()) + " scores for " + std::to_string(count) +
                            " documents");
        }
        scores_.assign(count, 0.0F);
        std::vector<bool> is_there(count);
        for (const boost::json::value& result : results) {
            const boost::json::value* const index = member_of(result, "index");
            if (index == nullptr) {
                throw BrokenAnswer("the answer has a score without an index");
            }
            const std::size_t place = index_of(result, 0, count);
            if (is_there[place]) {
                throw BrokenAnswer("the answer has two scores for document " + std::to_string(place));
            }
            is_there[place] = true;
            // Some engines use text-embeddings-inference's name in the other form.
            const boost::json::value* score = member_of(result, is_tei ? "score" : "relevance_score");
            score = score == nullptr ? member_of(result, "score") : score;
            scores_[place] = float_of(score, "a score");
            if (!is_finite(scores_[place])) {
                throw Error(errc::bad_result, ModelKey(), Stage::inference, "its score is infinite or a NaN")
                    .at_text(place, "document");
            }
        }
    }

    /// The scores that `read` found, in the order of the documents.
    [[nodiscard]] std::vector<float> take_scores() noexcept { return std::move(scores_); }

private:
    std::string_view model_;
    std::string_view query_;
    std::span<const std::string> documents_;
    std::vector<float> scores_{};
};

}  // namespace residency::detail::remote
