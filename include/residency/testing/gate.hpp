#pragma once

#include "residency/runtime/mutex.hpp"

#include <condition_variable>
#include <cstddef>
#include <stop_token>
#include <utility>

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
        const runtime::MutexLock lock(mutex_);
        open_ = true;
        changed_.notify_all();
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
};

}  // namespace residency::testing
