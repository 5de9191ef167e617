#pragma once

#include "residency/core/action.hpp"
#include "residency/core/waiting_room.hpp"
#include "residency/error.hpp"
#include "residency/generation.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/status.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

namespace residency::detail {

class Waiter;

/// What the shell keeps of one residency, beside what the scheduler knows. Guarded by the slot's mutex but for `key`, `generation` and
/// `model`, which do not change while a lease lives.
struct Record {
    /// What is to be done with its model on the loading executor.
    enum class Job : std::uint8_t { none, load, unload };

    core::ResidentId id{};
    ModelKey key{};
    Generation generation{};
    void* model = nullptr;
    std::stop_source stop{};
    Job job = Job::none;
    /// Its unload waits until `unload_started` was delivered.
    bool gated = false;
    Record* next_job = nullptr;
    std::shared_ptr<Record> next_stop{};
    /// The calls that run on it: the first of a list through `Waiter::next_running`.
    Waiter* running = nullptr;
};

/// A request on its way through a slot: it waits, has its lease, and is done. Owned by whoever acts on it next.
class Waiter : public std::enable_shared_from_this<Waiter> {
public:
    /// How far it has come; guarded by the slot's mutex.
    enum class State : std::uint8_t { waiting, leased, done };

    explicit Waiter(ModelKey key) : key_(std::move(key)) {}
    virtual ~Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    /// It has its lease, or what it wanted to be loaded is; `record` and `generation` say which. Called once, without a lock.
    virtual void granted() noexcept = 0;
    /// Its caller gets `error`. Called at most once, without a lock; also after `granted` if the call is still running.
    virtual void failed(std::exception_ptr error) noexcept = 0;
    /// Calls the model; on the inference executor, after `granted` has asked for it.
    virtual void run() noexcept {}
    /// The inference executor has ended and will never call `run`: gives the lease back. Its caller is never told.
    virtual void dropped() noexcept {}
    /// Asks the model to stop, if that can be asked. Called without a lock.
    virtual void request_stop() noexcept {}

    [[nodiscard]] const ModelKey& key() const noexcept { return key_; }

    // Guarded by the slot's mutex.
    State state = State::waiting;
    /// Whether it runs on the model through the manager, so that its caller can be told before the model returns.
    bool is_call = false;
    /// Whether it wants a lease; if not, it wants its model to be loaded.
    bool wants_lease = true;
    /// Its caller was told already. Written under the mutex; a call may look at it without, before it bothers the model.
    std::atomic<bool> told{false};
    core::RequestId request{};
    Record* record = nullptr;
    Generation generation{};
    Waiter* previous_running = nullptr;
    Waiter* next_running = nullptr;

    // Written under the mutex by whoever decided, read by the same thread afterwards.
    bool is_granted = false;
    errc code = errc::overloaded;
    Stage stage = Stage::queue;
    core::Duration retry_after{0};
    std::exception_ptr cause{};
    std::shared_ptr<Waiter> next_ready{};
    errc told_code = errc::timed_out;
    bool told_cancelled = false;
    std::shared_ptr<Waiter> next_told{};

private:
    ModelKey key_;
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
    core::OperationId id{};
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
    virtual Record* try_acquire(const ModelKey& key, const RequestOptions& options) = 0;
    /// Lets the waiter have what it wants, now or later; it is told on another path than this call. Throws only bad_alloc, and then
    /// nothing has begun.
    virtual void submit(const std::shared_ptr<Waiter>& waiter, const RequestOptions& options) = 0;
    /// The waiter's caller has left. If it waits it is told `operation_aborted`; if it is running, only with `terminal`.
    virtual void cancel(Waiter& waiter, bool terminal) noexcept = 0;
    /// Ends a lease.
    virtual void release(Record& record) noexcept = 0;
    /// Ends a call's lease. True if its caller has not been told yet: then the caller of this does so.
    virtual bool finish(Waiter& waiter) noexcept = 0;
    /// Whether a leased resident was revoked.
    [[nodiscard]] virtual bool revoked(const Record& record) const noexcept = 0;
    /// Whether new requests are refused.
    [[nodiscard]] virtual bool closed() const noexcept = 0;
    /// Publishes that a model failed.
    virtual void report_inference_failure(const Record& record, const std::string& message) noexcept = 0;

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
    virtual void run_inference(std::shared_ptr<Waiter> call) noexcept = 0;

protected:
    [[nodiscard]] virtual bool is_among_lost(const asio::execution_context* context) const noexcept = 0;

    std::atomic<bool> has_lost_any_{false};
};

}  // namespace residency::detail
