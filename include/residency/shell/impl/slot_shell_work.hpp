#pragma once

#include "residency/shell/slot_shell.hpp"

// The work of SlotShell that has an executor of its own: loads and unloads, the alarm, the end of the slot and of its contexts.

namespace residency::detail {

// -- Loading executor: one job at a time ----------------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::run_jobs() noexcept {
    ResidentRecord* job = nullptr;
    {
        const Lock lock(mutex_);
        job = jobs_.pop();
    }
    if (job->job == ResidentRecord::Job::load) {
        run_load(*job);
    } else {
        run_unload(*job);
    }
    Outbox out;
    {
        const Lock lock(mutex_);
        // Posted anew for each job, so that other slots on the same thread have their turn.
        out.starts_jobs = !jobs_.empty() && !loading_lost_;
        job_runs_ = out.starts_jobs;
        settle(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::run_load(ResidentRecord& record) noexcept {
    void* model = nullptr;
    std::size_t capacity = 0;
    LoadFailure failure;
    std::string message;
    bool cools_down = true;
    try {
        const runtime::UserCodeScope mark;
        if (record.stop.stop_requested()) {
            throw Error(operation_aborted(), *record.key, Stage::load, "nobody waits for the model any more");
        }
        LoadContext context(record.stop.get_token(), sink_for(record));
        model = load_model(*record.key, context, capacity);
        if (model == nullptr) {
            throw Error(errc::load_failed, *record.key, Stage::load,
                        "the backend's load returned null; it must throw to fail");
        }
    } catch (const Error& error) {
        failure.cause = std::current_exception();
        cools_down = error.code() != errc::invalid_request;
    } catch (...) {
        failure.cause = std::current_exception();
    }
    if (failure.cause) {
        try {
            const runtime::UserCodeScope mark;
            failure.message = message_of(failure.cause);
            message = failure.message;
        } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: a failure without its words
        }
    }
    Outbox out;
    {
        const Lock lock(mutex_);
        const core::ResidentId id = record.id;
        record.job = ResidentRecord::Job::none;
        if (model != nullptr) {
            record.model = model;
            scheduler_.loaded(id, capacity, now(), actions_);
            record.generation = scheduler_.residents()[id.index].generation;
        } else {
            scheduler_.load_failed(id, cools_down, std::move(message), now(), actions_);
        }
        collect(out, &failure);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::run_unload(ResidentRecord& record) noexcept {
    {
        const runtime::UserCodeScope mark;
        destroy_model(std::exchange(record.model, nullptr));
    }
    Outbox out;
    {
        const Lock lock(mutex_);
        scheduler_.unloaded(record.id, now(), actions_);
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
LoadContext::Sink SlotShell<Clock>::sink_for(const ResidentRecord& record) {
    if (!events_->listened_to()) {
        return {};
    }
    // Lives as long as the load, and so does the record.
    LoadContext::Sink sink;
    sink.progress = [this, &record, published = -1.0F](float told) mutable {
        // A NaN is none of these and is passed over.
        const float done = std::clamp(told, 0.0F, 1.0F);
        if (done >= published + 0.01F || (done >= 1.0F && published < 1.0F)) {
            published = done;
            Event event;
            event.type = EventType::load_progress;
            event.progress = done;
            publish_load(record, std::move(event));
        }
    };
    sink.log = [this, &record](Severity severity, std::string_view line) {
        Event event;
        event.type = EventType::load_log;
        event.severity = severity;
        event.message = line;
        publish_load(record, std::move(event));
    };
    return sink;
}

template <class Clock>
void SlotShell<Clock>::publish_load(const ResidentRecord& record, Event event) noexcept {
    try {
        event.slot = name_;
        event.key = *record.key;
        events_->push(std::move(event));
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
    }
    if (!has_lost_any_) {
        events_->flush();
    }
}

// -- Inference executor ---------------------------------------------------------------------------------------------------------------

/// Runs a call once. If its executor drops it instead, the lease is given back.
class InferenceJob {
public:
    explicit InferenceJob(boost::intrusive_ptr<InferenceWaiter> call) noexcept : call_(std::move(call)) {}
    InferenceJob(InferenceJob&&) noexcept = default;
    InferenceJob& operator=(InferenceJob&&) = delete;
    ~InferenceJob() {
        if (call_) {
            call_->dropped();
        }
    }

    void operator()() {
        const boost::intrusive_ptr<InferenceWaiter> call = std::move(call_);
        call->run();
    }

private:
    boost::intrusive_ptr<InferenceWaiter> call_;
};

template <class Clock>
void SlotShell<Clock>::run_inference(boost::intrusive_ptr<InferenceWaiter> call) noexcept {
    InferenceJob job(std::move(call));
    if (!has_lost_any_) {
        asio::post(executors_.inference, std::move(job));
    }
}

// -- Control executor: one thread of work at a time ---------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::post_control() noexcept {
    asio::post(executors_.control, [self = this->shared_from_this()] { self->run_control(); });
}

// Brings the alarm in line with what the scheduler wants. Looks again under the mutex after each step, so that two threads that wanted
// different times cannot swap what they do.
template <class Clock>
void SlotShell<Clock>::run_control() noexcept {
    using Step = typename runtime::Alarm<Clock>::Step;
    {
        const Lock lock(mutex_);
        control_posted_ = false;
        if (control_runs_) {
            return;
        }
        control_runs_ = true;
    }
    for (;;) {
        Step step = Step::nothing;
        core::Time at = core::never;
        Outbox out;
        {
            const Lock lock(mutex_);
            at = wanted_alarm();
            if (!control_lost_) {
                step = alarm_.plan(at);
            }
            if (step == Step::start) {
                ++timer_waits_;
            } else if (step == Step::nothing) {
                control_runs_ = false;
                settle(out);
            }
        }
        if (step == Step::nothing) {
            carry_out(std::move(out));
            return;
        }
        if (step == Step::start) {
            try {
                alarm_.start(
                    at, [self = this->shared_from_this()](const boost::system::error_code&) { self->alarm_ended(); });
            } catch (...) {
                // No memory for the wait: it is as if it had ended at once. Control does this again, in turn with its other work, until
                // there is memory or nothing to wait for.
                alarm_ended(true);
                return;
            }
        } else {
            alarm_.cancel();
        }
    }
}

// Whatever the wait's error code says: that it ended is all that is known, and what is due is looked up. `at_its_start`: it could not
// begin, and whoever runs control leaves it at that.
template <class Clock>
void SlotShell<Clock>::alarm_ended(bool at_its_start) noexcept {
    Outbox out;
    {
        const Lock lock(mutex_);
        control_runs_ = control_runs_ && !at_its_start;
        alarm_.ended();
        scheduler_.tick(now(), actions_);
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::event_passed(void* token) noexcept {
    Outbox out;
    {
        const Lock lock(mutex_);
        if (token == nullptr) {
            out.complete.append(announced_);
        } else {
            ResidentRecord& record = *static_cast<ResidentRecord*>(token);
            record.gated = false;
            if (record.job == ResidentRecord::Job::unload) {
                add_job(record, ResidentRecord::Job::unload, out);
            }
        }
        settle(out);
    }
    carry_out(std::move(out));
}

// -- The end --------------------------------------------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::abandon() noexcept {
    Outbox out;
    {
        const Lock lock(mutex_);
        if (abandoned_) {
            return;
        }
        abandoned_ = true;
        if (scheduler_.leases() != 0) {
            self_ = this->shared_from_this();
        }
        scheduler_.close(now(), actions_);
        for (const std::shared_ptr<ResidentRecord>& record : records_) {
            if (record) {
                complete_all_early(*record, errc::shutting_down, out);
            }
        }
        collect(out);
        end_operations(out);
        if (guards_.empty()) {
            // The host's executors: what is free by now goes where it always goes; what is freed later goes where that happens.
            unloads_in_place_ = true;
        }
    }
    carry_out(std::move(out));
}

// Whoever waits for an unload or a shutdown is told what is left now.
template <class Clock>
void SlotShell<Clock>::end_operations(Outbox& out) noexcept {
    for (std::shared_ptr<PendingOperation>& pending : operations_) {
        if (pending) {
            scheduler_.forget(pending->id);
            pending->cut_short = !pending->shutdown;
            report_leftovers(*pending);
            out.complete.push(std::move(pending));
        }
    }
}

template <class Clock>
bool SlotShell<Clock>::is_among_lost(const asio::execution_context* context) const noexcept {
    const Lock lock(mutex_);
    return std::find(lost_.begin(), lost_.end(), context) != lost_.end();
}

template <class Clock>
void SlotShell<Clock>::context_ends(asio::execution_context& context) noexcept {
    // Taken out under the mutex, destroyed without it, while the context's services are still there.
    std::optional<asio::basic_waitable_timer<Clock>> timer;
    Outbox out;
    {
        const Lock lock(mutex_);
        const auto free_place = std::find(lost_.begin(), lost_.end(), nullptr);
        if (free_place != lost_.end()) {
            *free_place = &context;
        }
        has_lost_any_ = true;
        abandoned_ = true;
        unloads_in_place_ = true;
        if (is_of(executors_.control, context)) {
            control_lost_ = true;
            timer = alarm_.take();
            alarm_.ended();
        }
        loading_lost_ = loading_lost_ || is_of(executors_.loading, context);
        if (scheduler_.leases() != 0 && !self_) {
            self_ = this->shared_from_this();
        }
        scheduler_.close(now(), actions_);
        for (const std::shared_ptr<ResidentRecord>& record : records_) {
            if (record) {
                complete_all_early(*record, errc::shutting_down, out);
            }
        }
        collect(out);
        end_operations(out);
        // Their event may be on its way; the context of their handlers may be this one.
        out.complete.append(announced_);
    }
    carry_out(std::move(out));
    events_->close();
}

}  // namespace residency::detail
