#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/serial_executor.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>

// A host's headers may have defined this, Qt's do: it is a member of Asio's.
#pragma push_macro("emit")
#undef emit

namespace residency::detail {

/// Makes the model calls that `Calls` (a `SharedCall` or a `PartCall`) wants of a model that answers asynchronously:
/// one after the other, each a coroutine on one strand over the inference executor. It occupies no thread while they
/// wait. What asks the model to stop also cancels the coroutine that runs.
template <class Calls>
class AsyncCall : public std::enable_shared_from_this<AsyncCall<Calls>> {
public:
    /// For `of`, which is of `owner`.
    template <class Of>
    AsyncCall(boost::intrusive_ptr<InferenceWaiter> owner, SlotBase& slot, Of& of)
        : owner_(std::move(owner)),
          slot_(slot),
          strand_(runtime::SerialExecutor::over(slot.inference(), slot.delivery().owner)),
          work_(slot.inference()),
          calls_(of) {}

    /// Starts the next call, which never begins before this returns: the thread that grants the first has other things
    /// to carry out, and may be in the request's initiating call (R16); and after a failure there may be a call for
    /// each request, which must not run one inside the other's end.
    void begin() noexcept {
        try {
            asio::post(strand_, Start(this->shared_from_this()));
        } catch (...) {  // NOLINT(bugprone-empty-catch): `Start` has given the lease back
        }
    }

private:
    // The start of one. If the inference executor destroys that instead, the lease is given back.
    class Start {
    public:
        explicit Start(std::shared_ptr<AsyncCall> call) noexcept : call_(std::move(call)) {}
        Start(Start&&) noexcept = default;
        Start(const Start&) = delete;
        Start& operator=(const Start&) = delete;
        Start& operator=(Start&&) = delete;
        ~Start() {
            if (call_) {
                call_->dropped();
            }
        }

        void operator()() { std::exchange(call_, nullptr)->spawn(); }

    private:
        std::shared_ptr<AsyncCall> call_;
    };

    // The end of one coroutine. If the inference executor destroys that instead, the lease is given back.
    class Ended {
    public:
        using cancellation_slot_type = asio::cancellation_slot;

        explicit Ended(std::shared_ptr<AsyncCall> call) noexcept : call_(std::move(call)) {}
        Ended(Ended&&) noexcept = default;
        Ended(const Ended&) = delete;
        Ended& operator=(const Ended&) = delete;
        Ended& operator=(Ended&&) = delete;
        ~Ended() {
            if (call_) {
                call_->dropped();
            }
        }

        [[nodiscard]] cancellation_slot_type get_cancellation_slot() const noexcept { return call_->cancel_.slot(); }
        template <class Given>
        void operator()(const std::exception_ptr& thrown, Given given) {
            const std::shared_ptr<AsyncCall> call = std::move(call_);
            call->ended(thrown, std::move(given));
        }

    private:
        std::shared_ptr<AsyncCall> call_;
    };

    struct Stop {
        AsyncCall* call;
        void operator()() const noexcept { call->stop(); }
    };

    void spawn() noexcept {
        try {
            asio::co_spawn(
                strand_, [self = this->shared_from_this()] { return self->call(); }, Ended(this->shared_from_this()));
        } catch (...) {  // NOLINT(bugprone-empty-catch): `Ended` has given the lease back
        }
    }

    // In the strand: what the coroutine awaits.
    auto call() {
        if (!began_) {
            began_ = true;
            calls_.begins();
            // Registered here: what it posts comes after the coroutine has its cancellation slot.
            stop_.emplace(calls_.stop_token(), Stop{this});
            is_wanted_ = calls_.next();
            if (!is_wanted_) {
                throw boost::system::system_error(asio::error::operation_aborted);
            }
        }
        auto given = calls_.template call<true>();
        if (!given.valid()) {
            throw Error(errc::bad_result, ModelKey(), Stage::inference,
                        "the model gave an awaitable that is empty: one made without a coroutine, or moved from");
        }
        return given;
    }

    // In the strand.
    template <class Given>
    void ended(const std::exception_ptr& thrown, Given&& given) noexcept {
        if (is_wanted_) {
            if (thrown) {
                calls_.threw(thrown);
            } else {
                try {
                    calls_.gave(std::forward<Given>(given));
                } catch (...) {
                    calls_.threw(std::current_exception());
                }
            }
            if (calls_.next()) {
                begin();
                return;
            }
        }
        stop_.reset();
        calls_.end();
    }

    void dropped() noexcept {
        stop_.reset();
        calls_.drop();
        calls_.end();
    }

    // On the thread that requests the stop.
    void stop() noexcept {
        try {
            if (std::shared_ptr<AsyncCall> self = this->weak_from_this().lock()) {
                asio::post(strand_, [self = std::move(self)] { self->cancel_.emit(asio::cancellation_type::all); });
            }
        } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: the model's stop_token says it, too
        }
    }

    const boost::intrusive_ptr<InferenceWaiter> owner_;
    SlotBase& slot_;
    const runtime::SerialExecutor strand_;
    // So that the executor's context has work to do while the coroutine waits for something else.
    const asio::executor_work_guard<asio::any_io_executor> work_;
    Calls calls_;
    // Used in the strand, or once nothing runs in it any more.
    asio::cancellation_signal cancel_{};
    std::optional<std::stop_callback<Stop>> stop_{};
    bool began_ = false;
    bool is_wanted_ = true;
};

}  // namespace residency::detail

#pragma pop_macro("emit")
