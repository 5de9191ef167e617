#pragma once

#include "residency/slot/slot_core.hpp"

// What SlotCore does: under the mutex, and with what the scheduler decided once the mutex is free. Its threads of work (jobs, control,
// contexts that end) are in slot_core_work.hpp.

namespace residency::detail {

template <class Clock>
core::RequestSpec SlotCore<Clock>::spec_of(const RequestOptions& options, bool wants_lease, bool is_call) {
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
void SlotCore<Clock>::reserve() {
    const std::size_t residents = scheduler_.residents().size();
    const std::size_t in_sight = std::min(scheduler_.options().max_resident, residents + scheduler_.waiting() + 1);
    const std::size_t actions = scheduler_.most_actions() + 6 * (in_sight - std::min(in_sight, residents)) + 8;
    if (actions_.capacity() < actions) {
        actions_.reserve(actions + actions / 2);
    }
    const std::size_t requests = std::size_t{scheduler_.room().requests().next_index()} + 1;
    if (waiters_.size() < requests) {
        waiters_.resize(requests + requests / 2);
    }
    const std::size_t operations = std::size_t{scheduler_.operations().next_index()} + 1;
    if (operations_.size() < operations) {
        operations_.resize(operations * 2);
    }
    if (records_.size() < in_sight) {
        records_.resize(in_sight * 2);
    }
    // Each key that waits will be loaded, sooner or later.
    const std::size_t spares = std::min(scheduler_.waiting(), scheduler_.room().keys().size()) + 1;
    if (spare_records_.capacity() < spares) {
        spare_records_.reserve(spares * 2);
    }
    while (spare_records_.size() < spares) {
        spare_records_.push_back(std::make_shared<Record>());
    }
}

// -- What operations and leases call ------------------------------------------------------------------------------------------------

template <class Clock>
Record* SlotCore<Clock>::try_acquire(const ModelKey& key, const RequestOptions& options) {
    const core::RequestSpec spec = spec_of(options, true, false);
    core::Grant grant;
    const Lock lock(mutex_);
    return scheduler_.try_grant(key, spec, grant) == core::Attempt::granted ? records_[grant.resident.index].get()
                                                                            : nullptr;
}

template <class Clock>
void SlotCore<Clock>::submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                             const RequestOptions& options) {
    const bool wants_lease = waiter->wants_lease;
    const core::RequestSpec spec = spec_of(options, wants_lease, waiter->is_call);
    Outbox out;
    {
        const Lock lock(mutex_);
        if (spec.deadline != core::never) {
            reserve();
            scheduler_.expect_timeout(core::to_duration(*options.timeout));
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
                    waiter->generation = generation;
                } else {
                    waiter->record = records_[grant.resident.index].get();
                    waiter->request = grant.request;
                    waiter->state = Waiter::State::leased;
                    begin_call(*waiter);
                    if (grant.request.valid()) {
                        waiters_[grant.request.index] = waiter;
                    }
                }
                ready(waiter, out);
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
void SlotCore<Clock>::cancel(Waiter& waiter, bool terminal) noexcept {
    Outbox out;
    {
        const Lock lock(mutex_);
        if (waiter.state == Waiter::State::leased && waiter.is_call && terminal) {
            tell(static_cast<CallWaiter&>(waiter), errc::timed_out, true, out);
        } else if (waiter.state == Waiter::State::waiting && scheduler_.cancel(waiter.request, now(), actions_)) {
            waiter.state = Waiter::State::done;
            waiter.is_cancelled = true;
            ready(std::move(waiters_[waiter.request.index]), out);
        }
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotCore<Clock>::release(Record& record) noexcept {
    {
        const Lock lock(mutex_);
        if (release_quietly({record.id, {}})) {
            return;
        }
    }
    end_lease(record, nullptr);
}

template <class Clock>
bool SlotCore<Clock>::finish(CallWaiter& call) noexcept {
    {
        const Lock lock(mutex_);
        if (release_quietly({call.record->id, call.request})) {
            end_call(call);
            return !call.told.exchange(true);
        }
    }
    return end_lease(*call.record, &call);
}

// Most leases end like this: nothing follows from it, so nothing is collected and nothing carried out.
template <class Clock>
bool SlotCore<Clock>::release_quietly(const core::Grant& grant) noexcept {
    // Only the last lease on a resident makes it idle, and needs to know since when.
    const core::Time time = scheduler_.residents()[grant.resident.index].leases == 1 ? now() : core::Time::zero();
    return scheduler_.release_quietly(grant, time);
}

template <class Clock>
bool SlotCore<Clock>::end_lease(Record& record, CallWaiter* call) noexcept {
    // Kept until all is carried out: what they own may be the last of something of the user's, or of this.
    boost::intrusive_ptr<Waiter> keep_waiter;
    std::shared_ptr<SlotCore> keep_self;
    bool tells = false;
    Outbox out;
    {
        const Lock lock(mutex_);
        // While the lease is counted somebody owns this: the ModelSlot, or itself. Once it is not, and the mutex is free, whoever owns the
        // ModelSlot may destroy it.
        keep_self = this->shared_from_this();
        core::Grant grant{record.id, {}};
        if (call != nullptr) {
            tells = !call->told.exchange(true);
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
void SlotCore<Clock>::report_inference_failure(const Record& record, const std::string& message) noexcept {
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
std::shared_ptr<PendingOperation> SlotCore<Clock>::prepare(std::shared_ptr<SlotOperation> operation) {
    auto pending = std::make_shared<PendingOperation>();
    pending->operation = std::move(operation);
    const Lock lock(mutex_);
    reserve();
    scheduler_.reserve_operation();
    return pending;
}

template <class Clock>
void SlotCore<Clock>::start_unload(const ModelKey* key, UnloadMode mode,
                                   const std::shared_ptr<PendingOperation>& pending) {
    Outbox out;
    {
        const Lock lock(mutex_);
        reserve();
        pending->id = scheduler_.unload(key, mode, now(), actions_);
        if (pending->id.valid()) {
            operations_[pending->id.index] = pending;
        } else {
            out.complete = pending;
        }
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotCore<Clock>::start_shutdown(std::optional<std::chrono::milliseconds> deadline,
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
            pending->next = std::move(finishing_);
            finishing_ = pending;
        }
        collect(out);
    }
    carry_out(std::move(out));
}

// -- What the scheduler decided -------------------------------------------------------------------------------------------------------

template <class Clock>
void SlotCore<Clock>::collect(Outbox& out, const LoadFailure& failure) noexcept {
    // By index: an action may append others.
    for (std::size_t index = 0; index < actions_.size(); ++index) {
        const core::Action action = actions_[index];
        switch (action.type) {
            case core::ActionType::grant: grant(action, out); break;
            case core::ActionType::fail: fail(action, failure.cause, out); break;
            case core::ActionType::expire:
                // Only a call's deadline goes on after its grant.
                if (const boost::intrusive_ptr<Waiter> call = std::move(waiters_[action.subject])) {
                    tell(static_cast<CallWaiter&>(*call), errc::timed_out, false, out);
                    publish_request(EventType::timed_out, Reason::none, *call->record->key, out);
                }
                break;
            case core::ActionType::load: begin_load(action.resident, out); break;
            case core::ActionType::stop_load: {
                const std::shared_ptr<Record>& record = records_[action.resident];
                record->next_stop = std::move(out.stops);
                out.stops = record;
                break;
            }
            case core::ActionType::revoke: tell_all(*records_[action.resident], errc::model_changed, out); break;
            case core::ActionType::unload: begin_unload(action.resident, out); break;
            case core::ActionType::complete: {
                std::shared_ptr<PendingOperation> pending = std::move(operations_[action.subject]);
                if (pending && pending->shutdown && !action.late) {
                    pending->next = std::move(finishing_);
                    finishing_ = std::move(pending);
                } else if (pending) {
                    if (action.late) {
                        report_leftovers(*pending);
                    }
                    pending->next = std::move(out.complete);
                    out.complete = std::move(pending);
                }
                break;
            }
            case core::ActionType::event: publish(action, failure, out); break;
        }
    }
    actions_.clear();
    generation_.store(scheduler_.generation().value(), std::memory_order_release);
    settle(out);
}

// What follows from the state alone: the alarm, shutdowns that are done, executors that are no longer needed.
template <class Clock>
void SlotCore<Clock>::settle(Outbox& out) noexcept {
    if (!control_posted_ && !control_runs_ && alarm_.wants(wanted_alarm()) && !control_lost_) {
        control_posted_ = true;
        out.wakes_control = true;
    }
    while (finishing_ && alarm_.quiet()) {
        std::shared_ptr<PendingOperation> pending = std::move(finishing_);
        finishing_ = std::move(pending->next);
        Event event;
        event.type = EventType::shutdown_completed;
        event.reason = Reason::shutdown;
        event.slot = name_;
        if (!has_lost_any_ && events_->push(std::move(event), this->shared_from_this(), nullptr)) {
            out.has_events = true;
            pending->next = std::move(announced_);
            announced_ = std::move(pending);
        } else {
            pending->next = std::move(out.complete);
            out.complete = std::move(pending);
        }
    }
    if (abandoned_ && !guards_.empty() && at_rest()) {
        unloads_in_place_ = true;
        out.guards.swap(guards_);
    }
}

template <class Clock>
bool SlotCore<Clock>::at_rest() const noexcept {
    if (calls_ != 0 || job_runs_ || control_posted_ || control_runs_ || finishing_ || announced_ || !alarm_.quiet()) {
        return false;
    }
    return std::none_of(records_.begin(), records_.end(), [](const std::shared_ptr<Record>& record) {
        return record && record->job != Record::Job::none;
    });
}

template <class Clock>
void SlotCore<Clock>::carry_out(Outbox&& out) noexcept {
    while (out.stops) {
        const std::shared_ptr<Record> record = std::move(out.stops);
        out.stops = std::move(record->next_stop);
        const runtime::LibraryCall mark;
        record->stop.request_stop();
    }
    if (out.starts_jobs) {
        asio::post(executors_.loading, [self = this->shared_from_this()] { self->run_jobs(); });
    }
    ErrorWriter errors(name_, options_);
    while (out.ready) {
        const boost::intrusive_ptr<Waiter> waiter = std::move(out.ready);
        out.ready = std::move(waiter->next_ready);
        if (waiter->is_granted) {
            waiter->granted();
        } else {
            waiter->failed(errors.refused(*waiter));
        }
    }
    while (out.told) {
        const boost::intrusive_ptr<CallWaiter> call = std::move(out.told);
        out.told = std::move(call->next_told);
        {
            const runtime::LibraryCall mark;
            call->request_stop();
        }
        call->failed(errors.told(*call));
    }
    while (out.destroy != nullptr) {
        run_unload(*std::exchange(out.destroy, out.destroy->next_job));
    }
    if (out.has_events) {
        events_->flush();
    }
    if (out.wakes_control) {
        post_control();
    }
    while (out.complete) {
        const std::shared_ptr<PendingOperation> pending = std::move(out.complete);
        out.complete = std::move(pending->next);
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
void SlotCore<Clock>::grant(const core::Action& action, Outbox& out) noexcept {
    boost::intrusive_ptr<Waiter> waiter = action.kept ? waiters_[action.subject] : std::move(waiters_[action.subject]);
    waiter->is_granted = true;
    if (waiter->wants_lease) {
        waiter->state = Waiter::State::leased;
        waiter->record = records_[action.resident].get();
    } else {
        waiter->state = Waiter::State::done;
        waiter->generation = action.generation;
    }
    if (!action.kept) {
        waiter->request = {};
    }
    begin_call(*waiter);
    ready(std::move(waiter), out);
}

template <class Clock>
void SlotCore<Clock>::fail(const core::Action& action, const std::exception_ptr& cause, Outbox& out) noexcept {
    boost::intrusive_ptr<Waiter> waiter = std::move(waiters_[action.subject]);
    waiter->cause = action.code == errc::load_failed ? cause : nullptr;
    if (action.code == errc::timed_out) {
        publish_request(EventType::timed_out, Reason::none, *waiter->key, out);
    }
    refuse(waiter, action.code, action.stage, action.duration, out);
}

template <class Clock>
void SlotCore<Clock>::ready(boost::intrusive_ptr<Waiter> waiter, Outbox& out) noexcept {
    Waiter* const last = waiter.get();
    (out.last_ready == nullptr ? out.ready : out.last_ready->next_ready) = std::move(waiter);
    out.last_ready = last;
}

template <class Clock>
void SlotCore<Clock>::refuse(const boost::intrusive_ptr<Waiter>& waiter, errc code, Stage stage,
                             core::Duration retry_after, Outbox& out) noexcept {
    waiter->state = Waiter::State::done;
    waiter->request = {};
    waiter->code = code;
    waiter->stage = stage;
    waiter->retry_after = retry_after;
    ready(waiter, out);
}

// Tells the caller of a call that runs, before its model returns.
template <class Clock>
void SlotCore<Clock>::tell(CallWaiter& call, errc code, bool cancelled, Outbox& out) noexcept {
    if (call.told.exchange(true)) {
        return;
    }
    call.code = code;
    call.is_cancelled = cancelled;
    // Once the mutex is free it may end, and its record with it.
    call.key = call.record->key;
    (out.last_told == nullptr ? out.told : out.last_told->next_told) = &call;
    out.last_told = &call;
}

template <class Clock>
void SlotCore<Clock>::tell_all(Record& record, errc code, Outbox& out) noexcept {
    for (CallWaiter* call = record.running; call != nullptr; call = call->next_running) {
        tell(*call, code, false, out);
    }
}

template <class Clock>
void SlotCore<Clock>::begin_call(Waiter& waiter) noexcept {
    if (!waiter.is_call) {
        return;
    }
    auto& call = static_cast<CallWaiter&>(waiter);
    ++calls_;
    call.next_running = call.record->running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = &call;
    }
    call.record->running = &call;
}

template <class Clock>
void SlotCore<Clock>::end_call(CallWaiter& call) noexcept {
    --calls_;
    call.state = Waiter::State::done;
    (call.previous_running == nullptr ? call.record->running : call.previous_running->next_running) = call.next_running;
    if (call.next_running != nullptr) {
        call.next_running->previous_running = call.previous_running;
    }
}

template <class Clock>
void SlotCore<Clock>::begin_load(core::Index resident, Outbox& out) noexcept {
    const core::ResidentId id = scheduler_.residents().handle(resident);
    try {
        if (records_.size() <= resident) {
            records_.resize(std::size_t{resident} + 1);
        }
        std::shared_ptr<Record> record;
        if (spare_records_.empty()) {
            record = std::make_shared<Record>();
        } else {
            record = std::move(spare_records_.back());
            spare_records_.pop_back();
        }
        record->key = scheduler_.key_of(resident);
        record->id = id;
        records_[resident] = std::move(record);
        add_job(*records_[resident], Record::Job::load, out);
    } catch (...) {
        // Out of memory before the backend was asked: to those who wait it is a load that failed.
        scheduler_.load_failed(id, false, {}, now(), actions_);
    }
}

template <class Clock>
void SlotCore<Clock>::begin_unload(core::Index resident, Outbox& out) noexcept {
    Record& record = *records_[resident];
    if (unloads_in_place_) {
        record.job = Record::Job::unload;
        record.next_job = std::exchange(out.destroy, &record);
    } else if (record.gated) {
        record.job = Record::Job::unload;
    } else {
        add_job(record, Record::Job::unload, out);
    }
}

template <class Clock>
void SlotCore<Clock>::add_job(Record& record, Record::Job job, Outbox& out) noexcept {
    record.job = job;
    record.next_job = nullptr;
    (last_job_ == nullptr ? first_job_ : last_job_->next_job) = &record;
    last_job_ = &record;
    if (!job_runs_ && !has_lost_any_) {
        job_runs_ = true;
        out.starts_jobs = true;
    }
}

template <class Clock>
void SlotCore<Clock>::publish(const core::Action& action, const LoadFailure& failure, Outbox& out) noexcept {
    const bool ends = action.event == EventType::load_failed || action.event == EventType::load_aborted ||
                      action.event == EventType::unloaded;
    const std::shared_ptr<Record> record =
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
        if (action.event == EventType::load_failed) {
            event.message = failure.message;
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
void SlotCore<Clock>::publish_request(EventType type, Reason reason, const ModelKey& key, Outbox& out) noexcept {
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

// -- What people read ---------------------------------------------------------------------------------------------------------------

template <class Clock>
ShutdownReport SlotCore<Clock>::leftovers() const {
    ShutdownReport report;
    const auto& residents = scheduler_.residents();
    for (core::Index index = 0; index < residents.end_index(); ++index) {
        if (residents.used(index)) {
            report.leftovers.push_back(
                {name_, *scheduler_.key_of(index), residents[index].state, residents[index].leases});
        }
    }
    return report;
}

template <class Clock>
void SlotCore<Clock>::report_leftovers(PendingOperation& pending) const noexcept {
    try {
        pending.report = leftovers();
    } catch (...) {
        pending.unreported = true;
    }
}

template <class Clock>
SlotStatus SlotCore<Clock>::status() const {
    SlotStatus status;
    status.name = name_;
    const Lock lock(mutex_);
    const core::Time time = now();
    status.generation = scheduler_.generation();
    status.leases = scheduler_.leases();
    status.waiting = scheduler_.waiting();
    status.shutting_down = scheduler_.closed();
    status.counters = scheduler_.counters();
    status.counters.timer_waits = timer_waits_;
    const auto& residents = scheduler_.residents();
    const core::KeyTable& keys = scheduler_.room().keys();
    status.residents.reserve(residents.size());
    for (core::Index index = 0; index < residents.end_index(); ++index) {
        if (!residents.used(index)) {
            continue;
        }
        const core::Resident& resident = residents[index];
        ResidentStatus entry;
        entry.key = *keys[resident.key].key;
        entry.generation = resident.generation;
        entry.state = resident.state;
        entry.leases = resident.leases;
        if (resident.idle()) {
            entry.idle_for = time - resident.idle_since;
            if (resident.due() != core::never && keys[resident.key].waiting == 0) {
                entry.unloads_in = std::max(core::Duration::zero(), resident.due() - time);
            }
        }
        status.residents.push_back(std::move(entry));
    }
    for (core::Index index = keys.newest_failure(); index != core::none; index = keys[index].older_failure) {
        status.failures.push_back({*keys[index].key, keys[index].failure_message, keys[index].failures,
                                   std::max(core::Duration::zero(), core::later(keys[index].cooling_until, -time))});
    }
    return status;
}

}  // namespace residency::detail

#include "residency/slot/impl/slot_core_work.hpp"  // IWYU pragma: export
