#pragma once

// What a simulation itself saw: what it asked for, and what the backend and the models were called for. Nothing in here
// comes from the library, so that what the library says of itself can be held against it.

#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/error.hpp"
#include "residency/event.hpp"
#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "residency/status.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace residency::simulation {

using Time = std::chrono::nanoseconds;

inline constexpr Time never = Time::max();
inline constexpr int no_key = -1;

enum class Kind : std::uint8_t { call, acquire, attempt, ensure, unload, shutdown };

/// A failure that a fake threw: whose it is, and whether its load had been asked to stop.
struct FakeFailure : std::runtime_error {
    FakeFailure(int by, bool was_stopped)
        : std::runtime_error("the fake fails as it was asked to"), serial(by), stopped(was_stopped) {}
    int serial;
    bool stopped;
};

/// A backend that cannot say how much memory the model of a key needs.
struct FakeSizeFailure : std::runtime_error {
    FakeSizeFailure(int of_slot, int of_key)
        : std::runtime_error("the fake does not know the size"), slot(of_slot), key(of_key) {}
    int slot;
    int key;
};

/// A load or a call for which the fake has no memory.
struct FakeShortage : std::bad_alloc {
    explicit FakeShortage(int by) : serial(by) {}
    int serial;
};

/// A failure of a call whose model could not work now, or that names the text at fault.
struct FakeError : Error {
    FakeError(int by, const Error& error) : Error(error), serial(by) {}
    int serial;
};

/// How a model call ends.
enum class Ending : std::uint8_t {
    sound,
    /// A NaN in the row of one text.
    nan,
    too_few,
    too_many,
    /// It throws, and no text is at fault alone.
    threw,
    /// It throws, and names a text.
    names_text,
    /// It throws, and names a text that it does not have.
    names_none,
    /// It throws, and says when to try again.
    busy,
    out_of_memory,
};

/// One call of a model.
struct CallFacts {
    int id = 0;
    /// The number of its model.
    int model = 0;
    /// Its requests, in the order of their texts.
    std::vector<int> requests{};
    std::size_t texts = 0;
    std::size_t bytes = 0;
    /// Its rows of the request, if it is for a part of one.
    std::vector<int> rows{};
    /// Whether none of the requests, or of the rows, has had a call before.
    bool is_first = false;
    Ending ending = Ending::sound;
    /// Which text is at fault, if one is.
    std::size_t at = 0;
    bool has_ended = false;
    /// Whether its slot had shut down, or may have, when it ended.
    bool closed_at_end = false;
    bool maybe_closed_at_end = false;

    [[nodiscard]] bool is_part() const noexcept { return !rows.empty(); }
    [[nodiscard]] bool has_failed() const noexcept {
        return has_ended && ending != Ending::sound && !(ending == Ending::out_of_memory && texts > 1);
    }
};

/// What may happen to model calls. Each has to, over many seeds, or a rule is looked at where it cannot be broken.
enum class Sight : std::uint8_t {
    joint_call,
    joint_call_of_pairs,
    three_in_a_call,
    rerun_without_faulty,
    rerun_alone,
    rerun_in_part,
    halved,
    smaller_after_shortage,
    busy_ends_all,
    closed_ends_all,
    nan_of_one,
    left_out_before,
    left_out_of_rerun,
    completed_early_within,
    stopped_when_unwanted,
    part,
    parts_at_once,
    part_halved,
    part_failed,
    parts_of_two_models,
    counters_agree,
    denied,
    waits,
    wait_together,
    cancelled,
    resumed_unwanted,
    waits_for_memory,
    evicted_for_other_slot,
    without_memory,
    size_failed,
    tried_again,
    beyond_limit,
    lied,
    trimmed,
    loaded_by_neighbour,
    evicted_for_neighbour,
    waits_for_neighbour,
};
inline constexpr std::array sight_names{
    "several requests in a call",
    "several queries in a call",
    "three requests in a call",
    "the others called again without the text at fault",
    "one called again alone",
    "some called again together after a failure",
    "a half called after a shortage of memory",
    "a smaller batch after a shortage of memory",
    "a joint call failed and not repeated, for the model is busy",
    "a joint call failed and not repeated, for the slot is closed",
    "a NaN of one request in a joint call",
    "a request completed before its call began",
    "a request completed before the others were called again",
    "a request completed while its joint call ran",
    "a joint call asked to stop",
    "a part of a request",
    "two parts of a request at once",
    "a half of a part called after a shortage of memory",
    "a part that failed",
    "parts of a request on two models",
    "batches and texts counted exactly, with joint calls",
    "a key that the backend does not know",
    "an asynchronous call waited",
    "asynchronous calls waited together",
    "an asynchronous call was cancelled",
    "an asynchronous call ignored that it was cancelled",
    "a request waits for memory",
    "an idle model unloaded for a model of the other slot",
    "a request that can never have its memory",
    "an estimate that throws",
    "a load tried again after a shortage of memory",
    "a limit set below what models hold",
    "a model that holds more than was reserved for it",
    "memory wanted back by the host",
    "a model of another manager on the budget",
    "an idle model unloaded for a model of another manager",
    "a request waits for memory that another manager's models hold",
};
using Sights = std::array<std::uint64_t, sight_names.size()>;

