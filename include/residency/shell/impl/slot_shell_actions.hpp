#pragma once

#include "residency/shell/slot_shell.hpp"

// What SlotShell does with what the scheduler decided: collects it under the mutex, and carries it out once the mutex is free.

namespace residency::detail {

template <class Clock>
void SlotShell<Clock>::collect(Outbox& out, const LoadFailure* failure) noexcept {
    // What follows from a load that could not even begin, below, has another cause.
    const std::size_t decided = actions_.size();
    // By index: an action may append others.
    for (std::size_t index = 0; index < actions_.size(); ++index) {
        const core::Action action = actions_[index];
        const LoadFailure* const its_failure = index < decided ? failure : nullptr;
        switch (action.type) {
            case core::ActionType::grant: grant(action, out); break;
            case core::ActionType::fail: fail(action, its_failure, out); break;
            case core::ActionType::expire:
                // Only a call's deadline goes on after its grant.
                if (const boost::intrusive_ptr<Waiter> call = std::move(waiters_[action.subject])) {
                    complete_early(static_cast<InferenceWaiter&>(*call), errc::timed_out, false, out);
                    publish_request(EventType::timed_out, Reason::none, *call->record->key, out);
                }
                break;
            case core::ActionType::load: begin_load(action.resident, out); break;
            case core::ActionType::stop_load: out.stops.push(records_[action.resident]); break;
            case core::ActionType::revoke:
                complete_all_early(*records_[action.resident], errc::model_changed, out);
                break;
            case core::ActionType::unload: begin_unload(action.resident, out); break;
            case core::ActionType::complete: {
                std::shared_ptr<PendingOperation> pending = std::move(operations_[action.subject]);
                if (pending && pending->shutdown && !action.late) {
                    finishing_.push(std::move(pending));
                } else if (pending) {
                    if (action.late) {
                        report_leftovers(*pending);
                    }
                    out.complete.push(std::move(pending));
                }
                break;
            }
            case core::ActionType::event: publish(action, its_failure, out); break;
        }
    }
    actions_.clear();
    generation_.store(scheduler_.generation().value(), std::memory_order_release);
    settle(out);
}

// What follows from the state alone: the alarm, shutdowns that are done, executors that are no longer needed.
template <class Clock>
void SlotShell<Clock>::settle(Outbox& out) noexcept {
    if (!control_posted_ && !control_runs_ && alarm_.wants(wanted_alarm()) && !control_lost_) {
        control_posted_ = true;
        out.wakes_control = true;
    }
    // Once the slot is gone nobody is kept waiting for the alarm: those who wait may have no context any more when it ends.
    while (!finishing_.empty() && (abandoned_ || alarm_.quiet())) {
        if (announce_shutdown()) {
            out.has_events = true;
            announced_.push(finishing_.pop());
        } else {
            out.complete.push(finishing_.pop());
        }
    }
    if (abandoned_ && !guards_.empty() && at_rest()) {
        unloads_in_place_ = true;
        out.guards.swap(guards_);
    }
}

// Whether the shutdown completes once its event was delivered.
template <class Clock>
bool SlotShell<Clock>::announce_shutdown() noexcept {
    if (!events_->listened_to() || has_lost_any_) {
        return false;
    }
    try {
        Event event;
        event.type = EventType::shutdown_completed;
        event.reason = Reason::shutdown;
        event.slot = name_;
        return events_->push(std::move(event), this->shared_from_this(), nullptr);
    } catch (...) {
        return false;  // out of memory: an event less
    }
}

template <class Clock>
bool SlotShell<Clock>::at_rest() const noexcept {
    if (calls_ != 0 || job_runs_ || control_posted_ || control_runs_ || !finishing_.empty() || !announced_.empty() ||
        !alarm_.quiet()) {
        return false;
    }
    return std::none_of(records_.begin(), records_.end(), [](const std::shared_ptr<ResidentRecord>& record) {
        return record && record->job != ResidentRecord::Job::none;
    });
}

template <class Clock>
void SlotShell<Clock>::carry_out(Outbox&& out) noexcept {
    while (!out.stops.empty()) {
        const std::shared_ptr<ResidentRecord> record = out.stops.pop();
        const runtime::UserCodeScope mark;
        record->stop.request_stop();
    }
    if (out.starts_jobs) {
        asio::post(executors_.loading, [self = this->shared_from_this()] { self->run_jobs(); });
    }
    ErrorWriter errors(name_, options_);
    while (!out.ready.empty()) {
        const boost::intrusive_ptr<Waiter> waiter = out.ready.pop();
        if (waiter->is_granted) {
            waiter->granted();
        } else {
            waiter->failed(errors.refused(*waiter));
        }
    }
    while (!out.completed_early.empty()) {
        const boost::intrusive_ptr<InferenceWaiter> call = out.completed_early.pop();
        {
            const runtime::UserCodeScope mark;
            call->request_stop();
        }
        call->failed(errors.completed_early(*call));
    }
    while (!out.destroy.empty()) {
        run_unload(*out.destroy.pop());
    }
    if (out.has_events) {
        events_->flush();
    }
    if (out.wakes_control) {
        post_control();
    }
    while (!out.complete.empty()) {
        const std::shared_ptr<PendingOperation> pending = out.complete.pop();
        std::exception_ptr error;
        if (pending->cut_short) {
            error = make_error_of([this] {
                return Error(errc::shutting_down, ModelKey(), Stage::unload,
                             "slot '" + name_ + "' was destroyed before everything was unloaded");
            });
        } else if (pending->unreported) {
            error = std::make_exception_ptr(std::bad_alloc());
        }
        pending->operation->completed(std::move(error), std::move(pending->report));
    }
}

template <class Clock>
void SlotShell<Clock>::grant(const core::Action& action, Outbox& out) noexcept {
    boost::intrusive_ptr<Waiter> waiter = action.kept ? waiters_[action.subject] : std::move(waiters_[action.subject]);
    waiter->is_granted = true;
    if (waiter->wants_lease) {
        waiter->state = Waiter::State::leased;
        waiter->record = records_[action.resident].get();
    } else {
        waiter->state = Waiter::State::done;
        std::construct_at(&waiter->generation, action.generation);
    }
    if (!action.kept) {
        waiter->request = {};
    }
    begin_call(*waiter);
    out.ready.push(std::move(waiter));
}

template <class Clock>
void SlotShell<Clock>::fail(const core::Action& action, const LoadFailure* failure, Outbox& out) noexcept {
    boost::intrusive_ptr<Waiter> waiter = std::move(waiters_[action.subject]);
    if (action.code == errc::load_failed && failure != nullptr) {
        waiter->cause = failure->cause;
    }
    if (action.code == errc::timed_out) {
        publish_request(EventType::timed_out, Reason::none, *waiter->key, out);
    }
    refuse(waiter, action.code, action.stage, action.duration, out);
}

template <class Clock>
void SlotShell<Clock>::refuse(const boost::intrusive_ptr<Waiter>& waiter, errc code, Stage stage,
                              core::Duration retry_after, Outbox& out) noexcept {
    waiter->state = Waiter::State::done;
    waiter->request = {};
    waiter->code = code;
    waiter->stage = stage;
    waiter->retry_after = retry_after;
    out.ready.push(waiter);
}

// Tells the caller of a call that runs, before its model returns.
template <class Clock>
void SlotShell<Clock>::complete_early(InferenceWaiter& call, errc code, bool cancelled, Outbox& out) noexcept {
    if (call.completed_early.exchange(true)) {
        return;
    }
    call.code = code;
    call.is_cancelled = cancelled;
    // Once the mutex is free it may end, and its record with it.
    call.key = call.record->key;
    out.completed_early.push(&call);
}

template <class Clock>
void SlotShell<Clock>::complete_all_early(ResidentRecord& record, errc code, Outbox& out) noexcept {
    for (InferenceWaiter* call = record.running; call != nullptr; call = call->next_running) {
        complete_early(*call, code, false, out);
    }
}

template <class Clock>
void SlotShell<Clock>::begin_call(Waiter& waiter) noexcept {
    if (!waiter.is_call) {
        return;
    }
    auto& call = static_cast<InferenceWaiter&>(waiter);
    ++calls_;
    call.next_running = call.record->running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = &call;
    }
    call.record->running = &call;
}

