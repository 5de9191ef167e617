#pragma once

#include "residency/backend.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/lease.hpp"
#include "residency/memory_budget.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/blocking_call.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/shell/acquire_op.hpp"
#include "residency/shell/backend_slot.hpp"
#include "residency/shell/blocking.hpp"
#include "residency/shell/end_at_exit.hpp"
#include "residency/shell/ensure_loaded_op.hpp"
#include "residency/shell/slot_runtime.hpp"
#include "residency/shell/slot_shell.hpp"
#include "residency/shell/teardown_op.hpp"
#include "residency/status.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace residency {

template <EmbeddingBackend, RerankerBackend, class>
class ModelManager;

/// The models of one kind: loads them on first use, lets any number of requests use them at once within its limits,
/// switches between them, unloads what is idle. Works alone, for whatever is expensive to hold and safe to drop; a
/// `ModelManager` is two of them.
///
/// Errors of every asynchronous call arrive as a `residency::Error` in the handler's exception_ptr (where there is no
/// memory for one, as std::bad_alloc); no call throws one, but in a child made by fork(). Else a call itself throws
/// only bad_alloc, and then it has started nothing. A handler runs on its associated executor, on
/// `Executors::callbacks` if it has none, and never inside the call that started it; its associated allocator is used.
///
/// Threads: all member functions may be called from any thread at once. The destructor refuses new requests, completes
/// all others with `shutting_down`, requests stop, and, if the threads are the slot's own, joins them: callbacks on
/// them may use the slot until it returns. It waits for no lease; a lease keeps its model. Destroying a slot while
/// another thread is in one of its functions is undefined. The contexts of a host's executors outlive the slot, the
/// context of a handler's executor its request.
///
/// Exit: a slot with static storage whose backend `ClosesEngine` is ended when the process exits, before static objects
/// are destroyed, if it was made on the main thread (Linux with glibc): requests complete with `shutting_down`, models
/// that no lease has are unloaded, its own threads are joined. Calls answer `shutting_down` from then on; a handler
/// that would run on the slot's own threads is destroyed uncalled with it.
///
/// Fork: in a child made by fork() every request to a slot of the parent's fails at once with `shutting_down`. Blocking
/// calls throw it. So do asynchronous ones whose handler would run on the slot's own threads, or on Asio's
/// system_executor, as that of use_future; others complete on their executor, which has to run in the child. Requests
/// that were pending never complete there. The child may destroy the slot and its leases: models and the backend are
/// left as they are. A slot made in the child works.
template <ModelBackend Backend, class Clock = std::chrono::steady_clock>
class ModelSlot {
public:
    /// The type of the backend.
    using backend_type = Backend;
    /// The type of the models.
    using model_type = typename Backend::model_type;
    /// The type of the leases.
    using lease_type = Lease<model_type>;

    /// A slot with nothing resident. `name` stands in events, errors and status.
    ///
    /// Throws std::invalid_argument naming the option that is wrong, or the `Executors` that are missing;
    /// std::system_error if a thread cannot be made; boost::system::system_error, which is no std::system_error, if a
    /// timer cannot be made, as when the process has no descriptor left. Nothing is left behind then.
    explicit ModelSlot(Backend backend, const SlotOptions& options = {}, const Executors& executors = {},
                       const Observer& observer = {}, std::string name = "model")
        : runtime_(detail::make_runtime<Clock>(executors, {{options, name}}, observer)),
          shell_(make_shell(std::move(backend), *runtime_, 0, std::move(name))) {
        detail::end_at_exit(runtime_, shell_);
    }
    ModelSlot(const ModelSlot&) = delete;
    ModelSlot& operator=(const ModelSlot&) = delete;
    /// See the class.
    ~ModelSlot() {
        if (runtime_) {
            runtime_->end(detail::Ending::destruction, *shell_);
        }
        detail::SlotMemory<detail::SlotShell<Clock>>::let_go(shell_);
    }

    // -- Leases -------------------------------------------------------------------------------------------------------

