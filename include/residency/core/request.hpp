#pragma once

#include "residency/core/action.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/text_lengths.hpp"
#include "residency/core/time.hpp"
#include "residency/embed_as.hpp"
#include "residency/error_code.hpp"
#include "residency/generation.hpp"
#include "residency/options.hpp"

#include <cstddef>
#include <cstdint>

namespace residency::core {

/// What a request wants of the scheduler.
struct RequestSpec {
    /// When it is given up; `never` if it has no timeout.
    Time deadline = never;
    /// When the request came. Needed with a deadline; `enqueue` sets it.
    Time since{0};
    /// The keep-alive from its grant on, if it overrides it.
    Duration keep_alive{0};
    /// The generation that it expects, if it expects one.
    Generation expected{};
    /// How many texts or pairs its model call is about; zero if its lease is bare.
    Index texts = 0;
    /// How many bytes they are. They count in `max_queue_bytes` while it waits.
    Index bytes = 0;
    /// Orders it among the waiters.
    Priority priority = Priority::normal;
    /// What its texts are to the model. Only equal ones share a call.
    EmbedAs as = EmbedAs::as_is;
    /// Whether it wants a lease; if not, it wants its model to be loaded (`ensure_loaded`).
    bool wants_lease : 1 = true;
    /// Whether its lease is for a model call: it counts in `max_calls`, and its deadline goes on until the lease is
    /// released.
    bool is_inference : 1 = false;
    /// Whether it expects a generation. None is never what is resident.
    bool expects : 1 = false;
    /// Whether it overrides the keep-alive.
    bool overrides_keep_alive : 1 = false;
    /// Whether the backend, asked because the key had no resident, does not know the key.
    bool is_unknown : 1 = false;

    /// Same in every field.
    friend bool operator==(const RequestSpec&, const RequestSpec&) = default;
};

/// How much of a queue with room for `all` requests of this priority may take: the last quarter is kept from `low`.
[[nodiscard]] constexpr std::size_t share_of_queue(std::size_t all, Priority priority) noexcept {
    return all - (priority == Priority::low ? all / 4 : 0);
}

/// A request that is cut into parts.
struct Bulk {
    /// Its texts; null where only tests look: they are then of equal length.
    const TextLengths* lengths = nullptr;
    /// How many texts parts have been given, in the order of `lengths`.
    Index given = 0;
    /// How many of its parts run.
    Index running = 0;
    /// How many texts a part has at most; none if only the model's limits say so.
    Index part = none;
    /// Whether it is cut: each grant gives it a part.
    bool is_cut = false;

    /// Same in every field.
    friend bool operator==(const Bulk&, const Bulk&) = default;
};

/// What became of a request.
enum class RequestState : std::uint8_t {
    /// It waits.
    waiting,
    /// It has its lease, and its deadline goes on.
    leased,
    /// It timed out and stays in its list, so that its key keeps its turn.
    claim,
};

/// A request that waits, one that keeps its key's turn, or one that has its lease and a deadline that goes on.
struct Request {
    /// What it wants. As many wait, what follows begins in its last bytes, which are free.
    [[no_unique_address]] RequestSpec spec{};
    /// What became of it.
    RequestState state = RequestState::waiting;
    /// Its key's entry.
    Index key = none;
    /// The one before it in its list; of the first, the last.
    Index previous = none;
    /// The one behind it in its list.
    Index next = none;
    /// The one that expects a generation and came next for the same key.
    Index newer_expecting = none;
    /// The one that expects a generation and came just before.
    Index older_expecting = none;
    /// What is known of it as one that may be cut into parts, which it is if it has more than one text; or none.
    Index bulk = none;
    /// Its place in the order of all arrivals.
    std::uint64_t arrival = 0;
    /// When it was given its lease, or its first part.
    Time granted{0};

    /// Same in every field.
    friend bool operator==(const Request&, const Request&) = default;
};

/// A lease, as the scheduler knows it.
struct Grant {
    /// What it is a lease on.
    ResidentId resident{};
    /// Its request, if that has a deadline that goes on; if not, it names nothing.
    RequestId request{};
    /// Whether it is for a model call, which counts in `max_calls`.
    bool is_inference = false;
    /// How many texts that is about, those of all requests that share it.
    Index texts = 0;
    /// Whether its request may have more of them, each for a part of its texts.
    bool is_part = false;
    /// The priority of its request, or of the first that shares it.
    Priority priority = Priority::normal;

    /// The same lease, or one that cannot be distinguished from it.
    friend bool operator==(const Grant&, const Grant&) = default;
};

/// How an attempt to be granted at once went.
enum class Attempt : std::uint8_t {
    /// It has its lease, or what it wanted to be loaded is.
    granted,
    /// It has to wait: call `enqueue`.
    must_wait,
    /// The slot shuts down.
    shutting_down,
    /// It expects another residency than there is.
    model_changed,
};

/// What became of a request that could not be granted at once.
struct Enqueued {
    /// Its name while it waits; names nothing if it was refused.
    RequestId request{};
    /// How many actions came before the request joined: those may be about one that had the same index.
    std::size_t joined_after = 0;
    /// Why it was refused.
    errc code = errc::overloaded;
    /// In which stage.
    Stage stage = Stage::admission;
    /// When to try again, with cooling_down and overloaded; zero if that is not known. With insufficient_memory how
    /// many bytes the key needs, as a number.
    Duration retry_after{0};
};

}  // namespace residency::core
