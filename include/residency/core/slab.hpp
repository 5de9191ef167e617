#pragma once

#include "residency/core/deep_ptr.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace residency::core {

/// Where something stands in a table.
using Index = std::uint32_t;

/// No place in any table.
inline constexpr Index none = (std::numeric_limits<Index>::max)();

/// Names an item of a `Slab` for as long as it is there: after its end the handle matches nothing, also when its place
/// is used again. `Tag` keeps the handles of different tables apart.
template <class Tag>
struct Handle {
    /// Its place.
    Index index = none;
    /// Which of the items that have stood there.
    Index serial = 0;

    /// Whether it names anything at all.
    [[nodiscard]] constexpr bool valid() const noexcept { return index != none; }
    /// Same place and same serial.
    friend constexpr bool operator==(Handle, Handle) = default;
    /// By place, then by serial.
    friend constexpr auto operator<=>(Handle, Handle) = default;
};

/// A table whose items keep their places and addresses: adding and erasing cost the same however many there are.
///
/// The items stand in chunks of `chunk_size`: growth moves none of them, and an empty chunk is given back. A new item
/// goes to the least free index, so that items gather in few chunks. Erasing never allocates. A plain value; a copy has
/// no room reserved.
template <class Item, class Tag>
class Slab {
public:
    using handle_type = Handle<Tag>;

    /// How many items a chunk holds.
    static constexpr Index chunk_size = 16;

    /// Makes room for one more item: the next `insert` will not allocate. If memory runs out it throws, and nothing has
    /// changed.
    void reserve_one() {
        if (next_chunk_ < chunks_.size() && chunks_[next_chunk_]) {
            return;
        }
        reserve_directory(next_chunk_ + std::size_t{1});
        if (room_.spares.empty()) {
            add_spare();
        }
    }

    /// Makes room for `count` items in all and keeps it, whatever is erased, until it is called again: up to then no
    /// `insert` that makes at most `count` items allocates. If memory runs out it throws, and no item has changed.
    void reserve(std::size_t count) {
        const std::size_t chunks = (count + chunk_size - 1) / chunk_size;
        reserve_directory(chunks);
        grow(room_.spares, chunks + 2);
        while (attached_ + room_.spares.size() < chunks) {
            add_spare();
        }
        room_.kept = chunks;
        drop_spares();
    }

    /// Where the next `insert` will put its item: the least index that is free.
    [[nodiscard]] Index next_index() const noexcept {
        const Index first = next_chunk_ * chunk_size;
        if (next_chunk_ == chunks_.size() || !chunks_[next_chunk_]) {
            return first;
        }
        return first + static_cast<Index>(std::countr_one(chunks_[next_chunk_]->used));
    }

    /// Adds `item`. If memory runs out it throws, and nothing has changed.
    handle_type insert(Item item) {
        reserve_one();
        if (next_chunk_ == chunks_.size()) {
            push_place();
        }
        DeepPtr<Chunk>& chunk = chunks_[next_chunk_];
        if (!chunk) {
            chunk = std::move(room_.spares.back());
            room_.spares.pop_back();
            ++attached_;
        }
        const Index index = next_index();
        const Index place = index % chunk_size;
        chunk->items[place] = std::move(item);
        chunk->serials[place] = serial_;
        chunk->used |= 1U << place;
        ++size_;
        if (chunk->used == full) {
            with_room_[next_chunk_ / word_bits] &= ~bit_of(next_chunk_);
            next_chunk_ = first_with_room(next_chunk_ / word_bits);
        }
        return {index, serial_++};
    }

    /// Takes the item at `index` out. Its handle no longer matches.
    void erase(Index index) noexcept {
        const Index at = index / chunk_size;
        Chunk& chunk = *chunks_[at];
        chunk.items[index % chunk_size] = Item{};
        chunk.used &= ~(1U << (index % chunk_size));
        --size_;
        with_room_[at / word_bits] |= bit_of(at);
        next_chunk_ = (std::min)(next_chunk_, at);
        if (chunk.used == 0) {
            detach(at);
        }
    }

    /// Whether `handle` names an item that is there.
    [[nodiscard]] bool contains(handle_type handle) const noexcept {
        return used(handle.index) &&
               chunks_[handle.index / chunk_size]->serials[handle.index % chunk_size] == handle.serial;
    }
    /// Whether an item stands at `index`.
    [[nodiscard]] bool used(Index index) const noexcept {
        const Index at = index / chunk_size;
        return at < chunks_.size() && chunks_[at] && ((chunks_[at]->used >> (index % chunk_size)) & 1U) != 0;
    }
    /// The handle of the item at `index`; precondition: used(index).
    [[nodiscard]] handle_type handle(Index index) const noexcept {
        return {index, chunks_[index / chunk_size]->serials[index % chunk_size]};
    }

    /// The item at `index`; precondition: used(index).
    [[nodiscard]] Item& operator[](Index index) noexcept {
        return chunks_[index / chunk_size]->items[index % chunk_size];
    }
    /// The item at `index`; precondition: used(index).
    [[nodiscard]] const Item& operator[](Index index) const noexcept {
        return chunks_[index / chunk_size]->items[index % chunk_size];
    }

