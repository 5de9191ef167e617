#pragma once

#include "residency/shell/slot_shell.hpp"

// The work of SlotShell that has an executor of its own: loads and unloads, model calls, the alarm; and its end.

namespace residency::detail {

// -- Loads and unloads ------------------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::post_load(std::shared_ptr<ResidentRecord> record) noexcept {
    try {
        asio::post(executors_.loading, [self = this->shared_from_this(), record] { self->run_load(record); });
    } catch (...) {
        end_load(*record, nullptr, {}, std::current_exception());
    }
}

template <class Clock>
void SlotShell<Clock>::run_load(const std::shared_ptr<ResidentRecord>& record) noexcept {
    bool begins = false;
    apply([&](Outbox& /*out*/) {
        mutex_.assert_held();
        record->load_began = now();
        begins = state_.scheduler.load_begins(record->id, record->load_began, state_.actions);
    });
    if (!begins) {
        return;
    }
    void* model = nullptr;
    ModelTraits traits;
    std::exception_ptr cause;
    try {
        const runtime::UserCodeScope scope(executors_.owner);
        LoadContext context(record->stop.get_token(),
                            events_.sink_for(*record, [this](const auto& fill) { this->publish(fill); }));
        model = load_model(*record->key, context, traits);
        if (model == nullptr) {
            throw Error(errc::load_failed, *record->key, Stage::load,
                        "the backend's load returned null; it must throw to fail");
        }
    } catch (...) {
        cause = std::current_exception();
    }
    end_load(*record, model, traits, cause);
}

template <class Clock>
void SlotShell<Clock>::end_load(ResidentRecord& record, void* model, const ModelTraits& traits,
                                const std::exception_ptr& cause) noexcept {
    const LoadFailure failure = LoadFailure::of(cause, executors_.owner);
    apply([&](Outbox& /*out*/) {
        mutex_.assert_held();
        const core::ResidentId id = record.id;
        if (model != nullptr) {
            record.model = model;
            record.distinguishes = traits.distinguishes;
            record.load_ended = now();
            state_.scheduler.loaded(id, traits.limits, record.load_ended, state_.actions);
            record.generation = state_.scheduler.residents()[id.index].generation;
        } else {
            record.cause = cause;
            record.message = failure.message;
            state_.scheduler.load_failed(id, failure.code, failure.message, now(), state_.actions,
                                         failure.out_of_memory);
        }
    });
}

template <class Clock>
void SlotShell<Clock>::post_unload(std::shared_ptr<ResidentRecord> record) noexcept {
    try {
        asio::post(executors_.unloading, [self = this->shared_from_this(), record] { self->run_unload(*record); });
    } catch (...) {
        run_unload(*record);
    }
}

template <class Clock>
void SlotShell<Clock>::run_unload(ResidentRecord& record) noexcept {
    if (this->is_in_child()) {
        return;
    }
    void* model = nullptr;
    {
        const Lock lock(mutex_);
        // The end of the runtime may have destroyed it in place.
        if (!std::exchange(record.awaits_destruction, false)) {
            return;
        }
        model = std::exchange(record.model, nullptr);
    }
    {
        const runtime::UserCodeScope scope(executors_.owner);
        destroy_model(model);
    }
    apply([&](Outbox& /*out*/) {
        mutex_.assert_held();
        state_.scheduler.unloaded(record.id, now(), state_.actions);
    });
}

// -- Model calls ------------------------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::limit_batch(const ResidentRecord& record, std::size_t texts) noexcept {
    const Lock lock(mutex_);
    state_.scheduler.limit_batch(record.id, texts);
}

template <class Clock>
void SlotShell<Clock>::report_inference_failure(const InferenceWaiter& call, const std::string& message) noexcept {
    publish([&](Event& event) { SlotEvents::fill_inference_failed(event, call, message); });
}

template <class Clock>
template <class Fill>
void SlotShell<Clock>::publish(const Fill& fill) noexcept {
    if (events_.wanted()) {
        apply([&](Outbox& /*out*/) {
            mutex_.assert_held();
            events_.push(now(), fill);
        });
    }
}

// -- The alarm --------------------------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::sync_alarm() noexcept {
    using Step = typename runtime::Alarm<Clock>::Step;
    try {
        alarm_.sync(
            [this] {
                const Lock lock(mutex_);
                const core::Time at = wanted_alarm();
                const Step step = alarm_.plan(at);
                state_.timer_waits += step == Step::start ? 1 : 0;
                return std::pair(step, at);
            },
            [this] {
                return [self = this->shared_from_this()](const boost::system::error_code&) { self->alarm_ended(); };
            });
    } catch (...) {
        // No memory for the wait: it is as if it had ended at once.
        try {
            asio::post(executors_.control, [self = this->shared_from_this()] { self->alarm_ended(); });
        } catch (...) {
            // Nor for that: what is due is looked at with the slot's next decision.
            const Lock lock(mutex_);
            alarm_.ended();
        }
    }
}

// Whatever the wait's error code says: that it ended is all that is known, and what is due is looked up.
template <class Clock>
void SlotShell<Clock>::alarm_ended() noexcept {
    apply([this](Outbox& /*out*/) {
        mutex_.assert_held();
        alarm_.ended();
        state_.scheduler.tick(now(), state_.actions);
    });
}

template <class Clock>
SlotShell<Clock>::~SlotShell() {
    if (memory_ && !this->is_in_child()) {
        memory_->leave();
    }
}

// -- The end ----------------------------------------------------------------------------------------------------------

template <class Clock>
void SlotShell<Clock>::abandon() noexcept {
    apply([this](Outbox& out) {
        mutex_.assert_held();
        state_.abandoned = true;
        if (state_.scheduler.leases() != 0) {
            self_ = this->shared_from_this();
        }
        state_.scheduler.close(now(), state_.actions);
        state_.collect_first(state_.actions.size(), out);
        while (state_.scheduler.unfinished()) {
            state_.scheduler.tick(now(), state_.actions);
            state_.collect_first(state_.actions.size(), out);
        }
        for (const std::shared_ptr<ResidentRecord>& record : state_.records) {
            if (record) {
                out.complete_all_early(*record, errc::shutting_down);
            }
        }
        out.delivers = true;
        state_.end_teardowns(out);
    });
    alarm_.close();
    await_posts();
}

// Waits until no thread posts anything for the slot any more, which takes each no longer than its posts.
template <class Clock>
void SlotShell<Clock>::await_posts() noexcept {
    const auto are_posted = [this] {
        bool done = false;
        apply([&](Outbox& /*out*/) {
            mutex_.assert_held();
            done = carrying_out_ == 0 && !state_.teardowns.has_finishing();
        });
        return done;
    };
    while (!are_posted()) {
        std::this_thread::yield();
    }
}

template <class Clock>
void SlotShell<Clock>::unload_in_place(bool executors_ended) noexcept {
    {
        const Lock lock(mutex_);
        state_.unloads_in_place = true;
    }
    // A lease that another thread ends may have its unload on the way to an executor.
    await_posts();
    if (!executors_ended) {
        return;
    }
    apply([this](Outbox& out) {
        mutex_.assert_held();
        out.unloads_in_place = true;
        for (const std::shared_ptr<ResidentRecord>& record : state_.records) {
            if (record && record->awaits_destruction && !record->is_destroyed_in_place) {
                out.unloads.push(record);
            }
        }
    });
}

}  // namespace residency::detail
