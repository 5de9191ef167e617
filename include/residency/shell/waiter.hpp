#pragma once

#include "residency/core/action.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/time.hpp"
#include "residency/error_code.hpp"
#include "residency/generation.hpp"
#include "residency/shared_cause.hpp"
#include "residency/shell/resident_record.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <atomic>
#include <cstdint>
#include <exception>

namespace residency::detail {

/// A request on its way through a slot: it waits, has what it wants, is done. Many wait: it counts its owners itself
/// and holds nothing that only few need.
class Waiter {
public:
    /// How far it has come; guarded by the slot's mutex.
    enum class State : std::uint8_t { waiting, leased, done };

    Waiter() noexcept : retry_after(core::Duration::zero()) {}
    virtual ~Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    /// It has its lease, or what it wanted to be loaded is ready; `record` or `generation` says which. Called once,
    /// without a lock.
    virtual void granted() noexcept = 0;
    /// It completes with `error`. Called at most once, without a lock; also after `granted` if it is an inference that
    /// still runs.
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
    // The slot, an outbox, a job, a cancellation slot: few, and 16 bits keep what many have small.
    std::atomic<std::uint16_t> owners_{0};

public:
    /// Whether it is an `InferenceWaiter`. Set by its constructor.
    bool is_inference : 1 = false;
    /// Whether it wants a lease; if not, it wants its model to be loaded. Set by its constructor.
    bool wants_lease : 1 = true;
    // Guarded by the slot's mutex.
    State state = State::waiting;
    // From here on all but `request`: written under the mutex by the thread that decided, read by the same thread
    // afterwards.
    bool is_granted = false;
    /// Whether its caller cancelled it, and it failed for that.
    bool is_cancelled = false;
    /// Why it failed.
    errc code = errc::overloaded;
    /// Where.
    Stage stage = Stage::queue;
    /// Its name in the scheduler, while it has one.
    core::RequestId request{};
    /// What the backend threw.
    SharedCause cause{};
    boost::intrusive_ptr<Waiter> next_ready{};
    union {
        /// When to try again, unless it is granted.
        core::Duration retry_after;
        /// What it is granted a lease on.
        ResidentRecord* record;
        /// What it is granted, if that is no lease.
        Generation generation;
    };
    /// The request's key; empty if granted immediately (use `record->key`).
    core::SharedKey key{};
};

/// A request for a model call. It may complete before the model returns.
class InferenceWaiter : public Waiter {
public:
    InferenceWaiter() noexcept { is_inference = true; }
    InferenceWaiter(const InferenceWaiter&) = delete;
    InferenceWaiter& operator=(const InferenceWaiter&) = delete;

    /// Calls the model; on the inference executor, after `granted` has asked for it.
    virtual void run() noexcept = 0;
    /// The inference executor will never call `run`: gives the lease back.
    virtual void dropped() noexcept = 0;
    /// Asks the model to stop, if that can be asked. Called without a lock.
    virtual void request_stop() noexcept = 0;

    /// Whether it completed before the model returned. Written under the mutex; a call may look at it without, before
    /// it starts.
    std::atomic<bool> completed_early{false};
    // Guarded by the slot's mutex: its neighbours among the calls on its record.
    InferenceWaiter* previous_running = nullptr;
    InferenceWaiter* next_running = nullptr;
    // Written under the mutex by the thread that decided, read by the same thread, or the one that it posts to,
    // afterwards.
    boost::intrusive_ptr<InferenceWaiter> next_early{};
};

}  // namespace residency::detail
