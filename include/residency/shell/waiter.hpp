#pragma once

#include "residency/core/action.hpp"
#include "residency/core/request.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/embed_as.hpp"
#include "residency/error_code.hpp"
#include "residency/generation.hpp"
#include "residency/options.hpp"
#include "residency/shared_cause.hpp"
#include "residency/shell/resident_record.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <stop_token>

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
    // The slot, an outbox, a cancellation slot, and a job for each part that runs: as many as there may be calls.
    std::atomic<std::uint32_t> owners_{0};

public:
    /// Whether it is an `InferenceWaiter`. Set by its constructor.
    bool is_inference : 1 = false;
    /// Whether it wants a lease; if not, it wants its model to be loaded. Set by its constructor.
    bool wants_lease : 1 = true;
    // Guarded by the slot's mutex.
    State state = State::waiting;
    // From here on all but `request`: written under the mutex by the thread that decided, read by the same thread
    // afterwards. What shares a byte is not written while the other is read: nothing writes the stage of one that was
    // granted.
    bool is_granted : 1 = false;
    /// Where it failed.
    Stage stage : 7 = Stage::queue;
    bool : 0;
    /// Whether its caller cancelled it, and it failed for that.
    bool is_cancelled : 1 = false;
    /// Why it failed.
    errc code : 7 = errc::overloaded;
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

struct CallPart;
struct CutRequest;

/// A request for a model call. It may complete before the model returns. Several may share a call: those that joined
/// hang on the first, which alone has the lease.
class InferenceWaiter : public Waiter {
public:
    /// About `texts` texts of `bytes` bytes that are `kind`; `can_stop`: the model can be asked to stop.
    InferenceWaiter(core::Index texts, core::Index bytes, EmbedAs kind, bool can_stop)
        : as(kind), own_texts(texts), own_bytes(bytes), call_texts(texts) {
        is_inference = true;
        if (can_stop) {
            stop_ = std::stop_source();
        }
    }
    InferenceWaiter(const InferenceWaiter&) = delete;
    InferenceWaiter& operator=(const InferenceWaiter&) = delete;

    /// Calls the model, also for those that joined; on the inference executor, after `granted` has asked for it,
    /// unless the model answers asynchronously.
    virtual void run() noexcept = 0;
    /// The inference executor will never call `run`: gives the lease back.
    virtual void dropped() noexcept = 0;
    /// Makes what it needs to be cut; precondition: can_be_cut. Throws bad_alloc.
    virtual void prepare_parts() = 0;
    /// The same three as `granted`, `run` and `dropped` for a part of it, if it is cut.
    virtual void start_part(CallPart& part) noexcept = 0;
    virtual void run_part(CallPart& part) noexcept = 0;
    virtual void part_dropped(CallPart& part) noexcept = 0;
    /// It does not want its call any more. The model is asked to stop if no other request that shares the call does,
    /// and if it can be asked. Called once at most, without a lock.
    void request_stop() noexcept {
        InferenceWaiter& first = first_in_call ? *first_in_call : *this;
        if (first.wanted_by_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            first.stop_.request_stop();
        }
    }
    /// Whether the model was asked to stop, as the first of a call knows.
    [[nodiscard]] std::stop_token stop_token() const noexcept { return stop_.get_token(); }

    /// The lease of the call of which it is the first, and which is not for a part.
    [[nodiscard]] core::Grant grant() const noexcept {
        return {record->id, request, true, call_texts, false, priority};
    }
    /// `other` shares its call, and the lease that this is about to have. Under the slot's mutex.
    void join(const boost::intrusive_ptr<InferenceWaiter>& other) noexcept {
        other->first_in_call = this;
        wanted_by_.fetch_add(1, std::memory_order_relaxed);
        call_texts += other->own_texts;
        (last_in_call == nullptr ? *this : *last_in_call).next_in_call = other;
        last_in_call = other.get();
    }

    /// What its texts are to the model.
    const EmbedAs as;
    /// How many texts it is about.
    const core::Index own_texts;
    /// How many bytes they are.
    const core::Index own_bytes;
    /// Where it stands.
    Priority priority = Priority::normal;
    /// Whether it may be cut into parts, once `prepare_parts` was called.
    bool can_be_cut = false;
    /// What it needs for that; null before.
    CutRequest* cut = nullptr;
    /// How many texts its call is about, those of the requests that joined it included.
    core::Index call_texts;
    /// The first of its call, if it joined another's.
    boost::intrusive_ptr<InferenceWaiter> first_in_call{};
    /// The next that joined the same call.
    boost::intrusive_ptr<InferenceWaiter> next_in_call{};
    /// Of the first: the last that joined.
    InferenceWaiter* last_in_call = nullptr;
    /// Whether it completes when its call ends, see `SlotBase::finish`.
    bool completes = false;
    /// When it came, and, of the first of a call, when that, or the first part, began; if events are wanted.
    core::Time came{0};
    core::Time began{0};

    /// Whether it completed before the model returned. Written under the mutex; a call may look at it without, before
    /// it starts.
    std::atomic<bool> completed_early{false};
    // Guarded by the slot's mutex: its neighbours among the calls on its record.
    InferenceWaiter* previous_running = nullptr;
    InferenceWaiter* next_running = nullptr;
    // Written under the mutex by the thread that decided, read by the same thread, or the one that it posts to,
    // afterwards.
    boost::intrusive_ptr<InferenceWaiter> next_early{};

private:
    std::stop_source stop_{std::nostopstate};
    // Of the first of a call: how many requests want it.
    std::atomic<core::Index> wanted_by_{1};
};

}  // namespace residency::detail
