#pragma once

#include "residency/backend.hpp"
#include "residency/backends/llama_cpp/engine.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/loaded_model.hpp"
#include "residency/backends/llama_cpp/loading.hpp"
#include "residency/backends/llama_cpp/options.hpp"
#include "residency/backends/unit_length.hpp"
#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency {

/// An embedding model that llama.cpp computes. Made by `LlamaCppEmbeddingBackend`; its destructor frees it.
class LlamaCppEmbeddingModel {
public:
    /// What `LlamaCppEmbeddingBackend::load` calls.
    LlamaCppEmbeddingModel(std::unique_ptr<detail::llama_cpp::LoadedModel> model, bool truncate, bool normalise,
                           std::optional<LlamaCppPrefixes> prefixes = {})
        : model_(std::move(model)),
          dimension_(static_cast<std::size_t>(llama_model_n_embd_out(model_->weights()))),
          truncate_(truncate),
          normalise_(normalise),
          prefixes_(std::move(prefixes)) {}

    /// Embeds the texts: a row of `dimension()` floats for each, in their order. A query or a document gets the model's
    /// prefix, which counts among its tokens and stays if the text is cut.
    ///
    /// The texts of a call share batches; what shares one with a text changes no more than the rounding of its vector.
    /// An empty text is embedded if the vocabulary adds tokens to texts. No text makes control tokens: `[SEP]` is five
    /// characters. Bytes that are not UTF-8 are read as U+FFFD.
    ///
    /// Errors   invalid_request: `as` is not `as_is`, and the model has no prefixes; or, before any text is computed,
    ///          and with the text's index as `text_index()`: it has no tokens, or more than the limit and `truncate` is
    ///          off, or 2 GiB; or it has more than 32,768 characters without a break between words and llama.cpp would
    ///          recurse for each, which depends on the tokenizer; it says how many, and the limit. inference_failed:
    ///          llama.cpp could not compute it. operation_aborted: `stop` was requested, between two texts that are
    ///          read, while it waited for a context, or while it computed. Out of memory: std::bad_alloc, or
    ///          inference_failed.
    /// Threads  any number at once; more than `max_concurrency()` wait for one another
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts, EmbedAs as, const std::stop_token& stop = {}) {
        const detail::llama_cpp::Engine::Scope use;
        model_->demand_engine(use);
        const std::string_view prefix = prefix_for(as);
        std::vector<detail::llama_cpp::Tokens> sequences;
        sequences.reserve(texts.size());
        for (std::size_t index = 0; index < texts.size(); ++index) {
            model_->go_on_unless(stop);
            sequences.push_back(prefix.empty() ? tokens_of(texts[index], index)
                                               : tokens_of(std::string(prefix) + texts[index], index));
        }
        Embeddings embeddings(texts.size(), dimension_);
        model_->compute(sequences, stop, [&](std::size_t index, const float* row) {
            const std::span<float> to = embeddings[index];
            std::copy_n(row, dimension_, to.begin());
            if (normalise_) {
                detail::scale_to_length_1(to);
            }
        });
        return embeddings;
    }

    /// The same for texts as they are.
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts, const std::stop_token& stop = {}) {
        return embed(texts, EmbedAs::as_is, stop);
    }

    /// Whether queries and documents differ for it: it has prefixes.
    [[nodiscard]] bool distinguishes() const noexcept { return prefixes_.has_value(); }
    /// How many floats a vector has.
    [[nodiscard]] std::size_t dimension() const noexcept { return dimension_; }
    /// How many tokens a text may have, those that the vocabulary adds included.
    [[nodiscard]] std::size_t context_tokens() const noexcept { return model_->limit(); }
    /// How many calls run at once: the contexts.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return model_->contexts(); }
    /// How much one call does best with, as `LlamaCppModelOptions::batch_tokens` makes it.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return model_->batch_limits(); }
    /// How many bytes it holds once each context has computed the largest batch that there may be, its weights
    /// included, whether they are mapped or not: what `memory_needed` says, with the weights that were loaded.
    [[nodiscard]] std::size_t memory_used() const noexcept { return model_->memory_used(); }

