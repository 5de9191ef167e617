#pragma once

#include "residency/backend.hpp"
#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/client.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/backends/remote/probe.hpp"
#include "residency/backends/remote/rerank_question.hpp"
#include "residency/batch_limits.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency {

/// A reranker that answers at one or several endpoints. Made by `RemoteRerankerBackend`; its destructor closes the
/// connections.
class RemoteReranker {
public:
    /// What `RemoteRerankerBackend::load` calls.
    RemoteReranker(std::unique_ptr<detail::remote::Client> client, std::string name)
        : client_(std::move(client)), name_(std::move(name)) {}

    /// Scores the documents, in their order; greater is better. Scores are the endpoint's own: llama-server gives
    /// logits, most others numbers from 0 to 1. More documents than `texts_per_request` are several HTTP requests, one
    /// after the other. An endpoint that compares the documents of a request with one another (a listwise reranker)
    /// needs a `texts_per_request` no smaller than the longest list, or its scores cannot be compared. Bytes that are
    /// not UTF-8 are sent as U+FFFD.
    ///
    /// Completes when the last answer has been read, `stop` is requested, or `request_timeout` is over for one of them
    /// Errors    invalid_request: the endpoint refused the texts (400, 413, 422). overloaded: it has too much to do
    ///           (429, or 503 with a `Retry-After`, which is `retry_after()`). bad_result: wrong number of scores, or
    ///           one that is a NaN or infinite. inference_failed: no connection, no whole answer in time, or any other
    ///           answer.
    ///           operation_aborted: `stop` was requested, or the coroutine was cancelled. Each names the endpoint, and
    ///           what it said.
    /// Cancel    any type: closes the connection
    /// Threads   any number of calls at once, on any executors; each on one thread at a time
    [[nodiscard]] asio::awaitable<std::vector<float>> rerank(std::string_view query,
                                                             std::span<const std::string> documents,
                                                             std::stop_token stop) {
        const std::size_t most = client_->options().texts_per_request;
        std::vector<float> scores;
        while (scores.size() < documents.size()) {
            const std::size_t done = scores.size();
            const std::size_t count = (std::min)(most, documents.size() - done);
            detail::remote::RerankQuestion question(name_, query, documents.subspan(done, count));
            try {
                co_await client_->ask(question, Stage::inference, stop);
            } catch (const Error& error) {
                if (!error.text_index() || done == 0) {
                    throw;
                }
                throw error.at_text(done + *error.text_index(), "document");
            }
            const std::vector<float> more = question.take_scores();
            scores.insert(scores.end(), more.begin(), more.end());
        }
        co_return scores;
    }

    /// How many calls run at once: the connections to all endpoints.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return client_->max_concurrency(); }
    /// How much one call does best with: `texts_per_request` documents. A slot cuts larger requests, so that others run
    /// between their parts. It never joins two: an HTTP request has one query in each dialect.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return {.texts = client_->options().texts_per_request}; }

private:
    std::unique_ptr<detail::remote::Client> client_;
    std::string name_;
};

/// "Loads" rerankers that endpoints answer for; satisfies `RerankerBackend`.
class RemoteRerankerBackend {
public:
    /// The type of the models.
    using model_type = RemoteReranker;

    /// Throws std::invalid_argument, naming the field, if an option is not what its doc demands.
    explicit RemoteRerankerBackend(RemoteRerankerOptions options) : options_(std::move(options)) {
        options_.model = detail::remote::checked(std::move(options_.model));
    }

    /// Asks an endpoint to score a short text: loaded is a model that answers. Each endpoint is asked once, until one
    /// answers that is up.
    ///
    /// Errors   as those of `RemoteEmbeddingBackend::load`
    /// Threads  any, several at once
    [[nodiscard]] std::unique_ptr<RemoteReranker> load(const ModelKey& key, LoadContext& context) const {
        std::string name = detail::remote::name_of(options_.model, key);
        auto client = std::make_unique<detail::remote::Client>(options_.model, key);
        const std::vector<std::string> documents{"a"};
        detail::remote::RerankQuestion question(name, "a", documents);
        detail::remote::probe(*client, question, context);
        return std::make_unique<RemoteReranker>(std::move(client), std::move(name));
    }

private:
    RemoteRerankerOptions options_;
};

static_assert(RerankerBackend<RemoteRerankerBackend>);

}  // namespace residency
