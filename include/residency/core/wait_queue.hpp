#pragma once

#include "residency/core/action.hpp"
#include "residency/core/indexed_heap.hpp"
#include "residency/core/key_table.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/generation.hpp"
#include "residency/options.hpp"

#include <compare>
#include <cstddef>
#include <cstdint>

namespace residency::core {

/// What a request wants of the scheduler.
struct RequestSpec {
    /// When it is given up; `never` if it has no timeout.
    Time deadline = never;
    /// The keep-alive from its grant on, if it overrides it.
    Duration keep_alive{0};
    /// The generation it expects; none if any will do.
    Generation expected{};
    /// Orders its key while it is its key's front waiter.
    Priority priority = Priority::normal;
    /// Whether it wants a lease; if not, it wants its model to be loaded (`ensure_loaded`).
    bool wants_lease : 1 = true;
    /// Whether its deadline goes on after the grant, until its lease is released.
    bool deadline_covers_lease : 1 = false;
    /// Whether it overrides the keep-alive.
    bool overrides_keep_alive : 1 = false;

    /// Same in every field.
    friend bool operator==(const RequestSpec&, const RequestSpec&) = default;
};

/// A request that waits, or one that has its lease and a deadline that goes on.
struct Request {
    /// What it wants. As many wait, what follows begins in its last bytes, which are free.
    [[no_unique_address]] RequestSpec spec{};
    /// Whether it has its lease.
    bool leased = false;
    /// Its key's entry.
    Index key = none;
    /// The one before it in its key's queue.
    Index previous = none;
    /// The one behind it in its key's queue.
    Index next = none;
    /// Its place in the order of all arrivals.
    std::uint64_t arrival = 0;

    /// Same in every field.
    friend bool operator==(const Request&, const Request&) = default;
};

/// Where a key stands among those that wait: the least is served first.
struct Rank {
    /// 0 if it was passed over for too long, else by its front waiter's priority.
    std::uint8_t level = 0;
    /// When its front waiter arrived, among all arrivals.
    std::uint64_t arrival = 0;

    /// Level first, then arrival.
    friend constexpr auto operator<=>(const Rank&, const Rank&) = default;
};

/// Who waits, for what, and in which order: first in, first out within a key; the keys by their front waiters.
///
/// Joining, leaving and finding the next cost the same however many wait; they take time in the logarithm of the number of keys that
/// wait and of deadlines. A plain value.
class WaitQueue {
public:
    /// A room in which a front waiter may be passed over for `aging`.
    explicit WaitQueue(Duration aging = Duration::zero()) : aging_(aging) {}

    /// The keys.
    [[nodiscard]] KeyTable& keys() noexcept { return keys_; }
    /// The keys.
    [[nodiscard]] const KeyTable& keys() const noexcept { return keys_; }
    /// The requests: those that wait, and those that have a lease and a deadline.
    [[nodiscard]] const Slab<Request, RequestTag>& requests() const noexcept { return requests_; }
    /// How many wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }

    /// Makes room for one more request of one more key: what follows will not allocate. Throws bad_alloc; then nothing has changed.
    Index prepare(const ModelKey& key, bool with_deadline) { return prepare(keys_.share(key), with_deadline); }
    /// The same for a key that is shared.
    Index prepare(const SharedKey& key, bool with_deadline) {
        requests_.reserve_one();
        const Index index = keys_.intern(key);
        try {
            const std::size_t most_keys = std::size_t{index} + 1;
            grantable_.reserve(most_keys);
            placeless_.reserve(most_keys);
            claimed_.reserve(most_keys);
            if (with_deadline) {
                deadlines_.reserve(requests_.next_index() + std::size_t{1});
            }
        } catch (...) {
            keys_.collect(index);
            throw;
        }
        return index;
    }

    /// Puts a request at the end of its key's queue; `prepare` has just made room for it.
    RequestId join(Index key, const RequestSpec& spec, Time now) noexcept {
        const RequestId id = add(key, spec);
        KeyEntry& entry = keys_[key];
        Request& request = requests_[id.index];
        request.previous = entry.last;
        (entry.last == none ? entry.first : requests_[entry.last].next) = id.index;
        entry.last = id.index;
        ++entry.waiting;
        ++waiting_;
        if (spec.expected != Generation{}) {
            ++entry.expecting;
        }
        if (entry.first == id.index) {
            begin_front(key, now);
        }
        return id;
    }

    /// Keeps the deadline of a request that has its lease from the start; `prepare` has just made room for it.
    RequestId keep_deadline(Index key, const RequestSpec& spec) noexcept {
        const RequestId id = add(key, spec);
        requests_[id.index].leased = true;
        return id;
    }

