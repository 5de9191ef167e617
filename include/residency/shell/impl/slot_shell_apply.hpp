#pragma once

#include "residency/shell/slot_shell.hpp"

// The one way of SlotShell from a decision to its effects: lock, let the scheduler decide, collect, unlock, carry out.

namespace residency::detail {

template <class Clock>
template <class Decide>
void SlotShell<Clock>::apply(const Decide& decide) {
    if (this->is_in_child()) {
        return;
    }
    Outbox out;
    {
        const Lock lock(mutex_);
        decide(out);
        state_.collect(out);
        settle(out);
        ++carrying_out_;
        deliveries_ += out.delivers ? 1U : 0U;
    }
    carry_out(std::move(out));
}

// What follows from the state alone: the generation, the alarm, and shutdowns that nothing keeps any more.
template <class Clock>
void SlotShell<Clock>::settle(Outbox& out) noexcept {
    generation_.store(state_.scheduler.generation().value(), std::memory_order_release);
    out.moves_alarm = alarm_.wants(wanted_alarm());
    out.stops_in_place = stops_in_place_ || state_.abandoned;
    out.speaks_to_budget = memory_ && memory_->begin_delivery(state_.scheduler);
    if (state_.teardowns.has_finishing()) {
        complete_shutdowns(out);
    }
}

// Apart, as it is rarely called: within `apply` it would lengthen every request.
template <class Clock>
void SlotShell<Clock>::complete_shutdowns(Outbox& out) noexcept {
    shutdown_waits_ = true;
    // R12: first the handlers of all requests before it are posted. Those in `out` come before it anyway.
    const bool posted = deliveries_ == 0;
    const bool quiet = state_.abandoned || alarm_.quiet();
    const core::Time time = now();
    state_.teardowns.take_finished(
        [&](const PendingTeardown& shutdown) { return posted && (shutdown.is_late || quiet || shutdown.due <= time); },
        [&](std::shared_ptr<PendingTeardown> shutdown) {
            events_.push_completed(*shutdown, time);
            out.teardowns.push(std::move(shutdown));
        });
    // One that waits for the alarm alone is looked at when that has ended.
    shutdown_waits_ = !posted && state_.teardowns.has_finishing();
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
    while (!out.parts.empty()) {
        CallPart& part = *out.parts.pop();
        part.call->start_part(part);
    }
    if (out.sized_entry != core::none) {
        SlotMemory<SlotShell>::post_size(this->shared_from_this(), out.sized_entry, out.sized_key);
    }
    ErrorWriter errors(name_, options_, budget_.get());
    out.complete(errors);
    if (out.delivers) {
        delivered();
    }
    events_.flush();
    while (!out.teardowns.empty()) {
        out.teardowns.pop()->completed();
    }
    if (out.speaks_to_budget) {
        memory_->deliver(*this);
    }
    if (!out.stops.empty() && !out.stops_in_place) {
        post_stops(std::move(out.stops), executors_, this->shared_from_this());
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

}  // namespace residency::detail
