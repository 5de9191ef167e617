#pragma once

#include "residency/core/indexed_heap.hpp"
#include "residency/core/memory.hpp"
#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace residency::core {

/// Every decision about the memory of one budget, over any number of slots: which key may be loaded, and which
/// residents give their memory back for it.
///
/// A plain value: no thread, no lock, no clock. The budget hands it the messages of the slots one at a time, and then
/// calls `settle`, with what the slots say of their residents if `lacks()`; the answers go to the slots.
///
/// Memory: `reserve` throws bad_alloc, and then nothing has changed. `settle` wants room in `answers` for
/// `most_answers()` more; nothing else allocates.
///
/// What holds between any two calls:
/// - what is reserved never exceeds the limit, but for what models turned out to need beyond their estimates, and for a
///   limit that was lowered meanwhile (R13);
/// - after `settle` each key that waits has been answered;
/// - a key that can never be served evicts nothing.
class MemoryLedger {
public:
    /// How many waiting keys are looked at for one that can be served.
    static constexpr std::size_t most_passed_by = 64;

    /// A budget of `limit` bytes, none of which is reserved.
    explicit MemoryLedger(std::size_t limit) noexcept : limit_(limit) {}

    // -- What slots say -----------------------------------------------------------------------------------------------

    /// A key needs so many bytes. It is `aged` from `aged_at` on: then every second reservation goes by age (R15).
    /// `clears`: its load ran out of memory, so that all idle residents go before it gets them (H37).
    MemoryId reserve(MemoryOwner owner, std::size_t bytes, const MemoryRank& rank, Time aged_at, bool clears = false);
    /// The best waiter of a key that waits has changed.
    void move(MemoryId id, const MemoryRank& rank, Time aged_at) noexcept;
    /// The model of the key needs this much, now that it is loaded.
    void use(MemoryId id, std::size_t bytes) noexcept;
    /// The model is destroyed, or the key waits no more. The name is void.
    void give_back(MemoryId id) noexcept;

    /// The slot is gone, and with it all that it had or waited for.
    void give_back_all(Index slot) noexcept;

    // -- What the host says -------------------------------------------------------------------------------------------

    /// Sets the limit.
    void set_limit(std::size_t bytes) noexcept { limit_ = bytes; }
    /// Has idle residents unloaded until so many bytes came back, or none is left; once, by the next `settle`.
    void trim(std::size_t bytes) noexcept { trim_ = (std::max)(trim_, bytes); }

    // -- Decisions ----------------------------------------------------------------------------------------------------

    /// Whether `settle` has to know what the residents do: a key that waits cannot be served at once, more is used than
    /// the limit, or that was so before; or memory is to be given back.
    [[nodiscard]] bool lacks() const noexcept;
    /// Answers the keys that wait, and makes room for them. `uses` names each resident at most once; one that is not
    /// named cannot give its memory back.
    void settle(Time now, const std::vector<MemoryUse>& uses, MemoryAnswers& answers);
    /// When the answer may change although no slot says anything; `never` if it may not.
    [[nodiscard]] Time next_look() const noexcept { return next_look_; }
    /// The slot that the time is of interest to: one of which a key waits; none if there is no such time.
    [[nodiscard]] Index looks_for() const noexcept {
        return order_.empty() || next_look_ == never ? none : entries_[order_.front()].owner.slot;
    }

    // -- Looking in ---------------------------------------------------------------------------------------------------

    /// The limit in bytes.
    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
    /// How many bytes are reserved, those of models that are being unloaded included.
    [[nodiscard]] std::size_t reserved() const noexcept { return reserved_; }
    /// How many keys wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return order_.size(); }
    /// How many bytes a key has, or waits for; zero for a name that is void.
    [[nodiscard]] std::size_t bytes_of(MemoryId id) const noexcept {
        return entries_.contains(id) ? entries_[id.index].bytes : 0;
    }
    /// How many bytes of the limit a slot could have if everything of the others went but residents that are pinned,
    /// and those on which bare leases live. What of its own stays the slot sees itself, when it decides. `uses` is what
    /// all slots say of their residents.
    [[nodiscard]] std::size_t available(Index slot, const std::vector<MemoryUse>& uses) const noexcept;
    /// Whether the memory is reserved.
    [[nodiscard]] bool is_reserved(MemoryId id) const noexcept {
        return entries_.contains(id) && entries_[id.index].holder != none;
    }
    /// Whether the next reservation goes to the oldest key that waits, if that is aged (R15).
    [[nodiscard]] bool by_age() const noexcept { return by_age_; }
    /// How many answers the next `settle` appends at most.
    [[nodiscard]] std::size_t most_answers() const noexcept { return 2 * entries_.size(); }

