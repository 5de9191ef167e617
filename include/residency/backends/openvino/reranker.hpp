#pragma once

#include "residency/backend.hpp"
#include "residency/backends/openvino/batch.hpp"
#include "residency/backends/openvino/engine.hpp"
#include "residency/backends/openvino/loaded_model.hpp"
#include "residency/backends/openvino/loading.hpp"
#include "residency/backends/openvino/model_sizes.hpp"
#include "residency/backends/openvino/options.hpp"
#include "residency/backends/openvino/pair_template.hpp"
#include "residency/backends/openvino/runtime.hpp"
#include "residency/batch_limits.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <cmath>
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

namespace residency {

/// A reranker that OpenVINO computes. Made by `OpenVinoRerankerBackend`; its destructor frees it.
class OpenVinoRerankerModel {
public:
    /// What `OpenVinoRerankerBackend::load` calls; `form` is how a query and a document become one sequence.
    OpenVinoRerankerModel(std::unique_ptr<detail::openvino::LoadedModel> model, detail::openvino::PairTemplate form,
                          const OpenVinoRerankerOptions& options)
        : model_(std::move(model)),
          form_(std::move(form)),
          truncate_(options.model.truncate),
          logistic_(options.score == OpenVinoScore::logistic) {}

    /// Scores each document for the query, in the documents' order; greater is better.
    ///
    /// Query and document are joined as the model's tokenizer does it. The pairs of a call share sub-batches; what
    /// shares one with a pair changes no more than the rounding of its score. No text makes control tokens. Bytes that
    /// are not UTF-8 are unknown, or nothing; a NUL is nothing.
    ///
    /// Errors   invalid_request, before any pair is computed: a pair has no tokens, or more than the limit and
    ///          `truncate` is off, the query leaves no room for a token of a document, or a text has more than 16 MiB;
    ///          `text_index()` is the document at fault, none if it is the query. inference_failed: OpenVINO could not
    ///          compute it, or an inference of the model has failed before: it is to be unloaded. operation_aborted:
    ///          `stop` was requested, while it read texts, while it waited for a stream, or between two sub-batches.
    ///          Out of memory: std::bad_alloc, or inference_failed.
    /// Threads  any number at once; more than `max_concurrency()` wait for one another
    [[nodiscard]] std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                            const std::stop_token& stop = {}) {
        const detail::openvino::Engine::Scope use;
        model_->demand_engine(use);
        if (documents.empty()) {
            return {};
        }
        const std::vector<std::string> queries{std::string(query)};
        require_readable_query(queries[0]);
        for (std::size_t index = 0; index < documents.size(); ++index) {
            model_->require_readable(documents[index], index, noun);
        }
        return score(queries, documents, std::vector<std::size_t>(documents.size(), 0), stop);
    }

    /// The same for pairs of any queries, whose scores come in their order. Pairs of one query should follow one
    /// another: the query is then read once. Errors of a query have the index of the first of them.
    [[nodiscard]] std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop = {}) {
        const detail::openvino::Engine::Scope use;
        model_->demand_engine(use);
        if (pairs.empty()) {
            return {};
        }
        std::vector<std::string> queries;
        std::vector<std::string> documents;
        std::vector<std::size_t> query_of;
        documents.reserve(pairs.size());
        for (std::size_t index = 0; index < pairs.size(); ++index) {
            if (index == 0 || pairs[index].query != pairs[index - 1].query) {
                queries.emplace_back(pairs[index].query);
                with_index_of(index, [&] { require_readable_query(queries.back()); });
            }
            query_of.push_back(queries.size() - 1);
            documents.emplace_back(pairs[index].document);
            model_->require_readable(documents.back(), index, noun);
        }
        return score(queries, documents, query_of, stop);
    }

    /// How many tokens a query with its document may have, those that join them included.
    [[nodiscard]] std::size_t context_tokens() const noexcept { return model_->limit(); }
    /// How many calls run at once: the streams.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return model_->streams(); }
    /// How much one call does best with, as `OpenVinoModelOptions::batch_tokens` makes it.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return model_->batch_limits(); }
    /// How many bytes it takes once each stream has computed the largest sub-batch, as its weights, its streams and
    /// their precision make it. OpenVINO does not say itself what it takes.
    [[nodiscard]] std::size_t memory_used() const noexcept { return model_->memory_used(); }

