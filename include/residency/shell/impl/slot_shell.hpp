#pragma once

#include "residency/shell/slot_shell.hpp"

// What operations and leases call of SlotShell. Each call is one `apply` (slot_shell_apply.hpp): under the mutex the
// scheduler decides, and the decision is carried out once the mutex is free. Loads, unloads, the alarm and the end are
// in slot_shell_work.hpp.

namespace residency::detail {

template <class Clock>
ResidentRecord* SlotShell<Clock>::try_acquire(const ModelKey& key, const RequestOptions& options) {
    const core::RequestSpec spec = spec_of(options, true, false, SlotState<Clock>::now);
    core::Grant grant;
    const Lock lock(mutex_);
    return state_.scheduler.try_grant(key, spec, grant) == core::Attempt::granted
               ? state_.records[grant.resident.index].get()
               : nullptr;
}

template <class Clock>
void SlotShell<Clock>::submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                              const RequestOptions& options) {
    using Lacks = typename Admission<Clock>::Lacks;
    const bool is_timed = waiter->is_inference && !options.timeout;
    Admission<Clock> admission(asks_, waiter, key, options, is_timed ? time_for_events() : core::Time{0});
    const auto decide = [&](Outbox& out) {
        mutex_.assert_held();
        admission.decide(state_, out);
    };
    apply(decide);
    while (admission.lacks() != Lacks::nothing) {
        if (admission.lacks() == Lacks::answer) {
            admission.know(!is_unknown(key));
        } else {
            admission.prepare_parts();
        }
        apply(decide);
    }
}

// A backend that cannot say counts as one that knows the key: the load says what is wrong.
template <class Clock>
bool SlotShell<Clock>::is_unknown(const ModelKey& key) const noexcept {
    const runtime::UserCodeScope scope(executors_.owner);
    try {
        return !knows(key);
    } catch (...) {
        return false;
    }
}

template <class Clock>
void SlotShell<Clock>::cancel(Waiter& waiter, bool terminal) noexcept {
    apply([&](Outbox& out) {
        mutex_.assert_held();
        if (waiter.state == Waiter::State::leased && waiter.is_inference && terminal) {
            out.complete_early(static_cast<InferenceWaiter&>(waiter), errc::timed_out, true);
            out.delivers = true;
        } else if (waiter.state == Waiter::State::waiting &&
                   state_.scheduler.cancel(waiter.request, now(), state_.actions)) {
            waiter.state = Waiter::State::done;
            waiter.is_cancelled = true;
            out.ready.push(std::move(state_.waiters[waiter.request.index]));
            out.delivers = true;
        }
    });
}

template <class Clock>
void SlotShell<Clock>::release(LeasedModel& model) noexcept {
    if (this->is_in_child()) {
        return;
    }
    auto& record = static_cast<ResidentRecord&>(model);
    {
        const Lock lock(mutex_);
        if (release_quietly({record.id, {}, false, 0})) {
            return;
        }
    }
    end_lease(record, nullptr);
}

template <class Clock>
bool SlotShell<Clock>::finish(InferenceWaiter& first) noexcept {
    if (this->is_in_child()) {
        return false;
    }
    if (!first.next_in_call) {
        const Lock lock(mutex_);
        if (release_quietly(first.grant())) {
            end_call(first);
            const bool completes = !first.completed_early.exchange(true);
            if (completes) {
                ++deliveries_;
            }
            return completes;
        }
    }
    return end_lease(*first.record, &first);
}

// Most leases end like this: nothing follows from it, so nothing is collected and nothing carried out.
template <class Clock>
bool SlotShell<Clock>::release_quietly(const core::Grant& grant) noexcept {
    // Only the last lease on a resident makes it idle, and needs to know since when.
    const core::Time time = state_.scheduler.residents()[grant.resident.index].leases == 1 ? now() : core::Time::zero();
    return state_.scheduler.release_quietly(grant, time);
}

