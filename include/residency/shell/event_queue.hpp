#pragma once

#include "residency/event.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/user_code_scope.hpp"

#include <cstddef>
#include <deque>
#include <memory>
#include <utility>

namespace residency::detail {

/// Wants to know that an event was delivered or dropped.
class EventGate {
public:
    virtual ~EventGate() = default;
    /// The event published with `token` has been delivered, or never will be. Called without a lock.
    virtual void event_passed(void* token) noexcept = 0;
};

/// The events of a manager on their way to its observer: in order, one at a time, on control, off the hot path, bounded.
class EventQueue : public std::enable_shared_from_this<EventQueue> {
public:
    /// How many events may wait for the observer: minutes of a busy manager's events, a megabyte or so.
    static constexpr std::size_t capacity = 4096;

    /// A queue that hands its events to `observer` on `control`; without an observer it takes none.
    EventQueue(const Observer& observer, asio::any_io_executor control)
        : control_(std::move(control)), observer_(observer ? std::make_shared<const Observer>(observer) : nullptr) {}

    /// Whether anybody listens. If not, an event need not be made.
    [[nodiscard]] bool listened_to() const noexcept {
        const runtime::MutexLock lock(mutex_);
        return observer_ != nullptr;
    }

    /// Takes an event, and calls `gate->event_passed(token)` once it has passed. False if it was dropped: then the gate is not
    /// called. Whoever called this calls `flush` once it holds no lock.
    bool push(Event&& event, std::shared_ptr<EventGate> gate = nullptr, void* token = nullptr) noexcept {
        try {
            const runtime::MutexLock lock(mutex_);
            if (!observer_) {
                return false;
            }
            if (queue_.size() >= capacity) {
                ++dropped_;
                return false;
            }
            if (dropped_ != 0) {
                queue_.push_back({gap(), nullptr, nullptr});
                dropped_ = 0;
            }
            queue_.push_back({std::move(event), std::move(gate), token});
            return true;
        } catch (...) {
            const runtime::MutexLock lock(mutex_);
            ++dropped_;
            return false;
        }
    }

    /// Sees to it that the events are delivered.
    void flush() noexcept {
        {
            const runtime::MutexLock lock(mutex_);
            if (delivering_ || (queue_.empty() && dropped_ == 0)) {
                return;
            }
            delivering_ = true;
        }
        post();
    }

    /// Delivers nothing any more, and opens every gate.
    void close() noexcept {
        std::shared_ptr<const Observer> observer;
        {
            const runtime::MutexLock lock(mutex_);
            observer.swap(observer_);
            dropped_ = 0;
        }
        // One by one: a second queue to take them all at once would need memory even while it is empty.
        for (;;) {
            Item item;
            {
                const runtime::MutexLock lock(mutex_);
                if (queue_.empty()) {
                    return;
                }
                item = std::move(queue_.front());
                queue_.pop_front();
            }
            pass(item);
        }
    }

private:
    struct Item {
        Event event;
        std::shared_ptr<EventGate> gate;
        void* token;
    };

    // What tells of the events that were dropped.
    [[nodiscard]] Event gap() const noexcept RESIDENCY_REQUIRES(mutex_) {
        Event event;
        event.type = EventType::dropped;
        event.count = dropped_;
        return event;
    }

    // What is delivered next; false if nothing is. A gap at the end is told of, too: the event that would come after it may never come.
    [[nodiscard]] bool take_next(Item& item) noexcept RESIDENCY_REQUIRES(mutex_) {
        if (!queue_.empty()) {
            item = std::move(queue_.front());
            queue_.pop_front();
            return true;
        }
        if (dropped_ != 0) {
            item.event = gap();
            dropped_ = 0;
            return true;
        }
        return false;
    }

    static void pass(const Item& item) noexcept {
        if (item.gate) {
            item.gate->event_passed(item.token);
        }
    }

    // Out of memory in here ends the process, as in every executor's post.
    void post() noexcept {
        asio::post(control_, [self = shared_from_this()] { self->deliver(); });
    }

    // A batch at a time, so that a flood of events does not keep the control executor from its timers.
    void deliver() noexcept {
        constexpr int batch = 64;
        for (int delivered = 0; delivered < batch; ++delivered) {
            std::shared_ptr<const Observer> observer;
            Item item;
            {
                const runtime::MutexLock lock(mutex_);
                // Without an observer it is being closed, and what is left passes there.
                if (!observer_ || !take_next(item)) {
                    delivering_ = false;
                    return;
                }
                observer = observer_;
            }
            try {
                const runtime::UserCodeScope mark;
                (*observer)(item.event);
            } catch (...) {  // NOLINT(bugprone-empty-catch): an observer's failure is its own, and must harm nobody
            }
            pass(item);
        }
        post();
    }

    asio::any_io_executor control_;
    mutable runtime::Mutex mutex_;
    std::shared_ptr<const Observer> observer_ RESIDENCY_GUARDED_BY(mutex_);
    std::deque<Item> queue_ RESIDENCY_GUARDED_BY(mutex_);
    std::size_t dropped_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    bool delivering_ RESIDENCY_GUARDED_BY(mutex_) = false;
};

}  // namespace residency::detail
