#pragma once

#include "residency/runtime/completion.hpp"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <utility>

namespace residency::runtime {

/// The result of what has none.
struct Nothing {};

/// Where a blocking call waits for its result. Lives on the caller's stack.
template <class Result>
class BlockingCall {
public:
    /// What to pass where a completion handler is wanted. Once.
    [[nodiscard]] BlockingHandler<Result> handler() noexcept { return BlockingHandler<Result>(*this); }

    /// Waits for the handler until `deadline`. False: it has not been called by then.
    template <class Clock>
    [[nodiscard]] bool wait_until(std::chrono::time_point<Clock> deadline) {
        std::unique_lock lock(mutex_);
        return changed_.wait_until(lock, deadline, [this] { return done_; });
    }

    /// Waits for the handler and gives its result, or throws its exception. If the handler was destroyed uncalled,
    /// because its executor is gone, throws std::runtime_error.
    Result wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return done_; });
        if (error_) {
            std::rethrow_exception(std::exchange(error_, nullptr));
        }
        if (!result_) {
            throw std::runtime_error("residency: the executor that the call needed is gone");
        }
        return std::move(*result_);
    }

private:
    friend class BlockingHandler<Result>;

    void finish(std::exception_ptr error, std::optional<Result> result) {
        // Notified under the mutex: the waiter, and with it this object, may be gone as soon as that is free.
        const std::lock_guard lock(mutex_);
        error_ = std::move(error);
        result_ = std::move(result);
        done_ = true;
        changed_.notify_one();
    }

    std::mutex mutex_{};
    std::condition_variable changed_{};
    bool done_ = false;
    std::exception_ptr error_{};
    std::optional<Result> result_{};
};

/// The handler of a `BlockingCall`.
template <class Result>
class BlockingHandler {
public:
    explicit BlockingHandler(BlockingCall<Result>& call) noexcept : call_(&call) {}
    BlockingHandler(BlockingHandler&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
    BlockingHandler(const BlockingHandler&) = delete;
    BlockingHandler& operator=(const BlockingHandler&) = delete;
    BlockingHandler& operator=(BlockingHandler&&) = delete;
    ~BlockingHandler() {
        if (call_ != nullptr) {
            call_->finish(nullptr, std::nullopt);
        }
    }

    void operator()(std::exception_ptr error, Result result = Result()) && {
        std::exchange(call_, nullptr)->finish(std::move(error), std::optional<Result>(std::move(result)));
    }

private:
    BlockingCall<Result>* call_;
};

}  // namespace residency::runtime
