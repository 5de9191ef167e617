#pragma once

#include "residency/backends/llama_cpp/context_pool.hpp"
#include "residency/backends/llama_cpp/engine.hpp"
#include "residency/backends/llama_cpp/handles.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/log.hpp"
#include "residency/backends/llama_cpp/model_sizes.hpp"
#include "residency/backends/llama_cpp/options.hpp"
#include "residency/backends/llama_cpp/tokenizer.hpp"
#include "residency/backends/trim_memory.hpp"
#include "residency/batch_limits.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/processors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <utility>

namespace residency::detail::llama_cpp {

/// How many texts may share a batch, where `states` says whether the model has a state for each.
///
/// A context has an output for each sequence from the start, and more only when a batch needs them. So this many also
/// keep the largest buffer of all from being made in the thread of an inference, whose freed memory glibc would not
/// give back.
[[nodiscard]] inline std::size_t batch_sequences(std::size_t batch_tokens, bool states) {
    return (std::min)({llama_max_parallel_sequences(), batch_tokens, states ? std::size_t{16} : batch_tokens});
}

/// What a model of these sizes takes once each of its contexts has computed the largest batch that there may be: one of
/// `batch_tokens`, or the longest text.
[[nodiscard]] inline std::size_t memory_with(const LlamaCppModelOptions& options, const ModelSizes& sizes) {
    const double longest = options.context_tokens != 0 ? static_cast<double>(options.context_tokens) : sizes.context;
    const auto sequences = static_cast<double>(batch_sequences(options.batch_tokens, false));
    // As `Context::make` rounds it.
    const double tokens =
        std::ceil((std::max)(static_cast<double>(options.batch_tokens), longest) / sequences) * sequences;
    return to_size(model_memory(sizes, static_cast<double>(options.contexts), tokens, sequences));
}

/// Weights, vocabulary and contexts of one model: what embedders and rerankers are made of. Any number of threads at
/// once.
class LoadedModel {
public:
    /// Takes the weights. The contexts are to be made yet: `make_context`.
    LoadedModel(ModelKey key, ModelHandle weights, const LlamaCppModelOptions& options, enum llama_pooling_type pooling,
                ModelSizes sizes)
        : key_(std::move(key)),
          trims_(options.trim_memory),
          trim_(options.trim_memory),
          weights_(std::move(weights)),
          tokenizer_(llama_model_get_vocab(weights_.get()), pre_tokenizer_of(*weights_)),
          batch_tokens_(options.batch_tokens),
          threads_(options.threads),
          limit_(options.context_tokens != 0 ? options.context_tokens
                                             : static_cast<std::size_t>(llama_model_n_ctx_train(weights_.get()))),
          settings_{pooling, batch_sequences(options.batch_tokens, has_states(*weights_))},
          memory_(memory_with(options, with_weights(sizes, *weights_))),
          contexts_(options.contexts) {}

    /// Makes context `index`; false if llama.cpp could not. Before the model is used.
    bool make_context(std::size_t index) { return contexts_[index].make(*weights_, settings_, batch_tokens_); }

    /// The model's key.
    [[nodiscard]] const ModelKey& key() const noexcept { return key_; }
    /// The weights.
    [[nodiscard]] const llama_model* weights() const noexcept { return weights_.get(); }
    /// The tokenizer.
    [[nodiscard]] const Tokenizer& tokenizer() const noexcept { return tokenizer_; }
    /// How many tokens a sequence may have.
    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
    /// How many inferences may run at once.
    [[nodiscard]] std::size_t contexts() const noexcept { return contexts_.size(); }
    /// How much one call does best with.
    [[nodiscard]] BatchLimits batch_limits() const noexcept {
        return batch_limits_for(batch_tokens_, settings_.batch_sequences);
    }

    /// What it takes once each of its contexts has computed the largest batch that there may be.
    [[nodiscard]] std::size_t memory_used() const noexcept { return memory_; }

    /// An error of a request.
    [[nodiscard]] Error error(errc code, const std::string& detail) const {
        return {code, key_, Stage::inference, detail};
    }

