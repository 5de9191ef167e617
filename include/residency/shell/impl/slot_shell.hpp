#pragma once

#include "residency/shell/slot_shell.hpp"

// What operations and leases call of SlotShell. Each call is one `apply` (slot_shell_apply.hpp): under the mutex the
// scheduler decides, and the decision is carried out once the mutex is free. Loads, unloads, the alarm and the end are
// in slot_shell_work.hpp.

namespace residency::detail {

// Makes room for what one more request may lead to, so that nothing on its way needs memory but the record of a load.
template <class Clock>
void SlotShell<Clock>::reserve() {
    const std::size_t residents = scheduler_.residents().size();
    const std::size_t in_sight = std::min(options_.max_resident, residents + scheduler_.waiting() + 1);
    // A few for each resident that may come before the next request.
    const std::size_t actions = scheduler_.most_actions() + 8 * (in_sight - std::min(in_sight, residents)) + 8;
    if (actions_.capacity() < actions) {
        actions_.reserve(actions + actions / 2);
    }
    const std::size_t requests = std::size_t{scheduler_.queue().requests().next_index()} + 1;
    if (waiters_.size() < requests) {
        constexpr std::size_t some = 64;
        waiters_.resize(requests + some);
    }
    teardowns_.reserve(std::size_t{scheduler_.teardowns().next_index()} + 1);
}

template <class Clock>
ResidentRecord* SlotShell<Clock>::try_acquire(const ModelKey& key, const RequestOptions& options) {
    const core::RequestSpec spec = spec_of(options, true, false, clock_time);
    core::Grant grant;
    const Lock lock(mutex_);
    return scheduler_.try_grant(key, spec, grant) == core::Attempt::granted ? records_[grant.resident.index].get()
                                                                            : nullptr;
}

template <class Clock>
void SlotShell<Clock>::submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                              const RequestOptions& options) {
    const core::RequestSpec spec = spec_of(options, waiter->wants_lease, waiter->is_inference, clock_time);
    apply([&](Outbox& out) {
        mutex_.assert_held();
        if (spec.deadline != core::never) {
            reserve();
            scheduler_.note_timeout(core::to_duration(*options.timeout));
        }
        core::Grant grant;
        Generation generation;
        const core::Attempt attempt = spec.wants_lease ? scheduler_.try_grant(key, spec, grant)
                                                       : scheduler_.try_ensure(key, spec, now(), generation, actions_);
        if (attempt != core::Attempt::granted) {
            waiter->key = scheduler_.share(key);
        }
        switch (attempt) {
            case core::Attempt::granted:
                out.grant(waiter, spec.wants_lease ? records_[grant.resident.index].get() : nullptr, generation,
                          grant.request);
                out.delivers = true;
                if (grant.request.valid()) {
                    waiters_[grant.request.index] = waiter;
                }
                break;
            case core::Attempt::shutting_down: out.fail(waiter, errc::shutting_down, Stage::admission, {}); break;
            case core::Attempt::model_changed: out.fail(waiter, errc::model_changed, Stage::admission, {}); break;
            case core::Attempt::must_wait: {
                reserve();
                const core::Enqueued enqueued = scheduler_.enqueue(waiter->key, spec, now(), actions_);
                if (enqueued.request.valid()) {
                    collect_actions(out, enqueued.joined_after);
                    waiter->request = enqueued.request;
                    waiters_[enqueued.request.index] = waiter;
                } else {
                    out.fail(waiter, enqueued.code, enqueued.stage, enqueued.retry_after);
                }
                break;
            }
        }
    });
}

template <class Clock>
void SlotShell<Clock>::cancel(Waiter& waiter, bool terminal) noexcept {
    apply([&](Outbox& out) {
        mutex_.assert_held();
        if (waiter.state == Waiter::State::leased && waiter.is_inference && terminal) {
            out.complete_early(static_cast<InferenceWaiter&>(waiter), errc::timed_out, true);
            out.delivers = true;
        } else if (waiter.state == Waiter::State::waiting && scheduler_.cancel(waiter.request, now(), actions_)) {
            waiter.state = Waiter::State::done;
            waiter.is_cancelled = true;
            out.ready.push(std::move(waiters_[waiter.request.index]));
            out.delivers = true;
        }
    });
}

template <class Clock>
void SlotShell<Clock>::release(LeasedModel& model) noexcept {
    auto& record = static_cast<ResidentRecord&>(model);
    {
        const Lock lock(mutex_);
        if (release_quietly({record.id, {}, false})) {
            return;
        }
    }
    end_lease(record, nullptr);
}

template <class Clock>
bool SlotShell<Clock>::finish(InferenceWaiter& call) noexcept {
    {
        const Lock lock(mutex_);
        if (release_quietly({call.record->id, call.request, true})) {
            end_call(call);
            const bool completes = !call.completed_early.exchange(true);
            if (completes) {
                ++deliveries_;
            }
            return completes;
        }
    }
    return end_lease(*call.record, &call);
}

