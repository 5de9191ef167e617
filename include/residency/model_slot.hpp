#pragma once

#include "residency/backend.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/lease.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/shell/event_queue.hpp"
#include "residency/shell/operations.hpp"
#include "residency/shell/slot_runtime.hpp"
#include "residency/shell/slot_shell.hpp"
#include "residency/status.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace residency {

template <EmbeddingBackend, RerankerBackend, class>
class ModelManager;

namespace detail {

/// A slot's shell with its backend.
template <class Backend, class Clock>
class BackendSlot final : public SlotShell<Clock> {
public:
    using Model = typename Backend::model_type;

    template <class... Arguments>
    explicit BackendSlot(Backend&& backend, Arguments&&... arguments)
        : SlotShell<Clock>(std::forward<Arguments>(arguments)...), backend_(std::move(backend)) {}
    ~BackendSlot() override { this->destroy_all(); }

private:
    void* load_model(const ModelKey& key, LoadContext& context, std::size_t& capacity) override {
        std::unique_ptr<Model> model = call_load(backend_, key, context);
        if (model) {
            capacity = concurrency_of(*model);
        }
        return model.release();
    }
    void destroy_model(void* model) noexcept override { delete static_cast<Model*>(model); }

    Backend backend_;
};

}  // namespace detail

