#pragma once

#include "residency/core/chunked_vector.hpp"
#include "residency/core/shared_key.hpp"
#include "residency/core/shared_text.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/core/waiter_lists.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace residency::core {

/// What a key waits for.
enum class QueueState : std::uint8_t {
    /// Nothing, or its resident, which can take no lease now.
    not_queued,
    /// A lease on its resident, which can take one more: only the slot's limits of leases and calls stand between.
    grantable,
    /// A place: it has no resident.
    needs_place,
};

/// What the slot knows of one key, for as long as it has a waiter, a resident or a failure to remember.
struct KeyEntry {
    /// The key.
    SharedKey key{};
    /// Its hash, as far as the table needs it.
    std::uint32_t hash = 0;
    /// The next entry with the same bucket.
    Index next_in_bucket = none;
    /// Its resident, in whichever state.
    Index resident = none;
    /// What waits for it.
    WaiterLists lists{};
    /// How many wait, a claim included.
    Index waiting = 0;
    /// How many texts these wait with; of an entry that is to be collected, which nothing waits for, the next of those.
    Index texts = 0;
    /// The request that timed out and keeps the key's turn, if there is one.
    Index claim = none;
    /// The key whose resident was evicted for this one.
    Index evicted = none;
    /// Its place in `KeyTable::failures()`, counted from 1; zero if its last load did not fail, or that is forgotten.
    /// Many keys may wait: it is as small as the fields below it.
    std::uint16_t failure = 0;
    /// What it waits for.
    QueueState state = QueueState::not_queued;
    /// Its resident was evicted for another key: it ranks last until that key's load has ended or its waiters have
    /// left.
    bool ranks_last : 1 = false;
    /// Whether it is among the entries that are to be collected.
    bool unused : 1 = false;

    /// Same in every field.
    friend bool operator==(const KeyEntry&, const KeyEntry&) = default;
};

/// What is remembered of a key whose last loads failed.
struct Failure {
    /// Its key's entry.
    Index key = none;
    /// How many loads failed in a row.
    Index count = 0;
    /// Until when it answers `cooling_down`.
    Time cooling_until = (Time::min)();
    /// What the last failure said; may be null.
    SharedText message{};

    /// Same in every field; the same message if it is the same object.
    friend bool operator==(const Failure&, const Failure&) = default;
};

/// Finds the entry of a key, and remembers which keys failed last. A plain value.
///
/// Hashes linearly: there are as many buckets as entries, `intern` splits one bucket and `collect` merges one. So no
/// call takes time in the number of keys, and the memory of forgotten keys is given back.
class KeyTable {
public:
    /// How many failed keys are remembered: enough for every model of a host, few enough to be forgotten safely.
    static constexpr Index most_failures = 256;

    /// The entry of `key`, or none. Asking for the same key again and again compares it once and hashes nothing.
    [[nodiscard]] Index find(const ModelKey& key) noexcept {
        if (latest_ != none && *entries_[latest_].key == key) {
            return latest_;
        }
        const Index found = lookup(key);
        return found == none ? none : latest_ = found;
    }

    /// The entry of `key`, or none; remembers nothing.
    [[nodiscard]] Index lookup(const ModelKey& key) const noexcept {
        if (buckets_.empty()) {
            return none;
        }
        const std::uint32_t hash = hash_of(key);
        for (Index index = buckets_[bucket(hash)]; index != none; index = entries_[index].next_in_bucket) {
            if (entries_[index].hash == hash && *entries_[index].key == key) {
                return index;
            }
        }
        return none;
    }

    /// The entry of `key`, made if there is none. If memory runs out it throws, and nothing has changed.
    Index intern(const ModelKey& key) { return intern(share(key)); }
    /// The same for a key that is shared.
    Index intern(const SharedKey& key) {
        const Index found = find(*key);
        if (found != none) {
            return found;
        }
        entries_.reserve_one();
        buckets_.reserve((std::max)(least_buckets, entries_.size() + 1));
        // Any key may fail, and `note_failure` must not.
        const auto failures = std::min<std::size_t>(entries_.size() + 1, most_failures + 1);
        if (failures_.capacity() < failures) {
            failures_.reserve(std::min<std::size_t>(failures * 2, most_failures + 1));
        }

        KeyEntry entry;
        entry.key = key;
        entry.hash = hash_of(*key);
        const Index index = entries_.insert(std::move(entry)).index;
        add_buckets();
        link(index);
        return latest_ = index;
    }

    /// The key as it is shared already, or a copy that can be. Throws bad_alloc.
    [[nodiscard]] SharedKey share(const ModelKey& key) {
        const Index found = find(key);
        return found == none ? SharedKey(key) : entries_[found].key;
    }

    /// Forgets the entry unless something is known of its key.
    void collect(Index index) noexcept {
        const KeyEntry& entry = entries_[index];
        if (entry.resident != none || entry.waiting != 0 || entry.failure != 0 || entry.ranks_last) {
            return;
        }
        Index* place = &buckets_[bucket(entry.hash)];
        while (*place != index) {
            place = &entries_[*place].next_in_bucket;
        }
        *place = entry.next_in_bucket;
        if (latest_ == index) {
            latest_ = none;
        }
        entries_.erase(index);
        remove_buckets();
    }

