#pragma once

#include "residency/backend.hpp"
#include "residency/backends/openvino/batch.hpp"
#include "residency/backends/openvino/engine.hpp"
#include "residency/backends/openvino/loaded_model.hpp"
#include "residency/backends/openvino/loading.hpp"
#include "residency/backends/openvino/model_sizes.hpp"
#include "residency/backends/openvino/options.hpp"
#include "residency/backends/openvino/runtime.hpp"
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

/// An embedding model that OpenVINO computes. Made by `OpenVinoEmbeddingBackend`; its destructor frees it.
class OpenVinoEmbeddingModel {
public:
    /// What `OpenVinoEmbeddingBackend::load` calls; with `pooling` `from_model` the model gives a text's vector itself.
    OpenVinoEmbeddingModel(std::unique_ptr<detail::openvino::LoadedModel> model, std::size_t dimension,
                           OpenVinoPooling pooling, const OpenVinoEmbeddingOptions& options,
                           std::optional<OpenVinoPrefixes> prefixes)
        : model_(std::move(model)),
          dimension_(dimension),
          pooling_(pooling),
          truncate_(options.model.truncate),
          normalise_(options.normalise),
          prefixes_(std::move(prefixes)) {}

    /// Embeds the texts: a row of `dimension()` floats for each, in their order. A query or a document gets the model's
    /// prefix, which counts among its tokens and stays if the text is cut.
    ///
    /// The texts of a call share sub-batches; what shares one with a text changes no more than the rounding of its
    /// vector. An empty text is embedded if the tokenizer adds tokens to texts. No text makes control tokens: `[SEP]`
    /// is five characters. Bytes that are not UTF-8 are unknown, or nothing; a NUL is nothing.
    ///
    /// Errors   invalid_request: `as` is not `as_is`, and the model has no prefixes; or, before any text is computed,
    ///          and with the text's index as `text_index()`: it has no tokens, or more than the limit and `truncate` is
    ///          off, or more than 16 MiB. inference_failed: OpenVINO could not compute it, or an inference of
    ///          the model has failed before: it is to be unloaded. operation_aborted: `stop` was requested, while it
    ///          read texts, while it waited for a stream, or between two sub-batches. Out of memory: std::bad_alloc, or
    ///          inference_failed.
    /// Threads  any number at once; more than `max_concurrency()` wait for one another
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts, EmbedAs as, const std::stop_token& stop = {}) {
        const detail::openvino::Engine::Scope use;
        model_->demand_engine(use);
        const std::string_view prefix = prefix_for(as);
        Embeddings embeddings(texts.size(), dimension_);
        if (texts.empty()) {
            return embeddings;
        }
        std::vector<std::string> prefixed;
        for (std::size_t index = 0; index < texts.size(); ++index) {
            model_->require_readable(texts[index], index, "text");
            if (!prefix.empty()) {
                prefixed.push_back(std::string(prefix) + texts[index]);
            }
        }
        model_->with_worker(stop, [&](detail::openvino::Worker& worker) {
            const auto sequences = read(worker, prefix.empty() ? texts : prefixed, stop);
            model_->compute(worker, sequences, stop, [&](std::size_t index, const detail::openvino::Row& row) {
                pool(row, embeddings[index]);
                if (normalise_) {
                    detail::scale_to_length_1(embeddings[index]);
                }
            });
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
    /// How many tokens a text may have, those that the tokenizer adds included.
    [[nodiscard]] std::size_t context_tokens() const noexcept { return model_->limit(); }
    /// How many calls run at once: the streams.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return model_->streams(); }
    /// How much one call does best with, as `OpenVinoModelOptions::batch_tokens` makes it.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return model_->batch_limits(); }
    /// How many bytes it takes once each stream has computed the largest sub-batch, as its weights, its streams and
    /// their precision make it. OpenVINO does not say itself what it takes.
    [[nodiscard]] std::size_t memory_used() const noexcept { return model_->memory_used(); }

private:
    [[nodiscard]] std::string_view prefix_for(EmbedAs as) const {
        if (as == EmbedAs::as_is) {
            return {};
        }
        if (!prefixes_) {
            throw model_->error(errc::invalid_request,
                                "the model has no prefixes for queries and documents; leave RequestOptions::as at "
                                "as_is, or set OpenVinoEmbeddingOptions::prefixes");
        }
        return as == EmbedAs::query ? prefixes_->query : prefixes_->document;
    }

    [[nodiscard]] std::vector<detail::openvino::Sequence> read(detail::openvino::Worker& worker,
                                                               std::span<const std::string> texts,
                                                               const std::stop_token& stop) const {
        using namespace detail::openvino;
        const Tokenizer& tokenizer = model_->tokenizer();
        const std::size_t added = tokenizer.opening().size() + tokenizer.closing().size();
        auto all = tokenizer.tokenize(worker.tokenizer, texts, [&] { model_->go_on_unless(stop); });
        std::vector<Sequence> sequences(all.size());
        for (std::size_t index = 0; index < all.size(); ++index) {
            Tokens& own = all[index];
            if (own.size() + added == 0) {
                throw model_->error(errc::invalid_request, "it has no tokens").at_text(index);
            }
            if (own.size() + added > model_->limit()) {
                if (!truncate_) {
                    throw model_
                        ->error(errc::invalid_request,
                                "it has " + std::to_string(own.size() + added) + " tokens, and the limit is " +
                                    std::to_string(model_->limit()) + "; option model.truncate cuts such texts")
                        .at_text(index);
                }
                own.resize(model_->limit() - added);
            }
            Tokens& tokens = sequences[index].tokens;
            tokens.reserve(own.size() + added);
            tokens.insert(tokens.end(), tokenizer.opening().begin(), tokenizer.opening().end());
            tokens.insert(tokens.end(), own.begin(), own.end());
            tokens.insert(tokens.end(), tokenizer.closing().begin(), tokenizer.closing().end());
        }
        return sequences;
    }

    void pool(const detail::openvino::Row& row, std::span<float> to) const noexcept {
        const auto token = [&row](std::size_t index) { return row.values + index * row.width; };
        switch (pooling_) {
            case OpenVinoPooling::from_model:
            case OpenVinoPooling::cls: std::copy_n(token(0), row.width, to.begin()); return;
            case OpenVinoPooling::last: std::copy_n(token(row.tokens - 1), row.width, to.begin()); return;
            case OpenVinoPooling::mean: break;
        }
        std::fill(to.begin(), to.end(), 0.0F);
        const float share = 1.0F / static_cast<float>(row.tokens);
        for (std::size_t index = 0; index < row.tokens; ++index) {
            std::transform(to.begin(), to.end(), token(index), to.begin(),
                           [share](float sum, float value) { return sum + share * value; });
        }
    }

    std::unique_ptr<detail::openvino::LoadedModel> model_;
    std::size_t dimension_;
    OpenVinoPooling pooling_;
    bool truncate_;
    bool normalise_;
    std::optional<OpenVinoPrefixes> prefixes_;
};

/// Loads embedders from OpenVINO and ONNX folders; satisfies `EmbeddingBackend`.
class OpenVinoEmbeddingBackend {
public:
    /// The type of the models.
    using model_type = OpenVinoEmbeddingModel;

    /// Throws std::invalid_argument, naming the field, if an option is not what its doc demands.
    explicit OpenVinoEmbeddingBackend(OpenVinoEmbeddingOptions options) : options_(std::move(options)) {
        options_.model = detail::openvino::checked(std::move(options_.model));
    }

    /// Loads the model of `key`. The output that it reads is `sentence_embedding`, or else `last_hidden_state` or
    /// `token_embeddings`.
    ///
    /// Errors   invalid_request: the key leads out of the folder. operation_aborted: stop was requested. load_failed,
    ///          with the path and the reason: there is no such folder, a file is missing in it or cannot be read,
    ///          OpenVINO cannot read or compile it, it is a reranker, its inputs are not those of an embedder, its
    ///          pooling is not known and not given, `context_tokens` is more than it takes, or nothing says how many it
    ///          takes. Out of memory: std::bad_alloc, or load_failed.
    /// Threads  any, several at once
    [[nodiscard]] std::unique_ptr<OpenVinoEmbeddingModel> load(const ModelKey& key, LoadContext& context) const {
        std::optional<OpenVinoPrefixes> prefixes = options_.prefixes ? options_.prefixes(key) : std::nullopt;
        detail::openvino::Loading loading(options_.model, key, context);
        OpenVinoPooling pooling = OpenVinoPooling::from_model;
        std::size_t dimension = 0;
        auto model = loading.run(detail::openvino::Gives::tokens, [&](const ov::Model& read) {
            const std::size_t output = output_of(read, loading, pooling);
            const ov::PartialShape shape = read.output(output).get_partial_shape();
            const std::ptrdiff_t rank = pooling == OpenVinoPooling::from_model ? 2 : 3;
            if (shape.rank().is_dynamic() || shape.rank().get_length() != rank || shape[rank - 1].is_dynamic()) {
                loading.fail("its output has the shape " + shape.to_string() +
                             ", which does not say how many numbers a vector has");
            }
            dimension = static_cast<std::size_t>(shape[rank - 1].get_length());
            return output;
        });
        if (!options_.prefixes) {
            prefixes = loading.guarded([&loading] { return loading.folder().prefixes(); });
        }
        return std::make_unique<OpenVinoEmbeddingModel>(std::move(model), dimension, pooling, options_,
                                                        std::move(prefixes));
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
        return detail::openvino::Loading(options_.model, key, context).memory_needed(detail::openvino::Gives::tokens);
    }

    /// What `ClosesEngine` asks for.
    static void close_engine() noexcept { detail::openvino::Engine::close(); }

private:
    // The output to read; sets how it is pooled, `from_model` if it is a text's already.
    std::size_t output_of(const ov::Model& model, const detail::openvino::Loading& loading,
                          OpenVinoPooling& pooling) const {
        using detail::openvino::output_named;
        if (const auto whole = output_named(model, "sentence_embedding")) {
            pooling = OpenVinoPooling::from_model;
            return *whole;
        }
        auto tokens = output_named(model, "last_hidden_state");
        tokens = tokens ? tokens : output_named(model, "token_embeddings");
        if (!tokens) {
            loading.fail(output_named(model, "logits")
                             ? "it is a reranker: it has an output logits; load it with OpenVinoRerankerBackend"
                             : "it has none of the outputs sentence_embedding, last_hidden_state and token_embeddings");
        }
        pooling = loading.guarded([&loading] { return loading.folder().pooling(); }).value_or(options_.pooling);
        if (pooling == OpenVinoPooling::from_model) {
            loading.fail(
                "the folder does not say how token vectors become a text's: it holds no 1_Pooling/config.json; option "
                "pooling does");
        }
        return *tokens;
    }

    OpenVinoEmbeddingOptions options_;
};

static_assert(EmbeddingBackend<OpenVinoEmbeddingBackend>);

}  // namespace residency