/// One request, from the call to its handler.
struct RequestFacts {
    int id = 0;
    Kind kind = Kind::call;
    /// Its slot; both for a shutdown of the manager.
    int slot = 0;
    bool both_slots = false;
    int key = no_key;
    RequestOptions options{};
    UnloadMode mode = UnloadMode::drain;
    /// A shutdown: whether its deadline ends what runs.
    bool revokes = false;
    int rows = 0;
    /// The bytes of its texts, and of its query.
    std::size_t bytes = 0;
    bool invalid = false;

    /// When the call began; a shutdown: when it returned, for other threads may have come between its two slots.
    Time begun{0};
    Time started{0};
    std::uint64_t sequence = 0;
    bool closing_at_call = false;
    bool closed_at_call = false;
    /// The queue was full, also without those whose deadline had passed; with those.
    bool full_at_call = false;
    bool maybe_full_at_call = false;
    bool resident_at_call = false;
    bool cooling_at_call = false;
    bool maybe_cooling_at_call = false;
    /// How often the backend was asked about its key, whether it does not know it, and whether others came, or time
    /// passed, between the call and the question.
    int asked = 0;
    bool denied = false;
    bool overtaken = false;
    /// Whether others wait for the key's memory meanwhile: the call itself may bring the answer, and with it a load,
    /// before it joins the queue.
    bool load_may_begin = false;

    bool starting = true;
    /// When the call that started it had returned.
    std::uint64_t returned = 0;
    /// When everything had last been carried out before it.
    std::uint64_t quiet_before = 0;
    /// When its handler was posted, and within how many others' steps; only known of handlers with an executor of their
    /// own.
    std::uint64_t posted = 0;
    int posted_depth = 0;
    /// When what posted it began to run: what it was answered was decided after that.
    std::uint64_t decided = 0;
    Time decided_time{0};
    /// When a lease of its was first seen, and within how many others' steps.
    std::uint64_t leased = 0;
    int leased_depth = 0;
    /// It was cancelled; so that it has to end, whatever it was at.
    bool may_be_cancelled = false;
    bool cancelled = false;
    int completions = 0;
    std::uint64_t completed_at = 0;
    Time completed_time{0};
    int handlers = 0;
    std::optional<boost::system::error_code> code{};
    Stage stage = Stage::admission;
    /// The generation that answered, once that is known.
    Generation granted{};
    /// The model that was called for it, and the calls.
    int model = 0;
    std::vector<int> calls{};
    /// Whether it was cut: each of its calls is for a part.
    bool is_cut = false;

    [[nodiscard]] bool outstanding() const noexcept { return completions == 0; }
    [[nodiscard]] bool wants_model() const noexcept {
        return kind == Kind::call || kind == Kind::acquire || kind == Kind::ensure;
    }
    [[nodiscard]] Time due() const noexcept {
        return options.timeout ? begun + std::chrono::duration_cast<Time>(*options.timeout) : never;
    }
};

/// One load, and the model that it gave.
struct ModelFacts {
    enum class State : std::uint8_t { loading, failed, alive, dying, gone };

    int serial = 0;
    int slot = 0;
    int key = 0;
    State state = State::loading;
    std::size_t capacity = 0;
    BatchLimits limits{};
    /// When a call of several requests last ran out of memory, and what batches are limited to from then on.
    std::uint64_t shortage = 0;
    std::size_t most_texts = 0;
    Generation generation{};
    std::uint64_t begun = 0;
    /// When the job that loads it began to run: the backend is called after that.
    std::uint64_t entered = 0;
    Time entered_time{0};
    int calling = 0;
    int held = 0;
    bool stopped = false;
    bool refused = false;
    /// How much it holds, how much the backend had said that it would, and how much the model says; zero: nothing.
    std::size_t holds = 0;
    std::size_t estimate = 0;
    std::size_t says = 0;
    /// Its load failed for want of memory; with an error of the library's own kind.
    bool lacked_memory = false;
    bool says_lacking = false;

    [[nodiscard]] bool holds_memory() const noexcept { return state != State::failed && state != State::gone; }
};

