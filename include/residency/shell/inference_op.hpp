#pragma once

#include "residency/core/slab.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/shell/forked.hpp"
#include "residency/shell/model_call.hpp"
#include "residency/shell/part_call.hpp"
#include "residency/shell/pending_handler.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/shared_call.hpp"
#include "residency/shell/slot_base.hpp"

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// A request for a model call with its handler.
template <class Handler, class Work>
class InferenceOp final : public ModelCall<Work> {
public:
    using typename ModelCall<Work>::Result;

    InferenceOp(Handler&& handler, std::shared_ptr<SlotBase> shell, Work&& of, core::Index bytes)
        : ModelCall<Work>(std::move(shell), std::move(of), bytes),
          handler_(std::move(handler), this->slot().delivery()) {}

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void complete(std::exception_ptr error, Result result) noexcept override {
        handler_.complete(this->slot().delivery(), std::move(error), std::move(result));
    }

private:
    PendingHandler<Handler, std::exception_ptr, Result> handler_;
};

/// Starts an inference that is sound, or completes one that is not, or that has nothing to do.
template <class Handler, class Slot, class Work>
void start_inference(Handler&& handler, const std::shared_ptr<Slot>& slot, const ModelKey& key,
                     const RequestOptions& options, std::exception_ptr error, bool nothing_to_do, Work work) {
    using Plain = std::decay_t<Handler>;
    using Result = typename Work::result_type;
    if (slot->is_in_child()) {
        refuse_in_child(slot->delivery(), Plain(std::forward<Handler>(handler)), key, Result());
        return;
    }
    const core::Index bytes = work.bytes();
    if (const std::size_t most = slot->most_bytes(options.priority); !error && bytes > most) {
        error = make_error(Error(errc::invalid_request, key, Stage::admission,
                                 "it has more than the " + std::to_string(most) +
                                     " bytes that may wait (max_queue_bytes, of which a quarter is kept from low "
                                     "priority); send fewer texts at once"));
    }
    if (!error && nothing_to_do && slot->closed()) {
        error = make_error(Error(errc::shutting_down, key, Stage::admission));
    }
    if (error || nothing_to_do) {
        complete_at_once<std::exception_ptr, Result>(slot->delivery(), Plain(std::forward<Handler>(handler)),
                                                     std::move(error), Result());
        return;
    }
    submit<InferenceOp<Plain, Work>>(Plain(std::forward<Handler>(handler)), slot, key, options, std::move(work), bytes);
}

}  // namespace residency::detail
