#pragma once

// A SlotScheduler with a memory budget, and a sceptic beside it: which key was sized, what was asked of the budget,
// what it has given, reckoned from the calls, the actions and the messages alone. The budget is the test's: it may
// answer anything that the messages between slots and budget allow (H33), late answers included. What does not concern
// memory is looked at by support/scheduler_invariants.hpp, without a budget.

#include "residency/core/slot_scheduler.hpp"
#include "support/scheduler_invariants.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// What the budget has said of a key's memory.
enum class HoldingState : std::uint8_t { asked, lacking, reserved };

/// Memory that a slot asked for and has not given back.
struct KnownHolding {
    core::Index entry = core::none;
    std::size_t key = 0;
    std::size_t bytes = 0;
    HoldingState state = HoldingState::asked;
};

/// See above. Its methods are what can happen to such a slot; each throws Violation if what the scheduler then does, or
/// is, breaks a promise.
class CheckedBudget {
public:
    struct Waiter {
        core::RequestId id{};
        std::size_t key = 0;
        core::RequestSpec spec{};
    };
    struct Lease {
        core::Grant grant{};
        std::size_t key = 0;
    };
    /// Memory that was given back, by a key that waited or by a resident.
    struct Stale {
        core::Index entry = core::none;
        core::MemoryId id{};
        bool by_key = false;
    };

    /// `names` outlives it. `backend_sizes`: keys are sized by `sized`; if not, they need `options.model_memory`.
    CheckedBudget(const SlotOptions& options, std::size_t limit, bool backend_sizes, const std::vector<ModelKey>& names)
        : scheduler_(options, limit, backend_sizes),
          names_(&names),
          limit_(limit),
          estimates_(names.size(), backend_sizes ? 0 : options.model_memory),
          used_(names.size()),
          ran_out_(names.size()),
          max_resident_(options.max_resident) {}

    // -- What can happen ----------------------------------------------------------------------------------------------

