#pragma once

#include "residency/backend.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/error.hpp"
#include "residency/event.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/alarm.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/context_watch.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/error_writer.hpp"
#include "residency/shell/event_queue.hpp"
#include "residency/shell/intrusive_queue.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/status.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace residency::detail {

/// The shell of one slot: holds the mutex while the scheduler decides, and carries out what it decided once the mutex is free. Decides
/// nothing itself, and knows neither the backend nor its models but as `load_model` and `destroy_model`.
///
/// Whatever is pending (a handler, a job, a call) owns this object, so that it outlives the `ModelSlot` that made it for as long as
/// anything of it is left.
template <class Clock>
class SlotShell : public SlotBase, public EventGate, public std::enable_shared_from_this<SlotShell<Clock>> {
public:
    /// What keeps the owned executors alive, if they are owned.
    using Keep = std::shared_ptr<void>;

    SlotShell(std::string name, const SlotOptions& options, Executors executors, std::shared_ptr<EventQueue> events,
              Keep keep)
        : name_(std::move(name)),
          options_(options),
          keep_(std::move(keep)),
          executors_(std::move(executors)),
          events_(std::move(events)),
          scheduler_(options),
          alarm_(executors_.control) {
        const runtime::MutexLock lock(mutex_);
        reserve();
    }
    ~SlotShell() override = default;

    /// Begins to learn of contexts of the host's that end. Called once, right after construction.
    void watch_contexts() {
        watcher_ = std::make_shared<Watcher>(this->shared_from_this());
        for (const asio::any_io_executor* executor :
             {&executors_.control, &executors_.inference, &executors_.loading}) {
            runtime::ContextWatch::add(*executor, watcher_);
        }
    }
    /// Keeps owned executors running until nothing of the slot's is left to do after `abandon`. Called once, after construction.
    void hold_executors() {
        const runtime::MutexLock lock(mutex_);
        for (const asio::any_io_executor* executor :
             {&executors_.control, &executors_.inference, &executors_.loading}) {
            guards_.emplace_back(*executor);
        }
    }

    // -- What operations and leases call, see SlotBase --
    ResidentRecord* try_acquire(const ModelKey& key, const RequestOptions& options) override;
    void submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                const RequestOptions& options) override;
    void cancel(Waiter& waiter, bool terminal) noexcept override;
    void release(ResidentRecord& record) noexcept override;
    bool finish(InferenceWaiter& call) noexcept override;
    [[nodiscard]] bool revoked(const ResidentRecord& record) const noexcept override {
        const runtime::MutexLock lock(mutex_);
        return scheduler_.residents()[record.id.index].revoked;
    }
    [[nodiscard]] bool closed() const noexcept override {
        const runtime::MutexLock lock(mutex_);
        return scheduler_.closed();
    }
    void report_inference_failure(const ResidentRecord& record, const std::string& message) noexcept override;
    [[nodiscard]] std::shared_ptr<PendingOperation> prepare(std::shared_ptr<SlotOperation> operation) override;
    void start_unload(const ModelKey* key, UnloadMode mode, const std::shared_ptr<PendingOperation>& pending) override;
    void start_shutdown(std::optional<std::chrono::milliseconds> deadline,
                        const std::shared_ptr<PendingOperation>& pending) override;
    [[nodiscard]] const asio::any_io_executor& control() const noexcept override { return executors_.control; }
    void run_inference(boost::intrusive_ptr<InferenceWaiter> call) noexcept override;

    // -- What ModelSlot calls --
    /// The generation counter; lock-free.
    [[nodiscard]] Generation generation() const noexcept {
        return Generation{generation_.load(std::memory_order_acquire)};
    }
    /// What the slot looks like now.
    [[nodiscard]] SlotStatus status() const;
    /// The ModelSlot is being destroyed: refuses, tells everybody, stops what can be stopped. What runs owns what it needs.
    void abandon() noexcept;
    /// Whether a blocking call on this thread could only hang.
    [[nodiscard]] bool would_deadlock() const noexcept {
        return runtime::UserCodeScope::active() || runs_here(executors_.control) || runs_here(executors_.inference) ||
               runs_here(executors_.loading);
    }

protected:
    /// Loads the model for `key`: what it is, and how many leases it takes. Throws to fail. On the loading executor.
    virtual void* load_model(const ModelKey& key, LoadContext& context, std::size_t& capacity) = 0;
    /// Destroys a model.
    virtual void destroy_model(void* model) noexcept = 0;
    /// Lets go of the host's contexts, and destroys the models that are still there; for the destructor of whoever knows how to.
    void destroy_all() noexcept {
        if (watcher_) {
            watcher_->forget();
        }
        std::vector<std::shared_ptr<ResidentRecord>> records;
        {
            const runtime::MutexLock lock(mutex_);
            records.swap(records_);
        }
        for (const std::shared_ptr<ResidentRecord>& record : records) {
            if (record && record->model != nullptr) {
                destroy_model(std::exchange(record->model, nullptr));
            }
        }
    }

