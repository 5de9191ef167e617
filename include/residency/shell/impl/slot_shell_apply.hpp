#pragma once

#include "residency/shell/slot_shell.hpp"

// The one way of SlotShell from a decision to its effects: lock, let the scheduler decide, collect, unlock, carry out.

namespace residency::detail {

template <class Clock>
template <class Decide>
void SlotShell<Clock>::apply(const Decide& decide) {
    Outbox out;
    {
        const Lock lock(mutex_);
        decide(out);
        collect(out);
    }
    carry_out(std::move(out));
}

template <class Clock>
void SlotShell<Clock>::collect(Outbox& out) noexcept {
    collect_actions(out, actions_.size());
    fail_loads_without_record(out);
    generation_.store(scheduler_.generation().value(), std::memory_order_release);
    constexpr std::size_t kept = 1024;
    if (scheduler_.queue().requests().size() == 0 && waiters_.size() > kept) {
        waiters_.clear();
    }
    records_.remove_gone(scheduler_.residents(), out.gone);
    settle(out);
    ++carrying_out_;
    deliveries_ += out.delivers ? 1U : 0U;
}

// The first `count` actions.
template <class Clock>
void SlotShell<Clock>::collect_actions(Outbox& out, std::size_t count) noexcept {
    for (std::size_t index = 0; index < count; ++index) {
        collect(actions_[index], out);
    }
    actions_.erase(actions_.begin(), actions_.begin() + static_cast<std::ptrdiff_t>(count));
}

// Loads for which there was no memory before the backend was asked: to their waiters they have failed. Each failure is
// a call of its own, once the actions of the one before are collected: there is room for those of one call.
template <class Clock>
void SlotShell<Clock>::fail_loads_without_record(Outbox& out) noexcept {
    const auto& residents = scheduler_.residents();
    while (std::exchange(lacks_record_, false)) {
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (residents.used(index) && residents[index].is_load() && !residents[index].failed &&
                records_.find(index) == nullptr) {
                scheduler_.load_failed(residents.handle(index), errc::load_failed, nullptr, now(), actions_);
                collect_actions(out, actions_.size());
            }
        }
    }
}

template <class Clock>
void SlotShell<Clock>::collect(core::Action action, Outbox& out) noexcept {
    switch (action.type) {
        case core::ActionType::grant: {
            const boost::intrusive_ptr<Waiter> waiter =
                action.kept ? waiters_[action.subject] : std::move(waiters_[action.subject]);
            out.grant(waiter, records_.find(action.resident), action.generation,
                      action.kept ? waiter->request : core::RequestId());
            out.delivers = true;
            break;
        }
        case core::ActionType::fail: {
            const boost::intrusive_ptr<Waiter> waiter = std::move(waiters_[action.subject]);
            if (const ResidentRecord* const record = records_.find(action.resident)) {
                waiter->cause = record->cause;
            }
            out.fail(waiter, action.code, action.stage, action.duration);
            out.delivers = true;
            break;
        }
        case core::ActionType::expire:
            // Only an inference's deadline goes on after its grant.
            if (const boost::intrusive_ptr<Waiter> call = std::move(waiters_[action.subject])) {
                out.complete_early(static_cast<InferenceWaiter&>(*call), errc::timed_out);
                out.delivers = true;
            }
            break;
        case core::ActionType::load: begin_load(action.resident, out); break;
        case core::ActionType::stop_load: out.stops.push(records_[action.resident]); break;
        case core::ActionType::revoke:
            out.complete_all_early(*records_[action.resident], action.code);
            out.delivers = true;
            break;
        case core::ActionType::unload: begin_unload(action.resident, out); break;
        case core::ActionType::complete: complete_teardown(action, out); break;
        case core::ActionType::event: events_.push(action, records_.find(action.resident), scheduler_, now()); break;
    }
}