template <class Clock>
void SlotShell<Clock>::end_call(InferenceWaiter& call) noexcept {
    --calls_;
    call.state = Waiter::State::done;
    (call.previous_running == nullptr ? call.record->running : call.previous_running->next_running) = call.next_running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = call.previous_running;
    }
}

template <class Clock>
void SlotShell<Clock>::begin_load(core::Index resident, Outbox& out) noexcept {
    const core::ResidentId id = scheduler_.residents().handle(resident);
    try {
        if (records_.size() <= resident) {
            records_.resize(std::size_t{resident} + 1);
        }
        std::shared_ptr<ResidentRecord> record;
        if (spare_records_.empty()) {
            record = std::make_shared<ResidentRecord>();
        } else {
            record = std::move(spare_records_.back());
            spare_records_.pop_back();
        }
        record->key = scheduler_.key_of(resident);
        record->id = id;
        records_[resident] = std::move(record);
        add_job(*records_[resident], ResidentRecord::Job::load, out);
    } catch (...) {
        // Out of memory before the backend was asked: to those who wait it is a load that failed.
        scheduler_.load_failed(id, false, {}, now(), actions_);
    }
}

template <class Clock>
void SlotShell<Clock>::begin_unload(core::Index resident, Outbox& out) noexcept {
    ResidentRecord& record = *records_[resident];
    if (unloads_in_place_) {
        record.job = ResidentRecord::Job::unload;
        out.destroy.push(&record);
    } else if (record.gated) {
        record.job = ResidentRecord::Job::unload;
    } else {
        add_job(record, ResidentRecord::Job::unload, out);
    }
}

