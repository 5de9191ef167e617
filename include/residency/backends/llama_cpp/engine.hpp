#pragma once

#include "residency/backends/engine_use.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

namespace residency::detail::llama_cpp {

/// llama.cpp with ggml. Both have objects with static storage, made when the first model is loaded and later.
using Engine = EngineUse<struct LlamaCpp>;

/// Throws Error shutting_down if llama.cpp must not be used any more; load_failed or inference_failed if it was used by
/// the process that made this one by fork().
inline void require_engine(const Engine::Scope& scope, const ModelKey& key, Stage stage) {
    if (!scope) {
        if (Engine::is_in_child()) {
            throw Error(stage == Stage::load ? errc::load_failed : errc::inference_failed, key, stage,
                        "this is a child process made by fork(), whose parent had used llama.cpp: its threads do not "
                        "exist here; fork before the first load, or let the child exec");
        }
        throw Error(errc::shutting_down, key, stage, "the process exits, and llama.cpp has been closed");
    }
}

}  // namespace residency::detail::llama_cpp
