#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/processors.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>

namespace residency {

/// Where a manager or a slot does its work. A host gives the first three, or none of them, and the manager has threads
/// of its own. Some and not all are std::invalid_argument.
///
/// They may all be the same. A host's contexts must be running for anything to happen, and must outlive the manager, as
/// must its slots' and as everywhere in Asio the context of a handler's executor outlives the request: declare the
/// contexts before the manager. With the host's executors the manager's destructor joins nothing; a handler that runs
/// after it must not use the manager. A manager with a Clock other than std::chrono::steady_clock needs the host's
/// executors.
///
/// Slow user code delays what shares its executor, and nothing else: timeouts and grants are late only where `control`
/// runs it, too.
struct Executors {
    /// Timers and bookkeeping. Default: one thread, on which no user code runs.
    asio::any_io_executor control{};
    /// Model calls, at most `SlotOptions::max_calls` a slot at once. Default: `max_calls` threads for each slot. Where
    /// models answer asynchronously, one for each processor, or `max_calls` if that is less: such a call occupies a
    /// thread only while it computes, so the host's may be one thread, too.
    asio::any_io_executor inference{};
    /// Loads, at most `SlotOptions::max_loads` a slot at once, and unloads. Default for each slot: `max_loads` threads,
    /// and one for unloads.
    asio::any_io_executor loading{};
    /// Handlers that have no executor of their own, the observer, and stop requests. Empty: `control`. Default: one
    /// thread.
    ///
    /// Where it is the same as `inference` or `loading`, the thread that decides to stop a call or a load requests that
    /// itself, after everything else: a slow stop callback then delays that thread's caller.
    asio::any_io_executor callbacks{};

    /// The same executor for everything. A load then delays whatever else it should run.
    [[nodiscard]] static Executors all(const asio::any_io_executor& executor) {
        return {executor, executor, executor, executor};
    }

    /// Whether the host gave all that it has to.
    [[nodiscard]] bool complete() const noexcept { return control && inference && loading; }
};

namespace runtime {

/// How many model calls run at once in a slot that grants `max_leases` leases, unless its options say: one for each
/// processor that this process may use.
[[nodiscard]] inline std::size_t default_max_calls(std::size_t max_leases) noexcept {
    return (std::min)(usable_processors(), max_leases);
}

/// The context that an executor belongs to; a strand belongs to that of its inner executor.
[[nodiscard]] inline const asio::execution_context* context_of(const asio::any_io_executor& executor) noexcept {
    return std::addressof(asio::query(executor, asio::execution::context));
}

/// Whether `executor` is one of Asio's own, or a strand of one, that is known to run in this thread.
[[nodiscard]] inline bool runs_in_this_thread(const asio::any_io_executor& executor) {
    using Io = asio::io_context::executor_type;
    using Pool = asio::thread_pool::executor_type;
    if (!executor) {
        return false;
    }
    // An executor that was required with other properties is of another type.
    const asio::any_io_executor plain =
        asio::prefer(executor, asio::execution::blocking.possibly, asio::execution::relationship.fork,
                     asio::execution::outstanding_work.untracked);
    if (const auto* io = plain.target<Io>()) {
        return io->running_in_this_thread();
    }
    if (const auto* pool = plain.target<Pool>()) {
        return pool->running_in_this_thread();
    }
    // A strand needs a thread of its inner executor, whether this one is in the strand or not.
    if (const auto* io = plain.target<asio::strand<Io>>()) {
        return io->get_inner_executor().running_in_this_thread();
    }
    if (const auto* pool = plain.target<asio::strand<Pool>>()) {
        return pool->get_inner_executor().running_in_this_thread();
    }
    if (const auto* strand = plain.target<asio::strand<asio::any_io_executor>>()) {
        return runs_in_this_thread(strand->get_inner_executor());
    }
    return false;
}

}  // namespace runtime
}  // namespace residency
