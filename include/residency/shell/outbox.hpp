#pragma once

#include "residency/core/action.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/error_code.hpp"
#include "residency/generation.hpp"
#include "residency/shell/call_part.hpp"
#include "residency/shell/error_writer.hpp"
#include "residency/shell/intrusive_queue.hpp"
#include "residency/shell/pending_teardown.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/running_calls.hpp"
#include "residency/shell/stop_requests.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <memory>
#include <utility>

namespace residency::detail {

/// What a decision asks the shell to do once the mutex is free. Collecting it needs no memory.
struct Outbox {
    /// Loads to begin.
    IntrusiveQueue<&ResidentRecord::next_job> loads{};
    /// Models to destroy.
    IntrusiveQueue<&ResidentRecord::next_job> unloads{};
    /// Whether models are destroyed on this thread.
    bool unloads_in_place = false;
    /// Whether the alarm is to be moved.
    bool moves_alarm = false;
    /// Waiters that have what they wanted, or failed.
    IntrusiveQueue<&Waiter::next_ready> ready{};
    /// Inferences that complete before their models return.
    IntrusiveQueue<&InferenceWaiter::next_early> early{};
    /// Unloads and shutdowns that are complete.
    IntrusiveQueue<&PendingTeardown::next> teardowns{};
    /// Loads to stop; the calls are those in `early`.
    StopRequests stops{};
    /// Parts whose calls are to begin.
    IntrusiveQueue<&CallPart::next> parts{};
    /// A key that the backend is to be asked about, and its entry; none if there is none. One call asks for one at
    /// most.
    core::Index sized_entry = core::none;
    core::SharedKey sized_key{};
    /// Whether this thread brings the memory budget what the slot has to say.
    bool speaks_to_budget = false;
    /// Whether this thread requests the stops.
    bool stops_in_place = false;
    /// Whether requests complete that were accepted.
    bool delivers = false;
    /// Records of residents that are gone: what they own is destroyed without the mutex.
    IntrusiveQueue<&ResidentRecord::next_job> gone{};

    /// The waiter has what it wanted: a lease on `record`, or its model is ready as `generation`. `request` is its name
    /// in the scheduler from now on, if it keeps one.
    void grant(const boost::intrusive_ptr<Waiter>& waiter, ResidentRecord* record, Generation generation,
               core::RequestId request) noexcept {
        waiter->is_granted = true;
        if (waiter->wants_lease) {
            waiter->state = Waiter::State::leased;
            waiter->record = record;
        } else {
            waiter->state = Waiter::State::done;
            std::construct_at(&waiter->generation, generation);
        }
        waiter->request = request;
        if (waiter->is_inference) {
            begin_call(static_cast<InferenceWaiter&>(*waiter));
        }
        ready.push(waiter);
    }
    /// The request shares the call of `first`, which has been granted its lease.
    void join(InferenceWaiter& first, const boost::intrusive_ptr<InferenceWaiter>& waiter,
              core::RequestId request) noexcept {
        waiter->is_granted = true;
        waiter->state = Waiter::State::leased;
        waiter->record = first.record;
        waiter->request = request;
        begin_call(*waiter);
        first.join(waiter);
    }
    /// The request, which is cut, has a lease on `record` for `count` texts from place `first` on. `request` is its
    /// name in the scheduler from now on, if it keeps one.
    void begin_part(InferenceWaiter& call, ResidentRecord* record, core::Index first, core::Index count,
                    core::RequestId request) noexcept {
        call.is_granted = true;
        call.state = Waiter::State::leased;
        call.request = request;
        if (call.cut->running++ == 0) {
            // Parts that run at once are on one resident, and look at its record without the mutex.
            call.record = record;
            begin_call(call);
        }
        CallPart& part = call.cut->take();
        part = {&call, record, first, count, nullptr};
        parts.push(&part);
    }
    /// The waiter fails. One that is cut and was given a part completes early: its parts may run.
    void fail(const boost::intrusive_ptr<Waiter>& waiter, errc code, Stage stage, core::Duration retry_after) noexcept {
        if (waiter->is_granted) {
            auto& call = static_cast<InferenceWaiter&>(*waiter);
            call.request = {};
            call.cut->retry_after = retry_after;
            complete_early(call, code);
            return;
        }
        waiter->state = Waiter::State::done;
        waiter->request = {};
        waiter->code = code;
        waiter->stage = stage;
        waiter->retry_after = retry_after;
        ready.push(waiter);
    }
    /// A call that has its lease completes before its model returns, unless it has completed already.
    void complete_early(InferenceWaiter& call, errc code, bool cancelled = false) noexcept {
        if (call.completed_early.exchange(true)) {
            return;
        }
        call.code = code;
        call.is_cancelled = cancelled;
        // Once the mutex is free it may end, and its record with it. That of one that is cut may be gone already.
        if (!call.key) {
            call.key = call.record->key;
        }
        early.push(&call);
    }
    /// The same for all calls on a resident.
    void complete_all_early(ResidentRecord& record, errc code) noexcept {
        for (InferenceWaiter* call = record.running; call != nullptr; call = call->next_running) {
            complete_early(*call, code);
        }
    }

    /// Completes the requests. Their calls are to be asked to stop afterwards. Without a lock.
    void complete(ErrorWriter& errors) noexcept {
        while (!ready.empty()) {
            const boost::intrusive_ptr<Waiter> waiter = ready.pop();
            if (waiter->is_granted) {
                waiter->granted();
            } else {
                waiter->failed(errors.failed(*waiter));
            }
        }
        while (!early.empty()) {
            boost::intrusive_ptr<InferenceWaiter> call = early.pop();
            call->failed(errors.completed_early(*call));
            stops.push(std::move(call));
        }
    }
};

}  // namespace residency::detail
