#pragma once

#include "residency/core/slot_scheduler.hpp"

// SlotScheduler and its batches: which waiters share a model call, and which are cut into parts.

namespace residency::core {

inline void SlotScheduler::count_call(Resident& resident, const RequestSpec& spec, bool is_part) noexcept {
    calls_.begin(spec.priority, is_part);
    ++resident.calls;
    resident.last_is_part = is_part;
    if (is_part) {
        ++resident.parts;
    } else {
        resident.whole_at = calls_.begun();
    }
    count_texts(resident, spec);
}

inline void SlotScheduler::count_texts(Resident& resident, const RequestSpec& spec) noexcept {
    resident.texts += spec.texts;
    counters_.texts += spec.texts;
}

// How many texts a call on the resident should be about, so that all calls that may run have their share of what waits
// and runs: on the resident, and in the slot (H25). Without it the first call would take everything while
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
    return (std::max)(part(texts_of(resident), (std::min)(calls_.most(), resident.capacity)), part(all, calls_.most()));
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
    for (std::size_t priority = 0; priority <= static_cast<std::size_t>(first.priority); ++priority) {  // 1.
        Index next = queue_.keys()[key].lists.first(WaitsFor::lease, static_cast<Priority>(priority));
        while (next != none && texts != 0 && step.left != 0) {
            const Index each = next;
            const RequestSpec spec = queue_.requests()[each].spec;
            next = queue_.requests()[each].next;
            if (!spec.is_inference || spec.as != first.as || spec.texts > texts || spec.bytes > bytes) {  // 2.
                if (++passed_by > most_passed_by) {
                    return;
                }
            } else if (!fail_late(each, step)) {  // 3., 4.
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
    if (action.kept) {
        queue_.note_granted(request, step.now);
    }
}

// How many texts a part of the request has at most, on this resident: all of them if it is not to be cut (`whole`), or
// as many as the model's limits allow if that is none. `is_alone`: no other request waits.
//
//  1. The model has no limits: it is not cut.
//  2. It has more texts or bytes than fit one call: it is cut by the limits (H26).
//  3. It is alone in the slot, no two requests were there at once lately, more than one call is free, and the model
//     computes: it is cut evenly over the free calls (H25). Callers that come in turns would else share the calls'
//     fixed cost badly; and calls that wait for another side would be more of them, and none of them sooner.
//  4. Else it is not cut.
inline Index SlotScheduler::part_of(const Resident& resident, const RequestSpec& spec, bool is_alone) const noexcept {
    if (!resident.cuts) {  // 1.
        return whole;
    }
    if (spec.texts > resident.batch.texts || spec.bytes > resident.batch.bytes) {  // 2.
        return none;
    }
    const std::size_t free =
        (std::min)({calls_.most(), resident.capacity - resident.leases, options_.max_leases - leases_});
    if (!is_alone || calls_.running() != 0 || !calls_.had_no_company() || free < 2 || !resident.spreads) {  // 4.
        return whole;
    }
    return static_cast<Index>((spec.texts + free - 1) / free);  // 3.
}

// The waiter, which is cut, that is given the next part by rank, or none.
inline Index SlotScheduler::next_part() const noexcept {
    const auto& heap = queue_.standings().grantable_parts();
    Index best = none;
    for (Index index = 0; !heap.empty() && index < residents_.end_index(); ++index) {
        if (heap.contains(index) && (best == none || heap.rank(index) < heap.rank(best)) &&
            may_start_part(index, queue_.first_part(residents_[index].key))) {
            best = index;
        }
    }
    return best == none ? none : queue_.first_part(residents_[best].key);
}

// Whether a part of the request may start on the resident (H26):
//
//  1. No call of its priority may begin: it may not.
//  2. The request is cut evenly over free calls: it may.
//  3. Else if requests that are not cut leave it a call, in the slot as well as on the resident itself.
inline bool SlotScheduler::may_start_part(Index index, Index request) const noexcept {
    const Resident& resident = residents_[index];
    if (!calls_.may_begin(queue_.requests()[request].spec.priority)) {  // 1.
        return false;
    }
    if (queue_.bulk(request).part != none) {  // 2.
        return true;
    }
    const auto& bare = queue_.standings().grantable(false);  // 3.
    const auto& calls = queue_.standings().grantable(true);
    const PartsShare on_resident{(std::min)(calls_.most(), resident.capacity), resident.parts, resident.whole_at,
                                 resident.last_is_part};
    return calls_.may_begin_part(calls_.parts(), !calls.empty()) &&
           calls_.may_begin_part(on_resident, calls.contains(index) || bare.contains(index));
}

// Gives the waiter, which is cut, its next part on the resident.
inline void SlotScheduler::give_part(Index request, Index index, Step& step) {
    Resident& resident = residents_[index];
    const Index key = resident.key;
    RequestSpec spec = queue_.requests()[request].spec;
    const Bulk bulk = queue_.bulk(request);
    BatchLimits limits = resident.batch;
    if (!resident.cuts) {
        limits = {spec.texts};
    }
    limits.texts = (std::min)({limits.texts, std::size_t{bulk.part}, std::size_t{spec.texts}});
    const Index first = bulk.given;
    Index count = static_cast<Index>(limits.texts);
    Index bytes = spec.bytes / spec.texts * count;
    if (bulk.lengths != nullptr) {
        count = bulk.lengths->fitting(first, limits);
        bytes = bulk.lengths->bytes(first, first + count);
    }
    --step.left;
    if (first == 0) {
        queue_.note_granted(request, step.now);
    }
    queue_.give_part(request, count, bytes);
    spec.texts = count;
    use(resident, spec);
    count_lease(resident, spec, true);
    Action& action = act(ActionType::part, request, index, step);
    action.generation = resident.generation;
    action.first = first;
    action.count = count;
    action.is_last = queue_.requests()[request].spec.texts == 0;
    action.kept = !action.is_last || queue_.leave(request, true);
    refresh(key);
}

}  // namespace residency::core
