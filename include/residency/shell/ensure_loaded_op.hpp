#pragma once

#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/shell/forked.hpp"
#include "residency/shell/pending_handler.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/slot_ref.hpp"

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// A request that a model be loaded.
template <class Handler>
class EnsureLoadedOp final : public Waiter {
public:
    EnsureLoadedOp(Handler&& handler, std::shared_ptr<SlotBase> slot)
        : slot_(std::move(slot)), handler_(std::move(handler), slot_->delivery()) {
        wants_lease = false;
    }

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void granted() noexcept override {
        handler_.complete(slot_->delivery(), std::exception_ptr(), Generation(generation));
    }
    void failed(std::exception_ptr error) noexcept override {
        handler_.complete(slot_->delivery(), std::move(error), Generation());
    }

private:
    std::shared_ptr<SlotBase> slot_;
    PendingHandler<Handler, std::exception_ptr, Generation> handler_;
};

/// Starts `async_ensure_loaded`.
template <class Slot>
struct InitiateEnsureLoaded {
    SlotRef<Slot> slot;

    template <class Handler>
    void operator()(Handler&& handler, const ModelKey& key, const RequestOptions& options) const {
        using Plain = std::decay_t<Handler>;
        if (slot->is_in_child()) {
            refuse_in_child(slot->delivery(), Plain(std::forward<Handler>(handler)), key, Generation());
            return;
        }
        if (std::exception_ptr error = invalid(key, options)) {
            complete_at_once<std::exception_ptr, Generation>(slot->delivery(), Plain(std::forward<Handler>(handler)),
                                                             std::move(error), Generation());
            return;
        }
        submit<EnsureLoadedOp<Plain>>(Plain(std::forward<Handler>(handler)), slot.owner(), key, options);
    }
};

}  // namespace residency::detail
