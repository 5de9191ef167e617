#pragma once

#include "residency/core/time.hpp"
#include "residency/error.hpp"
#include "residency/options.hpp"
#include "residency/shared_cause.hpp"
#include "residency/shell/call_part.hpp"
#include "residency/shell/memory_broker.hpp"
#include "residency/shell/slot_base.hpp"

#include <boost/system/error_code.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <string>

namespace residency::detail {

/// Writes the errors that a slot gives to those whom it refuses, or whose calls it does not wait for.
///
/// One for the requests that fail together: where many fail for one reason, as in a shutdown or with one load, they
/// share its text.
class ErrorWriter {
public:
    /// `budget` may be null.
    ErrorWriter(const std::string& slot, const SlotOptions& options, const MemoryBroker* budget) noexcept
        : slot_(slot), options_(options), budget_(budget) {}

    ErrorWriter(const ErrorWriter&) = delete;
    ErrorWriter& operator=(const ErrorWriter&) = delete;

    /// The error of one who waited, or was refused at once. Without memory for it, bad_alloc.
    [[nodiscard]] std::exception_ptr failed(const Waiter& waiter) noexcept {
        try {
            if (!has_written(waiter)) {
                last_.emplace(Last{waiter.code, waiter.retry_after, waiter.is_cancelled, waiter.stage, waiter.cause,
                                   waiter.cause ? of_load(waiter, waiter.stage, in_milliseconds(waiter.retry_after))
                                                : of_waiter(waiter)});
            }
            return nest(last_->error, last_->cause);
        } catch (...) {
            return std::current_exception();
        }
    }

    /// The error of one whose model is still at work. Without memory for it, bad_alloc.
    [[nodiscard]] std::exception_ptr completed_early(const InferenceWaiter& waiter) const noexcept {
        try {
            constexpr Stage stage = Stage::inference;
            if (waiter.cause) {
                // The load of its next residency failed, between two parts.
                return nest(of_load(waiter, stage, in_milliseconds(waiter.cut->retry_after)), waiter.cause);
            }
            return make_error(waiter.is_cancelled
                                  ? Error(operation_aborted(), *waiter.key, stage,
                                          "its caller cancelled it; the model finishes its call")
                                  : Error(waiter.code, *waiter.key, stage, explain(waiter.code, stage)));
        } catch (...) {
            return std::current_exception();
        }
    }

private:
    struct Last {
        errc code;
        core::Duration retry_after;
        bool cancelled;
        Stage stage;
        SharedCause cause;
        Error error;
    };

    [[nodiscard]] bool has_written(const Waiter& waiter) const noexcept {
        return last_ && last_->code == waiter.code && last_->retry_after == waiter.retry_after &&
               last_->cancelled == waiter.is_cancelled && last_->stage == waiter.stage &&
               last_->cause == waiter.cause && last_->error.key() == *waiter.key;
    }

    [[nodiscard]] Error of_waiter(const Waiter& waiter) const {
        if (waiter.is_cancelled) {
            return {operation_aborted(), *waiter.key, waiter.stage, "its caller cancelled it while it waited"};
        }
        std::optional<std::chrono::milliseconds> retry_after;
        if (waiter.code == errc::load_failed || waiter.code == errc::cooling_down ||
            (waiter.code == errc::overloaded && waiter.retry_after != core::Duration::zero())) {
            retry_after = in_milliseconds(waiter.retry_after);
        }
        std::string text = waiter.code == errc::insufficient_memory && budget_ != nullptr
                               ? explain_memory(waiter.retry_after)
                               : explain(waiter.code, waiter.stage);
        if (waiter.code == errc::overloaded && !retry_after) {
            text += "; try again later";
        }
        return {waiter.code, *waiter.key, waiter.stage, text, retry_after};
    }

    // The load failed for a cause that it names. If that is an Error its code is kept, and so is when to try again, but
    // not before the cooldown is over. Another code than the library's own says nothing of the cooldown.
    [[nodiscard]] static Error of_load(const Waiter& waiter, Stage stage,
                                       std::optional<std::chrono::milliseconds> retry_after) {
        boost::system::error_code code = make_error_code(waiter.code);
        std::optional<std::chrono::milliseconds> own;
        try {
            std::rethrow_exception(waiter.cause.exception());
        } catch (const Error& error) {
            // One of success is no reason.
            code = error.code() ? error.code() : code;
            own = error.retry_after();
        } catch (...) {  // NOLINT(bugprone-empty-catch): only an Error has a code to keep
        }
        if (own) {
            retry_after = (std::max)(*own, retry_after.value_or(*own));
        } else if (code != errc::load_failed) {
            retry_after.reset();
        }
        return {code, *waiter.key, stage, message_of(waiter.cause.exception()), retry_after};
    }

    // Rounded up: a request that comes so much later finds the cooldown over.
    [[nodiscard]] static std::chrono::milliseconds in_milliseconds(core::Duration length) {
        return std::chrono::ceil<std::chrono::milliseconds>(length);
    }

    // In place of a time to try again stands how many bytes are needed.
    [[nodiscard]] std::string explain_memory(core::Duration bytes) const {
        return "the model needs " + std::to_string(static_cast<std::size_t>(bytes.count())) +
               " bytes, and the memory budget of slot '" + slot_ + "' has a limit of " +
               std::to_string(budget_->limit()) + " bytes, of which " + std::to_string(budget_->used()) +
               " are in use; raise the limit, or unload pinned models (status() of the budget lists them)";
    }

    [[nodiscard]] std::string explain(errc code, Stage stage) const {
        switch (code) {
            case errc::overloaded:
                return "slot '" + slot_ + "' has as many requests waiting as it may: its max_queue is " +
                       std::to_string(options_.max_queue) + ", its max_queue_bytes " +
                       std::to_string(options_.max_queue_bytes) + ", and a quarter of both is kept from low priority";
            case errc::timed_out:
                return stage == Stage::load ? "the timeout passed while the model was being loaded"
                       : stage == Stage::inference
                           ? "the timeout passed while the model was at work; the model finishes its call"
                       : stage == Stage::memory
                           ? "the timeout passed while the request waited for memory of the budget of slot '" + slot_ +
                                 "'"
                           : "the timeout passed while the request waited for a lease or a place in slot '" + slot_ +
                                 "'";
            case errc::load_failed: return "there was no memory to begin the load";
            case errc::model_changed:
                return stage == Stage::inference ? "the model was revoked while it was at work, or unloaded between "
                                                   "two parts of the request"
                                                 : "the generation that the request expects is not resident (any more)";
            case errc::shutting_down: return "slot '" + slot_ + "' is shutting down or has shut down";
            case errc::unknown_model:
                return "the backend of slot '" + slot_ +
                       "' knows no model with this key; check the key's name and quantization";
            default: return make_error_code(code).message();
        }
    }

    const std::string& slot_;
    const SlotOptions& options_;
    const MemoryBroker* const budget_;
    std::optional<Last> last_{};
};

}  // namespace residency::detail
