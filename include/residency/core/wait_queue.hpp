#pragma once

#include "residency/core/action.hpp"
#include "residency/core/claims.hpp"
#include "residency/core/indexed_heap.hpp"
#include "residency/core/key_table.hpp"
#include "residency/core/request.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/standings.hpp"
#include "residency/core/time.hpp"
#include "residency/core/waiter_lists.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace residency::core {

/// What waits, for what, and in which order.
///
/// The waiters of a key stand in its lists. Keys that need a place, and residents that can take a lease, are ordered by
/// the best waiter of their key; beside that by the oldest one. Joining, leaving and finding the next cost the same
/// however many wait; they take time in the logarithm of the number of keys that wait and of deadlines. A plain value.
class WaitQueue {
public:
    /// Among how many requests that are cut the shortest goes first.
    static constexpr std::size_t most_compared = 64;

    /// The keys.
    [[nodiscard]] KeyTable& keys() noexcept { return keys_; }
    /// The keys.
    [[nodiscard]] const KeyTable& keys() const noexcept { return keys_; }
    /// The requests: those that wait, those that keep a turn, and those that have a lease and a deadline.
    [[nodiscard]] const Requests& requests() const noexcept { return requests_; }
    /// How many wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return members_ - watchers_ - claims_.size(); }
    /// How many texts they wait with.
    [[nodiscard]] std::size_t texts() const noexcept { return texts_; }
    /// How many bytes they wait with.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    /// How many of them are cut into parts.
    [[nodiscard]] std::size_t cut() const noexcept { return cut_; }
    /// Whether no key waits for anything: there is no waiter and no claim.
    [[nodiscard]] bool empty() const noexcept { return members_ == watchers_; }
    /// Whether it is empty, and nothing from outside wants to know what becomes free.
    [[nodiscard]] bool is_calm() const noexcept { return members_ == 0; }
    /// Something from outside wants to know what becomes free, or does not any more.
    void watch(bool watches) noexcept {
        members_ += (watches ? 1U : 0U) - watchers_;
        watchers_ = watches ? 1 : 0;
    }
    /// Whether it does.
    [[nodiscard]] bool is_watched() const noexcept { return watchers_ != 0; }
    /// The keys that keep their turn although they have no waiter.
    [[nodiscard]] const Claims& claims() const noexcept { return claims_; }

    /// Makes room for such a request of one more key, and for `residents` residents: what follows will not allocate.
    /// Throws bad_alloc; then nothing has changed.
    Index prepare(const SharedKey& key, const RequestSpec& spec, std::size_t residents);
    /// Makes room for the deadline of a request that has its lease from the start. Throws bad_alloc; then nothing has
    /// changed.
    void prepare_deadline() {
        requests_.reserve_one();
        reserve_deadline();
    }

    /// Adds a waiter; `prepare` has just made room for it. `lengths` are those of its texts, if it has several.
    RequestId join(Index key, const RequestSpec& spec, Time now, const TextLengths* lengths = nullptr) noexcept;

    /// Keeps the deadline of a request that has its lease from the start; `prepare_deadline` has just made room for it.
    RequestId keep_deadline(Index key, const RequestSpec& spec) noexcept {
        const RequestId id = add(key, spec);
        requests_[id.index].state = RequestState::leased;
        requests_[id.index].granted = spec.since;
        return id;
    }
    /// The request, which is still known, was given its lease or its first part.
    void note_granted(Index index, Time now) noexcept { requests_[index].granted = now; }

    /// Takes a waiter out of its list. It is gone, unless `to_lease` and its deadline goes on. Returns whether it is
    /// still known.
    bool leave(Index index, bool to_lease) noexcept;

