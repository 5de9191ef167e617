#pragma once

#include "residency/backends/engine_use.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

namespace residency::detail::llama_cpp {

/// llama.cpp with ggml. Both have objects with static storage, made when the first model is loaded and later.
using Engine = EngineUse<struct LlamaCpp>;

/// Throws Error shutting_down if llama.cpp must not be used any more.
inline void require_engine(const Engine::Scope& scope, const ModelKey& key, Stage stage) {
    if (!scope) {
        throw Error(errc::shutting_down, key, stage, "the process exits, and llama.cpp has been closed");
    }
}

}  // namespace residency::detail::llama_cpp
