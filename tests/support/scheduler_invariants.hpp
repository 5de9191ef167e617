#pragma once

// A SlotScheduler with a sceptic beside it: what a slot's shell would know, reckoned from the calls and the actions
// alone, and after each call a check of all that is promised of the scheduler. Shared by the explorer, which
// walks through all states, and by the fuzzer. It expects that no call has more to do than one slice.

#include "residency/core/slot_scheduler.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// Something that must never be so was so.
class Violation : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A request that waits, as its caller knows it.
struct KnownWaiter {
    core::RequestId id{};
    std::size_t key = 0;
    core::RequestSpec spec{};
    std::uint64_t arrival = 0;
    core::Time since{0};
    /// It is cut into parts: of at most so many texts, if it was cut evenly; so many were given, so many run.
    bool cut = false;
    core::Index part = core::none;
    core::Index given = 0;
    std::size_t running = 0;
    /// It timed out, and keeps its key's turn until then.
    bool claims = false;
    core::Time until = core::never;
};

/// A request that shares a lease, and has a deadline that goes on.
struct KnownSharer {
    core::RequestId id{};
    core::Time deadline = core::never;
    core::Time since{0};
    bool expired = false;

    friend bool operator==(const KnownSharer&, const KnownSharer&) = default;
};

/// A lease, as its holders know it.
struct KnownLease {
    core::Grant grant{};
    std::size_t key = 0;
    std::vector<KnownSharer> sharers{};
};

/// A resident, reckoned from the actions.
struct KnownResident {
    core::ResidentId id{};
    std::size_t key = 0;
    ResidentState state = ResidentState::queued;
    bool stopped = false;
    bool discarded = false;
    bool for_good = false;
    bool revoked = false;
    bool was_ready = false;
    Reason reason = Reason::none;
    Generation generation{};
    core::Duration keep_alive{0};
    core::Time idle_since{0};
    /// Loading: when it is asked to stop because no waiter is left.
    core::Time abandoned_at = core::never;
    /// When its load began, when that had given a model, and so how long it took; the last is at most `aging`.
    core::Time began{0};
    core::Time ready_since{0};
    core::Duration took{0};
    /// How many keys wanted a place when it became ready.
    std::size_t crowd = 0;
    /// How many leases count as high and normal, and when the last of each ended; unknown if no clock was read.
    std::array<std::size_t, 2> serving{};
    std::array<std::optional<core::Time>, 2> served{core::Time::min(), core::Time::min()};
    std::uint64_t used = 0;
    /// `used` when it became ready.
    std::uint64_t readied = 0;
    std::uint64_t drained = 0;
    std::size_t leases = 0;
    std::size_t capacity = 0;
    BatchLimits batch{};
    bool joins = false;
    bool spreads = false;
    /// Whether its latest call was a part, and the number of the latest that was not.
    bool last_is_part = false;
    std::uint64_t whole_at = 0;

    [[nodiscard]] bool switches() const { return state == ResidentState::draining && !for_good; }
    [[nodiscard]] bool is_load() const { return state == ResidentState::queued || state == ResidentState::loading; }
};

/// An unload or a shutdown that has not completed.
struct KnownOperation {
    core::TeardownId id{};
    core::Time deadline = core::never;
    /// One bit for the index of each resident that it waits for.
    std::uint64_t awaits = 0;
    bool shutdown = false;
};

/// What is known of a key.
struct KnownKey {
    std::size_t failures = 0;
    core::Time cooling_until = core::Time::min();
    /// It was evicted for another key, whose load has not ended and whose waiters have not left.
    bool ranks_last = false;
    /// The key that was evicted for this one, counted from 1.
    std::size_t evicted = 0;
};

/// Requests that were refused for one reason.
struct KnownRefusals {
    std::size_t count = 0;
    core::Time next = core::Time::min();
    std::size_t key = 0;
};

/// How often each kind of answer was seen.
struct ActionCounts {
    std::vector<std::uint64_t> types =
        std::vector<std::uint64_t>(static_cast<std::size_t>(core::ActionType::event) + 1);
    std::vector<std::uint64_t> events = std::vector<std::uint64_t>(static_cast<std::size_t>(EventType::dropped) + 1);
    std::vector<std::uint64_t> codes =
        std::vector<std::uint64_t>(static_cast<std::size_t>(errc::insufficient_memory) + 1);
    std::vector<std::uint64_t> unload_reasons =
        std::vector<std::uint64_t>(static_cast<std::size_t>(Reason::memory) + 1);
    /// Requests that were refused at once, by code.
    std::vector<std::uint64_t> refusals =
        std::vector<std::uint64_t>(static_cast<std::size_t>(errc::insufficient_memory) + 1);
    /// Requests that were granted at once.
    std::uint64_t at_once = 0;
    /// Batches that took all texts of their model's limits, and those that left a waiter because of its bytes, of what
    /// its texts are, or of its priority.
    std::uint64_t full_batches = 0;
    std::uint64_t passed_by = 0;
    /// Parts that were last ones, and that were of an even cut.
    std::uint64_t last_parts = 0;
    std::uint64_t even_parts = 0;
    /// Leases and places that went to the oldest waiter although another ranks before it.
    std::uint64_t by_age = 0;
    /// Times at which a resident would have given way, but for its stay, or for what it serves or served (H32).
    std::uint64_t stays = 0;
    std::uint64_t serves = 0;
    /// Waiters that timed out and kept their key's turn.
    std::uint64_t claims = 0;
    /// Loads that did not begin.
    std::uint64_t dropped_loads = 0;
    /// Operations that completed at their deadline.
    std::uint64_t late = 0;

    void note(const core::Action& action) {
        ++types[static_cast<std::size_t>(action.type)];
        late += action.late ? 1U : 0U;
        if (action.type == core::ActionType::fail) {
            ++codes[static_cast<std::size_t>(action.code)];
        }
        if (action.type == core::ActionType::event) {
            ++events[static_cast<std::size_t>(action.event)];
            if (action.event == EventType::unload_started) {
                ++unload_reasons[static_cast<std::size_t>(action.reason)];
            }
        }
    }
};

/// A SlotScheduler, its users, and the sceptic. Its methods are what can happen to a slot; each throws Violation if
/// what the scheduler then does, or is, breaks a promise. Copying it copies the whole world.
class CheckedScheduler {
public:
    /// How a request fared at once.
    enum class Fate : std::uint8_t { granted, waits, refused };

    /// A slot with `options`, whose users know the names `keys`; those outlive it. Loads begin as soon as they may if
    /// `begins_loads`; else with `load_begins`.
    CheckedScheduler(const SlotOptions& options, const std::vector<ModelKey>& keys, bool begins_loads)
        : scheduler_(options), names_(&keys), begins_loads_(begins_loads), keys_(keys.size()) {}

    /// From now on, adds what the scheduler answers to `counts`, if that is not null.
    void count_into(ActionCounts* counts) noexcept { counts_ = counts; }

    // -- What can happen ----------------------------------------------------------------------------------------------

    /// A request for a lease or, by `spec`, for a load.
    Fate request(std::size_t key, const core::RequestSpec& wanted) {
        core::RequestSpec spec = wanted;
        spec.since = now_;
        const Attempt expected = attempt_expected(key, spec);
        count_attempt(expected);
        begin();
        if (spec.deadline != core::never) {
            scheduler_.note_timeout(spec.deadline - now_);
        }
        if (spec.wants_lease) {
            core::Grant grant;
            const core::Attempt attempt = scheduler_.try_grant(name(key), spec, grant);
            require(attempt == expected, "try_grant answers as H4, H5 and H8 say");
            if (attempt == core::Attempt::granted) {
                KnownResident& resident = *resident_of(key);
                require(grant.resident == resident.id, "R11 the lease is on the key's own resident");
                const bool kept = spec.is_inference && spec.deadline != core::never;
                require(grant.request.valid() == kept, "a request with a deadline that goes on stays known");
                require(grant.is_inference == spec.is_inference && grant.texts == spec.texts,
                        "a lease is for a model call or it is bare");
                if (spec.is_inference && calls() != 0) {
                    note_company();
                }
                lease(resident, grant, spec, now_);
            }
        } else {
            Generation generation;
            const core::Attempt attempt = scheduler_.try_ensure(name(key), spec, now_, generation, actions_);
            require(attempt == expected, "try_ensure answers as H4, H5 and H8 say");
            if (attempt == core::Attempt::granted) {
                KnownResident& resident = *resident_of(key);
                require(generation == resident.generation, "ensure_loaded gives the resident's generation");
                use(resident, spec);
                if (resident.leases == 0) {
                    resident.idle_since = now_;
                }
            }
        }
        if (expected != core::Attempt::must_wait) {
            carry_out(false);
            return expected == core::Attempt::granted ? Fate::granted : Fate::refused;
        }
        return enqueue(key, spec);
    }

