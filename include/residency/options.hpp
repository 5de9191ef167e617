#pragma once

#include "residency/embed_as.hpp"
#include "residency/generation.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace residency {

struct Event;
class MemoryBudget;

/// A keep-alive that never ends: the model stays until it is switched out, unloaded or shut down.
inline constexpr std::chrono::milliseconds keep_alive_forever = (std::chrono::milliseconds::max)();

/// Orders the waiters of one slot, also those of one key: priority first, then arrival. `SlotOptions::aging` limits how
/// long a waiter can be passed over.
enum class Priority : std::uint8_t {
    /// Before all others: a person waits for the answer.
    high,
    /// The default.
    normal,
    /// After all others: batch work. Not starved, see `SlotOptions::aging`.
    low,
};

/// How `unload` treats the requests that are running on the model.
enum class UnloadMode : std::uint8_t {
    /// They end as if nothing had happened; then the model is unloaded.
    drain,
    /// Those made through the manager (`embed`, `rerank`) complete with `model_changed` at once and their stop_tokens
    /// are set; bare leases see it in `Lease::revoked()`. The model still lives until the last of them has let go.
    revoke,
};

/// How a slot keeps its models. All fields are checked in the slot's constructor, which throws std::invalid_argument
/// naming the field.
struct SlotOptions {
    /// How long a resident stays after its last lease ended. Zero: unloads when free. `keep_alive_forever`: never.
    /// Not negative. Default 5 min: ollama's, long enough for a person's pause, short enough to give memory back.
    std::chrono::milliseconds keep_alive{std::chrono::minutes{5}};

    /// How many models may be resident at once, those loading and unloading included. Zero: as many as `memory` allows,
    /// and only with it. Default 1: the memory of one model; a second key is switched to.
    std::size_t max_resident = 1;

    /// How many leases may live at once over all residents of the slot. At least 1.
    /// Default 10: what one machine can use at once, with a few bare leases beside the model calls.
    std::size_t max_leases = 10;

    /// How many model calls of `embed` and `rerank` may run at once. Bare leases do not count. At most 1,000,000, and
    /// never more than `max_leases`. Default 0: the processors that this process may use (`usable_processors()`: the
    /// affinity and the control groups' CPU quota considered) or `max_leases`, whichever is less; `max_leases` with the
    /// host's executors, of which only the host knows how many calls they run at once, and for models that answer
    /// asynchronously, whose calls wait without a thread. With two and more, requests leave one call to those of higher
    /// priority while such come, and parts of large requests leave one to all others.
    std::size_t max_calls = 0;

    /// How many loads may run at once. Between 1 and 1,000,000.
    /// Default 1: two loads share the disk, and the first of them then takes as long as both.
    std::size_t max_loads = 1;

    /// How many requests may wait for a lease or a load; one more is `overloaded`. Requests of priority `low` may use
    /// three quarters of it. Between 1, because a request that needs a load waits for it, and 1,000,000. Default 512:
    /// TEI's order of magnitude, seconds of work rather than minutes.
    std::size_t max_queue = 512;

    /// How many bytes of texts, queries and documents may wait; one more is `overloaded`, and a request with more by
    /// itself is `invalid_request`. Requests of priority `low` may use three quarters of it. Between 1 and
    /// 4,294,967,295. Default 64 MiB: far more than `max_queue` short texts, far less than memory.
    std::size_t max_queue_bytes = std::size_t{64} << 20U;

    /// How many texts or pairs one model call may be about, if that is less than the model's `batch_limits()`. With 1
    /// each request has calls of its own. Default 0: the model's.
    std::size_t max_batch_texts = 0;

    /// How long a key answers `cooling_down` after its load failed; doubles with each failure that follows. Zero: no
    /// cooldown. Not negative. Default 1 s: keeps a hot loop off a broken file, and a person does not notice it.
    std::chrono::milliseconds cooldown{std::chrono::seconds{1}};

