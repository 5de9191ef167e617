#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/shell/slot_base.hpp"

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// The context that a handler runs in, or null if its executor does not tell.
template <class Handler>
[[nodiscard]] const asio::execution_context* context_of(const Handler& handler,
                                                        const asio::any_io_executor& control) noexcept {
    if constexpr (runtime::IsBlockingHandler<Handler>::value) {
        return nullptr;
    } else {
        const auto executor = asio::get_associated_executor(handler, control);
        using Executor = std::decay_t<decltype(executor)>;
        if constexpr (asio::can_query_v<Executor, asio::execution::context_t>) {
            return std::addressof(asio::query(executor, asio::execution::context));
        } else {
            return nullptr;
        }
    }
}

/// Whether the context has ended that the handler runs in. An executor may be asked for its context even then, and for nothing else.
template <class Handler>
[[nodiscard]] bool has_lost_context(const SlotBase& slot, const Handler& handler) noexcept {
    if (!slot.has_lost_any()) {
        return false;
    }
    const asio::execution_context* const context = context_of(handler, slot.control());
    return context != nullptr && slot.has_lost(context);
}

/// Whether control's context has not ended.
[[nodiscard]] inline bool control_lives(const SlotBase& slot) noexcept {
    return !slot.has_lost_any() ||
           !slot.has_lost(std::addressof(asio::query(slot.control(), asio::execution::context)));
}

/// How a handler that goes by way of control gets to its executor. What waited when the first context ended is told while that ends, when
/// whatever its executor is made of is still there; what is started later must not be called within its start.
[[nodiscard]] inline runtime::Way way_of(const SlotBase& slot, bool began_before_loss) noexcept {
    if (!slot.has_lost_any()) {
        return runtime::Way::control;
    }
    if (began_before_loss) {
        return runtime::Way::at_once;
    }
    return control_lives(slot) ? runtime::Way::control : runtime::Way::system_executor;
}

/// Has a handler called with its results on its executor, or destroys it uncalled if the context has ended that it runs in.
template <class... Results, class Handler, class... Arguments>
void deliver_by(const SlotBase& slot, runtime::Way way, Handler handler, Arguments&&... results) {
    if (has_lost_context(slot, handler)) {
        return;
    }
    runtime::complete<Results...>(slot.control(), way, std::move(handler), std::forward<Arguments>(results)...);
}

/// The same for a handler whose operation is over as it starts.
template <class... Results, class Handler, class... Arguments>
void deliver(const SlotBase& slot, Handler handler, Arguments&&... results) {
    deliver_by<Results...>(slot, way_of(slot, false), std::move(handler), std::forward<Arguments>(results)...);
}

/// A handler on its way through an operation: keeps its executor busy, connects its cancellation slot, is called exactly once or, if
/// its context has ended, destroyed uncalled.
template <class Handler, class... Results>
class PendingHandler {
public:
    PendingHandler(Handler&& handler, const std::shared_ptr<SlotBase>& slot) : handler_(std::move(handler)) {
        // A context that has ended cannot be kept busy, nor touched at all.
        if (!has_lost_context(*slot, *handler_)) {
            work_.start(*handler_, *slot);
        }
    }

    /// Has the handler called with `results`, on its executor.
    template <class... Arguments>
    void complete(const SlotBase& slot, Arguments&&... results) {
        deliver_by<Results...>(slot, way_of(slot, work_.began_before_loss()), handler_.take(),
                               std::forward<Arguments>(results)...);
        // Whoever can still cancel owns the operation, maybe for longer than its executor's context lives.
        work_.reset();
    }

    /// If the handler's caller can cancel, has what `make()` makes called when it does: `emit(terminal)`.
    template <class Make>
    void on_cancel(const Make& make) {
        if constexpr (!runtime::IsBlockingHandler<Handler>::value) {
            if (auto slot = asio::get_associated_cancellation_slot(*handler_); slot.is_connected()) {
                slot.assign([emit = make()](asio::cancellation_type type) {
                    constexpr auto any = asio::cancellation_type::terminal | asio::cancellation_type::partial |
                                         asio::cancellation_type::total;
                    if ((type & any) != asio::cancellation_type::none) {
                        emit((type & asio::cancellation_type::terminal) != asio::cancellation_type::none);
                    }
                });
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

    /// Destroys the handler uncalled.
    void drop() noexcept {
        handler_.reset();
        work_.reset();
    }

private:
    struct NoWork {
        void start(const Handler&, const SlotBase&) noexcept {}
        [[nodiscard]] static bool began_before_loss() noexcept { return false; }
        void reset() noexcept {}
    };

    // Keeps the handler's executor busy until its handler has been posted, and control if that is the way to it.
    class Work {
    public:
        void start(const Handler& handler, const SlotBase& slot) {
            tracked_.emplace(asio::prefer(asio::get_associated_executor(handler, slot.control()),
                                          asio::execution::outstanding_work.tracked));
            if constexpr (runtime::goes_by_way_of_control<Handler>) {
                detour_.began_before_loss = !slot.has_lost_any();
                if (control_lives(slot)) {
                    detour_.control.emplace(asio::prefer(slot.control(), asio::execution::outstanding_work.tracked));
                }
            }
        }
        [[nodiscard]] bool began_before_loss() const noexcept {
            if constexpr (runtime::goes_by_way_of_control<Handler>) {
                return detour_.began_before_loss;
            } else {
                return false;
            }
        }
        void reset() noexcept {
            tracked_.reset();
            if constexpr (runtime::goes_by_way_of_control<Handler>) {
                detour_.control.reset();
            }
        }

    private:
        template <class Executor>
        using Tracked = std::optional<std::decay_t<decltype(asio::prefer(std::declval<const Executor&>(),
                                                                         asio::execution::outstanding_work.tracked))>>;
        struct Detour {
            Tracked<asio::any_io_executor> control;
            bool began_before_loss = false;
        };
        struct None {};

        Tracked<runtime::HandlerExecutor<Handler>> tracked_;
        [[no_unique_address]] std::conditional_t<runtime::goes_by_way_of_control<Handler>, Detour, None> detour_;
    };

    std::conditional_t<runtime::IsBlockingHandler<Handler>::value, NoWork, Work> work_{};
    runtime::KeptHandler<Handler> handler_;
};

}  // namespace residency::detail
