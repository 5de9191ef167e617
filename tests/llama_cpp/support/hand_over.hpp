#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace residency::test {

/// A thread that is handed one call after the other, by a mutex and two condition variables: the least that handing a
/// call to another thread costs.
class HandOver {
public:
    HandOver() = default;
    HandOver(const HandOver&) = delete;
    HandOver& operator=(const HandOver&) = delete;
    ~HandOver() {
        {
            const std::lock_guard lock(mutex_);
            ends_ = true;
        }
        given_.notify_one();
        thread_.join();
    }

    /// Has the thread call `call`, which must not throw, and waits until it has.
    void run(std::function<void()> call) {
        std::unique_lock lock(mutex_);
        call_ = std::move(call);
        given_.notify_one();
        done_.wait(lock, [this] { return !call_; });
    }

private:
    void serve() {
        std::unique_lock lock(mutex_);
        for (;;) {
            given_.wait(lock, [this] { return ends_ || call_; });
            if (ends_) {
                return;
            }
            lock.unlock();
            call_();
            lock.lock();
            call_ = nullptr;
            done_.notify_one();
        }
    }

    std::mutex mutex_{};
    std::condition_variable given_{};
    std::condition_variable done_{};
    std::function<void()> call_{};
    bool ends_ = false;
    std::thread thread_{[this] { serve(); }};
};

}  // namespace residency::test
