#pragma once

#include "residency/backends/remote/endpoint.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/runtime/mutex.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace residency::detail::remote {

/// The endpoints of a model: which one a request goes to, and whether it may be sent again.
///
/// Threads  any
class Endpoints {
public:
    using Clock = std::chrono::steady_clock;

    /// A request in flight to an endpoint. One that ends without a word on the endpoint leaves its health as it was.
    class Use {
    public:
        Use(Endpoints& owner, Endpoint& endpoint, bool is_trial) noexcept
            : owner_(&owner), endpoint_(&endpoint), is_trial_(is_trial) {}
        Use(Use&& other) noexcept
            : owner_(std::exchange(other.owner_, nullptr)), endpoint_(other.endpoint_), is_trial_(other.is_trial_) {}
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;
        Use& operator=(Use&&) = delete;
        ~Use() {
            if (owner_ != nullptr) {
                owner_->leave(*endpoint_, is_trial_);
            }
        }

        /// The endpoint.
        [[nodiscard]] Endpoint& endpoint() const noexcept { return *endpoint_; }
        /// Whether it is the one request that tries it after its pause.
        [[nodiscard]] bool is_trial() const noexcept { return is_trial_; }
        /// It works.
        void worked() const { owner_->worked(*endpoint_); }
        /// It failed, at `now`.
        void failed(Clock::time_point now = Clock::now()) const { owner_->failed(*endpoint_, now); }

    private:
        Endpoints* owner_;
        Endpoint* endpoint_;
        bool is_trial_;
    };

    /// As the options have them.
    explicit Endpoints(const RemoteModelOptions& options) : pause_(options.pause) {
        for (const RemoteEndpoint& endpoint : options.endpoints) {
            endpoints_.push_back(std::make_unique<Endpoint>(endpoint, options.connections));
        }
    }

    /// The endpoint for a request at `now`:
    ///
    ///  1. of those that are not paused, but `other_than`, the one with the fewest requests in flight; one whose pause
    ///     is over counts as not paused for one request, which tries it, and is preferred, but by a request that has
    ///     failed at `other_than`: that tries it only if no other is left;
    ///  2. if there is none, of the others the one whose pause ends first.
    ///
    /// Among equals the one after the last one chosen.
    [[nodiscard]] Use choose(Clock::time_point now, const Endpoint* other_than = nullptr) {
        const runtime::MutexLock lock(mutex_);
        Endpoint* best = nullptr;
        Endpoint* next_to_wake = nullptr;
        for (std::size_t count = 0; count < endpoints_.size(); ++count) {
            Endpoint& each = *endpoints_[(last_ + 1 + count) % endpoints_.size()];
            if (&each == other_than && endpoints_.size() > 1) {
                continue;
            }
            if (each.failures != 0 && (each.is_tried || now < each.paused_until)) {
                if (next_to_wake == nullptr || each.paused_until < next_to_wake->paused_until) {
                    next_to_wake = &each;
                }
            } else if (best == nullptr || rank(each, other_than != nullptr) < rank(*best, other_than != nullptr)) {
                best = &each;
            }
        }
        Endpoint& chosen = best != nullptr ? *best : *next_to_wake;
        const bool is_trial = best != nullptr && chosen.failures != 0;
        if (is_trial) {
            chosen.is_tried = true;
        }
        ++chosen.in_flight;
        last_ = static_cast<std::size_t>(std::find_if(endpoints_.begin(), endpoints_.end(),
                                                      [&](const auto& each) { return each.get() == &chosen; }) -
                                         endpoints_.begin());
        return Use(*this, chosen, is_trial);
    }

    /// Counts a request, which earns a tenth of a repetition.
    void count_request() {
        const runtime::MutexLock lock(mutex_);
        tenths_ = (std::min)(tenths_ + 1, most_tenths);
    }
    /// Whether a request that failed in `use` may be sent again: repetitions are at most a tenth of the requests, but
    /// for the first ten. One that tried an endpoint is not counted if there is another: pauses bound how many do, and
    /// where requests are rare, each would.
    [[nodiscard]] bool may_repeat(const Use& use) { return (use.is_trial() && endpoints_.size() > 1) || may_repeat(); }
    /// The same of a request that tried none.
    [[nodiscard]] bool may_repeat() {
        const runtime::MutexLock lock(mutex_);
        if (tenths_ < 10) {
            return false;
        }
        tenths_ -= 10;
        return true;
    }

    /// All of them, in the order of the options.
    [[nodiscard]] const std::vector<std::unique_ptr<Endpoint>>& all() const noexcept { return endpoints_; }

private:
    static std::pair<bool, std::size_t> rank(const Endpoint& endpoint, bool is_repeated) noexcept {
        return {(endpoint.failures == 0) != is_repeated, endpoint.in_flight};
    }
    void leave(Endpoint& endpoint, bool is_trial) noexcept {
        const runtime::MutexLock lock(mutex_);
        --endpoint.in_flight;
        if (is_trial) {
            endpoint.is_tried = false;
        }
    }
    void worked(Endpoint& endpoint) {
        const runtime::MutexLock lock(mutex_);
        endpoint.failures = 0;
    }
    void failed(Endpoint& endpoint, Clock::time_point now) {
        const runtime::MutexLock lock(mutex_);
        // Requests that were in flight together fail for one reason: they count as one.
        if (endpoint.failures == 0 || now >= endpoint.paused_until) {
            endpoint.paused_until = now + pause_ * (1U << (std::min)(endpoint.failures, most_doublings));
            ++endpoint.failures;
        }
    }

    static constexpr unsigned most_doublings = 6;
    static constexpr std::size_t most_tenths = 100;

    const std::chrono::milliseconds pause_;
    runtime::Mutex mutex_{};
    std::vector<std::unique_ptr<Endpoint>> endpoints_{};
    std::size_t last_ RESIDENCY_GUARDED_BY(mutex_) = 0;
    std::size_t tenths_ RESIDENCY_GUARDED_BY(mutex_) = most_tenths;
};

}  // namespace residency::detail::remote