    /// Takes a lease on the model for `key`; loads the model if it is not resident.
    ///
    /// Signature  void(std::exception_ptr, Lease<model_type>)
    /// Completes  when the lease is granted or can no longer be; never inside this call
    /// Errors     invalid_request, shutting_down, model_changed, unknown_model, cooling_down, insufficient_memory,
    ///            overloaded, timed_out (queue, memory, load), load_failed or the code of the backend's own Error;
    ///            operation_aborted
    /// Cancel     any type: the waiter leaves the queue; a load that others wait for goes on
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_acquire]
    template <asio::completion_token_for<void(std::exception_ptr, lease_type)> Token = asio::use_awaitable_t<>>
    auto async_acquire(const ModelKey& key, RequestOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, lease_type)>(InitiateAcquire{shell_}, token, key,
                                                                                 options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, lease_type)> Token = asio::use_awaitable_t<>>
    auto async_acquire(const ModelKey& key, Token&& token = Token()) {
        return async_acquire(key, RequestOptions(), std::forward<Token>(token));
    }

    /// The same, blocking.
    ///
    /// Throws     the errors of `async_acquire`; would_deadlock where it could only hang: inside a backend, a model, an
    ///            observer or a handler without an executor, and on a thread that runs one of the slot's executors, if
    ///            that is an io_context's, a thread_pool's or a strand of one. Executors of other types cannot be
    ///            recognised; the call then hangs
    /// Threads    any but those. Precondition: this thread holds no lease that the grant would have to wait for
    lease_type acquire(const ModelKey& key, RequestOptions options = {}) {
        return block_on<lease_type>(key, options.timeout,
                                    [&](auto handler) { InitiateAcquire{shell_}(std::move(handler), key, options); });
    }

    /// A lease now, or an empty one: if the model is not ready, has waiters or drains, or no lease is free. Never
    /// waits, never loads.
    ///
    /// Threads    any, also inside handlers
    lease_type try_acquire(const ModelKey& key) {
        if (shell_->is_in_child()) {
            return lease_type();
        }
        detail::ResidentRecord* const record = shell_->try_acquire(key, RequestOptions());
        return record == nullptr ? lease_type() : detail::LeaseAccess::make<model_type>(*record);
    }

    /// Loads the model for `key` if it is not resident, and starts a full keep-alive.
    ///
    /// Signature  void(std::exception_ptr, Generation)
    /// Completes  when the model is ready or cannot be loaded; never inside this call
    /// Errors     those of `async_acquire`
    /// Cancel     any type: the waiter leaves the queue; a load that others wait for goes on
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_ensure_loaded]
    template <asio::completion_token_for<void(std::exception_ptr, Generation)> Token = asio::use_awaitable_t<>>
    auto async_ensure_loaded(const ModelKey& key, RequestOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, Generation)>(InitiateEnsureLoaded{shell_}, token,
                                                                                 key, options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, Generation)> Token = asio::use_awaitable_t<>>
    auto async_ensure_loaded(const ModelKey& key, Token&& token = Token()) {
        return async_ensure_loaded(key, RequestOptions(), std::forward<Token>(token));
    }

    /// The same, blocking. Throws as `acquire` does.
    Generation ensure_loaded(const ModelKey& key, RequestOptions options = {}) {
        return block_on<Generation>(key, options.timeout, [&](auto handler) {
            InitiateEnsureLoaded{shell_}(std::move(handler), key, options);
        });
    }

    // -- Unloading ----------------------------------------------------------------------------------------------------

    /// Unloads the model for `key`: grants no more leases on it, waits for those that live, destroys it. A request for
    /// the key meanwhile waits and gets a fresh load. A load that is running is asked to stop, and what it yields is
    /// unloaded unused.
    ///
    /// Signature  void(std::exception_ptr)
    /// Completes  when the model is gone and its memory back; soon if it is not resident; never inside this call
    /// Errors     invalid_request; shutting_down if the slot is destroyed meanwhile; operation_aborted
    /// Cancel     any type: the wait ends, the unloading goes on
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_unload]
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(const ModelKey& key, UnloadMode mode, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr)>(InitiateUnload{shell_}, token, key, mode);
    }
    /// The same with `UnloadMode::drain`.
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(const ModelKey& key, Token&& token = Token()) {
        return async_unload(key, UnloadMode::drain, std::forward<Token>(token));
    }
    /// The same for every model that is resident.
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(UnloadMode mode, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr)>(InitiateUnload{shell_}, token, std::nullopt, mode);
    }
    /// The same for every model that is resident, with `UnloadMode::drain`.
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(Token&& token = Token()) {
        return async_unload(UnloadMode::drain, std::forward<Token>(token));
    }

    /// The same, blocking. Throws as `acquire` does. Precondition: this thread holds no lease on the model.
    void unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain) {
        block_on<runtime::Nothing>(key, {},
                                   [&](auto handler) { InitiateUnload{shell_}(std::move(handler), key, mode); });
    }
    /// The same for every model that is resident.
    void unload(UnloadMode mode = UnloadMode::drain) {
        block_on<runtime::Nothing>(
            ModelKey(), {}, [&](auto handler) { InitiateUnload{shell_}(std::move(handler), std::nullopt, mode); });
    }

    /// Ends the slot: refuses new requests, fails those that wait, lets leases and calls end, asks loads to stop,
    /// unloads everything. Past the deadline it completes with the keys that are left; each of them is unloaded when
    /// its last lease ends.
    ///
    /// Signature  void(std::exception_ptr, ShutdownReport)
    /// Completes  when nothing is left: no model, no timer, no waiter, and the handlers of all requests before it were
    ///            posted; or at the deadline; never inside this call. Several shutdowns complete each at its own
    ///            deadline
    /// Errors     operation_aborted
    /// Cancel     any type: the wait ends, the shutdown goes on
    /// Threads    any, also inside handlers
    /// Example    examples/12_each_call.cpp [async_shutdown]
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(ShutdownOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, ShutdownReport)>(StartShutdown{shell_}, token,
                                                                                     options);
    }
    /// The same with a deadline alone.
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(std::chrono::milliseconds deadline, Token&& token = Token()) {
        return async_shutdown(ShutdownOptions{deadline}, std::forward<Token>(token));
    }
    /// The same without a deadline.
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(Token&& token = Token()) {
        return async_shutdown(ShutdownOptions(), std::forward<Token>(token));
    }

    /// The same, blocking. Throws would_deadlock as `acquire` does. Precondition: this thread holds no lease of the
    /// slot.
    ShutdownReport shutdown(ShutdownOptions options = {}) {
        return block_on<ShutdownReport>(ModelKey(), options.deadline,
                                        [&](auto handler) { StartShutdown{shell_}(std::move(handler), options); });
    }
    /// The same with a deadline alone.
    ShutdownReport shutdown(std::optional<std::chrono::milliseconds> deadline) {
        return shutdown(ShutdownOptions{deadline});
    }

    // -- Looking in ---------------------------------------------------------------------------------------------------

    /// The generation counter. Two equal readings mean that no residency began or ended between them. Takes no lock.
    [[nodiscard]] Generation generation() const noexcept { return shell_->generation(); }
    /// What the slot looks like now. Does not count as use.
    [[nodiscard]] SlotStatus status() const { return shell_->status(); }

