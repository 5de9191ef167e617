#pragma once

#include <llama.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace residency::test {

/// llama.cpp called with nothing of ours: what the library is compared with. It embeds with mean pooling, in the order
/// given.
class BareModel {
public:
    explicit BareModel(const std::string& path) : model_(load(path), &llama_model_free) {
        if (!model_) {
            throw std::runtime_error("cannot load " + path);
        }
    }
    [[nodiscard]] llama_model* get() const noexcept { return model_.get(); }

private:
    static llama_model* load(const std::string& path) {
        llama_model_params params = llama_model_default_params();
        params.load_mode = LLAMA_LOAD_MODE_MMAP;
        return llama_model_load_from_file(path.c_str(), params);
    }

    std::unique_ptr<llama_model, void (*)(llama_model*)> model_;
};

/// A context for batches of `cap` tokens on `threads` threads.
class BareContext {
public:
    BareContext(const BareModel& model, std::uint32_t cap, int threads)
        : vocabulary_(llama_model_get_vocab(model.get())),
          width_(static_cast<std::size_t>(llama_model_n_embd_out(model.get()))),
          cap_(cap),
          context_(make(model, cap, threads), &llama_free),
          batch_(llama_batch_init(static_cast<int>(cap), 0, 1)) {
        if (!context_) {
            throw std::runtime_error("no context");
        }
    }
    ~BareContext() { llama_batch_free(batch_); }
    BareContext(const BareContext&) = delete;
    BareContext& operator=(const BareContext&) = delete;

    /// The vectors one after the other, as they come.
    std::vector<float> embed(std::span<const std::string> texts) {
        std::vector<float> rows;
        rows.reserve(texts.size() * width_);
        batch_.n_tokens = 0;
        int sequences = 0;
        for (const std::string& text : texts) {
            tokens_.resize(text.size() + 8);
            const int count = llama_tokenize(vocabulary_, text.data(), static_cast<int>(text.size()), tokens_.data(),
                                             static_cast<int>(tokens_.size()), true, false);
            if (count <= 0 || static_cast<std::uint32_t>(count) > cap_) {
                throw std::runtime_error("a text that does not fit");
            }
            if (static_cast<std::uint32_t>(batch_.n_tokens + count) > cap_) {
                decode(rows, sequences);
                sequences = 0;
            }
            for (int position = 0; position < count; ++position) {
                const int at = batch_.n_tokens++;
                batch_.token[at] = tokens_[static_cast<std::size_t>(position)];
                batch_.pos[at] = position;
                batch_.n_seq_id[at] = 1;
                batch_.seq_id[at][0] = sequences;
                batch_.logits[at] = 1;
            }
            ++sequences;
        }
        decode(rows, sequences);
        return rows;
    }

private:
    static llama_context* make(const BareModel& model, std::uint32_t cap, int threads) {
        llama_context_params params = llama_context_default_params();
        params.n_ctx = params.n_batch = params.n_ubatch = cap;
        params.n_seq_max = cap < 256 ? cap : 256;
        params.kv_unified = true;
        params.embeddings = true;
        params.n_threads = params.n_threads_batch = threads;
        return llama_init_from_model(model.get(), params);
    }

    void decode(std::vector<float>& rows, int sequences) {
        if (llama_decode(context_.get(), batch_) != 0) {
            throw std::runtime_error("llama_decode failed");
        }
        for (int sequence = 0; sequence < sequences; ++sequence) {
            const float* const row = llama_get_embeddings_seq(context_.get(), sequence);
            rows.insert(rows.end(), row, row + width_);
        }
        batch_.n_tokens = 0;
    }

    const llama_vocab* vocabulary_;
    std::size_t width_;
    std::uint32_t cap_;
    std::unique_ptr<llama_context, void (*)(llama_context*)> context_;
    llama_batch batch_;
    std::vector<llama_token> tokens_{};
};

}  // namespace residency::test
