#pragma once

#include "residency/backend.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/error.hpp"
#include "residency/event.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/alarm.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/mutex.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/admission.hpp"
#include "residency/shell/error_writer.hpp"
#include "residency/shell/event_queue.hpp"
#include "residency/shell/load_failure.hpp"
#include "residency/shell/memory_broker.hpp"
#include "residency/shell/model_traits.hpp"
#include "residency/shell/outbox.hpp"
#include "residency/shell/request_spec.hpp"
#include "residency/shell/resident_records.hpp"
#include "residency/shell/shared_from_this.hpp"
#include "residency/shell/slot_base.hpp"
#include "residency/shell/slot_events.hpp"
#include "residency/shell/slot_memory.hpp"
#include "residency/shell/slot_runtime.hpp"
#include "residency/shell/slot_state.hpp"
#include "residency/shell/slot_status.hpp"
#include "residency/status.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace residency::detail {

/// The shell of one slot: holds the mutex while the scheduler decides, and carries out the decision once the mutex is
/// free. It decides nothing, and knows the backend and its models only as `load_model` and `destroy_model`.
///
/// What is pending (a handler, a job, a call) owns this object, which outlives the `ModelSlot` that made it until the
/// last of it is gone.
template <class Clock>
class SlotShell : public SlotBase, public EndingSlot, public SharedFromThis<SlotShell<Clock>> {
public:
    using clock_type = Clock;
    /// Whether the slot's clock is the one that blocking calls wait by.
    static constexpr bool is_steady = std::is_same_v<Clock, std::chrono::steady_clock>;

    /// A slot whose memory counts in `budget`, if that is not null: then `SlotMemory::join` follows.
    SlotShell(BackendTraits backend, std::string name, const SlotOptions& options, SlotExecutors executors,
              std::shared_ptr<EventQueue> events, std::shared_ptr<MemoryBroker> budget)
        : SlotBase(executors.inference, {asio::prefer(executors.callbacks, asio::execution::outstanding_work.untracked),
                                         executors.control, executors.owner, executors.owns_threads}),
          name_(std::move(name)),
          options_(options),
          executors_(std::move(executors)),
          stops_in_place_(executors_.stops_in_place()),
          asks_(backend.knows_keys),
          events_(name_, std::move(events)),
          budget_(std::move(budget)),
          state_(options, budget_ ? std::optional(budget_->limit()) : std::nullopt, backend.says_memory, name_, events_,
                 *this),
          alarm_(executors_.control) {}
    ~SlotShell() override;

    // -- What operations and leases call, see SlotBase and LeaseOwner --
    ResidentRecord* try_acquire(const ModelKey& key, const RequestOptions& options) override;
    void submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                const RequestOptions& options) override;
    void cancel(Waiter& waiter, bool terminal) noexcept override;
    void release(LeasedModel& model) noexcept override;
    [[nodiscard]] bool finish(InferenceWaiter& call) noexcept override;
    [[nodiscard]] bool finish_part(CallPart& part, bool failed) noexcept override;
    void delivered() noexcept override;
    [[nodiscard]] bool revoked(const LeasedModel& model) const noexcept override;
    [[nodiscard]] bool closed() const noexcept override;
    void limit_batch(const ResidentRecord& record, std::size_t texts) noexcept override;
    [[nodiscard]] core::Time time_for_events() const noexcept override {
        return events_.wanted() ? SlotState<Clock>::now() : core::Time{0};
    }
    void report_inference_failure(const InferenceWaiter& call, const std::string& message) noexcept override;
    void tick() noexcept override;
    void prepare_teardown() override;
    void start_unload(const ModelKey* key, UnloadMode mode, const std::shared_ptr<PendingTeardown>& teardown) override;
    void start_shutdown(const ShutdownOptions& options, const std::shared_ptr<PendingTeardown>& teardown) override;
    void forget(PendingTeardown& teardown) noexcept override;
    [[nodiscard]] std::size_t max_calls() const noexcept override { return options_.max_calls; }

    // -- What the runtime calls, see EndingSlot --
    void abandon() noexcept override;
    void unload_in_place(bool executors_ended) noexcept override;

    // -- What ModelSlot and operations call --
    /// How many bytes of texts a request of this priority may wait with.
    [[nodiscard]] std::size_t most_bytes(Priority priority) const noexcept {
        return core::share_of_queue(options_.max_queue_bytes, priority);
    }
    /// The generation counter; lock-free.
    [[nodiscard]] Generation generation() const noexcept {
        return Generation{generation_.load(std::memory_order_acquire)};
    }
    /// What the slot looks like now.
    [[nodiscard]] SlotStatus status() const;
    /// Whether a blocking call on this thread could only hang.
    [[nodiscard]] bool would_deadlock() const { return !this->is_in_child() && executors_.would_deadlock(); }

