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
    core::RequestSpec spec = spec_of(options, waiter->wants_lease, waiter->is_inference, SlotState<Clock>::now);
    if (waiter->is_inference) {
        auto& call = static_cast<InferenceWaiter&>(*waiter);
        call.priority = options.priority;
        call.came = spec.deadline != core::never ? spec.since : time_for_events();
        spec.as = call.as;
        spec.texts = call.own_texts;
        spec.bytes = call.own_bytes;
    }
    // What takes user code, or memory and time, is done without the mutex, and only if the request must wait: the
    // backend is asked whether it knows the key, and what the request needs to be cut is made.
    enum class Lacks : std::uint8_t { nothing, answer, parts };
    Lacks lacks = Lacks::nothing;
    auto* const uncut = waiter->is_inference && static_cast<InferenceWaiter&>(*waiter).can_be_cut
                            ? static_cast<InferenceWaiter*>(waiter.get())
                            : nullptr;
    const auto decide = [&](Outbox& out) {
        mutex_.assert_held();
        lacks = Lacks::nothing;
        if (spec.deadline != core::never) {
            state_.reserve();
            state_.scheduler.note_timeout(core::to_duration(*options.timeout));
        }
        core::Grant grant;
        Generation generation;
        const core::Attempt attempt = spec.wants_lease
                                          ? state_.scheduler.try_grant(key, spec, grant)
                                          : state_.scheduler.try_ensure(key, spec, now(), generation, state_.actions);
        if (attempt != core::Attempt::granted) {
            waiter->key = state_.scheduler.share(key);
        }
        switch (attempt) {
            case core::Attempt::granted:
                out.grant(waiter, spec.wants_lease ? state_.records[grant.resident.index].get() : nullptr, generation,
                          grant.request);
                out.delivers = true;
                if (grant.request.valid()) {
                    state_.waiters[grant.request.index] = waiter;
                }
                break;
            case core::Attempt::shutting_down: out.fail(waiter, errc::shutting_down, Stage::admission, {}); break;
            case core::Attempt::model_changed: out.fail(waiter, errc::model_changed, Stage::admission, {}); break;
            case core::Attempt::must_wait: {
                if (asks_ && !waiter->was_asked_about && !state_.scheduler.has_resident(key)) {
                    waiter->was_asked_about = true;
                    lacks = Lacks::answer;
                    break;
                }
                if (uncut != nullptr && uncut->cut == nullptr) {
                    lacks = Lacks::parts;
                    break;
                }
                state_.reserve();
                const core::Enqueued enqueued = state_.scheduler.enqueue(
                    waiter->key, spec, now(), state_.actions, uncut == nullptr ? nullptr : &uncut->cut->lengths);
                if (enqueued.request.valid()) {
                    state_.collect_first(enqueued.joined_after, out);
                    waiter->request = enqueued.request;
                    state_.waiters[enqueued.request.index] = waiter;
                } else {
                    out.fail(waiter, enqueued.code, enqueued.stage, enqueued.retry_after);
                }
                break;
            }
        }
    };
    apply(decide);
    while (lacks != Lacks::nothing) {
        if (lacks == Lacks::answer) {
            spec.is_unknown = is_unknown(key);
        } else {
            uncut->prepare_parts();
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
        if (release_quietly(grant_of(first))) {
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
        for (InferenceWaiter* call = first; call != nullptr; call = call->next_in_call.get()) {
            call->completes = !call->completed_early.exchange(true);
            deliveries_ += call->completes ? 1U : 0U;
            end_call(*call);
            if (call->request.valid()) {
                // Those that joined are owned by the one before, too.
                boost::intrusive_ptr<Waiter> owner = std::move(state_.waiters[call->request.index]);
                if (call == first) {
                    keep_waiter = std::move(owner);
                } else {
                    state_.scheduler.leave_call(call->request);
                }
            }
        }
        end_counted(first == nullptr ? core::Grant{record.id} : grant_of(*first));
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
        CutRequest& cut = *call->cut;
        --cut.running;
        cut.texts_ended += part.count;
        if (failed || cut.texts_ended == call->own_texts) {
            completes = !call->completed_early.exchange(true);
            deliveries_ += completes ? 1U : 0U;
        }
        if (failed && completes) {
            if (state_.scheduler.give_up(call->request, now(), state_.actions)) {
                keep_waiter = std::move(state_.waiters[call->request.index]);
                call->request = {};
                // There is room for the actions of one decision.
                state_.collect_first(state_.actions.size(), out);
            }
            if (cut.running != 0) {
                out.stops.push(call);
            }
        }
        const core::Grant grant{part.record->id, call->request, true, part.count, true, call->priority};
        cut.put_back(part);
        if (cut.running == 0) {
            leave_running(*call);
            if (cut.all_given) {
                call->state = Waiter::State::done;
                if (call->request.valid()) {
                    keep_waiter = std::move(state_.waiters[call->request.index]);
                    state_.scheduler.leave_call(call->request);
                }
            }
        }
        end_counted(grant);
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
        SlotStatus status;
        status.name = name_;
        status.generation = generation();
        status.shutting_down = true;
        return status;
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
        if (teardown->id.valid()) {
            state_.teardowns.add(teardown);
        } else {
            out.teardowns.push(teardown);
        }
        if (state_.abandoned) {
            state_.collect_first(state_.actions.size(), out);
            state_.end_teardowns(out);
        }
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
        const core::Time due = options.deadline ? core::later(time, core::to_duration(*options.deadline)) : core::never;
        teardown->id = state_.scheduler.shut_down(due, time, state_.actions, options.revoke_at_deadline);
        if (teardown->id.valid()) {
            state_.teardowns.add(teardown);
        } else {
            state_.teardowns.finish(teardown);
        }
        if (state_.abandoned) {
            state_.collect_first(state_.actions.size(), out);
            state_.end_teardowns(out);
        }
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
