#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/shell/call_part.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <utility>

namespace residency::detail {

/// Runs a call once. If its executor destroys it instead, the lease is given back.
class InferenceJob {
public:
    explicit InferenceJob(boost::intrusive_ptr<InferenceWaiter> call) noexcept : call_(std::move(call)) {}
    InferenceJob(InferenceJob&&) noexcept = default;
    InferenceJob& operator=(InferenceJob&&) = delete;
    ~InferenceJob() {
        if (call_) {
            call_->dropped();
        }
    }

    void operator()() {
        const boost::intrusive_ptr<InferenceWaiter> call = std::move(call_);
        call->run();
    }

private:
    boost::intrusive_ptr<InferenceWaiter> call_;
};

/// Runs a part once. If its executor destroys it instead, the lease is given back.
class PartJob {
public:
    explicit PartJob(CallPart& part) noexcept : part_(&part) {}
    PartJob(PartJob&& other) noexcept : part_(std::exchange(other.part_, nullptr)) {}
    PartJob(const PartJob&) = delete;
    PartJob& operator=(const PartJob&) = delete;
    PartJob& operator=(PartJob&&) = delete;
    ~PartJob() {
        if (part_ != nullptr) {
            const boost::intrusive_ptr<InferenceWaiter> call = part_->call;
            call->part_dropped(*part_);
        }
    }

    void operator()() {
        CallPart& part = *std::exchange(part_, nullptr);
        const boost::intrusive_ptr<InferenceWaiter> call = part.call;
        call->run_part(part);
    }

private:
    CallPart* part_;
};

/// Has `call->run()` called on that executor.
inline void post_call(const asio::any_io_executor& inference, boost::intrusive_ptr<InferenceWaiter> call) noexcept {
    try {
        asio::post(inference, InferenceJob(std::move(call)));
    } catch (...) {  // NOLINT(bugprone-empty-catch): the job has given the lease back, and the request has failed
    }
}
/// The same for a part.
inline void post_part(const asio::any_io_executor& inference, CallPart& part) noexcept {
    try {
        asio::post(inference, PartJob(part));
    } catch (...) {  // NOLINT(bugprone-empty-catch): the job has given the lease back, and the request has failed
    }
}

}  // namespace residency::detail
