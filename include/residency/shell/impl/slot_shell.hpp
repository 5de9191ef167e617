#pragma once

#include "residency/shell/slot_shell.hpp"

// What operations and leases call of SlotShell: under the mutex they tell the scheduler, and what that decided is carried out once the mutex
// is free (slot_shell_actions.hpp). Its threads of work (jobs, control, contexts that end) are in slot_shell_work.hpp, what people read in
// slot_shell_status.hpp.

namespace residency::detail {

template <class Clock>
core::RequestSpec SlotShell<Clock>::spec_of(const RequestOptions& options, bool wants_lease, bool is_call) {
    core::RequestSpec spec;
    spec.wants_lease = wants_lease;
    spec.deadline_covers_lease = is_call;
    spec.priority = options.priority;
    if (options.timeout) {
        spec.deadline = core::later(clock_time(), core::to_duration(*options.timeout));
    }
    if (options.keep_alive) {
        spec.overrides_keep_alive = true;
        spec.keep_alive = core::to_duration(*options.keep_alive);
    }
    if (options.expected_generation) {
        spec.expected = *options.expected_generation;
    }
    return spec;
}

// Makes room for whatever one more request may lead to, so that nothing on its way needs memory.
template <class Clock>
void SlotShell<Clock>::reserve() {
    const std::size_t residents = scheduler_.residents().size();
    const std::size_t in_sight = std::min(scheduler_.options().max_resident, residents + scheduler_.waiting() + 1);
    // Each key that waits will be loaded, sooner or later.
    const std::size_t loads = std::min(scheduler_.waiting(), scheduler_.queue().keys().size()) + 1;
    // A load that cannot begin is three, and the next follows at once.
    const std::size_t actions =
        scheduler_.most_actions() + 6 * (in_sight - std::min(in_sight, residents)) + 3 * loads + 8;
    if (actions_.capacity() < actions) {
        actions_.reserve(actions + actions / 2);
    }
    const std::size_t requests = std::size_t{scheduler_.queue().requests().next_index()} + 1;
    if (waiters_.size() < requests) {
        waiters_.resize(requests + requests / 2);
    }
    const std::size_t operations = std::size_t{scheduler_.teardowns().next_index()} + 1;
    if (operations_.size() < operations) {
        operations_.resize(operations * 2);
    }
    if (records_.size() < in_sight) {
        records_.resize(in_sight * 2);
    }
    if (spare_records_.capacity() < loads) {
        spare_records_.reserve(loads * 2);
    }
    while (spare_records_.size() < loads) {
        spare_records_.push_back(std::make_shared<ResidentRecord>());
    }
}

template <class Clock>
ResidentRecord* SlotShell<Clock>::try_acquire(const ModelKey& key, const RequestOptions& options) {
    const core::RequestSpec spec = spec_of(options, true, false);
    core::Grant grant;
    const Lock lock(mutex_);
    return scheduler_.try_grant(key, spec, grant) == core::Attempt::granted ? records_[grant.resident.index].get()
                                                                            : nullptr;
}

template <class Clock>
void SlotShell<Clock>::submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                              const RequestOptions& options) {
    const bool wants_lease = waiter->wants_lease;
    const core::RequestSpec spec = spec_of(options, wants_lease, waiter->is_call);
    Outbox out;
    {
        const Lock lock(mutex_);
        if (spec.deadline != core::never) {
            reserve();
            scheduler_.note_timeout(core::to_duration(*options.timeout));
        }
        core::Grant grant;
        Generation generation;
        const core::Attempt attempt = wants_lease ? scheduler_.try_grant(key, spec, grant)
                                                  : scheduler_.try_ensure(key, spec, now(), generation, actions_);
        if (attempt != core::Attempt::granted) {
            waiter->key = scheduler_.share(key);
        }
        switch (attempt) {
            case core::Attempt::granted:
                waiter->is_granted = true;
                waiter->state = Waiter::State::done;
                if (!wants_lease) {
                    std::construct_at(&waiter->generation, generation);
                } else {
                    waiter->record = records_[grant.resident.index].get();
                    waiter->request = grant.request;
                    waiter->state = Waiter::State::leased;
                    begin_call(*waiter);
                    if (grant.request.valid()) {
                        waiters_[grant.request.index] = waiter;
                    }
                }
                out.ready.push(waiter);
                break;
            case core::Attempt::shutting_down: refuse(waiter, errc::shutting_down, Stage::admission, {}, out); break;
            case core::Attempt::model_changed: refuse(waiter, errc::model_changed, Stage::admission, {}, out); break;
            case core::Attempt::must_wait: {
                reserve();
                const core::Enqueued enqueued = scheduler_.enqueue(waiter->key, spec, now(), actions_);
                if (enqueued.request.valid()) {
                    waiter->request = enqueued.request;
                    waiters_[enqueued.request.index] = waiter;
                } else {
                    const bool timed_out = enqueued.code == errc::timed_out;
                    refuse(waiter, enqueued.code, timed_out ? Stage::queue : Stage::admission, enqueued.retry_after,
                           out);
                    const Reason reason = enqueued.code == errc::overloaded ? Reason::overloaded : Reason::cooling_down;
                    publish_request(timed_out ? EventType::timed_out : EventType::rejected,
                                    timed_out ? Reason::none : reason, key, out);
                }
                break;
            }
        }
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::cancel(Waiter& waiter, bool terminal) noexcept {
    Outbox out;
    {
        const Lock lock(mutex_);
        if (waiter.state == Waiter::State::leased && waiter.is_call && terminal) {
            complete_early(static_cast<InferenceWaiter&>(waiter), errc::timed_out, true, out);
        } else if (waiter.state == Waiter::State::waiting && scheduler_.cancel(waiter.request, now(), actions_)) {
            waiter.state = Waiter::State::done;
            waiter.is_cancelled = true;
            out.ready.push(std::move(waiters_[waiter.request.index]));
        }
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::release(ResidentRecord& record) noexcept {
    {
        const Lock lock(mutex_);
        if (release_quietly({record.id, {}})) {
            return;
        }
    }
    end_lease(record, nullptr);
}

template <class Clock>
bool SlotShell<Clock>::finish(InferenceWaiter& call) noexcept {
    {
        const Lock lock(mutex_);
        if (release_quietly({call.record->id, call.request})) {
            end_call(call);
            return !call.completed_early.exchange(true);
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
    // Kept until all is carried out: what they own may be the last of something of the user's, or of this.
    boost::intrusive_ptr<Waiter> keep_waiter;
    std::shared_ptr<SlotShell> keep_self;
    bool tells = false;
    Outbox out;
    {
        const Lock lock(mutex_);
        // While the lease is counted somebody owns this: the ModelSlot, or itself. Once it is not, and the mutex is free, whoever owns the
        // ModelSlot may destroy it.
        keep_self = this->shared_from_this();
        core::Grant grant{record.id, {}};
        if (call != nullptr) {
            tells = !call->completed_early.exchange(true);
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
        collect(out);
    }
    carry_out(std::move(out));
    return tells;
}

template <class Clock>
void SlotShell<Clock>::report_inference_failure(const ResidentRecord& record, const std::string& message) noexcept {
    if (!events_->listened_to()) {
        return;
    }
    try {
        Event event;
        event.type = EventType::inference_failed;
        event.slot = name_;
        event.key = *record.key;
        event.generation = record.generation;
        event.message = message;
        events_->push(std::move(event));
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
    }
    if (!has_lost_any_) {
        events_->flush();
    }
}

template <class Clock>
std::shared_ptr<PendingOperation> SlotShell<Clock>::prepare(std::shared_ptr<SlotOperation> operation) {
    auto pending = std::make_shared<PendingOperation>();
    pending->operation = std::move(operation);
    const Lock lock(mutex_);
    reserve();
    scheduler_.reserve_teardown();
    return pending;
}

template <class Clock>
void SlotShell<Clock>::start_unload(const ModelKey* key, UnloadMode mode,
                                    const std::shared_ptr<PendingOperation>& pending) {
    Outbox out;
    {
        const Lock lock(mutex_);
        reserve();
        pending->id = scheduler_.unload(key, mode, now(), actions_);
        if (pending->id.valid()) {
            operations_[pending->id.index] = pending;
        } else {
            out.complete.push(pending);
        }
        collect(out);
        if (abandoned_) {
            end_operations(out);
        }
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::start_shutdown(std::optional<std::chrono::milliseconds> deadline,
                                      const std::shared_ptr<PendingOperation>& pending) {
    pending->shutdown = true;
    Outbox out;
    {
        const Lock lock(mutex_);
        reserve();
        const core::Time time = now();
        const core::Time due = deadline ? core::later(time, core::to_duration(*deadline)) : core::never;
        pending->id = scheduler_.shut_down(due, time, actions_);
        if (pending->id.valid()) {
            operations_[pending->id.index] = pending;
        } else {
            finishing_.push(pending);
        }
        collect(out);
        if (abandoned_) {
            end_operations(out);
        }
    }
    carry_out(std::move(out));
}

}  // namespace residency::detail

#include "residency/shell/impl/slot_shell_actions.hpp"  // IWYU pragma: export
#include "residency/shell/impl/slot_shell_status.hpp"   // IWYU pragma: export
#include "residency/shell/impl/slot_shell_work.hpp"     // IWYU pragma: export
