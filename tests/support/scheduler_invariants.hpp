#pragma once

// A SlotScheduler with a sceptic beside it: what a slot's shell would have in hand, reckoned from the calls and the actions alone,
// and after each call a look at whether all that DESIGN.md promises of the scheduler still holds. Shared by the explorer, which walks
// through all states, and by the fuzzer.

#include "residency/core/slot_scheduler.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
};

/// A lease, as its holder knows it.
struct KnownLease {
    core::Grant grant{};
    std::size_t key = 0;
    core::Time deadline = core::never;
    bool expired = false;
};

/// A resident, reckoned from the actions.
struct KnownResident {
    core::ResidentId id{};
    std::size_t key = 0;
    ResidentState state = ResidentState::loading;
    bool stopped = false;
    bool discarded = false;
    bool for_good = false;
    bool revoked = false;
    bool was_ready = false;
    Reason reason = Reason::none;
    Generation generation{};
    core::Duration keep_alive{0};
    core::Time idle_since{0};
    std::uint64_t used = 0;
    std::uint64_t drained = 0;
    std::size_t leases = 0;
    std::size_t capacity = 0;
};

/// An unload or a shutdown that has not completed.
struct KnownOperation {
    core::TeardownId id{};
    core::Time deadline = core::never;
    /// One bit for the index of each resident that it waits for.
    std::uint64_t awaits = 0;
};

/// What is known of a key.
struct KnownKey {
    std::size_t failures = 0;
    core::Time cooling_until = core::Time::min();
    core::RequestId front{};
    core::Time front_since{0};
    /// A switch was begun for it: the next place is its own.
    bool claims = false;
};

/// How often each kind of answer was seen.
struct ActionCounts {
    std::vector<std::uint64_t> types =
        std::vector<std::uint64_t>(static_cast<std::size_t>(core::ActionType::event) + 1);
    std::vector<std::uint64_t> events = std::vector<std::uint64_t>(static_cast<std::size_t>(EventType::dropped) + 1);
    std::vector<std::uint64_t> codes = std::vector<std::uint64_t>(static_cast<std::size_t>(errc::would_deadlock) + 1);
    std::vector<std::uint64_t> unload_reasons =
        std::vector<std::uint64_t>(static_cast<std::size_t>(Reason::cooling_down) + 1);
    /// Requests that were refused at once, by code.
    std::vector<std::uint64_t> refusals =
        std::vector<std::uint64_t>(static_cast<std::size_t>(errc::would_deadlock) + 1);
    /// Requests that were granted at once.
    std::uint64_t at_once = 0;
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

/// A SlotScheduler, those who use it, and the sceptic. Its methods are what can happen to a slot; each throws Violation if what the
/// scheduler then does, or is, breaks a promise. Copying it copies the whole world.
class CheckedScheduler {
public:
    /// How a request fared at once.
    enum class Fate : std::uint8_t { granted, waits, refused };

    /// A slot with `options`, whose users know the names `keys`; those outlive it.
    CheckedScheduler(const SlotOptions& options, const std::vector<ModelKey>& keys)
        : scheduler_(options), names_(&keys), keys_(keys.size()) {}

    /// From now on, adds what the scheduler answers to `counts`, if that is not null.
    void count_into(ActionCounts* counts) noexcept { counts_ = counts; }

    // -- What can happen --------------------------------------------------------------------------------------------------------

    /// Somebody asks for a lease or, by `spec`, for a load.
    Fate request(std::size_t key, const core::RequestSpec& spec) {
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
                const bool kept = spec.deadline_covers_lease && spec.deadline != core::never;
                require(grant.request.valid() == kept, "a request with a deadline that goes on stays known");
                lease(resident, grant, spec);
            }
            if (attempt != core::Attempt::must_wait) {
                finish();
                return attempt == core::Attempt::granted ? Fate::granted : Fate::refused;
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
            if (attempt != core::Attempt::must_wait) {
                carry_out(false);
                return attempt == core::Attempt::granted ? Fate::granted : Fate::refused;
            }
        }
        return enqueue(key, spec);
    }

