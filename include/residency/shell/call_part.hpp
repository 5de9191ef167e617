#pragma once

#include "residency/core/slab.hpp"
#include "residency/core/text_lengths.hpp"
#include "residency/core/time.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

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

/// What a request has that may be cut. But for `lengths` it is guarded by the slot's mutex.
struct CutRequest {
    /// Of a request with these texts, of whose parts at most `most` run at once. Throws bad_alloc.
    CutRequest(std::span<const std::string> texts, std::size_t most) : lengths(texts), all_(most) {
        for (CallPart& part : all_) {
            put_back(part);
        }
    }
    CutRequest(const CutRequest&) = delete;
    CutRequest& operator=(const CutRequest&) = delete;

    /// A part that is free; precondition: there is one.
    [[nodiscard]] CallPart& take() noexcept { return *std::exchange(free_, free_->next); }
    /// The part is free again.
    void put_back(CallPart& part) noexcept {
        part.call = nullptr;
        part.next = std::exchange(free_, &part);
    }

    /// The order in which its texts are cut.
    const core::TextLengths lengths;
    /// How many of its parts run.
    core::Index running = 0;
    /// How many texts the parts had that have ended.
    core::Index texts_ended = 0;
    /// Whether no more parts follow.
    bool all_given = false;
    /// When to try again, if the load of its next residency failed.
    core::Duration retry_after{0};

private:
    std::vector<CallPart> all_;
    CallPart* free_ = nullptr;
};

}  // namespace residency::detail
