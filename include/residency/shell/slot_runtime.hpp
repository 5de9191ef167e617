#pragma once

#include "residency/error.hpp"
#include "residency/event.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/shell/event_queue.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// What the slots of one manager share: executors, the host's or threads of their own, and the queue of events.
template <class Clock>
class SlotRuntime {
public:
    /// Uses the host's executors if it gave them, or makes threads for `slots` slots that grant at most `most_leases` leases each.
    /// Throws std::invalid_argument if the host gave some of the three and not all; std::system_error if a thread cannot be made.
    SlotRuntime(const Executors& executors, const Observer& observer, std::size_t slots, std::size_t most_leases)
        : executors_(executors) {
        if (executors.complete()) {
            events_ = std::make_shared<EventQueue>(observer, executors_.control);
            return;
        }
        if (executors.control || executors.inference || executors.loading) {
            throw std::invalid_argument(
                "residency: Executors needs all of control, inference and loading, or none of them; Executors::all "
                "gives one for all");
        }
        if constexpr (!std::is_same_v<Clock, std::chrono::steady_clock>) {
            throw std::invalid_argument(
                "residency: with a Clock other than std::chrono::steady_clock give all of Executors: threads that wait "
                "for another clock would spin");
        }
        owned_ = std::make_unique<Owned>(slots, runtime::default_inference_threads(most_leases), observer);
        executors_ = {owned_->control.context()->get_executor(), owned_->inference.context()->get_executor(),
                      owned_->loading.context()->get_executor()};
        events_ = owned_->events;
    }
    SlotRuntime(const SlotRuntime&) = delete;
    SlotRuntime& operator=(const SlotRuntime&) = delete;
    /// After the slots were abandoned: waits for owned threads to finish what runs; with the host's executors, or on a thread of its own,
    /// it lets everything go and returns at once.
    ~SlotRuntime() {
        if (owned_ && owned_->runs_in_this_thread()) {
            events_->close();
            owned_->detach();
        }
        owned_.reset();
        // Nobody is there any more to deliver to the observer.
        events_->close();
    }

    /// The executors.
    [[nodiscard]] const Executors& executors() const noexcept { return executors_; }
    /// The events.
    [[nodiscard]] const std::shared_ptr<EventQueue>& events() const noexcept { return events_; }
    /// Whether the threads are its own.
    [[nodiscard]] bool owns_threads() const noexcept { return owned_ != nullptr; }
    /// Keeps the contexts of owned threads alive.
    [[nodiscard]] std::shared_ptr<void> keep() const {
        return owned_ ? std::make_shared<std::array<std::shared_ptr<asio::io_context>, 3>>(std::array{
                            owned_->control.context(), owned_->inference.context(), owned_->loading.context()})
                      : nullptr;
    }

private:
    struct Owned {
        Owned(std::size_t slots, std::size_t inference_threads, const Observer& observer)
            : context(std::make_shared<asio::io_context>(1)),
              events(std::make_shared<EventQueue>(observer, context->get_executor())),
              control(context, 1, report_to(events)),
              loading(std::make_shared<asio::io_context>(static_cast<int>(slots)), slots, report_to(events)),
              inference(std::make_shared<asio::io_context>(static_cast<int>(inference_threads)), inference_threads,
                        report_to(events)) {}

        [[nodiscard]] bool runs_in_this_thread() const noexcept {
            return control.runs_in_this_thread() || loading.runs_in_this_thread() || inference.runs_in_this_thread();
        }
        void detach() noexcept {
            inference.detach();
            loading.detach();
            control.detach();
        }
        // All of it: the event has neither the key nor the stage of a request whose error the handler let go on.
        static std::string sentence_of(const std::exception_ptr& exception) {
            try {
                std::rethrow_exception(exception);
            } catch (const Error& error) {
                return error.what();
            } catch (...) {
                return message_of(exception);
            }
        }
        static runtime::OwnedThreads::Report report_to(const std::shared_ptr<EventQueue>& events) {
            return [events](const std::exception_ptr& exception) {
                try {
                    Event event;
                    event.type = EventType::handler_threw;
                    event.message = sentence_of(exception);
                    events->push(std::move(event));
                } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
                }
                events->flush();
            };
        }

        // Ended from the last to the first: calls need the loading threads for what they unload, and all need control.
        std::shared_ptr<asio::io_context> context;
        std::shared_ptr<EventQueue> events;
        runtime::OwnedThreads control;
        runtime::OwnedThreads loading;
        runtime::OwnedThreads inference;
    };

    Executors executors_;
    std::unique_ptr<Owned> owned_;
    std::shared_ptr<EventQueue> events_;
};

/// One slot of a runtime to be made.
struct SlotPlan {
    const SlotOptions& options;
    std::string_view name;
};

/// Checks the options, then makes what slots with these options share.
template <class Clock, std::size_t Slots>
[[nodiscard]] std::shared_ptr<SlotRuntime<Clock>> make_runtime(const Executors& executors,
                                                               const SlotPlan (&slots)[Slots],  // NOLINT
                                                               const Observer& observer) {
    std::size_t most_leases = 0;
    for (const SlotPlan& slot : slots) {
        check(slot.options, slot.name);
        most_leases = std::max(most_leases, slot.options.max_leases);
    }
    return std::make_shared<SlotRuntime<Clock>>(executors, observer, Slots, most_leases);
}

}  // namespace residency::detail
