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
        if (event.type != residency::EventType::unloaded && event.type != residency::EventType::dropped) {
            return;
        }
        {
            const std::lock_guard lock(mutex_);
            if (event.type == residency::EventType::unloaded) {
                unloads_.push_back(event);
            } else {
                missed_any_ = true;
            }
        }
        changed_.notify_all();
    }

    /// Waits until as many models of each slot have been unloaded as `status()` says were loaded, or stop is requested.
    template <class Status>
    void wait_for_unloads(const Status& status, const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, stop, [&] {
            const residency::ManagerStatus now = status();
            return all_gone(now.embedding) && all_gone(now.reranker);
        });
    }

    /// The `unloaded` events so far.
    [[nodiscard]] std::vector<residency::Event> unloads() const {
        const std::lock_guard lock(mutex_);
        return unloads_;
    }

private:
    [[nodiscard]] bool all_gone(const residency::SlotStatus& slot) const {
        if (missed_any_) {
            return slot.residents.empty();
        }
        const auto gone = std::count_if(unloads_.begin(), unloads_.end(),
                                        [&](const residency::Event& event) { return event.slot == slot.name; });
        return static_cast<std::uint64_t>(gone) >= slot.counters.loaded;
    }

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::vector<residency::Event> unloads_;
    // Some unload may be among the events that were dropped, so that they cannot be counted.
    bool missed_any_ = false;
};

}  // namespace search
