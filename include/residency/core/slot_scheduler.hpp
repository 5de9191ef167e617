#pragma once

#include "residency/core/action.hpp"
#include "residency/core/alarm_time.hpp"
#include "residency/core/indexed_heap.hpp"
#include "residency/core/key_memories.hpp"
#include "residency/core/key_memory.hpp"
#include "residency/core/memory.hpp"
#include "residency/core/memory_requests.hpp"
#include "residency/core/model_calls.hpp"
#include "residency/core/refusals.hpp"
#include "residency/core/request.hpp"
#include "residency/core/resident.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/shared_text.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/text_rate.hpp"
#include "residency/core/time.hpp"
#include "residency/core/wait_queue.hpp"
#include "residency/error_code.hpp"
#include "residency/event.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/status.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace residency::core {

/// Every decision about the residents of one slot: which request gets a lease, what is loaded, what is unloaded, when
/// to wake.
///
/// A plain value: no thread, no lock, no clock, no I/O. The shell calls one method at a time under its mutex, passes
/// the time, and carries out the actions that the method appends, in their order. Time never runs backwards from call
/// to call.
///
/// Memory: every method wants room in `actions` for `most_actions()` more. With that, `try_grant`, `enqueue`, `unload`
/// and `shut_down` may allocate, and if that fails they throw bad_alloc and nothing has changed; the other methods
/// never allocate.
///
/// Work: a call completes at most `slice` requests, and a submit expires at most `submit_slice`. If more is due,
/// `unfinished()` is true and `next_alarm()` is not after the time of the call: an immediate `tick` goes on.
///
/// What holds between any two calls unless `unfinished()` (the rules of the architecture page in this class's terms):
/// - residents() never exceeds max_resident, leases() never max_leases, calls() never max_calls, waiting() never
///   max_queue, the bytes that wait never max_queue_bytes;
/// - at most max_loads residents are queued or loading;
/// - a key has at most one resident, and a resident that can take a lease has no waiter for one, unless max_leases or
///   max_calls stands between, or the free call is left to others (H26);
/// - a place is free only if no key wants one or max_loads stands between;
/// - against another key's claim a resident keeps its place for its stay at most, or while it serves what ranks before;
/// - next_alarm() is not later than anything that is due.
class SlotScheduler {
public:
    /// How many requests a call completes at most.
    static constexpr std::size_t slice = 1'024;
    /// How many of them a submit expires at most.
    static constexpr std::size_t submit_slice = 64;
    /// How many waiters that do not fit a batch are looked at for others that do.
    static constexpr std::size_t most_passed_by = 64;

    /// A slot with nothing resident. Precondition: `options` passed `check`.
    explicit SlotScheduler(const SlotOptions& options = {});
    /// The same with a memory budget of `limit` bytes; `backend_sizes`: the backend says how much memory a key needs.
    SlotScheduler(const SlotOptions& options, std::size_t limit, bool backend_sizes);

    // -- Requests -----------------------------------------------------------------------------------------------------

    /// Grants the request now if it can be, without a look at the clock. Precondition: spec.wants_lease. A request
    /// whose deadline goes on is remembered, which may allocate.
    Attempt try_grant(const ModelKey& key, const RequestSpec& spec, Grant& grant);

    /// Counts as a use of the key's model if that is ready. Precondition: not spec.wants_lease.
    Attempt try_ensure(const ModelKey& key, const RequestSpec& spec, Time now, Generation& generation,
                       Actions& actions);

    /// A request comes with a timeout of this length. Others will follow, and most of them end long before: the next
    /// alarm is set so early that those need not move it.
    void note_timeout(Duration timeout) noexcept { alarm_.note_timeout(timeout); }

    /// Makes a request wait that must. It may already be granted by the actions when this returns. `lengths` are those
    /// of its texts, if it has several, and outlive its wait.
    Enqueued enqueue(const SharedKey& key, const RequestSpec& spec, Time now, Actions& actions,
                     const TextLengths* lengths = nullptr);
    /// The same for a key that is not shared yet.
    Enqueued enqueue(const ModelKey& key, const RequestSpec& spec, Time now, Actions& actions,
                     const TextLengths* lengths = nullptr) {
        return enqueue(share(key), spec, now, actions, lengths);
    }
    /// Whether the key has a resident whose load has not failed. If not, the backend may be asked whether it knows the
    /// key before a request for it is made to wait.
    [[nodiscard]] bool has_resident(const ModelKey& key) const noexcept {
        const Index index = queue_.keys().lookup(key);
        return index != none && has_resident(index);
    }
    /// The key as everything that has to do with it shares it. Throws bad_alloc, and then nothing has changed.
    [[nodiscard]] SharedKey share(const ModelKey& key) { return queue_.keys().share(key); }