private:
    [[nodiscard]] std::string_view prefix_for(EmbedAs as) const {
        if (as == EmbedAs::as_is) {
            return {};
        }
        if (!prefixes_) {
            throw model_->error(errc::invalid_request,
                                "the model has no prefixes for queries and documents; leave RequestOptions::as at "
                                "as_is, or set LlamaCppEmbeddingOptions::prefixes");
        }
        return as == EmbedAs::query ? prefixes_->query : prefixes_->document;
    }

    [[nodiscard]] detail::llama_cpp::Tokens tokens_of(const std::string& text, std::size_t index) const {
        const detail::llama_cpp::Tokenizer& tokenizer = model_->tokenizer();
        const std::size_t limit = model_->limit();
        if (const std::string flaw = tokenizer.flaw_of(text); !flaw.empty()) {
            throw model_->error(errc::invalid_request, "it " + flaw).at_text(index);
        }
        detail::llama_cpp::Tokens own = tokenizer.tokenize(text);
        const std::size_t added = tokenizer.opening().size() + tokenizer.closing().size();
        if (own.size() + added == 0) {
            throw model_->error(errc::invalid_request, "it has no tokens").at_text(index);
        }
        if (own.size() + added > limit) {
            if (!truncate_) {
                throw model_
                    ->error(errc::invalid_request, "it has " + std::to_string(own.size() + added) +
                                                       " tokens, and the limit is " + std::to_string(limit) +
                                                       "; option model.truncate cuts such texts")
                    .at_text(index);
            }
            own.resize(limit - added);
        }
        return tokenizer.enclosed(own);
    }

    std::unique_ptr<detail::llama_cpp::LoadedModel> model_;
    std::size_t dimension_;
    bool truncate_;
    bool normalise_;
    std::optional<LlamaCppPrefixes> prefixes_;
};

/// Loads embedding models from GGUF files through llama.cpp; satisfies `EmbeddingBackend`.
class LlamaCppEmbeddingBackend {
public:
    /// The type of the models.
    using model_type = LlamaCppEmbeddingModel;

    /// Throws std::invalid_argument, naming the field, if an option is not what its doc demands.
    explicit LlamaCppEmbeddingBackend(LlamaCppEmbeddingOptions options) : options_(std::move(options)) {
        options_.model = detail::llama_cpp::checked(std::move(options_.model));
    }

    /// Loads the model of `key`.
    ///
    /// Errors   invalid_request: the key leads out of the folder, names a later part of a split model, or could mean
    ///          two models. operation_aborted: stop was requested. load_failed, with the path and the reason: there is
    ///          no such file, a part of it is missing, it is not a whole GGUF, llama.cpp cannot load it, it is a
    ///          reranker, its pooling is not known and not given, `context_tokens` is more than it was trained for, or
    ///          there is no memory for it.
    /// Threads  any, several at once
    [[nodiscard]] std::unique_ptr<LlamaCppEmbeddingModel> load(const ModelKey& key, LoadContext& context) const {
        std::optional<LlamaCppPrefixes> prefixes = options_.prefixes ? options_.prefixes(key) : std::nullopt;
        detail::llama_cpp::Loading loading(options_.model, key, context);
        auto model = loading.run([this](const detail::llama_cpp::ModelFile& file) { return use_of(file); });
        return std::make_unique<LlamaCppEmbeddingModel>(std::move(model), options_.model.truncate, options_.normalise,
                                                        std::move(prefixes));
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
        return detail::llama_cpp::Loading(options_.model, key, context)
            .memory_needed([this](const detail::llama_cpp::ModelFile& file) { return use_of(file); });
    }

    /// What `ClosesEngine` asks for.
    static void close_engine() noexcept { detail::llama_cpp::Engine::close(); }

private:
    [[nodiscard]] detail::llama_cpp::Use use_of(const detail::llama_cpp::ModelFile& file) const {
        if (file.head_outputs) {
            return {.refusal =
                        "it is a reranker: the file holds a classification head; load it with LlamaCppRerankerBackend"};
        }
        switch (options_.pooling) {
            case LlamaCppPooling::mean: return {.pooling = LLAMA_POOLING_TYPE_MEAN};
            case LlamaCppPooling::cls: return {.pooling = LLAMA_POOLING_TYPE_CLS};
            case LlamaCppPooling::last: return {.pooling = LLAMA_POOLING_TYPE_LAST};
            case LlamaCppPooling::from_model: break;
        }
        if (!file.pooling) {
            return {.refusal = "the file does not say how token vectors become a text's; option pooling does"};
        }
        switch (*file.pooling) {
            case LLAMA_POOLING_TYPE_MEAN: return {.pooling = LLAMA_POOLING_TYPE_MEAN};
            case LLAMA_POOLING_TYPE_CLS: return {.pooling = LLAMA_POOLING_TYPE_CLS};
            case LLAMA_POOLING_TYPE_LAST: return {.pooling = LLAMA_POOLING_TYPE_LAST};
            default: break;
        }
        return {.refusal = "the file's pooling, number " + std::to_string(*file.pooling) +
                           ", makes no vector of a text; option pooling says which to use"};
    }

    LlamaCppEmbeddingOptions options_;
};

static_assert(EmbeddingBackend<LlamaCppEmbeddingBackend>);

}  // namespace residency
