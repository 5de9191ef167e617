#pragma once

#include "residency/core/slab.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <utility>

namespace residency::detail {

/// A part of a request that is cut: some of its texts, and their model call. It keeps its request while it runs.
struct CallPart {
    /// Its request; null while it is free.
    boost::intrusive_ptr<InferenceWaiter> call{};
    /// The resident that it has a lease on.
    ResidentRecord* record = nullptr;
    /// The place of its first text, in the order of the request's `TextLengths`.
    core::Index first = 0;
    /// How many texts it has.
    core::Index count = 0;
    /// The next in an outbox, or of those that are free.
    CallPart* next = nullptr;
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

}  // namespace residency::detail
