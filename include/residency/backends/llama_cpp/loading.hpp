#pragma once

#include "residency/backend.hpp"
#include "residency/backends/llama_cpp/engine.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/loaded_model.hpp"
#include "residency/backends/llama_cpp/log.hpp"
#include "residency/backends/llama_cpp/model_file.hpp"
#include "residency/backends/llama_cpp/options.hpp"
#include "residency/backends/trim_memory.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace residency::detail::llama_cpp {

/// What a file's model is to be used as, or why it cannot be.
struct Use {
    /// How token vectors become a row.
    enum llama_pooling_type pooling = LLAMA_POOLING_TYPE_UNSPECIFIED;
    /// Why not; empty if it can.
    std::string refusal{};
};

/// One load of a model, step by step on one thread.
class Loading {
public:
    Loading(const LlamaCppModelOptions& options, const ModelKey& key, LoadContext& context)
        : options_(options),
          key_(key),
          context_(context),
          path_(options.files.path_of(key).string()),
          trim_(options.trim_memory),
          log_([&context](Severity severity, std::string_view line) { context.log(severity, line); }) {
        require_engine(use_, key, Stage::load);
    }

    /// Loads, if `use_of(file)` gives a use for what the file says.
    ///
    /// Throws Error: `operation_aborted` if stop was requested, before anything else that went wrong; `load_failed`
    /// with the path and all errors that llama.cpp wrote, the first being the cause.
    template <class UseOf>
    std::unique_ptr<LoadedModel> run(const UseOf& use_of) {
        stop_if_requested();
        Use use;
        const ModelFile file = read(use_of, use);
        ModelHandle weights = load_weights();
        check_weights(*weights);
        auto model = std::make_unique<LoadedModel>(key_, std::move(weights), options_, use.pooling, file.sizes);
        require_room_for_text(*model);
        for (std::size_t index = 0; index < options_.contexts; ++index) {
            stop_if_requested();
            if (!model->make_context(index)) {
                fail("no context");
            }
        }
        stop_if_requested();
        trim_.keep();  // From here on the model itself sees to it.
        return model;
    }

    /// What the model would take, loaded, at most; throws as `run` does for what the file says.
    template <class UseOf>
    std::size_t memory_needed(const UseOf& use_of) {
        trim_.keep();  // It is about a header alone.
        Use use;
        return memory_with(options_, read(use_of, use).sizes);
    }

    /// Throws `load_failed` with the path, `why`, and llama.cpp's errors; or `operation_aborted` if stop was requested.
    [[noreturn]] void fail(const std::string& why) {
        stop_if_requested();
        const std::string errors = log_.errors();
        throw Error(errc::load_failed, key_, Stage::load,
                    "cannot load '" + path_ + "': " + (errors.empty() ? why : why + ": " + errors));
    }

private:
    [[nodiscard]] bool stop_requested() const noexcept {
        return context_.stop_token().stop_requested() || Engine::closed();
    }
    void stop_if_requested() const {
        if (stop_requested()) {
            throw Error(operation_aborted(), key_, Stage::load, "the load was asked to stop");
        }
    }

    template <class UseOf>
    ModelFile read(const UseOf& use_of, Use& use) {
        if (const std::string why = why_not_readable(path_); !why.empty()) {
            fail(why);
        }
        LogScope::start();
        std::optional<ModelFile> file = read_model_file(path_);
        if (!file) {
            fail("it is not a whole GGUF file");
        }
        require_all_parts(*file);
        read_other_parts(*file);
        use = use_of(*file);
        if (!use.refusal.empty()) {
            fail(use.refusal);
        }
        return *std::move(file);
    }

    void require_all_parts(const ModelFile& file) {
        if (file.part != 0) {
            fail("it is part " + std::to_string(file.part + 1) + " of a split model: name the first part");
        }
        for (std::size_t index = 0; index < file.other_parts.size(); ++index) {
            const std::string& path = file.other_parts[index];
            if (const std::string why = why_not_readable(path); !why.empty()) {
                fail("part " + std::to_string(index + 2) + " of " + std::to_string(file.other_parts.size() + 1) +
                     " of the model cannot be read: '" + path + "': " + why);
            }
        }
    }

    ModelHandle load_weights() {
        llama_model_params params = llama_model_default_params();
        params.n_gpu_layers = options_.gpu_layers;
        params.load_mode = load_mode(options_.load_mode);
        params.progress_callback = [](float done, void* self) { return static_cast<Loading*>(self)->progress(done); };
        params.progress_callback_user_data = this;
        ModelHandle weights(llama_model_load_from_file(path_.c_str(), params));
        if (thrown_) {
            std::rethrow_exception(thrown_);
        }
        if (!weights) {
            fail("llama.cpp cannot load it");
        }
        return weights;
    }

    // False makes llama.cpp give up. An exception must not fly through it.
    bool progress(float done) noexcept {
        try {
            context_.progress(done);
        } catch (...) {
            thrown_ = std::current_exception();
        }
        const bool go_on = !thrown_ && !stop_requested();
        if (!go_on) {
            log_.expect_abort();
        }
        return go_on;
    }

    static enum llama_load_mode load_mode(LlamaCppLoadMode mode) noexcept {
        switch (mode) {
            case LlamaCppLoadMode::mmap: return LLAMA_LOAD_MODE_MMAP;
            case LlamaCppLoadMode::mmap_locked: return LLAMA_LOAD_MODE_MMAP_MLOCK;
            case LlamaCppLoadMode::read: return LLAMA_LOAD_MODE_NONE;
            case LlamaCppLoadMode::direct_io: return LLAMA_LOAD_MODE_DIRECT_IO;
        }
        return LLAMA_LOAD_MODE_AUTO;
    }

    // What llama.cpp would end the process on later.
    void check_weights(const llama_model& weights) {
        if (llama_model_has_encoder(&weights) && llama_model_has_decoder(&weights)) {
            fail("a model of encoder and decoder gives no embeddings");
        }
        if (const std::string why = why_not_tokenizable(llama_model_get_vocab(&weights)); !why.empty()) {
            fail(why);
        }
        const auto trained = static_cast<std::size_t>((std::max)(0, llama_model_n_ctx_train(&weights)));
        if (trained == 0) {
            fail("it does not say how many tokens it was trained for");
        }
        if (options_.context_tokens > trained) {
            fail("option model.context_tokens is " + std::to_string(options_.context_tokens) +
                 ", but it was trained for " + std::to_string(trained));
        }
    }

    void require_room_for_text(const LoadedModel& model) {
        const std::size_t added = model.tokenizer().opening().size() + model.tokenizer().closing().size();
        if (model.limit() <= added) {
            fail("option model.context_tokens is " + std::to_string(model.limit()) + ", and the vocabulary adds " +
                 std::to_string(added) + " tokens to each text: there is no room for the text");
        }
    }

    const LlamaCppModelOptions& options_;
    const ModelKey& key_;
    LoadContext& context_;
    std::string path_;
    const Engine::Scope use_{};
    TrimMemory trim_;
    LogScope log_;
    std::exception_ptr thrown_{};
};

}  // namespace residency::detail::llama_cpp
