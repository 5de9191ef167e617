#pragma once

// The managers that the programs here exit with.

#include "residency/backends/lexical.hpp"
#include "residency/event.hpp"
#include "residency/model_manager.hpp"
#include "residency/options.hpp"

#include <atomic>

#if defined(EXIT_WITH_LLAMA_CPP)
#include "residency/backends/llama_cpp.hpp"

#include <cstdlib>
#elif defined(EXIT_WITH_OPENVINO)
#include "residency/backends/openvino.hpp"

#include <cstdlib>
#else
#include "exit/fake_engine.hpp"
#endif

namespace residency::test {

#if defined(EXIT_WITH_LLAMA_CPP) || defined(EXIT_WITH_OPENVINO)
#if defined(EXIT_WITH_LLAMA_CPP)
using Backend = LlamaCppEmbeddingBackend;

inline Backend make_backend() {
    return LlamaCppEmbeddingBackend({.model = {.files = std::getenv("RESIDENCY_EXIT_MODELS"), .contexts = 2}});
}
#else
using Backend = OpenVinoEmbeddingBackend;

inline Backend make_backend() {
    return OpenVinoEmbeddingBackend({.model = {.folders = std::getenv("RESIDENCY_EXIT_MODELS"), .streams = 2}});
}
#endif

/// How many steps of loads were reported; all of them once one has ended.
inline std::atomic<int> steps_begun{0};

inline Observer count_steps() {
    return [](const Event& event) {
        constexpr int all = 1000;
        if (event.type == EventType::load_progress || event.type == EventType::ready) {
            steps_begun += event.type == EventType::ready ? all : 1;
            steps_begun.notify_all();
        }
    };
}
#else
using Backend = FakeEngineBackend;

inline Backend make_backend() { return {}; }
inline Observer count_steps() { return {}; }
#endif

using Manager = ModelManager<Backend, LexicalRerankerBackend>;

inline ManagerOptions manager_options() {
    return {.embedding = {.max_leases = 4, .max_calls = 2}, .observer = count_steps()};
}

/// A manager with static storage in a shared library.
Manager& manager_of_library();

}  // namespace residency::test
