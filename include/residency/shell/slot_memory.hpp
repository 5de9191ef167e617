#pragma once

#include "residency/core/key_memory.hpp"
#include "residency/core/memory.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/core/time.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/load_failure.hpp"
#include "residency/shell/memory_broker.hpp"
#include "residency/shell/outbox.hpp"
#include "residency/shell/sizing_failures.hpp"
#include "residency/status.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

namespace residency::detail {

/// What a slot with a memory budget does beside its own decisions: it brings the budget what the scheduler says, and
/// the scheduler what the budget answers; and it asks the backend how much a key needs. `Shell` is the slot's
/// `SlotShell`.
template <class Shell>
class SlotMemory final : public MemoryUser {
public:
    /// Lets the slot take part in the budget. Throws std::invalid_argument.
    static void join(const std::shared_ptr<MemoryBroker>& broker, const std::shared_ptr<Shell>& shell) {
        const std::shared_ptr<SlotMemory> memory(new SlotMemory(broker, shell));
        memory->number_ = broker->join(memory, &clock_tag<typename Shell::clock_type>);
        {
            const Lock lock(shell->mutex_);
            shell->memory_ = memory;
        }
        // The limit that the slot was made with may be an old one.
        memory->limit_changed();
    }
    ~SlotMemory() override = default;

    /// The slot is gone.
    void leave() noexcept { broker_->leave(number_); }
    /// Gives up the slot, as its ModelSlot does. A thread that the budget has look at it just now, another manager's
    /// for one, may own it for that long; this waits for it, so that the backend is not destroyed later, and there.
    template <class Slot>
    static void let_go(std::shared_ptr<Slot>& slot) noexcept {
        const std::shared_ptr<SlotMemory> memory = slot->is_in_child() ? nullptr : slot->memory_;
        slot.reset();
        if (memory) {
            for (std::size_t count = memory->visitors_; count != 0; count = memory->visitors_) {
                memory->visitors_.wait(count);
            }
        }
    }

    /// Brings the budget what the scheduler has to say, one thread at a time, so that it comes in order; then has it
    /// settled. A thread that comes while another one is here leaves it to that, or takes
    /// over from it.
    void deliver(Shell& shell) noexcept {
        std::size_t posted = 0;
        for (bool is_first = true;; is_first = false) {
            std::array<core::MemoryRequest, 16> some;
            std::size_t count = 0;
            core::Time now{0};
            {
                const Lock lock(shell.mutex_);
                if (is_first) {
                    --coming_;
                    if (delivers_) {
                        return;
                    }
                } else if (coming_ != 0) {
                    delivers_ = false;
                    break;
                }
                count = shell.state_.scheduler.memory_requests().take(some);
                delivers_ = count != 0;
                now = shell.now();
            }
            if (count == 0) {
                break;
            }
            for (std::size_t each = 0; each < count; ++each) {
                broker_->post(number_, now, some[each]);
            }
            posted += count;
        }
        broker_->settle(posted);
    }
    /// Whether this thread is to deliver; under the slot's mutex.
    [[nodiscard]] bool begin_delivery(core::SlotScheduler& scheduler) noexcept {
        const bool has_news = !scheduler.memory_requests().empty();
        coming_ += has_news ? 1U : 0U;
        return has_news;
    }

    /// Has the backend asked how much a key needs, where models are unloaded: there no load is in the way.
    static void post_size(const std::shared_ptr<Shell>& shell, core::Index entry, const core::SharedKey& key) noexcept {
        try {
            asio::post(shell->executors_.unloading, [shell, entry, key] { size(*shell, entry, *key); });
        } catch (...) {
            end_size(*shell, entry, 0, std::current_exception());
        }
    }

    // -- What the budget calls --

