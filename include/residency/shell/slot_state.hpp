#pragma once

#include "residency/core/slot_scheduler.hpp"
#include "residency/core/time.hpp"
#include "residency/detail/leased_model.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/shared_cause.hpp"
#include "residency/shell/outbox.hpp"
#include "residency/shell/pending_teardown.hpp"
#include "residency/shell/pending_teardowns.hpp"
#include "residency/shell/resident_records.hpp"
#include "residency/shell/running_calls.hpp"
#include "residency/shell/sizing_failures.hpp"
#include "residency/shell/slot_events.hpp"
#include "residency/shell/waiter.hpp"
#include "residency/std_deque.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace residency::detail {

/// What a slot's mutex guards: the scheduler and, by its indices, the waiters, the records of the residents and the
/// teardowns. It turns what the scheduler decides into an `Outbox`, and decides nothing itself.
template <class Clock>
struct SlotState {
    /// Of a slot with this name; `owner` owns its leases. All but the options outlive this. With a `memory_limit` it
    /// has a budget; `backend_sizes`: the backend says how much memory a key needs.
    SlotState(const SlotOptions& options, std::optional<std::size_t> memory_limit, bool backend_sizes,
              const std::string& slot, const SlotEvents& events, LeaseOwner& owner)
        : scheduler(memory_limit ? core::SlotScheduler(options, *memory_limit, backend_sizes)
                                 : core::SlotScheduler(options)),
          slot_(slot),
          events_(events),
          owner_(owner) {
        reserve();
    }
    SlotState(const SlotState&) = delete;
    SlotState& operator=(const SlotState&) = delete;

    core::SlotScheduler scheduler;
    /// What the scheduler has decided and `collect` has not yet taken.
    core::Actions actions{};
    /// By the index of their requests.
    std::deque<boost::intrusive_ptr<Waiter>> waiters{};
    ResidentRecords records{};
    PendingTeardowns teardowns{};
    /// What the backend threw instead of saying how much keys need.
    SizingFailures sizing_failed{};
    /// Whether the slot is being destroyed.
    bool abandoned = false;
    /// Whether models are destroyed by the thread that unloads them.
    bool unloads_in_place = false;
    /// How often the alarm's timer was set.
    std::uint64_t timer_waits = 0;

    /// The time. Read under the mutex, times do not run backwards.
    [[nodiscard]] static core::Time now() noexcept {
        return std::chrono::duration_cast<core::Time>(Clock::now().time_since_epoch());
    }

    /// Makes room for what one more request may lead to, so that nothing on its way needs memory but the record of a
    /// load. Throws bad_alloc.
    void reserve() {
        const std::size_t residents = scheduler.residents().size();
        const std::size_t in_sight = (std::min)(scheduler.max_resident(), residents + scheduler.waiting() + 1);
        // A few for each resident that may come before the next request.
        const std::size_t most_actions =
            scheduler.most_actions() + 8 * (in_sight - (std::min)(in_sight, residents)) + 8;
        if (actions.capacity() < most_actions) {
            actions.reserve(most_actions + most_actions / 2);
        }
        const std::size_t requests = std::size_t{scheduler.queue().requests().next_index()} + 1;
        if (waiters.size() < requests) {
            constexpr std::size_t some = 64;
            waiters.resize(requests + some);
        }
        teardowns.reserve(std::size_t{scheduler.teardowns().next_index()} + 1);
    }

    /// Collects all actions.
    void collect(Outbox& out) noexcept {
        collect_first(actions.size(), out);
        give_up_early(out);
        fail_loads_without_record(out);
        constexpr std::size_t kept = 1024;
        if (scheduler.queue().requests().size() == 0 && waiters.size() > kept) {
            waiters.clear();
        }
        records.remove_gone(scheduler.residents(), out.gone);
    }
    /// Collects the first `count` actions.
    void collect_first(std::size_t count, Outbox& out) noexcept {
        for (std::size_t index = 0; index < count; ++index) {
            collect_one(actions[index], out);
        }
        actions.erase(actions.begin(), actions.begin() + static_cast<std::ptrdiff_t>(count));
    }

