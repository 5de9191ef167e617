#pragma once

#include "residency/backend.hpp"
#include "residency/backends/llama_cpp/engine.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/loaded_model.hpp"
#include "residency/backends/llama_cpp/loading.hpp"
#include "residency/backends/llama_cpp/options.hpp"
#include "residency/backends/llama_cpp/pair_tokenizer.hpp"
#include "residency/backends/llama_cpp/rerank_template.hpp"
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

/// A reranker that llama.cpp computes. Made by `LlamaCppRerankerBackend`; its destructor frees it.
class LlamaCppRerankerModel {
public:
    /// What `LlamaCppRerankerBackend::load` calls; `form` is the model's rerank template, if it has one.
    LlamaCppRerankerModel(std::unique_ptr<detail::llama_cpp::LoadedModel> model,
                          std::optional<detail::llama_cpp::RerankTemplate> form, bool truncate, LlamaCppScore score)
        : model_(std::move(model)),
          form_(std::move(form)),
          truncate_(truncate),
          outputs_(llama_model_n_cls_out(model_->weights())),
          yes_(index_of_yes()),
          logistic_(score == LlamaCppScore::logistic && outputs_ == 1) {}

    /// Scores each document for the query, in the documents' order; greater is better.
    ///
    /// Query and document are joined as the model's rerank template says, or else as its vocabulary does. The pairs of
    /// a call share batches; what shares one with a pair changes no more than the rounding of its score. No text makes
    /// control tokens. Bytes that are not UTF-8 are read as U+FFFD.
    ///
    /// Errors   invalid_request, before any pair is computed: a pair has more tokens than the limit and `truncate` is
    ///          off, the query leaves no room for a token of a document, or a text has 2 GiB, or more than 32,768
    ///          characters without a break between words and llama.cpp would recurse for each, which depends on the
    ///          tokenizer; it says how many, and the limit, and `text_index()` is the document at fault, none if it is
    ///          the query. inference_failed: llama.cpp could not compute it. operation_aborted: `stop` was requested,
    ///          between two documents that are read, while it waited for a context, or while it computed. Out of
    ///          memory: std::bad_alloc, or inference_failed.
    /// Threads  any number at once; more than `max_concurrency()` wait for one another
    [[nodiscard]] std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                            const std::stop_token& stop = {}) {
        const detail::llama_cpp::Engine::Scope use;
        model_->demand_engine(use);
        if (documents.empty()) {
            return {};
        }
        const std::unique_ptr<detail::llama_cpp::PreparedQuery> prepared = prepare(query);
        std::vector<detail::llama_cpp::Tokens> sequences;
        sequences.reserve(documents.size());
        for (std::size_t index = 0; index < documents.size(); ++index) {
            model_->go_on_unless(stop);
            sequences.push_back(join(*prepared, documents[index], index));
        }
        return compute(sequences, stop);
    }

    /// The same for pairs of any queries, whose scores come in their order. Pairs of one query should follow one
    /// another: the query is then read once. Errors of a query have the index of the first of them.
    [[nodiscard]] std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop = {}) {
        const detail::llama_cpp::Engine::Scope use;
        model_->demand_engine(use);
        std::unique_ptr<detail::llama_cpp::PreparedQuery> prepared;
        std::vector<detail::llama_cpp::Tokens> sequences;
        sequences.reserve(pairs.size());
        for (std::size_t index = 0; index < pairs.size(); ++index) {
            model_->go_on_unless(stop);
            if (index == 0 || pairs[index].query != pairs[index - 1].query) {
                try {
                    prepared = prepare(pairs[index].query);
                } catch (const Error& error) {
                    throw error.at_text(index, noun);
                }
            }
            sequences.push_back(join(*prepared, pairs[index].document, index));
        }
        return compute(sequences, stop);
    }

    /// How many tokens a query with its document may have, those that join them included.
    [[nodiscard]] std::size_t context_tokens() const noexcept { return model_->limit(); }
    /// How many calls run at once: the contexts.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return model_->contexts(); }
    /// How much one call does best with, as `LlamaCppModelOptions::batch_tokens` makes it.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return model_->batch_limits(); }
    /// How many bytes it holds once each context has computed the largest batch that there may be, its weights
    /// included, whether they are mapped or not: what `memory_needed` says, with the weights that were loaded.
    [[nodiscard]] std::size_t memory_used() const noexcept { return model_->memory_used(); }

