#pragma once

#include <residency/event.hpp>
#include <residency/status.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <vector>

namespace search {

/// Remembers which models were unloaded and why, and lets one wait for it.
class History {
public:
    /// Notes an event; called by the manager.
    void note(const residency::Event& event) {
        if (event.type == residency::EventType::unloaded) {
            {
                const std::lock_guard lock(mutex_);
                unloads_.push_back(event);
            }
            changed_.notify_all();
        }
    }

    /// Waits until as many models of each slot have been unloaded as `status` says were loaded, or stop is requested.
    void wait_for_unloads(const residency::ManagerStatus& status, const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, stop, [&] { return all_gone(status.embedding) && all_gone(status.reranker); });
    }

    /// The `unloaded` events so far.
    [[nodiscard]] std::vector<residency::Event> unloads() const {
        const std::lock_guard lock(mutex_);
        return unloads_;
    }

private:
    [[nodiscard]] bool all_gone(const residency::SlotStatus& slot) const {
        const auto gone = std::count_if(unloads_.begin(), unloads_.end(),
                                        [&](const residency::Event& event) { return event.slot == slot.name; });
        return static_cast<std::uint64_t>(gone) >= slot.counters.loaded;
    }

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::vector<residency::Event> unloads_;
};

}  // namespace search
