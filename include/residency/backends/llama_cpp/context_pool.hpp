#pragma once

#include "residency/backends/llama_cpp/context.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

namespace residency::detail::llama_cpp {

/// The contexts of a model. A call takes one and gives it back; one that finds none free waits. Any thread.
class ContextPool {
public:
    /// A context that was taken, given back when it is destroyed. None if the wait for it was asked to stop.
    class Turn {
    public:
        ~Turn() {
            if (context_ != nullptr) {
                pool_->give_back(*context_);
            }
        }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

        /// Whether there is one.
        explicit operator bool() const noexcept { return context_ != nullptr; }
        /// The context. Precondition: there is one.
        [[nodiscard]] Context& context() const noexcept { return *context_; }

    private:
        friend class ContextPool;
        Turn(ContextPool* pool, Context* context) noexcept : pool_(pool), context_(context) {}

        ContextPool* pool_;
        Context* context_;
    };

    /// A pool of `count` contexts, to be made yet.
    explicit ContextPool(std::size_t count) : count_(count), contexts_(std::make_unique<Context[]>(count)) {
        free_.reserve(count);
        for (std::size_t index = 0; index < count; ++index) {
            free_.push_back(&contexts_[index]);
        }
    }

    /// How many contexts there are.
    [[nodiscard]] std::size_t size() const noexcept { return count_; }

    /// Context `index`, to be made before the pool is used.
    [[nodiscard]] Context& operator[](std::size_t index) noexcept { return contexts_[index]; }

    /// How many contexts are taken.
    [[nodiscard]] std::size_t taken() const {
        const std::lock_guard lock(mutex_);
        return count_ - free_.size();
    }

    /// Takes a free context, of those large enough for `tokens` the one given back last, whose memory is the warmest;
    /// if none is large enough, any. Waits for one, or until `stop` is requested.
    [[nodiscard]] Turn take(std::size_t tokens, const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        if (!given_back_.wait(lock, stop, [this] { return !free_.empty(); })) {
            return {this, nullptr};
        }
        auto found = std::find_if(free_.rbegin(), free_.rend(),
                                  [tokens](const Context* context) { return context->capacity() >= tokens; });
        const auto at = found == free_.rend() ? free_.end() - 1 : found.base() - 1;
        Context* const context = *at;
        free_.erase(at);
        return {this, context};
    }

private:
    void give_back(Context& context) noexcept {
        {
            const std::lock_guard lock(mutex_);
            free_.push_back(&context);  // There is room: it was reserved for all.
        }
        given_back_.notify_one();
    }

    std::size_t count_;
    std::unique_ptr<Context[]> contexts_;
    mutable std::mutex mutex_{};
    std::condition_variable_any given_back_{};
    std::vector<Context*> free_{};
};

}  // namespace residency::detail::llama_cpp