template <class Clock>
void SlotShell<Clock>::add_job(ResidentRecord& record, ResidentRecord::Job job, Outbox& out) noexcept {
    record.job = job;
    jobs_.push(&record);
    if (!job_runs_ && !loading_lost_) {
        job_runs_ = true;
        out.starts_jobs = true;
    }
}

template <class Clock>
void SlotShell<Clock>::publish(const core::Action& action, const LoadFailure* failure, Outbox& out) noexcept {
    const bool ends = action.event == EventType::load_failed || action.event == EventType::load_aborted ||
                      action.event == EventType::unloaded;
    const std::shared_ptr<ResidentRecord> record =
        action.resident == core::none || action.resident >= records_.size()
            ? nullptr
            : (ends ? std::move(records_[action.resident]) : records_[action.resident]);
    if (!events_->listened_to() || has_lost_any_) {
        return;
    }
    try {
        Event event;
        event.type = action.event;
        event.reason = action.reason;
        event.slot = name_;
        event.generation = action.generation;
        event.duration = action.duration;
        if (action.event == EventType::load_started) {
            event.key = *scheduler_.key_of(action.resident);
        } else if (record) {
            event.key = *record->key;
        }
        if (action.event == EventType::load_failed && failure != nullptr) {
            event.message = failure->message;
        }
        // What is destroyed in place waits for nobody.
        const bool gates = action.event == EventType::unload_started && record && !unloads_in_place_;
        if (events_->push(std::move(event), gates ? this->shared_from_this() : nullptr, record.get())) {
            out.has_events = true;
            if (gates) {
                record->gated = true;
            }
        }
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
    }
}

template <class Clock>
void SlotShell<Clock>::publish_request(EventType type, Reason reason, const ModelKey& key, Outbox& out) noexcept {
    if (!events_->listened_to() || has_lost_any_) {
        return;
    }
    try {
        Event event;
        event.type = type;
        event.reason = reason;
        event.slot = name_;
        event.key = key;
        out.has_events = events_->push(std::move(event)) || out.has_events;
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
    }
}

}  // namespace residency::detail
