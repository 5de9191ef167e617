#pragma once

#include "residency/core/action.hpp"
#include "residency/core/indexed_heap.hpp"
#include "residency/core/resident.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/core/wait_queue.hpp"
#include "residency/error_code.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/status.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace residency::core {

/// A lease, as the scheduler knows it.
struct Grant {
    /// What it is a lease on.
    ResidentId resident{};
    /// Its request, if that has a deadline that goes on; if not, it names nothing.
    RequestId request{};

    /// The same lease, or one that cannot be told apart from it.
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
    /// Why it was refused.
    errc code = errc::overloaded;
    /// When to try again, with cooling_down.
    Duration retry_after{0};
};

/// Every decision about the residents of one slot: who gets a lease, what is loaded, what is unloaded, when to wake.
///
/// A plain value: no thread, no lock, no clock, no I/O. The shell (`ModelSlot`) calls one method at a time under its mutex, passes the
/// time, and carries out the actions that the method appends, in their order. Time never runs backwards from call to call.
///
/// Memory: every method wants room in `actions` for `most_actions()` more. With that, `try_grant`, `enqueue`, `unload` and `shut_down`
/// may allocate, and if that fails they throw bad_alloc and nothing has changed; the other methods never allocate.
///
/// What holds between any two calls (DESIGN.md section 2 in this class's terms):
/// - residents() never exceeds max_resident, leases() never max_leases, waiting() never max_queue;
/// - a key has at most one resident, and a resident that can take a lease has no waiter for one, unless max_leases stands between;
/// - a place is free only if no key wants one;
/// - next_alarm() is not later than anything that is due.
class SlotScheduler {
public:
    /// A slot with nothing resident. Precondition: `options` passed `check`.
    explicit SlotScheduler(const SlotOptions& options = {});

    // -- Requests ---------------------------------------------------------------------------------------------------------------

    /// Grants the request now if it can be, without a look at the clock. Precondition: spec.wants_lease. A request whose deadline
    /// goes on is remembered, which may allocate.
    Attempt try_grant(const ModelKey& key, const RequestSpec& spec, Grant& grant);

    /// Counts as a use of the key's model if that is ready and nobody waits for it. Precondition: not spec.wants_lease.
    Attempt try_ensure(const ModelKey& key, const RequestSpec& spec, Time now, Generation& generation,
                       Actions& actions);

    /// A request comes with a timeout of this length. Where one comes others follow, and most of them end long before: the next alarm is
    /// set so early that those need not move it.
    void note_timeout(Duration timeout) noexcept {
        if (timeout > Duration::zero()) {
            shortest_timeout_ = std::min(shortest_timeout_, timeout);
        }
    }

    /// Makes a request wait that must. It may already be granted by the actions when this returns.
    Enqueued enqueue(const SharedKey& key, const RequestSpec& spec, Time now, Actions& actions);
    /// The same for a key that nobody needs afterwards.
    Enqueued enqueue(const ModelKey& key, const RequestSpec& spec, Time now, Actions& actions) {
        return enqueue(share(key), spec, now, actions);
    }
    /// The key as all who have to do with it share it. Throws bad_alloc, and then nothing has changed.
    [[nodiscard]] SharedKey share(const ModelKey& key) { return queue_.keys().share(key); }

    /// The request no longer waits: its caller has left. False if it does not wait.
    bool cancel(RequestId request, Time now, Actions& actions);

    /// Ends a lease. Precondition: it lives.
    void release(const Grant& grant, Time now, Actions& actions);

    /// Ends a lease if that changes nothing but counts and the time of last use: nobody waits, the resident does not drain, and it
    /// will not be due before the alarm. `now` counts only if this is the resident's last lease. False: nothing has changed, call
    /// `release`. Precondition: the lease lives.
    [[nodiscard]] bool release_quietly(const Grant& grant, Time now) noexcept {
        Resident& resident = residents_[grant.resident.index];
        if (queue_.waiting() != 0 || resident.state != ResidentState::ready || grant.request.valid()) {
            return false;
        }
        if (resident.leases == 1) {
            if (later(now, resident.keep_alive) < wake_) {
                return false;
            }
            resident.idle_since = now;
        }
        --resident.leases;
        --leases_;
        return true;
    }

    // -- What the backend answered -------------------------------------------------------------------------------------------

    /// The load has given a model that takes `capacity` leases at once.
    void loaded(ResidentId resident, std::size_t capacity, Time now, Actions& actions);

    /// The load has ended without a model. `cools_down`: whether a failure starts a cooldown. `message` is for `failures()`.
    void load_failed(ResidentId resident, bool cools_down, std::string message, Time now, Actions& actions);

    /// The model has been destroyed.
    void unloaded(ResidentId resident, Time now, Actions& actions);

    // -- Time -------------------------------------------------------------------------------------------------------------------

    /// Looks at what is due. Harmless at any time: early, late, twice.
    void tick(Time now, Actions& actions);

    /// When `tick` is to be called at the latest; `never` if nothing will be due.
    [[nodiscard]] Time next_alarm() const noexcept { return wake_; }

    // -- Unloading --------------------------------------------------------------------------------------------------------------

    /// Unloads the resident of `key`, or all if that is null; the operation's action `complete` follows when they are gone. Names
    /// nothing if there is none: it is complete already.
    TeardownId unload(const ModelKey* key, UnloadMode mode, Time now, Actions& actions);

    /// Makes room for one more operation: the next `unload` or `shut_down` will not allocate.
    void reserve_teardown() { teardowns_.reserve_one(); }