    /// The call of `first`, and of all that joined it, has ended. They complete, but for those that have completed
    /// early; gives how many. `keep` owns the first of them from now on if the slot did.
    std::size_t end_calls(InferenceWaiter& first, boost::intrusive_ptr<Waiter>& keep) noexcept {
        std::size_t complete = 0;
        for (InferenceWaiter* call = &first; call != nullptr; call = call->next_in_call.get()) {
            call->completes = !call->completed_early.exchange(true);
            complete += call->completes ? 1U : 0U;
            end_call(*call);
            if (call->request.valid()) {
                // Those that joined are owned by the one before, too.
                boost::intrusive_ptr<Waiter> owner = std::move(waiters[call->request.index]);
                if (call == &first) {
                    keep = std::move(owner);
                } else {
                    scheduler.leave_call(call->request);
                }
            }
        }
        return complete;
    }
    /// A part has ended; `failed`: its request fails with it. Gives whether the request completes. `keep` owns it from
    /// now on if the slot did and does no more.
    bool end_part(CallPart& part, bool failed, Outbox& out, boost::intrusive_ptr<Waiter>& keep) noexcept {
        InferenceWaiter& call = *part.call;
        CutRequest& cut = *call.cut;
        bool completes = false;
        --cut.running;
        cut.texts_ended += part.count;
        if (failed || cut.texts_ended == call.own_texts) {
            completes = !call.completed_early.exchange(true);
        }
        if (failed && completes) {
            if (scheduler.give_up(call.request, now(), actions)) {
                keep = std::move(waiters[call.request.index]);
                call.request = {};
                // There is room for the actions of one decision.
                collect_first(actions.size(), out);
            }
            if (cut.running != 0) {
                out.stops.push(&call);
            }
        }
        cut.put_back(part);
        if (cut.running == 0) {
            leave_running(call);
            if (cut.all_given) {
                call.state = Waiter::State::done;
                if (call.request.valid()) {
                    keep = std::move(waiters[call.request.index]);
                    scheduler.leave_call(call.request);
                }
            }
        }
        return completes;
    }

    /// The scheduler has begun the teardown; it may be complete already.
    void begin_teardown(const std::shared_ptr<PendingTeardown>& teardown, Outbox& out) noexcept {
        if (teardown->id.valid()) {
            teardowns.add(teardown);
        } else if (teardown->is_shutdown) {
            teardowns.finish(teardown);
        } else {
            out.teardowns.push(teardown);
        }
        if (abandoned) {
            collect_first(actions.size(), out);
            end_teardowns(out);
        }
    }
    /// The slot is being destroyed: unloads are cut short, and shutdowns say what is left now.
    void end_teardowns(Outbox& out) noexcept {
        teardowns.take_all([&](std::shared_ptr<PendingTeardown> teardown) {
            scheduler.forget(teardown->id);
            teardown->is_late = true;
            if (teardown->is_shutdown) {
                report(*teardown);
                teardowns.finish(std::move(teardown));
                return;
            }
            teardown->error = make_error_of([this] {
                return Error(errc::shutting_down, ModelKey(), Stage::unload,
                             "slot '" + slot_ + "' was destroyed before everything was unloaded");
            });
            out.teardowns.push(std::move(teardown));
        });
    }

private:
    void collect_one(core::Action action, Outbox& out) noexcept {
        switch (action.type) {
            case core::ActionType::grant: {
                const boost::intrusive_ptr<Waiter> waiter =
                    action.kept ? waiters[action.subject] : std::move(waiters[action.subject]);
                out.grant(waiter, records.find(action.resident), action.generation,
                          action.kept ? waiter->request : core::RequestId());
                out.delivers = true;
                first_in_call_ = waiter->is_inference ? static_cast<InferenceWaiter*>(waiter.get()) : nullptr;
                break;
            }
            case core::ActionType::join: {
                const auto request = waiters[action.subject]->request;
                const boost::intrusive_ptr<Waiter> waiter =
                    action.kept ? waiters[action.subject] : std::move(waiters[action.subject]);
                out.join(*first_in_call_, static_cast<InferenceWaiter*>(waiter.get()),
                         action.kept ? request : core::RequestId());
                break;
            }
            case core::ActionType::part: {
                const boost::intrusive_ptr<Waiter> waiter =
                    action.kept ? waiters[action.subject] : std::move(waiters[action.subject]);
                auto& call = static_cast<InferenceWaiter&>(*waiter);
                call.cut->all_given = action.is_last;
                if (action.first == 0 && events_.wanted()) {
                    call.began = now();
                }
                out.begin_part(call, records.find(action.resident), action.first, action.count,
                               action.kept ? call.request : core::RequestId());
                out.delivers = true;
                break;
            }
            case core::ActionType::fail: {
                const boost::intrusive_ptr<Waiter> waiter = std::move(waiters[action.subject]);
                if (const ResidentRecord* const record = records.find(action.resident)) {
                    waiter->cause = record->cause;
                } else if (const SharedCause* const cause = sizing_failed.find(action.key)) {
                    waiter->cause = *cause;
                }
                out.fail(waiter, action.code, action.stage, action.duration);
                out.delivers = true;
                break;
            }
            case core::ActionType::expire:
                // Only an inference's deadline goes on after its grant.
                if (const boost::intrusive_ptr<Waiter> call = std::move(waiters[action.subject])) {
                    out.complete_early(static_cast<InferenceWaiter&>(*call), errc::timed_out);
                    out.delivers = true;
                }
                break;
            case core::ActionType::size:
                out.sized_entry = action.key;
                out.sized_key = scheduler.key_of_entry(action.key);
                break;
            case core::ActionType::load: begin_load(action.resident, out); break;
            case core::ActionType::stop_load: out.stops.push(records[action.resident]); break;
            case core::ActionType::revoke:
                out.complete_all_early(*records[action.resident], action.code);
                out.delivers = true;
                break;
            case core::ActionType::unload: begin_unload(action.resident, out); break;
            case core::ActionType::complete: complete_teardown(action, out); break;
            case core::ActionType::event: events_.push(action, records.find(action.resident), scheduler, now()); break;
        }
    }

