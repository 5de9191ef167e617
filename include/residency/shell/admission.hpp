#pragma once

#include "residency/core/request.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/core/time.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/shell/outbox.hpp"
#include "residency/shell/request_spec.hpp"
#include "residency/shell/slot_state.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <cstdint>

namespace residency::detail {

/// A request on its way into a slot: granted, failed, or made to wait. What takes user code, or memory and time, is
/// done between two decisions, without the mutex, and only if the request must wait: `lacks` says what.
template <class Clock>
class Admission {
public:
    /// What is to be done before the next decision.
    enum class Lacks : std::uint8_t {
        /// Nothing: it is decided.
        nothing,
        /// Whether the backend knows the key: `know`.
        answer,
        /// What the request needs to be cut: `prepare_parts`.
        parts
    };

    /// `asks`: whether the backend says which keys it knows. `came`: when an inference without a timeout came; one with
    /// a timeout says so itself.
    Admission(bool asks, const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key, const RequestOptions& options,
              core::Time came) noexcept
        : asks_(asks),
          waiter_(waiter),
          key_(key),
          options_(options),
          spec_(spec_of(options, waiter->wants_lease, waiter->is_inference, SlotState<Clock>::now)) {
        if (waiter->is_inference) {
            auto& call = static_cast<InferenceWaiter&>(*waiter);
            call.priority = options.priority;
            call.came = spec_.deadline != core::never ? spec_.since : came;
            spec_.as = call.as;
            spec_.texts = call.own_texts;
            spec_.bytes = call.own_bytes;
            cut_ = call.can_be_cut ? &call : nullptr;
        }
    }
    Admission(const Admission&) = delete;
    Admission& operator=(const Admission&) = delete;

    /// Decides, or finds out what is lacking. Under the slot's mutex. Throws bad_alloc, and then nothing has begun.
    void decide(SlotState<Clock>& state, Outbox& out) {
        lacks_ = Lacks::nothing;
        if (spec_.deadline != core::never) {
            state.reserve();
            state.scheduler.note_timeout(core::to_duration(*options_.timeout));
        }
        core::Grant grant;
        Generation generation;
        const core::Attempt attempt =
            spec_.wants_lease ? state.scheduler.try_grant(key_, spec_, grant)
                              : state.scheduler.try_ensure(key_, spec_, state.now(), generation, state.actions);
        if (attempt != core::Attempt::granted) {
            waiter_->key = state.scheduler.share(key_);
        }
        switch (attempt) {
            case core::Attempt::granted:
                out.grant(waiter_, spec_.wants_lease ? state.records[grant.resident.index].get() : nullptr, generation,
                          grant.request);
                out.delivers = true;
                if (grant.request.valid()) {
                    state.waiters[grant.request.index] = waiter_;
                }
                break;
            case core::Attempt::shutting_down: out.fail(waiter_, errc::shutting_down, Stage::admission, {}); break;
            case core::Attempt::model_changed: out.fail(waiter_, errc::model_changed, Stage::admission, {}); break;
            case core::Attempt::must_wait: wait(state, out); break;
        }
    }

    /// What is lacking.
    [[nodiscard]] Lacks lacks() const noexcept { return lacks_; }
    /// The backend's answer.
    void know(bool is_known) noexcept { spec_.is_unknown = !is_known; }
    /// Makes what the request needs to be cut. Throws bad_alloc.
    void prepare_parts() { cut_->prepare_parts(); }

private:
    void wait(SlotState<Clock>& state, Outbox& out) {
        if (asks_ && !was_asked_ && !state.scheduler.has_resident(key_)) {
            was_asked_ = true;
            lacks_ = Lacks::answer;
            return;
        }
        if (cut_ != nullptr && cut_->cut == nullptr) {
            lacks_ = Lacks::parts;
            return;
        }
        state.reserve();
        const core::Enqueued enqueued = state.scheduler.enqueue(waiter_->key, spec_, state.now(), state.actions,
                                                                cut_ == nullptr ? nullptr : &cut_->cut->lengths);
        if (enqueued.request.valid()) {
            state.collect_first(enqueued.joined_after, out);
            waiter_->request = enqueued.request;
            state.waiters[enqueued.request.index] = waiter_;
        } else {
            out.fail(waiter_, enqueued.code, enqueued.stage, enqueued.retry_after);
        }
    }

    const bool asks_;
    const boost::intrusive_ptr<Waiter>& waiter_;
    const ModelKey& key_;
    const RequestOptions& options_;
    core::RequestSpec spec_;
    // The request, if it may be cut.
    InferenceWaiter* cut_ = nullptr;
    bool was_asked_ = false;
    Lacks lacks_ = Lacks::nothing;
};

}  // namespace residency::detail