// What follows from the state alone: the alarm, and shutdowns that nothing keeps any more.
template <class Clock>
void SlotShell<Clock>::settle(Outbox& out) noexcept {
    out.moves_alarm = alarm_.wants(wanted_alarm());
    out.stops_in_place = stops_in_place_ || abandoned_;
    if (!teardowns_.has_finishing()) {
        return;
    }
    shutdown_waits_ = true;
    // R12: first the handlers of all requests before it are posted. Those in `out` come before it anyway.
    const bool posted = deliveries_ == 0;
    const bool quiet = abandoned_ || alarm_.quiet();
    teardowns_.take_finished([&](const PendingTeardown& shutdown) { return posted && (shutdown.is_late || quiet); },
                             [&](std::shared_ptr<PendingTeardown> shutdown) {
                                 mutex_.assert_held();
                                 events_.push_completed(*shutdown, now());
                                 out.teardowns.push(std::move(shutdown));
                             });
    // One that waits for the alarm alone is looked at when that has ended.
    shutdown_waits_ = !posted && teardowns_.has_finishing();
}

// The library's own bookkeeping comes first, then completions, and user code last (R16).
template <class Clock>
void SlotShell<Clock>::carry_out(Outbox&& out) noexcept {
    while (!out.loads.empty()) {
        post_load(out.loads.pop());
    }
    while (!out.unloads_in_place && !out.unloads.empty()) {
        post_unload(out.unloads.pop());
    }
    if (out.moves_alarm) {
        sync_alarm();
    }
    ErrorWriter errors(name_, options_);
    out.complete(errors);
    if (out.delivers) {
        delivered();
    }
    events_.flush();
    while (!out.teardowns.empty()) {
        out.teardowns.pop()->completed();
    }
    if (!out.stops.empty() && !out.stops_in_place) {
        post_stops(std::move(out.stops));
    }
    // Nothing is posted from here on: the executors may end.
    --carrying_out_;
    if (!out.stops.empty()) {
        out.stops.request(executors_.owner);
    }
    while (!out.unloads.empty()) {
        run_unload(*out.unloads.pop());
    }
}

template <class Clock>
void SlotShell<Clock>::begin_load(core::Index resident, Outbox& out) noexcept {
    try {
        out.loads.push(
            records_.add(scheduler_.residents().handle(resident), scheduler_.key_of(resident), *this, out.gone));
    } catch (...) {
        lacks_record_ = true;
    }
}

template <class Clock>
void SlotShell<Clock>::begin_unload(core::Index resident, Outbox& out) noexcept {
    records_[resident]->awaits_destruction = true;
    records_[resident]->is_destroyed_in_place = unloads_in_place_;
    out.unloads.push(records_[resident]);
    out.unloads_in_place = unloads_in_place_;
}

template <class Clock>
void SlotShell<Clock>::report(PendingTeardown& shutdown) const noexcept {
    try {
        report_leftovers(scheduler_, name_, shutdown.report);
    } catch (...) {
        shutdown.error = std::current_exception();
    }
}

template <class Clock>
void SlotShell<Clock>::complete_teardown(const core::Action& action, Outbox& out) noexcept {
    std::shared_ptr<PendingTeardown> teardown = teardowns_.take(action.subject);
    if (!teardown) {
        return;
    }
    teardown->is_late = action.late;
    if (!teardown->is_shutdown) {
        out.teardowns.push(std::move(teardown));
        return;
    }
    if (action.late) {
        report(*teardown);
    }
    teardowns_.finish(std::move(teardown));
}

// The slot is being destroyed: unloads are cut short, and shutdowns say what is left now.
template <class Clock>
void SlotShell<Clock>::end_teardowns(Outbox& out) noexcept {
    teardowns_.take_all([&](std::shared_ptr<PendingTeardown> teardown) {
        mutex_.assert_held();
        scheduler_.forget(teardown->id);
        teardown->is_late = true;
        if (teardown->is_shutdown) {
            report(*teardown);
            teardowns_.finish(std::move(teardown));
            return;
        }
        teardown->error = make_error_of([this] {
            return Error(errc::shutting_down, ModelKey(), Stage::unload,
                         "slot '" + name_ + "' was destroyed before everything was unloaded");
        });
        out.teardowns.push(std::move(teardown));
    });
}

}  // namespace residency::detail
