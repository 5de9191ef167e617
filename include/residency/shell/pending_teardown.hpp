#pragma once

#include "residency/core/action.hpp"
#include "residency/core/time.hpp"
#include "residency/status.hpp"

#include <exception>
#include <memory>

namespace residency::detail {

/// One slot's part in an unload or a shutdown that a caller waits for.
struct PendingTeardown {
    PendingTeardown() = default;
    virtual ~PendingTeardown() = default;
    PendingTeardown(const PendingTeardown&) = delete;
    PendingTeardown& operator=(const PendingTeardown&) = delete;

    /// It is complete; a shutdown has left `report` behind. Called once, without a lock.
    virtual void completed() noexcept = 0;

    // Written under the slot's mutex by the thread that decided, read by the same thread afterwards.
    /// Its name in the scheduler.
    core::TeardownId id{};
    /// Whether it is a shutdown.
    bool is_shutdown = false;
    /// Whether its deadline has passed, or its slot is being destroyed.
    bool is_late = false;
    /// A shutdown's deadline: past it, it does not wait for the alarm's last handler either.
    core::Time due = core::never;
    /// Why it could not be completed; null if it could.
    std::exception_ptr error{};
    /// What a shutdown has left behind.
    ShutdownReport report{};
    std::shared_ptr<PendingTeardown> next{};
};

}  // namespace residency::detail