    /// The request leaves because it was cancelled. False if it does not wait.
    bool cancel(RequestId request, Time now, Actions& actions);
    /// The request leaves because it is complete, although parts of it wait. False if none does.
    bool give_up(RequestId request, Time now, Actions& actions);

    /// Forgets a request that shared the call of a lease that is about to end, if it had a deadline that went on.
    void leave_call(RequestId request) noexcept {
        if (request.valid()) {
            queue_.erase(request.index);
        }
    }

    /// Ends a lease. Precondition: it lives.
    void release(const Grant& grant, Time now, Actions& actions);

    /// Ends a lease if that changes nothing but counts and the time of last use: no key waits for anything, the
    /// resident does not drain, and it will not be due before the alarm. `now` counts only if this is the resident's
    /// last lease. False: nothing has changed, call `release`. Precondition: the lease lives.
    [[nodiscard]] bool release_quietly(const Grant& grant, Time now) noexcept;

    // -- What the backend answered ------------------------------------------------------------------------------------

    /// The backend is about to be called for a queued resident. False: the load is not wanted any more, and the
    /// resident is gone.
    [[nodiscard]] bool load_begins(ResidentId resident, Time now, Actions& actions);

    /// The load has given a model that takes this much.
    void loaded(ResidentId resident, const ModelLimits& limits, Time now, Actions& actions);
    /// The same for a model whose calls are not shared, and that takes `capacity` leases at once.
    void loaded(ResidentId resident, std::size_t capacity, Time now, Actions& actions) {
        loaded(resident, ModelLimits{capacity, {}, false}, now, actions);
    }

    /// A call about more than `texts` texts is more than the model has memory for. Precondition: a lease on it lives.
    void limit_batch(ResidentId resident, std::size_t texts) noexcept {
        BatchLimits& batch = residents_[resident.index].batch;
        batch.texts = (std::min)(batch.texts, texts);
    }

    /// The load has ended without a model. Its waiters get `code`: the backend's own, or load_failed. A request that
    /// was invalid, or for a key that the backend does not know, starts no cooldown. `message` is for `status()`.
    /// `out_of_memory`: it lacked memory; with a budget it may be tried once more, and then its waiters wait on.
    void load_failed(ResidentId resident, errc code, SharedText message, Time now, Actions& actions,
                     bool out_of_memory = false);

    /// The model has been destroyed.
    void unloaded(ResidentId resident, Time now, Actions& actions);

    // -- Memory, with a budget ----------------------------------------------------------------------------------------

    /// The backend has said how much memory the key of an action `size` needs.
    void sized(Index key, std::size_t bytes, Time now, Actions& actions);
    /// It has thrown instead. The key's waiters get `code`, as those of a failed load.
    void size_failed(Index key, errc code, SharedText message, Time now, Actions& actions);
    /// The budget has answered about the memory of a key. Also harmless when it is late.
    void memory_answered(Index key, MemoryId id, MemoryVerdict verdict, Time now, Actions& actions);
    /// The budget answers a message `available`: so many bytes there could be, beside those of other slots' residents
    /// that are pinned or have bare leases.
    void memory_available(std::size_t bytes, Time now, Actions& actions);
    /// The budget's limit is another.
    void set_memory_limit(std::size_t bytes, Time now, Actions& actions);
    /// The budget wants to know of each decision, because memory is lacking, or does not any more.
    void watch_memory(bool watches) noexcept { queue_.watch(watches); }
    /// The budget wants to look again then.
    void look_at(Time at) noexcept;
    /// Adds what each resident does with its memory. Allocates; what it throws changes nothing.
    void memory_uses(Time now, std::vector<MemoryUse>& uses);
    /// What the slot has to say to its budget since the last call, in order; the caller takes it, and leaves the room.
    [[nodiscard]] MemoryRequests& memory_requests() noexcept { return memory_requests_; }
    /// The same, only to be looked at.
    [[nodiscard]] const MemoryRequests& memory_requests() const noexcept { return memory_requests_; }
    /// Whether there is a budget.
    [[nodiscard]] bool has_budget() const noexcept { return has_budget_; }
    /// The budget's limit, as far as the slot has heard.
    [[nodiscard]] std::size_t memory_limit() const noexcept { return memory_limit_; }
    /// Whether the budget has yet to say how much memory there could be.
    [[nodiscard]] bool asks_for_available() const noexcept { return asks_for_available_; }
    /// How many residents there may be.
    [[nodiscard]] std::size_t max_resident() const noexcept { return max_resident_; }
    /// How much of its budget a key needs, as far as that is known, and where it stands.
    [[nodiscard]] const KeyMemory& key_memory(Index key) const noexcept { return key_memories_[key]; }

