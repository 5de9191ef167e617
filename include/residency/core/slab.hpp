#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace residency::core {

/// Where something stands in a table.
using Index = std::uint32_t;

/// No place in any table.
inline constexpr Index none = std::numeric_limits<Index>::max();

/// Names an item of a `Slab` for as long as it is there: after its end the handle matches nothing, also when its place is used
/// again. `Tag` keeps the handles of different tables apart.
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

/// A table whose items keep their places: adding and erasing cost the same however many there are.
///
/// Erasing never allocates. A plain value.
template <class Item, class Tag>
class Slab {
public:
    using handle_type = Handle<Tag>;

    /// Makes room for one more item: the next `insert` will not allocate. If memory runs out it throws, and nothing has changed.
    void reserve_one() {
        if (free_ == none) {
            reserve(items_.size() < 8 ? 8 : items_.size() + 1);
        }
    }

    /// Makes room for `count` items in all.
    void reserve(std::size_t count) {
        if (items_.capacity() < count) {
            // By half: where many wait, most of a slot's memory is such tables.
            items_.reserve(std::max(count, items_.capacity() + items_.capacity() / 2));
        }
    }

    /// Where the next `insert` will put its item.
    [[nodiscard]] Index next_index() const noexcept {
        return free_ == none ? static_cast<Index>(items_.size()) : free_;
    }

    /// Adds `item`. If memory runs out it throws, and nothing has changed.
    handle_type insert(Item item) {
        reserve_one();
        const Index index = next_index();
        if (free_ == none) {
            items_.push_back(Place{std::move(item), 0, taken});
        } else {
            free_ = std::exchange(items_[index].next_free, taken);
            items_[index].item = std::move(item);
        }
        ++size_;
        return {index, items_[index].serial};
    }

    /// Takes the item at `index` out. Its handle no longer matches.
    void erase(Index index) noexcept {
        Place& place = items_[index];
        place.item = Item{};
        place.next_free = std::exchange(free_, index);
        ++place.serial;
        --size_;
    }

    /// Whether `handle` names an item that is there.
    [[nodiscard]] bool contains(handle_type handle) const noexcept {
        return used(handle.index) && items_[handle.index].serial == handle.serial;
    }
    /// Whether an item stands at `index`.
    [[nodiscard]] bool used(Index index) const noexcept {
        return index < items_.size() && items_[index].next_free == taken;
    }
    /// The handle of the item at `index`.
    [[nodiscard]] handle_type handle(Index index) const noexcept { return {index, items_[index].serial}; }

    /// The item at `index`; precondition: used(index).
    [[nodiscard]] Item& operator[](Index index) noexcept { return items_[index].item; }
    /// The item at `index`; precondition: used(index).
    [[nodiscard]] const Item& operator[](Index index) const noexcept { return items_[index].item; }

    /// How many items there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// One past the greatest index that was ever used.
    [[nodiscard]] Index end_index() const noexcept { return static_cast<Index>(items_.size()); }

    /// Same items in the same places.
    friend bool operator==(const Slab&, const Slab&) = default;

private:
    // Stands for the next free place where there is an item.
    static constexpr Index taken = none - 1;

    struct Place {
        Item item;
        Index serial;
        Index next_free;
        friend bool operator==(const Place&, const Place&) = default;
    };

    std::vector<Place> items_;
    // The place that was freed last; each knows the one before.
    Index free_ = none;
    std::size_t size_ = 0;
};

}  // namespace residency::core
