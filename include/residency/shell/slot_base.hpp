#pragma once

#include "residency/core/time.hpp"
#include "residency/detail/leased_model.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/completion.hpp"
#include "residency/runtime/process.hpp"
#include "residency/shell/known_faults.hpp"
#include "residency/shell/pending_teardown.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>

namespace residency::detail {

/// What operations need of a slot, whatever its clock and its backend.
class SlotBase : public LeaseOwner {
public:
    virtual ~SlotBase() = default;

    /// Grants a lease now if that can be; null if not. Never waits, never loads. A timeout is kept only for an
    /// inference.
    virtual ResidentRecord* try_acquire(const ModelKey& key, const RequestOptions& options) = 0;
    /// Lets the waiter have what it wants of `key`, now or later. Throws only bad_alloc, and then nothing has begun.
    virtual void submit(const boost::intrusive_ptr<Waiter>& waiter, const ModelKey& key,
                        const RequestOptions& options) = 0;
    /// The waiter's caller has cancelled. If it waits it completes with `operation_aborted`; if it runs, only with
    /// `terminal`.
    virtual void cancel(Waiter& waiter, bool terminal) noexcept = 0;
    /// Ends an inference's lease, which those that joined it share. True if it has not completed early: then the caller
    /// completes it and calls `delivered`. Those that joined it have the same answer in `completes`.
    [[nodiscard]] virtual bool finish(InferenceWaiter& first) noexcept = 0;
    /// The same for a part; `failed`: its request fails with it. True if its request is to be completed now.
    [[nodiscard]] virtual bool finish_part(CallPart& part, bool failed) noexcept = 0;
    /// The handler of a request for which `finish` or `finish_part` gave true has been posted.
    virtual void delivered() noexcept = 0;
    /// Whether new requests are refused.
    [[nodiscard]] virtual bool closed() const noexcept = 0;
    /// The model of `record` has not the memory for calls about more than `texts` texts. While its lease lives.
    virtual void limit_batch(const ResidentRecord& record, std::size_t texts) noexcept = 0;
    /// The time, if events are wanted, else zero.
    [[nodiscard]] virtual core::Time time_for_events() const noexcept = 0;
    /// Publishes that a model failed in the call of `call`.
    virtual void report_inference_failure(const InferenceWaiter& call, const std::string& message) noexcept = 0;
    /// Looks at what is due.
    virtual void tick() noexcept = 0;

    /// Makes room for one more teardown, so that starting it needs no more memory. Throws bad_alloc, and then nothing
    /// has begun.
    virtual void prepare_teardown() = 0;
    /// Begins to unload `key`, or everything if that is null.
    virtual void start_unload(const ModelKey* key, UnloadMode mode,
                              const std::shared_ptr<PendingTeardown>& teardown) = 0;
    /// Begins to shut down.
    virtual void start_shutdown(const ShutdownOptions& options, const std::shared_ptr<PendingTeardown>& teardown) = 0;
    /// Forgets a teardown whose caller stopped waiting; what it began goes on.
    virtual void forget(PendingTeardown& teardown) noexcept = 0;

    /// How many calls may run at once.
    [[nodiscard]] virtual std::size_t max_calls() const noexcept = 0;

    /// Whether this is a child made by fork() after the slot was made: then nothing of it may be touched. Asked before
    /// a mutex is taken.
    [[nodiscard]] bool is_in_child() const noexcept { return process_.is_left(); }

    /// Where models are called.
    [[nodiscard]] const asio::any_io_executor& inference() const noexcept { return inference_; }
    /// Which requests were lately at fault when a shared call failed.
    [[nodiscard]] KnownFaults& known_faults() noexcept { return known_faults_; }
    /// Where handlers are called.
    [[nodiscard]] const runtime::Delivery& delivery() const noexcept { return delivery_; }

protected:
    SlotBase(asio::any_io_executor inference, runtime::Delivery delivery)
        : inference_(std::move(inference)), delivery_(std::move(delivery)) {}

private:
    const runtime::Process& process_ = runtime::Process::current();
    const asio::any_io_executor inference_;
    const runtime::Delivery delivery_;
    KnownFaults known_faults_{};
};

}  // namespace residency::detail