    /// Lease `index` is released, quietly if that may be.
    void release(std::size_t index, bool may_be_quiet = true) {
        const KnownLease held = leases_[index];
        leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(index));
        KnownResident& resident = *find(held.grant.resident);
        --resident.leases;
        for (KnownWaiter& waiter : waiters_) {
            waiter.running -= held.grant.is_part && waiter.id == held.grant.request ? 1U : 0U;
        }
        for (const KnownSharer& sharer : held.sharers) {
            if (sharer.id != held.grant.request && !held.grant.is_part) {
                may_be_quiet = false;
                scheduler_.leave_call(sharer.id);
            }
        }
        if (held.grant.is_part) {
            may_be_quiet = false;
            end_part(held);
        }
        if (resident.leases == 0) {
            resident.idle_since = now_;
        }
        begin();
        const bool quiet = may_be_quiet && scheduler_.release_quietly(held.grant, now_);
        require(!quiet || waiters_.empty(), "a lease is released quietly only if nothing waits");
        end_service(resident, quiet && resident.leases != 0 ? std::nullopt : std::optional(now_));
        if (!quiet) {
            scheduler_.release(held.grant, now_, actions_);
        }
        carry_out(!quiet && !waiters_.empty());
    }

    /// Waiter `index` is cancelled; precondition: it is no claim.
    void cancel(std::size_t index) {
        const KnownWaiter waiter = waiters_[index];
        drop_waiter(index);
        if (claim_of(waiter.key) != nullptr && waiters_of(waiter.key) == 0) {
            drop_claim(waiter.key);
        }
        begin();
        require(scheduler_.cancel(waiter.id, now_, actions_), "a waiter can be cancelled");
        carry_out();
        core::Actions nothing;
        require(!scheduler_.cancel(waiter.id, now_, nothing) && nothing.empty(), "R9 a request completes once");
    }

    /// The loading thread comes to queued resident `index`.
    void load_begins(std::size_t index) {
        begin();
        begin_load(index);
    }

    /// The load of resident `index` gave a model.
    void loaded(std::size_t index, const core::ModelLimits& limits) {
        KnownResident& resident = residents_[index];
        resident.capacity = std::max<std::size_t>(limits.capacity, 1);
        resident.batch = limits.batch;
        if (options().max_batch_texts != 0) {
            resident.batch.texts = std::min(resident.batch.texts, options().max_batch_texts);
        }
        resident.joins = limits.joins;
        resident.spreads = limits.spreads;
        keys_[resident.key].failures = 0;
        keys_[resident.key].cooling_until = core::Time::min();
        ending_ = resident.id;
        loading_ended_ = true;
        begin();
        forgive(resident.key);
        scheduler_.loaded(resident.id, limits, now_, actions_);
        carry_out();
        loading_ended_ = false;
    }

    /// The load of resident `index` ended without a model.
    void load_failed(std::size_t index, bool cools_down) {
        const KnownResident resident = residents_[index];
        load_failed_ = !resident.stopped;
        failed_key_ = resident.key;
        failed_code_ = cools_down ? errc::load_failed : errc::invalid_request;
        expected_retry_ = core::Duration::zero();
        if (load_failed_ && cools_down) {
            KnownKey& key = keys_[resident.key];
            key.cooling_until = core::later(now_, cooldown(key.failures));
            ++key.failures;
        }
        if (load_failed_) {
            expected_retry_ = std::max(core::Duration::zero(), core::later(keys_[resident.key].cooling_until, -now_));
        }
        ending_ = resident.id;
        begin();
        forgive(resident.key);
        scheduler_.load_failed(resident.id, failed_code_, nullptr, now_, actions_);
        carry_out();
        load_failed_ = false;
    }

    /// The model of resident `index` is destroyed.
    void unloaded(std::size_t index) {
        ending_ = residents_[index].id;
        begin();
        scheduler_.unloaded(residents_[index].id, now_, actions_);
        carry_out();
    }

    /// Time passes without a tick.
    void wait(core::Duration length) {
        now_ = core::later(now_, length);
        actions_.clear();
    }

    /// A tick.
    void tick() {
        begin();
        begin_expiry();
        drops_claims_ = true;
        scheduler_.tick(now_, actions_);
        carry_out();
        require(scheduler_.next_alarm() > now_, "a tick leaves nothing undone that is due");
    }

    /// Unloads the resident of `key`, or all if that is none of the keys. Whether there was anything to wait for.
    bool unload(std::size_t key, UnloadMode mode) {
        std::uint64_t awaits = 0;
        for (KnownResident& resident : residents_) {
            if (key >= keys_.size() || resident.key == key) {
                awaits |= bit(resident.id);
                condemn(resident);
            }
        }
        begin();
        const core::TeardownId id = scheduler_.unload(key < keys_.size() ? &name(key) : nullptr, mode, now_, actions_);
        require(id.valid() == (awaits != 0), "an unload waits if there is something to unload");
        if (id.valid()) {
            operations_.push_back({id, core::never, awaits, false});
        }
        carry_out(id.valid());
        return id.valid();
    }

    /// The wait for operation `index` is cancelled.
    void forget(std::size_t index) {
        const core::TeardownId id = operations_[index].id;
        operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(index));
        begin();
        scheduler_.forget(id);
        scheduler_.forget(id);
        carry_out(false);
    }

    /// The slot is closed.
    void close() {
        condemn_all();
        begin();
        scheduler_.close(now_, actions_);
        carry_out();
    }

    /// The slot is shut down by `deadline`.
    void shut_down(core::Time deadline) {
        std::uint64_t awaits = 0;
        for (const KnownResident& resident : residents_) {
            awaits |= bit(resident.id);
        }
        condemn_all();
        begin();
        const core::TeardownId id = scheduler_.shut_down(deadline, now_, actions_);
        require(id.valid() == (awaits != 0), "a shutdown waits if something is resident");
        if (id.valid()) {
            operations_.push_back({id, deadline, awaits, true});
        }
        carry_out();
    }

    /// No load, unload or lease is left to end: time passes, and what it decides comes to its end as well.
    void settle() {
        constexpr int most = 64;
        for (int turn = 0; turn < most && waiting() != 0 && scheduler_.next_alarm() != core::never; ++turn) {
            wait(std::max(core::Duration::zero(), scheduler_.next_alarm() - now_));
            tick();
            for (bool moved = true; moved;) {
                moved = false;
                for (std::size_t index = 0; !moved && index < residents_.size(); ++index) {
                    moved = true;
                    switch (residents_[index].state) {
                        case ResidentState::queued: load_begins(index); break;
                        case ResidentState::loading: loaded(index, {}); break;
                        case ResidentState::unloading: unloaded(index); break;
                        default: moved = false;
                    }
                }
                if (!moved && !leases_.empty()) {
                    release(0);
                    moved = true;
                }
            }
        }
    }

    /// All loads have ended, all models that were to go are gone, and every lease is released: then nothing waits, and
    /// after close nothing is left.
    void check_end() const {
        require(waiting() == 0, "R9 if loads finish and leases end, every waiter completes");
        require(operations_.empty(), "R9 if loads finish and leases end, every operation completes");
        require(leases_.empty(), "every lease can be released");
        for (const KnownResident& resident : residents_) {
            require(resident.state == ResidentState::ready, "what is in between comes to an end");
        }
        if (scheduler_.closed()) {
            require(residents_.empty(), "R12 after shutdown nothing is resident");
            require(scheduler_.next_alarm() == core::never, "R12 after shutdown there is no alarm");
            require(scheduler_.queue().requests().size() == 0, "R12 after shutdown nothing is kept of a request");
        }
    }

    // -- Looking in ---------------------------------------------------------------------------------------------------

    [[nodiscard]] const core::SlotScheduler& scheduler() const noexcept { return scheduler_; }
    [[nodiscard]] core::Time now() const noexcept { return now_; }
    /// Waiters and claims, in the order in which they came.
    [[nodiscard]] const std::vector<KnownWaiter>& waiters() const noexcept { return waiters_; }
    [[nodiscard]] const std::vector<KnownLease>& leases() const noexcept { return leases_; }
    /// Requests of which all parts were given, while some run and their deadline goes on.
    [[nodiscard]] const std::vector<KnownSharer>& kept() const noexcept { return kept_; }
    [[nodiscard]] const std::vector<KnownResident>& residents() const noexcept { return residents_; }
    [[nodiscard]] const std::vector<KnownOperation>& teardowns() const noexcept { return operations_; }
    [[nodiscard]] const core::Actions& actions() const noexcept { return actions_; }
    /// Whether such a request would be refused because its key is unknown or cools down, or the queue is full.
    [[nodiscard]] bool refuses(std::size_t key, const core::RequestSpec& spec) const {
        return is_unknown(key, spec) || cools_down(key) || !fits_queue(spec, waiting(), waiting_bytes());
    }
    /// The generation of the key's resident, or none.
    [[nodiscard]] Generation generation_of(std::size_t key) const noexcept {
        const KnownResident* resident = resident_of(key);
        return resident == nullptr ? Generation{} : resident->generation;
    }

    /// Prints all that is known, for a person.
    friend std::ostream& operator<<(std::ostream& out, const CheckedScheduler& world) {
        out << "    at " << world.now_.count() / 1'000'000 << " ms, alarm ";
        if (world.scheduler_.next_alarm() == core::never) {
            out << "never";
        } else {
            out << world.scheduler_.next_alarm().count() / 1'000'000 << " ms";
        }
        out << ", generation " << world.scheduler_.generation() << (world.scheduler_.closed() ? ", closed" : "")
            << (world.lease_by_age_ ? "" : ", next lease by rank")
            << (world.place_by_age_ ? "" : ", next place by rank") << '\n';
        for (const KnownResident& resident : world.residents_) {
            out << "    resident " << world.name(resident.key) << ' ' << resident.state << ", " << resident.leases
                << " leases" << (resident.stopped ? ", asked to stop" : "")
                << (resident.discarded ? ", to be discarded" : "") << (resident.for_good ? ", for good" : "")
                << (resident.revoked ? ", revoked" : "") << '\n';
        }
        for (const KnownWaiter& waiter : world.waiters_) {
            out << "    " << (waiter.claims ? "claim    " : "waiter   ") << world.name(waiter.key)
                << (!waiter.spec.wants_lease   ? " for a load"
                    : waiter.spec.is_inference ? " for a call"
                                               : " for a lease")
                << ", " << waiter.spec.texts << (waiter.cut ? " texts left, " : " texts, ") << waiter.running
                << " parts running, priority " << static_cast<int>(waiter.spec.priority) << ", since "
                << waiter.since.count() / 1'000'000 << " ms"
                << (world.keys_[waiter.key].ranks_last ? ", ranks last" : "");
            if (waiter.claims || waiter.spec.deadline != core::never) {
                out << ", until " << (waiter.claims ? waiter.until : waiter.spec.deadline).count() / 1'000'000 << " ms";
            }
            out << '\n';
        }
        for (const KnownOperation& operation : world.operations_) {
            out << "    operation that waits for residents " << operation.awaits << '\n';
        }
        return out;
    }