    /// A request for a lease, for a model call with one text, or for a load.
    void request(std::size_t key, const core::RequestSpec& wanted) {
        core::RequestSpec spec = wanted;
        spec.since = now_;
        actions_.clear();
        if (spec.wants_lease) {
            core::Grant grant;
            const core::Attempt attempt = scheduler_.try_grant(name(key), spec, grant);
            if (attempt != core::Attempt::must_wait) {
                if (attempt == core::Attempt::granted) {
                    leases_.push_back({grant, key});
                }
                return carry_out();
            }
        } else {
            Generation generation;
            if (scheduler_.try_ensure(name(key), spec, now_, generation, actions_) != core::Attempt::must_wait) {
                return carry_out();
            }
        }
        joining_ = {{}, key, spec};
        const core::Enqueued result = scheduler_.enqueue(name(key), spec, now_, actions_);
        if (result.request.valid()) {
            joining_.id = result.request;
            waiters_.push_back(joining_);
        } else {
            require(result.code != errc::insufficient_memory || estimates_[key] > limit_ || used_[key] > limit_,
                    "H35 a request is refused for its key's need only if that is more than the limit");
        }
        carry_out();
    }
    void cancel(std::size_t index) {
        const core::RequestId id = waiters_[index].id;
        waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(index));
        actions_.clear();
        require(scheduler_.cancel(id, now_, actions_), "a waiter can be cancelled");
        carry_out();
    }
    void release(std::size_t index) {
        const Lease held = leases_[index];
        leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(index));
        actions_.clear();
        if (!scheduler_.release_quietly(held.grant, now_)) {
            scheduler_.release(held.grant, now_, actions_);
        }
        carry_out();
    }
    /// The backend says how much the key of question `index` needs; zero: it throws.
    void sized(std::size_t index, std::size_t bytes) {
        const core::Index entry = sizing_[index];
        const std::size_t key = key_of_entry(entry);
        sizing_.erase(sizing_.begin() + static_cast<std::ptrdiff_t>(index));
        actions_.clear();
        if (bytes != 0) {
            estimates_[key] = bytes;
            scheduler_.sized(entry, bytes, now_, actions_);
            return carry_out();
        }
        failing_ = key;
        failing_code_ = errc::load_failed;
        scheduler_.size_failed(entry, errc::load_failed, nullptr, now_, actions_);
        carry_out();
        require(waiters_of(key) == 0, "H34 an estimate that throws is a failed load");
        failing_ = no_key;
    }
    void load_begins(std::size_t index) {
        const core::ResidentId id = loads_[index];
        loads_.erase(loads_.begin() + static_cast<std::ptrdiff_t>(index));
        actions_.clear();
        if (scheduler_.load_begins(id, now_, actions_)) {
            loading_.push_back(id);
        }
        carry_out();
    }
    /// A load has given a model that says that it uses so many bytes; zero: it says nothing.
    void loaded(std::size_t index, std::size_t capacity, std::size_t bytes) {
        const core::ResidentId id = take(loading_, index);
        const std::size_t key = key_of(id.index);
        core::ModelLimits limits;
        limits.capacity = capacity;
        limits.memory = bytes;
        ran_out_[key] = false;
        if (bytes != 0) {
            used_[key] = bytes;
            uses_ = scheduler_.residents()[id.index].memory;
        }
        actions_.clear();
        scheduler_.loaded(id, limits, now_, actions_);
        carry_out();
        require(!uses_.valid(), "H34 after the load what the model uses is what is reserved");
    }
    void load_failed(std::size_t index, bool out_of_memory) {
        const core::ResidentId id = take(loading_, index);
        failing_ = key_of(id.index);
        failing_code_ = errc::load_failed;
        ran_out_[failing_] = out_of_memory;
        actions_.clear();
        scheduler_.load_failed(id, errc::load_failed, nullptr, now_, actions_, out_of_memory);
        carry_out();
        failing_ = no_key;
    }
    void unloaded(std::size_t index) {
        const core::ResidentId id = take(unloading_, index);
        actions_.clear();
        scheduler_.unloaded(id, now_, actions_);
        carry_out();
    }
    void unload(const ModelKey* key, UnloadMode mode) {
        actions_.clear();
        (void)scheduler_.unload(key, mode, now_, actions_);
        carry_out();
    }
    void wait(core::Duration length) { now_ = core::later(now_, length); }
    void tick() {
        do {
            actions_.clear();
            scheduler_.tick(now_, actions_);
            carry_out();
        } while (scheduler_.unfinished());
    }
    void close() {
        is_closing_ = true;
        actions_.clear();
        scheduler_.close(now_, actions_);
        carry_out();
    }

    // -- What the budget says -----------------------------------------------------------------------------------------

    /// The budget answers about memory that was not given back. Precondition: the verdict fits its state.
    void answer(core::MemoryId id, core::MemoryVerdict verdict) {
        KnownHolding& holding = holdings_[id.index];
        const core::Index entry = holding.entry;
        const std::size_t key = holding.key;
        const core::Index resident = resident_with(id);
        const bool is_wanted = verdict == core::MemoryVerdict::evict && resident != core::none;
        const bool must_go = is_wanted && may_go(resident);
        // It was asked for before the limit was set, and for more than the key needs since.
        const bool asks_anew = holding.bytes > std::max(estimates_[key], used_[key]);
        const bool must_stay = is_wanted && !must_go && scheduler_.residents()[resident].state == ResidentState::ready;
        if (verdict == core::MemoryVerdict::impossible) {
            holdings_.erase(id.index);
            failing_ = asks_anew ? no_key : key;
            failing_code_ = errc::insufficient_memory;
        } else if (verdict == core::MemoryVerdict::reserved) {
            holding.state = HoldingState::reserved;
        } else if (verdict == core::MemoryVerdict::lacking) {
            holding.state = HoldingState::lacking;
        }
        actions_.clear();
        scheduler_.memory_answered(entry, id, verdict, now_, actions_);
        carry_out();
        failing_ = no_key;
        require(verdict != core::MemoryVerdict::impossible || asks_anew || waiters_of(key) == 0,
                "H35 a key that can never have its memory fails all its waiters");
        require(!must_go || scheduler_.residents()[resident].state != ResidentState::ready,
                "H36 a resident that may go does if the budget says so");
        require(!must_stay || scheduler_.residents()[resident].reason != Reason::memory,
                "H36 what is pinned or has a bare lease stays, whatever the budget says");
    }
    /// It says something about memory that was given back meanwhile: that changes nothing. Answers come in order, so
    /// that of a key that has waited twice only the later answer may be late.
    void answer_late(std::size_t index, bool is_good) {
        const Stale stale = stale_[index];
        const bool is_latest = std::none_of(stale_.begin() + static_cast<std::ptrdiff_t>(index) + 1, stale_.end(),
                                            [&](const Stale& each) { return each.entry == stale.entry; });
        core::MemoryVerdict verdict = is_good ? core::MemoryVerdict::keep : core::MemoryVerdict::evict;
        if (stale.by_key && is_latest) {
            verdict = is_good ? core::MemoryVerdict::reserved : core::MemoryVerdict::impossible;
        }
        actions_.clear();
        scheduler_.memory_answered(stale.entry, stale.id, verdict, now_, actions_);
        require(actions_.empty() && scheduler_.memory_requests().empty(),
                "H33 an answer about memory that was given back is ignored");
        carry_out();
    }
    /// It answers how much memory there could be. Precondition: it was asked.
    void available(std::size_t bytes) {
        asks_for_available_ = false;
        available_ = bytes;
        actions_.clear();
        scheduler_.memory_available(bytes, now_, actions_);
        carry_out();
        available_.reset();
    }
    void set_limit(std::size_t bytes) {
        limit_ = bytes;
        std::fill(used_.begin(), used_.end(), std::size_t{0});
        actions_.clear();
        scheduler_.set_memory_limit(bytes, now_, actions_);
        carry_out();
    }
    void watch(bool watches) { scheduler_.watch_memory(watches); }
    void look_at(core::Duration after) { scheduler_.look_at(core::later(now_, after)); }
    /// It asks what the residents do.
    void read() {
        std::vector<core::MemoryUse> uses;
        scheduler_.memory_uses(now_, uses);
        std::size_t with_memory = 0;
        for (core::Index index = 0; index < scheduler_.residents().end_index(); ++index) {
            with_memory += scheduler_.residents().used(index) && scheduler_.residents()[index].memory.valid() ? 1U : 0U;
        }
        require(uses.size() == with_memory, "H33 the slot speaks of each resident with memory");
        for (const core::MemoryUse& use : uses) {
            const core::Index index = resident_with(use.id);
            require(index != core::none, "H33 the slot speaks of memory that a resident has");
            const std::size_t all = leases_of(index, false);
            const std::size_t bare = leases_of(index, true);
            const ResidentState state = scheduler_.residents()[index].state;
            switch (use.hold) {
                case core::MemoryHold::idle:
                    require(all == 0 && waiters_of(key_of(index)) == 0 && state == ResidentState::ready,
                            "H36 what counts as idle is");
                    break;
                case core::MemoryHold::leased: require(bare != 0, "H35 what counts as leased has a bare lease"); break;
                case core::MemoryHold::pinned:
                    require(scheduler_.residents()[index].pinned(), "H36 what counts as pinned is");
                    break;
                case core::MemoryHold::loading:
                    require(state == ResidentState::queued || state == ResidentState::loading,
                            "H36 what counts as loading is");
                    break;
                case core::MemoryHold::in_use:
                case core::MemoryHold::draining:
                    require(bare == 0 && (all != 0 || scheduler_.queue().keys()[entry_of(index)].waiting != 0),
                            "H36 what counts as in use is");
                    break;
                case core::MemoryHold::leaving:
                    require(state == ResidentState::unloading || (state == ResidentState::draining && bare == 0),
                            "H36 what counts as leaving does leave");
                    break;
            }
        }
    }

    // -- The end ------------------------------------------------------------------------------------------------------

    /// After `close`, and when all that was to end has ended.
    void check_end() const {
        require(waiters_.empty(), "R9 if loads finish and leases end, every waiter completes");
        require(scheduler_.residents().size() == 0, "R12 after shutdown nothing is resident");
        require(holdings_.size() == 0, "R12 after shutdown nothing is reserved, and nothing waits for memory");
        require(scheduler_.next_alarm() == core::never, "R12 after shutdown there is no alarm");
    }

    // -- Looking in ---------------------------------------------------------------------------------------------------

    [[nodiscard]] const core::SlotScheduler& scheduler() const noexcept { return scheduler_; }
    [[nodiscard]] core::Time now() const noexcept { return now_; }
    [[nodiscard]] const std::vector<Waiter>& waiters() const noexcept { return waiters_; }
    [[nodiscard]] const std::vector<Lease>& leases() const noexcept { return leases_; }
    [[nodiscard]] const std::vector<core::Index>& sizing() const noexcept { return sizing_; }
    [[nodiscard]] const std::vector<core::ResidentId>& loads() const noexcept { return loads_; }
    [[nodiscard]] const std::vector<core::ResidentId>& loading() const noexcept { return loading_; }
    [[nodiscard]] const std::vector<core::ResidentId>& unloading() const noexcept { return unloading_; }
    [[nodiscard]] const std::vector<Stale>& stale() const noexcept { return stale_; }
    [[nodiscard]] bool asks_for_available() const noexcept { return asks_for_available_; }
    /// All memory in one of these states.
    [[nodiscard]] std::vector<core::MemoryId> held(HoldingState state) const {
        std::vector<core::MemoryId> found;
        for (core::Index index = 0; index < holdings_.end_index(); ++index) {
            if (holdings_.used(index) && holdings_[index].state == state) {
                found.push_back(holdings_.handle(index));
            }
        }
        return found;
    }

    /// Prints all that is known, for a person.
    friend std::ostream& operator<<(std::ostream& out, const CheckedBudget& world) {
        out << "    at " << world.now_.count() / 1'000'000 << " ms, limit " << world.limit_ << '\n';
        for (core::Index index = 0; index < world.holdings_.end_index(); ++index) {
            if (world.holdings_.used(index)) {
                const KnownHolding& each = world.holdings_[index];
                out << "    memory " << index << " of " << world.name(each.key) << ", " << each.bytes << " bytes: "
                    << (each.state == HoldingState::asked     ? "asked"
                        : each.state == HoldingState::lacking ? "lacking"
                                                              : "reserved")
                    << '\n';
            }
        }
        const auto& residents = world.scheduler_.residents();
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (residents.used(index)) {
                out << "    resident " << *world.scheduler_.key_of(index) << ' ' << residents[index].state << ", "
                    << residents[index].leases << " leases, memory " << residents[index].memory.index << '\n';
            }
        }
        for (const Waiter& each : world.waiters_) {
            out << "    waiter " << world.name(each.key) << ", priority " << static_cast<int>(each.spec.priority)
                << '\n';
        }
        return out;
    }

