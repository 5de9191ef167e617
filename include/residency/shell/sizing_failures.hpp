#pragma once

#include "residency/core/key_memory.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/slot_scheduler.hpp"
#include "residency/shared_cause.hpp"

#include <exception>
#include <list>
#include <utility>

namespace residency::detail {

/// What the backend threw instead of saying how much keys need, by their entries: of those whose waiters are being
/// failed, and what is left of others until the next comes. An exception is the backend's, and is destroyed without the
/// slot's mutex: so what is added, and what is of no use any more, changes hands without memory.
class SizingFailures {
public:
    /// None.
    SizingFailures() = default;
    /// That of one key, to be noted; none without memory for it.
    SizingFailures(core::Index key, const std::exception_ptr& cause) noexcept {
        try {
            causes_.emplace_back(key, cause);
        } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory: a failure without its cause
        }
    }

    /// The key of this entry could not be sized. `failed` is what that threw; it becomes those that are of no use any
    /// more, to be destroyed without the mutex.
    void note(core::Index key, SizingFailures& failed, const core::SlotScheduler& scheduler) noexcept {
        std::list<Cause> kept;
        kept.swap(failed.causes_);
        while (!causes_.empty()) {
            const core::Index other = causes_.front().first;
            const bool fails = scheduler.key_memory(other).phase == core::MemoryPhase::refused && other != key;
            std::list<Cause>& to = fails ? kept : failed.causes_;
            to.splice(to.end(), causes_, causes_.begin());
        }
        causes_.swap(kept);
    }
    /// What was thrown for the key of this entry; null if that is not known.
    [[nodiscard]] const SharedCause* find(core::Index key) const noexcept {
        for (const Cause& each : causes_) {
            if (each.first == key) {
                return &each.second;
            }
        }
        return nullptr;
    }

private:
    using Cause = std::pair<core::Index, SharedCause>;

    std::list<Cause> causes_{};
};

}  // namespace residency::detail
