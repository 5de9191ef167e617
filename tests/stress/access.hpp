#pragma once

#include "stress/black_box.hpp"
#include "stress/calls.hpp"
#include "stress/random.hpp"
#include "stress/relaxed.hpp"

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <utility>

namespace residency::stress {

/// Whether this thread is one of the stress itself. Threads that are not marked run an executor of the manager.
[[nodiscard]] inline bool& on_host_thread() noexcept {
    thread_local bool value = false;
    return value;
}

/// Which callbacks may use the manager, and when (H12).
///
/// 1. The destructor joins the manager's own threads unless it runs on one of them. So a callback on such a thread may
///    use the manager until it returns. Nothing in here delays it or the destructor.
/// 2. Any callback on the thread that runs the destructor may use the manager.
/// 3. No other callback is joined. It may use the manager until the destructor has returned, and only the host can know
///    that: a lock that callbacks share and the destroying thread takes alone. The lock is open again while a stop
///    callback runs within the destructor.
class ManagerAccess {
public:
    /// The right to use the manager, for as long as this lives.
    class Use {
    public:
        Use() = default;
        explicit Use(Manager* manager) : manager_(manager) {}
        Use(Manager* manager, std::shared_lock<std::shared_mutex> lock) : manager_(manager), lock_(std::move(lock)) {}

        [[nodiscard]] explicit operator bool() const noexcept { return manager_ != nullptr; }
        [[nodiscard]] Manager& operator*() const noexcept { return *manager_; }

    private:
        Manager* manager_ = nullptr;
        std::shared_lock<std::shared_mutex> lock_{};
    };

    /// `destructor_joins`: case 1 holds. `closes`: `close` will be called, so case 1 takes the lock until the
    /// destructor begins.
    ManagerAccess(BlackBox& box, bool destructor_joins, bool closes)
        : box_(box), destructor_joins_(destructor_joins), needs_lock_(!destructor_joins || closes) {}

    /// The manager exists. Called before any thread uses it.
    void open(Manager& manager) noexcept { manager_ = &manager; }

    /// The right to use the manager in a callback; empty if there is none.
    [[nodiscard]] Use use() {
        if (destroyer_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
            return Use(manager_);
        }
        if (destructor_joins_ && !on_host_thread()) {
            box_.require(!gone_.get(), "R12: a callback on a thread of the manager's after its destructor");
            if (!needs_lock_) {
                return Use(manager_);
            }
        }
        std::shared_lock lock(gate_, std::try_to_lock);
        if (!lock || !(on_host_thread() ? open_to_host_ : open_to_callbacks_)) {
            return {};
        }
        return {manager_, std::move(lock)};
    }

    /// Waits until no callback uses the manager, and lets none use it until the destructor begins.
    void close() { set_open(false, false); }
    /// Calls `destroy`, which destroys the manager.
    template <class Destroy>
    void destroy(const Destroy& destroy) {
        set_open(false, destructor_joins_);
        destroyer_.store(std::this_thread::get_id(), std::memory_order_relaxed);
        destroy();
        destroyer_.store(std::thread::id(), std::memory_order_relaxed);
        gone_.set(true);
    }
    /// Called by a stop callback. If the destructor called it, the callbacks of all threads may use the manager for a
    /// while.
    void open_within_destructor() {
        if (destroyer_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
            set_open(true, true);
            dawdle(100);
            set_open(false, destructor_joins_);
        }
    }

private:
    void set_open(bool to_host, bool to_callbacks) {
        const std::unique_lock lock(gate_);
        open_to_host_ = to_host;
        open_to_callbacks_ = to_callbacks;
    }

    BlackBox& box_;
    const bool destructor_joins_;
    const bool needs_lock_;
    Manager* manager_ = nullptr;
    // Set only by the thread that it names, and only that thread finds its own name in it.
    std::atomic<std::thread::id> destroyer_{};
    Relaxed<bool> gone_{false};
    std::shared_mutex gate_{};
    bool open_to_host_ = true;
    bool open_to_callbacks_ = true;
};

}  // namespace residency::stress