private:
    using Attempt = core::Attempt;

    // In the order of H6: the first is served first.
    struct Order {
        int level = 0;
        std::uint64_t arrival = 0;
        friend auto operator<=>(const Order&, const Order&) = default;
    };

    static void require(bool holds, const char* promise) {
        if (!holds) [[unlikely]] {
            throw Violation(promise);
        }
    }

    static std::uint64_t bit(core::ResidentId id) { return std::uint64_t{1} << (id.index % 64U); }

    [[nodiscard]] const ModelKey& name(std::size_t key) const noexcept { return (*names_)[key]; }
    [[nodiscard]] const SlotOptions& options() const noexcept { return scheduler_.options(); }
    [[nodiscard]] std::size_t max_calls() const noexcept {
        return options().max_calls == 0 ? options().max_leases : std::min(options().max_calls, options().max_leases);
    }
    [[nodiscard]] std::size_t calls() const noexcept {
        return static_cast<std::size_t>(
            std::count_if(leases_.begin(), leases_.end(), [](const auto& each) { return each.grant.is_inference; }));
    }

    [[nodiscard]] KnownResident* find(core::ResidentId id) noexcept {
        const auto found =
            std::find_if(residents_.begin(), residents_.end(), [&](const auto& each) { return each.id == id; });
        return found == residents_.end() ? nullptr : &*found;
    }
    [[nodiscard]] KnownResident& at(core::Index index) {
        for (KnownResident& resident : residents_) {
            if (resident.id.index == index) {
                return resident;
            }
        }
        throw Violation("an action names a resident that is there");
    }
    [[nodiscard]] const KnownResident* resident_of(std::size_t key) const noexcept {
        const auto found =
            std::find_if(residents_.begin(), residents_.end(), [&](const auto& each) { return each.key == key; });
        return found == residents_.end() ? nullptr : &*found;
    }
    [[nodiscard]] KnownResident* resident_of(std::size_t key) noexcept {
        return const_cast<KnownResident*>(std::as_const(*this).resident_of(key));
    }

    // -- What waits ---------------------------------------------------------------------------------------------------

    // Whether the key has a waiter or a claim.
    [[nodiscard]] bool awaited(std::size_t key) const noexcept {
        return std::any_of(waiters_.begin(), waiters_.end(), [&](const auto& each) { return each.key == key; });
    }
    [[nodiscard]] std::size_t waiters_of(std::size_t key) const noexcept {
        return static_cast<std::size_t>(std::count_if(
            waiters_.begin(), waiters_.end(), [&](const auto& each) { return each.key == key && !each.claims; }));
    }
    [[nodiscard]] std::size_t waiting() const noexcept {
        return static_cast<std::size_t>(
            std::count_if(waiters_.begin(), waiters_.end(), [](const auto& each) { return !each.claims; }));
    }
    [[nodiscard]] const KnownWaiter* claim_of(std::size_t key) const noexcept {
        const auto found = std::find_if(waiters_.begin(), waiters_.end(),
                                        [&](const auto& each) { return each.key == key && each.claims; });
        return found == waiters_.end() ? nullptr : &*found;
    }

    [[nodiscard]] Order order(const KnownWaiter& waiter) const noexcept {
        return {static_cast<int>(waiter.spec.priority) + (keys_[waiter.key].ranks_last ? 10 : 0), waiter.arrival};
    }
    [[nodiscard]] bool aged(const KnownWaiter& waiter) const noexcept {
        return core::later(waiter.since, core::to_duration(options().aging)) <= now_;
    }
    // The best, or the oldest, of those that `counts`; null if there is none.
    template <class Counts>
    [[nodiscard]] const KnownWaiter* best(Counts counts) const noexcept {
        const KnownWaiter* found = nullptr;
        for (const KnownWaiter& waiter : waiters_) {
            if (counts(waiter) && (found == nullptr || order(waiter) < order(*found))) {
                found = &waiter;
            }
        }
        return found;
    }
    template <class Counts>
    [[nodiscard]] const KnownWaiter* oldest(Counts counts) const noexcept {
        const auto found = std::find_if(waiters_.begin(), waiters_.end(), counts);
        return found == waiters_.end() ? nullptr : &*found;
    }
    [[nodiscard]] const KnownWaiter* best_of(std::size_t key) const noexcept {
        return best([&](const KnownWaiter& each) { return each.key == key; });
    }
    [[nodiscard]] Order order_of(std::size_t key) const noexcept { return order(*best_of(key)); }

    // Whether its resident and the slot can give the waiter a lease.
    [[nodiscard]] bool has_room(const KnownWaiter& waiter) const {
        const KnownResident* resident = resident_of(waiter.key);
        return waiter.spec.wants_lease && resident != nullptr && resident->state == ResidentState::ready &&
               resident->leases < resident->capacity && leases_.size() < options().max_leases &&
               (!waiter.spec.is_inference || (calls() < max_calls() && leaves_a_call(waiter.spec.priority)));
    }
    // H26: while higher priority was in one of the latest calls, lower ones have all calls but one.
    [[nodiscard]] bool leaves_a_call(Priority priority) const {
        for (std::size_t higher = 0; higher < static_cast<std::size_t>(priority); ++higher) {
            const auto lower = std::count_if(leases_.begin(), leases_.end(), [&](const KnownLease& each) {
                return each.grant.is_inference && static_cast<std::size_t>(each.grant.priority) > higher;
            });
            if (max_calls() > 1 && latest_[higher] != 0 && batches_ - latest_[higher] < 2 * max_calls() &&
                static_cast<std::size_t>(lower) + 1 >= max_calls()) {
                return false;
            }
        }
        return true;
    }
    // Whether the waiter is the first of its key for a lease, by rank or by age, and can be given it.
    [[nodiscard]] bool can_be_granted(const KnownWaiter& waiter, bool by_age) const {
        if (!has_room(waiter)) {
            return false;
        }
        if (by_age) {
            return oldest([&](const KnownWaiter& each) {
                       return each.key == waiter.key && each.spec.wants_lease && each.running == 0 &&
                              (!each.cut || (has_room(each) && may_start_part(each)));
                   }) == &waiter;
        }
        const bool is_first = best([&](const KnownWaiter& each) {
                                  return each.key == waiter.key && each.spec.wants_lease && !each.cut;
                              }) == &waiter;
        return waiter.cut ? first_part(waiter.key) == &waiter && may_start_part(waiter) : is_first;
    }
    // H26: of those of the highest priority the one with the fewest texts left.
    [[nodiscard]] const KnownWaiter* first_part(std::size_t key) const {
        const KnownWaiter* found = nullptr;
        for (const KnownWaiter& each : waiters_) {
            if (each.key == key && each.cut && !each.claims &&
                (found == nullptr ||
                 std::pair(each.spec.priority, each.spec.texts) < std::pair(found->spec.priority, found->spec.texts))) {
                found = &each;
            }
        }
        return found;
    }
    // H26: whether a part of the waiter leaves enough to others.
    [[nodiscard]] bool may_start_part(const KnownWaiter& waiter) const {
        if (waiter.part != core::none) {
            return true;
        }
        const KnownResident& resident = *resident_of(waiter.key);
        const auto parts = [&](bool here) {
            return static_cast<std::size_t>(std::count_if(leases_.begin(), leases_.end(), [&](const KnownLease& each) {
                return each.grant.is_part && (!here || each.grant.resident == resident.id);
            }));
        };
        const auto waits = [&](bool here) {
            return std::any_of(waiters_.begin(), waiters_.end(), [&](const KnownWaiter& each) {
                const KnownResident* const its = resident_of(each.key);
                const bool takes_one_more =
                    its != nullptr && its->state == ResidentState::ready && its->leases < its->capacity;
                const bool is_first = best([&](const KnownWaiter& other) {
                                          return other.key == each.key && other.spec.wants_lease && !other.cut;
                                      }) == &each;
                return takes_one_more && is_first && (here ? each.key == waiter.key : each.spec.is_inference);
            });
        };
        const auto is_recent = [&](std::uint64_t whole_at) {
            return whole_at != 0 && batches_ - whole_at < 2 * max_calls();
        };
        const auto leaves_enough = [&](std::size_t calls, bool here, bool last_is_part, std::uint64_t whole_at) {
            return calls == 1 ? !(last_is_part && waits(here))
                              : parts(here) < calls - 1 || !(waits(here) || is_recent(whole_at));
        };
        return leaves_enough(max_calls(), false, last_is_part_, whole_at_) &&
               leaves_enough(std::min(max_calls(), resident.capacity), true, resident.last_is_part, resident.whole_at);
    }
    // Cuts the waiters that would be granted next but are too large for one call, or alone with several free calls.
    void cut_next() {
        while (const KnownWaiter* const next = next_to_grant()) {
            const auto part = part_of(*next);
            if (next->cut || !part) {
                return;
            }
            auto& waiter = waiters_[static_cast<std::size_t>(next - waiters_.data())];
            waiter.cut = true;
            waiter.part = *part;
        }
    }
    // A waiter may also have been cut when its turn came in the middle of a call, and its resident drain by now.
    void adopt_cuts() {
        for (KnownWaiter& waiter : waiters_) {
            const KnownResident* resident = resident_of(waiter.key);
            if (!waiter.cut && scheduler_.queue().is_cut(waiter.id.index)) {
                require(resident != nullptr && resident->switches() && resident->batch.texts > 1 &&
                            (waiter.spec.texts > resident->batch.texts || waiter.spec.bytes > resident->batch.bytes),
                        "H26 only what is too large for a call, or alone, is cut");
                waiter.cut = true;
            }
        }
    }
    // How many texts a part of the waiter has at most, or nothing if it is not to be cut.
    [[nodiscard]] std::optional<core::Index> part_of(const KnownWaiter& waiter) const {
        return part_of(waiter.spec, *resident_of(waiter.key), waiting() == 1);
    }
    [[nodiscard]] std::optional<core::Index> part_of(const core::RequestSpec& spec, const KnownResident& resident,
                                                     bool alone) const {
        if (!spec.is_inference || spec.texts < 2 || resident.batch.texts < 2) {
            return std::nullopt;
        }
        if (spec.texts > resident.batch.texts || spec.bytes > resident.batch.bytes) {
            return core::none;
        }
        const std::size_t free =
            std::min({max_calls(), resident.capacity - resident.leases, options().max_leases - leases_.size()});
        if (!alone || !resident.spreads || calls() != 0 || batches_ < company_until_ || free < 2) {
            return std::nullopt;
        }
        return static_cast<core::Index>((spec.texts + free - 1) / free);
    }
    // Two requests for calls are there at once.
    void note_company() { company_until_ = batches_ + 2 * max_calls(); }
    // The oldest waiter that can be granted, if it is older than `aging`.
    [[nodiscard]] const KnownWaiter* oldest_to_grant() const {
        const KnownWaiter* found =
            oldest([&](const KnownWaiter& each) { return can_be_granted(each, true) && aged(each); });
        return found;
    }
    // H6 and R15.
    [[nodiscard]] const KnownWaiter* next_to_grant() const {
        if (lease_by_age_) {
            if (const KnownWaiter* waiter = oldest_to_grant(); waiter != nullptr) {
                return waiter;
            }
        }
        return best([&](const KnownWaiter& each) { return can_be_granted(each, false); });
    }

    void drop_waiter(std::size_t index) {
        const std::size_t key = waiters_[index].key;
        waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(index));
        note_left(key);
    }
    void drop_claim(std::size_t key) { drop_waiter(static_cast<std::size_t>(claim_of(key) - waiters_.data())); }
    void note_left(std::size_t key) {
        if (!awaited(key)) {
            forgive(key);
            KnownResident* resident = resident_of(key);
            if (resident != nullptr && resident->state == ResidentState::loading && !resident->stopped) {
                resident->abandoned_at = core::later(now_, core::to_duration(options().abandon_after));
            }
        }
    }
    // The key that was evicted for this one no longer ranks last.
    void forgive(std::size_t key) {
        if (keys_[key].evicted != 0) {
            keys_[keys_[key].evicted - 1].ranks_last = false;
            keys_[key].evicted = 0;
        }
    }

    // A waiter has timed out: its key's turn may stay (H1).
    void time_out(std::size_t index) {
        KnownWaiter& waiter = waiters_[index];
        const KnownResident* resident = resident_of(waiter.key);
        const bool may_claim =
            !closed_ && options().abandon_after != std::chrono::milliseconds::zero() &&
            (resident == nullptr || (resident->state == ResidentState::queued && !resident->discarded));
        if (!may_claim || waiters_of(waiter.key) != 1) {
            drop_waiter(index);
            return;
        }
        if (counts_ != nullptr) {
            ++counts_->claims;
        }
        const core::Time until = core::later(now_, core::to_duration(options().abandon_after));
        for (KnownWaiter& each : waiters_) {
            if (each.claims && each.key == waiter.key) {
                each.until = until;
                drop_waiter(index);
                return;
            }
        }
        waiter.claims = true;
        waiter.until = until;
    }

    // -- Places -------------------------------------------------------------------------------------------------------

    // The keys that wait and have no resident, by rank.
    [[nodiscard]] std::vector<std::size_t> lacking() const {
        std::vector<std::size_t> all;
        for (std::size_t key = 0; key < keys_.size(); ++key) {
            if (awaited(key) && resident_of(key) == nullptr) {
                all.push_back(key);
            }
        }
        std::sort(all.begin(), all.end(),
                  [&](std::size_t left, std::size_t right) { return order_of(left) < order_of(right); });
        return all;
    }
    // The key of the oldest waiter without a resident, if that is older than `aging`.
    [[nodiscard]] std::optional<std::size_t> aged_key() const {
        const KnownWaiter* waiter = oldest(
            [&](const KnownWaiter& each) { return resident_of(each.key) == nullptr && !keys_[each.key].ranks_last; });
        return waiter != nullptr && aged(*waiter) ? std::optional(waiter->key) : std::nullopt;
    }
    // The key that the next place goes to.
    [[nodiscard]] std::optional<std::size_t> next_key() const {
        const std::optional<std::size_t> old = old_key();
        const std::vector<std::size_t> keys = lacking();
        return old ? old : keys.empty() ? std::nullopt : std::optional(keys.front());
    }
    [[nodiscard]] std::size_t loads() const {
        return static_cast<std::size_t>(std::count_if(residents_.begin(), residents_.end(),
                                                      [](const auto& each) { return each.is_load(); })) -
               (loading_ended_ && ending_.valid() ? 1U : 0U);
    }
    // How many places are wanted: only those whose load can begin.
    [[nodiscard]] std::size_t wanted() const {
        return closed_ ? 0 : std::min(lacking().size(), options().max_loads - std::min(options().max_loads, loads()));
    }
    // Places that come free soon: of residents that unload, or whose load is not wanted.
    [[nodiscard]] std::size_t coming_soon() const {
        return static_cast<std::size_t>(
            std::count_if(residents_.begin(), residents_.end(), [&](const KnownResident& resident) {
                const bool unwanted = resident.discarded || !awaited(resident.key);
                return resident.state == ResidentState::unloading || resident.id == failed_resident_ ||
                       (resident.state == ResidentState::queued && unwanted) ||
                       (resident.state == ResidentState::loading && resident.stopped && unwanted);
            }));
    }
    [[nodiscard]] std::size_t draining(bool for_good) const {
        return static_cast<std::size_t>(
            std::count_if(residents_.begin(), residents_.end(), [&](const KnownResident& resident) {
                return resident.state == ResidentState::draining && resident.for_good == for_good;
            }));
    }
    [[nodiscard]] bool spare(const KnownResident& resident) const {
        return resident.state == ResidentState::ready && resident.leases == 0 && !resident.for_good &&
               !awaited(resident.key);
    }
    // The key that the next place goes to because of its age.
    [[nodiscard]] std::optional<std::size_t> old_key() const { return place_by_age_ ? aged_key() : std::nullopt; }
    // Whether the resident is idle and makes place without a drain.
    [[nodiscard]] bool makes_place(const KnownResident& resident) const {
        return spare(resident) && yields(resident, coming_soon(), old_key());
    }
    [[nodiscard]] bool any_makes_place() const {
        return std::any_of(residents_.begin(), residents_.end(), [&](const auto& each) { return makes_place(each); });
    }
    [[nodiscard]] core::Duration stay_of(const KnownResident& resident) const {
        if (options().min_stay) {
            return std::min(core::to_duration(*options().min_stay), core::to_duration(options().aging));
        }
        const std::size_t places = scheduler_.max_resident();
        if (resident.crowd <= places) {
            return resident.took;
        }
        return resident.took / 2 + resident.took / 2 / static_cast<core::Duration::rep>(resident.crowd) *
                                       static_cast<core::Duration::rep>(places);
    }
    // Until when the resident keeps its place against every claim, if nothing happens (H32).
    [[nodiscard]] core::Time stays_until(const KnownResident& resident) const {
        const core::Time end = core::later(resident.ready_since, stay_of(resident));
        return spare(resident) ? std::min(end, core::later(resident.idle_since, stay_of(resident) / 10)) : end;
    }
    // When what the resident served at this level no longer counts; precondition: nothing of it runs.
    [[nodiscard]] core::Time serves_until(const KnownResident& resident, std::size_t level) const {
        const core::Duration length = stay_of(resident) == core::Duration::zero() ? stay_of(resident) : resident.took;
        return core::later(resident.served[level].value_or(resident.leases == 0 ? resident.idle_since : now_), length);
    }
    // The highest priority that the resident serves or served lately: 2 if that counts for nothing.
    [[nodiscard]] int level_served(const KnownResident& resident) const {
        for (std::size_t level = 0; level < 2 && stay_of(resident) != core::Duration::zero(); ++level) {
            if (resident.serving[level] != 0 || now_ < serves_until(resident, level)) {
                return static_cast<int>(level);
            }
        }
        return 2;
    }
    // Which lease ends is not known: it counts as the one of the highest priority.
    static void end_service(KnownResident& resident, std::optional<core::Time> when) {
        for (std::size_t level = 0; level < 2; ++level) {
            if (resident.serving[level] != 0) {
                --resident.serving[level];
                resident.served[level] = when;
                break;
            }
        }
    }
    // Whether the resident gives its place to the key that is served after `served` others. `old` is the key that the
    // next place goes to because of its age.
    [[nodiscard]] bool yields(const KnownResident& resident, std::size_t served, std::optional<std::size_t> old) const {
        if (resident.state == ResidentState::ready && now_ < stays_until(resident)) {
            return false;
        }
        if (old && served == 0) {
            const KnownWaiter* own = oldest([&](const KnownWaiter& each) { return each.key == resident.key; });
            const KnownWaiter* other = oldest([&](const KnownWaiter& each) { return each.key == *old; });
            return own == nullptr || (resident.used != resident.readied && other->arrival < own->arrival);
        }
        // The others, by rank, but for those whose last load failed and that are not old yet.
        std::vector<std::size_t> others = lacking();
        others.erase(std::remove_if(others.begin(), others.end(),
                                    [&](std::size_t key) {
                                        const KnownWaiter* first =
                                            oldest([&](const KnownWaiter& each) { return each.key == key; });
                                        return (old && key == *old) ||
                                               (keys_[key].failures != 0 && !aged(*first) && !spare(resident));
                                    }),
                     others.end());
        const std::size_t place = served - (old ? 1U : 0U);
        const int level = level_served(resident);
        const bool before_served = level == 2 || (place < others.size() && order_of(others[place]).level <= level);
        return place < others.size() && before_served &&
               (!awaited(resident.key) || order_of(others[place]) < order_of(resident.key));
    }
    // How many places come before that of a resident that drains for a switch.
    [[nodiscard]] std::size_t served_before(const KnownResident& resident) const {
        return coming_soon() + draining(true) +
               static_cast<std::size_t>(std::count_if(residents_.begin(), residents_.end(), [&](const auto& other) {
                   return other.switches() && other.drained < resident.drained;
               }));
    }
    // What keeps a drain from going on: too many of them, or a waiter that ranks before.
    [[nodiscard]] bool may_return(const KnownResident& resident) const {
        const std::optional<std::size_t> old = old_key();
        return draining(false) + draining(true) + coming_soon() > wanted() ||
               ((awaited(resident.key) || level_served(resident) != 2) &&
                !yields(resident, served_before(resident), old));
    }
    static bool used_before(const KnownResident& left, const KnownResident& right) { return left.used < right.used; }

    // -- Requests -----------------------------------------------------------------------------------------------------

    [[nodiscard]] core::Duration cooldown(std::size_t failures) const {
        const core::Duration longest = core::to_duration(options().max_cooldown);
        core::Duration length = core::to_duration(options().cooldown);
        for (std::size_t failure = 0; failure < std::min<std::size_t>(failures, 64); ++failure) {
            length = length > longest / 2 ? longest : length * 2;
        }
        return std::min(length, longest);
    }
    [[nodiscard]] bool cools_down(std::size_t key) const {
        return resident_of(key) == nullptr && now_ < keys_[key].cooling_until;
    }
    [[nodiscard]] bool is_unknown(std::size_t key, const core::RequestSpec& spec) const {
        return resident_of(key) == nullptr && spec.is_unknown;
    }
    [[nodiscard]] std::size_t waiting_bytes() const {
        std::size_t sum = 0;
        for (const KnownWaiter& waiter : waiters_) {
            sum += waiter.claims ? 0 : waiter.spec.bytes;
        }
        return sum;
    }
    [[nodiscard]] std::size_t waiting_texts() const {
        std::size_t sum = 0;
        for (const KnownWaiter& waiter : waiters_) {
            sum += waiter.claims ? 0 : waiter.spec.texts;
        }
        return sum;
    }
    [[nodiscard]] bool fits_queue(const core::RequestSpec& spec, std::size_t waiters, std::size_t bytes) const {
        const auto room = [&](std::size_t all) { return all - (spec.priority == Priority::low ? all / 4 : 0); };
        return waiters < room(options().max_queue) && bytes + spec.bytes <= room(options().max_queue_bytes);
    }

    [[nodiscard]] Attempt attempt_expected(std::size_t key, const core::RequestSpec& spec) const {
        const KnownResident* resident = resident_of(key);
        if (scheduler_.closed()) {
            return Attempt::shutting_down;
        }
        const bool usable = resident != nullptr && (resident->state == ResidentState::ready || resident->switches());
        if (spec.expects && !(usable && resident->generation == spec.expected)) {
            return Attempt::model_changed;
        }
        if (resident == nullptr || resident->state != ResidentState::ready) {
            return Attempt::must_wait;
        }
        const bool others_wait = std::any_of(waiters_.begin(), waiters_.end(),
                                             [&](const auto& each) { return each.key == key && !each.cut; });
        const bool has_room = leases_.size() < options().max_leases && resident->leases < resident->capacity &&
                              (!spec.is_inference || (calls() < max_calls() && leaves_a_call(spec.priority))) &&
                              !others_wait && !part_of(spec, *resident, waiters_.empty());
        return !spec.wants_lease || has_room ? Attempt::granted : Attempt::must_wait;
    }

    void count_attempt(Attempt attempt) const {
        if (counts_ == nullptr) {
            return;
        }
        counts_->at_once += attempt == Attempt::granted ? 1U : 0U;
        counts_->refusals[static_cast<std::size_t>(errc::shutting_down)] += attempt == Attempt::shutting_down ? 1U : 0U;
        counts_->refusals[static_cast<std::size_t>(errc::model_changed)] += attempt == Attempt::model_changed ? 1U : 0U;
    }

    Fate enqueue(std::size_t key, const core::RequestSpec& spec) {
        const bool unknown = is_unknown(key, spec);
        const bool cooling = !unknown && cools_down(key);
        const bool was_full = !unknown && !cooling && !fits_queue(spec, waiting(), waiting_bytes());
        std::size_t due = 0;
        std::size_t due_bytes = 0;
        std::size_t due_texts = 0;
        for (const KnownWaiter& each : waiters_) {
            if (!each.claims && each.spec.deadline <= now_) {
                ++due;
                due_bytes += each.spec.bytes;
                due_texts += each.spec.texts;
            }
        }
        const bool full = was_full && !fits_queue(spec, waiting() - due, waiting_bytes() - due_bytes);
        const bool late = spec.deadline <= now_;
        begin();
        if (was_full) {
            begin_expiry();
        }
        const bool joins = !unknown && !cooling && !full && !late;
        if (joins) {
            // It comes after those whose time is up have left, and gets its name below.
            joining_ = KnownWaiter{{}, key, spec, ++arrivals_, now_};
            if (spec.is_inference && (calls() != 0 || waiting_texts() != (was_full ? due_texts : 0))) {
                note_company();
            }
        }
        refused_key_ = key;
        refused_ = unknown   ? errc::unknown_model
                   : cooling ? errc::cooling_down
                   : full    ? errc::overloaded
                             : errc::timed_out;
        refused_late_ = !joins && refused_ == errc::timed_out;
        const core::Enqueued enqueued = scheduler_.enqueue(name(key), spec, now_, actions_);
        require(enqueued.request.valid() == joins, "R8 a request waits if it may, else it is refused at once");
        if (joins) {
            joining_->id = enqueued.request;
        } else {
            require(enqueued.code == refused_, "H5 a refused request learns why");
            require(enqueued.stage == (refused_late_ ? Stage::queue : Stage::admission),
                    "a refused request learns in which stage");
            const SlotCounters& done = scheduler_.counters();
            const bool any_ended = refused_ == errc::overloaded && done.batches > scheduler_.calls();
            require(cooling     ? enqueued.retry_after == keys_[key].cooling_until - now_
                    : any_ended ? enqueued.retry_after >= core::Duration::zero()
                                : enqueued.retry_after == core::Duration::zero(),
                    "cooling_down says when to try again, overloaded once a call has ended");
            if (!refused_late_) {
                refuse(unknown ? 2 : cooling ? 1 : 0, key);
            }
            if (counts_ != nullptr) {
                ++counts_->refusals[static_cast<std::size_t>(enqueued.code)];
            }
        }
        carry_out(joins || was_full);
        require(!refused_late_, "a request whose deadline has passed is an event");
        if (!joins) {
            return Fate::refused;
        }
        const bool waits = std::any_of(waiters_.begin(), waiters_.end(),
                                       [&](const auto& each) { return each.id == enqueued.request; });
        return waits ? Fate::waits : Fate::granted;
    }

    void refuse(std::size_t which, std::size_t key) {
        KnownRefusals& refusals = refusals_[which];
        ++refusals.count;
        refusals.key = key;
    }

    void use(KnownResident& resident, const core::RequestSpec& spec) {
        resident.keep_alive = spec.overrides_keep_alive ? spec.keep_alive : core::to_duration(options().keep_alive);
        resident.used = ++uses_;
    }

    void lease(KnownResident& resident, const core::Grant& grant, const core::RequestSpec& spec, core::Time since) {
        require(resident.state == ResidentState::ready, "R1 a lease is granted on a ready resident only");
        require(leases_.size() < options().max_leases, "R8 leases <= max_leases");
        require(!spec.is_inference || calls() < max_calls(), "R8 model calls <= max_calls");
        require(resident.leases < resident.capacity, "no more leases on a model than it takes at once");
        use(resident, spec);
        ++resident.leases;
        if (spec.priority != Priority::low) {
            ++resident.serving[static_cast<std::size_t>(spec.priority)];
        }
        if (spec.is_inference) {
            ++batches_;
            latest_[static_cast<std::size_t>(spec.priority)] = batches_;
            require(grant.priority == spec.priority, "a lease is of its request's priority");
            resident.last_is_part = last_is_part_ = grant.is_part;
            if (!grant.is_part) {
                resident.whole_at = whole_at_ = batches_;
            }
        }
        KnownLease& held = leases_.emplace_back(KnownLease{grant, resident.key, {}});
        if (grant.request.valid() && !grant.is_part) {
            held.sharers.push_back({grant.request, spec.deadline, since, false});
        }
    }

    // A part has ended: its request, if all its texts were given, when its last one has.
    void end_part(const KnownLease& ended) {
        const auto of_same = [&](const KnownLease& each) {
            return each.grant.is_part && each.grant.request == ended.grant.request;
        };
        const bool was_last = std::none_of(leases_.begin(), leases_.end(), of_same);
        const auto kept = std::find_if(kept_.begin(), kept_.end(),
                                       [&](const KnownSharer& each) { return each.id == ended.grant.request; });
        if (was_last && kept != kept_.end()) {
            kept_.erase(kept);
            scheduler_.leave_call(ended.grant.request);
        }
    }

    static void condemn(KnownResident& resident) {
        if (resident.is_load()) {
            resident.discarded = true;
        } else if (resident.state != ResidentState::unloading) {
            resident.for_good = true;
        }
    }
    void condemn_all() {
        for (KnownResident& resident : residents_) {
            condemn(resident);
        }
        closing_ = true;
    }

    // -- Actions ------------------------------------------------------------------------------------------------------

    void begin() {
        actions_.clear();
        done_ = 0;
        joiners_.clear();
        most_actions_ = scheduler_.most_actions();
    }

    // Requests whose deadline has passed leave first in this call.
    void begin_expiry() {
        expiring_ = static_cast<std::size_t>(
            std::count_if(waiters_.begin(), waiters_.end(),
                          [&](const auto& each) { return !each.claims && each.spec.deadline <= now_; }) +
            count_sharers([&](const KnownSharer& each) { return !each.expired && each.deadline <= now_; }));
    }
    template <class Counts>
    [[nodiscard]] std::ptrdiff_t count_sharers(Counts counts) const {
        std::ptrdiff_t count = std::count_if(kept_.begin(), kept_.end(), counts);
        for (const KnownLease& lease : leases_) {
            count += std::count_if(lease.sharers.begin(), lease.sharers.end(), counts);
        }
        return count;
    }
    // They have left: claims that are over follow, and the request that made them leave joins.
    void end_expiry() {
        if (drops_claims_) {
            drops_claims_ = false;
            for (std::size_t index = waiters_.size(); index-- != 0;) {
                if (waiters_[index].claims && waiters_[index].until <= now_) {
                    drop_waiter(index);
                }
            }
        }
        if (joining_) {
            waiters_.push_back(*joining_);
            if (KnownResident* resident = resident_of(joining_->key); resident != nullptr) {
                resident->abandoned_at = core::never;
            }
            joining_.reset();
        }
    }

    // `looks`: whether the call decides about places.
    void carry_out(bool looks = true) {
        for (; done_ < actions_.size(); ++done_) {
            const core::Action action = actions_[done_];
            if (counts_ != nullptr) {
                counts_->note(action);
            }
            if (expiring_ == 0 && action.type != core::ActionType::stop_load) {
                end_expiry();
            }
            carry_out(action);
        }
        require(expiring_ == 0, "H14 every request whose deadline has passed leaves");
        end_expiry();
        require(!ending_.valid(), "what the backend answered was taken note of");
        require(actions_.size() <= most_actions_, "most_actions() is not exceeded");
        require(!scheduler_.unfinished(), "less than one slice of work leaves nothing for a tick");
        settle_served();
        finish();
        if (looks) {
            check_switches();
        }
        for (std::size_t index = 0; begins_loads_ && index < residents_.size(); ++index) {
            if (residents_[index].state == ResidentState::queued) {
                most_actions_ = actions_.size() + scheduler_.most_actions();
                begin_load(index);
                index = static_cast<std::size_t>(-1);
            }
        }
    }

    void begin_load(std::size_t index) {
        const KnownResident resident = residents_[index];
        const bool wanted = !resident.discarded && awaited(resident.key);
        if (wanted) {
            residents_[index].state = ResidentState::loading;
            residents_[index].began = now_;
            if (claim_of(resident.key) != nullptr) {
                drop_claim(resident.key);
            }
        } else {
            forgive(resident.key);
            end_residency(residents_[index]);
        }
        begins_ = wanted ? resident.id : core::ResidentId{};
        require(scheduler_.load_begins(resident.id, now_, actions_) == wanted,
                "H13 a load begins if a waiter or a claim of its key wants it");
        if (counts_ != nullptr && !wanted) {
            ++counts_->dropped_loads;
        }
        carry_out(!wanted);
        require(!begins_.valid(), "H13 a load that begins is an event");
    }

    void carry_out(const core::Action& action) {
        if (action.type != core::ActionType::fail && !(action.type == core::ActionType::event && timed_out_)) {
            finish_failed();
        }
        require(!timed_out_ || action.type == core::ActionType::event, "a request that timed out is an event");
        switch (action.type) {
            case core::ActionType::grant: return carry_out_grant(action);
            case core::ActionType::join: return carry_out_join(action);
            case core::ActionType::part: return carry_out_part(action);
            case core::ActionType::fail: return carry_out_fail(action);
            case core::ActionType::expire: {
                KnownLease* lease = nullptr;
                KnownSharer* sharer = nullptr;
                for (KnownLease& each : leases_) {
                    for (KnownSharer& other : each.sharers) {
                        if (other.id.index == action.subject) {
                            lease = &each;
                            sharer = &other;
                        }
                    }
                }
                for (KnownSharer& other : kept_) {
                    if (other.id.index == action.subject) {
                        lease = &*std::find_if(leases_.begin(), leases_.end(),
                                               [&](const KnownLease& each) { return each.grant.request == other.id; });
                        sharer = &other;
                    }
                }
                require(sharer != nullptr && !sharer->expired, "R9 a request in flight expires once");
                require(sharer->deadline <= now_, "a request in flight expires after its deadline");
                require(action.stage == Stage::inference && action.code == errc::timed_out,
                        "a request in flight expires in stage inference");
                sharer->expired = true;
                timed_out_ = TimedOut{lease->key, Stage::inference, now_ - sharer->since,
                                      find(lease->grant.resident)->generation};
                return;
            }
            case core::ActionType::size: throw Violation("a slot without a budget asks for no size");
            case core::ActionType::load: return begin_residency(action.resident);
            case core::ActionType::stop_load: {
                KnownResident& resident = at(action.resident);
                require(resident.state == ResidentState::loading && !resident.stopped, "a load is asked to stop once");
                require(resident.discarded || (!awaited(resident.key) && resident.abandoned_at <= now_),
                        "R3, H1 a load goes on while it has waiters, and for abandon_after then");
                resident.stopped = true;
                return;
            }
            case core::ActionType::revoke: {
                KnownResident& resident = at(action.resident);
                require(resident.for_good && !resident.revoked && resident.was_ready,
                        "a resident is revoked once, by unload");
                resident.revoked = true;
                ++generation_;
                return;
            }
            case core::ActionType::unload: {
                KnownResident& resident = at(action.resident);
                require(resident.state == ResidentState::unloading && resident.leases == 0,
                        "R1 nothing is unloaded under a lease");
                return;
            }
            case core::ActionType::complete: {
                const auto operation = std::find_if(operations_.begin(), operations_.end(),
                                                    [&](const auto& each) { return each.id.index == action.subject; });
                require(operation != operations_.end(), "R9 an operation completes once");
                require(action.late ? operation->awaits != 0 && operation->deadline <= now_ : operation->awaits == 0,
                        "an operation completes when what it waits for is gone, or at its deadline");
                require(action.late || !operation->shutdown || waiters_.empty(),
                        "R12 a shutdown completes after the last waiter");
                operations_.erase(operation);
                return;
            }
            case core::ActionType::event: return carry_out_event(action);
        }
    }

    // H25: which waiters share the call that begins with `first`, which has left the queue.
    void expect_joiners(const core::RequestSpec& first, const KnownResident& resident) {
        require(joiners_.empty(), "H25 a batch takes all that fit");
        if (!first.is_inference || !resident.joins || resident.batch.texts < 2) {
            return;
        }
        const auto texts_of = [&](const KnownResident& each) {
            std::size_t sum = 0;
            for (const KnownWaiter& waiter : waiters_) {
                sum += waiter.key == each.key && !waiter.claims ? waiter.spec.texts : 0;
            }
            for (const KnownLease& lease : leases_) {
                sum += lease.grant.resident == each.id ? lease.grant.texts : 0;
            }
            return sum;
        };
        std::size_t in_slot = 0;
        for (const KnownResident& each : residents_) {
            in_slot += each.state == ResidentState::ready ? texts_of(each) : 0;
        }
        const auto part = [](std::size_t texts, std::size_t calls) { return (texts + calls - 1) / calls; };
        const std::size_t share =
            std::max(part(texts_of(resident), std::min(max_calls(), resident.capacity)), part(in_slot, max_calls()));
        std::size_t texts = first.texts;
        std::size_t bytes = first.bytes;
        bool passed_by = false;
        std::vector<KnownWaiter> rivals;
        std::copy_if(waiters_.begin(), waiters_.end(), std::back_inserter(rivals), [&](const KnownWaiter& each) {
            return each.key == resident.key && !each.claims && each.spec.wants_lease && !each.cut;
        });
        std::stable_sort(rivals.begin(), rivals.end(), [](const KnownWaiter& left, const KnownWaiter& right) {
            return left.spec.priority < right.spec.priority;
        });
        for (const KnownWaiter& each : rivals) {
            const bool fits = each.spec.is_inference && each.spec.priority <= first.priority &&
                              each.spec.as == first.as &&
                              texts + each.spec.texts <= std::min(share, resident.batch.texts) &&
                              bytes + each.spec.bytes <= resident.batch.bytes;
            passed_by = passed_by || !fits;
            if (fits && each.spec.deadline > now_ &&
                (!each.spec.expects || each.spec.expected == resident.generation)) {
                joiners_.push_back(each.id);
                texts += each.spec.texts;
                bytes += each.spec.bytes;
            }
        }
        if (counts_ != nullptr) {
            counts_->full_batches += joiners_.empty() || texts < resident.batch.texts ? 0U : 1U;
            counts_->passed_by += passed_by ? 1U : 0U;
        }
    }

    void carry_out_join(const core::Action& action) {
        require(!joiners_.empty() && joiners_.front().index == action.subject, "H25 a batch is filled by rank");
        const auto waiter = std::find_if(waiters_.begin(), waiters_.end(),
                                         [&](const KnownWaiter& each) { return each.id == joiners_.front(); });
        require(waiter != waiters_.end(), "R9 what joins was waiting");
        joiners_.erase(joiners_.begin());
        KnownLease& lease = leases_.back();
        KnownResident& resident = at(action.resident);
        const core::RequestSpec spec = waiter->spec;
        require(lease.grant.resident == resident.id && resident.key == waiter->key,
                "R11 no request is answered by another key's model");
        require(action.generation == resident.generation, "a grant names its generation");
        require(action.kept == (spec.deadline != core::never), "a request with a deadline that goes on stays known");
        resident.keep_alive = std::max(
            resident.keep_alive, spec.overrides_keep_alive ? spec.keep_alive : core::to_duration(options().keep_alive));
        lease.grant.texts += spec.texts;
        if (action.kept) {
            lease.sharers.push_back({waiter->id, spec.deadline, waiter->since, false});
        }
        drop_waiter(static_cast<std::size_t>(waiter - waiters_.begin()));
    }

    void carry_out_part(const core::Action& action) {
        require(joiners_.empty(), "H25 a batch takes all that fit");
        const auto waiter = std::find_if(waiters_.begin(), waiters_.end(), [&](const KnownWaiter& each) {
            return !each.claims && each.id.index == action.subject;
        });
        require(waiter != waiters_.end(), "R9 what is given a part was waiting");
        KnownResident& resident = at(action.resident);
        require(resident.key == waiter->key, "R11 no request is answered by another key's model");
        require(action.generation == resident.generation, "a grant names its generation");
        require(!waiter->spec.expects || waiter->spec.expected == resident.generation,
                "H28 a request that expects a residency gets no part of another");
        require(waiter->spec.deadline > now_, "H14 no waiter is granted past its deadline");
        check_lease(*waiter);
        require(waiter->cut, "H26 only what is too large for a call, or alone, is cut");
        const std::size_t limit =
            resident.batch.texts < 2 ? waiter->spec.texts : std::min<std::size_t>(resident.batch.texts, waiter->part);
        const std::size_t count = std::min<std::size_t>(waiter->spec.texts, limit);
        require(action.count == count && action.first == waiter->given, "H26 a part has the texts that come next");
        core::Grant grant{resident.id, waiter->id, true, action.count, true, waiter->spec.priority};
        core::RequestSpec spec = waiter->spec;
        lease(resident, grant, spec, waiter->since);
        waiter->spec.bytes -= waiter->spec.bytes / waiter->spec.texts * action.count;
        waiter->spec.texts -= action.count;
        waiter->given += action.count;
        ++waiter->running;
        require(action.is_last == (waiter->spec.texts == 0), "H26 the last part has the last text");
        require(action.kept == (!action.is_last || spec.deadline != core::never),
                "a request with a deadline that goes on stays known");
        if (counts_ != nullptr) {
            counts_->last_parts += action.is_last ? 1U : 0U;
            counts_->even_parts += waiter->part == core::none ? 0U : 1U;
        }
        if (action.is_last) {
            if (action.kept) {
                kept_.push_back({waiter->id, spec.deadline, waiter->since, false});
            }
            drop_waiter(static_cast<std::size_t>(waiter - waiters_.begin()));
        }
    }

    void carry_out_grant(const core::Action& action) {
        require(joiners_.empty(), "H25 a batch takes all that fit");
        const auto waiter = std::find_if(waiters_.begin(), waiters_.end(), [&](const KnownWaiter& each) {
            return !each.claims && each.id.index == action.subject;
        });
        require(waiter != waiters_.end(), "R9 what is granted was waiting");
        const KnownWaiter granted = *waiter;
        KnownResident& resident = at(action.resident);
        require(resident.key == granted.key, "R11 no request is answered by another key's model");
        require(resident.state == ResidentState::ready && !resident.for_good,
                "R1 a lease is granted on a ready resident only");
        require(action.generation == resident.generation, "a grant names its generation");
        require(!granted.spec.expects || granted.spec.expected == resident.generation,
                "H8 a waiter that expects a generation gets no other");
        require(granted.spec.deadline > now_, "H14 no waiter is granted past its deadline");
        const bool kept = granted.spec.wants_lease && granted.spec.is_inference && granted.spec.deadline != core::never;
        require(action.kept == kept, "a request with a deadline that goes on stays known");
        if (granted.spec.wants_lease) {
            check_lease(granted);
        } else {
            require(best([&](const KnownWaiter& each) { return each.key == granted.key && !each.spec.wants_lease; }) ==
                        &*waiter,
                    "H6 those that wait for a load complete by priority, then arrival");
        }
        drop_waiter(static_cast<std::size_t>(waiter - waiters_.begin()));
        if (granted.spec.wants_lease) {
            lease(resident,
                  {resident.id, kept ? granted.id : core::RequestId{}, granted.spec.is_inference, granted.spec.texts,
                   false, granted.spec.priority},
                  granted.spec, granted.since);
            expect_joiners(granted.spec, resident);
        } else {
            use(resident, granted.spec);
            if (resident.leases == 0) {
                resident.idle_since = now_;
            }
        }
    }

    // The lease goes to the waiter whose turn it is; and, in other words, of two leases one goes to the oldest waiter
    // (R15).
    void check_lease(const KnownWaiter& granted) {
        cut_next();
        const KnownWaiter* next = next_to_grant();
        require(next != nullptr && next->id == granted.id, "H6, R15 a lease goes to the waiter whose turn it is");
        const KnownWaiter* old = oldest_to_grant();
        const bool passes_over = old != nullptr && old->id != granted.id;
        require(!passes_over || !passed_over_by_lease_, "R15 every second lease goes to the oldest waiter");
        passed_over_by_lease_ = passes_over;
        const bool by_age = lease_by_age_ && old != nullptr;
        if (counts_ != nullptr && by_age &&
            best([&](const KnownWaiter& each) { return can_be_granted(each, false); }) != old) {
            ++counts_->by_age;
        }
        lease_by_age_ = !by_age;
    }

    void carry_out_fail(const core::Action& action) {
        const auto waiter = std::find_if(waiters_.begin(), waiters_.end(), [&](const KnownWaiter& each) {
            return !each.claims && each.id.index == action.subject;
        });
        require(waiter != waiters_.end(), "R9 what fails was waiting");
        const KnownResident* resident = resident_of(waiter->key);
        const bool loading = resident != nullptr && resident->state == ResidentState::loading;
        require(action.stage == (waiter->given != 0 ? Stage::inference
                                 : loading          ? Stage::load
                                                    : Stage::queue),
                "a failed request learns in which stage it ended");
        const auto index = static_cast<std::size_t>(waiter - waiters_.begin());
        if (load_failed_ && waiter->key == failed_key_ && failed_resident_.valid()) {
            require(action.code == failed_code_, "R3 a failed load fails its waiters with its code");
            require(action.duration == expected_retry_, "a failed load says when to try again");
            return drop_waiter(index);
        }
        switch (action.code) {
            case errc::timed_out:
                require(waiter->spec.deadline <= now_, "no waiter times out before its deadline");
                timed_out_ = TimedOut{waiter->key, action.stage, now_ - waiter->since, Generation{}};
                return time_out(index);
            case errc::model_changed:
                require(waiter->spec.expects, "only a waiter that expects a generation can miss it");
                require(resident == nullptr || resident->for_good || resident->state == ResidentState::unloading,
                        "H8 while the residency lasts, a waiter that expects it waits on");
                break;
            case errc::shutting_down: require(closing_, "only a slot that shuts down says so"); break;
            default: throw Violation("a waiter fails for a reason that the scheduler has");
        }
        drop_waiter(index);
    }

    void carry_out_event(const core::Action& action) {
        switch (action.event) {
            case EventType::shutdown_started:
                require(closing_ && !closed_, "a slot closes once");
                closed_ = true;
                for (std::size_t key = 0; key < keys_.size(); ++key) {
                    if (claim_of(key) != nullptr) {
                        drop_claim(key);
                    }
                }
                return;
            case EventType::timed_out: return carry_out_timed_out(action);
            case EventType::rejected: return carry_out_rejected(action);
            default: break;
        }
        KnownResident& resident = at(action.resident);
        switch (action.event) {
            case EventType::load_started:
                require(resident.id == begins_ && resident.state == ResidentState::loading,
                        "H13 load_started means that the backend is called");
                begins_ = {};
                break;
            case EventType::ready:
                require(resident.id == ending_ && !resident.discarded, "H2 what is to be discarded is never used");
                ending_ = {};
                resident.state = ResidentState::ready;
                resident.stopped = false;
                resident.was_ready = true;
                resident.generation = Generation{++generation_};
                resident.keep_alive = core::to_duration(options().keep_alive);
                resident.idle_since = resident.ready_since = now_;
                resident.took = std::min(now_ - resident.began, core::to_duration(options().aging));
                resident.crowd = lacking().size();
                resident.used = resident.readied = ++uses_;
                require(action.generation == resident.generation,
                        "R6 the counter is raised when a model becomes usable");
                break;
            case EventType::load_failed:
            case EventType::load_aborted:
                require(resident.id == ending_, "a load ends when the backend says so");
                require((action.event == EventType::load_aborted) == resident.stopped,
                        "H1 a load that was asked to stop cannot fail");
                require(action.event == EventType::load_failed ||
                            (action.reason == Reason::abandoned) != resident.discarded,
                        "an aborted load says why");
                if (action.event == EventType::load_aborted) {
                    end_residency(resident);
                } else {
                    // Its waiters are failed first, in stage load.
                    failed_resident_ = resident.id;
                    ending_ = {};
                }
                break;
            case EventType::unloaded:
                require(resident.id == ending_ && resident.state == ResidentState::unloading,
                        "what is gone was unloading");
                require(action.reason == resident.reason, "an unload gives one reason");
                end_residency(resident);
                break;
            case EventType::drain_started: begin_drain(resident, action.reason); break;
            case EventType::drain_ended:
                require(resident.switches(), "only a drain for a switch ends");
                require(may_return(resident),
                        "H3 a drain ends when its place is not needed, or a waiter of its key ranks before");
                for (const KnownResident& other : residents_) {
                    require(!other.switches() || other.drained <= resident.drained || !may_return(other),
                            "H3 the last that began to drain is the first to return");
                }
                resident.state = ResidentState::ready;
                resident.reason = Reason::none;
                break;
            case EventType::unload_started: begin_unload(resident, action.reason); break;
            default: throw Violation("the scheduler publishes no such event");
        }
    }

    void carry_out_timed_out(const core::Action& action) {
        if (refused_late_ && !timed_out_) {
            refused_late_ = false;
            timed_out_ = TimedOut{refused_key_, Stage::queue, core::Duration::zero(), Generation{}};
            ++expiring_;
        }
        require(timed_out_.has_value(), "a timeout is reported once");
        require(action.stage == timed_out_->stage && action.duration == timed_out_->duration &&
                    action.generation == timed_out_->generation,
                "a timeout is reported with its stage and with the time since the request came");
        const core::Duration zero = core::Duration::zero();
        require(action.load_time >= zero && action.call_time >= zero &&
                    action.load_time + action.call_time <= action.duration &&
                    (action.stage == Stage::inference || action.call_time == zero),
                "a timeout is reported with what the time went into");
        require(*scheduler_.key_of_entry(action.key) == name(timed_out_->key),
                "a timeout is reported with its key, which is known until the next call");
        timed_out_.reset();
        expiring_ -= expiring_ != 0 ? 1U : 0U;
    }

    void carry_out_rejected(const core::Action& action) {
        require(action.reason == Reason::overloaded || action.reason == Reason::cooling_down ||
                    action.reason == Reason::unknown_model,
                "a refusal has one of three reasons");
        KnownRefusals& refusals = refusals_[action.reason == Reason::overloaded     ? 0
                                            : action.reason == Reason::cooling_down ? 1
                                                                                    : 2];
        require(refusals.count != 0 && action.count == refusals.count, "H19 a refusal is reported with its number");
        require(refusals.next <= now_ || closed_, "H19 refusals of one kind are one event a second");
        require(*scheduler_.refusals().key(action.reason) == name(refusals.key), "H19 refusals have the latest key");
        refusals.count = 0;
        refusals.next = core::later(now_, core::Refusals::period);
    }

    void begin_residency(core::Index index) {
        KnownResident resident;
        resident.id = scheduler_.residents().handle(index);
        const ModelKey& key = *scheduler_.key_of(index);
        const auto found = std::find(names_->begin(), names_->end(), key);
        require(found != names_->end(), "R11 only what was asked for is loaded");
        resident.key = static_cast<std::size_t>(found - names_->begin());
        require(resident_of(resident.key) == nullptr, "R3 one load per key");
        require(residents_.size() < options().max_resident, "R2 residents <= max_resident");
        require(loads() < options().max_loads, "H13 loads <= max_loads");
        require(awaited(resident.key), "nothing is loaded that nothing waits for");
        require(waiters_of(resident.key) == 0 || now_ >= keys_[resident.key].cooling_until,
                "a key that cools down is not loaded");
        require(!closing_, "R12 a slot that shuts down loads nothing");
        require(next_key() == resident.key, "H6, R15 a place goes to the key whose turn it is");
        const std::optional<std::size_t> old = aged_key();
        const bool passes_over = old && *old != resident.key;
        require(!passes_over || !passed_over_by_place_, "R15 every second place goes to the key of the oldest waiter");
        passed_over_by_place_ = passes_over;
        if (counts_ != nullptr && place_by_age_ && old && lacking().front() != *old) {
            ++counts_->by_age;
        }
        place_by_age_ = !(place_by_age_ && old);
        keys_[resident.key].ranks_last = false;
        residents_.push_back(resident);
    }

    void end_residency(KnownResident& resident) {
        require(resident.leases == 0, "R1 nothing goes under a lease");
        const core::ResidentId id = resident.id;
        for (KnownOperation& operation : operations_) {
            operation.awaits &= ~bit(id);
        }
        residents_.erase(residents_.begin() + (&resident - residents_.data()));
        ending_ = {};
    }
    void finish_failed() {
        if (failed_resident_.valid()) {
            KnownResident* resident = find(failed_resident_);
            require(waiters_of(resident->key) == 0, "R3 a failed load fails all who waited for it");
            failed_resident_ = {};
            end_residency(*resident);
        }
    }

    // The resident gives its place to a key.
    void require_victim(const KnownResident& resident) {
        const std::size_t served = draining(false) + draining(true) + coming_soon();
        require(served < wanted(), "H3 no more drain than places are wanted");
        require(!any_makes_place(), "an idle resident that nothing waits for goes before one in use drains");
        std::optional<std::size_t> old = old_key();
        const auto some_yields = [&] {
            return std::any_of(residents_.begin(), residents_.end(), [&](const KnownResident& other) {
                return other.state == ResidentState::ready && yields(other, served, old);
            });
        };
        if (!old && served + loads() == 0 && !some_yields()) {
            // The next place goes by age, too.
            old = aged_key();
            place_by_age_ = true;
        }
        require(yields(resident, served, old), "H3 a resident gives way only to a key that ranks before its waiters");
        for (const KnownResident& other : residents_) {
            require(&other == &resident || other.state != ResidentState::ready || !yields(other, served, old) ||
                        used_before(resident, other),
                    "H3 the least recently granted makes place first");
        }
    }

    void begin_drain(KnownResident& resident, Reason reason) {
        require(resident.state == ResidentState::ready && resident.leases != 0, "what drains was ready and in use");
        if (reason == Reason::switched) {
            require(!resident.for_good, "a switch drains only what is not condemned");
            require_victim(resident);
            resident.drained = ++drains_;
        } else {
            require(resident.for_good, "what drains for good was condemned");
        }
        resident.state = ResidentState::draining;
        resident.reason = reason;
    }

    void begin_unload(KnownResident& resident, Reason reason) {
        require(resident.leases == 0 && resident.state != ResidentState::unloading,
                "R1 nothing is unloaded under a lease");
        switch (reason) {
            case Reason::idle:
                require(spare(resident), "only what is idle and not waited for is unloaded as idle");
                require(core::later(resident.idle_since, resident.keep_alive) <= now_,
                        "R5 never before its keep-alive has passed");
                break;
            case Reason::switched:
                require(!resident.for_good, "a switch takes only what is not condemned");
                if (makes_place(resident)) {
                    require(wanted() > coming_soon(), "an idle resident goes only if its place is wanted");
                    for (const KnownResident& other : residents_) {
                        require(&other == &resident || !makes_place(other) || resident.idle_since < other.idle_since ||
                                    (resident.idle_since == other.idle_since && used_before(resident, other)),
                                "the least recently used goes first");
                    }
                } else if (resident.state == ResidentState::ready) {
                    require_victim(resident);
                }
                evict(resident.key);
                break;
            case Reason::unload:
            case Reason::revoked:
            case Reason::shutdown:
                require(resident.for_good || resident.discarded, "what is unloaded on demand was condemned");
                break;
            default: throw Violation("an unload has a reason that the scheduler knows");
        }
        if (resident.state == ResidentState::loading) {
            require(resident.id == ending_ && resident.discarded,
                    "H2 a load that is not wanted is unloaded when it has ended");
            ending_ = {};
        } else if (!resident.revoked) {
            ++generation_;
        }
        resident.state = ResidentState::unloading;
        resident.for_good = true;
        resident.reason = reason;
    }

    // The key's resident goes for the key that gets the next place: it ranks last until that one's load has ended (H6).
    void evict(std::size_t key) {
        const std::optional<std::size_t> other = next_key();
        require(other.has_value(), "H3 a resident is evicted for a key that lacks a place");
        forgive(*other);
        keys_[*other].evicted = key + 1;
        keys_[key].ranks_last = true;
    }

    // -- What holds between calls -------------------------------------------------------------------------------------

    void finish() {
        cut_next();
        adopt_cuts();
        require(joiners_.empty(), "H25 a batch takes all that fit");
        require(!timed_out_, "a request that timed out is an event");
        finish_failed();
        closing_ = closing_ || scheduler_.closed();
        require(closing_ == scheduler_.closed() && closed_ == closing_, "closed() is right");
        require(scheduler_.generation().value() == generation_,
                "R6 the counter is raised when a model becomes usable and when it stops");
        require(scheduler_.lease_by_age() == lease_by_age_ && scheduler_.place_by_age() == place_by_age_,
                "R15 the scheduler knows whose turn it is");
        check_residents();
        check_waiters();
        check_places();
        check_operations();
        check_alarm();
    }

    void check_residents() const {
        const auto& residents = scheduler_.residents();
        require(residents.size() == residents_.size(), "every place is accounted for");
        require(residents_.size() <= options().max_resident, "R2 residents <= max_resident");
        require(loads() <= options().max_loads, "H13 loads <= max_loads");
        require(leases_.size() <= options().max_leases, "R8 leases <= max_leases");
        require(scheduler_.leases() == leases_.size(), "R4 every lease is counted");
        require(scheduler_.calls() == calls() && calls() <= max_calls(), "R8 every model call is counted");
        for (const KnownResident& known : residents_) {
            require(residents.contains(known.id), "a resident that is there is known");
            const core::Resident& resident = residents[known.id.index];
            require(resident.state == known.state, "a resident is in the state that its actions say");
            require(resident.leases == known.leases, "R4 every lease is counted");
            require(resident.generation == known.generation, "H8 a resident's generation never changes");
            require(resident.revoked == known.revoked, "only what was revoked counts as such");
            check_stay(resident, known);
            require(!known.is_load() || resident.discard == known.discarded, "H2 a load knows whether it will be used");
            if (known.state == ResidentState::loading) {
                require(resident.stop_requested == known.stopped, "a load knows whether it was asked to stop");
                require(known.stopped || !known.discarded, "a load that is to be discarded is asked to stop");
                require(
                    known.stopped || awaited(known.key) || now_ < known.abandoned_at || scheduler_.next_alarm() <= now_,
                    "H1 a load without a waiter is asked to stop after abandon_after");
            }
            if (known.state == ResidentState::draining) {
                require(known.leases != 0, "what drains is in use");
                require(resident.for_good == known.for_good, "a drain knows whether it is for good");
            }
            require(!(known.state == ResidentState::ready && known.for_good), "what was condemned drains or unloads");
            const auto live = std::count_if(leases_.begin(), leases_.end(),
                                            [&](const auto& each) { return each.grant.resident == known.id; });
            require(static_cast<std::size_t>(live) == known.leases, "R1 every lease has its resident");
            std::size_t texts = 0;
            for (const KnownLease& lease : leases_) {
                texts += lease.grant.resident == known.id ? lease.grant.texts : 0;
            }
            require(resident.texts == texts, "H25 every text in flight is counted");
            require(!known.revoked || known.for_good, "what was revoked is condemned");
        }
    }

    void check_waiters() const {
        const core::WaitQueue& queue = scheduler_.queue();
        require(waiting() <= options().max_queue, "R8 waiters <= max_queue");
        require(waiting_bytes() <= options().max_queue_bytes && queue.bytes() == waiting_bytes(),
                "R8 bytes that wait <= max_queue_bytes");
        const auto cut = std::count_if(waiters_.begin(), waiters_.end(),
                                       [](const auto& waiter) { return waiter.cut && !waiter.claims; });
        require(queue.texts() == waiting_texts() && queue.cut() == static_cast<std::size_t>(cut),
                "H26 texts that wait are counted, and requests that are cut");
        require(queue.waiting() == waiting() && queue.empty() == waiters_.empty(), "R9 every waiter is accounted for");
        require(queue.claims().size() == waiters_.size() - waiting(), "H1 every claim is accounted for");
        std::size_t with_deadline = 0;
        for (std::size_t key = 0; key < keys_.size(); ++key) {
            const core::Index index = queue.keys().lookup(name(key));
            const KnownResident* resident = resident_of(key);
            const bool known = awaited(key) || resident != nullptr || keys_[key].failures != 0 || keys_[key].ranks_last;
            require(!known || index != core::none, "R9 a key is remembered while there is something to remember");
            require(known || index == core::none || queue.keys()[index].unused,
                    "R9 a key of which nothing is known is forgotten by the next call");
            if (!known) {
                continue;
            }
            const core::KeyEntry& entry = queue.keys()[index];
            require(entry.ranks_last == keys_[key].ranks_last, "H6 a key knows whether it was evicted for another");
            require(entry.resident == (resident == nullptr ? core::none : resident->id.index),
                    "a key knows its resident");
            with_deadline += check_lists(key, entry, resident);
            check_state(index, key, entry, resident);
        }
        std::size_t kept = 0;
        for (const KnownLease& held : leases_) {
            for (const KnownSharer& sharer : held.sharers) {
                require(queue.requests().contains(sharer.id), "a request in flight with a deadline is known");
                require(queue.deadlines().contains(sharer.id.index) == !sharer.expired,
                        "a request in flight expires once");
                with_deadline += sharer.expired ? 0U : 1U;
                ++kept;
            }
        }
        for (const KnownSharer& sharer : kept_) {
            require(queue.requests().contains(sharer.id), "a request in flight with a deadline is known");
            require(queue.deadlines().contains(sharer.id.index) == !sharer.expired, "a request in flight expires once");
            with_deadline += sharer.expired ? 0U : 1U;
            ++kept;
        }
        require(queue.requests().size() == waiters_.size() + kept, "R9 nothing is kept of a request that has ended");
        require(queue.deadlines().size() == with_deadline, "R9 no deadline outlives its request");
    }

    // The key's lists; returns how many of its waiters have a deadline.
    std::size_t check_lists(std::size_t key, const core::KeyEntry& entry, const KnownResident* resident) const {
        const auto& requests = scheduler_.queue().requests();
        std::array<core::Index, 9> first{};
        for (std::size_t list = 0; list < first.size(); ++list) {
            first[list] = entry.lists.first(static_cast<core::WaitsFor>(list / 3), static_cast<Priority>(list % 3));
        }
        std::array<core::Index, 9> next = first;
        std::array<core::Index, 9> last{};
        last.fill(core::none);
        std::vector<core::Index> expecting;
        std::size_t count = 0;
        std::size_t with_deadline = 0;
        std::size_t texts = 0;
        core::Index claim = core::none;
        for (const KnownWaiter& waiter : waiters_) {
            if (waiter.key != key) {
                continue;
            }
            const std::size_t list = (!waiter.spec.wants_lease ? 3U
                                      : waiter.cut             ? 6U
                                                               : 0U) +
                                     static_cast<std::size_t>(waiter.spec.priority);
            require(scheduler_.queue().is_cut(waiter.id.index) == waiter.cut, "H26 a request knows whether it is cut");
            require(next[list] == waiter.id.index && requests.contains(waiter.id),
                    "R9 what waits is in its list, in order");
            const core::Request& request = requests[next[list]];
            require((request.state == core::RequestState::claim) == waiter.claims &&
                        request.state != core::RequestState::leased,
                    "a list has waiters and claims");
            require(last[list] == core::none || request.previous == last[list], "a list hangs together");
            require(request.spec.since == waiter.since, "H19 a waiter knows since when it waits");
            require(!waiter.spec.expects ||
                        (resident != nullptr && resident->generation == waiter.spec.expected && !resident->for_good),
                    "H8 nothing waits for a residency that has ended");
            if (waiter.spec.expects) {
                expecting.push_back(waiter.id.index);
            }
            if (waiter.claims) {
                claim = waiter.id.index;
                require(resident == nullptr || resident->state == ResidentState::queued,
                        "H1 a claim is of a key whose load has not begun");
            } else if (waiter.spec.deadline != core::never) {
                ++with_deadline;
            }
            ++count;
            texts += waiter.claims ? 0 : waiter.spec.texts;
            last[list] = next[list];
            next[list] = request.next;
        }
        for (std::size_t list = 0; list < next.size(); ++list) {
            require(next[list] == core::none, "a list ends with its last waiter");
            require(last[list] == core::none || requests[first[list]].previous == last[list],
                    "a list knows its last waiter");
        }
        require(entry.waiting == count && entry.claim == claim, "a key knows its waiters and its claim");
        require(entry.texts == texts, "H25 every text that waits is counted");
        core::Index each = entry.lists.expecting();
        for (; !expecting.empty(); expecting.pop_back()) {
            require(each == expecting.back(), "H8 a key knows the waiters that expect a generation");
            each = requests[each].older_expecting;
        }
        require(each == core::none, "H8 a key knows the waiters that expect a generation");
        return with_deadline;
    }

    void check_state(core::Index index, std::size_t key, const core::KeyEntry& entry,
                     const KnownResident* resident) const {
        const core::WaitQueue& queue = scheduler_.queue();
        const KnownWaiter* first =
            best([&](const KnownWaiter& each) { return each.key == key && each.spec.wants_lease && !each.cut; });
        const KnownWaiter* cut = first_part(key);
        core::QueueState state = core::QueueState::not_queued;
        if (awaited(key) && resident == nullptr) {
            state = core::QueueState::needs_place;
            require(queue.standings().needs_place().contains(index) &&
                        queue.standings().needs_place().rank(index) == queue.rank(index),
                    "a key stands in its place");
            require(queue.standings().needs_place_by_age().contains(index) != keys_[key].ranks_last,
                    "a key stands in the order of age unless it ranks last");
            require(keys_[key].ranks_last || queue.standings().needs_place_by_age().rank(index) ==
                                                 queue.requests()[queue.oldest(index)].arrival,
                    "a key stands in its place by age");
        } else if ((first != nullptr || cut != nullptr) && resident->state == ResidentState::ready &&
                   resident->leases < resident->capacity) {
            state = core::QueueState::grantable;
            const core::Index place = resident->id.index;
            const auto stands = [&](const auto& heap, const KnownWaiter* waiter) {
                return waiter == nullptr ? !heap.contains(place)
                                         : heap.contains(place) && heap.rank(place) == queue.rank_of(waiter->id.index);
            };
            const bool is_call = first != nullptr && first->spec.is_inference;
            require(stands(queue.standings().grantable(true), is_call ? first : nullptr) &&
                        stands(queue.standings().grantable(false), is_call ? nullptr : first) &&
                        stands(queue.standings().grantable_parts(), cut),
                    "a resident stands in its place");
            const KnownWaiter* unserved = oldest(
                [&](const KnownWaiter& each) { return each.key == key && each.spec.wants_lease && each.running == 0; });
            const auto& by_age = queue.standings().grantable_by_age();
            require(unserved == nullptr
                        ? !by_age.contains(place)
                        : by_age.contains(place) && by_age.rank(place) == queue.requests()[unserved->id.index].arrival,
                    "a resident stands in its place by age");
        }
        require(entry.state == state, "a key stands where it belongs");
        require(state == core::QueueState::needs_place || !queue.standings().needs_place().contains(index),
                "only a key without a resident needs a place");
        require(resident == nullptr || resident->state != ResidentState::ready ||
                    best([&](const KnownWaiter& each) { return each.key == key && !each.spec.wants_lease; }) == nullptr,
                "H4 nothing waits for a load that has happened");
        // By rank: what has grown old since the last decision has its turn by the next.
        require(best([&](const KnownWaiter& each) { return can_be_granted(each, false); }) == nullptr,
                "nothing waits for a lease that could be granted");
    }

    void check_places() const {
        require(closed_ || residents_.size() == options().max_resident || lacking().empty() ||
                    loads() == options().max_loads,
                "a place is free only if no key wants one or no load may begin");
        const std::size_t soon = coming_soon();
        require(draining(false) == 0 || draining(false) + draining(true) + soon <= wanted(),
                "H3 no more drain than places are wanted");
        require(wanted() <= soon || !any_makes_place() || scheduler_.next_alarm() <= now_,
                "an idle resident that nothing waits for goes as soon as it yields");
        require(scheduler_.queue().standings().needs_place().size() == lacking().size(),
                "every key that needs a place is counted");
    }

    // After a call that decides about places.
    void check_switches() const {
        for (const KnownResident& resident : residents_) {
            require(!resident.switches() || !may_return(resident), "H3 a drain that may end has ended");
        }
        const std::size_t served = draining(false) + draining(true) + coming_soon();
        if (served >= wanted()) {
            return;
        }
        count_stays();
        const std::optional<std::size_t> old = place_by_age_ || served + loads() == 0 ? aged_key() : std::nullopt;
        for (const KnownResident& resident : residents_) {
            require(resident.state != ResidentState::ready ||
                        (!yields(resident, served, place_by_age_ ? old : std::nullopt) &&
                         !(old && yields(resident, served, old))),
                    "H6, R15 a resident that yields to a key that lacks a place makes place");
        }
    }

    // What ended at an unknown time counts as ended when a decision first looked at it.
    void settle_served() {
        for (KnownResident& known : residents_) {
            for (std::size_t level = 0; level < 2; ++level) {
                const core::Time ended = known.leases == 0 ? known.idle_since : now_;
                if (!known.served[level] && scheduler_.residents()[known.id.index].ran[level] == ended) {
                    known.served[level] = ended;
                }
            }
        }
    }

    // What the scheduler knows of stays, and whether it comes to look when one ends.
    void check_stay(const core::Resident& resident, const KnownResident& known) const {
        const bool is_ready = known.state == ResidentState::ready || known.switches();
        require(!is_ready || resident.stay == stay_of(known), "H32 a resident stays for min_stay, at most aging");
        require(!is_ready || resident.stays_until == core::later(known.ready_since, stay_of(known)),
                "H32 a stay begins when the resident becomes ready");
        for (std::size_t level = 0; level < 2; ++level) {
            require(resident.running[level] == known.serving[level], "H32 what a resident serves is counted");
            require(resident.ran[level] == known.served[level].value_or(core::never),
                    "H32 a resident knows when it last served");
        }
    }
    void count_stays() const {
        for (const KnownResident& resident : residents_) {
            if (counts_ != nullptr && resident.state == ResidentState::ready) {
                const bool stays = now_ < stays_until(resident);
                counts_->stays += stays ? 1U : 0U;
                counts_->serves += !stays && !awaited(resident.key) && level_served(resident) != 2 ? 1U : 0U;
            }
        }
    }
    // Whether a resident gives its place to a key that lacks one.
    [[nodiscard]] bool some_yields() const {
        const std::size_t soon = coming_soon();
        const std::size_t served = draining(false) + draining(true) + soon;
        return std::any_of(residents_.begin(), residents_.end(), [&](const KnownResident& resident) {
            const bool by_age = served + loads() == 0 && yields(resident, 0, aged_key());
            return resident.state == ResidentState::ready &&
                   ((soon < wanted() && makes_place(resident)) ||
                    (served < wanted() && (by_age || yields(resident, served, old_key()))));
        });
    }
    // When time alone gives a place to a key that lacks one: a stay ends, what a resident served counts no more, or the
    // oldest waiter comes of age, against which that never counts.
    [[nodiscard]] core::Time next_place() {
        std::vector<core::Time> times;
        for (const KnownResident& resident : residents_) {
            if (resident.state != ResidentState::ready || wanted() <= coming_soon()) {
                continue;
            }
            times.push_back(stays_until(resident));
            for (std::size_t level = 0; level < 2; ++level) {
                times.push_back(serves_until(resident, level));
            }
            const KnownWaiter* old = oldest([&](const KnownWaiter& each) {
                return resident_of(each.key) == nullptr && !keys_[each.key].ranks_last;
            });
            if (old != nullptr && level_served(resident) != 2) {
                times.push_back(core::later(old->since, core::to_duration(options().aging)));
            }
            // A key whose last load failed counts from then on.
            for (const std::size_t key : lacking()) {
                const KnownWaiter* first = oldest([&](const KnownWaiter& each) { return each.key == key; });
                if (keys_[key].failures != 0) {
                    times.push_back(core::later(first->since, core::to_duration(options().aging)));
                }
            }
        }
        std::sort(times.begin(), times.end());
        const core::Time now = now_;
        const auto gives = std::find_if(times.begin(), times.end(), [&](core::Time time) {
            now_ = time;
            return time > now && time != core::never && some_yields();
        });
        now_ = now;
        return gives == times.end() ? core::never : *gives;
    }

    void check_operations() const {
        require(scheduler_.teardowns().size() == operations_.size(), "every operation is accounted for");
        for (const KnownOperation& operation : operations_) {
            require(scheduler_.teardowns().contains(operation.id), "an operation that has not completed is known");
            require(operation.awaits != 0, "an operation completes when what it waits for is gone");
        }
    }

    void check_alarm() {
        core::Time due = next_place();
        for (const KnownResident& resident : residents_) {
            if (spare(resident)) {
                due = std::min(due, core::later(resident.idle_since, resident.keep_alive));
            }
            if (resident.state == ResidentState::loading && !resident.stopped && !awaited(resident.key)) {
                due = std::min(due, resident.abandoned_at);
            }
        }
        for (const KnownWaiter& waiter : waiters_) {
            due = std::min(due, waiter.claims ? waiter.until : waiter.spec.deadline);
        }
        for (const KnownLease& held : leases_) {
            for (const KnownSharer& sharer : held.sharers) {
                due = std::min(due, sharer.expired ? core::never : sharer.deadline);
            }
        }
        for (const KnownSharer& sharer : kept_) {
            due = std::min(due, sharer.expired ? core::never : sharer.deadline);
        }
        for (const KnownOperation& operation : operations_) {
            due = std::min(due, operation.deadline);
        }
        bool refuses = false;
        for (const KnownRefusals& refusals : refusals_) {
            refuses = refuses || refusals.count != 0;
            due = std::min(due, refusals.count != 0 ? refusals.next : core::never);
        }
        require(scheduler_.next_alarm() <= due, "R5 the alarm is not later than anything that is due");
        require(!residents_.empty() || !waiters_.empty() || refuses || scheduler_.next_alarm() == core::never,
                "where nothing is resident there is no alarm");
    }

    // A timeout that the next action reports.
    struct TimedOut {
        std::size_t key = 0;
        Stage stage = Stage::queue;
        core::Duration duration{0};
        Generation generation{};
    };

    core::SlotScheduler scheduler_;
    const std::vector<ModelKey>* names_;
    bool begins_loads_;
    ActionCounts* counts_ = nullptr;
    core::Time now_{0};
    core::Actions actions_;
    // How many of the actions have been looked at.
    std::size_t done_ = 0;
    std::size_t most_actions_ = 0;
    std::vector<KnownWaiter> waiters_;
    std::vector<KnownLease> leases_;
    // Requests of which all parts were given, while some run and their deadline goes on.
    std::vector<KnownSharer> kept_;
    std::vector<KnownResident> residents_;
    std::vector<KnownOperation> operations_;
    std::vector<KnownKey> keys_;
    std::array<KnownRefusals, 3> refusals_{};
    std::uint64_t generation_ = 0;
    std::uint64_t arrivals_ = 0;
    std::uint64_t uses_ = 0;
    // Model calls so far, and what the latest was, see KnownResident.
    std::uint64_t batches_ = 0;
    bool last_is_part_ = false;
    std::uint64_t whole_at_ = 0;
    std::uint64_t company_until_ = 0;
    std::array<std::uint64_t, 3> latest_{};
    std::uint64_t drains_ = 0;
    bool closing_ = false;
    bool closed_ = false;
    bool lease_by_age_ = true;
    bool place_by_age_ = true;
    // The last lease, the last place did not go to the oldest waiter, although that was older than `aging`.
    bool passed_over_by_lease_ = false;
    bool passed_over_by_place_ = false;
    // During a call: the resident about which the backend answered, the one whose load begins, the one whose load
    // failed.
    core::ResidentId ending_{};
    core::ResidentId begins_{};
    core::ResidentId failed_resident_{};
    bool loading_ended_ = false;
    bool load_failed_ = false;
    std::size_t failed_key_ = 0;
    errc failed_code_ = errc::load_failed;
    core::Duration expected_retry_{0};
    // During a call: how many requests still have to time out, and what happens then.
    std::size_t expiring_ = 0;
    bool drops_claims_ = false;
    std::optional<KnownWaiter> joining_;
    std::optional<TimedOut> timed_out_;
    // During a call: the requests that are to join the latest grant, in order.
    std::vector<core::RequestId> joiners_;
    // During a call: the request that is refused.
    std::size_t refused_key_ = 0;
    errc refused_ = errc::overloaded;
    bool refused_late_ = false;
};

}  // namespace residency::test
