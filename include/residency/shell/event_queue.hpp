#pragma once

#include "residency/event.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/process.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/std_deque.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace residency::detail {

/// The events of a manager on their way to its observer: in order, one at a time, on the callbacks executor, bounded.
/// Nothing waits for their delivery.
class EventQueue : public std::enable_shared_from_this<EventQueue> {
public:
    /// How many events may wait for the observer: minutes of a busy manager's events, a megabyte or so.
    static constexpr std::size_t capacity = 4096;

    /// A queue that hands its events to `observer` on `callbacks`, whose thread is `owner`'s; without an observer it
    /// takes none.
    EventQueue(const Observer& observer, asio::any_io_executor callbacks, const void* owner)
        : callbacks_(std::move(callbacks)),
          owner_(owner),
          observer_(observer ? std::make_shared<const Observer>(observer) : nullptr),
          open_(observer_ != nullptr) {}
    EventQueue(const EventQueue&) = delete;
    EventQueue& operator=(const EventQueue&) = delete;

    /// Whether events are wanted. If not, an event need not be made.
    [[nodiscard]] bool listened_to() const noexcept { return open_.load(std::memory_order_relaxed); }

    /// Takes an event; drops it, and counts it, if too many wait. The caller calls `flush` once it holds no lock.
    void push(Event&& event) noexcept {
        const runtime::MutexLock lock(mutex_);
        if (!observer_) {
            return;
        }
        try {
            if (queue_.size() < capacity) {
                if (dropped_ != 0) {
                    queue_.push_back(gap());
                    dropped_ = 0;
                }
                queue_.push_back(std::move(event));
                return;
            }
        } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: the event counts as dropped
        }
        ++dropped_;
    }

    /// Has the events delivered.
    void flush() noexcept {
        {
            const runtime::MutexLock lock(mutex_);
            if (delivering_ || !observer_ || (queue_.empty() && dropped_ == 0)) {
                return;
            }
            delivering_ = true;
        }
        post();
    }

    /// Delivers what waits on this thread, which the callbacks executor is lent by a handler that threw.
    void deliver_all() noexcept {
        while (deliver_one()) {}
    }

    /// Delivers nothing any more; a call of the observer that runs goes on.
    void close() noexcept {
        open_ = false;
        std::shared_ptr<const Observer> observer;
        {
            const runtime::MutexLock lock(mutex_);
            observer.swap(observer_);
            dropped_ = 0;
        }
        // One by one: a second queue would need memory even while it is empty.
        for (Event event; take(event);) {}
    }

private:
    [[nodiscard]] Event gap() const noexcept RESIDENCY_REQUIRES(mutex_) {
        Event event;
        event.type = EventType::dropped;
        event.count = dropped_;
        return event;
    }

    // What is delivered next; false if nothing is. A gap at the end is an event, too: the one that would come after it
    // may never come.
    [[nodiscard]] bool take_next(Event& event) noexcept RESIDENCY_REQUIRES(mutex_) {
        if (!queue_.empty()) {
            event = std::move(queue_.front());
            queue_.pop_front();
            return true;
        }
        if (dropped_ != 0) {
            event = gap();
            dropped_ = 0;
            return true;
        }
        return false;
    }

    [[nodiscard]] bool take(Event& event) noexcept {
        const runtime::MutexLock lock(mutex_);
        return take_next(event);
    }

    void post() noexcept {
        try {
            asio::post(callbacks_, [self = shared_from_this()] { self->deliver(); });
        } catch (...) {
            // The next event tries again.
            const runtime::MutexLock lock(mutex_);
            delivering_ = false;
        }
    }

    // A few at a time, so that a flood of events leaves handlers their turn.
    void deliver() noexcept {
        if (process_.is_left()) {
            return;
        }
        constexpr int batch = 64;
        for (int delivered = 0; delivered < batch; ++delivered) {
            if (!deliver_one()) {
                return;
            }
        }
        post();
    }

    // False if there was nothing to deliver: then `delivering_` has ended.
    bool deliver_one() noexcept {
        std::shared_ptr<const Observer> observer;
        Event event;
        {
            const runtime::MutexLock lock(mutex_);
            if (!observer_ || !take_next(event)) {
                delivering_ = false;
                return false;
            }
            observer = observer_;
        }
        try {
            const runtime::UserCodeScope scope(owner_);
            (*observer)(event);
        } catch (...) {  // NOLINT(bugprone-empty-catch): an observer's failure is its own, and harms nothing else
        }
        return true;
    }

    const runtime::Process& process_ = runtime::Process::current();
    const asio::any_io_executor callbacks_;
    const void* const owner_;
    mutable runtime::Mutex mutex_{};
    std::shared_ptr<const Observer> observer_ RESIDENCY_GUARDED_BY(mutex_);
    std::deque<Event> queue_ RESIDENCY_GUARDED_BY(mutex_){};
    std::size_t dropped_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    bool delivering_ RESIDENCY_GUARDED_BY(mutex_) = false;
    std::atomic<bool> open_;
};

}  // namespace residency::detail
