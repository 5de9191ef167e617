#pragma once

#include "residency/core/key_memory.hpp"
#include "residency/core/memory.hpp"
#include "residency/core/memory_ledger.hpp"
#include "residency/core/time.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/process.hpp"
#include "residency/shell/memory_user.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace residency::detail {

/// Its address names a clock, also without RTTI.
template <class Clock>
inline constexpr char clock_tag = 0;

/// Carries messages between the slots of a budget and its ledger. Has a mutex of its own, which is never held together
/// with a slot's (H33).
///
/// The thread that brings a message settles: it asks the slots what their residents do, lets the ledger decide, and
/// delivers the answers. What other threads bring meanwhile, or the answers lead to, that thread settles, too, unless
/// another one is about to: so that none is kept here for as long as others are busy.
class MemoryBroker {
public:
    explicit MemoryBroker(std::size_t limit) : limit_(limit), ledger_(limit) {}
    MemoryBroker(const MemoryBroker&) = delete;
    MemoryBroker& operator=(const MemoryBroker&) = delete;

    /// Lets a slot take part, whose clock has the tag `clock`; gives its number. Throws std::invalid_argument if other
    /// slots have another clock, or if this is the parent's.
    [[nodiscard]] core::Index join(std::weak_ptr<MemoryUser> user, const void* clock) {
        if (process_.is_left()) {
            throw std::invalid_argument(
                "residency: option memory is the budget of the parent of this process; make one here");
        }
        const Lock lock(mutex_);
        if (clock_ != nullptr && clock_ != clock) {
            throw std::invalid_argument(
                "residency: option memory has slots with another Clock; all of one budget need the same");
        }
        users_.push_back({next_number_, std::move(user)});
        clock_ = clock;
        return next_number_++;
    }
    /// The slot is gone, and what it had is given back.
    void leave(core::Index slot) noexcept {
        {
            const Lock lock(mutex_);
            ledger_.give_back_all(slot);
            if (const auto found = from(slot); found != users_.end() && found->number == slot) {
                users_.erase(found);
            }
            is_stale_ = true;
        }
        settle();
    }

    /// What a slot says, one message after the other; `settle` with their number follows the last. `now` is the slot's
    /// time.
    void post(core::Index slot, core::Time now, const core::MemoryRequest& request) noexcept {
        if (!take(slot, now, request)) {
            // Without memory to remember that it asked, the key gets none.
            answer({core::MemoryVerdict::impossible, {slot, request.key}, {}});
        }
    }

    /// Lets the ledger decide about what has come, `posted` of it from this thread, and delivers its answers; unless
    /// another thread does so already, and then that goes on with it.
    void settle(std::size_t posted = 0) noexcept {
        {
            const Lock lock(mutex_);
            coming_ -= posted;
            if (std::exchange(settles_, true)) {
                return;
            }
        }
        for (bool is_first = true; begin_round(is_first); is_first = false) {
            read_uses();
            decide();
            for (const core::MemoryAnswer& each : answers_) {
                answer(each);
            }
            std::size_t available = 0;
            for (core::Index next = 0; const std::shared_ptr<MemoryUser> user = next_asking(next, available);) {
                user->available(available);
            }
            if (!lacks_ && std::exchange(watches_, false)) {
                for_each_user([](MemoryUser& user) { user.stop_watching(); });
            }
            if (const std::shared_ptr<MemoryUser> user = user_of(look_for_)) {
                user->look_at(next_look_);
            }
        }
    }

