#pragma once

#include "residency/batch_limits.hpp"
#include "residency/core/memory.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/error_code.hpp"
#include "residency/event.hpp"
#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "residency/status.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace residency::core {

/// How much a model takes.
struct ModelLimits {
    /// How many leases at once. Zero counts as 1.
    std::size_t capacity = 1;
    /// How much one call does best with.
    BatchLimits batch{};
    /// Whether requests may share a call. If not, they are only cut.
    bool joins = true;
    /// How many bytes it holds, if it says so; zero if not.
    std::size_t memory = 0;
    /// Whether a request that is alone is cut evenly over its free calls. Not if they wait for another side, which
    /// does best with one call.
    bool spreads = true;
};

/// What the scheduler knows of one resident.
///
/// queued -> loading -> ready -> draining -> unloading -> gone; queued -> gone if the load is not wanted any more;
/// loading -> gone if the load fails; loading -> unloading if the model is not wanted any more; ready -> unloading if
/// it is not in use; draining -> ready if it drained for a switch that is not wanted any more.
struct Resident {
    /// What it is doing.
    ResidentState state = ResidentState::queued;
    /// Loading: it was asked to stop. What it throws from then on is no failure.
    bool stop_requested = false;
    /// Queued: the load is not begun. Loading: what it yields is unloaded unused.
    bool discard = false;
    /// Loading: the load has failed, and the resident stays until its waiters have been failed with `failure`.
    bool failed = false;
    /// What the waiters of a failed load get.
    errc failure = errc::load_failed;
    /// Draining: for `unload` or shutdown, so that it never returns; or for the memory budget. If neither, for a
    /// switch.
    bool for_good = false;
    bool for_memory = false;
    /// It was revoked.
    bool revoked = false;
    /// Why it drains or unloads.
    Reason reason = Reason::none;
    /// Its key's entry.
    Index key = none;
    /// How many leases on it live.
    std::size_t leases = 0;
    /// How many may live.
    std::size_t capacity = 0;
    /// How many of its leases are for model calls, and how many for parts of requests.
    std::size_t calls = 0;
    std::size_t parts = 0;
    /// The number in the slot of the latest call on it that is not for a part; zero if there was none.
    std::uint64_t whole_at = 0;
    /// How many texts the calls that run on it are about.
    std::size_t texts = 0;
    /// How much one call does best with.
    BatchLimits batch{};
    /// Whether requests are cut into calls of that much, whether they may share one, and whether one that is alone is
    /// cut evenly over free calls.
    bool cuts = false;
    bool joins = false;
    bool spreads = false;
    /// Whether the latest call on it is for a part.
    bool last_is_part = false;
    /// Its own number; none until it is ready.
    Generation generation{};
    /// How long it stays after its last lease: the slot's keep-alive, or that of its latest grant.
    Duration keep_alive{0};
    /// Ready and without a lease: since when.
    Time idle_since{0};
    /// When its load, or its unload, began.
    Time began{0};
    /// When it became ready.
    Time ready_at{0};
    /// Loading: when the load is asked to stop; `never` while it has waiters.
    Time abandoned_at = never;
    /// How long it keeps its place against another key's claim, from when it became ready; zero if it yields at once,
    /// whatever runs on it.
    Duration stay{0};
    /// When that ends.
    Time stays_until{0};
    /// How long what ran on it counts against claims of lower priority: the length of its load.
    Duration guard{0};
    /// How many of its leases count as of each priority.
    std::array<Index, 3> running{};
    /// When the last of each ended; `never` if that is not known yet.
    std::array<Time, 3> ran{(Time::min)(), (Time::min)(), (Time::min)()};
    /// The latest arrival among the waiters of a failed load.
    std::uint64_t last_failed = 0;
    /// Its latest grant, or its load if it was never granted, among all of the slot; greater is later.
    std::uint64_t granted = 0;
    /// `granted` when it became ready.
    std::uint64_t readied = 0;
    /// When it began to drain, among all drains; greater is later.
    std::uint64_t drained = 0;
    /// When it came to be, among all residents and operations.
    std::uint64_t birth = 0;
    /// What it has of the slot's memory budget, if there is one, and how many bytes that is.
    MemoryId memory{};
    std::size_t bytes = 0;
    // It is 256 bytes long: another length costs a lease some ten instructions to find it.

