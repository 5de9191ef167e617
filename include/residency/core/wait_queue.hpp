#pragma once

#include "residency/core/action.hpp"
#include "residency/core/indexed_heap.hpp"
#include "residency/core/key_table.hpp"
#include "residency/core/request.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/standings.hpp"
#include "residency/core/time.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace residency::core {

/// A key that keeps its turn although its last waiter timed out.
struct Claim {
    /// The request that timed out.
    Index request = none;
    /// Until when.
    Time until = never;

    /// Same in both.
    friend bool operator==(const Claim&, const Claim&) = default;
};

/// What waits, for what, and in which order.
///
/// A key has a list for each priority of its waiters for a lease (0 to 2), of those for a load (3 to 5), and of those
/// that are cut into parts (6 to 8), each first in, first out. Keys that need a place, and residents that can take a
/// lease, are ordered by the best waiter of their key; beside that by the oldest one. Joining, leaving and finding the
/// next cost the same however many wait; they take time in the logarithm of the number of keys that wait and of
/// deadlines. A plain value.
class WaitQueue {
public:
    /// Among how many requests that are cut the shortest goes first.
    static constexpr std::size_t most_compared = 64;
    /// How many keys without a waiter may keep their turn.
    static constexpr std::size_t most_claims = 256;

    /// The keys.
    [[nodiscard]] KeyTable& keys() noexcept { return keys_; }
    /// The keys.
    [[nodiscard]] const KeyTable& keys() const noexcept { return keys_; }
    /// The requests: those that wait, those that keep a turn, and those that have a lease and a deadline.
    [[nodiscard]] const Slab<Request, RequestTag>& requests() const noexcept { return requests_; }
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
    /// The claims, the oldest first.
    [[nodiscard]] const std::vector<Claim>& claims() const noexcept { return claims_; }

