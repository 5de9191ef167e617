#pragma once

#include "residency/bounded_text.hpp"
#include "residency/error.hpp"
#include "residency/event.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/runtime/owned_threads.hpp"
#include "residency/runtime/process.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/event_queue.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::detail {

/// Where one slot does its work.
struct SlotExecutors {
    asio::any_io_executor control{};
    asio::any_io_executor inference{};
    asio::any_io_executor loading{};
    asio::any_io_executor unloading{};
    asio::any_io_executor callbacks{};
    /// The runtime, as `UserCodeScope` knows it.
    const void* owner = nullptr;
    /// Whether these are threads of the runtime's own.
    bool owns_threads = false;

    /// Whether stop requests have no executor that they could not delay: then the thread that decides requests them.
    [[nodiscard]] bool stops_in_place() const noexcept {
        const asio::execution_context* const context = runtime::context_of(callbacks);
        return context == runtime::context_of(inference) || context == runtime::context_of(loading);
    }

    /// Whether a call that waits for them on this thread could only hang: it is in user code, or runs one of them.
    [[nodiscard]] bool would_deadlock() const {
        return runtime::UserCodeScope::active(owner) || runtime::runs_in_this_thread(control) ||
               runtime::runs_in_this_thread(inference) || runtime::runs_in_this_thread(loading) ||
               runtime::runs_in_this_thread(unloading) || runtime::runs_in_this_thread(callbacks);
    }
};

/// Why a manager ends.
enum class Ending : std::uint8_t {
    /// It is being destroyed.
    destruction,
    /// The process exits: executors of the host may never run again.
    exit,
};

/// What a runtime asks of a slot's shell as both end.
class EndingSlot {
public:
    /// Refuses new requests, completes all others, requests stop. Work already posted keeps the shell alive.
    virtual void abandon() noexcept = 0;
    /// From now on models are destroyed where their last lease or call ends, and nothing is posted to an executor. With
    /// `executors_ended` also those that an executor did not come to.
    virtual void unload_in_place(bool executors_ended) noexcept = 0;

protected:
    ~EndingSlot() = default;
};

/// What the slots of one manager share: executors, the host's or threads of their own, and the queue of events.
template <class Clock>
class SlotRuntime {
public:
    /// Uses the host's executors if it gave them, or starts threads, `inference_threads` for the calls of each slot.
    /// The options have been checked, and their `max_calls` resolved. Throws std::invalid_argument if the host gave
    /// some executors and not all; std::system_error if a thread cannot be made.
    SlotRuntime(const Executors& executors, const Observer& observer, std::vector<SlotOptions> all_options,
                const std::vector<std::size_t>& inference_threads)
        : options_(std::move(all_options)) {
        if (executors.complete()) {
            const asio::any_io_executor callbacks = executors.callbacks ? executors.callbacks : executors.control;
            slots_.assign(options_.size(), {executors.control, executors.inference, executors.loading,
                                            executors.loading, callbacks, this, false});
            events_ = std::make_shared<EventQueue>(observer, callbacks, this);
            return;
        }
        if (executors.control || executors.inference || executors.loading || executors.callbacks) {
            throw std::invalid_argument(
                "residency: Executors needs all of control, inference and loading, or none of them; Executors::all "
                "gives one for all");
        }
        if constexpr (!std::is_same_v<Clock, std::chrono::steady_clock>) {
            throw std::invalid_argument(
                "residency: with a Clock other than std::chrono::steady_clock give all of Executors: threads that wait "
                "for another clock would spin");
        }
        start_threads(observer, inference_threads);
    }
    SlotRuntime(const SlotRuntime&) = delete;
    SlotRuntime& operator=(const SlotRuntime&) = delete;
    /// Ends the threads if `end` was not called, because a slot could not be made.
    ~SlotRuntime() {
        if (threads_ && !ending_) {
            threads_->end_and_join();
        }
    }

    /// The options of slot number `index`.
    [[nodiscard]] const SlotOptions& options(std::size_t index) const noexcept { return options_[index]; }
    /// Where slot number `index` does its work.
    [[nodiscard]] const SlotExecutors& executors(std::size_t index) const noexcept { return slots_[index]; }
    /// The events.
    [[nodiscard]] const std::shared_ptr<EventQueue>& events() const noexcept { return events_; }