    /// The longest cooldown that doubling leads to. Not less than `cooldown`.
    /// Default 60 s: a repaired file is found within a minute.
    std::chrono::milliseconds max_cooldown{std::chrono::seconds{60}};

    /// How long a waiter may be passed over. While one has waited longer, at least every second lease and every second
    /// place of the slot goes to the oldest such waiter. Not negative; zero: every second goes by arrival. Default 30
    /// s: within the patience of batch work.
    std::chrono::milliseconds aging{std::chrono::seconds{30}};

    /// How long a load goes on after its last waiter left, and how long a key without a resident keeps its turn after
    /// its last waiter timed out. So a client that retries with a timeout shorter than the load finds the model loaded.
    /// Not negative; zero: not at all. Default 10 s: longer than the pause of a client that retries.
    std::chrono::milliseconds abandon_after{std::chrono::seconds{10}};

    /// How long a resident keeps its place against another key that wants it, from when it became ready: so what comes
    /// within that time shares the cost of the load. At most `aging` counts. It ends early once the resident has been
    /// idle for a tenth of it, and does not hold against `unload`, a shutdown or the resident's own keep-alive. While
    /// what runs on a resident, or ran within the length of its load, is of higher priority than every waiter of
    /// another key, that key waits until it is older than `aging`. Not negative; zero: none of this, so that keys get
    /// places first come, first served. Default none: as long as the resident's own load took, or, where n keys want
    /// each place, n / (2 n - 2) of that: so none waits more than about 1.5 times as long as first come, first served.
    std::optional<std::chrono::milliseconds> min_stay{};

    /// The memory budget that the models share with those of other slots, see `MemoryBudget`. Default none: memory is
    /// not counted.
    std::shared_ptr<MemoryBudget> memory{};

    /// How many bytes a model counts for in `memory` if its backend says nothing about it. Default 0: the backend has
    /// to say, with `memory_needed`.
    std::size_t model_memory = 0;

    /// Same in every field; the same budget.
    friend bool operator==(const SlotOptions&, const SlotOptions&) = default;
};

/// What one request asks for beyond the slot's options. Trivially copyable: it may be braced inside `co_await`.
struct RequestOptions {
    /// How long the request may take in all: queue, load and inference. The error `timed_out` names the stage that it
    /// ended in. None: as long as it takes. Zero or less: only what can be granted at once, and so no answer of a model
    /// that takes any time. Default none: a service sets its own.
    std::optional<std::chrono::milliseconds> timeout{};

    /// The resident's keep-alive from this request's grant until the next grant, in place of the slot's. Not negative;
    /// zero: unload when free; `keep_alive_forever`: pin it. Default none: the slot's.
    std::optional<std::chrono::milliseconds> keep_alive{};

    /// Where the request stands among the waiters of its slot, those of its own key included. Default `normal`.
    Priority priority = Priority::normal;

    /// The residency that must answer. Any other is `model_changed`, and nothing is loaded. Default none: any.
    std::optional<Generation> expected_generation{};

    /// What the texts of `embed` are to the model; no other request reads it. A model that makes no difference, because
    /// its `embed` takes no `EmbedAs` or because it has no prefixes, accepts `as_is` alone: anything else is
    /// `invalid_request`. Default `as_is`.
    EmbedAs as = EmbedAs::as_is;
};

static_assert(std::is_trivially_copyable_v<RequestOptions>, "it must be safe to brace inside co_await on g++ 12");

/// How a shutdown ends. Trivially copyable: it may be braced inside `co_await`.
struct ShutdownOptions {
    /// How long the shutdown waits for leases, calls, loads and unloads. Past that it completes with a report of what
    /// is left. Zero or less: not at all. Default none: until nothing is left.
    std::optional<std::chrono::milliseconds> deadline{};

