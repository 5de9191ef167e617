#pragma once

#include "residency/backends/llama_cpp/batch.hpp"
#include "residency/backends/llama_cpp/engine.hpp"
#include "residency/backends/llama_cpp/handles.hpp"
#include "residency/backends/llama_cpp/llama.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>

namespace residency::detail::llama_cpp {

/// What the contexts of a model have in common.
struct ContextSettings {
    /// How token vectors become a row; RANK puts the head on top.
    enum llama_pooling_type pooling = LLAMA_POOLING_TYPE_UNSPECIFIED;
    /// The most sequences in a batch.
    std::size_t batch_sequences = 1;
};

/// What became of a batch.
enum class Outcome : std::uint8_t {
    /// Its rows can be read.
    done,
    /// It was asked to stop, and did; the context is as good as before.
    stopped,
    /// llama.cpp failed; the reason is in its error lines.
    failed,
};

/// One context of llama.cpp: what one inference at a time runs in. One thread at a time.
class Context {
public:
    Context() = default;
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    /// How many tokens its batches may have; zero if it must be made first.
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

    /// Makes it for batches of at least `tokens` tokens, in place of what it was. False if llama.cpp could not.
    bool make(llama_model& model, const ContextSettings& settings, std::size_t tokens) {
        discard();  // First, so that the two never take memory together.
        // llama.cpp lays its graph out for as many tokens in each sequence, and ends the process if that does not come
        // out even.
        const std::size_t sequences = settings.batch_sequences;
        const auto count = static_cast<std::uint32_t>((tokens + sequences - 1) / sequences * sequences);
        llama_context_params params = llama_context_default_params();
        // A text that does not attend backwards only must be computed in one piece: all four are the same.
        params.n_ctx = count;
        params.n_batch = count;
        params.n_ubatch = count;
        params.n_seq_max = static_cast<std::uint32_t>(sequences);
        params.kv_unified = true;
        params.embeddings = true;
        params.pooling_type = settings.pooling;
        params.abort_callback = [](void* self) { return static_cast<Context*>(self)->should_stop(); };
        params.abort_callback_data = this;
        context_.reset(llama_init_from_model(&model, params));
        // What llama.cpp made of it is what counts: it ends the process on a larger batch.
        capacity_ = context_ ? (std::min)(llama_n_batch(context_.get()), llama_n_ubatch(context_.get())) : 0;
        outputs_ = sequences;
        return capacity_ >= tokens;
    }

    /// Forgets what was added, and what came out.
    void clear() noexcept { batch_.clear(); }

    /// Adds a sequence to the batch.
    void add(std::span<const llama_token> tokens) { batch_.add(tokens); }

    /// How many tokens the batch has.
    [[nodiscard]] std::size_t tokens() const noexcept { return batch_.tokens(); }

    /// Whether the batch has more tokens than the context has outputs, which are then made anew while it is computed.
    [[nodiscard]] bool outputs_grow() const noexcept { return batch_.tokens() > outputs_; }

    /// Computes the batch with `threads` threads. Throws std::length_error if it is larger than the capacity; what
    /// llama.cpp throws flies on, and the context must be made again.
    Outcome compute(std::size_t threads, const std::stop_token& stop) {
        if (batch_.tokens() > capacity_) {
            throw std::length_error("residency: a batch of " + std::to_string(batch_.tokens()) +
                                    " tokens for a context of " + std::to_string(capacity_));
        }
        stop_ = stop;
        stopped_ = false;
        outputs_ = (std::max)(outputs_, batch_.tokens());
        int code = 0;
        try {
            if (llama_memory_t memory = llama_get_memory(context_.get())) {
                llama_memory_clear(memory, false);
            }
            llama_set_n_threads(context_.get(), static_cast<std::int32_t>(threads), static_cast<std::int32_t>(threads));
            // Also for models without a decoder, for which llama.cpp goes over to llama_encode by itself; the reverse
            // ends the process.
            code = llama_decode(context_.get(), batch_.view());
        } catch (...) {
            discard();
            throw;
        }
        stop_ = {};
        if (code == 0) {
            return Outcome::done;
        }
        if (code == 2 && stopped_) {
            return Outcome::stopped;
        }
        discard();
        return Outcome::failed;
    }

    /// The row of a sequence of the batch that was computed last; null if there is none. Precondition: that was `done`.
    [[nodiscard]] const float* row(std::size_t sequence) {
        return llama_get_embeddings_seq(context_.get(), static_cast<llama_seq_id>(sequence));
    }

private:
    void discard() noexcept {
        context_.reset();
        capacity_ = 0;
    }

    // Called by the thread that computes, between two operations of the graph.
    bool should_stop() noexcept {
        stopped_ = stopped_ || stop_.stop_requested() || Engine::closed();
        return stopped_;
    }

    ContextHandle context_{};
    std::size_t capacity_ = 0;
    // llama.cpp makes those of a batch's sequences with the context, and one for each token when a batch has more.
    std::size_t outputs_ = 0;
    Batch batch_{};
    std::stop_token stop_{};
    bool stopped_ = false;
};

}  // namespace residency::detail::llama_cpp