protected:
    /// Whether memory counts.
    [[nodiscard]] bool has_budget() const noexcept { return budget_ != nullptr; }
    /// The slot's options.
    [[nodiscard]] const SlotOptions& options() const noexcept { return options_; }
    /// Loads the model for `key`, and says what it is like. Throws to fail. On the loading executor.
    virtual void* load_model(const ModelKey& key, LoadContext& context, ModelTraits& traits) = 0;
    /// Whether the backend knows the key. From any thread, without a lock; throws what the backend throws.
    [[nodiscard]] virtual bool knows(const ModelKey& key) const = 0;
    /// How many bytes the model for `key` needs at most. From any thread, without a lock; throws to fail the load.
    [[nodiscard]] virtual std::size_t memory_needed(const ModelKey& key) = 0;
    /// Destroys a model.
    virtual void destroy_model(void* model) noexcept = 0;
    /// Destroys the models that are still there; for the destructor of the class that knows how to.
    void destroy_all() noexcept {
        if (this->is_in_child()) {
            return;
        }
        ResidentRecords records;
        {
            const Lock lock(mutex_);
            std::swap(records, state_.records);
        }
        records.take_models([this](void* model) { destroy_model(model); });
    }

private:
    friend class SlotMemory<SlotShell>;
    using Lock = runtime::MutexLock;

    // Read under the mutex so that timestamps are monotonic.
    [[nodiscard]] core::Time now() const noexcept RESIDENCY_REQUIRES(mutex_) { return state_.now(); }

    // -- Deciding and carrying out: impl/slot_shell_apply.hpp --
    template <class Decide>
    void apply(const Decide& decide) RESIDENCY_EXCLUDES(mutex_);
    void settle(Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void complete_shutdowns(Outbox& out) noexcept RESIDENCY_REQUIRES(mutex_);
    void carry_out(Outbox&& out) noexcept RESIDENCY_EXCLUDES(mutex_);

    [[nodiscard]] bool is_unknown(const ModelKey& key) const noexcept;
    bool end_lease(ResidentRecord& record, InferenceWaiter* first) noexcept;
    void end_counted(const core::Grant& grant) noexcept RESIDENCY_REQUIRES(mutex_);
    [[nodiscard]] bool release_quietly(const core::Grant& grant) noexcept RESIDENCY_REQUIRES(mutex_);
    [[nodiscard]] core::Time wanted_alarm() const noexcept RESIDENCY_REQUIRES(mutex_) {
        return state_.abandoned ? core::never : state_.scheduler.next_alarm();
    }

    // -- Work that has an executor of its own: impl/slot_shell_work.hpp --
    void post_load(std::shared_ptr<ResidentRecord> record) noexcept;
    void run_load(const std::shared_ptr<ResidentRecord>& record) noexcept;
    void end_load(ResidentRecord& record, void* model, const ModelTraits& traits,
                  const std::exception_ptr& cause) noexcept;
    void post_unload(std::shared_ptr<ResidentRecord> record) noexcept;
    void run_unload(ResidentRecord& record) noexcept;
    template <class Fill>
    void publish(const Fill& fill) noexcept;
    void await_posts() noexcept;
    void sync_alarm() noexcept;
    void alarm_ended() noexcept;

    const std::string name_;
    const SlotOptions options_;
    const SlotExecutors executors_;
    const bool stops_in_place_;
    const bool asks_;
    const SlotEvents events_;
    const std::shared_ptr<MemoryBroker> budget_;
    std::atomic<std::uint64_t> generation_{0};
    // Completions that were decided and are not posted yet; a shutdown waits for them (R12). A request that is refused
    // at once does not count: else such requests could keep a shutdown waiting for ever.
    std::atomic<std::size_t> deliveries_{0};
    // Threads that are posting what was decided. The end of the slot waits for them: then its executors may end.
    std::atomic<std::size_t> carrying_out_{0};
    std::atomic<bool> shutdown_waits_{false};

    mutable runtime::Mutex mutex_{};
    SlotState<Clock> state_ RESIDENCY_GUARDED_BY(mutex_);
    runtime::Alarm<Clock> alarm_;
    // What it has to do with the budget; written once, before the first request.
    std::shared_ptr<SlotMemory<SlotShell>> memory_{};
    // Set while leases outlive the ModelSlot: they do not own this object one by one, so that a lease costs no atomic
    // count.
    std::shared_ptr<SlotShell> self_ RESIDENCY_GUARDED_BY(mutex_){};
};

}  // namespace residency::detail

#include "residency/shell/impl/slot_shell.hpp"  // IWYU pragma: export

#if defined(RESIDENCY_SEPARATE_COMPILATION)
namespace residency::detail {

// Compiled once in a program, by source.hpp.
extern template struct SlotState<std::chrono::steady_clock>;
extern template class SlotMemory<SlotShell<std::chrono::steady_clock>>;
extern template class SlotShell<std::chrono::steady_clock>;

}  // namespace residency::detail
#endif
