#pragma once

#include "residency/error.hpp"
#include "residency/lease.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/pending_handler.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/status.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

namespace residency::detail {

/// How a call that is about to start knows its slot. It borrows the slot of whoever makes it, which is enough for a call that starts at
/// once, and most do: they are spared two atomic steps. Copied, as whatever starts later copies it, it owns the slot.
template <class Slot>
class SlotRef {
public:
    SlotRef(const std::shared_ptr<Slot>& owner) noexcept : owner_(&owner) {}  // NOLINT(google-explicit-constructor)
    SlotRef(const SlotRef& other) noexcept : kept_(*other.owner_), owner_(&kept_) {}
    SlotRef& operator=(const SlotRef&) = delete;
    ~SlotRef() = default;

    /// For what outlives the call.
    [[nodiscard]] const std::shared_ptr<Slot>& owner() const noexcept { return *owner_; }
    [[nodiscard]] Slot& operator*() const noexcept { return **owner_; }
    [[nodiscard]] Slot* operator->() const noexcept { return owner_->get(); }

private:
    std::shared_ptr<Slot> kept_;
    const std::shared_ptr<Slot>* owner_;
};

/// Makes an operation that is no waiter; see `submit` for those that are. Its handler is kept in memory of the handler's own allocator;
/// the rest is the library's, which may need it for longer than the caller waits.
template <class Operation, class Handler, class... Arguments>
std::shared_ptr<Operation> make_operation(Handler handler, Arguments&&... arguments) {
    return std::make_shared<Operation>(std::move(handler), std::forward<Arguments>(arguments)...);
}

/// Starts an operation and waits for its result on this thread. Throws would_deadlock where that could only hang.
template <class Result, class Slot, class Start>
Result block_on(const Slot& slot, const ModelKey& key, const Start& start) {
    if (slot.would_deadlock()) {
        throw Error(errc::would_deadlock, key, Stage::admission);
    }
    runtime::BlockingCall<Result> call;
    start(call.handler());
    return call.wait();
}

/// Makes a waiter of a handler and lets the slot have it. Its handler is kept in memory of the handler's own allocator; the rest is the
/// library's, which may need it for longer than the caller waits. Throws only what making it throws, or bad_alloc, and then nothing has
/// begun.
template <class Operation, class Handler, class... Arguments>
void submit(Handler handler, const std::shared_ptr<SlotBase>& slot, const ModelKey& key, const RequestOptions& options,
            Arguments&&... arguments) {
    const boost::intrusive_ptr<Operation> operation(
        new Operation(std::move(handler), slot, std::forward<Arguments>(arguments)...));
    operation->handler().on_cancel(
        [&] { return [operation, slot = slot.get()](bool terminal) { slot->cancel(*operation, terminal); }; });
    try {
        slot->submit(operation, key, options);
    } catch (...) {
        operation->handler().forget_cancel();
        throw;
    }
}

/// A request for a lease that waits.
template <class Handler, class Model>
class AcquireOp final : public Waiter {
public:
    AcquireOp(Handler&& handler, std::shared_ptr<SlotBase> slot)
        : slot_(std::move(slot)), handler_(std::move(handler), slot_) {}

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void granted() noexcept override {
        handler_.complete(*slot_, std::exception_ptr(), LeaseAccess::make<Model>(*slot_, *record));
    }
    void failed(std::exception_ptr error) noexcept override {
        handler_.complete(*slot_, std::move(error), Lease<Model>());
    }

private:
    std::shared_ptr<SlotBase> slot_;
    PendingHandler<Handler, std::exception_ptr, Lease<Model>> handler_;
};

/// A request that a model be loaded.
template <class Handler>
class EnsureLoadedOp final : public Waiter {
public:
    EnsureLoadedOp(Handler&& handler, std::shared_ptr<SlotBase> slot)
        : slot_(std::move(slot)), handler_(std::move(handler), slot_) {
        wants_lease = false;
    }

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void granted() noexcept override { handler_.complete(*slot_, std::exception_ptr(), Generation(generation)); }
    void failed(std::exception_ptr error) noexcept override {
        handler_.complete(*slot_, std::move(error), Generation());
    }

private:
    std::shared_ptr<SlotBase> slot_;
    PendingHandler<Handler, std::exception_ptr, Generation> handler_;
};

/// A request that a model be called: takes a lease, calls `work(model, stop_token)` on the inference executor, gives the lease back,
/// and then completes. Owns what the call needs until the model has returned, also if its caller was told earlier.
template <class Handler, class Model, class Work>
class InferenceOp final : public InferenceWaiter {
public:
    using Result = typename Work::result_type;

    InferenceOp(Handler&& handler, std::shared_ptr<SlotBase> slot, Work&& work)
        : slot_(std::move(slot)), work_(std::move(work)), handler_(std::move(handler), slot_) {
        if constexpr (Work::stoppable) {
            stop_ = std::stop_source();
        }
    }

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void granted() noexcept override { slot_->run_inference(this); }
    void failed(std::exception_ptr error) noexcept override { handler_.complete(*slot_, std::move(error), Result()); }
    void request_stop() noexcept override { stop_.request_stop(); }