    /// From now on the waiter, which has several texts, is cut into parts of at most `part` texts, or of as many as the
    /// model's limits allow if that is none.
    void cut(Index index, Index part) noexcept;
    /// Whether the waiter is cut into parts.
    [[nodiscard]] bool is_cut(Index index) const noexcept {
        const Index bulk = requests_[index].bulk;
        return bulk != none && bulks_[bulk].is_cut;
    }
    /// Whether the waiter is cut and was given a part.
    [[nodiscard]] bool has_begun(Index index) const noexcept {
        return is_cut(index) && bulks_[requests_[index].bulk].given != 0;
    }
    /// What is known of the waiter, which has several texts.
    [[nodiscard]] const Bulk& bulk(Index index) const noexcept { return bulks_[requests_[index].bulk]; }
    /// Gives the waiter, which is cut, a part of so many texts and bytes.
    void give_part(Index index, Index texts, Index bytes) noexcept {
        Request& request = requests_[index];
        Bulk& bulk = bulks_[request.bulk];
        bulk.given += texts;
        ++bulk.running;
        request.spec.texts -= texts;
        request.spec.bytes -= bytes;
        discount(keys_[request.key], texts, bytes);
    }
    /// A part of the request has ended, which may itself be gone.
    void end_part(RequestId request) noexcept {
        if (requests_.contains(request) && requests_[request.index].bulk != none) {
            --bulks_[requests_[request.index].bulk].running;
        }
    }

    /// Forgets a request that does not wait.
    void erase(Index index) noexcept {
        deadlines_.erase(index);
        requests_.erase(index);
        // With the room of one more: requests may leave between `prepare` and `join`.
        deadlines_.trim(requests_.end_index() + std::size_t{1}, requests_.size() + 1);
    }

    /// Forgets the key unless something is known of it, and gives back the memory that the other keys do not need.
    void collect(Index key) noexcept {
        keys_.collect(key);
        standings_.trim_keys(keys_.end_index(), keys_.size());
    }

    /// Lets a request that has its lease go on without its deadline.
    void drop_deadline(Index index) noexcept { deadlines_.erase(index); }

    /// The key's last waiter has timed out: it keeps the key's turn until then, or gives the one that does as much
    /// time. Preconditions: fewer than `Claims::most`, or the key has one; no claim ends later.
    void keep_claim(Index index, Time until) noexcept;

    /// The key has no claim any more; precondition: it has one.
    void drop_claim(Index key) noexcept {
        const Index request = std::exchange(keys_[key].claim, none);
        claims_.erase(request);
        leave(request, false);
    }

    /// Puts the key where it belongs now. Called after whatever changed its waiters, its rank or its resident.
    /// Precondition: a key that is or becomes `grantable` has the resident for which it is that.
    void stand(Index key, QueueState state) noexcept;

