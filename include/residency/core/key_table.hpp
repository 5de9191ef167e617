#pragma once

#include "residency/core/shared_key.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"
#include "residency/model_key.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace residency::core {

/// In which order a key stands, if it waits for something.
enum class QueueState : std::uint8_t {
    /// It has no waiter, or its front waiter waits for its own resident.
    not_queued,
    /// Its resident is ready and can take one more lease; only the slot's lease limit stands between.
    grantable,
    /// It has no resident and wants a place.
    needs_place,
    /// The same, and it has started a switch: the next place is its own.
    claimed,
};

/// What the slot knows of one key, for as long as it has a waiter, a resident or a failure to remember.
struct KeyEntry {
    /// The key.
    SharedKey key{};
    /// Its hash.
    std::size_t hash = 0;
    /// The next entry with the same bucket.
    Index next_in_bucket = none;

    /// Its resident, in whichever state.
    Index resident = none;
    /// Its front waiter.
    Index first = none;
    /// The waiter that came last.
    Index last = none;
    /// How many wait.
    Index waiting = 0;
    /// How many of them expect a generation.
    Index expecting = 0;

    /// Where it stands among the keys that wait.
    QueueState standing = QueueState::not_queued;
    /// Whether its front waiter has been passed over for so long that it ranks highest.
    bool aged = false;
    /// Whether it has started a switch.
    bool claims = false;
    /// Since when its front waiter is the front waiter.
    Time front_since{0};
    /// The entry whose front waiter became that just before.
    Index older_front = none;
    /// The entry whose front waiter became that just after.
    Index newer_front = none;

    /// How many loads failed in a row.
    Index failures = 0;
    /// Until when it answers `cooling_down`.
    Time cooling_until = Time::min();
    /// What the last failure said.
    std::string failure_message{};
    /// The entry that failed just before.
    Index older_failure = none;
    /// The entry that failed just after.
    Index newer_failure = none;

    /// Same in every field.
    friend bool operator==(const KeyEntry&, const KeyEntry&) = default;
};

/// Finds the entry of a key, and remembers which keys failed last. A plain value.
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
        const std::size_t hash = std::hash<ModelKey>{}(key);
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
        grow();
        KeyEntry entry;
        entry.key = key;
        entry.hash = std::hash<ModelKey>{}(*key);
        const std::size_t home = bucket(entry.hash);
        entry.next_in_bucket = buckets_[home];
        const Index index = entries_.insert(std::move(entry)).index;
        buckets_[home] = index;
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
        if (entry.resident != none || entry.waiting != 0 || entry.failures != 0) {
            return;
        }
        Index* link = &buckets_[bucket(entry.hash)];
        while (*link != index) {
            link = &entries_[*link].next_in_bucket;
        }
        *link = entry.next_in_bucket;
        if (latest_ == index) {
            latest_ = none;
        }
        entries_.erase(index);
    }

    /// Notes one more failure of the key; the oldest of too many is forgotten.
    void note_failure(Index index, std::string message, Time cooling_until) noexcept {
        forget_failure(index, false);
        KeyEntry& entry = entries_[index];
        ++entry.failures;
        entry.cooling_until = cooling_until;
        entry.failure_message = std::move(message);
        entry.older_failure = newest_failure_;
        (newest_failure_ == none ? oldest_failure_ : entries_[newest_failure_].newer_failure) = index;
        newest_failure_ = index;
        if (++failures_ > most_failures) {
            const Index oldest = oldest_failure_;
            forget_failure(oldest, true);
            collect(oldest);
        }
    }

    /// The key's load succeeded: whatever failed before is forgotten.
    void clear_failures(Index index) noexcept { forget_failure(index, true); }

    /// The key that failed last, or none; the one before it is its `older_failure`.
    [[nodiscard]] Index newest_failure() const noexcept { return newest_failure_; }

    /// The entry at `index`; precondition: it is one that `find` or `intern` gave and `collect` has not taken.
    [[nodiscard]] KeyEntry& operator[](Index index) noexcept { return entries_[index]; }
    /// The entry at `index`.
    [[nodiscard]] const KeyEntry& operator[](Index index) const noexcept { return entries_[index]; }

    /// How many keys are known.
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    /// Whether there is an entry at `index`.
    [[nodiscard]] bool used(Index index) const noexcept { return entries_.used(index); }
    /// One past the greatest index that was ever used.
    [[nodiscard]] Index end_index() const noexcept { return entries_.end_index(); }

    /// Same entries in the same places.
    friend bool operator==(const KeyTable&, const KeyTable&) = default;

private:
    [[nodiscard]] std::size_t bucket(std::size_t hash) const noexcept { return hash & (buckets_.size() - 1); }

    // Twice as many buckets as entries, so that a chain is short; a power of two, so that the bucket is a mask.
    void grow() {
        if (entries_.size() * 2 < buckets_.size()) {
            return;
        }
        std::vector<Index> buckets(buckets_.empty() ? 16 : buckets_.size() * 2, none);
        buckets_.swap(buckets);
        for (Index index = 0; index < entries_.end_index(); ++index) {
            if (entries_.used(index)) {
                Index& home = buckets_[bucket(entries_[index].hash)];
                entries_[index].next_in_bucket = home;
                home = index;
            }
        }
    }

    void forget_failure(Index index, bool for_good) noexcept {
        KeyEntry& entry = entries_[index];
        if (entry.failures == 0) {
            return;
        }
        (entry.older_failure == none ? oldest_failure_ : entries_[entry.older_failure].newer_failure) =
            entry.newer_failure;
        (entry.newer_failure == none ? newest_failure_ : entries_[entry.newer_failure].older_failure) =
            entry.older_failure;
        entry.older_failure = entry.newer_failure = none;
        --failures_;
        if (for_good) {
            entry.failures = 0;
            entry.cooling_until = Time::min();
            entry.failure_message.clear();
        }
    }

    Slab<KeyEntry, struct KeyTag> entries_;
    std::vector<Index> buckets_;
    Index latest_ = none;
    Index oldest_failure_ = none;
    Index newest_failure_ = none;
    Index failures_ = 0;
};

}  // namespace residency::core