// Most leases end like this: nothing follows from it, so nothing is collected and nothing carried out.
template <class Clock>
bool SlotShell<Clock>::release_quietly(const core::Grant& grant) noexcept {
    // Only the last lease on a resident makes it idle, and needs to know since when.
    const core::Time time = scheduler_.residents()[grant.resident.index].leases == 1 ? now() : core::Time::zero();
    return scheduler_.release_quietly(grant, time);
}

template <class Clock>
bool SlotShell<Clock>::end_lease(ResidentRecord& record, InferenceWaiter* call) noexcept {
    // Kept until all is carried out: they may be the last owners of something of the user's, or of this.
    boost::intrusive_ptr<Waiter> keep_waiter;
    std::shared_ptr<SlotShell> keep_self;
    bool completes = false;
    apply([&](Outbox& /*out*/) {
        mutex_.assert_held();
        // While the lease is counted this has an owner: the ModelSlot, or itself. Once it is not, and the mutex is
        // free, the owner of the ModelSlot may destroy it.
        keep_self = this->shared_from_this();
        core::Grant grant{record.id, {}, call != nullptr};
        if (call != nullptr) {
            completes = !call->completed_early.exchange(true);
            if (completes) {
                ++deliveries_;
            }
            end_call(*call);
            grant.request = call->request;
            if (grant.request.valid()) {
                keep_waiter = std::move(waiters_[grant.request.index]);
            }
        }
        scheduler_.release(grant, now(), actions_);
        if (abandoned_ && scheduler_.leases() == 0) {
            self_.reset();
        }
    });
    return completes;
}

template <class Clock>
void SlotShell<Clock>::delivered() noexcept {
    // Both sides are sequentially consistent: either this sees that a shutdown waits, or that sees that there is
    // nothing to wait for.
    if (deliveries_.fetch_sub(1) == 1 && shutdown_waits_) {
        apply([](Outbox& /*out*/) {});
    }
}

template <class Clock>
bool SlotShell<Clock>::revoked(const LeasedModel& model) const noexcept {
    const Lock lock(mutex_);
    return scheduler_.residents()[static_cast<const ResidentRecord&>(model).id.index].revoked;
}

template <class Clock>
bool SlotShell<Clock>::closed() const noexcept {
    const Lock lock(mutex_);
    return scheduler_.closed();
}

template <class Clock>
SlotStatus SlotShell<Clock>::status() const {
    StatusReader reader(name_);
    {
        const Lock lock(mutex_);
        reader.read(scheduler_, now());
        reader.counters().timer_waits = timer_waits_;
    }
    return reader.finish();
}

template <class Clock>
void SlotShell<Clock>::tick() noexcept {
    apply([this](Outbox& /*out*/) {
        mutex_.assert_held();
        scheduler_.tick(now(), actions_);
    });
}

template <class Clock>
void SlotShell<Clock>::prepare_teardown() {
    const Lock lock(mutex_);
    reserve();
    scheduler_.reserve_teardown();
}

template <class Clock>
void SlotShell<Clock>::start_unload(const ModelKey* key, UnloadMode mode,
                                    const std::shared_ptr<PendingTeardown>& teardown) {
    apply([&](Outbox& out) {
        mutex_.assert_held();
        reserve();
        teardown->id = scheduler_.unload(key, mode, now(), actions_);
        if (teardown->id.valid()) {
            teardowns_.add(teardown);
        } else {
            out.teardowns.push(teardown);
        }
        if (abandoned_) {
            collect_actions(out, actions_.size());
            end_teardowns(out);
        }
    });
}

template <class Clock>
void SlotShell<Clock>::start_shutdown(const ShutdownOptions& options,
                                      const std::shared_ptr<PendingTeardown>& teardown) {
    teardown->is_shutdown = true;
    apply([&](Outbox& out) {
        mutex_.assert_held();
        reserve();
        const core::Time time = now();
        const core::Time due = options.deadline ? core::later(time, core::to_duration(*options.deadline)) : core::never;
        teardown->id = scheduler_.shut_down(due, time, actions_, options.revoke_at_deadline);
        if (teardown->id.valid()) {
            teardowns_.add(teardown);
        } else {
            teardowns_.finish(teardown);
        }
        if (abandoned_) {
            collect_actions(out, actions_.size());
            end_teardowns(out);
        }
    });
}

template <class Clock>
void SlotShell<Clock>::forget(PendingTeardown& teardown) noexcept {
    // Destroyed without the mutex.
    std::shared_ptr<PendingTeardown> forgotten;
    const Lock lock(mutex_);
    scheduler_.forget(teardown.id);
    forgotten = teardowns_.remove(teardown);
    shutdown_waits_ = shutdown_waits_ && teardowns_.has_finishing();
}

}  // namespace residency::detail

#include "residency/shell/impl/slot_shell_apply.hpp"  // IWYU pragma: export
#include "residency/shell/impl/slot_shell_work.hpp"   // IWYU pragma: export