    /// How many items there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// One past the greatest index in use.
    [[nodiscard]] Index end_index() const noexcept {
        if (chunks_.empty()) {
            return 0;
        }
        return (static_cast<Index>(chunks_.size()) - 1) * chunk_size +
               static_cast<Index>(std::bit_width(chunks_.back()->used));
    }

    /// Same items in the same places, after as many insertions.
    friend bool operator==(const Slab&, const Slab&) = default;

private:
    // The bits of a chunk whose places are all taken.
    static constexpr std::uint32_t full = (1U << chunk_size) - 1;
    static constexpr Index word_bits = 64;
    // A list of more chunks than this is worth giving back: 64 pointers.
    static constexpr std::size_t large_directory = 64;

    struct Chunk {
        std::array<Item, chunk_size> items{};
        std::array<Index, chunk_size> serials{};
        // A bit for each place that is taken.
        std::uint32_t used = 0;
        friend bool operator==(const Chunk&, const Chunk&) = default;
    };

    // Chunks that no index refers to yet. They are no part of the value: a copy starts without.
    struct Room {
        Room() = default;
        Room(const Room& /*other*/) noexcept {}
        Room(Room&&) noexcept = default;
        Room& operator=(Room other) noexcept {
            spares.swap(other.spares);
            kept = other.kept;
            return *this;
        }
        ~Room() = default;
        friend bool operator==(const Room&, const Room&) noexcept { return true; }

        std::vector<DeepPtr<Chunk>> spares{};
        // How many chunks, in use or spare, are never given back.
        std::size_t kept = 0;
    };

    [[nodiscard]] static constexpr std::uint64_t bit_of(Index chunk) noexcept {
        return std::uint64_t{1} << (chunk % word_bits);
    }

    template <class T>
    static void grow(std::vector<T>& list, std::size_t count) {
        if (list.capacity() < count) {
            list.reserve((std::max)(count, list.capacity() * 2));
        }
    }

    void reserve_directory(std::size_t chunks) {
        grow(chunks_, chunks);
        grow(with_room_, (chunks + word_bits - 1) / word_bits);
    }

    void add_spare() {
        room_.spares.reserve(room_.kept + 2);
        room_.spares.push_back(DeepPtr<Chunk>(std::make_unique<Chunk>()));
    }

    // One spare stays in any case, so that a size that goes to and fro allocates nothing.
    void drop_spares() noexcept {
        while (room_.spares.size() > 1 && attached_ + room_.spares.size() > room_.kept) {
            room_.spares.pop_back();
        }
    }

    // The least chunk that is not full, if none before this word has room; the one past the last if all are full.
    [[nodiscard]] Index first_with_room(Index word) const noexcept {
        for (; word < with_room_.size(); ++word) {
            if (with_room_[word] != 0) {
                return word * word_bits + static_cast<Index>(std::countr_zero(with_room_[word]));
            }
        }
        return static_cast<Index>(chunks_.size());
    }

    // Adds an index for one more chunk; reserve_directory has made room.
    void push_place() noexcept {
        const auto chunk = static_cast<Index>(chunks_.size());
        if (chunk % word_bits == 0) {
            with_room_.push_back(0);
        }
        with_room_.back() |= bit_of(chunk);
        chunks_.push_back(DeepPtr<Chunk>());
    }

    // The chunk is empty: it becomes a spare, and the list of chunks ends with one that is in use.
    void detach(Index chunk) noexcept {
        DeepPtr<Chunk> empty = std::move(chunks_[chunk]);
        --attached_;
        // In a copy there is no room to keep it.
        if (room_.spares.size() < room_.spares.capacity()) {
            room_.spares.push_back(std::move(empty));
        }
        drop_spares();
        while (!chunks_.empty() && !chunks_.back()) {
            chunks_.pop_back();
            const auto last = static_cast<Index>(chunks_.size());
            with_room_.back() &= ~bit_of(last);
            if (last % word_bits == 0) {
                with_room_.pop_back();
            }
        }
        next_chunk_ = (std::min)(next_chunk_, static_cast<Index>(chunks_.size()));
        if (chunks_.empty() && room_.kept == 0 && chunks_.capacity() > large_directory) {
            chunks_ = std::vector<DeepPtr<Chunk>>();
            with_room_ = std::vector<std::uint64_t>();
            room_.spares = std::vector<DeepPtr<Chunk>>();
        }
    }

    // By index; null where no item stands. The last one is in use.
    std::vector<DeepPtr<Chunk>> chunks_{};
    // A bit for each chunk that is not full, null or not.
    std::vector<std::uint64_t> with_room_{};
    // The least chunk that is not full; the one past the last if all are.
    Index next_chunk_ = 0;
    // Numbers the insertions, so that a handle matches one item only.
    Index serial_ = 0;
    std::size_t size_ = 0;
    // How many of `chunks_` are not null.
    std::size_t attached_ = 0;
    Room room_{};
};

}  // namespace residency::core