    /// See `MemoryBudget`.
    void set_limit(std::size_t bytes) noexcept {
        if (process_.is_left()) {
            return;
        }
        {
            const Lock lock(mutex_);
            ++changing_;
            ledger_.set_limit(bytes);
            limit_ = bytes;
            is_stale_ = true;
        }
        for_each_user([](MemoryUser& user) { user.limit_changed(); });
        {
            const Lock lock(mutex_);
            --changing_;
        }
        settle();
    }
    void trim(std::size_t bytes) noexcept {
        if (process_.is_left()) {
            return;
        }
        {
            const Lock lock(mutex_);
            ledger_.trim(bytes);
            is_stale_ = true;
        }
        settle();
    }
    /// Takes no lock: slots ask under their own.
    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
    [[nodiscard]] std::size_t used() const noexcept {
        if (process_.is_left()) {
            return 0;
        }
        const Lock lock(mutex_);
        return ledger_.reserved();
    }
    /// Calls `look(holding, bytes, is_reserved)` for each model that holds memory or waits for it.
    template <class Look>
    void describe(const Look& look) const {
        std::vector<MemoryHolding> all;
        if (!process_.is_left()) {
            for_each_user([&](const MemoryUser& user) { user.describe(all); });
        }
        for (MemoryHolding& each : all) {
            std::size_t bytes = 0;
            bool is_reserved = false;
            {
                const Lock lock(mutex_);
                bytes = ledger_.bytes_of(each.id);
                is_reserved = ledger_.is_reserved(each.id);
            }
            // What was given back meanwhile holds nothing.
            if (bytes != 0 || is_reserved) {
                look(std::move(each), bytes, is_reserved);
            }
        }
    }

private:
    using Lock = runtime::MutexLock;

    // In the order of their numbers, which are never used twice: an answer may be late.
    struct User {
        core::Index number = core::none;
        std::weak_ptr<MemoryUser> user{};
        // Whether it has asked how much memory there could be, and whether it did before this round.
        bool asks = false;
        bool is_next = false;
    };

    // False if there is no memory for it.
    [[nodiscard]] bool take(core::Index slot, core::Time now, const core::MemoryRequest& request) noexcept {
        const Lock lock(mutex_);
        ++coming_;
        is_stale_ = true;
        now_ = (std::max)(now_, now);
        switch (request.type) {
            case core::MemoryRequest::Type::reserve:
                try {
                    make_room();
                    ledger_.reserve({slot, request.key}, request.bytes, request.rank, request.aged_at, request.clears);
                } catch (...) {
                    return false;
                }
                break;
            case core::MemoryRequest::Type::move: ledger_.move(request.id, request.rank, request.aged_at); break;
            case core::MemoryRequest::Type::use: ledger_.use(request.id, request.bytes); break;
            case core::MemoryRequest::Type::give_back: ledger_.give_back(request.id); break;
            case core::MemoryRequest::Type::available:
                for (User& each : users_) {
                    each.asks = each.asks || each.number == slot;
                }
                break;
            case core::MemoryRequest::Type::look: break;
        }
        return true;
    }

    // So that settling needs no memory: what is lost there would leave a key without an answer. Throws bad_alloc.
    void make_room() RESIDENCY_REQUIRES(mutex_) {
        const std::size_t entries = ledger_.most_answers() / 2 + 1;
        if (room_ < entries) {
            next_uses_.reserve(2 * entries);
            next_answers_.reserve(4 * entries);
            room_ = 2 * entries;
        }
    }
    // Empties a vector of the settling thread's, and gives it the room that was made meanwhile.
    template <class Element>
    static void empty(std::vector<Element>& used, std::vector<Element>& next) noexcept {
        used.clear();
        if (used.capacity() < next.capacity()) {
            used.swap(next);
        }
    }

    // Whether there is something to settle that no other thread will. If not, this thread settles no more.
    [[nodiscard]] bool begin_round(bool is_first) noexcept {
        const Lock lock(mutex_);
        if (changing_ != 0 || (!is_first && coming_ != 0)) {
            settles_ = false;
            return false;
        }
        empty(uses_, next_uses_);
        settles_ = std::exchange(is_stale_, false);
        reads_ = lacks_ = ledger_.lacks();
        for (User& each : users_) {
            each.is_next = std::exchange(each.asks, false) || each.is_next;
            reads_ = reads_ || each.is_next;
        }
        return settles_;
    }

    // There is room for all that holds memory. If there were not, nothing would be evicted in this round.
    void read_uses() noexcept {
        if (!reads_) {
            return;
        }
        watches_ = true;
        core::Time now{0};
        for_each_user([&](MemoryUser& user) {
            try {
                now = (std::max)(now, user.read(uses_));
            } catch (...) {
                uses_.clear();
            }
        });
        const Lock lock(mutex_);
        now_ = (std::max)(now_, now);
    }

