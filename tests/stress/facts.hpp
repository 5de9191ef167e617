#pragma once

// What the stress itself saw, of each request and of each model. Nothing in here comes from the library.

#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "stress/relaxed.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace residency::stress {

using Clock = std::chrono::steady_clock;

inline constexpr std::uint32_t most_keys = 3;

/// What is asked for.
enum class Kind : std::uint8_t { embed, rerank, acquire, ensure_loaded, unload, shutdown };
inline constexpr std::size_t kinds = 6;
/// How.
enum class Way : std::uint8_t { handler, coroutine, future, blocking };
inline constexpr std::size_t ways = 4;

/// One load and its model. Outlives it.
struct ModelFacts {
    std::uint32_t slot = 0;
    std::uint32_t key = 0;
    std::uint32_t serial = 0;
    std::size_t capacity = 0;
    /// Which of its key's models it is, from 1; 0 before it is loaded.
    Relaxed<std::uint64_t> ordinal{0};
    /// From the end of its load to the beginning of its destructor.
    Relaxed<bool> alive{true};
    /// Its destructor is done.
    Relaxed<bool> gone{false};
    /// Leases and calls of which it is certain that the library counts them: noted after the grant, forgotten before
    /// the end.
    Relaxed<std::size_t> held{0};
    /// 0 until somebody was told.
    Relaxed<std::uint64_t> generation{0};
    /// The last use of which it is certain that it was not after the last one that the library saw.
    Relaxed<Clock::rep> used{0};
    /// Of a load that failed: when; when the next load of its key began; and whether somebody was told of it, so that
    /// it is certain that it counted as a failure. (Of a load that was asked to stop at that moment only the library
    /// knows.)
    Relaxed<Clock::rep> failed_at{0};
    Relaxed<Clock::rep> next_began{0};
    Relaxed<bool> counted{false};
};

/// What a fake throws. Says of which load or request it is, so that nobody is given another's.
struct FakeFailure : std::runtime_error {
    explicit FakeFailure(ModelFacts& failed) : std::runtime_error("the load was told to fail"), load(&failed) {}
    explicit FakeFailure(std::uint32_t id) : std::runtime_error("the model was told to fail"), request(id) {}
    ModelFacts* load = nullptr;
    std::uint32_t request = 0;
};

/// One request. Written before it is made, but for what is Relaxed.
struct RequestFacts {
    std::uint32_t id = 0;
    Kind kind = Kind::embed;
    Way way = Way::handler;
    std::uint32_t slot = 0;
    std::uint32_t key = 0;
    std::uint32_t rows = 0;
    RequestOptions options{};
    Clock::time_point begun{};
    /// It has an empty name or query.
    bool invalid = false;
    /// Its slot was shut down before it, or had answered another with `shutting_down`.
    bool after_shutdown = false;
    /// About one key; if not, an unload of all.
    bool of_key = true;
    UnloadMode mode = UnloadMode::drain;
    /// Of a shutdown.
    std::optional<std::chrono::milliseconds> deadline{};
    /// What was resident for its key just before an unload.
    ModelFacts* before = nullptr;

    /// The position of its call's return, or of a shutdown's start, among all of these; 0 if it is not known.
    Relaxed<std::uint64_t> position{0};
    /// Whether its handler's executor sets `posted`.
    Relaxed<bool> is_noted{false};
    Relaxed<bool> posted{false};
    /// The first-in, first-out context that its handler is posted to without a detour; null if there is none.
    Relaxed<const void*> loop{nullptr};

    Relaxed<bool> cancelled{false};
    Relaxed<int> ends{0};
    Relaxed<int> calls{0};
    /// The model that was called for it.
    Relaxed<ModelFacts*> answered_by{nullptr};

    [[nodiscard]] bool is_call() const noexcept { return kind == Kind::embed || kind == Kind::rerank; }
    [[nodiscard]] bool wants_model() const noexcept { return kind != Kind::unload && kind != Kind::shutdown; }
};

}  // namespace residency::stress
