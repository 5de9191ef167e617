#pragma once

#include "residency/backends/engine_use.hpp"
#include "residency/backends/openvino/runtime.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace residency::detail::openvino {

/// OpenVINO with its plugins, which it loads with the first model. They have objects with static storage, and threads.
using Engine = EngineUse<struct OpenVino>;

/// Throws Error shutting_down if OpenVINO must not be used any more; load_failed or inference_failed if it was used by
/// the process that made this one by fork(), where an inference would never end.
inline void require_engine(const Engine::Scope& scope, const ModelKey& key, Stage stage) {
    if (!scope) {
        if (Engine::is_in_child()) {
            throw Error(stage == Stage::load ? errc::load_failed : errc::inference_failed, key, stage,
                        "this is a child process made by fork(), whose parent had used OpenVINO: its threads do not "
                        "exist here; fork before the first load, or let the child exec");
        }
        throw Error(errc::shutting_down, key, stage, "the process exits, and OpenVINO has been closed");
    }
}

/// Frees what OpenVINO made; not once it is closed because the process exits, nor in a child whose parent had used it.
struct FreeInEngine {
    template <class Object>
    void operator()(Object* object) const noexcept {
        if (const Engine::Scope use; use) {
            delete object;
        }
    }
};

/// Something of OpenVINO's, freed only while that is possible.
template <class Object>
using Handle = std::unique_ptr<Object, FreeInEngine>;

/// The process's one core, with which models are read and compiled. Never destroyed: the process may exit at any
/// moment. Precondition: the engine may be used. Throws what OpenVINO throws.
inline ov::Core& core() {
    static ov::Core& only = *std::make_unique<ov::Core>().release();
    return only;
}

/// Lets the core know the operations that `library` has, the first time. Throws what OpenVINO throws.
inline void add_extension_once(const std::string& library) {
    static std::mutex& mutex = *std::make_unique<std::mutex>().release();
    static std::set<std::string>& added = *std::make_unique<std::set<std::string>>().release();
    const std::lock_guard lock(mutex);
    if (!added.contains(library)) {
        core().add_extension(library);
        added.insert(library);
    }
}

}  // namespace residency::detail::openvino
