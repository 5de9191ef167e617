#pragma once

#include "residency/core/action.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/wait_queue.hpp"
#include "residency/error_code.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/status.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

namespace residency::detail {

class InferenceWaiter;

/// What the shell keeps of one residency, beside what the scheduler knows. Guarded by the slot's mutex but for `key`, `generation` and
/// `model`, which do not change while a lease lives.
struct ResidentRecord {
    /// What is to be done with its model on the loading executor.
    enum class Job : std::uint8_t { none, load, unload };

    core::ResidentId id{};
    core::SharedKey key{};
    Generation generation{};
    void* model = nullptr;
    std::stop_source stop{};
    Job job = Job::none;
    /// Its unload waits until `unload_started` was delivered.
    bool gated = false;
    ResidentRecord* next_job = nullptr;
    std::shared_ptr<ResidentRecord> next_stop{};
    /// The calls that run on it: the first of a list through `next_running`.
    InferenceWaiter* running = nullptr;
};

/// A request on its way through a slot: it waits, has what it wants, and is done. Owned by whoever acts on it next; many wait, so it counts
/// its owners itself and holds nothing that only few need.
class Waiter {
public:
    /// How far it has come; guarded by the slot's mutex.
    enum class State : std::uint8_t { waiting, leased, done };

    Waiter() noexcept : retry_after(core::Duration::zero()) {}
    virtual ~Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    /// It has its lease, or what it wanted to be loaded is; `record` or `generation` says which. Called once, without a lock.
    virtual void granted() noexcept = 0;
    /// Its caller gets `error`. Called at most once, without a lock; also after `granted` if it is a call that is still running.
    virtual void failed(std::exception_ptr error) noexcept = 0;

    /// One owner more.
    friend void intrusive_ptr_add_ref(Waiter* waiter) noexcept {
        waiter->owners_.fetch_add(1, std::memory_order_relaxed);
    }
    /// One owner less; the last one destroys it.
    friend void intrusive_ptr_release(Waiter* waiter) noexcept {
        if (waiter->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            delete waiter;
        }
    }

private:
    std::atomic<std::uint32_t> owners_{0};

public:
    // Guarded by the slot's mutex.
    State state = State::waiting;
    /// Whether it is a `InferenceWaiter`.
    bool is_call = false;
    /// Whether it wants a lease; if not, it wants its model to be loaded.
    bool wants_lease = true;
    // From here on all but `request`: written under the mutex by whoever decided, read by the same thread afterwards.
    bool is_granted = false;
    core::RequestId request{};
    /// Why it is refused; of a call that runs, why its caller is told before the model returns.
    errc code = errc::overloaded;
    Stage stage = Stage::queue;
    /// Its caller has left, which is why.
    bool is_cancelled = false;
    std::exception_ptr cause{};
    boost::intrusive_ptr<Waiter> next_ready{};
    union {
        /// When to try again, if it is refused.
        core::Duration retry_after;
        /// What it is granted, if that is no lease.
        Generation generation;
    };
    /// What it is granted.
    ResidentRecord* record = nullptr;
    /// Its key, if it ever waited, was refused or was told: whose lease is granted at once has that of its `record`.
    core::SharedKey key{};
};

/// A request that runs on the model through the manager, so that its caller can be told before the model returns.
class InferenceWaiter : public Waiter {
public:
    InferenceWaiter() noexcept { is_call = true; }

    /// Calls the model; on the inference executor, after `granted` has asked for it.
    virtual void run() noexcept = 0;
    /// The inference executor has ended and will never call `run`: gives the lease back. Its caller is never told.
    virtual void dropped() noexcept = 0;
    /// Asks the model to stop, if that can be asked. Called without a lock.
    virtual void request_stop() noexcept = 0;

