#pragma once

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

}  // namespace residency::detail
