#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/user_code_scope.hpp"

#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

namespace residency::runtime {

/// Where a handler runs: its associated executor, or `control` if it has none.
template <class Handler>
using HandlerExecutor = asio::associated_executor_t<Handler, asio::any_io_executor>;

/// Whether a handler's executor cannot be posted to directly (an erased completion executor): what is posted elsewhere passes it on there.
template <class Handler>
inline constexpr bool goes_by_way_of_control =
    !asio::can_require_v<HandlerExecutor<Handler>, asio::execution::blocking_t::never_t>;

/// Keeps a handler for as long as its operation is pending, in memory of the handler's associated allocator. That memory is given back
/// when the handler is taken out, and so before it is called, whoever may own the operation for longer: a signal that could cancel it,
/// or a model that still reads what it was given.
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

/// A handler and what it is called with, ready to be posted: clears the cancellation slot, frees what the operation held, calls.
template <class Handler, class... Results>
class Completion {
public:
    using allocator_type = asio::associated_allocator_t<Handler>;

    template <class... Arguments>
    explicit Completion(Handler&& handler, Arguments&&... results)
        : handler_(std::move(handler)), results_(std::forward<Arguments>(results)...) {}

    [[nodiscard]] allocator_type get_allocator() const noexcept { return asio::get_associated_allocator(handler_); }

    void operator()() {
        if (auto slot = asio::get_associated_cancellation_slot(handler_); slot.is_connected()) {
            slot.clear();
        }
        const UserCodeScope mark;
        std::apply([this](Results&... results) { std::move(handler_)(std::move(results)...); }, results_);
    }

private:
    Handler handler_;
    std::tuple<Results...> results_;
};

/// The same for a handler that goes by way of control: it says where it belongs, and whoever runs it passes it on.
template <class Handler, class... Results>
class ForwardedCompletion : public Completion<Handler, Results...> {
public:
    using executor_type = HandlerExecutor<Handler>;

    template <class... Arguments>
    ForwardedCompletion(executor_type executor, Handler&& handler, Arguments&&... results)
        : Completion<Handler, Results...>(std::move(handler), std::forward<Arguments>(results)...),
          executor_(std::move(executor)) {}

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

private:
    executor_type executor_;
};

template <class Result>
class BlockingHandler;

template <class Handler>
struct IsBlockingHandler : std::false_type {};
template <class Result>
struct IsBlockingHandler<BlockingHandler<Result>> : std::true_type {};

/// How a handler that goes by way of control gets to its executor.
enum class Way : std::uint8_t {
    /// Control passes it on.
    control,
    /// This thread does, and calls it if that is where it belongs: a context ends, and control or the handler's own may be the next.
    at_once,
    /// One of Asio's own threads passes it on, as control has ended.
    system_executor,
};

/// Has `handler(results...)` called on its executor; never in here, but for a `BlockingHandler`, which only wakes a thread, and on the way
/// `at_once`.
///
/// Precondition: the handler's executor runs.
template <class... Results, class Plain, class... Arguments>
void complete(const asio::any_io_executor& control, Way way, Plain handler, Arguments&&... results) {
    if constexpr (IsBlockingHandler<Plain>::value) {
        std::move(handler)(Results(std::forward<Arguments>(results))...);
    } else {
        HandlerExecutor<Plain> executor = asio::get_associated_executor(handler, control);
        if constexpr (!goes_by_way_of_control<Plain>) {
            asio::post(executor,
                       Completion<Plain, Results...>(std::move(handler), std::forward<Arguments>(results)...));
        } else {
            ForwardedCompletion<Plain, Results...> completion(executor, std::move(handler),
                                                              std::forward<Arguments>(results)...);
            switch (way) {
                case Way::control: asio::post(control, std::move(completion)); break;
                case Way::at_once: asio::dispatch(std::move(completion)); break;
                case Way::system_executor: asio::post(asio::system_executor(), std::move(completion)); break;
            }
        }
    }
}

/// The result of what has none.
struct Nothing {};

/// Where a blocking call waits for its result. Lives on the caller's stack.
template <class Result>
class BlockingCall {
public:
    /// What to pass where a completion handler is wanted. Once.
    [[nodiscard]] BlockingHandler<Result> handler() noexcept { return BlockingHandler<Result>(*this); }

    /// Waits for the handler and gives its result, or throws its exception. If the handler was destroyed uncalled, because its
    /// executor is gone, throws std::runtime_error.
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

    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    std::exception_ptr error_;
    std::optional<Result> result_;
};

/// The handler of a `BlockingCall`.
template <class Result>
class BlockingHandler {
public:
    explicit BlockingHandler(BlockingCall<Result>& call) noexcept : call_(&call) {}
    BlockingHandler(BlockingHandler&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
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
