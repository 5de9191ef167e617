#pragma once

#include "residency/shell/intrusive_queue.hpp"
#include "residency/shell/pending_teardown.hpp"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace residency::detail {

/// The unloads and shutdowns of a slot that callers wait for. Guarded by the slot's mutex; what a teardown owns is
/// destroyed without it.
class PendingTeardowns {
public:
    /// Makes room for teardowns 0 to `count` - 1. Throws bad_alloc.
    void reserve(std::size_t count) {
        if (by_id_.size() < count) {
            by_id_.resize(count * 2);
        }
    }

    /// Keeps a teardown that the scheduler has named.
    void add(const std::shared_ptr<PendingTeardown>& teardown) noexcept { by_id_[teardown->id.index] = teardown; }
    /// Takes out the one that the scheduler names `index`; null if it was forgotten.
    [[nodiscard]] std::shared_ptr<PendingTeardown> take(core::Index index) noexcept { return std::move(by_id_[index]); }
    /// Takes out all that the scheduler has named.
    template <class Take>
    void take_all(const Take& take) noexcept {
        for (std::shared_ptr<PendingTeardown>& teardown : by_id_) {
            if (teardown) {
                take(std::move(teardown));
            }
        }
    }

    /// A shutdown is complete but for the alarm's last handler, or for handlers that are not posted yet.
    void finish(std::shared_ptr<PendingTeardown> shutdown) noexcept { finishing_.push(std::move(shutdown)); }
    /// Whether there are such shutdowns.
    [[nodiscard]] bool has_finishing() const noexcept { return !finishing_.empty(); }
    /// Takes out those for which `ready(shutdown)`.
    template <class Ready, class Take>
    void take_finished(const Ready& ready, const Take& take) noexcept {
        IntrusiveQueue<&PendingTeardown::next> others;
        while (!finishing_.empty()) {
            std::shared_ptr<PendingTeardown> shutdown = finishing_.pop();
            if (ready(*shutdown)) {
                take(std::move(shutdown));
            } else {
                others.push(std::move(shutdown));
            }
        }
        finishing_.append(others);
    }

    /// Takes out a teardown wherever it is; null if it is not in here.
    [[nodiscard]] std::shared_ptr<PendingTeardown> remove(const PendingTeardown& teardown) noexcept {
        if (teardown.id.valid() && by_id_[teardown.id.index].get() == &teardown) {
            return std::move(by_id_[teardown.id.index]);
        }
        std::shared_ptr<PendingTeardown> removed;
        take_finished([&](const PendingTeardown& shutdown) { return &shutdown == &teardown; },
                      [&](std::shared_ptr<PendingTeardown> shutdown) { removed = std::move(shutdown); });
        return removed;
    }

private:
    std::vector<std::shared_ptr<PendingTeardown>> by_id_{};
    IntrusiveQueue<&PendingTeardown::next> finishing_{};
};

}  // namespace residency::detail