/// The models of one kind: loads them on first use, lets any number of requests use them at once within its limits, switches between
/// them, unloads what is idle. Works alone, for whatever is expensive to hold and safe to drop; a `ModelManager` is two of them.
///
/// Errors of every asynchronous call arrive as a `residency::Error` in the handler's exception_ptr (where there is no memory for one, as
/// std::bad_alloc); no call throws one. A call itself throws only bad_alloc, and then it has started nothing. A handler runs on its
/// associated executor, on `Executors::control` if it has none, and never inside the call that started it; its associated allocator is
/// used.
///
/// Threads: all member functions may be called from any thread at once. The destructor refuses new requests, tells those that wait or
/// run `shutting_down`, and, if the executors are the slot's own, waits for loads, unloads and model calls that run. It waits for no
/// lease: one that lives on keeps its model. Destroying a slot while another thread is in one of its functions is undefined.
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
    /// Throws std::invalid_argument naming the option that is wrong; std::system_error if a thread cannot be made.
    explicit ModelSlot(Backend backend, const SlotOptions& options = {}, const Executors& executors = {},
                       const Observer& observer = {}, std::string name = "model")
        : runtime_(detail::make_runtime<Clock>(executors, {{options, name}}, observer)) {
        open(std::move(backend), options, std::move(name));
    }
    ModelSlot(const ModelSlot&) = delete;
    ModelSlot& operator=(const ModelSlot&) = delete;
    /// See the class.
    ~ModelSlot() { core_->abandon(); }

    // -- Leases -----------------------------------------------------------------------------------------------------------------------

    /// Takes a lease on the model for `key`; loads the model if it is not resident.
    ///
    /// Signature  void(std::exception_ptr, Lease<model_type>)
    /// Completes  when the lease is granted or can no longer be; never inside this call
    /// Errors     invalid_request, shutting_down, model_changed, cooling_down, overloaded, timed_out (queue, load), load_failed or the
    ///            code of the backend's own Error; operation_aborted
    /// Cancel     any type: the waiter leaves the queue; a load that others wait for goes on
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_acquire]
    template <asio::completion_token_for<void(std::exception_ptr, lease_type)> Token = asio::use_awaitable_t<>>
    auto async_acquire(const ModelKey& key, RequestOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, lease_type)>(StartAcquire{core_}, token, key,
                                                                                 options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, lease_type)> Token = asio::use_awaitable_t<>>
    auto async_acquire(const ModelKey& key, Token&& token = Token()) {
        return async_acquire(key, RequestOptions(), std::forward<Token>(token));
    }

    /// The same, blocking.
    ///
    /// Throws     the errors of `async_acquire`; would_deadlock where it could only hang: inside a handler, an observer, a backend or a
    ///            model, and on a thread that runs one of the slot's executors, if that is an io_context's, a thread_pool's or a strand of
    ///            one; of other executors nobody can tell, and it hangs
    /// Threads    any but those. Precondition: this thread holds no lease that the grant would have to wait for
    lease_type acquire(const ModelKey& key, RequestOptions options = {}) {
        return block_on<lease_type>(key, [&](auto handler) { StartAcquire{core_}(std::move(handler), key, options); });
    }

    /// A lease now, or an empty one: if the model is not ready, has waiters or drains, or no lease is free. Never waits, never loads.
    ///
    /// Threads    any, also inside handlers
    lease_type try_acquire(const ModelKey& key) {
        detail::ResidentRecord* const record = core_->try_acquire(key, RequestOptions());
        return record == nullptr ? lease_type() : detail::LeaseAccess::make<model_type>(*core_, *record);
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
        return asio::async_initiate<Token, void(std::exception_ptr, Generation)>(StartEnsure{core_}, token, key,
                                                                                 options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, Generation)> Token = asio::use_awaitable_t<>>
    auto async_ensure_loaded(const ModelKey& key, Token&& token = Token()) {
        return async_ensure_loaded(key, RequestOptions(), std::forward<Token>(token));
    }

    /// The same, blocking. Throws as `acquire` does.
    Generation ensure_loaded(const ModelKey& key, RequestOptions options = {}) {
        return block_on<Generation>(key, [&](auto handler) { StartEnsure{core_}(std::move(handler), key, options); });
    }

    // -- Unloading ----------------------------------------------------------------------------------------------------------------------

    /// Unloads the model for `key`: grants no more leases on it, waits for those that live, destroys it. Whoever asks for the key
    /// meanwhile waits and gets a fresh load. A load that is running is asked to stop, and what it yields is unloaded unused.
    ///
    /// Signature  void(std::exception_ptr)
    /// Completes  when the model is gone and its memory back; soon if it is not resident; never inside this call
    /// Errors     invalid_request; shutting_down if the slot is destroyed meanwhile; operation_aborted
    /// Cancel     any type: the wait ends, the unloading goes on
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_unload]
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(const ModelKey& key, UnloadMode mode, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr)>(StartUnload{core_}, token, key, mode);
    }
    /// The same with `UnloadMode::drain`.
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(const ModelKey& key, Token&& token = Token()) {
        return async_unload(key, UnloadMode::drain, std::forward<Token>(token));
    }
    /// The same for every model that is resident.
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(UnloadMode mode, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr)>(StartUnload{core_}, token, std::nullopt, mode);
    }
    /// The same for every model that is resident, with `UnloadMode::drain`.
    template <asio::completion_token_for<void(std::exception_ptr)> Token = asio::use_awaitable_t<>>
    auto async_unload(Token&& token = Token()) {
        return async_unload(UnloadMode::drain, std::forward<Token>(token));
    }

    /// The same, blocking. Throws as `acquire` does. Precondition: this thread holds no lease on the model.
    void unload(const ModelKey& key, UnloadMode mode = UnloadMode::drain) {
        block_on<runtime::Nothing>(key, [&](auto handler) { StartUnload{core_}(std::move(handler), key, mode); });
    }
    /// The same for every model that is resident.
    void unload(UnloadMode mode = UnloadMode::drain) {
        block_on<runtime::Nothing>(ModelKey(),
                                   [&](auto handler) { StartUnload{core_}(std::move(handler), std::nullopt, mode); });
    }

    /// Ends the slot: refuses new requests, fails those that wait, lets leases and calls end, asks loads to stop, unloads everything.
    /// Past the deadline it completes with the keys that are left; each of them is unloaded when its last lease ends.
    ///
    /// Signature  void(std::exception_ptr, ShutdownReport)
    /// Completes  when nothing is left: no model, no timer, no waiter; at the deadline; or, if nothing is resident, soon; never inside
    ///            this call. Several shutdowns complete each at its own deadline
    /// Errors     operation_aborted
    /// Cancel     any type: the wait ends, the shutdown goes on
    /// Threads    any, also inside handlers
    /// Example    examples/12_each_call.cpp [async_shutdown]
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(std::chrono::milliseconds deadline, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, ShutdownReport)>(StartShutdown{core_}, token,
                                                                                     std::optional(deadline));
    }
    /// The same without a deadline.
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, ShutdownReport)>(
            StartShutdown{core_}, token, std::optional<std::chrono::milliseconds>());
    }

    /// The same, blocking. Throws would_deadlock as `acquire` does. Precondition: this thread holds no lease of the slot.
    ShutdownReport shutdown(std::optional<std::chrono::milliseconds> deadline = {}) {
        return block_on<ShutdownReport>(ModelKey(),
                                        [&](auto handler) { StartShutdown{core_}(std::move(handler), deadline); });
    }

    // -- Looking in ---------------------------------------------------------------------------------------------------------------------

    /// The generation counter. Two equal readings mean that no residency began or ended between them. Takes no lock.
    [[nodiscard]] Generation generation() const noexcept { return core_->generation(); }
    /// What the slot looks like now. Does not count as use.
    [[nodiscard]] SlotStatus status() const { return core_->status(); }