    /// Whether the key has a waiter for a lease.
    [[nodiscard]] bool wants_lease(Index key) const noexcept {
        const WaiterLists& lists = keys_[key].lists;
        return lists.first(WaitsFor::lease) != none || lists.first(WaitsFor::part) != none;
    }
    /// The key's first waiter for a lease that is not cut, or none.
    [[nodiscard]] Index first_lease(Index key) const noexcept { return keys_[key].lists.first(WaitsFor::lease); }
    /// Whether all that wait for the key are cut.
    [[nodiscard]] bool only_cut(Index key) const noexcept {
        return first_lease(key) == none && first_ensure(key) == none;
    }
    /// The key's first waiter for a load, or none.
    [[nodiscard]] Index first_ensure(Index key) const noexcept { return keys_[key].lists.first(WaitsFor::load); }
    /// The key's waiter that is given the next part, or none: the one with the fewest texts left, of the first
    /// `most_compared` of the highest priority.
    [[nodiscard]] Index first_part(Index key) const noexcept {
        Index shortest = none;
        std::size_t compared = 0;
        for (Index each = keys_[key].lists.first(WaitsFor::part); each != none && compared < most_compared;
             each = requests_[each].next) {
            if (shortest == none || requests_[each].spec.texts < requests_[shortest].spec.texts) {
                shortest = each;
            }
            ++compared;
        }
        return shortest;
    }
    /// The key's waiter for a lease that came first, or none; one of which a part runs is served already. `cut`: also
    /// of those that are cut.
    [[nodiscard]] Index oldest_unserved(Index key, bool cut = true) const noexcept {
        Index oldest = none;
        for (const Priority priority : {Priority::high, Priority::normal, Priority::low}) {
            const Index next = cut ? unserved_cut(key, priority) : none;
            oldest = older(older(oldest, keys_[key].lists.first(WaitsFor::lease, priority)), next);
        }
        return oldest;
    }
    /// Of the key's waiters of this priority that are cut the first of which no part runs, or none.
    [[nodiscard]] Index unserved_cut(Index key, Priority priority) const noexcept {
        Index next = keys_[key].lists.first(WaitsFor::part, priority);
        while (next != none && bulks_[requests_[next].bulk].running != 0) {
            next = requests_[next].next;
        }
        return next;
    }
    /// The one that came first; either may be none.
    [[nodiscard]] Index older(Index left, Index right) const noexcept { return older_of(requests_, left, right); }
    /// The key's waiter that came first, or none.
    [[nodiscard]] Index oldest(Index key) const noexcept { return keys_[key].lists.oldest(requests_); }
    /// Where a waiter stands among all; last of all if it is none.
    [[nodiscard]] Rank rank_of(Index request) const noexcept { return core::rank_of(requests_, request); }
    /// The waiter of the key that ranks first, or none.
    [[nodiscard]] Index best(Index key) const noexcept { return keys_[key].lists.best(requests_); }
    /// Where a key stands by its best waiter; last of all if it has none.
    [[nodiscard]] Rank rank(Index key) const noexcept {
        Rank best = keys_[key].lists.rank(requests_);
        if (keys_[key].ranks_last) {
            best.value |= std::uint64_t{1} << 62U;
        }
        return best;
    }

    /// Who is next.
    [[nodiscard]] const Standings& standings() const noexcept { return standings_; }
    /// The deadlines, the next on top.
    [[nodiscard]] const IndexedHeap<Time>& deadlines() const noexcept { return deadlines_; }
    /// How many requests have joined so far.
    [[nodiscard]] std::uint64_t arrivals() const noexcept { return arrivals_; }

    /// Same in every part.
    friend bool operator==(const WaitQueue&, const WaitQueue&) = default;

private:
    void count(KeyEntry& entry, Index texts, Index bytes) noexcept {
        entry.texts += texts;
        texts_ += texts;
        bytes_ += bytes;
    }
    void discount(KeyEntry& entry, Index texts, Index bytes) noexcept {
        entry.texts -= texts;
        texts_ -= texts;
        bytes_ -= bytes;
    }
    [[nodiscard]] WaitsFor waits_for(Index index) const noexcept {
        return !requests_[index].spec.wants_lease ? WaitsFor::load : is_cut(index) ? WaitsFor::part : WaitsFor::lease;
    }
    [[nodiscard]] std::uint64_t arrival_of(Index request) const noexcept {
        return request == none ? no_arrival : requests_[request].arrival;
    }

    void reserve_deadline() { deadlines_.reserve(requests_.next_index() + std::size_t{1}, requests_.size() + 1); }

    RequestId add(Index key, const RequestSpec& spec) noexcept {
        Request request;
        request.spec = spec;
        request.key = key;
        request.arrival = ++arrivals_;
        const RequestId id = requests_.insert(request);
        if (spec.deadline != never) {
            deadlines_.push(id.index, spec.deadline);
        }
        return id;
    }

    KeyTable keys_{};
    Requests requests_{};
    // Of the waiters with several texts.
    Slab<Bulk, struct BulkTag> bulks_{};
    // Waiters, claims, and one more while it is watched from outside.
    std::size_t members_ = 0;
    std::size_t watchers_ = 0;
    std::size_t texts_ = 0;
    std::size_t bytes_ = 0;
    // Requests that are cut.
    std::size_t cut_ = 0;
    std::uint64_t arrivals_ = 0;
    Standings standings_{};
    IndexedHeap<Time> deadlines_{};
    Claims claims_{};
};

}  // namespace residency::core

#include "residency/core/impl/wait_queue.hpp"  // IWYU pragma: export