    /// Takes a waiter out of its queue. It is gone, unless `to_lease` and its deadline goes on. Returns whether it is still known.
    bool leave(Index index, Time now, bool to_lease) noexcept {
        Request& request = requests_[index];
        const Index key = request.key;
        KeyEntry& entry = keys_[key];
        const bool was_front = entry.first == index;
        (request.previous == none ? entry.first : requests_[request.previous].next) = request.next;
        (request.next == none ? entry.last : requests_[request.next].previous) = request.previous;
        request.previous = request.next = none;
        --entry.waiting;
        --waiting_;
        if (request.spec.expected != Generation{}) {
            --entry.expecting;
        }
        if (was_front) {
            end_front(key);
            if (entry.first != none) {
                begin_front(key, now);
            }
        }
        if (to_lease && request.spec.deadline_covers_lease && request.spec.deadline != never) {
            request.leased = true;
            return true;
        }
        erase(index);
        return false;
    }

    /// Forgets a request that does not wait.
    void erase(Index index) noexcept {
        deadlines_.erase(index);
        requests_.erase(index);
    }

    /// Lets a request that has its lease go on without its deadline.
    void drop_deadline(Index index) noexcept { deadlines_.erase(index); }

    /// Puts the key where it belongs now. Called after whatever changed its front waiter, its claim or its resident.
    void stand(Index key, QueueState standing) noexcept {
        KeyEntry& entry = keys_[key];
        if (entry.waiting == 0) {
            standing = QueueState::not_queued;
            entry.claims = false;
        }
        if (entry.standing != standing) {
            if (entry.standing != QueueState::not_queued) {
                heap(entry.standing).erase(key);
            }
            entry.standing = standing;
        } else if (standing != QueueState::not_queued && order(standing).rank(key) == rank(key)) {
            return;
        }
        if (standing != QueueState::not_queued) {
            heap(standing).update(key, rank(key));
        }
    }

    /// Lets those who were passed over for too long rank highest, from `now` on.
    void age(Time now) noexcept {
        while (oldest_front_ != none && later(keys_[oldest_front_].front_since, aging_) <= now) {
            const Index key = oldest_front_;
            unlink_front(key);
            keys_[key].aged = true;
            stand(key, keys_[key].standing);
        }
    }

    /// Where the key's front waiter puts it; precondition: it has one.
    [[nodiscard]] Rank rank(Index key) const noexcept {
        const KeyEntry& entry = keys_[key];
        const Request& front = requests_[entry.first];
        return {entry.aged ? std::uint8_t{0}
                           : static_cast<std::uint8_t>(static_cast<std::uint8_t>(front.spec.priority) + 1),
                front.arrival};
    }

    /// The keys of one standing, in order.
    [[nodiscard]] const IndexedHeap<Rank>& order(QueueState standing) const noexcept {
        return standing == QueueState::grantable     ? grantable_
               : standing == QueueState::needs_place ? placeless_
                                                     : claimed_;
    }

    /// The deadlines, the next on top.
    [[nodiscard]] const IndexedHeap<Time>& deadlines() const noexcept { return deadlines_; }

    /// How many keys want a place.
    [[nodiscard]] std::size_t wanted_places() const noexcept { return placeless_.size() + claimed_.size(); }

    /// Same in every part.
    friend bool operator==(const WaitQueue&, const WaitQueue&) = default;

private:
    [[nodiscard]] IndexedHeap<Rank>& heap(QueueState standing) noexcept {
        return standing == QueueState::grantable     ? grantable_
               : standing == QueueState::needs_place ? placeless_
                                                     : claimed_;
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

    void begin_front(Index key, Time now) noexcept {
        KeyEntry& entry = keys_[key];
        entry.front_since = now;
        entry.aged = false;
        entry.older_front = newest_front_;
        entry.newer_front = none;
        (newest_front_ == none ? oldest_front_ : keys_[newest_front_].newer_front) = key;
        newest_front_ = key;
    }

    void end_front(Index key) noexcept {
        if (keys_[key].aged) {
            keys_[key].aged = false;
        } else {
            unlink_front(key);
        }
    }

    void unlink_front(Index key) noexcept {
        KeyEntry& entry = keys_[key];
        (entry.older_front == none ? oldest_front_ : keys_[entry.older_front].newer_front) = entry.newer_front;
        (entry.newer_front == none ? newest_front_ : keys_[entry.newer_front].older_front) = entry.older_front;
        entry.older_front = entry.newer_front = none;
    }

    Duration aging_;
    KeyTable keys_;
    Slab<Request, RequestTag> requests_;
    std::size_t waiting_ = 0;
    std::uint64_t arrivals_ = 0;
    IndexedHeap<Rank> grantable_;
    IndexedHeap<Rank> placeless_;
    IndexedHeap<Rank> claimed_;
    IndexedHeap<Time> deadlines_;
    Index oldest_front_ = none;
    Index newest_front_ = none;
};

}  // namespace residency::core