    /// Whether it drains, and may return.
    [[nodiscard]] bool may_return() const noexcept { return state == ResidentState::draining && !for_good; }
    /// Whether it drains for a switch.
    [[nodiscard]] bool switches() const noexcept { return may_return() && !for_memory; }
    /// Whether its latest grant pinned it.
    [[nodiscard]] bool pinned() const noexcept { return keep_alive == (Duration::max)(); }
    /// Whether a lease on it lives that is for no model call.
    [[nodiscard]] bool has_bare_lease() const noexcept { return leases > calls; }
    /// Whether it gives its memory to no key, however long that waits: it is pinned, or has a bare lease.
    [[nodiscard]] bool stays_for_memory() const noexcept { return (pinned() && usable()) || has_bare_lease(); }
    /// Whether its load has not begun or has not ended.
    [[nodiscard]] bool is_load() const noexcept {
        return state == ResidentState::queued || state == ResidentState::loading;
    }
    /// Whether its load runs and was not asked to stop.
    [[nodiscard]] bool runs_load() const noexcept {
        return state == ResidentState::loading && !stop_requested && !failed;
    }
    /// Whether it was not used since it became ready.
    [[nodiscard]] bool unused() const noexcept { return granted == readied; }
    /// Whether a request may still expect its generation: ready, or draining and may return.
    [[nodiscard]] bool usable() const noexcept { return state == ResidentState::ready || may_return(); }
    /// Whether it may be unloaded as idle, once it is due.
    [[nodiscard]] bool idle() const noexcept { return state == ResidentState::ready && leases == 0; }
    /// When it is unloaded if it stays idle; precondition: idle().
    [[nodiscard]] Time due() const noexcept { return later(idle_since, keep_alive); }
    /// Whether its latest grant, or its load if it was never granted, came before that of `other`.
    [[nodiscard]] bool used_before(const Resident& other) const noexcept { return granted < other.granted; }
    /// Whether it has been idle for longer than `other`, or was used before it if not; precondition: both are idle().
    [[nodiscard]] bool idle_before(const Resident& other) const noexcept {
        return idle_since != other.idle_since ? idle_since < other.idle_since : used_before(other);
    }

    /// Whether it keeps its place against every claim (H32): for its stay, but not once it has been idle for a tenth of
    /// that. `awaited`: its key has waiters.
    [[nodiscard]] bool keeps_place(bool awaited, Time now) const noexcept {
        return now < stays_until && (leases != 0 || awaited || now < later(idle_since, stay / 10));
    }
    /// The highest priority of what runs on it, or ran within the length of its load; `low` if nothing did.
    [[nodiscard]] Priority served(Time now) const noexcept {
        std::size_t level = 0;
        while (level != 2 && running[level] == 0 && later(ran[level], guard) <= now) {
            ++level;
        }
        return stay == Duration::zero() ? Priority::low : static_cast<Priority>(level);
    }
    /// When its answer to a claim next changes of itself, after `now`; precondition: ready.
    [[nodiscard]] Time next_change(bool awaited, Time now) const noexcept {
        Time next = never;
        if (keeps_place(awaited, now)) {
            next = leases != 0 || awaited ? stays_until : (std::min)(stays_until, later(idle_since, stay / 10));
        }
        for (const std::size_t level : {std::size_t{0}, std::size_t{1}}) {
            const Time ends = later(ran[level], guard);
            next = now < ends && ends < next ? ends : next;
        }
        return next;
    }

    /// A lease of that priority begins.
    void begin_lease(Priority priority) noexcept {
        ++leases;
        ++running[static_cast<std::size_t>(priority)];
    }
    /// A lease ends at `now`; `never` if the time is not known. Which one is not known either: it counts as the one of
    /// the highest priority, so that the others never count for more than they are.
    void end_lease(Time now) noexcept {
        --leases;
        const std::size_t level = running[0] != 0 ? 0 : running[1] != 0 ? 1 : 2;
        --running[level];
        ran[level] = now;
    }
    /// What ended at a time that is not known counts as ended at `now`, or when the resident became idle.
    void settle(Time now) noexcept {
        for (Time& each : ran) {
            each = each != never ? each : leases == 0 ? idle_since : now;
        }
    }

    /// Same in every field.
    friend bool operator==(const Resident&, const Resident&) = default;
};

/// An `unload` or a `shutdown` that waits for residents to be gone; a shutdown also for the waiters to be failed.
struct Teardown {
    /// Whether it is a shutdown.
    bool shutdown = false;
    /// How many residents it waits for.
    std::size_t remaining = 0;
    /// The key that it is about; none if about all.
    Index key = none;
    /// When it began, among all residents and operations: it waits for those that came before.
    std::uint64_t birth = 0;
    /// When it completes in any case.
    Time deadline = never;
    /// Whether the deadline completes the requests that are still in flight.
    bool revokes = false;

    /// Same in every field.
    friend bool operator==(const Teardown&, const Teardown&) = default;
};

}  // namespace residency::core
