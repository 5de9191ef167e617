#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/forked.hpp"
#include "residency/shell/pending_handler.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/slot_ref.hpp"

#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// Throws bad_result.
[[noreturn]] inline void bad_result(const std::string& detail) {
    throw Error(errc::bad_result, ModelKey(), Stage::inference, detail);
}

/// A request for a model call: takes a lease, calls `work(model, stop_token)` on the inference executor, gives the
/// lease back, and then completes. It owns what the call needs until the model has returned, also if it completed
/// early.
template <class Handler, class Model, class Work>
class InferenceOp final : public InferenceWaiter {
public:
    using Result = typename Work::result_type;

    InferenceOp(Handler&& handler, std::shared_ptr<SlotBase> slot, Work&& work)
        : slot_(std::move(slot)), work_(std::move(work)), handler_(std::move(handler), slot_->delivery()) {
        if constexpr (Work::stoppable) {
            stop_ = std::stop_source();
        }
    }

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void granted() noexcept override { slot_->run_inference(this); }
    void failed(std::exception_ptr error) noexcept override {
        handler_.complete(slot_->delivery(), std::move(error), Result());
    }
    void request_stop() noexcept override { stop_.request_stop(); }

    void run() noexcept override {
        Result result{};
        std::exception_ptr error;
        // Skip the model if the handler already completed while this waited for a thread.
        if (!completed_early) {
            const runtime::UserCodeScope scope(slot_->delivery().owner);
            try {
                result = work_(*static_cast<Model*>(record->model), stop_.get_token());
            } catch (...) {
                error = failure(std::current_exception());
            }
        }
        end(std::move(error), std::move(result));
    }
    void dropped() noexcept override {
        end(make_error_of([this] {
                return Error(errc::inference_failed, *record->key, Stage::inference,
                             "the inference executor did not run the call");
            }),
            Result());
    }

private:
    void end(std::exception_ptr error, Result result) noexcept {
        if (slot_->finish(*this)) {
            handler_.complete(slot_->delivery(), std::move(error), std::move(result));
            slot_->delivered();
        }
    }

    [[nodiscard]] std::exception_ptr failure(const std::exception_ptr& thrown) noexcept {
        try {
            boost::system::error_code kept = make_error_code(errc::inference_failed);
            const std::string message = message_of(thrown);
            // A model that throws because it was asked to stop has not failed.
            if (!completed_early) {
                slot_->report_inference_failure(*record, message);
            }
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

/// Starts an inference that is sound, or completes one that is not, or that has nothing to do.
template <class Model, class Handler, class Slot, class Work>
void start_inference(Handler&& handler, const std::shared_ptr<Slot>& slot, const ModelKey& key,
                     const RequestOptions& options, std::exception_ptr error, bool nothing_to_do, Work work) {
    using Plain = std::decay_t<Handler>;
    using Result = typename Work::result_type;
    if (slot->is_in_child()) {
        refuse_in_child(slot->delivery(), Plain(std::forward<Handler>(handler)), key, Result());
        return;
    }
    if (!error && nothing_to_do && slot->closed()) {
        error = make_error(Error(errc::shutting_down, key, Stage::admission));
    }
    if (error || nothing_to_do) {
        complete_at_once<std::exception_ptr, Result>(slot->delivery(), Plain(std::forward<Handler>(handler)),
                                                     std::move(error), Result());
        return;
    }
    submit<InferenceOp<Plain, Model, Work>>(Plain(std::forward<Handler>(handler)), slot, key, options, std::move(work));
}

}  // namespace residency::detail
