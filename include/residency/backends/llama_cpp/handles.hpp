#pragma once

#include "residency/backends/llama_cpp/engine.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/log.hpp"

#include <memory>

namespace residency::detail::llama_cpp {

// Nothing is freed once llama.cpp is closed because the process exits, nor in a child whose parent had used it.

/// Frees a model; what llama.cpp writes meanwhile goes nowhere.
struct FreeModel {
    void operator()(llama_model* model) const noexcept {
        if (const Engine::Scope use; use) {
            const LogScope silence;
            llama_model_free(model);
        }
    }
};

/// Frees a context; what llama.cpp writes meanwhile goes nowhere.
struct FreeContext {
    void operator()(llama_context* context) const noexcept {
        if (const Engine::Scope use; use) {
            const LogScope silence;
            llama_free(context);
        }
    }
};

/// Frees a file's metadata.
struct FreeGguf {
    void operator()(gguf_context* file) const noexcept {
        if (const Engine::Scope use; use) {
            gguf_free(file);
        }
    }
};

using ModelHandle = std::unique_ptr<llama_model, FreeModel>;
using ContextHandle = std::unique_ptr<llama_context, FreeContext>;
using GgufHandle = std::unique_ptr<gguf_context, FreeGguf>;

}  // namespace residency::detail::llama_cpp
