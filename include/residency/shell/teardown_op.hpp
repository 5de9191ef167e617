#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/shell/forked.hpp"
#include "residency/shell/pending_handler.hpp"
#include "residency/shell/pending_teardown.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/slot_ref.hpp"
#include "residency/status.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// An unload or a shutdown of `Slots` slots with its handler. Completes when all of them have; its caller may stop
/// waiting earlier.
template <std::size_t Slots, class Handler, class... Results>
class TeardownOp final : public std::enable_shared_from_this<TeardownOp<Slots, Handler, Results...>> {
public:
    TeardownOp(Handler&& handler, std::array<std::shared_ptr<SlotBase>, Slots> all)
        : slots_(std::move(all)), handler_(std::move(handler), slots_.front()->delivery()) {}

    /// Starts it with `start(slot, teardown)` in each slot. Throws only bad_alloc, and then nothing has begun.
    template <class Start>
    void run(const Start& start) {
        const auto self = this->shared_from_this();
        for (std::size_t index = 0; index < Slots; ++index) {
            slots_[index]->prepare_teardown();
            parts_[index].op = this;
        }
        handler_.on_cancel([&] { return [self](bool /*terminal*/) { self->cancel(); }; });
        for (std::size_t index = 0; index < Slots; ++index) {
            try {
                start(*slots_[index], std::shared_ptr<PendingTeardown>(self, &parts_[index]));
            } catch (...) {
                if (index == 0) {
                    handler_.forget_cancel();
                    throw;
                }
                // Another thread has used what was prepared. The first slot has begun, so this one's part ends as an
                // error.
                parts_[index].error = std::current_exception();
                part_completed();
            }
        }
    }

private:
    struct Part final : PendingTeardown {
        void completed() noexcept override { op->part_completed(); }
        TeardownOp* op = nullptr;
    };

    void part_completed() noexcept {
        if (--remaining_ == 0) {
            std::exception_ptr error;
            for (const Part& part : parts_) {
                error = part.error ? part.error : error;
            }
            finish(std::move(error));
        }
    }

    // Its caller has cancelled: the wait ends, and nothing of it is left; what it began goes on.
    void cancel() noexcept {
        for (std::size_t index = 0; index < Slots; ++index) {
            slots_[index]->forget(parts_[index]);
        }
        finish(make_error_of([] {
            return Error(operation_aborted(), ModelKey(), Stage::unload,
                         "cancelled while it waited; what it began goes on");
        }));
    }

    void finish(std::exception_ptr error) noexcept {
        if (done_.exchange(true)) {
            return;
        }
        if constexpr (sizeof...(Results) == 1) {
            handler_.complete(slots_.front()->delivery(), std::move(error));
        } else {
            ShutdownReport report;
            if (!error) {
                error = merge(report);
            }
            handler_.complete(slots_.front()->delivery(), std::move(error), std::move(report));
        }
    }

    [[nodiscard]] std::exception_ptr merge(ShutdownReport& report) noexcept {
        try {
            for (Part& part : parts_) {
                report.leftovers.insert(report.leftovers.end(), part.report.leftovers.begin(),
                                        part.report.leftovers.end());
            }
            return nullptr;
        } catch (...) {
            return std::current_exception();
        }
    }

    std::array<std::shared_ptr<SlotBase>, Slots> slots_;
    std::array<Part, Slots> parts_{};
    std::atomic<std::size_t> remaining_{Slots};
    std::atomic<bool> done_{false};
    PendingHandler<Handler, Results...> handler_;
};

/// Starts `async_unload`.
template <class Slot>
struct InitiateUnload {
    SlotRef<Slot> slot;

    template <class Handler>
    void operator()(Handler&& handler, const std::optional<ModelKey>& key, UnloadMode mode) const {
        using Plain = std::decay_t<Handler>;
        if (slot->is_in_child()) {
            refuse_in_child(slot->delivery(), Plain(std::forward<Handler>(handler)), key.value_or(ModelKey()));
            return;
        }
        if (key) {
            if (std::exception_ptr error = invalid(*key, RequestOptions())) {
                complete_at_once<std::exception_ptr>(slot->delivery(), Plain(std::forward<Handler>(handler)),
                                                     std::move(error));
                return;
            }
        }
        const ModelKey* const only = key ? &*key : nullptr;
        std::make_shared<TeardownOp<1, Plain, std::exception_ptr>>(
            Plain(std::forward<Handler>(handler)), std::array<std::shared_ptr<SlotBase>, 1>{slot.owner()})
            ->run([only, mode](SlotBase& in, const std::shared_ptr<PendingTeardown>& teardown) {
                in.start_unload(only, mode, teardown);
            });
    }
};

/// Starts `async_shutdown` of one slot or of several.
template <class... Slots>
struct StartShutdown {
    explicit StartShutdown(const std::shared_ptr<Slots>&... owners) : shells(owners...) {}

    std::tuple<SlotRef<Slots>...> shells;

    template <class Handler>
    void operator()(Handler&& handler, const ShutdownOptions& options) const {
        using Plain = std::decay_t<Handler>;
        constexpr std::size_t count = sizeof...(Slots);
        if (const auto& first = std::get<0>(shells); first->is_in_child()) {
            refuse_in_child(first->delivery(), Plain(std::forward<Handler>(handler)), ModelKey(), ShutdownReport());
            return;
        }
        std::apply(
            [&](const auto&... slot) {
                std::make_shared<TeardownOp<count, Plain, std::exception_ptr, ShutdownReport>>(
                    Plain(std::forward<Handler>(handler)),
                    std::array<std::shared_ptr<SlotBase>, count>{slot.owner()...})
                    ->run([&options](SlotBase& in, const std::shared_ptr<PendingTeardown>& teardown) {
                        in.start_shutdown(options, teardown);
                    });
            },
            shells);
    }
};

}  // namespace residency::detail
