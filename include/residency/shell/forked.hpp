#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/shell/pending_handler.hpp"

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

// Requests in a child made by fork(). The slot is a copy of the parent's: its threads are not there, and its mutexes
// may be locked for ever. Nothing of it is touched.

namespace residency::detail {

/// Whether a handler can be called in a child: not if its executor's threads are those of the manager, or of Asio's
/// system_executor, which were the parent's.
template <class Handler>
[[nodiscard]] bool can_complete_in_child(const Handler& handler, const runtime::Delivery& delivery) {
    if constexpr (runtime::IsBlockingHandler<Handler>::value) {
        return true;
    } else {
        using Executor = runtime::HandlerExecutor<Handler>;
        const Executor executor = asio::get_associated_executor(handler, delivery.callbacks);
        if constexpr (std::is_same_v<Executor, asio::any_io_executor>) {
            if (delivery.owns_threads && executor == delivery.callbacks) {
                return false;
            }
        }
        if (runtime::needs_forwarding<Executor> && delivery.owns_threads) {
            return false;
        }
        if constexpr (requires { executor.template target<asio::system_executor>(); }) {
            return !runtime::is_system_executor(executor);
        } else if constexpr (asio::can_query_v<const Executor&, asio::execution::context_t>) {
            using Context = decltype(asio::query(executor, asio::execution::context));
            if constexpr (std::is_same_v<Context, asio::execution_context&> &&
                          !requires { executor.get_inner_executor(); }) {
                // That of use_future hides that its context is the system's.
                return std::addressof(asio::query(executor, asio::execution::context)) !=
                       std::addressof(asio::query(asio::system_executor(), asio::execution::context));
            } else {
                return !std::is_same_v<Context, asio::system_context&>;
            }
        } else {
            return true;
        }
    }
}

/// Completes a request in a child with `shutting_down`. Throws that Error if its handler cannot be called.
template <class... Results, class Handler>
void refuse_in_child(const runtime::Delivery& delivery, Handler handler, const ModelKey& key, Results... nothing) {
    const Error error(errc::shutting_down, key, Stage::admission,
                      "this is a child process made by fork(), and the manager, or slot, is its parent's: its threads "
                      "do not exist here; make another one after fork()");
    if (!can_complete_in_child(handler, delivery)) {
        throw error;
    }
    complete_at_once<std::exception_ptr, Results...>(delivery, std::move(handler), make_error(error),
                                                     std::move(nothing)...);
}

}  // namespace residency::detail
