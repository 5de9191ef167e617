#pragma once

#include "residency/runtime/mutex.hpp"

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <stop_token>
#include <utility>
#include <vector>

namespace residency::testing {

/// Holds calls back until a test lets them go. It is what makes "while the model is loading" a place in a test rather
/// than a time.
///
/// All functions may be called from any thread.
class Gate {
public:
    /// Waits until the gate is open, or until stop is requested. Gives whether it is open.
    bool pass(std::stop_token stop = {}) {
        const runtime::MutexLock lock(mutex_);
        ++held_;
        changed_.notify_all();
        const bool open = changed_.wait(mutex_, std::move(stop), [this]() RESIDENCY_REQUIRES(mutex_) { return open_; });
        --held_;
        changed_.notify_all();
        return open;
    }

    /// Lets through what is held and all that comes later.
    void open() {
        std::vector<std::function<void()>> opened;
        {
            const runtime::MutexLock lock(mutex_);
            open_ = true;
            opened.swap(when_open_);
            changed_.notify_all();
        }
        for (const std::function<void()>& call : opened) {
            call();
        }
    }

    /// Calls `opened` once the gate is open, on the thread that opens it, or now if it is: for what waits without a
    /// thread. It counts as held until `leave` is called.
    void enter(std::function<void()> opened) {
        {
            const runtime::MutexLock lock(mutex_);
            ++held_;
            changed_.notify_all();
            if (!open_) {
                when_open_.push_back(std::move(opened));
                return;
            }
        }
        opened();
    }
    /// What entered waits no more. Gives whether the gate is open.
    bool leave() {
        const runtime::MutexLock lock(mutex_);
        --held_;
        changed_.notify_all();
        return open_;
    }

    /// How many calls are held back now.
    [[nodiscard]] std::size_t held() const {
        const runtime::MutexLock lock(mutex_);
        return held_;
    }

    /// Waits until at least `count` calls are held back.
    void await_held(std::size_t count = 1) const {
        const runtime::MutexLock lock(mutex_);
        while (held_ < count) {
            changed_.wait(mutex_);
        }
    }

private:
    mutable runtime::Mutex mutex_{};
    mutable std::condition_variable_any changed_{};
    std::size_t held_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    bool open_ RESIDENCY_GUARDED_BY(mutex_) = false;
    std::vector<std::function<void()>> when_open_ RESIDENCY_GUARDED_BY(mutex_){};
};

}  // namespace residency::testing
