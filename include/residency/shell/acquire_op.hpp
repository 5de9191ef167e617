#pragma once

#include "residency/lease.hpp"
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

/// A request for a lease that waits.
template <class Handler, class Model>
class AcquireOp final : public Waiter {
public:
    AcquireOp(Handler&& handler, std::shared_ptr<SlotBase> slot)
        : slot_(std::move(slot)), handler_(std::move(handler), slot_->delivery()) {}

    [[nodiscard]] auto& handler() noexcept { return handler_; }
    void granted() noexcept override {
        handler_.complete(slot_->delivery(), std::exception_ptr(), LeaseAccess::make<Model>(*record));
    }
    void failed(std::exception_ptr error) noexcept override {
        handler_.complete(slot_->delivery(), std::move(error), Lease<Model>());
    }

private:
    std::shared_ptr<SlotBase> slot_;
    PendingHandler<Handler, std::exception_ptr, Lease<Model>> handler_;
};

/// Starts `async_acquire`.
template <class Slot, class Model>
struct InitiateAcquire {
    SlotRef<Slot> slot;

    template <class Handler>
    void operator()(Handler&& handler, const ModelKey& key, const RequestOptions& options) const {
        using Plain = std::decay_t<Handler>;
        if (slot->is_in_child()) {
            refuse_in_child(slot->delivery(), Plain(std::forward<Handler>(handler)), key, Lease<Model>());
            return;
        }
        if (std::exception_ptr error = invalid(key, options)) {
            complete_at_once<std::exception_ptr, Lease<Model>>(slot->delivery(), Plain(std::forward<Handler>(handler)),
                                                               std::move(error), Lease<Model>());
            return;
        }
        if (ResidentRecord* const record = slot->try_acquire(key, options)) {
            // Owned before the handler is copied, which may throw.
            Lease<Model> lease = LeaseAccess::make<Model>(*record);
            complete_at_once<std::exception_ptr, Lease<Model>>(slot->delivery(), Plain(std::forward<Handler>(handler)),
                                                               std::exception_ptr(), std::move(lease));
            return;
        }
        submit<AcquireOp<Plain, Model>>(Plain(std::forward<Handler>(handler)), slot.owner(), key, options);
    }
};

}  // namespace residency::detail