/// One key of one slot.
struct KeyFacts {
    int failures = 0;
    /// It cools down for certain until the first; perhaps until the second: a load that failed may have been asked to
    /// stop before.
    Time cooling_until{Time::min()};
    Time maybe_cooling_until{Time::min()};
    /// How many loads in a row may have failed.
    int maybe_failures = 0;
    int loading = 0;
    /// When its latest load or estimate failed, or its latest model was gone.
    std::uint64_t vacant = 0;
    std::uint64_t unload = 0;
    std::uint64_t revoke = 0;
    /// How much it needs, as the backend said last; zero if it never did. What its last model said that it uses.
    std::size_t estimate = 0;
    std::size_t used = 0;
    bool sizing = false;
    /// A request asked for its model to be pinned.
    bool may_be_pinned = false;
    /// Its last load failed for want of memory, and none has succeeded since.
    bool lacked_memory = false;
    /// When its memory may last have been more than pinned models leave of the limit.
    std::uint64_t impossible = 0;

    /// No more than this is reserved for it.
    [[nodiscard]] std::size_t most() const noexcept { return std::max(estimate, used); }
};

/// What another manager on the same budget does: what its models hold, from the start of a load to the end of a
/// destructor; its requests, and what their keys need; its bare leases.
struct NeighbourFacts {
    std::size_t holds = 0;
    std::size_t waiting = 0;
    std::size_t wanted = 0;
    std::size_t leases = 0;
    /// When nothing was left to run: whether a model of it drained.
    bool drains = false;
};

/// The budget that the slots share.
struct MemoryFacts {
    bool limited = false;
    std::size_t limit = 0;
    /// No more than this is reserved, but by what models said after their load: the limit, or what was more than that
    /// when it was lowered.
    std::size_t ceiling = 0;
    /// The lowest limit that a slot may go by: while the limit is being set, an earlier one.
    std::size_t lowest = 0;
    int setting = 0;
    std::uint64_t changes = 0;
    /// The other manager, and when its keys may last not have had so many bytes.
    NeighbourFacts neighbour{};
    std::array<std::uint64_t, 6> impossible{};
    /// When idle models may last have had to go although no request waits for their memory.
    std::uint64_t pressed = 0;
    /// The host trims while another thread is within the budget, which may do that when other models have come.
    bool trims_later = false;
};

/// One residency, as the slot's status showed it.
struct ResidencyFacts {
    Generation generation{};
    int key = 0;
    ResidentState state = ResidentState::ready;
    std::size_t leases = 0;
    std::uint64_t ready = 0;
    /// No later than this it became ready.
    Time ready_high{0};
    /// Since when it has been idle: not earlier and not later than these.
    Time idle_low{0};
    Time idle_high{0};
};

/// A residency whose unloading was seen to begin, and for which nothing but idleness is a reason.
struct IdleUnload {
    ResidencyFacts residency{};
    Time at{0};
    std::uint64_t sequence = 0;
};

/// What the events of one slot have said.
struct EventFacts {
    Time latest{Time::min()};
    /// How many there were of each type.
    std::array<std::uint64_t, static_cast<std::size_t>(EventType::dropped) + 1> counts{};
    /// Requests refused as overloaded, cooling_down, unknown_model and insufficient_memory, and when an event last said
    /// so.
    std::array<std::uint64_t, 4> refused{};
    std::array<Time, 4> refused_at{Time::min(), Time::min(), Time::min(), Time::min()};

    [[nodiscard]] std::uint64_t of(EventType type) const noexcept { return counts[static_cast<std::size_t>(type)]; }
};

/// One slot.
struct SlotFacts {
    SlotOptions options{};
    /// A shutdown was begun; it has begun.
    bool closing = false;
    bool closed = false;
    /// A shutdown was begun whose deadline ends what runs.
    bool revoking = false;
    int loading = 0;
    int alive = 0;
    int held = 0;
    int calling = 0;
    /// Batches whose first call was seen, and their texts.
    std::uint64_t batches = 0;
    std::uint64_t texts = 0;
    bool has_joint_calls = false;
    bool has_parts = false;
    std::vector<KeyFacts> keys{};
    std::uint64_t counter = 0;
    std::vector<ResidencyFacts> residencies{};
    std::vector<IdleUnload> idle_unloads{};
    SlotCounters counters{};
    EventFacts events{};

    /// How many models there may be at once.
    [[nodiscard]] std::size_t places() const noexcept {
        return options.max_resident == 0 ? std::numeric_limits<std::size_t>::max() : options.max_resident;
    }
    /// How many model calls may run at once.
    [[nodiscard]] std::size_t max_calls() const noexcept {
        return options.max_calls == 0 ? options.max_leases : std::min(options.max_calls, options.max_leases);
    }
    /// How much of the queue requests of a priority may use.
    [[nodiscard]] std::size_t queue_for(Priority priority) const noexcept {
        return options.max_queue - (priority == Priority::low ? options.max_queue / 4 : 0);
    }
};

}  // namespace residency::simulation
