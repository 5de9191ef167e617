#pragma once

#include "residency/backend.hpp"
#include "residency/bounded_text.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/event.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"
#include "residency/shell/event_queue.hpp"
#include "residency/shell/pending_teardown.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/waiter.hpp"
#include "residency/status.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace residency::detail {

/// What a slot publishes: makes events of decisions, loads and failed calls, and queues them. Out of memory is an event
/// less.
class SlotEvents {
public:
    SlotEvents(std::string slot, std::shared_ptr<EventQueue> queue) noexcept
        : slot_(std::move(slot)), queue_(std::move(queue)) {}

    /// Whether events are wanted. If not, none need be made.
    [[nodiscard]] bool wanted() const noexcept { return queue_->listened_to(); }
    /// Has the queued events delivered. Without a lock.
    void flush() const noexcept {
        if (wanted()) {
            queue_->flush();
        }
    }

    /// Queues what the scheduler decided to publish; `record` is that of the action's resident, or null. Under the
    /// slot's mutex, so that events and their times are in order.
    void push(const core::Action& action, const ResidentRecord* record, const core::SlotScheduler& scheduler,
              core::Time now) const noexcept {
        push(now, [&](Event& event) {
            event.type = action.event;
            event.reason = action.reason;
            event.generation = action.generation;
            event.duration = action.duration;
            if (action.event == EventType::timed_out) {
                event.stage = action.stage;
                event.load_time = action.load_time;
                event.call_time = action.call_time;
                event.queue_time = action.duration - action.load_time - action.call_time;
                event.key = *scheduler.key_of_entry(action.key);
            } else if (action.event == EventType::rejected) {
                event.count = action.count;
                event.key = *scheduler.refusals().key(action.reason);
            } else if (action.key != core::none) {
                event.key = *scheduler.key_of_entry(action.key);
                if (const core::Failure* const failure = scheduler.queue().keys().failure(action.key);
                    failure != nullptr && failure->message) {
                    event.message = *failure->message;
                }
            } else if (record != nullptr) {
                event.key = *record->key;
                if (scheduler.residents().contains(record->id)) {
                    event.bytes = scheduler.residents()[record->id.index].bytes;
                }
                if (action.event == EventType::load_failed && record->message) {
                    event.message = *record->message;
                }
            }
        });
    }
    /// Queues that a shutdown is complete. Under the slot's mutex.
    void push_completed(const PendingTeardown& shutdown, core::Time now) const noexcept {
        push(now, [&](Event& event) {
            event.type = EventType::shutdown_completed;
            event.reason = Reason::shutdown;
            event.message = bounded(to_string(shutdown.report));
        });
    }
    /// Queues an event that `fill(event)` makes. Under the slot's mutex.
    template <class Fill>
    void push(core::Time now, const Fill& fill) const noexcept {
        if (!wanted()) {
            return;
        }
        try {
            Event event;
            event.slot = slot_;
            event.time = now;
            fill(event);
            queue_->push(std::move(event));
        } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
        }
    }

    /// Makes the event that a model failed in the call of `call`. Its time is set already.
    static void fill_inference_failed(Event& event, const InferenceWaiter& call, const std::string& message) {
        const ResidentRecord& record = *call.record;
        const core::Time began = call.first_in_call ? call.first_in_call->began : call.began;
        event.type = EventType::inference_failed;
        event.stage = Stage::inference;
        event.key = *record.key;
        event.generation = record.generation;
        event.message = message;
        event.duration = event.time - call.came;
        event.call_time = event.time - began;
        event.load_time = (std::max)(core::Duration::zero(),
                                     (std::min)(began, record.load_ended) - (std::max)(call.came, record.load_began));
        event.queue_time = event.duration - event.call_time - event.load_time;
    }

    /// Where a load's progress and lines go: `publish(fill)` queues an event that `fill` makes. Of no use after the
    /// load.
    template <class Publish>
    [[nodiscard]] LoadContext::Sink sink_for(const ResidentRecord& record, Publish publish) const {
        if (!wanted()) {
            return {};
        }
        LoadContext::Sink sink;
        sink.progress = [publish, &record, published = -1.0F](float reported) mutable {
            if (is_nan(reported)) {
                return;
            }
            const float done = std::clamp(reported, 0.0F, 1.0F);
            if (done >= published + 0.01F || (done >= 1.0F && published < 1.0F)) {
                published = done;
                publish([&](Event& event) {
                    event.type = EventType::load_progress;
                    event.progress = done;
                    event.key = *record.key;
                });
            }
        };
        sink.log = [publish, &record](Severity severity, std::string_view line) {
            publish([&](Event& event) {
                event.type = EventType::load_log;
                event.severity = severity;
                event.message = bounded(line);
                event.key = *record.key;
            });
        };
        return sink;
    }

private:
    const std::string slot_;
    const std::shared_ptr<EventQueue> queue_;
};

}  // namespace residency::detail