    void run() noexcept override {
        Result result{};
        std::exception_ptr error;
        // Who was told while waiting for a thread never reaches the model.
        if (!completed_early) {
            const runtime::UserCodeScope mark;
            try {
                result = work_(*static_cast<Model*>(record->model), stop_.get_token());
            } catch (...) {
                error = failure(std::current_exception());
            }
        }
        if (slot_->finish(*this)) {
            handler_.complete(*slot_, std::move(error), std::move(result));
        }
    }
    void dropped() noexcept override {
        if (slot_->finish(*this)) {
            handler_.drop();
        }
    }

private:
    [[nodiscard]] std::exception_ptr failure(const std::exception_ptr& thrown) noexcept {
        try {
            boost::system::error_code kept = make_error_code(errc::inference_failed);
            const std::string message = message_of(thrown);
            slot_->report_inference_failure(*record, message);
            try {
                std::rethrow_exception(thrown);
            } catch (const Error& error) {
                kept = error.code();
            } catch (...) {  // NOLINT(bugprone-empty-catch): only an Error has a code to keep
            }
            return make_error(Error(kept, *record->key, Stage::inference, message), thrown);
        } catch (...) {
            return std::current_exception();
        }
    }

    std::shared_ptr<SlotBase> slot_;
    Work work_;
    std::stop_source stop_{std::nostopstate};
    PendingHandler<Handler, std::exception_ptr, Result> handler_;
};

/// An `unload` or a `shutdown` with its handler. Completes when each of `parts` slots has; its caller may leave earlier.
template <class Handler, class... Results>
class TeardownOp final : public SlotOperation {
public:
    TeardownOp(Handler&& handler, std::shared_ptr<SlotBase> slot, std::size_t parts = 1)
        : slot_(std::move(slot)), parts_(parts), handler_(std::move(handler), slot_) {}

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void completed(std::exception_ptr error, ShutdownReport report) noexcept override {
        {
            const runtime::MutexLock lock(mutex_);
            try {
                report_.leftovers.insert(report_.leftovers.end(), report.leftovers.begin(), report.leftovers.end());
            } catch (...) {
                error = std::current_exception();
            }
            if (error) {
                error_ = std::move(error);
            }
            if (--parts_ != 0) {
                return;
            }
            error = std::move(error_);
        }
        finish(std::move(error));
    }
    /// Its caller has left: the wait ends, what it began goes on.
    void cancel() noexcept {
        finish(make_error_of([] {
            return Error(operation_aborted(), ModelKey(), Stage::unload,
                         "its caller stopped waiting; what it began goes on");
        }));
    }

private:
    void finish(std::exception_ptr error) noexcept {
        if (done_.exchange(true)) {
            return;
        }
        if constexpr (sizeof...(Results) == 1) {
            handler_.complete(*slot_, std::move(error));
        } else {
            ShutdownReport report = error ? ShutdownReport() : take_report();
            handler_.complete(*slot_, std::move(error), std::move(report));
        }
    }
    [[nodiscard]] ShutdownReport take_report() noexcept {
        const runtime::MutexLock lock(mutex_);
        return std::move(report_);
    }

    std::shared_ptr<SlotBase> slot_;
    runtime::Mutex mutex_;
    std::size_t parts_ RESIDENCY_GUARDED_BY(mutex_);
    ShutdownReport report_ RESIDENCY_GUARDED_BY(mutex_);
    std::exception_ptr error_ RESIDENCY_GUARDED_BY(mutex_);
    std::atomic<bool> done_{false};
    PendingHandler<Handler, Results...> handler_;
};

/// Connects an operation's cancellation, which ends the wait and nothing else, and starts it in `slots` with `start(slot, pending)`.
/// Throws only bad_alloc, and then nothing has begun. Owns the slots while it is in them: what it starts may be over before it returns, and
/// whoever waited for that may destroy the manager.
template <class Operation, class Start, class... Slots>
void start_operation(const std::shared_ptr<Operation>& operation, const Start& start, std::shared_ptr<Slots>... slots) {
    operation->handler().on_cancel([&] { return [operation](bool) { operation->cancel(); }; });
    try {
        // First whatever may fail, for all slots; then what they do.
        const std::array<std::shared_ptr<PendingOperation>, sizeof...(Slots)> pending{slots->prepare(operation)...};
        std::size_t index = 0;
        const auto start_next = [&](auto& slot) {
            try {
                start(slot, pending[index]);
            } catch (...) {
                if (index == 0) {
                    throw;
                }
                // What was prepared has been used by somebody else meanwhile. The first has begun, so the rest is told.
                operation->completed(std::current_exception(), {});
            }
            ++index;
        };
        (start_next(*slots), ...);
    } catch (...) {
        operation->handler().forget_cancel();
        throw;
    }
}

/// What is wrong with a request, or null.
[[nodiscard]] inline std::exception_ptr invalid(const ModelKey& key, const RequestOptions& options) {
    const auto because = [&key](const std::string& detail) {
        return make_error(Error(errc::invalid_request, key, Stage::admission, detail));
    };
    if (key.name.empty()) {
        return because("the model key has an empty name");
    }
    if (key.name.size() > ModelKey::max_part_length || key.quantization.size() > ModelKey::max_part_length) {
        return because("the model key is " + std::to_string(key.name.size() + key.quantization.size()) +
                       " bytes long; a name or a quantization has at most " +
                       std::to_string(ModelKey::max_part_length));
    }
    if (options.keep_alive && *options.keep_alive < std::chrono::milliseconds::zero()) {
        return because("RequestOptions::keep_alive is negative (zero unloads when free, keep_alive_forever never)");
    }
    if (options.priority != Priority::high && options.priority != Priority::normal &&
        options.priority != Priority::low) {
        return because("RequestOptions::priority is none of high, normal and low");
    }
    return nullptr;
}

}  // namespace residency::detail
