#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/completion.hpp"

#include <memory>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// Posts a handler with its results whose operation is over as it starts.
template <class... Results, class Handler, class... Arguments>
void complete_at_once(const runtime::Delivery& delivery, Handler handler, Arguments&&... results) {
    runtime::HandlerWork<Handler> work = [&] {
        if constexpr (runtime::needs_forwarding<runtime::HandlerExecutor<Handler>>) {
            return runtime::work_for(handler, delivery);
        } else {
            return runtime::HandlerWork<Handler>();
        }
    }();
    runtime::complete<Results...>(delivery, std::move(work), std::move(handler), std::forward<Arguments>(results)...);
}

/// What a cancellation slot calls: `Cancel`, with whether what was asked for is terminal.
template <class Cancel>
class OnCancel {
public:
    /// Calls a `Cancel` that is made of this.
    template <class... Of>
    explicit OnCancel(Of&... of) : cancel_(of...) {}

    void operator()(asio::cancellation_type type) {
        const auto any =
            asio::cancellation_type::terminal | asio::cancellation_type::partial | asio::cancellation_type::total;
        if ((type & any) != asio::cancellation_type::none) {
            cancel_((type & asio::cancellation_type::terminal) != asio::cancellation_type::none);
        }
    }

private:
    Cancel cancel_;
};

/// A handler on its way through an operation: keeps its executor busy, connects its cancellation slot, is called
/// exactly once.
template <class Handler, class... Results>
class PendingHandler {
public:
    PendingHandler(Handler&& handler, const runtime::Delivery& delivery)
        : handler_(std::move(handler)), work_(runtime::work_for(*handler_, delivery)) {}

    /// Has the handler called with `results`, on its executor. Nothing of that executor is left here once it is posted.
    template <class... Arguments>
    void complete(const runtime::Delivery& delivery, Arguments&&... results) {
        runtime::complete<Results...>(delivery, std::move(work_), handler_.take(), std::forward<Arguments>(results)...);
    }

    /// If the handler's caller can cancel, has a `Cancel` that is made of `of` called when it does. The type is not of
    /// the handler's: else Asio would keep each in another way.
    template <class Cancel, class... Of>
    void on_cancel(Of&... of) {
        if constexpr (!runtime::IsBlockingHandler<Handler>::value) {
            if (auto slot = asio::get_associated_cancellation_slot(*handler_); slot.is_connected()) {
                slot.template emplace<OnCancel<Cancel>>(of...);
            }
        }
    }

    /// The operation could not be started after all: it will not be cancelled either.
    void forget_cancel() noexcept {
        if constexpr (!runtime::IsBlockingHandler<Handler>::value) {
            if (auto slot = asio::get_associated_cancellation_slot(*handler_); slot.is_connected()) {
                slot.clear();
            }
        }
    }

private:
    runtime::KeptHandler<Handler> handler_;
    runtime::HandlerWork<Handler> work_;
};

}  // namespace residency::detail
