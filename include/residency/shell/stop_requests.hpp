#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/user_code_scope.hpp"
#include "residency/shell/intrusive_queue.hpp"
#include "residency/shell/resident_record.hpp"
#include "residency/shell/slot_runtime.hpp"
#include "residency/shell/waiter.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <memory>
#include <utility>

namespace residency::detail {

/// Loads and calls that are to be asked to stop. Calling it runs stop callbacks, which are user code.
class StopRequests {
public:
    [[nodiscard]] bool empty() const noexcept { return loads_.empty() && calls_.empty(); }
    void push(std::shared_ptr<ResidentRecord> load) noexcept { loads_.push(std::move(load)); }
    void push(boost::intrusive_ptr<InferenceWaiter> call) noexcept { calls_.push(std::move(call)); }

    /// Requests the stops, on a thread of `owner`.
    void request(const void* owner) noexcept {
        const runtime::UserCodeScope scope(owner);
        while (!loads_.empty()) {
            loads_.pop()->stop.request_stop();
        }
        while (!calls_.empty()) {
            calls_.pop()->request_stop();
        }
    }
    /// Requests none of them. One by one: each owns the next, and there may be more of them than a stack is deep.
    void drop() noexcept {
        while (!loads_.empty()) {
            static_cast<void>(loads_.pop());
        }
        while (!calls_.empty()) {
            static_cast<void>(calls_.pop());
        }
    }

private:
    IntrusiveQueue<&ResidentRecord::next_stop> loads_{};
    IntrusiveQueue<&InferenceWaiter::next_early> calls_{};
};

/// Stop requests on their way to an executor, which may end without coming to them.
struct PostedStops {
    explicit PostedStops(StopRequests&& of) noexcept : stops(std::move(of)) {}
    PostedStops(const PostedStops&) = delete;
    PostedStops& operator=(const PostedStops&) = delete;
    ~PostedStops() { stops.drop(); }

    StopRequests stops;
};

/// Requests the stops on the executor for callbacks; here if that does not take them. `slot` is kept until then.
template <class Slot>
void post_stops(StopRequests&& stops, const SlotExecutors& executors, std::shared_ptr<Slot> slot) noexcept {
    // Shared: what a post that throws has taken can still be requested here.
    std::shared_ptr<PostedStops> shared;
    try {
        shared = std::make_shared<PostedStops>(std::move(stops));
        asio::post(executors.callbacks, [slot, shared, owner = executors.owner] {
            if (!slot->is_in_child()) {
                shared->stops.request(owner);
            }
        });
    } catch (...) {
        (shared ? shared->stops : stops).request(executors.owner);
    }
}

}  // namespace residency::detail