    // -- Time ---------------------------------------------------------------------------------------------------------

    /// Looks at what is due. Harmless at any time: early, late, twice.
    void tick(Time now, Actions& actions);

    /// Whether a call left work for an immediate `tick`.
    [[nodiscard]] bool unfinished() const noexcept { return alarm_.resumes_at() != never; }

    /// When `tick` is to be called at the latest; `never` if nothing will be due.
    [[nodiscard]] Time next_alarm() const noexcept { return alarm_.time(); }
    /// The same, with what it is for.
    [[nodiscard]] const AlarmTime& alarm() const noexcept { return alarm_; }

    // -- Unloading ----------------------------------------------------------------------------------------------------

    /// Unloads the resident of `key`, or all if that is null; the operation's action `complete` follows when they are
    /// gone. Names nothing if there is none: it is complete already.
    TeardownId unload(const ModelKey* key, UnloadMode mode, Time now, Actions& actions);

    /// Makes room for one more operation: the next `unload` or `shut_down` will not allocate.
    void reserve_teardown() { teardowns_.reserve_one(); }

    /// Forgets the operation, whose wait was cancelled. What it began goes on.
    void forget(TeardownId operation) noexcept;

    /// Refuses new requests, fails those that wait, asks loads to stop, unloads everything that is not in use. Again:
    /// no effect.
    void close(Time now, Actions& actions);

    /// Closes, and completes when nothing is resident and nothing waits, or at `deadline`. Names nothing if that is so
    /// already. `revokes`: the deadline also completes what is still in flight, with `shutting_down` (H9).
    TeardownId shut_down(Time deadline, Time now, Actions& actions, bool revokes = false);

    // -- Looking in ---------------------------------------------------------------------------------------------------

    /// The generation counter.
    [[nodiscard]] Generation generation() const noexcept { return generation_; }
    /// How many leases live.
    [[nodiscard]] std::size_t leases() const noexcept { return leases_; }
    /// How many of them are for a model call.
    [[nodiscard]] std::size_t calls() const noexcept { return calls_.running(); }
    /// These calls, and those that were before them.
    [[nodiscard]] const ModelCalls& model_calls() const noexcept { return calls_; }
    /// How many requests wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return queue_.waiting(); }
    /// Whether new requests are refused.
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    /// The residents, in whichever state.
    [[nodiscard]] const Slab<Resident, ResidentTag>& residents() const noexcept { return residents_; }
    /// What waits.
    [[nodiscard]] const WaitQueue& queue() const noexcept { return queue_; }
    /// What waits for residents to be gone.
    [[nodiscard]] const Slab<Teardown, TeardownTag>& teardowns() const noexcept { return teardowns_; }
    /// What has been done so far; `timer_waits` is the shell's.
    [[nodiscard]] SlotCounters counters() const noexcept {
        SlotCounters all = counters_;
        all.batches = calls_.begun();
        return all;
    }
    /// Whether the next lease goes to the oldest waiter, if that is older than `aging` (R15).
    [[nodiscard]] bool lease_by_age() const noexcept { return lease_by_age_; }
    /// The same for the next place.
    [[nodiscard]] bool place_by_age() const noexcept { return place_by_age_; }
    /// What was refused, and when an event says so.
    [[nodiscard]] const Refusals& refusals() const noexcept { return refusals_; }
    /// The key of an action that has one, before the next call.
    [[nodiscard]] const SharedKey& key_of_entry(Index key) const noexcept { return queue_.keys()[key].key; }
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
        // A request that is cut may be given a part for each call.
        const std::size_t requests = (std::min)(queue_.requests().size() + 1 + calls_.most(), slice);
        return 2 * requests + 8 * residents_.size() + teardowns_.size() + room_for_loads;
    }

    /// Same in every part, places included: what behaves alike from here on may still differ.
    friend bool operator==(const SlotScheduler&, const SlotScheduler&) = default;

