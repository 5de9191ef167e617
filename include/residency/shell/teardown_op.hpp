#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/shell/forked.hpp"
#include "residency/shell/pending_handler.hpp"
#include "residency/shell/pending_teardown.hpp"
#include "residency/shell/request.hpp"
#include "residency/shell/shared_from_this.hpp"
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

/// An unload or a shutdown of `Slots` slots. Completes when all of them have; its caller may stop waiting earlier.
template <std::size_t Slots>
class Teardown : public SharedFromThis<Teardown<Slots>> {
public:
    Teardown(const Teardown&) = delete;
    Teardown& operator=(const Teardown&) = delete;
    virtual ~Teardown() = default;

    /// Its caller has cancelled: the wait ends, and nothing of it is left; what it began goes on.
    void cancel() noexcept {
        for (std::size_t index = 0; index < Slots; ++index) {
            slots_[index]->forget(parts_[index]);
        }
        finish(make_error_of([] {
            return Error(operation_aborted(), ModelKey(), Stage::unload,
                         "cancelled while it waited; what it began goes on");
        }));
    }

protected:
    explicit Teardown(std::array<std::shared_ptr<SlotBase>, Slots> all) : slots_(std::move(all)) {}

    /// Where its handler is called.
    [[nodiscard]] const runtime::Delivery& delivery() const noexcept { return slots_.front()->delivery(); }
    /// Throws only bad_alloc.
    void prepare() {
        for (std::size_t index = 0; index < Slots; ++index) {
            slots_[index]->prepare_teardown();
            parts_[index].op = this;
        }
    }
    /// Starts it with `start(slot, teardown)` in each slot; precondition: prepared. Throws only bad_alloc, and then
    /// nothing has begun.
    template <class Start>
    void start_parts(const Start& start) {
        const auto self = this->shared_from_this();
        for (std::size_t index = 0; index < Slots; ++index) {
            try {
                start(*slots_[index], std::shared_ptr<PendingTeardown>(self, &parts_[index]));
            } catch (...) {
                if (index == 0) {
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
        Teardown* op = nullptr;
    };

    /// Calls the handler; once.
    virtual void complete(std::exception_ptr error, ShutdownReport&& report) noexcept = 0;

    void part_completed() noexcept {
        if (--remaining_ == 0) {
            std::exception_ptr error;
            for (const Part& part : parts_) {
                error = part.error ? part.error : error;
            }
            finish(std::move(error));
        }
    }

    void finish(std::exception_ptr error) noexcept {
        if (done_.exchange(true)) {
            return;
        }
        ShutdownReport report;
        if (!error) {
            error = merge(report);
        }
        complete(std::move(error), std::move(report));
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
};

/// Cancels the wait for one.
template <std::size_t Slots>
class CancelTeardown {
public:
    explicit CancelTeardown(Teardown<Slots>& teardown) : teardown_(teardown.shared_from_this()) {}
    void operator()(bool /*terminal*/) const { teardown_->cancel(); }

private:
    std::shared_ptr<Teardown<Slots>> teardown_;
};

/// One with its handler, which is called with an exception_ptr and, after a shutdown, what that has left behind.
template <std::size_t Slots, class Handler, class... Report>
class TeardownOp final : public Teardown<Slots> {
public:
    TeardownOp(Handler&& handler, std::array<std::shared_ptr<SlotBase>, Slots> all)
        : Teardown<Slots>(std::move(all)), handler_(std::move(handler), this->delivery()) {}

    /// Starts it with `start(slot, teardown)` in each slot. Throws only bad_alloc, and then nothing has begun.
    template <class Start>
    void run(const Start& start) {
        this->prepare();
        handler_.template on_cancel<CancelTeardown<Slots>>(static_cast<Teardown<Slots>&>(*this));
        try {
            this->start_parts(start);
        } catch (...) {
            handler_.forget_cancel();
            throw;
        }
    }

private:
    void complete(std::exception_ptr error, ShutdownReport&& report) noexcept override {
        if constexpr (sizeof...(Report) == 0) {
            handler_.complete(this->delivery(), std::move(error));
        } else {
            handler_.complete(this->delivery(), std::move(error), std::move(report));
        }
    }

    PendingHandler<Handler, std::exception_ptr, Report...> handler_;
};

/// What an unload does in a slot: `only` the resident of that key, or all if it is null.
struct StartUnloadIn {
    const ModelKey* only;
    UnloadMode mode;
    void operator()(SlotBase& slot, const std::shared_ptr<PendingTeardown>& teardown) const {
        slot.start_unload(only, mode, teardown);
    }
};

/// What a shutdown does in a slot.
struct StartShutdownIn {
    const ShutdownOptions& options;
    void operator()(SlotBase& slot, const std::shared_ptr<PendingTeardown>& teardown) const {
        slot.start_shutdown(options, teardown);
    }
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
        std::make_shared<TeardownOp<1, Plain>>(Plain(std::forward<Handler>(handler)),
                                               std::array<std::shared_ptr<SlotBase>, 1>{slot.owner()})
            ->run(StartUnloadIn{only, mode});
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
                std::make_shared<TeardownOp<count, Plain, ShutdownReport>>(
                    Plain(std::forward<Handler>(handler)),
                    std::array<std::shared_ptr<SlotBase>, count>{slot.owner()...})
                    ->run(StartShutdownIn{options});
            },
            shells);
    }
};

}  // namespace residency::detail