    /// Same in every part.
    friend bool operator==(const MemoryLedger&, const MemoryLedger&) = default;

private:
    struct Entry {
        MemoryOwner owner{};
        std::size_t bytes = 0;
        // While it waits.
        MemoryRank rank{};
        Time aged_at = never;
        // Which of equal rank came first.
        std::uint64_t arrival = 0;
        // Whether idle residents are to go for it whatever is free, and whether it waits until what leaves is gone.
        bool clears = false;
        bool follows = false;
        // Its place among the holders; none while it waits.
        Index holder = none;
        // What its slot says of it, during `settle`.
        MemoryUse seen{};
        // Whether it drains, and may go on.
        bool may_drain = false;
        friend bool operator==(const Entry&, const Entry&) = default;
    };
    // When a key that waits comes of age; of equal ones, which came first.
    struct Age {
        Time aged_at = never;
        Time since = never;
        std::uint64_t arrival = 0;
        friend auto operator<=>(const Age&, const Age&) = default;
    };
    // How much residents hold in which way.
    struct Sums {
        // What never goes of itself: of those that are pinned, and with bare leases beside them.
        std::size_t pinned = 0;
        std::size_t held = 0;
        // What comes back without more being done.
        std::size_t leaving = 0;
    };
    // What is lacking for a key, and what yields to it.
    struct Room {
        std::size_t lacking = 0;
        std::size_t idle = 0;
        std::size_t drained = 0;
        std::size_t in_use = 0;
        [[nodiscard]] bool suffices() const noexcept { return add_bytes(add_bytes(idle, drained), in_use) >= lacking; }
    };

    [[nodiscard]] bool ranks_before(Index one, Index other) const noexcept;
    void insert_in_order(Index index) noexcept;
    void erase_from_order(Index index) noexcept;
    void hold(Index index) noexcept;
    void count() noexcept;
    [[nodiscard]] bool fits(std::size_t bytes) const noexcept { return fits_beside(reserved_, bytes, limit_); }
    [[nodiscard]] Sums sums() const noexcept;
    [[nodiscard]] Index aged(Time now) const noexcept;
    [[nodiscard]] bool yields(const Entry& holder, Index to, Time now) const noexcept;
    [[nodiscard]] Index next_to_go(MemoryHold hold, Index to, Time now) const noexcept;
    [[nodiscard]] std::size_t sum_of(MemoryHold hold, Index to, Time now) const noexcept;
    bool serve_one(Time now, Index& leader, MemoryAnswers& answers);
    [[nodiscard]] bool is_stuck(Index leader) const noexcept;
    bool gives_turn_to_age(Index leader, Time now) noexcept;
    [[nodiscard]] Room room_for(Index key, Time now) const noexcept;
    void make_room(Index leader, Time now, MemoryAnswers& answers);
    void evict(MemoryHold hold, std::size_t bytes, Index to, Time now, MemoryAnswers& answers);
    void note_changes(Time now) noexcept;
    void answer(MemoryVerdict verdict, Index index, MemoryAnswers& answers) const;

    std::size_t limit_;
    std::size_t reserved_ = 0;
    std::size_t trim_ = 0;
    Slab<Entry, MemoryTag> entries_{};
    // Those that wait, the first to be served first.
    std::vector<Index> order_{};
    // The same, the first to come of age on top.
    IndexedHeap<Age> ages_{};
    // Those whose memory is reserved, in no order.
    std::vector<Index> holders_{};
    // Those that came since the last `settle`.
    std::vector<MemoryId> fresh_{};
    std::uint64_t arrivals_ = 0;
    // Whether the next reservation goes by age, if a key is old enough: the last one went by rank, or none can.
    bool by_age_ = true;
    Time next_look_ = never;
    // Whether the last `settle` left something lacking.
    bool lacked_ = false;
};

}  // namespace residency::core

#include "residency/core/impl/memory_ledger.hpp"       // IWYU pragma: export
#include "residency/core/impl/memory_ledger_room.hpp"  // IWYU pragma: export