    // What completes early is given no more parts.
    void give_up_early(Outbox& out) noexcept {
        out.early.for_each([&](InferenceWaiter& call) {
            if (call.request.valid() && scheduler.give_up(call.request, now(), actions)) {
                // The outbox owns it, too.
                waiters[call.request.index] = nullptr;
                call.request = {};
                collect_first(actions.size(), out);
            }
        });
    }

    // Loads for which there was no memory before the backend was asked: to their waiters they have failed. Each failure
    // is a call of its own, once the actions of the one before are collected: there is room for those of one call.
    void fail_loads_without_record(Outbox& out) noexcept {
        const auto& residents = scheduler.residents();
        while (std::exchange(lacks_record_, false)) {
            for (core::Index index = 0; index < residents.end_index(); ++index) {
                if (residents.used(index) && residents[index].is_load() && !residents[index].failed &&
                    records.find(index) == nullptr) {
                    scheduler.load_failed(residents.handle(index), errc::load_failed, nullptr, now(), actions);
                    collect_first(actions.size(), out);
                }
            }
        }
    }

    void begin_load(core::Index resident, Outbox& out) noexcept {
        try {
            out.loads.push(
                records.add(scheduler.residents().handle(resident), scheduler.key_of(resident), owner_, out.gone));
        } catch (...) {
            lacks_record_ = true;
        }
    }

    void begin_unload(core::Index resident, Outbox& out) noexcept {
        records[resident]->awaits_destruction = true;
        records[resident]->is_destroyed_in_place = unloads_in_place;
        out.unloads.push(records[resident]);
        out.unloads_in_place = unloads_in_place;
    }

    void complete_teardown(const core::Action& action, Outbox& out) noexcept {
        std::shared_ptr<PendingTeardown> teardown = teardowns.take(action.subject);
        if (!teardown) {
            return;
        }
        teardown->is_late = action.late;
        if (!teardown->is_shutdown) {
            out.teardowns.push(std::move(teardown));
            return;
        }
        if (action.late) {
            report(*teardown);
        }
        teardowns.finish(std::move(teardown));
    }

    // Says what of the slot is left, as the shutdown does not wait for it.
    void report(PendingTeardown& shutdown) const noexcept {
        const auto& residents = scheduler.residents();
        try {
            for (core::Index index = 0; index < residents.end_index(); ++index) {
                if (residents.used(index)) {
                    shutdown.report.leftovers.push_back(
                        {slot_, *scheduler.key_of(index), residents[index].state, residents[index].leases});
                }
            }
        } catch (...) {
            shutdown.error = std::current_exception();
        }
    }

    const std::string& slot_;
    const SlotEvents& events_;
    LeaseOwner& owner_;
    // The latest request that was granted, while those that join its call are collected.
    InferenceWaiter* first_in_call_ = nullptr;
    // Whether a load was to begin for which there was no memory.
    bool lacks_record_ = false;
};

}  // namespace residency::detail