    /// Its caller was told already. Written under the mutex; a call may look at it without, before it bothers the model.
    std::atomic<bool> completed_early{false};
    // Guarded by the slot's mutex: its neighbours among those that run on its record.
    InferenceWaiter* previous_running = nullptr;
    InferenceWaiter* next_running = nullptr;
    // Written under the mutex by whoever decided, read by the same thread afterwards.
    boost::intrusive_ptr<InferenceWaiter> next_completed_early{};
};

/// An `unload` or a `shutdown` that somebody waits for; a manager's shutdown waits for two slots.
class SlotOperation {
public:
    SlotOperation() = default;
    virtual ~SlotOperation() = default;
    SlotOperation(const SlotOperation&) = delete;
    SlotOperation& operator=(const SlotOperation&) = delete;

    /// It is complete; a shutdown has left `report` behind. With an error: the slot was destroyed before it was complete, or there was no
    /// memory to say what is left. Called once by each slot that it was given to, without a lock.
    virtual void completed(std::exception_ptr error, ShutdownReport report) noexcept = 0;
};

/// A slot's part in an operation.
struct PendingOperation {
    std::shared_ptr<SlotOperation> operation{};
    core::TeardownId id{};
    bool shutdown = false;
    bool cut_short = false;
    /// There was no memory for the report.
    bool unreported = false;
    ShutdownReport report{};
    std::shared_ptr<PendingOperation> next{};
};

/// What operations and leases need of a slot, whatever its clock and its backend.
class SlotBase {
public:
    virtual ~SlotBase() = default;

    /// Grants a lease now if that can be; null if not. Never waits, never loads. A timeout is kept only for a call.
    virtual ResidentRecord* try_acquire(const ModelKey& key, const RequestOptions& options) = 0;
    /// Lets the waiter have what it wants of `key`, now or later; it is told on another path than this call. Throws only bad_alloc, and
    /// then nothing has begun.
    virtual void submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                        const RequestOptions& options) = 0;
    /// The waiter's caller has left. If it waits it is told `operation_aborted`; if it is running, only with `terminal`.
    virtual void cancel(Waiter& waiter, bool terminal) noexcept = 0;
    /// Ends a lease.
    virtual void release(ResidentRecord& record) noexcept = 0;
    /// Ends a call's lease. True if its caller has not been told yet: then the caller of this does so.
    virtual bool finish(InferenceWaiter& call) noexcept = 0;
    /// Whether a leased resident was revoked.
    [[nodiscard]] virtual bool revoked(const ResidentRecord& record) const noexcept = 0;
    /// Whether new requests are refused.
    [[nodiscard]] virtual bool closed() const noexcept = 0;
    /// Publishes that a model failed.
    virtual void report_inference_failure(const ResidentRecord& record, const std::string& message) noexcept = 0;

    /// Makes room for one more operation, so that starting it needs no more memory. Throws bad_alloc, and then nothing has begun.
    [[nodiscard]] virtual std::shared_ptr<PendingOperation> prepare(std::shared_ptr<SlotOperation> operation) = 0;
    /// Begins to unload `key`, or everything if that is null.
    virtual void start_unload(const ModelKey* key, UnloadMode mode,
                              const std::shared_ptr<PendingOperation>& pending) = 0;
    /// Begins to shut down.
    virtual void start_shutdown(std::optional<std::chrono::milliseconds> deadline,
                                const std::shared_ptr<PendingOperation>& pending) = 0;
    /// Whether that context has ended under the slot, so that what belongs to it can never be called.
    [[nodiscard]] bool has_lost(const asio::execution_context* context) const noexcept {
        return has_lost_any() && is_among_lost(context);
    }
    /// Whether any has. Nearly always none has, and then nobody needs to know which.
    [[nodiscard]] bool has_lost_any() const noexcept { return has_lost_any_; }
    /// Where handlers without an executor run.
    [[nodiscard]] virtual const asio::any_io_executor& control() const noexcept = 0;
    /// Has `call->run()` called where models are called.
    virtual void run_inference(boost::intrusive_ptr<InferenceWaiter> call) noexcept = 0;

protected:
    [[nodiscard]] virtual bool is_among_lost(const asio::execution_context* context) const noexcept = 0;

    std::atomic<bool> has_lost_any_{false};
};

}  // namespace residency::detail
