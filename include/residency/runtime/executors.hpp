#pragma once

#include "residency/runtime/asio.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace residency {

/// Where a manager or a slot does its work: all three are the host's, or none is, and it has threads of its own. Some and not all are
/// std::invalid_argument.
///
/// All three may be the same. A host's context must be running for anything to happen. It may be destroyed before the manager, which then
/// refuses everything, and before what a manager left running has ended. Two things nobody can check for you: at that moment no other
/// thread may be posting to it, so stop, or join, what runs on the other contexts first; and a strand must not outlive its context, says
/// Asio, so with one of the three a strand, the manager and all that it left running go first. A manager with a Clock other than
/// std::chrono::steady_clock needs all three.
struct Executors {
    /// Timers, bookkeeping, events, and the handlers that have no executor of their own. Default: one thread.
    asio::any_io_executor control{};
    /// Calls of models. Default: max(4, the largest max_leases) threads, but no more than the processor has.
    asio::any_io_executor inference{};
    /// Loads and unloads. Default: one thread for each slot.
    asio::any_io_executor loading{};

    /// The same executor for all three. A load then delays whatever else it should run.
    [[nodiscard]] static Executors all(const asio::any_io_executor& executor) { return {executor, executor, executor}; }

    /// Whether the host gave all three.
    [[nodiscard]] bool complete() const noexcept { return control && inference && loading; }
};

namespace runtime {

/// Threads of the library's own over an io_context. They end when nobody keeps them busy any more: whoever needs them holds a work
/// guard.
class OwnedThreads {
public:
    /// Called with what a handler threw, on the thread that it threw on.
    using Report = std::function<void(std::exception_ptr)>;

    /// Starts `count` threads over `context`. If one cannot be made, ends those that were and throws std::system_error.
    OwnedThreads(std::shared_ptr<asio::io_context> context, std::size_t count, const Report& report)
        : context_(std::move(context)), guard_(context_->get_executor()) {
        threads_.reserve(count);
        try {
            for (std::size_t index = 0; index < count; ++index) {
                // The thread owns its context: it may outlive this object, if that is destroyed on it.
                threads_.emplace_back([kept = context_, report] { run(*kept, report); });
            }
        } catch (...) {
            end();
            throw;
        }
    }
    OwnedThreads(const OwnedThreads&) = delete;
    OwnedThreads& operator=(const OwnedThreads&) = delete;
    /// Lets the threads end as soon as their work is done, and waits for them.
    ~OwnedThreads() { end(); }

    /// Lets the threads end as soon as their work is done, and does not wait.
    void detach() noexcept {
        guard_.reset();
        for (std::thread& thread : threads_) {
            thread.detach();
        }
        threads_.clear();
    }

    /// Whether this is one of the threads.
    [[nodiscard]] bool runs_in_this_thread() const noexcept {
        return std::any_of(threads_.begin(), threads_.end(),
                           [](const std::thread& thread) { return thread.get_id() == std::this_thread::get_id(); });
    }

    /// The context, kept alive by whoever holds this.
    [[nodiscard]] const std::shared_ptr<asio::io_context>& context() const noexcept { return context_; }

private:
    void end() noexcept {
        guard_.reset();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    static void run(asio::io_context& context, const Report& report) {
        for (;;) {
            try {
                context.run();
                return;
            } catch (...) {
                if (report) {
                    report(std::current_exception());
                }
            }
        }
    }

    std::shared_ptr<asio::io_context> context_;
    asio::executor_work_guard<asio::io_context::executor_type> guard_;
    std::vector<std::thread> threads_;
};

/// How many threads call models by default, for slots that grant at most `most_leases` leases at once.
[[nodiscard]] inline std::size_t default_inference_threads(std::size_t most_leases) noexcept {
    const std::size_t processors = std::max<std::size_t>(1, std::thread::hardware_concurrency());
    return std::min(std::max<std::size_t>(4, most_leases), processors);
}

/// Whether `executor` is one of Asio's own, or a strand of one, that is known to run in this thread.
[[nodiscard]] inline bool runs_in_this_thread(const asio::any_io_executor& executor) noexcept {
    using Io = asio::io_context::executor_type;
    using Pool = asio::thread_pool::executor_type;
    if (const auto* io = executor.target<Io>()) {
        return io->running_in_this_thread();
    }
    if (const auto* pool = executor.target<Pool>()) {
        return pool->running_in_this_thread();
    }
    // A strand needs a thread of what it is made of, whether this one is in the strand or not.
    if (const auto* io = executor.target<asio::strand<Io>>()) {
        return io->get_inner_executor().running_in_this_thread();
    }
    if (const auto* pool = executor.target<asio::strand<Pool>>()) {
        return pool->get_inner_executor().running_in_this_thread();
    }
    if (const auto* strand = executor.target<asio::strand<asio::any_io_executor>>()) {
        return runs_in_this_thread(strand->get_inner_executor());
    }
    return false;
}

}  // namespace runtime
}  // namespace residency
