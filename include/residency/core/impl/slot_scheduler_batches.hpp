#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its batches: which waiters share a model call.

namespace residency::core {

inline void SlotScheduler::count_texts(Resident& resident, const RequestSpec& spec) noexcept {
    resident.texts += spec.texts;
    counters_.texts += spec.texts;
}

// How many texts a call on the resident should be about, so that all calls that may run have their share of what waits
// and runs: on the resident, and in the slot (DESIGN.md H25). Without it the first call would take everything while
// others are free.
inline std::size_t SlotScheduler::share_of(const Resident& resident) const noexcept {
    const auto texts_of = [&](const Resident& each) { return each.texts + queue_.keys()[each.key].texts; };
    const auto part = [](std::size_t texts, std::size_t calls) { return texts / calls + (texts % calls != 0 ? 1 : 0); };
    std::size_t all = 0;
    for (Index index = 0; index < residents_.end_index(); ++index) {
        if (residents_.used(index) && residents_[index].state == ResidentState::ready) {
            all += texts_of(residents_[index]);
        }
    }
    return (std::max)(part(texts_of(resident), (std::min)(max_calls_, resident.capacity)), part(all, max_calls_));
}

// Has waiters join the batch that begins with `first`, which has just been granted its lease on the resident. By rank,
// of the waiters for the same key:
//
//  1. One of lower priority than the first: the batch is full. It would make the first wait longer.
//  2. One that is no call, is given as something else (`EmbedAs`), or does not fit whole into what is left of the share
//     and of the model's limits: passed by. Past the 64th of them the batch is full.
//  3. One that has missed its deadline or its generation: it fails.
//  4. It joins.
inline void SlotScheduler::fill_batch(const RequestSpec& first, Index index, Step& step) {
    Resident& resident = residents_[index];
    const Index key = resident.key;
    if (!resident.joins || resident.batch.texts <= first.texts || resident.batch.bytes < first.bytes ||
        queue_.keys()[key].texts == 0) {
        return;
    }
    const std::size_t share = (std::min)(share_of(resident), resident.batch.texts);
    std::size_t texts = share - (std::min)(share, std::size_t{first.texts});
    std::size_t bytes = resident.batch.bytes - first.bytes;
    std::size_t passed_by = 0;
    for (std::size_t priority = 0; priority <= static_cast<std::size_t>(first.priority); ++priority) {
        Index next = queue_.keys()[key].first[priority];
        while (next != none && texts != 0 && step.left != 0) {
            const Index each = next;
            const RequestSpec spec = queue_.requests()[each].spec;
            next = queue_.requests()[each].next;
            if (!spec.is_inference || spec.as != first.as || spec.texts > texts || spec.bytes > bytes) {
                if (++passed_by > most_passed_by) {
                    return;
                }
            } else if (!fail_late(each, step)) {
                join(each, spec, index, step);
                texts -= spec.texts;
                bytes -= spec.bytes;
            }
        }
    }
}

// Grants the waiter its part of the batch whose first has just been granted its lease on the resident.
inline void SlotScheduler::join(Index request, const RequestSpec& spec, Index index, Step& step) {
    Resident& resident = residents_[index];
    --step.left;
    resident.keep_alive = (std::max)(resident.keep_alive, spec.overrides_keep_alive ? spec.keep_alive : keep_alive_);
    count_texts(resident, spec);
    Action& action = act(ActionType::join, request, index, step);
    action.generation = resident.generation;
    action.kept = queue_.leave(request, true);
}

}  // namespace residency::core