    /// Makes room for such a request of one more key, and for `residents` residents: what follows will not allocate.
    /// Throws bad_alloc; then nothing has changed.
    Index prepare(const SharedKey& key, const RequestSpec& spec, std::size_t residents) {
        requests_.reserve_one();
        if (spec.texts > 1) {
            bulks_.reserve_one();
        }
        standings_.reserve_residents(residents);
        if (const std::size_t claims = (std::min)(most_claims, members_ + 1); claims_.capacity() < claims) {
            claims_.reserve((std::min)(most_claims, (std::max)(claims, claims_.capacity() * 2)));
        }
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
    /// Makes room for the deadline of a request that has its lease from the start. Throws bad_alloc; then nothing has
    /// changed.
    void prepare_deadline() {
        requests_.reserve_one();
        reserve_deadline();
    }

    /// Adds a waiter; `prepare` has just made room for it. `lengths` are those of its texts, if it has several.
    RequestId join(Index key, const RequestSpec& spec, Time now, const TextLengths* lengths = nullptr) noexcept {
        const RequestId id = add(key, spec);
        KeyEntry& entry = keys_[key];
        Request& request = requests_[id.index];
        request.spec.since = now;
        if (spec.is_inference && spec.texts > 1) {
            Bulk bulk;
            bulk.lengths = lengths;
            request.bulk = bulks_.insert(bulk).index;
        }
        append(id.index);
        if (spec.expects) {
            request.older_expecting = std::exchange(entry.expecting, id.index);
            if (request.older_expecting != none) {
                requests_[request.older_expecting].newer_expecting = id.index;
            }
        }
        ++entry.waiting;
        ++members_;
        count(entry, spec.texts, spec.bytes);
        return id;
    }

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
    bool leave(Index index, bool to_lease) noexcept {
        Request& request = requests_[index];
        KeyEntry& entry = keys_[request.key];
        take_out(index);
        if (request.bulk != none) {
            cut_ -= request.state == RequestState::waiting && bulks_[request.bulk].is_cut ? 1U : 0U;
            bulks_.erase(std::exchange(request.bulk, none));
        }
        stop_expecting(entry, request);
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

    /// From now on the waiter, which has several texts, is cut into parts of at most `part` texts, or of as many as the
    /// model's limits allow if that is none.
    void cut(Index index, Index part) noexcept {
        take_out(index);
        Bulk& bulk = bulks_[requests_[index].bulk];
        bulk.is_cut = true;
        bulk.part = part;
        ++cut_;
        append(index);
    }
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
    /// time. Preconditions: fewer than most_claims, or the key has one; no claim ends later.
    void keep_claim(Index index, Time until) noexcept {
        Request& request = requests_[index];
        KeyEntry& entry = keys_[request.key];
        if (entry.claim != none) {
            claims_.erase(find_claim(entry.claim));
            leave(index, false);
        } else {
            entry.claim = index;
            cut_ -= is_cut(index) ? 1U : 0U;
            request.state = RequestState::claim;
            discount(entry, request.spec.texts, request.spec.bytes);
            deadlines_.erase(index);
        }
        claims_.push_back({entry.claim, until});
    }

    /// The key has no claim any more; precondition: it has one.
    void drop_claim(Index key) noexcept {
        const Index request = std::exchange(keys_[key].claim, none);
        claims_.erase(find_claim(request));
        leave(request, false);
    }

    /// Puts the key where it belongs now. Called after whatever changed its waiters, its rank or its resident.
    /// Precondition: a key that is or becomes `grantable` has the resident for which it is that.
    void stand(Index key, QueueState state) noexcept {
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

    /// Whether the key has a waiter for a lease.
    [[nodiscard]] bool wants_lease(Index key) const noexcept {
        return first_of(key, leases) != none || first_of(key, cuts) != none;
    }
    /// The key's first waiter for a lease that is not cut, or none.
    [[nodiscard]] Index first_lease(Index key) const noexcept { return first_of(key, leases); }
    /// Whether all that wait for the key are cut.
    [[nodiscard]] bool only_cut(Index key) const noexcept {
        return first_lease(key) == none && first_ensure(key) == none;
    }
    /// The key's first waiter for a load, or none.
    [[nodiscard]] Index first_ensure(Index key) const noexcept { return first_of(key, loads); }
    /// The key's waiter that is given the next part, or none: the one with the fewest texts left, of the first
    /// `most_compared` of the highest priority.
    [[nodiscard]] Index first_part(Index key) const noexcept {
        Index shortest = none;
        std::size_t compared = 0;
        for (Index each = first_of(key, cuts); each != none && compared < most_compared; each = requests_[each].next) {
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
        const KeyEntry& entry = keys_[key];
        Index oldest = none;
        for (std::size_t priority = 0; priority < 3; ++priority) {
            const Index next = cut ? unserved_cut(key, priority) : none;
            oldest = older(older(oldest, entry.first[leases + priority]), next);
        }
        return oldest;
    }
    /// Of the key's waiters of this priority that are cut the first of which no part runs, or none.
    [[nodiscard]] Index unserved_cut(Index key, std::size_t priority) const noexcept {
        Index next = keys_[key].first[cuts + priority];
        while (next != none && bulks_[requests_[next].bulk].running != 0) {
            next = requests_[next].next;
        }
        return next;
    }
    /// The one that came first; either may be none.
    [[nodiscard]] Index older(Index left, Index right) const noexcept {
        if (left == none || right == none) {
            return left == none ? right : left;
        }
        return requests_[right].arrival < requests_[left].arrival ? right : left;
    }
    /// The key's waiter that came first, or none.
    [[nodiscard]] Index oldest(Index key) const noexcept {
        Index oldest = none;
        for (const Index first : keys_[key].first) {
            oldest = older(oldest, first);
        }
        return oldest;
    }

    /// Where a waiter stands among all; last of all if it is none.
    [[nodiscard]] Rank rank_of(Index request) const noexcept {
        if (request == none) {
            return {};
        }
        return Rank::of(static_cast<unsigned>(requests_[request].spec.priority), requests_[request].arrival);
    }
    /// The waiter of the key that ranks first, or none.
    [[nodiscard]] Index best(Index key) const noexcept {
        Index best = first_of(key, leases);
        for (const Index other : {first_of(key, loads), first_of(key, cuts)}) {
            best = rank_of(other) < rank_of(best) ? other : best;
        }
        return best;
    }
    /// Where a key stands by its best waiter; last of all if it has none.
    [[nodiscard]] Rank rank(Index key) const noexcept {
        Rank best =
            (std::min)({rank_of(first_of(key, leases)), rank_of(first_of(key, loads)), rank_of(first_of(key, cuts))});
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
    // Where the lists of a kind begin, of which there is one for each priority.
    static constexpr std::size_t leases = 0;
    static constexpr std::size_t loads = 3;
    static constexpr std::size_t cuts = 6;

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
    [[nodiscard]] Index& list_of(Index index) noexcept {
        const Request& request = requests_[index];
        const std::size_t lists = !request.spec.wants_lease ? loads : is_cut(index) ? cuts : leases;
        return keys_[request.key].first[lists + static_cast<std::size_t>(request.spec.priority)];
    }
    void append(Index index) noexcept {
        Request& request = requests_[index];
        Index& first = list_of(index);
        if (first == none) {
            first = request.previous = index;
        } else {
            request.previous = std::exchange(requests_[first].previous, index);
            requests_[request.previous].next = index;
        }
    }
    // The last is known as the `previous` of the first.
    void take_out(Index index) noexcept {
        Request& request = requests_[index];
        Index& first = list_of(index);
        if (request.next != none) {
            requests_[request.next].previous = request.previous;
        } else if (first != index) {
            requests_[first].previous = request.previous;
        }
        (first == index ? first : requests_[request.previous].next) = request.next;
        request.previous = request.next = none;
    }
    [[nodiscard]] Index first_of(Index key, std::size_t lists) const noexcept {
        const KeyEntry& entry = keys_[key];
        return entry.first[lists] != none       ? entry.first[lists]
               : entry.first[lists + 1] != none ? entry.first[lists + 1]
                                                : entry.first[lists + 2];
    }
    [[nodiscard]] std::uint64_t arrival_of(Index request) const noexcept {
        return request == none ? no_arrival : requests_[request].arrival;
    }

    void reserve_deadline() { deadlines_.reserve(requests_.next_index() + std::size_t{1}, requests_.size() + 1); }

    [[nodiscard]] std::vector<Claim>::const_iterator find_claim(Index request) const noexcept {
        return std::find_if(claims_.begin(), claims_.end(),
                            [&](const Claim& claim) { return claim.request == request; });
    }

    void stop_expecting(KeyEntry& entry, Request& request) noexcept {
        if (!request.spec.expects) {
            return;
        }
        (request.newer_expecting == none ? entry.expecting : requests_[request.newer_expecting].older_expecting) =
            request.older_expecting;
        if (request.older_expecting != none) {
            requests_[request.older_expecting].newer_expecting = request.newer_expecting;
        }
        request.older_expecting = request.newer_expecting = none;
    }

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
    Slab<Request, RequestTag> requests_{};
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
    std::vector<Claim> claims_{};
};

}  // namespace residency::core