    /// Notes one more failure of the key; of too many the oldest is forgotten. Gives the key whose failures those were,
    /// to be collected if nothing else is known of it, or none.
    [[nodiscard]] Index note_failure(Index index, SharedText message, Time cooling_until) noexcept {
        Failure failure{index, failures_of(index) + 1, cooling_until, std::move(message)};
        clear_failures(index);
        failures_.push_back(std::move(failure));
        entries_[index].failure = static_cast<std::uint16_t>(failures_.size());
        if (failures_.size() <= most_failures) {
            return none;
        }
        const Index oldest = failures_.front().key;
        clear_failures(oldest);
        return oldest;
    }

    /// The key's load succeeded: whatever failed before is forgotten.
    void clear_failures(Index index) noexcept {
        const std::uint16_t place = std::exchange(entries_[index].failure, std::uint16_t{0});
        if (place == 0) {
            return;
        }
        failures_.erase(failures_.begin() + (place - 1));
        for (std::size_t moved = place; moved <= failures_.size(); ++moved) {
            entries_[failures_[moved - 1].key].failure = static_cast<std::uint16_t>(moved);
        }
    }

    /// The keys that failed, the latest last; at most `most_failures`.
    [[nodiscard]] const std::vector<Failure>& failures() const noexcept { return failures_; }
    /// What is remembered of the key's failures, or null.
    [[nodiscard]] const Failure* failure(Index index) const noexcept {
        const std::uint16_t place = entries_[index].failure;
        return place == 0 ? nullptr : &failures_[place - 1U];
    }
    /// How many of the key's loads failed in a row.
    [[nodiscard]] Index failures_of(Index index) const noexcept {
        const Failure* const found = failure(index);
        return found == nullptr ? 0 : found->count;
    }
    /// Until when the key answers `cooling_down`; long ago if it did not fail.
    [[nodiscard]] Time cooling_until(Index index) const noexcept {
        const Failure* const found = failure(index);
        return found == nullptr ? (Time::min)() : found->cooling_until;
    }
    /// The key that failed last, or none.
    [[nodiscard]] Index newest_failure() const noexcept { return failures_.empty() ? none : failures_.back().key; }

    /// The entry at `index`; precondition: it is one that `find` or `intern` gave and `collect` has not taken.
    [[nodiscard]] KeyEntry& operator[](Index index) noexcept { return entries_[index]; }
    /// The entry at `index`.
    [[nodiscard]] const KeyEntry& operator[](Index index) const noexcept { return entries_[index]; }

    /// How many keys are known.
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    /// Whether there is an entry at `index`.
    [[nodiscard]] bool used(Index index) const noexcept { return entries_.used(index); }
    /// One past the greatest index in use.
    [[nodiscard]] Index end_index() const noexcept { return entries_.end_index(); }

    /// Same entries in the same places.
    friend bool operator==(const KeyTable&, const KeyTable&) = default;

private:
    static constexpr std::size_t least_buckets = 16;

    [[nodiscard]] static std::uint32_t hash_of(const ModelKey& key) noexcept {
        const std::uint64_t hash = std::hash<ModelKey>{}(key);
        return static_cast<std::uint32_t>(hash ^ (hash >> 32U));
    }

    // The first buckets have been split already and use one bit more than the others.
    [[nodiscard]] std::size_t bucket(std::uint32_t hash) const noexcept {
        const std::size_t range = std::bit_ceil(buckets_.size());
        const std::size_t home = hash & (range - 1);
        return home < buckets_.size() ? home : home & (range / 2 - 1);
    }

    // The bucket that `later` was split from.
    [[nodiscard]] static std::size_t origin(std::size_t later) noexcept { return later - std::bit_floor(later); }

    void link(Index index) noexcept {
        Index& home = buckets_[bucket(entries_[index].hash)];
        entries_[index].next_in_bucket = home;
        home = index;
    }

    // As many as entries: `intern` has reserved the room.
    void add_buckets() noexcept {
        while (buckets_.size() < least_buckets) {
            buckets_.push_back(none);
        }
        if (buckets_.size() < entries_.size()) {
            Index rest = std::exchange(buckets_[origin(buckets_.size())], none);
            buckets_.push_back(none);
            while (rest != none) {
                link(std::exchange(rest, entries_[rest].next_in_bucket));
            }
        }
    }

    void remove_buckets() noexcept {
        if (entries_.size() == 0) {
            buckets_.truncate(0);
        } else if (buckets_.size() > (std::max)(least_buckets, entries_.size())) {
            const std::size_t last = buckets_.size() - 1;
            Index* end = &buckets_[origin(last)];
            while (*end != none) {
                end = &entries_[*end].next_in_bucket;
            }
            *end = buckets_[last];
            buckets_.pop_back();
        }
        buckets_.trim(buckets_.size());
    }

    Slab<KeyEntry, struct KeyTag> entries_{};
    ChunkedVector<Index> buckets_{};
    Index latest_ = none;
    // The latest last. Few, and rarely changed: an erased one moves those after it.
    std::vector<Failure> failures_{};
};

}  // namespace residency::core
