#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/user_code_scope.hpp"

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace residency::runtime {

/// Where the library calls handlers.
struct Delivery {
    /// Where a handler without an executor of its own runs.
    asio::any_io_executor callbacks{};
    /// What passes an erased handler on to its executor, which cannot be posted to.
    asio::any_io_executor control{};
    /// Whose thread a handler on `callbacks` occupies; see `UserCodeScope`.
    const void* owner = nullptr;
    /// Whether the threads of these executors are the library's own.
    bool owns_threads = false;
};

/// Where a handler runs: its associated executor, or `Delivery::callbacks` if it has none.
template <class Handler>
using HandlerExecutor = asio::associated_executor_t<Handler, asio::any_io_executor>;

/// Whether an executor cannot be posted to directly (an erased completion executor): what goes there is posted
/// elsewhere, and dispatched from there.
template <class Executor>
inline constexpr bool needs_forwarding = !asio::can_require_v<Executor, asio::execution::blocking_t::never_t>;

/// Keeps a handler for as long as its operation is pending, in memory of the handler's associated allocator. That
/// memory is given back when the handler is taken out, and so before it is called, even if the operation is owned for
/// longer: by a signal that could cancel it, or by a model that still reads its texts.
template <class Handler>
class KeptHandler {
public:
    /// Throws what the allocator throws; then `handler` is as it was.
    explicit KeptHandler(Handler&& handler) : allocator_(asio::get_associated_allocator(handler)) {
        handler_ = Traits::allocate(allocator_, 1);
        try {
            Traits::construct(allocator_, std::to_address(handler_), std::move(handler));
        } catch (...) {
            Traits::deallocate(allocator_, handler_, 1);
            throw;
        }
    }
    KeptHandler(const KeptHandler&) = delete;
    KeptHandler& operator=(const KeptHandler&) = delete;
    ~KeptHandler() { reset(); }

    /// The handler; precondition: it is still kept.
    [[nodiscard]] Handler& operator*() noexcept { return *handler_; }
    /// Takes it out; precondition: it is still kept.
    [[nodiscard]] Handler take() {
        Handler handler = std::move(*handler_);
        reset();
        return handler;
    }
    /// Destroys it, if it is still kept.
    void reset() noexcept {
        if (handler_) {
            const auto handler = std::exchange(handler_, nullptr);
            Traits::destroy(allocator_, std::to_address(handler));
            Traits::deallocate(allocator_, handler, 1);
        }
    }

private:
    using Allocator =
        typename std::allocator_traits<asio::associated_allocator_t<Handler>>::template rebind_alloc<Handler>;
    using Traits = std::allocator_traits<Allocator>;

    Allocator allocator_;
    typename Traits::pointer handler_ = nullptr;
};

/// The same where the allocator is the default one: within the operation's own memory.
template <class Handler>
requires std::same_as<asio::associated_allocator_t<Handler>, std::allocator<void>>
class KeptHandler<Handler> {
public:
    /// Keeps `handler`.
    explicit KeptHandler(Handler&& handler) : handler_(std::move(handler)) {}

    /// The handler; precondition: it is still kept.
    [[nodiscard]] Handler& operator*() noexcept { return *handler_; }
    /// Takes it out; precondition: it is still kept.
    [[nodiscard]] Handler take() {
        Handler handler = std::move(*handler_);
        handler_.reset();
        return handler;
    }
    /// Destroys it, if it is still kept.
    void reset() noexcept { handler_.reset(); }

private:
    std::optional<Handler> handler_;
};

template <class Result>
class BlockingHandler;

template <class Handler>
struct IsBlockingHandler : std::false_type {};
template <class Result>
struct IsBlockingHandler<BlockingHandler<Result>> : std::true_type {};

/// Keeps a handler's executor busy while its operation is pending, and `control` if the handler is forwarded by it.
template <class Executor>
class ExecutorWork {
public:
    /// No work.
    ExecutorWork() = default;
    /// Begins to keep `executor` busy.
    ExecutorWork(const Executor& executor, const Delivery& delivery)
        : tracked_(asio::prefer(executor, asio::execution::outstanding_work.tracked)) {
        if constexpr (needs_forwarding<Executor>) {
            control_ = asio::prefer(delivery.control, asio::execution::outstanding_work.tracked);
        }
    }
    /// Takes over what `other` keeps busy; nothing of it is left behind.
    ExecutorWork(ExecutorWork&& other) noexcept
        : tracked_(std::move(other.tracked_)), control_(std::move(other.control_)) {
        other.reset();
    }
    ExecutorWork& operator=(ExecutorWork&&) = delete;
    ~ExecutorWork() = default;

    /// Lets control go, from there.
    void reset_control() noexcept {
        if constexpr (needs_forwarding<Executor>) {
            control_ = asio::any_io_executor();
        }
    }
    /// Lets everything go.
    void reset() noexcept {
        if constexpr (std::is_same_v<Tracked, asio::any_io_executor>) {
            tracked_ = asio::any_io_executor();
        } else {
            tracked_.reset();
        }
        reset_control();
    }

private:
    using TrackedExecutor = std::decay_t<decltype(asio::prefer(std::declval<const Executor&>(),
                                                               asio::execution::outstanding_work.tracked))>;
    // Many wait, and an any_io_executor needs no flag beside it: it can be empty.
    using Tracked = std::conditional_t<std::is_same_v<TrackedExecutor, asio::any_io_executor>, TrackedExecutor,
                                       std::optional<TrackedExecutor>>;
    struct Nothing {};

    Tracked tracked_{};
    [[no_unique_address]] std::conditional_t<needs_forwarding<Executor>, asio::any_io_executor, Nothing> control_{};
};

/// The same of a thread that waits, which needs no executor.
struct NoWork {};

/// What keeps the executor of such a handler busy.
template <class Handler>
using HandlerWork =
    std::conditional_t<IsBlockingHandler<Handler>::value, NoWork, ExecutorWork<HandlerExecutor<Handler>>>;

/// Begins to keep the executor of `handler` busy.
template <class Handler>
[[nodiscard]] HandlerWork<Handler> work_for(const Handler& handler, const Delivery& delivery) {
    if constexpr (IsBlockingHandler<Handler>::value) {
        return NoWork();
    } else {
        return HandlerWork<Handler>(asio::get_associated_executor(handler, delivery.callbacks), delivery);
    }
}

/// A handler and what it is called with, ready to be posted: releases the handler's executor, clears the cancellation
/// slot, calls. Once the handler has been called, nothing of its executor is touched.
template <class Handler, class... Results>
class Completion {
public:
    using allocator_type = asio::associated_allocator_t<Handler>;

    template <class... Arguments>
    explicit Completion(const void* owner, HandlerWork<Handler>&& work, Handler&& handler, Arguments&&... results)
        : owner_(owner),
          work_(std::move(work)),
          handler_(std::move(handler)),
          results_(std::forward<Arguments>(results)...) {}
    Completion(const Completion&) = delete;
    Completion& operator=(const Completion&) = delete;
    Completion(Completion&&) = default;
    Completion& operator=(Completion&&) = delete;
    ~Completion() = default;

    [[nodiscard]] allocator_type get_allocator() const noexcept { return asio::get_associated_allocator(handler_); }

    void operator()() {
        work_.reset();
        if (auto slot = asio::get_associated_cancellation_slot(handler_); slot.is_connected()) {
            slot.clear();
        }
        const UserCodeScope scope(owner_);
        call(std::index_sequence_for<Results...>());
    }

    /// Lets go of the `control` that it was forwarded by, from there.
    void reset_control() noexcept { work_.reset_control(); }

private:
    template <std::size_t... Index>
    void call(std::index_sequence<Index...> /*of the results*/) {
        std::move(handler_)(std::move(std::get<Index>(results_))...);
    }

    const void* owner_;
    HandlerWork<Handler> work_;
    Handler handler_;
    std::tuple<Results...> results_;
};

/// A completion on its way to an executor that cannot be posted to: what runs this on `control` dispatches it.
template <class Executor, class Posted>
class ForwardedCompletion {
public:
    using allocator_type = typename Posted::allocator_type;

    ForwardedCompletion(Executor executor, Posted&& completion)
        : executor_(std::move(executor)), completion_(std::move(completion)) {}

    [[nodiscard]] allocator_type get_allocator() const noexcept { return completion_.get_allocator(); }

    void operator()() {
        completion_.reset_control();
        asio::dispatch(executor_, std::move(completion_));
    }

private:
    Executor executor_;
    Posted completion_;
};

/// Whether an executor calls what is dispatched to it on the spot, as far as that can be known.
template <class Executor>
[[nodiscard]] bool is_system_executor(const Executor& executor) noexcept {
    if constexpr (requires { executor.template target<asio::system_executor>(); }) {
        return executor.template target<asio::system_executor>() != nullptr;
    } else {
        return false;
    }
}

/// Has `handler(results...)` called on its executor; never in here, but for a `BlockingHandler`, which only wakes a
/// thread. `work` is what kept the executor busy until now.
///
/// Precondition: the handler's executor runs. Throws what the executor's post throws.
template <class... Results, class Handler, class... Arguments>
void complete(const Delivery& delivery, HandlerWork<Handler>&& work, Handler handler, Arguments&&... results) {
    if constexpr (IsBlockingHandler<Handler>::value) {
        std::move(handler)(Results(std::forward<Arguments>(results))...);
    } else {
        using Posted = Completion<Handler, Results...>;
        // A copy that counts as work would be released after the post, when the handler may have run and its context be
        // gone.
        auto executor = asio::prefer(asio::get_associated_executor(handler, delivery.callbacks),
                                     asio::execution::outstanding_work.untracked);
        const void* owner = nullptr;
        if constexpr (std::is_same_v<decltype(executor), asio::any_io_executor>) {
            owner = executor == delivery.callbacks ? delivery.owner : nullptr;
        }
        Posted completion(owner, std::move(work), std::move(handler), std::forward<Arguments>(results)...);
        if constexpr (!needs_forwarding<HandlerExecutor<Handler>>) {
            // What asio::post would do; each of its layers would be compiled again for each handler.
            // The parentheses are there for hosts with a macro `require(...)`.
            const auto allocator = completion.get_allocator();
            asio::prefer((asio::require)(executor, asio::execution::blocking.never), asio::execution::relationship.fork,
                         asio::execution::allocator(allocator))
                .execute(std::move(completion));
        } else if (is_system_executor(executor)) {
            // Control would call the handler itself.
            completion.reset_control();
            asio::post(asio::system_executor(), std::move(completion));
        } else {
            asio::post(delivery.control, ForwardedCompletion(std::move(executor), std::move(completion)));
        }
    }
}

}  // namespace residency::runtime
