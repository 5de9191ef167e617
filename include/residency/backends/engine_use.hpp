#pragma once

#include "residency/runtime/process.hpp"

#include <atomic>
#include <cstddef>

namespace residency::detail {

/// Which threads are in an engine: a library that computes models, and has objects with static storage that are
/// destroyed when the process exits, and threads of its own, which a child made by fork() does not have. `Engine` is a
/// type that names the engine.
///
/// Any thread. Nothing of it is ever destroyed.
template <class Engine>
class EngineUse {
public:
    /// This thread is in the engine while the scope lives. Scopes nest.
    class Scope {
    public:
        Scope() noexcept : entered_(enter()) {}
        ~Scope() {
            if (entered_) {
                leave();
            }
        }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

        /// Whether the engine may be used. If not, nothing of it may be called, not even to free what it made.
        explicit operator bool() const noexcept { return entered_; }

    private:
        bool entered_;
    };

    /// Whether it is being closed: what a thread does in the engine is to end soon.
    [[nodiscard]] static bool closed() noexcept { return closed_; }

    /// Whether it was used by the process that made this one by fork(): then it cannot be used here.
    [[nodiscard]] static bool is_in_child() noexcept {
        const runtime::Process* const user = user_.load(std::memory_order_acquire);
        return user != nullptr && user->is_left();
    }

    /// Lets no thread in any more, and waits until none but this one is in.
    static void close() noexcept {
        closed_ = true;
        if (is_in_child()) {
            return;
        }
        const std::size_t own = depth_ != 0 ? 1 : 0;
        for (std::size_t inside = inside_; inside > own; inside = inside_) {
            inside_.wait(inside);
        }
    }

private:
    static bool enter() noexcept {
        if (depth_ == 0) {
            if (const runtime::Process* none = nullptr; user_.load(std::memory_order_acquire) == none) {
                user_.compare_exchange_strong(none, &runtime::Process::current());
            }
            if (is_in_child()) {
                return false;
            }
            // Sequentially consistent as in close: either this sees that it is closed, or that sees this thread.
            ++inside_;
            if (closed_) {
                leave_last();
                return false;
            }
        }
        ++depth_;
        return true;
    }
    static void leave() noexcept {
        if (--depth_ == 0) {
            leave_last();
        }
    }
    static void leave_last() noexcept {
        --inside_;
        if (closed_) {
            inside_.notify_all();
        }
    }

    static inline std::atomic<const runtime::Process*> user_{nullptr};
    static inline std::atomic<std::size_t> inside_{0};
    static inline std::atomic<bool> closed_{false};
    static inline thread_local std::size_t depth_ = 0;
};

}  // namespace residency::detail