    /// Whether, at the deadline, the calls that still run complete with `shutting_down` and their stop_tokens are set;
    /// bare leases see it in `Lease::revoked()`. Their models are unloaded when they return. Default false: they end as
    /// if nothing had happened.
    bool revoke_at_deadline = false;
};

static_assert(std::is_trivially_copyable_v<ShutdownOptions>, "it must be safe to brace inside co_await on g++ 12");

/// Called with each event, on `Executors::callbacks`, in order, one call at a time, with no lock held. Nothing waits
/// for it: if it is slow, events are dropped and counted, and what the destructor finds undelivered is lost (who needs
/// the last ones waits for each slot's `shutdown_completed` first). What it throws is ignored; it may call back into
/// the library, but not with a blocking call. What it captures by reference must outlive the manager: no call begins
/// after the destructor has returned, but one that runs already may end after it, if the executors are the host's or
/// the manager was destroyed on a thread of its own.
using Observer = std::function<void(const Event&)>;

/// How a manager is set up.
struct ManagerOptions {
    /// The slot of the embedding models.
    SlotOptions embedding{};
    /// The slot of the reranker models.
    SlotOptions reranker{};
    /// Gets every event of both slots. Default none: events then cost nothing.
    Observer observer{};
    /// The memory budget of each slot that has none of its own. Default none.
    std::shared_ptr<MemoryBudget> memory{};
};

/// The most requests that a slot's queue may be configured for.
inline constexpr std::size_t max_queue_limit = 1'000'000;
/// The most bytes that a slot's queue may be configured for.
inline constexpr std::size_t max_queue_bytes_limit = 0xffff'ffffU;
/// The most residents, leases, calls or loads that a slot may be configured for.
inline constexpr std::size_t max_count_limit = 1'000'000;

/// Throws std::invalid_argument, naming the field, unless the options of slot `slot_name` hold what their docs demand.
inline void check_options(const SlotOptions& options, std::string_view slot_name) {
    const auto demand = [slot_name](bool holds, std::string_view field, std::string_view rule) {
        if (!holds) {
            throw std::invalid_argument("residency: option " + std::string(slot_name) + "." + std::string(field) + " " +
                                        std::string(rule));
        }
    };
    using std::chrono::milliseconds;
    demand(options.keep_alive >= milliseconds::zero(), "keep_alive",
           "must not be negative (zero unloads when free, keep_alive_forever never)");
    demand(options.max_resident <= max_count_limit && (options.max_resident >= 1 || options.memory), "max_resident",
           "must be between 1 and 1000000 (zero, which leaves it to the memory budget, needs one)");
    demand(options.max_leases >= 1 && options.max_leases <= max_count_limit, "max_leases",
           "must be between 1 and 1000000");
    demand(options.max_calls <= max_count_limit, "max_calls", "must be at most 1000000 (zero is the default)");
    demand(options.max_loads >= 1 && options.max_loads <= max_count_limit, "max_loads",
           "must be between 1 and 1000000");
    demand(options.max_queue >= 1 && options.max_queue <= max_queue_limit, "max_queue",
           "must be between 1 and 1000000 (a request that needs a load waits for it in the queue)");
    demand(options.max_queue_bytes >= 1 && options.max_queue_bytes <= max_queue_bytes_limit, "max_queue_bytes",
           "must be between 1 and 4294967295 (a request that needs a load waits for it in the queue)");
    demand(options.cooldown >= milliseconds::zero(), "cooldown", "must not be negative (zero switches it off)");
    demand(options.max_cooldown >= options.cooldown, "max_cooldown", "must not be less than cooldown");
    demand(options.aging >= milliseconds::zero(), "aging", "must not be negative (zero: every second by arrival)");
    demand(options.abandon_after >= milliseconds::zero(), "abandon_after", "must not be negative (zero: not at all)");
    demand(options.min_stay.value_or(milliseconds::zero()) >= milliseconds::zero(), "min_stay",
           "must not be negative (zero: first come, first served)");
}

}  // namespace residency