template <class Clock>
bool SlotShell<Clock>::end_lease(ResidentRecord& record, InferenceWaiter* first) noexcept {
    // Kept until all is carried out: they may be the last owners of something of the user's, or of this.
    boost::intrusive_ptr<Waiter> keep_waiter;
    std::shared_ptr<SlotShell> keep_self;
    apply([&](Outbox& /*out*/) {
        mutex_.assert_held();
        // While the lease is counted this has an owner: the ModelSlot, or itself. Once it is not, and the mutex is
        // free, the owner of the ModelSlot may destroy it.
        keep_self = this->shared_from_this();
        if (first != nullptr) {
            deliveries_ += state_.end_calls(*first, keep_waiter);
        }
        end_counted(first == nullptr ? core::Grant{record.id} : first->grant());
    });
    return first != nullptr && first->completes;
}

template <class Clock>
bool SlotShell<Clock>::finish_part(CallPart& part, bool failed) noexcept {
    // Kept until all is carried out.
    const boost::intrusive_ptr<InferenceWaiter> call = part.call;
    boost::intrusive_ptr<Waiter> keep_waiter;
    std::shared_ptr<SlotShell> keep_self;
    bool completes = false;
    apply([&](Outbox& out) {
        mutex_.assert_held();
        keep_self = this->shared_from_this();
        completes = state_.end_part(part, failed, out, keep_waiter);
        deliveries_ += completes ? 1U : 0U;
        end_counted({part.record->id, call->request, true, part.count, true, call->priority});
    });
    return completes;
}

// The lease is counted no more: neither is this needed any more, if it was the last one of a slot that is gone.
template <class Clock>
void SlotShell<Clock>::end_counted(const core::Grant& grant) noexcept {
    state_.scheduler.release(grant, now(), state_.actions);
    if (state_.abandoned && state_.scheduler.leases() == 0) {
        self_.reset();
    }
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
    if (this->is_in_child()) {
        return true;
    }
    const Lock lock(mutex_);
    return state_.scheduler.residents()[static_cast<const ResidentRecord&>(model).id.index].revoked;
}

template <class Clock>
bool SlotShell<Clock>::closed() const noexcept {
    const Lock lock(mutex_);
    return state_.scheduler.closed();
}

template <class Clock>
SlotStatus SlotShell<Clock>::status() const {
    if (this->is_in_child()) {
        return {.name = name_, .generation = generation(), .shutting_down = true};
    }
    StatusReader<SlotState<Clock>> reader(name_);
    {
        const Lock lock(mutex_);
        reader.read(state_);
    }
    return reader.finish();
}

template <class Clock>
void SlotShell<Clock>::tick() noexcept {
    apply([this](Outbox& /*out*/) {
        mutex_.assert_held();
        state_.scheduler.tick(now(), state_.actions);
    });
}

template <class Clock>
void SlotShell<Clock>::prepare_teardown() {
    const Lock lock(mutex_);
    state_.reserve();
    state_.scheduler.reserve_teardown();
}

template <class Clock>
void SlotShell<Clock>::start_unload(const ModelKey* key, UnloadMode mode,
                                    const std::shared_ptr<PendingTeardown>& teardown) {
    apply([&](Outbox& out) {
        mutex_.assert_held();
        state_.reserve();
        teardown->id = state_.scheduler.unload(key, mode, now(), state_.actions);
        state_.begin_teardown(teardown, out);
    });
}

template <class Clock>
void SlotShell<Clock>::start_shutdown(const ShutdownOptions& options,
                                      const std::shared_ptr<PendingTeardown>& teardown) {
    teardown->is_shutdown = true;
    apply([&](Outbox& out) {
        mutex_.assert_held();
        state_.reserve();
        const core::Time time = now();
        if (options.deadline) {
            teardown->due = core::later(time, core::to_duration(*options.deadline));
        }
        teardown->id = state_.scheduler.shut_down(teardown->due, time, state_.actions, options.revoke_at_deadline);
        state_.begin_teardown(teardown, out);
    });
}

template <class Clock>
void SlotShell<Clock>::forget(PendingTeardown& teardown) noexcept {
    if (this->is_in_child()) {
        return;
    }
    // Destroyed without the mutex.
    std::shared_ptr<PendingTeardown> forgotten;
    const Lock lock(mutex_);
    state_.scheduler.forget(teardown.id);
    forgotten = state_.teardowns.remove(teardown);
    shutdown_waits_ = shutdown_waits_ && state_.teardowns.has_finishing();
}

}  // namespace residency::detail

#include "residency/shell/impl/slot_shell_apply.hpp"  // IWYU pragma: export
#include "residency/shell/impl/slot_shell_work.hpp"   // IWYU pragma: export
