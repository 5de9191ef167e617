#pragma once

#include "residency/error.hpp"
#include "residency/runtime/mutex.hpp"

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

namespace residency::testing {

/// Keeps what an asynchronous call was answered, for a test to look at: how often its handler was called, and with
/// what.
///
/// `Outcome<Embeddings>` takes a `void(std::exception_ptr, Embeddings)`, `Outcome<>` a `void(std::exception_ptr)`.
///
///     Outcome<Embeddings> answer;
///     models.async_embed("minilm", texts, answer.handler());
///     run_ready(context);
///     CHECK(answer.calls() == 1);
///     CHECK(answer.value().size() == texts.size());
///
/// All functions may be called from any thread, and the handler may outlive the outcome.
template <class Result = void>
class Outcome {
    // A handler without a result still needs something to keep.
    using Value = std::conditional_t<std::is_void_v<Result>, std::monostate, Result>;
    static constexpr std::size_t results = std::is_void_v<Result> ? 0 : 1;

    struct State {
        mutable runtime::Mutex mutex{};
        mutable std::condition_variable_any called{};
        std::size_t calls RESIDENCY_GUARDED_BY(mutex) = 0;
        std::exception_ptr exception RESIDENCY_GUARDED_BY(mutex){};
        std::optional<Value> value RESIDENCY_GUARDED_BY(mutex){};
    };

public:
    /// The completion handler. Copies of it count as the same.
    class Handler {
    public:
        /// Keeps the first answer and counts all.
        template <class... Answer>
        void operator()(std::exception_ptr exception, Answer&&... answer) const requires(sizeof...(Answer) == results) {
            const runtime::MutexLock lock(state_->mutex);
            if (++state_->calls == 1) {
                state_->exception = std::move(exception);
                state_->value.emplace(std::forward<Answer>(answer)...);
            }
            state_->called.notify_all();
        }

    private:
        friend class Outcome;
        explicit Handler(std::shared_ptr<State> state) : state_(std::move(state)) {}
        std::shared_ptr<State> state_;
    };

    /// A handler for one call. It has no executor of its own; `boost::asio::bind_executor` gives it one.
    [[nodiscard]] Handler handler() const { return Handler(state_); }

    /// How often the handler was called. Once is right; none means that the call has not completed.
    [[nodiscard]] std::size_t calls() const {
        const runtime::MutexLock lock(state_->mutex);
        return state_->calls;
    }

    /// Whether a handler, or a copy of one, still exists somewhere.
    [[nodiscard]] bool held() const noexcept { return state_.use_count() > 1; }

    /// Waits until the handler has been called; for calls that complete on other threads.
    void wait() const {
        const runtime::MutexLock lock(state_->mutex);
        while (state_->calls == 0) {
            state_->called.wait(state_->mutex);
        }
    }

    /// The result, or the failure, which is thrown. Throws std::logic_error if the call has not completed.
    Value& value() {
        const runtime::MutexLock lock(state_->mutex);
        require_called();
        if (state_->exception) {
            std::rethrow_exception(state_->exception);
        }
        return *state_->value;
    }

    /// What the call failed with; null if it succeeded. Throws std::logic_error if it has not completed.
    [[nodiscard]] std::exception_ptr exception() const {
        const runtime::MutexLock lock(state_->mutex);
        require_called();
        return state_->exception;
    }

    /// The code of what the call failed with; no error if it succeeded. A failure that has no code is thrown.
    /// Throws std::logic_error if the call has not completed.
    [[nodiscard]] boost::system::error_code code() const {
        try {
            if (const std::exception_ptr failure = exception()) {
                std::rethrow_exception(failure);
            }
            return {};
        } catch (const boost::system::system_error& failure) {
            return failure.code();
        }
    }

    /// What the call failed with, as the Error that it should be. A failure of another kind is thrown.
    /// Throws std::logic_error if the call has not completed or has succeeded.
    [[nodiscard]] Error error() const {
        try {
            if (const std::exception_ptr failure = exception()) {
                std::rethrow_exception(failure);
            }
        } catch (const Error& failure) {
            return failure;
        }
        throw std::logic_error("residency: the call succeeded");
    }

private:
    void require_called() const RESIDENCY_REQUIRES(state_->mutex) {
        if (state_->calls == 0) {
            throw std::logic_error("residency: the call has not completed");
        }
    }

    std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace residency::testing