    /// Throws Error shutting_down if llama.cpp must not be used any more.
    void demand_engine(const Engine::Scope& use) const { require_engine(use, key_, Stage::inference); }

    /// Throws Error operation_aborted if `stop` was requested, or llama.cpp is being closed.
    void go_on_unless(const std::stop_token& stop) const {
        if (stop.stop_requested() || Engine::closed()) {
            throw aborted();
        }
    }

    /// Computes the sequences and calls `on_row(index, row)` for each, in any order; `row` is as long as the model's
    /// rows are, and valid during the call.
    ///
    /// Precondition: no sequence is empty or longer than limit(). Waits for a free context. Throws Error
    /// operation_aborted if `stop` was requested, inference_failed if llama.cpp failed.
    template <class OnRow>
    void compute(std::span<const Tokens> sequences, const std::stop_token& stop, OnRow&& on_row) {
        if (sequences.empty()) {
            return;
        }
        const BatchPlan plan = plan_batches(sequences, batch_tokens_, settings_.batch_sequences);
        const std::size_t longest = sequences[plan.order.front()].size();
        const ContextPool::Turn turn = contexts_.take(longest, stop);
        if (!turn) {
            throw aborted();
        }
        LogScope log;
        Context& context = turn.context();
        std::size_t begin = 0;
        for (const std::size_t end : plan.ends) {
            go_on_unless(stop);
            context.clear();
            for (std::size_t at = begin; at < end; ++at) {
                context.add(sequences[plan.order[at]]);
            }
            compute_batch(context, stop, log);
            for (std::size_t at = begin; at < end; ++at) {
                const float* const row = context.row(at - begin);
                if (row == nullptr) {
                    throw error(errc::inference_failed, "llama.cpp gave no row: " + log.errors());
                }
                on_row(plan.order[at], row);
            }
            begin = end;
        }
    }

private:
    // A recurrent model has a state for each sequence, which is large.
    static bool has_states(const llama_model& weights) noexcept {
        return llama_model_is_recurrent(&weights) || llama_model_is_hybrid(&weights);
    }
    // llama.cpp's own figure, which is in the end what was loaded.
    static ModelSizes with_weights(ModelSizes sizes, const llama_model& weights) noexcept {
        sizes.weights = static_cast<double>(llama_model_size(&weights));
        return sizes;
    }

    [[nodiscard]] Error aborted() const {
        return {operation_aborted(), key_, Stage::inference, "the inference was asked to stop"};
    }

    void compute_batch(Context& context, const std::stop_token& stop, LogScope& log) {
        // A larger buffer takes the place of one that glibc keeps: the larger cannot lie there, and so the model would
        // hold both.
        const TrimMemory trim(trims_ && context.outputs_grow());
        if (context.tokens() > context.capacity()) {
            const std::size_t wanted = (std::max)(batch_tokens_, (std::min)(std::bit_ceil(context.tokens()), limit_));
            if (!context.make(*weights_, settings_, wanted)) {
                throw error(errc::inference_failed,
                            "no context for " + std::to_string(wanted) + " tokens: " + log.errors());
            }
        }
        switch (context.compute(threads_for(threads_, context.tokens(), contexts_.taken(), processors_), stop)) {
            case Outcome::done: return;
            case Outcome::stopped: throw aborted();
            case Outcome::failed: break;
        }
        throw error(errc::inference_failed, "llama.cpp could not compute a batch: " + log.errors());
    }

    ModelKey key_;
    bool trims_;
    // Destroyed in the reverse order: contexts, weights, and then the memory goes back.
    TrimMemory trim_;
    ModelHandle weights_;
    Tokenizer tokenizer_;
    std::size_t batch_tokens_;
    std::size_t threads_;
    // Looked for once: that reads files.
    std::size_t processors_ = usable_processors();
    std::size_t limit_;
    ContextSettings settings_;
    std::size_t memory_;
    ContextPool contexts_;
};

}  // namespace residency::detail::llama_cpp