    void decide() noexcept {
        const Lock lock(mutex_);
        empty(answers_, next_answers_);
        if (changing_ != 0) {
            is_stale_ = true;
            reads_ = false;
            return;
        }
        ledger_.settle(now_, uses_, answers_);
        lacks_ = ledger_.lacks();
        next_look_ = ledger_.next_look();
        look_for_ = ledger_.looks_for();
    }

    void answer(const core::MemoryAnswer& given) const noexcept {
        if (const std::shared_ptr<MemoryUser> user = user_of(given.owner.slot)) {
            user->answer(given);
        }
    }

    // The first user from number `next` on that had asked how much memory there could be before the residents were
    // looked at in this round, if they were; and how much. `next` becomes the number after it.
    [[nodiscard]] std::shared_ptr<MemoryUser> next_asking(core::Index& next, std::size_t& available) noexcept {
        const Lock lock(mutex_);
        for (User& each : users_) {
            if (reads_ && each.number >= next && std::exchange(each.is_next, false)) {
                next = each.number + 1;
                available = ledger_.available(each.number, uses_);
                if (std::shared_ptr<MemoryUser> user = each.user.lock()) {
                    return user;
                }
            }
        }
        return nullptr;
    }

    [[nodiscard]] std::shared_ptr<MemoryUser> user_of(core::Index slot) const noexcept {
        const Lock lock(mutex_);
        const auto found = from(slot);
        return found != users_.end() && found->number == slot ? found->user.lock() : nullptr;
    }
    // The first user with this number or a greater one.
    [[nodiscard]] std::vector<User>::const_iterator from(core::Index number) const noexcept RESIDENCY_REQUIRES(mutex_) {
        return std::lower_bound(users_.begin(), users_.end(), number,
                                [](const User& each, core::Index least) { return each.number < least; });
    }

    // Each that is there, also if others come and go meanwhile.
    template <class Use>
    void for_each_user(const Use& use) const {
        for (core::Index next = 0;; ++next) {
            std::shared_ptr<MemoryUser> user;
            {
                const Lock lock(mutex_);
                const auto found = from(next);
                if (found == users_.end()) {
                    return;
                }
                next = found->number;
                user = found->user.lock();
            }
            if (user) {
                use(*user);
            }
        }
    }

    const runtime::Process& process_ = runtime::Process::current();
    mutable runtime::Mutex mutex_{};
    // The ledger's; written under the mutex.
    std::atomic<std::size_t> limit_;
    core::MemoryLedger ledger_ RESIDENCY_GUARDED_BY(mutex_);
    std::vector<User> users_ RESIDENCY_GUARDED_BY(mutex_){};
    core::Index next_number_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    const void* clock_ RESIDENCY_GUARDED_BY(mutex_) = nullptr;
    core::Time now_ RESIDENCY_GUARDED_BY(mutex_){0};
    // For so many entries there is room in the settling thread's vectors, or in those that take their place.
    std::size_t room_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    std::vector<core::MemoryUse> next_uses_ RESIDENCY_GUARDED_BY(mutex_){};
    core::MemoryAnswers next_answers_ RESIDENCY_GUARDED_BY(mutex_){};
    // How many messages were brought by threads that have not called `settle` since.
    std::size_t coming_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    // How many threads set a limit that not all slots have heard of. Until they have, nothing is settled: what a key
    // has asked for by the old limit would be refused by the new one. The last of these threads settles.
    std::size_t changing_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    // Whether something has come that was not settled.
    bool is_stale_ RESIDENCY_GUARDED_BY(mutex_) = false;
    // Whether a thread settles. What follows is that thread's.
    bool settles_ RESIDENCY_GUARDED_BY(mutex_) = false;
    bool lacks_ = false;
    bool reads_ = false;
    bool watches_ = false;
    core::Time next_look_ = core::never;
    core::Index look_for_ = core::none;
    std::vector<core::MemoryUse> uses_{};
    core::MemoryAnswers answers_{};
};

}  // namespace residency::detail
