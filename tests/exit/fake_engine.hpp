#pragma once

// A backend over an engine that has an object with static storage, as llama.cpp has: made with the first load, and not
// to be used once it is destroyed.

#include "residency/backend.hpp"
#include "residency/backends/engine_use.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <thread>

namespace residency::test {

/// The engine. Ends the process if it is used after its end.
class FakeEngine {
public:
    using Use = detail::EngineUse<FakeEngine>;

    /// Uses it.
    static void work() {
        static const FakeEngine engine;
        if (gone_) {
            std::fputs("the engine was used after its end\n", stderr);
            std::abort();
        }
        std::this_thread::yield();
    }
    FakeEngine() = default;
    ~FakeEngine() { gone_ = true; }
    FakeEngine(const FakeEngine&) = delete;
    FakeEngine& operator=(const FakeEngine&) = delete;

private:
    static inline std::atomic<bool> gone_{false};
};

/// How far the model's work has come; the program exits at some of these moments.
inline std::atomic<int> steps_begun{0};

inline void begin_step() {
    FakeEngine::work();
    ++steps_begun;
    steps_begun.notify_all();
}

/// A model that computes until it is asked to stop if a text says "endless".
class FakeEngineModel {
public:
    FakeEngineModel() = default;
    FakeEngineModel(const FakeEngineModel&) = delete;
    FakeEngineModel& operator=(const FakeEngineModel&) = delete;
    ~FakeEngineModel() {
        constexpr int steps = 200;
        if (const FakeEngine::Use::Scope use; use) {
            for (int step = 0; step < steps; ++step) {
                begin_step();
            }
        }
    }

    Embeddings embed(std::span<const std::string> texts, const std::stop_token& stop = {}) const {
        const FakeEngine::Use::Scope use;
        if (!use) {
            throw Error(errc::shutting_down, ModelKey(), Stage::inference);
        }
        do {
            begin_step();
        } while (texts.front() == "endless" && !stop.stop_requested() && !FakeEngine::Use::closed());
        return {texts.size(), 1};
    }
};

/// Its loads report 100 steps; one of a model named "endless" goes on until it is asked to stop.
class FakeEngineBackend {
public:
    using model_type = FakeEngineModel;

    std::unique_ptr<FakeEngineModel> load(const ModelKey& key, const std::stop_token& stop) const {
        constexpr int steps = 100;
        const FakeEngine::Use::Scope use;
        if (!use) {
            throw Error(errc::shutting_down, key, Stage::load);
        }
        for (int step = 0; step < steps || (key.name == "endless" && !stop.stop_requested()); ++step) {
            begin_step();
        }
        return std::make_unique<FakeEngineModel>();
    }
    static void close_engine() noexcept { FakeEngine::Use::close(); }
};

}  // namespace residency::test
