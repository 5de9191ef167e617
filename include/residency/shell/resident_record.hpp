#pragma once

#include "residency/core/action.hpp"
#include "residency/core/shared_text.hpp"
#include "residency/core/time.hpp"
#include "residency/detail/leased_model.hpp"
#include "residency/shared_cause.hpp"

#include <memory>
#include <stop_token>

namespace residency::detail {

class InferenceWaiter;

/// What the shell keeps of one residency, beside what the scheduler knows. Guarded by the slot's mutex but for what a
/// `LeasedModel` is.
struct ResidentRecord : LeasedModel {
    /// Its name in the scheduler.
    core::ResidentId id{};
    /// Asks its load to stop.
    std::stop_source stop{};
    /// What its load threw, while waiters are failed for it.
    SharedCause cause{};
    /// Its message, for people.
    core::SharedText message{};
    /// When its load began and ended.
    core::Time load_began{0};
    core::Time load_ended{0};
    /// Whether queries and documents differ for its model.
    bool distinguishes = false;
    /// The calls on it: the first of a list through `next_running`.
    InferenceWaiter* running = nullptr;
    /// Whether its model is to be destroyed: by the thread that sets it to false again.
    bool awaits_destruction = false;
    /// Whether that thread has it in its outbox already.
    bool is_destroyed_in_place = false;
    // Links of the outbox.
    std::shared_ptr<ResidentRecord> next_stop{};
    std::shared_ptr<ResidentRecord> next_job{};
};

}  // namespace residency::detail
