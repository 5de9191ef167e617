#pragma once

#include "residency/core/wait_queue.hpp"

// WaitQueue: how a request comes and leaves, and where its key stands then.

namespace residency::core {

inline Index WaitQueue::prepare(const SharedKey& key, const RequestSpec& spec, std::size_t residents) {
    requests_.reserve_one();
    if (spec.texts > 1) {
        bulks_.reserve_one();
    }
    standings_.reserve_residents(residents);
    claims_.reserve(members_ + 1);
    const std::size_t keys = keys_.size();
    const Index index = keys_.intern(key);
    try {
        const std::size_t most_keys = std::size_t{index} + 1;
        standings_.reserve_keys(most_keys, keys_.size());
        if (spec.deadline != never) {
            reserve_deadline();
        }
    } catch (...) {
        // Not what stood there before: its memory may be on its way.
        if (keys_.size() != keys) {
            collect(index);
        }
        throw;
    }
    return index;
}

inline RequestId WaitQueue::join(Index key, const RequestSpec& spec, Time now, const TextLengths* lengths) noexcept {
    const RequestId id = add(key, spec);
    KeyEntry& entry = keys_[key];
    Request& request = requests_[id.index];
    request.spec.since = now;
    if (spec.is_inference && spec.texts > 1) {
        Bulk bulk;
        bulk.lengths = lengths;
        request.bulk = bulks_.insert(bulk).index;
    }
    entry.lists.append(requests_, id.index, waits_for(id.index));
    if (spec.expects) {
        entry.lists.expect(requests_, id.index);
    }
    ++entry.waiting;
    ++members_;
    count(entry, spec.texts, spec.bytes);
    return id;
}

inline bool WaitQueue::leave(Index index, bool to_lease) noexcept {
    Request& request = requests_[index];
    KeyEntry& entry = keys_[request.key];
    entry.lists.remove(requests_, index, waits_for(index));
    if (request.bulk != none) {
        cut_ -= request.state == RequestState::waiting && bulks_[request.bulk].is_cut ? 1U : 0U;
        bulks_.erase(std::exchange(request.bulk, none));
    }
    if (request.spec.expects) {
        entry.lists.stop_expecting(requests_, index);
    }
    --entry.waiting;
    --members_;
    if (request.state == RequestState::waiting) {
        discount(entry, request.spec.texts, request.spec.bytes);
    }
    if (to_lease && request.spec.is_inference && request.spec.deadline != never) {
        request.state = RequestState::leased;
        return true;
    }
    erase(index);
    return false;
}

inline void WaitQueue::cut(Index index, Index part) noexcept {
    WaiterLists& lists = keys_[requests_[index].key].lists;
    lists.remove(requests_, index, waits_for(index));
    Bulk& bulk = bulks_[requests_[index].bulk];
    bulk.is_cut = true;
    bulk.part = part;
    ++cut_;
    lists.append(requests_, index, waits_for(index));
}

inline void WaitQueue::keep_claim(Index index, Time until) noexcept {
    Request& request = requests_[index];
    KeyEntry& entry = keys_[request.key];
    if (entry.claim != none) {
        claims_.erase(entry.claim);
        leave(index, false);
    } else {
        entry.claim = index;
        cut_ -= is_cut(index) ? 1U : 0U;
        request.state = RequestState::claim;
        discount(entry, request.spec.texts, request.spec.bytes);
        deadlines_.erase(index);
    }
    claims_.add(entry.claim, until);
}

inline void WaitQueue::stand(Index key, QueueState state) noexcept {
    KeyEntry& entry = keys_[key];
    if (entry.state == QueueState::needs_place && state != QueueState::needs_place) {
        standings_.need_no_place(key);
    }
    if (entry.state == QueueState::grantable && state != QueueState::grantable) {
        standings_.take_no_leases(entry.resident);
    }
    entry.state = state;
    if (state == QueueState::needs_place) {
        standings_.need_place(key, rank(key), entry.ranks_last ? no_arrival : arrival_of(oldest(key)));
    }
    if (state == QueueState::grantable) {
        const Index whole = first_lease(key);
        const bool is_inference = whole != none && requests_[whole].spec.is_inference;
        standings_.take_leases(entry.resident, is_inference ? Rank{} : rank_of(whole),
                               is_inference ? rank_of(whole) : Rank{}, rank_of(first_part(key)),
                               arrival_of(oldest_unserved(key)));
    }
}

}  // namespace residency::core