private:
    template <EmbeddingBackend, RerankerBackend, class>
    friend class ModelManager;

    using Shell = detail::BackendSlot<Backend, Clock>;
    using InitiateAcquire = detail::InitiateAcquire<Shell, model_type>;
    using InitiateEnsureLoaded = detail::InitiateEnsureLoaded<Shell>;
    using InitiateUnload = detail::InitiateUnload<Shell>;
    using StartShutdown = detail::StartShutdown<Shell>;

    // One slot of a manager, which ends it itself.
    ModelSlot(Backend backend, const detail::SlotRuntime<Clock>& runtime, std::size_t index, std::string name)
        : shell_(make_shell(std::move(backend), runtime, index, std::move(name))) {}

    static std::shared_ptr<Shell> make_shell(Backend&& backend, const detail::SlotRuntime<Clock>& runtime,
                                             std::size_t index, std::string name) {
        const SlotOptions& options = runtime.options(index);
        if (options.memory && options.model_memory == 0 && !detail::says_memory_needed(backend)) {
            throw std::invalid_argument(
                "residency: option " + name +
                ".model_memory must not be zero with a memory budget and a backend that does not "
                "say how much memory a model needs (memory_needed)");
        }
        const std::shared_ptr<detail::MemoryBroker> budget = detail::MemoryAccess::broker(options.memory);
        auto shell = std::make_shared<Shell>(std::move(backend), std::move(name), options, runtime.executors(index),
                                             runtime.events(), budget);
        if (budget) {
            detail::SlotMemory<detail::SlotShell<Clock>>::join(budget, shell);
        }
        return shell;
    }

    template <class Result, class Start>
    Result block_on(const ModelKey& key, std::optional<std::chrono::milliseconds> timeout, const Start& start) {
        return detail::block_on<Result>(*shell_, key, timeout, start);
    }

    // Null in a slot of a manager. Destroyed last: its threads have to end before what they use.
    std::shared_ptr<detail::SlotRuntime<Clock>> runtime_{};
    std::shared_ptr<Shell> shell_;
};

}  // namespace residency