    /// The holder of lease `index` lets go, quietly if that may be.
    void release(std::size_t index, bool may_be_quiet = true) {
        const KnownLease held = leases_[index];
        leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(index));
        KnownResident& resident = *find(held.grant.resident);
        --resident.leases;
        if (resident.leases == 0) {
            resident.idle_since = now_;
        }
        begin();
        const bool quiet = may_be_quiet && scheduler_.release_quietly(held.grant, now_);
        if (!quiet) {
            scheduler_.release(held.grant, now_, actions_);
        }
        releasing_ = true;
        carry_out(!quiet);
        releasing_ = false;
    }

    /// The caller of waiter `index` leaves.
    void cancel(std::size_t index) {
        const KnownWaiter waiter = waiters_[index];
        drop_waiter(index);
        begin();
        require(scheduler_.cancel(waiter.id, now_, actions_), "a waiter can be cancelled");
        carry_out();
        core::Actions nothing;
        require(!scheduler_.cancel(waiter.id, now_, nothing) && nothing.empty(), "R9 a request completes once");
    }

    /// The load of resident `index` gave a model.
    void loaded(std::size_t index, std::size_t capacity) {
        KnownResident& resident = residents_[index];
        resident.capacity = std::max<std::size_t>(capacity, 1);
        keys_[resident.key].failures = 0;
        keys_[resident.key].cooling_until = core::Time::min();
        ending_ = resident.id;
        begin();
        scheduler_.loaded(resident.id, capacity, now_, actions_);
        carry_out();
    }

    /// The load of resident `index` ended without a model.
    void load_failed(std::size_t index, bool cools_down) {
        const KnownResident resident = residents_[index];
        load_failed_ = !resident.stopped;
        failed_key_ = resident.key;
        expected_retry_ = core::Duration::zero();
        if (load_failed_ && cools_down) {
            KnownKey& key = keys_[resident.key];
            expected_retry_ = cooldown(key.failures);
            key.cooling_until = core::later(now_, expected_retry_);
            ++key.failures;
        }
        ending_ = resident.id;
        begin();
        scheduler_.load_failed(resident.id, cools_down, "no such file", now_, actions_);
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

    /// Time passes, and nobody looks.
    void wait(core::Duration length) {
        now_ = core::later(now_, length);
        actions_.clear();
    }

    /// Somebody looks.
    void tick() {
        ticking_ = true;
        begin();
        scheduler_.tick(now_, actions_);
        carry_out();
        ticking_ = false;
        require(scheduler_.next_alarm() > now_, "a tick leaves nothing undone that is due");
    }

    /// Somebody unloads the resident of `key`, or all if that is none of the keys. Whether there was anything to wait for.
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
            operations_.push_back({id, core::never, awaits});
        }
        carry_out(id.valid());
        return id.valid();
    }

    /// Who waits for operation `index` leaves.
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
            operations_.push_back({id, deadline, awaits});
        }
        carry_out();
    }

    /// All loads have ended, all models that were to go are gone, and every lease is released: then nobody waits, and after close
    /// nothing is left.
    void check_end() const {
        require(waiters_.empty(), "R9 if loads finish and leases end, every waiter completes");
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

    // -- Looking in -------------------------------------------------------------------------------------------------------------

    [[nodiscard]] const core::SlotScheduler& scheduler() const noexcept { return scheduler_; }
    [[nodiscard]] core::Time now() const noexcept { return now_; }
    [[nodiscard]] const std::vector<KnownWaiter>& waiters() const noexcept { return waiters_; }
    [[nodiscard]] const std::vector<KnownLease>& leases() const noexcept { return leases_; }
    [[nodiscard]] const std::vector<KnownResident>& residents() const noexcept { return residents_; }
    [[nodiscard]] const std::vector<KnownOperation>& teardowns() const noexcept { return operations_; }
    [[nodiscard]] const core::Actions& actions() const noexcept { return actions_; }
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
            << '\n';
        for (const KnownResident& resident : world.residents_) {
            out << "    resident " << world.name(resident.key) << ' ' << resident.state << ", " << resident.leases
                << " leases" << (resident.stopped ? ", asked to stop" : "")
                << (resident.discarded ? ", to be discarded" : "") << (resident.for_good ? ", for good" : "")
                << (resident.revoked ? ", revoked" : "") << '\n';
        }
        for (const KnownWaiter& waiter : world.waiters_) {
            out << "    waiter   " << world.name(waiter.key)
                << (waiter.spec.wants_lease ? " for a lease" : " for a load") << ", priority "
                << static_cast<int>(waiter.spec.priority);
            if (waiter.spec.deadline != core::never) {
                out << ", until " << waiter.spec.deadline.count() / 1'000'000 << " ms";
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

    // In the order of DESIGN.md H6: the first is served first.
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
    [[nodiscard]] const KnownWaiter* front(std::size_t key) const noexcept {
        const auto found =
            std::find_if(waiters_.begin(), waiters_.end(), [&](const auto& each) { return each.key == key; });
        return found == waiters_.end() ? nullptr : &*found;
    }
    [[nodiscard]] bool awaited(std::size_t key) const noexcept { return front(key) != nullptr; }

    [[nodiscard]] Order order(std::size_t key) const noexcept {
        const KnownWaiter& waiter = *front(key);
        const bool aged = core::later(keys_[key].front_since, core::to_duration(options().aging)) <= now_;
        return {aged ? 0 : static_cast<int>(waiter.spec.priority) + 1, waiter.arrival};
    }

    // -- Reckoning --------------------------------------------------------------------------------------------------------------

    [[nodiscard]] core::Duration cooldown(std::size_t failures) const {
        const core::Duration longest = core::to_duration(options().max_cooldown);
        core::Duration length = core::to_duration(options().cooldown);
        for (std::size_t failure = 0; failure < std::min<std::size_t>(failures, 64); ++failure) {
            length = length > longest / 2 ? longest : length * 2;
        }
        return std::min(length, longest);
    }

    [[nodiscard]] Attempt attempt_expected(std::size_t key, const core::RequestSpec& spec) const {
        const KnownResident* resident = resident_of(key);
        if (scheduler_.closed()) {
            return Attempt::shutting_down;
        }
        const bool usable =
            resident != nullptr && (resident->state == ResidentState::ready ||
                                    (resident->state == ResidentState::draining && !resident->for_good));
        if (spec.expected != Generation{} && !(usable && resident->generation == spec.expected)) {
            return Attempt::model_changed;
        }
        if (awaited(key) || resident == nullptr || resident->state != ResidentState::ready) {
            return Attempt::must_wait;
        }
        const bool has_room = leases_.size() < options().max_leases && resident->leases < resident->capacity;
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
        const bool cooling = resident_of(key) == nullptr && now_ < keys_[key].cooling_until;
        const bool full = waiters_.size() >= options().max_queue;
        const bool late = spec.deadline <= now_;
        begin();
        // The world has to know the waiter before it learns what became of it; its name comes last.
        if (!cooling && !full && !late) {
            waiters_.push_back({{}, key, spec, ++arrivals_});
            note_front(key);
        }
        const core::Enqueued enqueued = scheduler_.enqueue(name(key), spec, now_, actions_);
        require(enqueued.request.valid() == (!cooling && !full && !late),
                "R8 a request waits if it may, else it is refused at once");
        if (!enqueued.request.valid()) {
            require(enqueued.code == (cooling ? errc::cooling_down
                                      : full  ? errc::overloaded
                                              : errc::timed_out),
                    "H5 a refused request learns why");
            require(enqueued.retry_after == (cooling ? keys_[key].cooling_until - now_ : core::Duration::zero()),
                    "cooling_down says when to try again");
            require(actions_.empty(), "a refused request changes nothing");
            if (counts_ != nullptr) {
                ++counts_->refusals[static_cast<std::size_t>(enqueued.code)];
            }
            finish();
            return Fate::refused;
        }
        waiters_.back().id = enqueued.request;
        if (front(key)->arrival == waiters_.back().arrival) {
            keys_[key].front = enqueued.request;
        }
        carry_out();
        const bool waits = std::any_of(waiters_.begin(), waiters_.end(),
                                       [&](const auto& each) { return each.id == enqueued.request; });
        return waits ? Fate::waits : Fate::granted;
    }

    void use(KnownResident& resident, const core::RequestSpec& spec) {
        resident.keep_alive = spec.overrides_keep_alive ? spec.keep_alive : core::to_duration(options().keep_alive);
        resident.used = ++uses_;
    }

    void lease(KnownResident& resident, const core::Grant& grant, const core::RequestSpec& spec) {
        require(resident.state == ResidentState::ready, "R1 a lease is granted on a ready resident only");
        require(leases_.size() < options().max_leases, "R8 leases <= max_leases");
        require(resident.leases < resident.capacity, "no more leases on a model than it takes at once");
        use(resident, spec);
        ++resident.leases;
        leases_.push_back({grant, resident.key, grant.request.valid() ? spec.deadline : core::never, false});
    }

    void condemn(KnownResident& resident) {
        if (resident.state == ResidentState::loading) {
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

    void note_front(std::size_t key) {
        const KnownWaiter* waiter = front(key);
        const core::RequestId id = waiter == nullptr ? core::RequestId{} : waiter->id;
        if (waiter != nullptr && (!id.valid() || id != keys_[key].front)) {
            keys_[key].front_since = now_;
        }
        keys_[key].front = id;
        keys_[key].claims = keys_[key].claims && waiter != nullptr;
    }

    void drop_waiter(std::size_t index) {
        const std::size_t key = waiters_[index].key;
        waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(index));
        note_front(key);
    }

    // Keys that wait and have no resident.
    [[nodiscard]] std::size_t wanted() const {
        std::size_t count = 0;
        for (std::size_t key = 0; key < keys_.size(); ++key) {
            count += awaited(key) && resident_of(key) == nullptr ? 1U : 0U;
        }
        return count;
    }
    // Places that come free soon: their residents unload, or load what nobody wants.
    [[nodiscard]] std::size_t coming_soon() const {
        return static_cast<std::size_t>(
            std::count_if(residents_.begin(), residents_.end(), [&](const KnownResident& resident) {
                return resident.state == ResidentState::unloading ||
                       (resident.state == ResidentState::loading && resident.stopped &&
                        (resident.discarded || !awaited(resident.key)));
            }));
    }
    [[nodiscard]] std::size_t draining(bool for_good) const {
        return static_cast<std::size_t>(
            std::count_if(residents_.begin(), residents_.end(), [&](const KnownResident& resident) {
                return resident.state == ResidentState::draining && resident.for_good == for_good;
            }));
    }
    [[nodiscard]] static bool idle(const KnownResident& resident) {
        return resident.state == ResidentState::ready && resident.leases == 0 && !resident.for_good;
    }
    [[nodiscard]] bool spare(const KnownResident& resident) const { return idle(resident) && !awaited(resident.key); }
    [[nodiscard]] bool any_spare() const {
        return std::any_of(residents_.begin(), residents_.end(), [&](const auto& each) { return spare(each); });
    }
    // Whether a key of that order may have the resident's place.
    [[nodiscard]] bool yields_to(const KnownResident& resident, const Order& wanted) const {
        return resident.state == ResidentState::ready && !resident.for_good &&
               (!awaited(resident.key) || wanted < order(resident.key));
    }
    static bool used_before(const KnownResident& left, const KnownResident& right) { return left.used < right.used; }

    // -- Actions ----------------------------------------------------------------------------------------------------------------

    void begin() {
        actions_.clear();
        most_actions_ = scheduler_.most_actions();
    }

    // `looks`: whether the call looks at who wants a place, and from which moment on who is passed over ranks highest.
    void carry_out(bool looks = true) {
        for (const core::Action& action : actions_) {
            if (counts_ != nullptr) {
                counts_->note(action);
            }
            carry_out(action);
        }
        require(!ending_.valid(), "what the backend answered was taken note of");
        require(actions_.size() <= most_actions_, "most_actions() is not exceeded");
        finish();
        if (looks) {
            check_switches();
        }
    }

    void carry_out(const core::Action& action) {
        if (action.type != core::ActionType::fail) {
            finish_failed();
        }
        switch (action.type) {
            case core::ActionType::grant: return carry_out_grant(action);
            case core::ActionType::fail: return carry_out_fail(action);
            case core::ActionType::expire: {
                const auto held = std::find_if(leases_.begin(), leases_.end(), [&](const KnownLease& each) {
                    return each.grant.request.valid() && each.grant.request.index == action.subject;
                });
                require(held != leases_.end() && !held->expired, "R9 a lease expires once, while it lives");
                require(held->deadline <= now_, "a lease expires after its deadline");
                require(action.stage == Stage::inference && action.code == errc::timed_out,
                        "a lease expires in stage inference");
                held->expired = true;
                return;
            }
            case core::ActionType::load: return carry_out_load(action);
            case core::ActionType::stop_load: {
                KnownResident& resident = at(action.resident);
                require(resident.state == ResidentState::loading && !resident.stopped, "a load is asked to stop once");
                require(resident.discarded || !awaited(resident.key), "R3 a load that somebody waits for goes on");
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
                operations_.erase(operation);
                return;
            }
            case core::ActionType::event: return carry_out_event(action);
        }
    }

    void carry_out_grant(const core::Action& action) {
        const auto waiter = std::find_if(waiters_.begin(), waiters_.end(),
                                         [&](const KnownWaiter& each) { return each.id.index == action.subject; });
        require(waiter != waiters_.end(), "R9 who is granted was waiting");
        const KnownWaiter granted = *waiter;
        KnownResident& resident = at(action.resident);
        require(front(granted.key)->id == granted.id, "H6 within a key first in, first out");
        require(resident.key == granted.key, "R11 no request is answered by another key's model");
        require(resident.state == ResidentState::ready && !resident.for_good,
                "R1 a lease is granted on a ready resident only");
        require(action.generation == resident.generation, "a grant names its generation");
        require(granted.spec.expected == Generation{} || granted.spec.expected == resident.generation,
                "H8 who expects a generation gets no other");
        require(!ticking_ || granted.spec.deadline > now_, "a tick grants nothing past its deadline");
        if (granted.spec.wants_lease) {
            for (const KnownResident& other : residents_) {
                const KnownWaiter* rival = other.key == resident.key ? nullptr : front(other.key);
                require(rival == nullptr || other.state != ResidentState::ready || other.for_good ||
                            other.leases >= other.capacity || !rival->spec.wants_lease ||
                            order(resident.key) < order(other.key),
                        "H6 of the keys that could be granted, the first is");
            }
            // A load that ends serves all who waited for it, as far as leases go: it has cost enough. Else nobody is passed over.
            const std::optional<Order> lacking = releasing_ ? first_lacking() : std::nullopt;
            require(!lacking || order(resident.key) < *lacking, "H6 a key that lacks a place is not passed over");
        }
        drop_waiter(static_cast<std::size_t>(waiter - waiters_.begin()));
        const bool kept =
            granted.spec.wants_lease && granted.spec.deadline_covers_lease && granted.spec.deadline != core::never;
        require(action.kept == kept, "a request with a deadline that goes on stays known");
        if (granted.spec.wants_lease) {
            lease(resident, {resident.id, kept ? granted.id : core::RequestId{}}, granted.spec);
        } else {
            use(resident, granted.spec);
            if (resident.leases == 0) {
                resident.idle_since = now_;
            }
        }
    }

    void carry_out_fail(const core::Action& action) {
        const auto waiter = std::find_if(waiters_.begin(), waiters_.end(),
                                         [&](const KnownWaiter& each) { return each.id.index == action.subject; });
        require(waiter != waiters_.end(), "R9 who fails was waiting");
        const KnownResident* resident = resident_of(waiter->key);
        const bool loading = resident != nullptr && resident->state == ResidentState::loading;
        require(action.stage == (loading ? Stage::load : Stage::queue),
                "a failed request learns in which stage it ended");
        switch (action.code) {
            case errc::timed_out: require(waiter->spec.deadline <= now_, "nobody times out before his deadline"); break;
            case errc::load_failed:
                require(load_failed_ && waiter->key == failed_key_, "R3 a failed load fails those who waited for it");
                require(action.duration == expected_retry_, "a failed load says when to try again");
                break;
            case errc::model_changed:
                require(waiter->spec.expected != Generation{}, "only who expects a generation can miss it");
                require(resident == nullptr || resident->for_good || resident->state == ResidentState::unloading,
                        "H8 while the residency lasts, who expects it waits on");
                break;
            case errc::shutting_down: require(closing_, "only a slot that shuts down says so"); break;
            default: throw Violation("a waiter fails for a reason that the scheduler has");
        }
        drop_waiter(static_cast<std::size_t>(waiter - waiters_.begin()));
    }

    void carry_out_load(const core::Action& action) {
        KnownResident& resident = at(action.resident);
        require(resident.state == ResidentState::loading && resident.reason == Reason::requested,
                "a load is announced, and begun once");
        resident.reason = Reason::none;
    }

    void carry_out_event(const core::Action& action) {
        if (action.event == EventType::shutdown_started) {
            require(closing_ && !closed_, "a slot closes once");
            closed_ = true;
            return;
        }
        if (action.event == EventType::load_started) {
            begin_residency(action.resident);
            return;
        }
        KnownResident& resident = at(action.resident);
        switch (action.event) {
            case EventType::ready:
                require(resident.id == ending_ && !resident.discarded, "H2 what is to be discarded is never used");
                ending_ = {};
                resident.state = ResidentState::ready;
                resident.stopped = false;
                resident.was_ready = true;
                resident.generation = Generation{++generation_};
                resident.keep_alive = core::to_duration(options().keep_alive);
                resident.idle_since = now_;
                resident.used = ++uses_;
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
                    // Those who waited for it are told first, and they are told in stage load.
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
            case EventType::drain_ended: {
                require(resident.state == ResidentState::draining && !resident.for_good,
                        "only a drain for a switch ends");
                const bool latest = std::all_of(residents_.begin(), residents_.end(), [&](const KnownResident& other) {
                    return other.state != ResidentState::draining || other.for_good ||
                           other.drained <= resident.drained;
                });
                require(latest, "H3 the last that began to drain is the first to return");
                require(draining(false) + draining(true) + coming_soon() > wanted(),
                        "a drain ends when nobody needs it");
                resident.state = ResidentState::ready;
                resident.reason = Reason::none;
                break;
            }
            case EventType::unload_started: begin_unload(resident, action.reason); break;
            default: throw Violation("the scheduler publishes no such event");
        }
    }

    void begin_residency(core::Index index) {
        KnownResident resident;
        resident.id = scheduler_.residents().handle(index);
        const ModelKey& key = *scheduler_.key_of(index);
        const auto found = std::find(names_->begin(), names_->end(), key);
        require(found != names_->end(), "R11 only what was asked for is loaded");
        resident.key = static_cast<std::size_t>(found - names_->begin());
        // What load_started announces, `load` takes away.
        resident.reason = Reason::requested;
        require(resident_of(resident.key) == nullptr, "R3 one load per key");
        require(residents_.size() < options().max_resident, "R2 residents <= max_resident");
        require(awaited(resident.key), "nothing is loaded that nobody waits for");
        require(now_ >= keys_[resident.key].cooling_until, "a key that cools down is not loaded");
        require(!closing_, "R12 a slot that shuts down loads nothing");
        require(all_lacking().front() == std::pair(!keys_[resident.key].claims, order(resident.key)),
                "H6 a place goes to the first key with a claim, or else to the first");
        keys_[resident.key].claims = false;
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
            const core::ResidentId id = failed_resident_;
            failed_resident_ = {};
            require(!awaited(find(id)->key), "R3 a failed load fails all who waited for it");
            end_residency(*find(id));
        }
    }

    void begin_drain(KnownResident& resident, Reason reason) {
        require(resident.state == ResidentState::ready && resident.leases != 0, "what drains was ready and in use");
        if (reason == Reason::switched) {
            require(!resident.for_good, "a switch drains only what is not condemned");
            require(!any_spare(), "an idle resident that nobody waits for goes before one in use drains");
            require(draining(false) + draining(true) + coming_soon() < wanted(),
                    "H3 no more drain than places are wanted");
            require_victim(resident);
            claim();
            resident.drained = ++drains_;
        } else {
            require(resident.for_good, "what drains for good was condemned");
        }
        resident.state = ResidentState::draining;
        resident.reason = reason;
    }

    // The first key that lacks a place, and for which none is coming, ranks before all who wait for the resident; and none of the
    // others that would yield to it was used less recently.
    void require_victim(const KnownResident& resident) const {
        const std::optional<Order> first = first_lacking();
        require(first && yields_to(resident, *first),
                "H3 a resident makes place only for who ranks before all who wait for it");
        for (const KnownResident& other : residents_) {
            require(&other == &resident || !yields_to(other, *first) || used_before(resident, other),
                    "H3 the least recently granted makes place first");
        }
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
                if (resident.state == ResidentState::ready && spare(resident)) {
                    require(wanted() > coming_soon(), "an idle resident goes only if its place is wanted");
                    for (const KnownResident& other : residents_) {
                        require(&other == &resident || !spare(other) || resident.idle_since < other.idle_since ||
                                    (resident.idle_since == other.idle_since && used_before(resident, other)),
                                "the least recently used goes first");
                    }
                    claim();
                } else if (resident.state == ResidentState::ready) {
                    require(!any_spare(), "an idle resident that nobody waits for goes before one that is waited for");
                    require_victim(resident);
                    claim();
                }
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

    // -- What holds between calls -------------------------------------------------------------------------------------------------

    void finish() {
        finish_failed();
        closing_ = closing_ || scheduler_.closed();
        require(closing_ == scheduler_.closed() && closed_ == closing_, "closed() tells");
        require(scheduler_.generation().value() == generation_,
                "R6 the counter is raised when a model becomes usable and when it stops");
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
        require(leases_.size() <= options().max_leases, "R8 leases <= max_leases");
        require(scheduler_.leases() == leases_.size(), "R4 every lease is counted");
        for (const KnownResident& known : residents_) {
            require(residents.contains(known.id), "a resident that is there is known");
            const core::Resident& resident = residents[known.id.index];
            require(resident.state == known.state, "a resident is in the state that its actions tell");
            require(resident.leases == known.leases, "R4 every lease is counted");
            require(resident.generation == known.generation, "H8 a resident's generation never changes");
            require(resident.revoked == known.revoked, "only what was revoked counts as such");
            if (known.state == ResidentState::loading) {
                require(resident.stop_requested == known.stopped, "a load knows whether it was asked to stop");
                require(resident.discard == known.discarded, "H2 a load knows whether it will be used");
                require(known.stopped || (awaited(known.key) && !known.discarded),
                        "a load that nobody waits for is asked to stop");
            }
            if (known.state == ResidentState::draining) {
                require(known.leases != 0, "what drains is in use");
                require(resident.for_good == known.for_good, "a drain knows whether it is for good");
            }
            require(!(known.state == ResidentState::ready && known.for_good), "what was condemned drains or unloads");
            const auto live = std::count_if(leases_.begin(), leases_.end(),
                                            [&](const auto& each) { return each.grant.resident == known.id; });
            require(static_cast<std::size_t>(live) == known.leases, "R1 every lease has its resident");
            require(!known.revoked || known.for_good, "what was revoked is condemned");
        }
    }

    void check_waiters() const {
        const core::WaitQueue& room = scheduler_.queue();
        require(waiters_.size() <= options().max_queue, "R8 waiters <= max_queue");
        require(room.waiting() == waiters_.size(), "R9 every waiter is accounted for");
        std::size_t with_deadline = 0;
        for (std::size_t key = 0; key < keys_.size(); ++key) {
            const core::Index index = room.keys().lookup(name(key));
            const KnownResident* resident = resident_of(key);
            require((index != core::none) == (awaited(key) || resident != nullptr || keys_[key].failures != 0),
                    "R9 a key is remembered for as long as there is something to remember");
            if (index == core::none) {
                continue;
            }
            const core::KeyEntry& entry = room.keys()[index];
            require(entry.claims == keys_[key].claims, "a key knows whether a switch was begun for it");
            require(entry.resident == (resident == nullptr ? core::none : resident->id.index),
                    "a key knows its resident");
            core::Index next = entry.first;
            core::Index previous = core::none;
            core::Index expecting = 0;
            std::size_t count = 0;
            for (const KnownWaiter& waiter : waiters_) {
                if (waiter.key != key) {
                    continue;
                }
                require(room.requests().contains(waiter.id) && next == waiter.id.index,
                        "R9 who waits is in the queue, in order");
                const core::Request& request = room.requests()[next];
                require(!request.leased && request.previous == previous, "a queue hangs together");
                require(
                    waiter.spec.expected == Generation{} ||
                        (resident != nullptr && resident->generation == waiter.spec.expected && !resident->for_good),
                    "H8 nobody waits for a residency that has ended");
                expecting += waiter.spec.expected != Generation{} ? 1U : 0U;
                with_deadline += waiter.spec.deadline != core::never ? 1U : 0U;
                ++count;
                previous = next;
                next = request.next;
            }
            require(
                next == core::none && entry.last == previous && entry.waiting == count && entry.expecting == expecting,
                "a queue hangs together");
            check_standing(index, entry, resident);
        }
        std::size_t kept = 0;
        for (const KnownLease& held : leases_) {
            if (held.grant.request.valid()) {
                require(room.requests().contains(held.grant.request), "a lease with a deadline is known");
                require(room.deadlines().contains(held.grant.request.index) == !held.expired, "a lease expires once");
                with_deadline += held.expired ? 0U : 1U;
                ++kept;
            }
        }
        require(room.requests().size() == waiters_.size() + kept, "R9 nothing is kept of a request that has ended");
        require(room.deadlines().size() == with_deadline, "R9 no deadline outlives its request");
    }

    void check_standing(core::Index index, const core::KeyEntry& entry, const KnownResident* resident) const {
        core::QueueState standing = core::QueueState::not_queued;
        if (entry.waiting != 0 && resident == nullptr) {
            standing = entry.claims ? core::QueueState::claimed : core::QueueState::needs_place;
        } else if (entry.waiting != 0 && resident->state == ResidentState::ready &&
                   resident->leases < resident->capacity) {
            standing = core::QueueState::grantable;
        }
        require(entry.standing == standing, "a key stands where it belongs");
        for (const core::QueueState each :
             {core::QueueState::grantable, core::QueueState::needs_place, core::QueueState::claimed}) {
            const auto& heap = scheduler_.queue().order(each);
            require(heap.contains(index) == (each == standing), "a key stands in one order");
            require(each != standing || heap.rank(index) == scheduler_.queue().rank(index),
                    "a key stands in its place");
        }
        require(standing != core::QueueState::grantable || leases_.size() >= options().max_leases,
                "nobody waits for a lease that could be granted");
        require(standing != core::QueueState::grantable || scheduler_.queue().requests()[entry.first].spec.wants_lease,
                "nobody waits for a load that has happened");
    }

    void check_places() const {
        const std::size_t wants = wanted();
        const std::size_t soon = coming_soon();
        require(residents_.size() == options().max_resident || wants == 0, "a place is free only if no key wants one");
        require(draining(false) == 0 || draining(false) + draining(true) + soon <= wants,
                "H3 no more drain than places are wanted");
        require(wants <= soon || !any_spare(), "an idle resident that nobody waits for goes at once");
        require(scheduler_.queue().wanted_places() == wants, "every key that wants a place is counted");
    }

    // The keys that lack a place, in the order in which they get one: those with a claim, then the others.
    [[nodiscard]] std::vector<std::pair<bool, Order>> all_lacking() const {
        std::vector<std::pair<bool, Order>> lacking;
        for (std::size_t key = 0; key < keys_.size(); ++key) {
            if (awaited(key) && resident_of(key) == nullptr) {
                lacking.emplace_back(!keys_[key].claims, order(key));
            }
        }
        std::sort(lacking.begin(), lacking.end());
        return lacking;
    }

    // The first of them for which no place is coming.
    [[nodiscard]] std::optional<Order> first_lacking() const {
        const std::size_t coming = draining(false) + draining(true) + coming_soon();
        if (wanted() <= coming) {
            return std::nullopt;
        }
        return all_lacking()[coming].second;
    }

    // A switch begins: the first key without a claim, of those that lack a place, has one now, if those with one have what they need.
    void claim() {
        const std::size_t coming = draining(false) + draining(true) + coming_soon();
        const auto lacking = all_lacking();
        const auto claimed = static_cast<std::size_t>(
            std::count_if(lacking.begin(), lacking.end(), [](const auto& each) { return !each.first; }));
        require(!lacking.empty(), "a switch begins for a key that lacks a place");
        if (claimed == lacking.size() || coming < claimed) {
            return;
        }
        for (std::size_t key = 0; key < keys_.size(); ++key) {
            if (awaited(key) && resident_of(key) == nullptr && order(key) == lacking[claimed].second) {
                keys_[key].claims = true;
            }
        }
    }

    void check_switches() const {
        const std::optional<Order> first = first_lacking();
        for (const KnownResident& resident : residents_) {
            require(!first || !yields_to(resident, *first), "H6 the first key that lacks a place starts a switch");
        }
    }

    void check_operations() const {
        require(scheduler_.teardowns().size() == operations_.size(), "every operation is accounted for");
        for (const KnownOperation& operation : operations_) {
            require(scheduler_.teardowns().contains(operation.id), "an operation that has not completed is known");
            require(operation.awaits != 0, "an operation completes when what it waits for is gone");
        }
    }

    void check_alarm() const {
        core::Time due = core::never;
        for (const KnownResident& resident : residents_) {
            if (spare(resident)) {
                due = std::min(due, core::later(resident.idle_since, resident.keep_alive));
            }
        }
        for (const KnownWaiter& waiter : waiters_) {
            due = std::min(due, waiter.spec.deadline);
        }
        for (const KnownLease& held : leases_) {
            due = std::min(due, held.expired ? core::never : held.deadline);
        }
        for (const KnownOperation& operation : operations_) {
            due = std::min(due, operation.deadline);
        }
        require(scheduler_.next_alarm() <= due, "R5 the alarm is not later than anything that is due");
        require(!residents_.empty() || !waiters_.empty() || scheduler_.next_alarm() == core::never,
                "where nothing is resident there is no alarm");
    }

    core::SlotScheduler scheduler_;
    const std::vector<ModelKey>* names_;
    ActionCounts* counts_ = nullptr;
    core::Time now_{0};
    core::Actions actions_;
    std::size_t most_actions_ = 0;
    std::vector<KnownWaiter> waiters_;
    std::vector<KnownLease> leases_;
    std::vector<KnownResident> residents_;
    std::vector<KnownOperation> operations_;
    std::vector<KnownKey> keys_;
    std::uint64_t generation_ = 0;
    std::uint64_t arrivals_ = 0;
    std::uint64_t uses_ = 0;
    std::uint64_t drains_ = 0;
    bool closing_ = false;
    bool closed_ = false;
    bool ticking_ = false;
    bool releasing_ = false;
    // During a call: the resident about which the backend answered, the key whose load failed, the resident that it was.
    core::ResidentId ending_{};
    core::ResidentId failed_resident_{};
    bool load_failed_ = false;
    std::size_t failed_key_ = 0;
    core::Duration expected_retry_{0};
};

}  // namespace residency::test