    /// Ends the slots, if that has not happened yet. Waits for what runs if the threads are its own, so that callbacks
    /// may use the slots until the last of them has returned; with the host's executors, or on a thread of its own, it
    /// returns at once. At exit it destroys the models that no lease and no call has, also with the host's executors.
    /// In a child made by fork() it touches nothing of them.
    template <class... Slots>
    void end(Ending why, Slots&... each) noexcept {
        if (process_.is_left()) {
            // The parent's: the threads are not here, and what they worked on may be half done.
            (runtime::keep_for_ever(each.shared_from_this()), ...);
            runtime::keep_for_ever(threads_);
            ending_ = true;
            return;
        }
        const bool on_own_thread = threads_ && threads_->runs_in_this_thread();
        if (ending_.exchange(true)) {
            // The process may exit while another thread destroys the manager.
            if (!on_own_thread) {
                ended_.wait(false);
            }
            return;
        }
        (each.abandon(), ...);
        const auto end_work = [&](bool executors_ended) {
            (each.unload_in_place(executors_ended), ...);
            events_->close();
        };
        if (!threads_) {
            end_work(why == Ending::exit);
        } else if (on_own_thread) {
            end_work(why == Ending::exit);
            threads_->end_and_detach();
        } else {
            // What a model's destructor asks of a slot is answered on callbacks.
            const auto before_callbacks = [&] { end_work(true); };
            threads_->end_and_join(callbacks_pool_, std::ref(before_callbacks));
        }
        ended_ = true;
        ended_.notify_all();
    }

private:
    // Publishes that a handler threw.
    struct Report {
        std::shared_ptr<EventQueue> events{};
        std::size_t callbacks_pool = 0;

        void operator()(const std::exception_ptr& thrown, std::size_t pool) const noexcept {
            try {
                Event event;
                event.type = EventType::handler_threw;
                event.message = sentence_of(thrown);
                events->push(std::move(event));
            } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: an event less
            }
            // The thread for callbacks delivers what waits for it. Another one must not: that may be in the observer.
            if (pool == callbacks_pool) {
                events->deliver_all();
            }
        }

        // All of it: the event has neither the key nor the stage of a request whose error the handler let go on.
        static std::string sentence_of(const std::exception_ptr& exception) {
            try {
                std::rethrow_exception(exception);
            } catch (const Error& error) {
                return bounded(error.what());
            } catch (...) {
                return message_of(exception);
            }
        }
    };
    using Threads = runtime::OwnedThreads<Report>;

    // Each slot's calls, loads and unloads, in this order; then callbacks; then control. They end in this order, too:
    // each may post to those behind it. Control is the last because a callback may complete a handler that control
    // forwards; what it forwards to callbacks is work that keeps callbacks from ending.
    void start_threads(const Observer& observer, std::vector<std::size_t> counts) {
        const std::size_t count = options_.size();
        for (const SlotOptions& slot : options_) {
            counts.push_back(slot.max_loads);
        }
        counts.insert(counts.end(), count + 2, 1);
        threads_ = std::make_shared<Threads>(counts);
        callbacks_pool_ = counts.size() - 2;
        const asio::any_io_executor callbacks = threads_->executor(callbacks_pool_);
        const asio::any_io_executor control = threads_->executor(callbacks_pool_ + 1);
        for (std::size_t index = 0; index < count; ++index) {
            slots_.push_back({control, threads_->executor(index), threads_->executor(index + count),
                              threads_->executor(index + 2 * count), callbacks, this, true});
        }
        events_ = std::make_shared<EventQueue>(observer, callbacks, this);
        threads_->start({events_, callbacks_pool_});
    }

    const runtime::Process& process_ = runtime::Process::current();
    std::vector<SlotOptions> options_;
    std::vector<SlotExecutors> slots_{};
    std::shared_ptr<EventQueue> events_{};
    std::shared_ptr<Threads> threads_{};
    std::size_t callbacks_pool_ = 0;
    std::atomic<bool> ending_{false};
    std::atomic<bool> ended_{false};
};

/// One slot of a runtime to be made.
struct SlotPlan {
    const SlotOptions& options;
    std::string_view name;
    /// Whether its models answer asynchronously.
    bool is_asynchronous = false;
};

/// The options with this memory budget, unless they have one.
[[nodiscard]] inline SlotOptions with_memory(SlotOptions options, const std::shared_ptr<MemoryBudget>& memory) {
    if (!options.memory) {
        options.memory = memory;
    }
    return options;
}

/// The options with what they leave to the library. How many calls a host's inference executor can run only the host
/// knows, and asynchronous ones occupy no thread of it.
[[nodiscard]] inline SlotOptions resolved(SlotOptions options, const Executors& executors, bool is_asynchronous) {
    if (options.max_calls == 0) {
        options.max_calls = executors.inference || is_asynchronous ? options.max_leases
                                                                   : runtime::default_max_calls(options.max_leases);
    }
    options.max_calls = (std::min)(options.max_calls, options.max_leases);
    return options;
}

/// Checks the options, then makes what slots with these options share.
template <class Clock, std::size_t Slots>
[[nodiscard]] std::shared_ptr<SlotRuntime<Clock>> make_runtime(const Executors& executors,
                                                               const SlotPlan (&plans)[Slots],  // NOLINT
                                                               const Observer& observer) {
    std::vector<SlotOptions> options;
    std::vector<std::size_t> inference_threads;
    for (const SlotPlan& slot : plans) {
        check_options(slot.options, slot.name);
        options.push_back(resolved(slot.options, executors, slot.is_asynchronous));
        const std::size_t calls = options.back().max_calls;
        inference_threads.push_back(slot.is_asynchronous ? runtime::default_max_calls(calls) : calls);
    }
    return std::make_shared<SlotRuntime<Clock>>(executors, observer, std::move(options), inference_threads);
}

}  // namespace residency::detail