private:
    static constexpr std::string_view noun = "document";

    [[nodiscard]] std::unique_ptr<detail::llama_cpp::PreparedQuery> prepare(std::string_view query) const {
        using namespace detail::llama_cpp;
        const Tokenizer& tokenizer = model_->tokenizer();
        if (const std::string flaw = tokenizer.flaw_of(query); !flaw.empty()) {
            throw model_->error(errc::invalid_request, "the query " + flaw);
        }
        std::unique_ptr<PreparedQuery> prepared;
        if (form_) {
            prepared = std::make_unique<TemplateQuery>(tokenizer, *form_, query);
        } else {
            prepared = std::make_unique<FlagQuery>(tokenizer, query);
        }
        if (prepared->size() >= model_->limit()) {
            throw model_->error(errc::invalid_request, "the query makes " + std::to_string(prepared->size()) +
                                                           " tokens without a document, and the limit is " +
                                                           std::to_string(model_->limit()) +
                                                           ": there is no room for one token of a document");
        }
        return prepared;
    }

    [[nodiscard]] detail::llama_cpp::Tokens join(const detail::llama_cpp::PreparedQuery& query,
                                                 std::string_view document, std::size_t index) const {
        const auto refuse = [&](const std::string& why) {
            throw model_->error(errc::invalid_request, why).at_text(index, noun);
        };
        if (const std::string flaw = model_->tokenizer().flaw_of(document); !flaw.empty()) {
            refuse("it " + flaw);
        }
        detail::llama_cpp::Tokens tokens = query.join(document);
        if (tokens.size() <= model_->limit()) {
            return tokens;
        }
        if (!truncate_) {
            refuse("it has " + std::to_string(tokens.size()) + " tokens with the query, and the limit is " +
                   std::to_string(model_->limit()) + "; option model.truncate cuts such documents");
        }
        return query.join_cut(document, model_->limit());
    }

    // The scores of pairs that have been made tokens of.
    [[nodiscard]] std::vector<float> compute(std::span<const detail::llama_cpp::Tokens> sequences,
                                             const std::stop_token& stop) {
        std::vector<float> scores(sequences.size());
        model_->compute(sequences, stop, [&](std::size_t index, const float* row) {
            scores[index] = logistic_ ? 1.0F / (1.0F + std::exp(-row[yes_])) : row[yes_];
        });
        return scores;
    }

    // Which of the outputs is the score: the one labelled so, or the only one.
    [[nodiscard]] std::size_t index_of_yes() const {
        for (std::uint32_t index = 0; index < outputs_; ++index) {
            const char* const label = llama_model_cls_label(model_->weights(), index);
            if (label != nullptr && std::string_view(label) == "yes") {
                return index;
            }
        }
        return 0;
    }

    std::unique_ptr<detail::llama_cpp::LoadedModel> model_;
    std::optional<detail::llama_cpp::RerankTemplate> form_;
    bool truncate_;
    std::uint32_t outputs_;
    std::size_t yes_;
    bool logistic_;
};

/// Loads rerankers from GGUF files through llama.cpp; satisfies `RerankerBackend`.
class LlamaCppRerankerBackend {
public:
    /// The type of the models.
    using model_type = LlamaCppRerankerModel;

    /// Throws std::invalid_argument, naming the field, if an option is not what its doc demands.
    explicit LlamaCppRerankerBackend(LlamaCppRerankerOptions options) : options_(std::move(options)) {
        options_.model = detail::llama_cpp::checked(std::move(options_.model));
    }

    /// Loads the model of `key`.
    ///
    /// Errors   invalid_request: the key leads out of the folder, names a later part of a split model, or could mean
    ///          two models. operation_aborted: stop was requested. load_failed, with the path and the reason: there is
    ///          no such file, a part of it is missing, it is not a whole GGUF, llama.cpp cannot load it,
    ///          it is an embedder, its head gives several scores, `context_tokens` is more than it was trained for, or
    ///          there is no memory for it.
    /// Threads  any, several at once
    [[nodiscard]] std::unique_ptr<LlamaCppRerankerModel> load(const ModelKey& key, LoadContext& context) const {
        detail::llama_cpp::Loading loading(options_.model, key, context);
        auto model = loading.run(use_of);
        std::optional<detail::llama_cpp::RerankTemplate> form;
        if (const char* const text = llama_model_chat_template(model->weights(), "rerank"); text != nullptr) {
            form.emplace(model->tokenizer(), text);
            if (!form->usable()) {
                loading.fail("its rerank template does not name {query} and {document}");
            }
        }
        return std::make_unique<LlamaCppRerankerModel>(std::move(model), std::move(form), options_.model.truncate,
                                                       options_.score);
    }

    /// Whether there may be a file for the key: in a folder of models, whether there is one. If not, the slot answers
    /// `unknown_model` and unloads no model for it. Where a function gives the path, always.
    [[nodiscard]] bool knows(const ModelKey& key) const noexcept { return options_.model.files.may_have(key); }

    /// How many bytes the model of `key` will hold at most, read from its file without the weights: these, mapped or
    /// not, the vocabulary, and for each context what the largest batch takes that there may be, which is one of
    /// `batch_tokens` or the longest text: `context_tokens`, or as long as the model was trained for.
    ///
    /// Errors   those of `load` that the head of the file shows
    /// Threads  any, several at once
    [[nodiscard]] std::size_t memory_needed(const ModelKey& key) const {
        LoadContext context;
        return detail::llama_cpp::Loading(options_.model, key, context).memory_needed(use_of);
    }

    /// What `ClosesEngine` asks for.
    static void close_engine() noexcept { detail::llama_cpp::Engine::close(); }

private:
    static detail::llama_cpp::Use use_of(const detail::llama_cpp::ModelFile& file) {
        if (!file.head_outputs) {
            return {
                .refusal =
                    "it is no reranker: the file holds no classification head; load it with LlamaCppEmbeddingBackend"};
        }
        // llama.cpp gives the probabilities of a Qwen3's two answers, and of a single one would make 1.
        const bool answers = file.architecture == "qwen3" || file.architecture == "qwen3vl";
        const std::int64_t wanted = answers ? 2 : 1;
        if (*file.head_outputs != wanted) {
            return {.refusal = "its classification head gives " + std::to_string(*file.head_outputs) +
                               " scores, and a reranker of " + "architecture " + file.architecture + " gives " +
                               std::to_string(wanted)};
        }
        return {.pooling = LLAMA_POOLING_TYPE_RANK};
    }

    LlamaCppRerankerOptions options_;
};

static_assert(RerankerBackend<LlamaCppRerankerBackend>);

}  // namespace residency
