#pragma once

// What the stress itself saw, of each request and of each model. Nothing in here comes from the library.

#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "stress/relaxed.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace residency::stress {

using Clock = std::chrono::steady_clock;

inline constexpr std::uint32_t most_keys = 3;
/// How many texts a request has at most.
inline constexpr std::uint32_t most_rows = 20;

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
    BatchLimits limits{};
    /// How many bytes it says that it holds, and how many of them count.
    std::size_t memory_used = 0;
    std::size_t counted_bytes = 0;
    /// Which of its key's models it is, from 1; 0 before it is loaded.
    Relaxed<std::uint64_t> ordinal{0};
    /// From the end of its load to the beginning of its destructor.
    Relaxed<bool> alive{true};
    /// Its destructor is done.
    Relaxed<bool> gone{false};
    /// Leases and calls of which it is certain that the library counts them: noted after the grant, forgotten before
    /// the end.
    Relaxed<std::size_t> held{0};
    /// 0 until a caller learnt of it.
    Relaxed<std::uint64_t> generation{0};
    /// The last use of which it is certain that it was not after the last one that the library saw.
    Relaxed<Clock::rep> used{0};
    /// Of a load that failed: when; when the next load of its key began; and whether a caller learnt of it, so that
    /// it is certain that it counted as a failure. (Of a load that was asked to stop at that moment only the library
    /// knows.)
    Relaxed<Clock::rep> failed_at{0};
    Relaxed<Clock::rep> next_began{0};
    Relaxed<bool> counted{false};
};

/// What a fake throws. Says of which load or call it is, so that no request is given another's.
struct FakeFailure : std::runtime_error {
    explicit FakeFailure(ModelFacts& failed) : std::runtime_error("the load was made to fail"), load(&failed) {}
    explicit FakeFailure(std::uint32_t of) : std::runtime_error("the model was made to fail"), call(of) {}
    ModelFacts* load = nullptr;
    std::uint32_t call = 0;
};
/// The same of a call that names a text, or whose model is busy.
struct FakeError : Error {
    FakeError(std::uint32_t of, const Error& error) : Error(error), call(of) {}
    std::uint32_t call;
};
/// The same of a load or a call that finds no memory.
struct FakeShortage : std::bad_alloc {
    explicit FakeShortage(ModelFacts& failed) : load(&failed) {}
    explicit FakeShortage(std::uint32_t of) : call(of) {}
    ModelFacts* load = nullptr;
    std::uint32_t call = 0;
};

/// What the latest call of a request means to it.
enum class Fate : std::uint8_t {
    /// There was none.
    none,
    /// It runs.
    running,
    /// The request has its rows.
    served,
    /// The call threw: for the request alone, or so that no other call would fare better.
    failed,
    /// The request's rows cannot be used.
    spoiled,
    /// The call failed for one of its requests, and it is not known which: no more than half of them share a call.
    again_in_part,
    /// It failed for another request.
    again_together,
    /// It ran out of memory.
    again_halved,
    /// The request was complete before the call returned: it has no other.
    left,
};

/// How one call for a part of a request failed.
struct FailedPart {
    Relaxed<std::uint32_t> call{0};
    /// Which of the request's texts it named, or -1.
    Relaxed<int> faulty{-1};
    /// Its rows could not be used; if not, it threw.
    Relaxed<bool> is_spoiled{false};
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

    /// The position of its call's return among all of these and the starts of shutdowns; 0 if it is not known, or if it
    /// is a shutdown.
    Relaxed<std::uint64_t> position{0};
    /// Of a shutdown: the position of its start.
    std::uint64_t started = 0;
    /// Whether its handler's executor sets `posted`.
    Relaxed<bool> is_noted{false};
    Relaxed<bool> posted{false};
    /// The first-in, first-out context that its handler is posted to without a detour; null if there is none.
    Relaxed<const void*> loop{nullptr};

    Relaxed<bool> cancelled{false};
    Relaxed<int> ends{0};
    Relaxed<int> calls{0};
    Relaxed<Fate> fate{Fate::none};
    /// The number of its latest call, how many requests shared that, and which of its texts was at fault, or -1.
    Relaxed<std::uint32_t> call{0};
    Relaxed<std::size_t> together{0};
    Relaxed<int> faulty{-1};
    /// Whether it had calls for parts of its texts, which may run at once. Sets of its texts, a bit each: with which a
    /// call began, with which one runs, and of which there is a row. The parts that failed.
    Relaxed<bool> is_cut{false};
    Relaxed<std::uint32_t> begun_texts{0};
    Relaxed<std::uint32_t> running_texts{0};
    Relaxed<std::uint32_t> served_texts{0};
    Relaxed<std::uint32_t> failed{0};
    std::array<FailedPart, most_rows> failed_parts{};
    /// It was granted, and complete before its call began.
    Relaxed<bool> was_unseen{false};
    /// The model that was called for it.
    Relaxed<ModelFacts*> answered_by{nullptr};

    /// All of its texts.
    [[nodiscard]] std::uint32_t all_texts() const noexcept { return (std::uint32_t{1} << rows) - 1; }
    [[nodiscard]] bool is_call() const noexcept { return kind == Kind::embed || kind == Kind::rerank; }
    [[nodiscard]] bool wants_model() const noexcept { return kind != Kind::unload && kind != Kind::shutdown; }
};

/// Where a model finds the facts of a request by the number that the request carries.
using Requests = std::vector<RequestFacts>;

/// A text: of which request, and which of its texts.
struct TextOf {
    std::uint32_t request = 0;
    std::uint32_t row = 0;
};

/// How a call ends.
enum class Ending : std::uint8_t { threw, too_many, too_few, nan, names_text, busy, out_of_memory, sound };

/// One call of a model.
struct Call {
    std::vector<TextOf> texts{};
    EmbedAs as = EmbedAs::as_is;
    std::size_t bytes = 0;
    /// Without the queries.
    std::size_t text_bytes = 0;
    std::uint32_t number = 0;
    std::vector<RequestFacts*> requests{};
    /// Whether its requests have had none before.
    bool is_first = false;
    /// It is about some of the texts of one request, and which these are.
    bool is_part = false;
    std::uint32_t part = 0;
    Ending ending = Ending::sound;
    /// Which text is at fault, if one is.
    std::size_t at = 0;

    /// How many rows it answers.
    [[nodiscard]] std::size_t rows() const noexcept {
        return ending == Ending::too_many  ? texts.size() + 1
               : ending == Ending::too_few ? texts.size() - 1
                                           : texts.size();
    }
};

}  // namespace residency::stress