private:
    using Lock = runtime::MutexLock;

    /// What the host's contexts know of this. They may end, on another thread, while nobody owns this any more and its destructor runs.
    class Watcher final : public runtime::ContextUser {
    public:
        explicit Watcher(const std::shared_ptr<SlotShell>& core) : core_(core), being_destroyed_(core.get()) {}

        void context_ends(asio::execution_context& context) noexcept override {
            if (const std::shared_ptr<SlotShell> core = core_.lock()) {
                core->context_ends(context);
                return;
            }
            const Lock lock(mutex_);
            if (being_destroyed_ != nullptr && is_of(being_destroyed_->executors_.control, context)) {
                being_destroyed_->alarm_.take();
            }
        }
        /// The destructor begins: the timer goes before the user's code, which may take longer than the context lives.
        void forget() noexcept {
            const Lock lock(mutex_);
            being_destroyed_->alarm_.take();
            being_destroyed_ = nullptr;
        }

    private:
        const std::weak_ptr<SlotShell> core_;
        runtime::Mutex mutex_;
        SlotShell* being_destroyed_ RESIDENCY_GUARDED_BY(mutex_);
    };

    using Jobs = IntrusiveQueue<&ResidentRecord::next_job>;
    using Operations = IntrusiveQueue<&PendingOperation::next>;

    /// What is to be done once the mutex is free; needs no memory.
    struct Outbox {
        IntrusiveQueue<&Waiter::next_ready> ready{};
        IntrusiveQueue<&InferenceWaiter::next_completed_early> completed_early{};
        IntrusiveQueue<&ResidentRecord::next_stop> stops{};
        Operations complete{};
        Jobs destroy{};
        bool starts_jobs = false;
        bool wakes_control = false;
        bool has_events = false;
        std::vector<asio::executor_work_guard<asio::any_io_executor>> guards{};
    };

    /// Why a load has no model. The message was asked for without the mutex: an exception of the backend's is the backend's code (R10).
    struct LoadFailure {
        std::exception_ptr cause{};
        std::string message{};
    };

    // What happens when: told under the mutex, so that no stamp is older than what was decided before it.
    [[nodiscard]] core::Time now() const noexcept RESIDENCY_REQUIRES(mutex_) { return clock_time(); }
    [[nodiscard]] static core::Time clock_time() noexcept {
        return std::chrono::duration_cast<core::Time>(Clock::now().time_since_epoch());
    }
    [[nodiscard]] static core::RequestSpec spec_of(const RequestOptions& options, bool wants_lease, bool is_call);
    void reserve() RESIDENCY_REQUIRES(mutex_);
    bool end_lease(ResidentRecord& record, InferenceWaiter* call) noexcept;
    [[nodiscard]] bool release_quietly(const core::Grant& grant) noexcept RESIDENCY_REQUIRES(mutex_);

    void collect(Outbox& out, const LoadFailure* failure = nullptr) noexcept RESIDENCY_REQUIRES(mutex_);
    void carry_out(Outbox&& out) noexcept RESIDENCY_EXCLUDES(mutex_);
    void grant(const core::Action& action, Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void fail(const core::Action& action, const LoadFailure* failure, Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void begin_load(core::Index resident, Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void begin_unload(core::Index resident, Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void publish(const core::Action& action, const LoadFailure* failure, Outbox& out) noexcept
        RESIDENCY_REQUIRES(mutex_);
    void publish_request(EventType type, Reason reason, const ModelKey& key, Outbox& out) noexcept
        RESIDENCY_REQUIRES(mutex_);
    void complete_early(InferenceWaiter& call, errc code, bool cancelled, Outbox& out) noexcept
        RESIDENCY_REQUIRES(mutex_);
    void complete_all_early(ResidentRecord& record, errc code, Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void end_operations(Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void refuse(const boost::intrusive_ptr<Waiter>& waiter, errc code, Stage stage, core::Duration retry_after,
                Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void begin_call(Waiter& waiter) noexcept RESIDENCY_REQUIRES(mutex_);
    void end_call(InferenceWaiter& call) noexcept RESIDENCY_REQUIRES(mutex_);
    void add_job(ResidentRecord& record, ResidentRecord::Job job, Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void settle(Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    [[nodiscard]] bool announce_shutdown() noexcept RESIDENCY_REQUIRES(mutex_);
    [[nodiscard]] ShutdownReport leftovers() const RESIDENCY_REQUIRES(mutex_);
    void report_leftovers(PendingOperation& pending) const noexcept RESIDENCY_REQUIRES(mutex_);
    [[nodiscard]] core::Time wanted_alarm() const noexcept RESIDENCY_REQUIRES(mutex_) {
        return abandoned_ ? core::never : scheduler_.next_alarm();
    }
    [[nodiscard]] bool at_rest() const noexcept RESIDENCY_REQUIRES(mutex_);
    [[nodiscard]] bool runs_here(const asio::any_io_executor& executor) const noexcept {
        // An executor may be asked for its context even if that has ended, and for nothing else.
        return !has_lost(std::addressof(asio::query(executor, asio::execution::context))) &&
               runtime::runs_in_this_thread(executor);
    }

    void run_jobs() noexcept;
    void run_load(ResidentRecord& record) noexcept;
    void run_unload(ResidentRecord& record) noexcept;
    [[nodiscard]] LoadContext::Sink sink_for(const ResidentRecord& record);
    void publish_load(const ResidentRecord& record, Event event) noexcept;
    void post_control() noexcept;
    void run_control() noexcept;
    void alarm_ended(bool at_its_start = false) noexcept;

    [[nodiscard]] bool is_among_lost(const asio::execution_context* context) const noexcept override;
    void event_passed(void* token) noexcept override;
    void context_ends(asio::execution_context& context) noexcept;
    [[nodiscard]] static bool is_of(const asio::any_io_executor& executor,
                                    const asio::execution_context& context) noexcept {
        return &asio::query(executor, asio::execution::context) == &context;
    }

    const std::string name_;
    const SlotOptions options_;
    const Keep keep_;
    const Executors executors_;
    const std::shared_ptr<EventQueue> events_;
    // With the host's executors only. Made once, right after construction.
    std::shared_ptr<Watcher> watcher_;
    std::atomic<std::uint64_t> generation_{0};

    mutable runtime::Mutex mutex_;
    core::SlotScheduler scheduler_ RESIDENCY_GUARDED_BY(mutex_);
    core::Actions actions_ RESIDENCY_GUARDED_BY(mutex_);
    std::vector<boost::intrusive_ptr<Waiter>> waiters_ RESIDENCY_GUARDED_BY(mutex_);
    std::vector<std::shared_ptr<ResidentRecord>> records_ RESIDENCY_GUARDED_BY(mutex_);
    // One for each load that those who wait may need.
    std::vector<std::shared_ptr<ResidentRecord>> spare_records_ RESIDENCY_GUARDED_BY(mutex_);
    std::vector<std::shared_ptr<PendingOperation>> operations_ RESIDENCY_GUARDED_BY(mutex_);
    // Shutdowns that are done but for the alarm's last handler; then they are announced.
    Operations finishing_ RESIDENCY_GUARDED_BY(mutex_);
    // Shutdowns that are done but for the delivery of the events before them.
    Operations announced_ RESIDENCY_GUARDED_BY(mutex_);
    Jobs jobs_ RESIDENCY_GUARDED_BY(mutex_);
    std::size_t calls_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    bool job_runs_ RESIDENCY_GUARDED_BY(mutex_) = false;
    bool control_posted_ RESIDENCY_GUARDED_BY(mutex_) = false;
    bool control_runs_ RESIDENCY_GUARDED_BY(mutex_) = false;
    bool abandoned_ RESIDENCY_GUARDED_BY(mutex_) = false;
    bool unloads_in_place_ RESIDENCY_GUARDED_BY(mutex_) = false;
    // The contexts of the host's that have ended; each of the three can.
    std::array<const asio::execution_context*, 3> lost_ RESIDENCY_GUARDED_BY(mutex_){};
    bool control_lost_ RESIDENCY_GUARDED_BY(mutex_) = false;
    bool loading_lost_ RESIDENCY_GUARDED_BY(mutex_) = false;
    std::uint64_t timer_waits_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    // Planned under the mutex; started and cancelled by whoever runs control, one at a time.
    runtime::Alarm<Clock> alarm_;
    std::vector<asio::executor_work_guard<asio::any_io_executor>> guards_ RESIDENCY_GUARDED_BY(mutex_);
    // Set while leases outlive the ModelSlot: they do not own this object one by one, so that a lease costs no atomic count.
    std::shared_ptr<SlotShell> self_ RESIDENCY_GUARDED_BY(mutex_);
};

}  // namespace residency::detail

#include "residency/shell/impl/slot_shell.hpp"  // IWYU pragma: export