private:
    // Not cut into parts.
    static constexpr Index whole = 0;
    // What a single call appends for the residents that it makes, and for events of the whole slot.
    static constexpr std::size_t room_for_loads = 16;

    // One call: its time, its actions, and how many requests it may still complete.
    struct Step {
        Time now;
        Actions& actions;
        std::size_t left = slice;
    };
    struct Coming;
    struct Spent;

    void begin_call() noexcept;
    void collect_later(Index key) noexcept;
    void resume(Time now) noexcept { alarm_.resume_at(now); }
    [[nodiscard]] bool has_resident(Index key) const noexcept {
        const Index resident = queue_.keys()[key].resident;
        return resident != none && !residents_[resident].failed;
    }
    [[nodiscard]] bool expectation_fails(Index key, const RequestSpec& spec) const noexcept;
    [[nodiscard]] bool is_aged(Index request, Time now) const noexcept {
        return later(queue_.requests()[request].spec.since, aging_) <= now;
    }
    [[nodiscard]] bool wanted(const Resident& load) const noexcept;
    [[nodiscard]] QueueState state_of(Index key) const noexcept;
    void refresh(Index key) noexcept { queue_.stand(key, state_of(key)); }

    // Waiters: impl/slot_scheduler_waiting.hpp.
    [[nodiscard]] bool fits_queue(const RequestSpec& spec) const noexcept;
    [[nodiscard]] bool fail_late(Index request, Step& step);
    void fail(Index request, errc code, Duration retry_after, Step& step);
    [[nodiscard]] Stage stage_of(Index request) const noexcept;
    [[nodiscard]] Spent spent_by(Index request, Time now) const noexcept;
    void time_out(Index request, Step& step);
    void expire_due(Step& step);
    void fail_expecting(Index key, Step& step);
    void fail_waiters(Index resident, Step& step);
    void fail_closed(Step& step);
    void note_left(Index key, Step& step);
    void drop_claim(Index key, Step& step);
    void refuse(Reason reason, const SharedKey& key, Step& step);
    void publish_refusals(Reason reason, Step& step);

    // Leases: impl/slot_scheduler_grants.hpp.
    void use(Resident& resident, const RequestSpec& spec) noexcept;
    void count_lease(Resident& resident, const RequestSpec& spec, bool is_part = false) noexcept;
    // `when` is never if it is not known.
    void end_lease(Resident& resident, const Grant& grant, Time when) noexcept;
    void grant(Index request, Step& step);
    [[nodiscard]] bool can_serve(Index request) const noexcept;
    [[nodiscard]] Index oldest_on(Index resident) const noexcept;
    [[nodiscard]] Index oldest_to_grant(Time now) const noexcept;
    [[nodiscard]] Index next_to_grant(Time now, bool& by_age) const noexcept;
    void grant_ready(Step& step);
    void complete_ensures(Index key, Step& step);

    // Batches: impl/slot_scheduler_batches.hpp.
    void count_call(Resident& resident, const RequestSpec& spec, bool is_part) noexcept;
    void count_texts(Resident& resident, const RequestSpec& spec) noexcept;
    [[nodiscard]] std::size_t share_of(const Resident& resident) const noexcept;
    void fill_batch(const RequestSpec& first, Index resident, Step& step);
    void join(Index request, const RequestSpec& spec, Index resident, Step& step);
    [[nodiscard]] Index part_of(const Resident& resident, const RequestSpec& spec, bool is_alone) const noexcept;
    [[nodiscard]] Index next_part() const noexcept;
    [[nodiscard]] bool may_start_part(Index resident, Index request) const noexcept;
    void give_part(Index request, Index resident, Step& step);

    // Places: impl/slot_scheduler_places.hpp.
    void decide(Step& step);
    void assign_places(Step& step);
    [[nodiscard]] Index aged_key(Time now) const noexcept;
    [[nodiscard]] Index next_key(Time now) const noexcept;
    [[nodiscard]] Coming places_coming() const noexcept;
    [[nodiscard]] bool is_spare(const Resident& resident) const noexcept {
        return resident.idle() && queue_.keys()[resident.key].waiting == 0;
    }
    [[nodiscard]] Index longest_idle(std::size_t served, Index aged, Time now) const noexcept;
    [[nodiscard]] Time next_to_yield(Time now) const noexcept;
    [[nodiscard]] bool yields(const Resident& resident, std::size_t served, Index aged, Time now) const noexcept;
    [[nodiscard]] Index first_to_drain(std::size_t served, Index aged, Time now) const noexcept;
    [[nodiscard]] Index next_to_return(std::size_t sure, Index aged, bool surplus, Time now) const noexcept;
    void switch_from(Index victim, Step& step);
    void evict(Index victim, Step& step);
    void forgive(Index key) noexcept;
    void end_drain(Index resident, Step& step);

    // Loads: impl/slot_scheduler_loads.hpp.
    void start_load(Index key, Step& step);
    void set_stay(Resident& resident, Duration took, Time now) const noexcept;
    bool tries_again(Index resident, Duration took, Step& step);
    void note_failure(Index key, errc code, SharedText message, Time now);
    void stop_load(Index resident, Step& step);
    void give_up_load(Resident& resident) noexcept;
    void end_load(const Resident& resident) noexcept;

    // Residents that leave: impl/slot_scheduler_residents.hpp.
    void remove(Index resident, UnloadMode mode, Reason reason, Step& step);
    void revoke(Index resident, errc code, Step& step);
    void start_unload(Index resident, Reason reason, Step& step);
    void gone(Index resident, Step& step);
    void complete(Index operation, bool late, Step& step);
    void complete_teardowns(Step& step);
    void note_idle(Index resident, Step& step);
    void raise_generation() noexcept { generation_ = Generation{generation_.value() + 1}; }

    // Memory: impl/slot_scheduler_memory.hpp.
    void reserve_memory();
    [[nodiscard]] bool is_too_large(Index key) noexcept;
    void want_memory(Index key, Step& step);
    void note_moved(Index key);
    void ask_for_memory(Index key);
    void drop_memory(Index key) noexcept;
    void refuse_key(Index key, Step& step);
    void refuse_keys(Step& step);
    [[nodiscard]] MemoryRank memory_rank(Index key) const noexcept;
    void say(MemoryRequest::Type type, Index key, MemoryId id, std::size_t bytes, bool clears = false);

    // What residents do with it: impl/slot_scheduler_memory_uses.hpp.
    [[nodiscard]] bool may_give_place(Index resident, Step& step);
    void evict_for_memory(Index resident, Step& step);
    void look_again();

    // Time: impl/slot_scheduler_time.hpp.
    void wake_by(Time due) noexcept { alarm_.ring_by(due); }
    void recompute_alarm() noexcept;

    Action& publish(EventType type, Reason reason, Index resident, Duration duration, Step& step) const;
    static Action& act(ActionType type, Index subject, Index resident, Step& step);

    SlotOptions options_;
    std::size_t max_resident_;
    Duration keep_alive_;
    Duration aging_;
    // How long a resident stays; negative: as long as its load took.
    Duration min_stay_;
    Duration abandon_after_;
    WaitQueue queue_{};
    Slab<Resident, ResidentTag> residents_{};
    Slab<Teardown, TeardownTag> teardowns_{};
    std::size_t leases_ = 0;
    ModelCalls calls_;
    // Residents that are queued or loading.
    std::size_t loads_ = 0;
    // Residents that drain for a switch.
    std::size_t switching_ = 0;
    Generation generation_{};
    std::uint64_t grants_ = 0;
    std::uint64_t drains_ = 0;
    std::uint64_t births_ = 0;
    AlarmTime alarm_{};
    // The first of the key entries to be collected by the next call.
    Index unused_ = none;
    // The key of a request that is about to join, whatever leaves before.
    Index joining_ = none;
    // The next key whose waiters are to be failed because the slot is closed.
    Index closing_ = 0;
    bool closed_ = false;
    bool has_budget_ = false;
    bool backend_sizes_ = false;
    // The budget's limit.
    std::size_t memory_limit_ = 0;
    KeyMemories key_memories_{};
    // What the budget has not taken yet.
    MemoryRequests memory_requests_{};
    // Whether the budget is being asked how much memory there could be; its answer, while that is carried out.
    bool asks_for_available_ = false;
    std::optional<std::size_t> available_{};
    // The next key whose waiters may have to be refused; none if that is done.
    Index refusing_ = none;
    // Whether the next lease, the next place goes by age if a waiter is old enough: the last one went by rank.
    bool lease_by_age_ = true;
    bool place_by_age_ = true;
    Refusals refusals_{};
    TextRate rate_{};
    // But for `batches`: `calls_` counts those.
    SlotCounters counters_{};
};

}  // namespace residency::core

#include "residency/core/impl/slot_scheduler.hpp"  // IWYU pragma: export
