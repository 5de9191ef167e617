#pragma once

#include "residency/runtime/asio.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

// What a user would write instead of residency: correct for one model and one key, without a queue, limits, switches,
// cancellation, timeouts, errors that say what happened, or a shutdown.

namespace residency::cost {

/// (a) A mutex, a shared_ptr, a use-count, and a steady_timer that is armed again at every request. The load happens
/// under the mutex.
template <class Model>
class MutexHolder : public std::enable_shared_from_this<MutexHolder<Model>> {
public:
    /// One use of the model: it stays for as long as this lives.
    class Use {
    public:
        Use(std::shared_ptr<MutexHolder> holder, std::shared_ptr<Model> model) noexcept
            : holder_(std::move(holder)), model_(std::move(model)) {}
        Use(Use&&) noexcept = default;
        Use& operator=(Use&&) = delete;
        ~Use() {
            if (holder_) {
                model_.reset();
                holder_->end();
            }
        }
        [[nodiscard]] Model& operator*() const noexcept { return *model_; }

    private:
        std::shared_ptr<MutexHolder> holder_;
        std::shared_ptr<Model> model_;
    };

    MutexHolder(const asio::any_io_executor& executor, std::chrono::nanoseconds keep_alive)
        : executor_(executor), keep_alive_(keep_alive), timer_(executor) {}

    [[nodiscard]] Use use() {
        const std::lock_guard lock(mutex_);
        if (!model_) {
            model_ = std::make_shared<Model>();
        }
        ++uses_;
        return Use(this->shared_from_this(), model_);
    }
    template <class Handler>
    void async_use(Handler handler) {
        asio::post(executor_,
                   [handler = std::move(handler), use = use()]() mutable { std::move(handler)(std::move(use)); });
    }

private:
    void end() {
        const std::lock_guard lock(mutex_);
        --uses_;
        const std::uint64_t generation = ++generation_;
        timer_.expires_after(keep_alive_);
        timer_.async_wait([self = this->shared_from_this(), generation](const boost::system::error_code&) {
            self->expire(generation);
        });
    }
    void expire(std::uint64_t generation) {
        std::shared_ptr<Model> model;
        const std::lock_guard lock(mutex_);
        if (uses_ == 0 && generation == generation_) {
            model.swap(model_);
        }
    }

    const asio::any_io_executor executor_;
    const std::chrono::nanoseconds keep_alive_;
    std::mutex mutex_;
    std::shared_ptr<Model> model_;
    std::size_t uses_ = 0;
    std::uint64_t generation_ = 0;
    asio::steady_timer timer_;
};

/// (b) The same with a strand instead of the mutex.
template <class Model>
class StrandHolder : public std::enable_shared_from_this<StrandHolder<Model>> {
public:
    /// One use of the model: it stays for as long as this lives.
    class Use {
    public:
        Use(std::shared_ptr<StrandHolder> holder, std::shared_ptr<Model> model) noexcept
            : holder_(std::move(holder)), model_(std::move(model)) {}
        Use(Use&&) noexcept = default;
        Use& operator=(Use&&) = delete;
        ~Use() {
            if (holder_) {
                model_.reset();
                StrandHolder& holder = *holder_;
                asio::post(holder.strand_, [holder = std::move(holder_)] { holder->end(); });
            }
        }
        [[nodiscard]] Model& operator*() const noexcept { return *model_; }

    private:
        std::shared_ptr<StrandHolder> holder_;
        std::shared_ptr<Model> model_;
    };

    StrandHolder(const asio::any_io_executor& executor, std::chrono::nanoseconds keep_alive)
        : executor_(executor), strand_(executor), keep_alive_(keep_alive), timer_(strand_) {}

    template <class Handler>
    void async_use(Handler handler) {
        asio::post(strand_, [self = this->shared_from_this(), handler = std::move(handler)]() mutable {
            if (!self->model_) {
                self->model_ = std::make_shared<Model>();
            }
            ++self->uses_;
            asio::post(self->executor_, [use = Use(self, self->model_), handler = std::move(handler)]() mutable {
                std::move(handler)(std::move(use));
            });
        });
    }

private:
    void end() {
        --uses_;
        const std::uint64_t generation = ++generation_;
        timer_.expires_after(keep_alive_);
        timer_.async_wait([self = this->shared_from_this(), generation](const boost::system::error_code&) {
            if (self->uses_ == 0 && generation == self->generation_) {
                self->model_.reset();
            }
        });
    }

    const asio::any_io_executor executor_;
    asio::strand<asio::any_io_executor> strand_;
    const std::chrono::nanoseconds keep_alive_;
    std::shared_ptr<Model> model_;
    std::size_t uses_ = 0;
    std::uint64_t generation_ = 0;
    asio::steady_timer timer_;
};

}  // namespace residency::cost