    core::Time read(std::vector<core::MemoryUse>& uses) override {
        const Visit shell(*this);
        if (!shell) {
            return core::Time{0};
        }
        const Lock lock(shell->mutex_);
        const core::Time now = shell->now();
        shell->state_.scheduler.memory_uses(now, uses);
        shell->state_.scheduler.watch_memory(true);
        return now;
    }
    void stop_watching() noexcept override {
        if (const Visit shell(*this); shell) {
            const Lock lock(shell->mutex_);
            shell->state_.scheduler.watch_memory(false);
        }
    }
    void answer(const core::MemoryAnswer& given) noexcept override {
        decide([&](core::SlotScheduler& scheduler, core::Time now, core::Actions& actions) {
            scheduler.memory_answered(given.owner.key, given.id, given.verdict, now, actions);
        });
    }
    void look_at(core::Time at) noexcept override {
        decide([&](core::SlotScheduler& scheduler, core::Time /*now*/, core::Actions& /*actions*/) {
            scheduler.look_at(at);
        });
    }
    void available(std::size_t bytes) noexcept override {
        decide([&](core::SlotScheduler& scheduler, core::Time now, core::Actions& actions) {
            scheduler.memory_available(bytes, now, actions);
        });
    }
    void limit_changed() noexcept override {
        // Read under the slot's mutex: of two changes at once the later one is the last that each slot hears of.
        decide([&](core::SlotScheduler& scheduler, core::Time now, core::Actions& actions) {
            scheduler.set_memory_limit(broker_->limit(), now, actions);
        });
    }
    void describe(std::vector<MemoryHolding>& all) const override {
        const Visit shell(*this);
        if (!shell) {
            return;
        }
        const std::size_t first = all.size();
        {
            const Lock lock(shell->mutex_);
            const core::SlotScheduler& scheduler = shell->state_.scheduler;
            const auto& residents = scheduler.residents();
            for (core::Index index = 0; index < residents.end_index(); ++index) {
                if (residents.used(index)) {
                    all.push_back({residents[index].memory, {}, scheduler.key_of(index), residents[index].state});
                }
            }
            const core::KeyTable& keys = scheduler.queue().keys();
            for (core::Index key = 0; key < keys.end_index(); ++key) {
                if (keys.used(key) && scheduler.key_memory(key).id.valid()) {
                    all.push_back({scheduler.key_memory(key).id, {}, keys[key].key, std::nullopt});
                }
            }
        }
        for (std::size_t each = first; each < all.size(); ++each) {
            all[each].slot = shell->name_;
        }
    }

private:
    using Lock = runtime::MutexLock;

    // Owns the slot, if it is there, and is counted until it does no more.
    class Visit {
    public:
        explicit Visit(const SlotMemory& memory) noexcept : visitors_(memory.visitors_) {
            ++visitors_;
            shell_ = memory.shell_.lock();
        }
        Visit(const Visit&) = delete;
        Visit& operator=(const Visit&) = delete;
        ~Visit() {
            shell_.reset();
            if (--visitors_ == 0) {
                visitors_.notify_all();
            }
        }
        explicit operator bool() const noexcept { return shell_ != nullptr; }
        Shell* operator->() const noexcept { return shell_.get(); }

    private:
        std::atomic<std::size_t>& visitors_;
        std::shared_ptr<Shell> shell_{};
    };

    SlotMemory(std::shared_ptr<MemoryBroker> broker, const std::shared_ptr<Shell>& shell)
        : broker_(std::move(broker)), shell_(shell) {}

    template <class Decide>
    void decide(const Decide& decide) noexcept {
        if (const Visit shell(*this); shell) {
            shell->apply([&](Outbox& /*out*/) {
                shell->mutex_.assert_held();
                decide(shell->state_.scheduler, shell->now(), shell->state_.actions);
            });
        }
    }

    static void size(Shell& shell, core::Index entry, const ModelKey& key) noexcept {
        std::size_t bytes = 0;
        std::exception_ptr cause;
        try {
            const runtime::UserCodeScope scope(shell.executors_.owner);
            bytes = shell.memory_needed(key);
        } catch (...) {
            cause = std::current_exception();
        }
        end_size(shell, entry, bytes, cause);
    }

    static void end_size(Shell& shell, core::Index entry, std::size_t bytes, const std::exception_ptr& cause) noexcept {
        const LoadFailure failure = LoadFailure::of(cause, shell.executors_.owner);
        SizingFailures failures = cause ? SizingFailures(entry, cause) : SizingFailures();
        shell.apply([&](Outbox& /*out*/) {
            shell.mutex_.assert_held();
            if (cause) {
                shell.state_.sizing_failed.note(entry, failures, shell.state_.scheduler);
                shell.state_.scheduler.size_failed(entry, failure.code, failure.message, shell.now(),
                                                   shell.state_.actions);
            } else {
                shell.state_.scheduler.sized(entry, bytes, shell.now(), shell.state_.actions);
            }
        });
    }

    const std::shared_ptr<MemoryBroker> broker_;
    const std::weak_ptr<Shell> shell_;
    core::Index number_ = core::none;
    mutable std::atomic<std::size_t> visitors_{0};
    // Whether a thread delivers, and how many more are about to; guarded by the slot's mutex.
    bool delivers_ = false;
    std::size_t coming_ = 0;
};

}  // namespace residency::detail