private:
    static constexpr std::string_view noun = "document";

    template <class Call>
    static void with_index_of(std::size_t pair, const Call& call) {
        try {
            call();
        } catch (const Error& error) {
            throw error.at_text(pair, noun);
        }
    }

    void require_readable_query(const std::string& query) const {
        if (query.size() > detail::openvino::most_bytes) {
            throw model_->error(errc::invalid_request, "the query has " + std::to_string(query.size()) +
                                                           " bytes, and the limit is " +
                                                           std::to_string(detail::openvino::most_bytes));
        }
    }

    void require_room(const detail::openvino::Tokens& query) const {
        if (const std::size_t size = query.size() + form_.added(); size >= model_->limit()) {
            throw model_->error(errc::invalid_request, "the query makes " + std::to_string(size) +
                                                           " tokens without a document, and the limit is " +
                                                           std::to_string(model_->limit()) +
                                                           ": there is no room for one token of a document");
        }
    }

    [[nodiscard]] detail::openvino::Sequence join(const detail::openvino::Tokens& query,
                                                  std::span<const std::int64_t> document, std::size_t index) const {
        if (form_.added() + query.size() + document.size() == 0) {
            throw model_->error(errc::invalid_request, "it has no tokens, nor has the query").at_text(index, noun);
        }
        const std::size_t room = model_->limit() - form_.added() - query.size();
        if (document.size() > room) {
            if (!truncate_) {
                throw model_
                    ->error(errc::invalid_request,
                            "it has " + std::to_string(query.size() + form_.added() + document.size()) +
                                " tokens with the query, and the limit is " + std::to_string(model_->limit()) +
                                "; option model.truncate cuts such documents")
                    .at_text(index, noun);
            }
            document = document.first(room);
        }
        return form_.join(query, document);
    }

    // The score of each document for the query that `query_of` says; the indices in that rise.
    [[nodiscard]] std::vector<float> score(const std::vector<std::string>& queries,
                                           std::span<const std::string> documents,
                                           const std::vector<std::size_t>& query_of, const std::stop_token& stop) {
        using namespace detail::openvino;
        std::vector<float> scores(documents.size());
        model_->with_worker(stop, [&](Worker& worker) {
            const auto go_on = [&] { model_->go_on_unless(stop); };
            const Tokenizer& tokenizer = model_->tokenizer();
            const std::vector<Tokens> read_queries = tokenizer.tokenize(worker.tokenizer, queries, go_on);
            if (queries.size() == 1) {
                require_room(read_queries[0]);
            }
            const std::vector<Tokens> read_documents = tokenizer.tokenize(worker.tokenizer, documents, go_on);
            std::vector<Sequence> sequences;
            sequences.reserve(documents.size());
            for (std::size_t index = 0; index < documents.size(); ++index) {
                const Tokens& query = read_queries[query_of[index]];
                if (queries.size() > 1) {
                    with_index_of(index, [&] { require_room(query); });
                }
                sequences.push_back(join(query, read_documents[index], index));
            }
            model_->compute(worker, sequences, stop, [&](std::size_t index, const Row& row) {
                scores[index] = logistic_ ? 1.0F / (1.0F + std::exp(-row.values[0])) : row.values[0];
            });
        });
        return scores;
    }

    std::unique_ptr<detail::openvino::LoadedModel> model_;
    detail::openvino::PairTemplate form_;
    bool truncate_;
    bool logistic_;
};

/// Loads rerankers from OpenVINO and ONNX folders; satisfies `RerankerBackend`.
class OpenVinoRerankerBackend {
public:
    /// The type of the models.
    using model_type = OpenVinoRerankerModel;

    /// Throws std::invalid_argument, naming the field, if an option is not what its doc demands.
    explicit OpenVinoRerankerBackend(OpenVinoRerankerOptions options) : options_(std::move(options)) {
        options_.model = detail::openvino::checked(std::move(options_.model));
    }

    /// Loads the model of `key`. The output that it reads is `logits`, which must be one number a pair. How the
    /// tokenizer joins pairs is what it says, or else what it does, if it has two inputs.
    ///
    /// Errors   invalid_request: the key leads out of the folder. operation_aborted: stop was requested. load_failed,
    ///          with the path and the reason: there is no such folder, a file is missing in it or cannot be read,
    ///          OpenVINO cannot read or compile it, it is an embedder, its head gives several scores, its inputs are
    ///          not those of a reranker, its tokenizer does not join pairs, `context_tokens` is more than it takes, or
    ///          nothing says how many it takes. Out of memory: std::bad_alloc, or load_failed.
    /// Threads  any, several at once
    [[nodiscard]] std::unique_ptr<OpenVinoRerankerModel> load(const ModelKey& key, LoadContext& context) const {
        detail::openvino::Loading loading(options_.model, key, context);
        auto model = loading.run(detail::openvino::Gives::less, [&loading](const ov::Model& read) {
            const auto logits = detail::openvino::output_named(read, "logits");
            if (!logits) {
                loading.fail("it is no reranker: it has no output logits; load it with OpenVinoEmbeddingBackend");
            }
            const ov::PartialShape shape = read.output(*logits).get_partial_shape();
            if (shape.rank().is_dynamic() || shape.size() != 2 || shape[1] != 1) {
                loading.fail("its output logits has the shape " + shape.to_string() +
                             ", and a reranker gives one score a pair");
            }
            if (!loading.pair_template()) {
                loading.fail(
                    "its tokenizer does not say how a query and a document are joined, and takes one text; `"
                    "convert_tokenizer MODEL -o FOLDER --number-of-inputs 2` writes one that takes two");
            }
            return *logits;
        });
        return std::make_unique<OpenVinoRerankerModel>(std::move(model), *loading.pair_template(), options_);
    }

    /// Whether there may be a folder for the key: in a folder of models, whether there is one. If not, the slot answers
    /// `unknown_model` and unloads no model for it. Where a function gives the path, always.
    [[nodiscard]] bool knows(const ModelKey& key) const noexcept { return options_.model.folders.may_have(key); }

    /// How many bytes the model of `key` will take at most, as its files say: weights, streams, and for each stream the
    /// largest sub-batch that there may be, which is one of `batch_tokens` or the longest text.
    ///
    /// Errors   those of `load` that the files show without being read in whole
    /// Threads  any, several at once
    [[nodiscard]] std::size_t memory_needed(const ModelKey& key) const {
        LoadContext context;
        return detail::openvino::Loading(options_.model, key, context).memory_needed(detail::openvino::Gives::less);
    }

    /// What `ClosesEngine` asks for.
    static void close_engine() noexcept { detail::openvino::Engine::close(); }

private:
    OpenVinoRerankerOptions options_;
};

static_assert(RerankerBackend<OpenVinoRerankerBackend>);

}  // namespace residency
