#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/std_deque.hpp"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace residency::runtime {

/// Threads of the library's own: pools over an io_context each, in the order in which they end. A pool ends when its
/// work is done and the pools before it have ended, so that a pool may post to those behind it until its last thread
/// returns.
///
/// The threads own this object: it may be given up on one of them. They have the default floating-point environment,
/// whatever that of the thread is which starts them.
///
/// A `Report` is called with an exception that a handler threw and the number of its pool, on the thread of the
/// handler, before that ends the process. The thread no longer counts as one that runs the pool's executor.
template <class Report>
class OwnedThreads : public std::enable_shared_from_this<OwnedThreads<Report>> {
public:
    /// Pools of as many threads as `counts` says; no thread runs yet.
    explicit OwnedThreads(const std::vector<std::size_t>& counts) {
        for (const std::size_t count : counts) {
            pools_.emplace_back(count);
        }
    }
    OwnedThreads(const OwnedThreads&) = delete;
    OwnedThreads& operator=(const OwnedThreads&) = delete;
    ~OwnedThreads() = default;

    /// Starts the threads. `report` gets what a handler throws. If a thread cannot be made, ends those that were and
    /// throws std::system_error.
    void start(Report report) {
        report_ = std::move(report);
        try {
            for (std::size_t index = 0; index < pools_.size(); ++index) {
                start_pool(index);
            }
        } catch (...) {
            end_and_join();
            throw;
        }
    }

    /// Lets the pools end one after the other, each when its work is done, and waits for that. Not on one of the
    /// threads. Once the pools before number `pool` have ended, and before that one may, calls `before`, which must not
    /// throw, on the last of their threads.
    void end_and_join(std::size_t pool = 0, std::function<void()> before = {}) {
        before_pool_ = pool;
        before_ = std::move(before);
        release(0);
        join();
    }
    /// The same without waiting.
    void end_and_detach() {
        for (Pool& pool : pools_) {
            for (std::thread& thread : pool.threads) {
                thread.detach();
            }
            pool.threads.clear();
        }
        release(0);
    }

    /// Whether this is one of the threads.
    [[nodiscard]] bool runs_in_this_thread() noexcept {
        return std::any_of(pools_.begin(), pools_.end(),
                           [](Pool& pool) { return pool.context.get_executor().running_in_this_thread(); });
    }
    /// The executor of a pool.
    [[nodiscard]] asio::any_io_executor executor(std::size_t index) { return pools_[index].context.get_executor(); }

private:
    struct Pool {
        explicit Pool(std::size_t threads_wanted) : count(threads_wanted), guard(context.get_executor()) {}

        std::size_t count;
        // Without a concurrency hint: that of one thread lets another thread's post overtake what this thread has
        // posted (R12).
        asio::io_context context{};
        asio::executor_work_guard<asio::io_context::executor_type> guard;
        std::vector<std::thread> threads{};
        std::atomic<std::size_t> running{0};
    };

    void start_pool(std::size_t index) {
        Pool& pool = pools_[index];
        pool.threads.reserve(pool.count);
        for (std::size_t started = 0; started < pool.count; ++started) {
            ++pool.running;
            try {
                pool.threads.emplace_back([self = this->shared_from_this(), index] { self->run(index); });
            } catch (...) {
                --pool.running;
                throw;
            }
        }
    }

    // A thread begins with the floating-point environment of the one that made it: with a host's traps a model's 0/0
    // would end the process, and with its rounding mode a vector would depend on which thread made the manager.
    //
    // An exception ends the process, as it does on a thread of asio::thread_pool.
    void run(std::size_t index) {
        std::fesetenv(FE_DFL_ENV);
        Pool& pool = pools_[index];
        try {
            pool.context.run();
        } catch (...) {
            report_(std::current_exception(), index);
            std::terminate();
        }
        if (--pool.running == 0) {
            release(index + 1);
        }
    }

    // Lets pool `index` end as soon as its work is done; called once the pools before it have ended.
    void release(std::size_t index) {
        for (; index < pools_.size(); ++index) {
            if (index == before_pool_ && before_) {
                before_();
            }
            // Its last thread, once the guard is gone, releases the next pool; a pool that never had one cannot.
            const bool has_threads = pools_[index].running != 0;
            pools_[index].guard.reset();
            if (has_threads) {
                return;
            }
        }
    }

    void join() {
        for (Pool& pool : pools_) {
            for (std::thread& thread : pool.threads) {
                thread.join();
            }
        }
    }

    Report report_{};
    std::size_t before_pool_ = 0;
    std::function<void()> before_{};
    std::deque<Pool> pools_{};
};

}  // namespace residency::runtime