    /// Forgets the operation: its caller has left. What it began goes on.
    void forget(TeardownId operation) noexcept;

    /// Refuses new requests, fails those that wait, asks loads to stop, unloads everything that nobody uses. Again: no effect.
    void close(Time now, Actions& actions);

    /// Closes, and completes when nothing is resident, or at `deadline`. Names nothing if nothing is resident.
    TeardownId shut_down(Time deadline, Time now, Actions& actions);

    // -- Looking in -------------------------------------------------------------------------------------------------------------

    /// The generation counter.
    [[nodiscard]] Generation generation() const noexcept { return generation_; }
    /// The shortest timeout that `note_timeout` was told of since the alarm last rang; `Duration::max()` for none.
    [[nodiscard]] Duration noted_timeout() const noexcept { return shortest_timeout_; }
    /// How many leases live.
    [[nodiscard]] std::size_t leases() const noexcept { return leases_; }
    /// How many requests wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return queue_.waiting(); }
    /// Whether new requests are refused.
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    /// The residents, in whichever state.
    [[nodiscard]] const Slab<Resident, ResidentTag>& residents() const noexcept { return residents_; }
    /// Who waits.
    [[nodiscard]] const WaitQueue& queue() const noexcept { return queue_; }
    /// What waits for residents to be gone.
    [[nodiscard]] const Slab<Teardown, TeardownTag>& teardowns() const noexcept { return teardowns_; }
    /// What has been done so far; `timer_waits` is the shell's.
    [[nodiscard]] const SlotCounters& counters() const noexcept { return counters_; }
    /// The key of a resident.
    [[nodiscard]] const SharedKey& key_of(Index resident) const noexcept {
        return queue_.keys()[residents_[resident].key].key;
    }
    /// The slot's options.
    [[nodiscard]] const SlotOptions& options() const noexcept { return options_; }

    /// How long a key cools down whose load failed once more after `failures` failures in a row.
    [[nodiscard]] Duration cooldown_after(Index failures) const noexcept;

    /// How many actions the next call of any method appends at most.
    [[nodiscard]] std::size_t most_actions() const noexcept {
        return queue_.requests().size() + 6 * residents_.size() + teardowns_.size() + room_for_loads;
    }

    /// Same in every part, places included: what behaves alike from here on may still differ. `canonical` compares behaviour.
    friend bool operator==(const SlotScheduler&, const SlotScheduler&) = default;

private:
    // What a single call appends for the residents that only come to be in it.
    static constexpr std::size_t room_for_loads = 16;

    [[nodiscard]] bool expectation_fails(Index key, const RequestSpec& spec) const noexcept;
    // Places that come free without a switch.
    struct Coming {
        // Of residents that unload, or whose load nobody waits for.
        std::size_t soon = 0;
        // Of residents that drain for good: when their leases end.
        std::size_t drained = 0;
    };

    [[nodiscard]] QueueState standing(Index key) const noexcept;
    [[nodiscard]] Coming places_coming() const noexcept;
    [[nodiscard]] Index longest_idle() const noexcept;
    [[nodiscard]] Index first_to_drain(const IndexedHeap<Rank>& lacking, std::size_t served) const noexcept;

    void use(Resident& resident, const RequestSpec& spec) noexcept;
    void count_lease(Resident& resident) noexcept;
    void grant_front(Index key, Time now, Actions& actions);
    void fail(Index request, errc code, Duration retry_after, Time now, Actions& actions);
    void fail_expecting(Index key, Time now, Actions& actions);
    void abandon_if_unwanted(Index key, Actions& actions);
    void refresh(Index key) noexcept { queue_.stand(key, standing(key)); }

    void start_load(Index key, Time now, Actions& actions);
    void stop_load(Index resident, Actions& actions);
    void end_latest_drain(Time now, Actions& actions);
    void remove(Index resident, UnloadMode mode, Reason reason, Time now, Actions& actions);
    void switch_to(Index key, Index victim, Time now, Actions& actions);
    void start_unload(Index resident, Reason reason, Time now, Actions& actions);
    void gone(Index resident, Time now, Actions& actions);
    void complete(Index operation, bool late, Actions& actions);
    void note_idle(Index resident, Time now, Actions& actions);
    void raise_generation() noexcept { generation_ = Generation{generation_.value() + 1}; }

    void complete_ensures(Index key, Time now, Actions& actions);
    void grant_ready(Time now, Actions& actions);
    void assign_places(Time now, Actions& actions);
    void wake_by(Time due) noexcept { wake_ = due < wake_ ? due : wake_; }
    void recompute_alarm() noexcept;
    void publish(EventType type, Reason reason, Index resident, Duration duration, Actions& actions) const;

    SlotOptions options_;
    Duration keep_alive_;
    WaitQueue queue_;
    Slab<Resident, ResidentTag> residents_;
    Slab<Teardown, TeardownTag> teardowns_;
    std::size_t leases_ = 0;
    Generation generation_{};
    std::uint64_t grants_ = 0;
    std::uint64_t drains_ = 0;
    std::uint64_t births_ = 0;
    std::size_t switching_ = 0;
    Time wake_ = never;
    // Of the requests since the alarm last rang.
    Duration shortest_timeout_ = Duration::max();
    bool closed_ = false;
    SlotCounters counters_{};
};

}  // namespace residency::core

#include "residency/core/impl/slot_scheduler.hpp"  // IWYU pragma: export