private:
    template <EmbeddingBackend, RerankerBackend, class>
    friend class ModelManager;

    using Core = detail::BackendSlot<Backend, Clock>;

    struct StartAcquire {
        detail::SlotRef<Core> slot;

        template <class Handler>
        void operator()(Handler&& handler, const ModelKey& key, const RequestOptions& options) const {
            using Plain = std::decay_t<Handler>;
            if (std::exception_ptr error = detail::invalid(key, options)) {
                detail::deliver<std::exception_ptr, lease_type>(*slot, std::forward<Handler>(handler), std::move(error),
                                                                lease_type());
                return;
            }
            if (detail::ResidentRecord* const record = slot->try_acquire(key, options)) {
                // Owned before the handler is copied, which may throw.
                lease_type lease = detail::LeaseAccess::make<model_type>(*slot, *record);
                detail::deliver<std::exception_ptr, lease_type>(*slot, std::forward<Handler>(handler),
                                                                std::exception_ptr(), std::move(lease));
                return;
            }
            detail::submit<detail::AcquireOp<Plain, model_type>>(Plain(std::forward<Handler>(handler)), slot.owner(),
                                                                 key, options);
        }
    };

    struct StartEnsure {
        detail::SlotRef<Core> slot;

        template <class Handler>
        void operator()(Handler&& handler, const ModelKey& key, const RequestOptions& options) const {
            if (std::exception_ptr error = detail::invalid(key, options)) {
                detail::deliver<std::exception_ptr, Generation>(*slot, std::forward<Handler>(handler), std::move(error),
                                                                Generation());
                return;
            }
            using Plain = std::decay_t<Handler>;
            detail::submit<detail::EnsureLoadedOp<Plain>>(Plain(std::forward<Handler>(handler)), slot.owner(), key,
                                                          options);
        }
    };

    struct StartUnload {
        detail::SlotRef<Core> slot;

        template <class Handler>
        void operator()(Handler&& handler, const std::optional<ModelKey>& key, UnloadMode mode) const {
            if (key) {
                if (std::exception_ptr error = detail::invalid(*key, RequestOptions())) {
                    detail::deliver<std::exception_ptr>(*slot, std::forward<Handler>(handler), std::move(error));
                    return;
                }
            }
            const auto operation =
                detail::make_operation<detail::TeardownOp<std::decay_t<Handler>, std::exception_ptr>>(
                    std::forward<Handler>(handler), slot.owner());
            const ModelKey* const only = key ? &*key : nullptr;
            detail::start_operation(
                operation, [only, mode](auto& in, const auto& pending) { in.start_unload(only, mode, pending); },
                slot.owner());
        }
    };

    struct StartShutdown {
        detail::SlotRef<Core> slot;

        template <class Handler>
        void operator()(Handler&& handler, std::optional<std::chrono::milliseconds> deadline) const {
            const auto operation =
                detail::make_operation<detail::TeardownOp<std::decay_t<Handler>, std::exception_ptr, ShutdownReport>>(
                    std::forward<Handler>(handler), slot.owner());
            detail::start_operation(
                operation, [deadline](auto& in, const auto& pending) { in.start_shutdown(deadline, pending); },
                slot.owner());
        }
    };

    // For a manager, which has one runtime for both its slots and ends it itself.
    ModelSlot(Backend backend, const SlotOptions& options, std::shared_ptr<detail::SlotRuntime<Clock>> runtime,
              std::string name)
        : runtime_(std::move(runtime)) {
        open(std::move(backend), options, std::move(name));
    }

    void open(Backend&& backend, const SlotOptions& options, std::string name) {
        core_ = std::make_shared<Core>(std::move(backend), std::move(name), options, runtime_->executors(),
                                       runtime_->events(), runtime_->keep());
        if (runtime_->owns_threads()) {
            core_->hold_executors();
        } else {
            core_->watch_contexts();
        }
    }

    template <class Result, class Start>
    Result block_on(const ModelKey& key, const Start& start) {
        return detail::block_on<Result>(*core_, key, start);
    }

    // Destroyed after `core_` was abandoned: waits for what runs, if the threads are its own.
    std::shared_ptr<detail::SlotRuntime<Clock>> runtime_;
    std::shared_ptr<Core> core_;
};

}  // namespace residency