private:
    static constexpr std::size_t no_key = static_cast<std::size_t>(-1);
    // How many names of memory that was given back are kept: answers about older ones have come.
    static constexpr std::size_t most_stale = 4;

    static void require(bool holds, const char* promise) {
        if (!holds) [[unlikely]] {
            throw Violation(promise);
        }
    }

    [[nodiscard]] const ModelKey& name(std::size_t key) const { return (*names_)[key]; }
    [[nodiscard]] std::size_t number_of(const ModelKey& key) const {
        const auto found = std::find(names_->begin(), names_->end(), key);
        require(found != names_->end(), "R11 only what was asked for is sized and loaded");
        return static_cast<std::size_t>(found - names_->begin());
    }
    [[nodiscard]] std::size_t key_of(core::Index resident) const { return number_of(*scheduler_.key_of(resident)); }
    [[nodiscard]] std::size_t key_of_entry(core::Index entry) const {
        return number_of(*scheduler_.key_of_entry(entry));
    }
    [[nodiscard]] core::Index entry_of(core::Index resident) const { return scheduler_.residents()[resident].key; }
    [[nodiscard]] std::size_t waiters_of(std::size_t key) const {
        return static_cast<std::size_t>(
            std::count_if(waiters_.begin(), waiters_.end(), [&](const Waiter& each) { return each.key == key; }));
    }
    [[nodiscard]] core::Index resident_with(core::MemoryId id) const {
        const auto& residents = scheduler_.residents();
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (residents.used(index) && residents[index].memory == id) {
                return index;
            }
        }
        return core::none;
    }
    [[nodiscard]] bool has_resident(std::size_t key) const {
        const auto& residents = scheduler_.residents();
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (residents.used(index) && key_of(index) == key) {
                return true;
            }
        }
        return false;
    }
    // Whether there is memory that was asked for the key.
    [[nodiscard]] bool asks(std::size_t key) const {
        for (core::Index index = 0; index < holdings_.end_index(); ++index) {
            if (holdings_.used(index) && holdings_[index].key == key) {
                return true;
            }
        }
        return false;
    }
    // Whether it was asked for and the budget has not given it.
    [[nodiscard]] bool waits_for_memory(std::size_t key) const {
        for (core::Index index = 0; index < holdings_.end_index(); ++index) {
            if (holdings_.used(index) && holdings_[index].key == key &&
                holdings_[index].state != HoldingState::reserved) {
                return true;
            }
        }
        return false;
    }
    [[nodiscard]] std::size_t leases_of(core::Index resident, bool bare) const {
        return static_cast<std::size_t>(std::count_if(leases_.begin(), leases_.end(), [&](const Lease& each) {
            return each.grant.resident.index == resident && (!bare || !each.grant.is_inference);
        }));
    }
    [[nodiscard]] bool may_go(core::Index resident) const {
        const core::Resident& each = scheduler_.residents()[resident];
        return each.state == ResidentState::ready && !each.pinned() && leases_of(resident, true) == 0;
    }
    static core::ResidentId take(std::vector<core::ResidentId>& from, std::size_t index) {
        const core::ResidentId id = from[index];
        from.erase(from.begin() + static_cast<std::ptrdiff_t>(index));
        return id;
    }
    void forget(core::MemoryId id, bool by_key) {
        stale_.push_back({holdings_[id.index].entry, id, by_key});
        if (stale_.size() > most_stale) {
            stale_.erase(stale_.begin());
        }
        holdings_.erase(id.index);
    }

    // -- What the scheduler does --------------------------------------------------------------------------------------

    void carry_out() {
        for (const core::Action& action : actions_) {
            carry_out(action);
        }
        for (const core::MemoryRequest& message : std::exchange(scheduler_.memory_requests(), {})) {
            carry_out(message);
        }
        check();
    }
    void carry_out(const core::Action& action) {
        const auto& residents = scheduler_.residents();
        switch (action.type) {
            case core::ActionType::size: {
                require(std::find(sizing_.begin(), sizing_.end(), action.key) == sizing_.end(),
                        "H34 a key is sized once at a time");
                estimates_[key_of_entry(action.key)] = 0;
                sizing_.push_back(action.key);
                return;
            }
            case core::ActionType::load: loads_.push_back(residents.handle(action.resident)); return;
            case core::ActionType::unload:
                require(leases_of(action.resident, false) == 0, "R1 nothing is unloaded under a lease");
                if (residents[action.resident].reason == Reason::switched) {
                    check_switch(residents.handle(action.resident));
                }
                unloading_.push_back(residents.handle(action.resident));
                return;
            case core::ActionType::grant: {
                const Waiter waiter = leave(action.subject);
                if (waiter.spec.wants_lease) {
                    core::Grant grant;
                    grant.resident = residents.handle(action.resident);
                    grant.is_inference = waiter.spec.is_inference;
                    grant.texts = waiter.spec.texts;
                    grant.priority = waiter.spec.priority;
                    grant.request = action.kept ? waiter.id : core::RequestId{};
                    leases_.push_back({grant, waiter.key});
                }
                return;
            }
            case core::ActionType::fail: return check_failure(action, leave(action.subject));
            case core::ActionType::join:
            case core::ActionType::part: throw Violation("a request of one text shares no call and is not cut");
            case core::ActionType::event: {
                const bool drains = action.event == EventType::drain_started && action.reason == Reason::switched;
                if (drains) {
                    check_switch(residents.handle(action.resident));
                }
                if (drains || action.event == EventType::drain_ended) {
                    std::erase(switching_, residents.handle(action.resident));
                }
                if (drains) {
                    switching_.push_back(residents.handle(action.resident));
                }
                return;
            }
            default: return;
        }
    }
    // A resident begins to give its place to another key, or has begun that before: the key has its memory, or the
    // budget has just said that it could have.
    void check_switch(core::ResidentId id) const {
        if (std::find(switching_.begin(), switching_.end(), id) != switching_.end()) {
            return;
        }
        std::size_t most = available_.value_or(0);
        for (core::Index other = 0; other < scheduler_.residents().end_index(); ++other) {
            const bool is_other = other != id.index && scheduler_.residents().used(other);
            if (is_other && (scheduler_.residents()[other].pinned() || leases_of(other, true) != 0) &&
                scheduler_.residents()[other].usable()) {
                most = core::subtract_bytes(most, holdings_[scheduler_.residents()[other].memory.index].bytes);
            }
        }
        const core::KeyTable& keys = scheduler_.queue().keys();
        for (core::Index entry = 0; entry < keys.end_index(); ++entry) {
            if (keys.used(entry) && keys[entry].resident == core::none && keys[entry].waiting != 0 &&
                (scheduler_.key_memory(entry).phase == core::MemoryPhase::held ||
                 (available_ && scheduler_.key_memory(entry).phase == core::MemoryPhase::sized &&
                  scheduler_.key_memory(entry).need() <= most))) {
                return;
            }
        }
        throw Violation("R13 no resident gives its place to a key whose memory could not be there");
    }
    Waiter leave(core::Index subject) {
        const auto found =
            std::find_if(waiters_.begin(), waiters_.end(), [&](const auto& each) { return each.id.index == subject; });
        require(found != waiters_.end(), "R9 a request completes once");
        const Waiter waiter = *found;
        waiters_.erase(found);
        return waiter;
    }
    void check_failure(const core::Action& action, const Waiter& waiter) const {
        switch (action.code) {
            case errc::timed_out: return require(waiter.spec.deadline <= now_, "H14 no waiter times out early");
            case errc::shutting_down: return require(is_closing_, "only a slot that shuts down says so");
            case errc::insufficient_memory:
                return require((waiter.key == failing_ && failing_code_ == action.code) ||
                                   estimates_[waiter.key] > limit_ || used_[waiter.key] > limit_,
                               "H35 a waiter fails for want of memory only if that can never be there");
            default:
                return require(waiter.key == failing_ && failing_code_ == action.code,
                               "a waiter fails for a reason that there is");
        }
    }
    void carry_out(const core::MemoryRequest& message) {
        switch (message.type) {
            case core::MemoryRequest::Type::reserve: {
                const std::size_t key = key_of_entry(message.key);
                require(!has_resident(key), "H34 memory is asked for a key without a resident");
                require(estimates_[key] != 0, "H34 a key is sized before it may claim a place");
                require(message.bytes == std::max(estimates_[key], used_[key]) || message.bytes == estimates_[key],
                        "H34 a key needs what the backend says, or what its last model used");
                require(message.bytes <= limit_, "H35 a need beyond the limit is not asked for");
                require(!message.clears || ran_out_[key], "H37 all that is idle goes only after a shortage");
                require(!asks(key), "H33 a key asks once");
                holdings_.insert({message.key, key, message.bytes, HoldingState::asked});
                return;
            }
            case core::MemoryRequest::Type::give_back:
                require(holdings_.contains(message.id), "H33 memory is given back once");
                require(resident_with(message.id) == core::none, "R1 no memory is given back under a resident");
                return forget(message.id, message.key != core::none);
            case core::MemoryRequest::Type::use:
                require(
                    message.id == std::exchange(uses_, {}) && message.bytes == used_[holdings_[message.id.index].key],
                    "H34 after the load what the model uses is what is reserved");
                holdings_[message.id.index].bytes = message.bytes;
                return;
            case core::MemoryRequest::Type::move:
                require(holdings_.contains(message.id) && holdings_[message.id.index].state == HoldingState::lacking,
                        "H33 the rank of a key counts while it waits for memory");
                return;
            case core::MemoryRequest::Type::available:
                require(!std::exchange(asks_for_available_, true), "H34 one question at a time");
                return;
            case core::MemoryRequest::Type::look: return;
        }
    }

    // -- What holds between calls -------------------------------------------------------------------------------------

    void check() const {
        const auto& residents = scheduler_.residents();
        require(max_resident_ == 0 || residents.size() <= max_resident_, "R2 residents <= max_resident");
        require(loads_.size() + loading_.size() <= scheduler_.options().max_loads, "H13 loads <= max_loads");
        require(leases_.size() <= scheduler_.options().max_leases && scheduler_.leases() == leases_.size(),
                "R8 every lease is counted");
        require(scheduler_.queue().waiting() == waiters_.size(), "R9 every waiter is accounted for");
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (residents.used(index)) {
                const core::MemoryId id = residents[index].memory;
                const bool will_not_load = residents[index].state == ResidentState::queued && residents[index].discard;
                require(id.valid() != will_not_load, "H34 a load that will not begin has no memory");
                if (will_not_load) {
                    continue;
                }
                require(holdings_.contains(id) && holdings_[id.index].state == HoldingState::reserved,
                        "R13 what is resident has its memory");
                require(holdings_[id.index].entry == entry_of(index) && resident_with(id) == index,
                        "R13 each resident has memory of its own");
                require(holdings_[id.index].bytes == residents[index].bytes, "R13 and the slot knows how much");
            }
        }
        for (core::Index index = 0; index < holdings_.end_index(); ++index) {
            if (holdings_.used(index)) {
                check_holding(index);
            }
        }
        if (scheduler_.unfinished()) {
            return;
        }
        for (const Waiter& each : waiters_) {
            require(each.spec.deadline >= scheduler_.next_alarm(), "H14 the alarm is not later than a deadline");
            // What was asked before the limit was lower the budget refuses.
            require(has_resident(each.key) || waits_for_memory(each.key) || estimates_[each.key] <= limit_,
                    "H35 nothing waits for what it can never have");
        }
    }
    // It is a resident's, or its key, which has a waiter or a claim, stands where the budget's last word puts it.
    void check_holding(core::Index index) const {
        const KnownHolding& holding = holdings_[index];
        if (resident_with(holdings_.handle(index)) != core::none) {
            return;
        }
        const core::KeyMemory& memory = scheduler_.key_memory(holding.entry);
        if (holding.state == HoldingState::asked) {
            return require(memory.phase == core::MemoryPhase::asking, "H33 the slot knows that it asked");
        }
        require(memory.id == holdings_.handle(index), "H33 the slot knows what it has of the budget");
        require(memory.phase ==
                    (holding.state == HoldingState::lacking ? core::MemoryPhase::lacking : core::MemoryPhase::held),
                "H33 the slot knows what the budget said");
        require(scheduler_.queue().keys()[holding.entry].waiting != 0,
                "H34 without a waiter or a claim a key keeps no memory");
    }

    core::SlotScheduler scheduler_;
    const std::vector<ModelKey>* names_;
    std::size_t limit_;
    // By key: what the backend said, zero while that is not known; what its last model said; whether its last load ran
    // out of memory.
    std::vector<std::size_t> estimates_;
    std::vector<std::size_t> used_;
    std::vector<bool> ran_out_;
    std::size_t max_resident_;
    core::Time now_{0};
    core::Actions actions_{};
    core::Slab<KnownHolding, core::MemoryTag> holdings_{};
    std::vector<Stale> stale_{};
    std::vector<Waiter> waiters_{};
    std::vector<Lease> leases_{};
    std::vector<core::Index> sizing_{};
    std::vector<core::ResidentId> loads_{};
    std::vector<core::ResidentId> loading_{};
    std::vector<core::ResidentId> unloading_{};
    // Those that drain for a switch.
    std::vector<core::ResidentId> switching_{};
    bool asks_for_available_ = false;
    // During the answer: what it says.
    std::optional<std::size_t> available_{};
    bool is_closing_ = false;
    // During a call: the request that comes; whose waiters fail, and with what; the memory of the model that says what
    // it uses.
    Waiter joining_{};
    std::size_t failing_ = no_key;
    errc failing_code_ = errc::load_failed;
    core::MemoryId uses_{};
};

}  // namespace residency::test
