#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::core {

/// A vector of small trivial elements in chunks: growth allocates one chunk and moves no element, so that no single
/// insertion is slow however many elements there are.
///
/// A plain value; a copy has room for its elements alone.
template <class T>
class ChunkedVector {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 64 && alignof(T) <= alignof(std::max_align_t));

public:
    /// How many elements a chunk holds: 1 KiB of them, so that giving back a large vector takes few calls of `free`.
    static constexpr std::size_t chunk_size = std::bit_floor(1024 / sizeof(T));

    /// No elements.
    ChunkedVector() = default;
    /// The same elements. Throws bad_alloc.
    ChunkedVector(const ChunkedVector& other) {
        reserve(other.size_);
        for (; size_ < other.size_; size_ += (std::min)(chunk_size, other.size_ - size_)) {
            const std::size_t chunk = size_ / chunk_size;
            std::copy_n(other.elements(chunk), (std::min)(chunk_size, other.size_ - size_), elements(chunk));
        }
    }
    /// Takes the elements of `other`, which has none afterwards.
    ChunkedVector(ChunkedVector&& other) noexcept
        : chunks_(std::move(other.chunks_)), size_(std::exchange(other.size_, 0)) {}
    /// Holds the elements of `other`.
    ChunkedVector& operator=(ChunkedVector other) noexcept {
        chunks_.swap(other.chunks_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~ChunkedVector() = default;

    /// Makes room for `count` elements in all. If memory runs out it throws, and the elements are unchanged.
    void reserve(std::size_t count) {
        while (capacity() < count) {
            // NOLINTNEXTLINE(modernize-avoid-c-arrays)
            chunks_.push_back(std::make_unique_for_overwrite<std::byte[]>(chunk_size * sizeof(T)));
        }
    }

    /// Gives back the chunks that `count` elements do not need, but for one, so that a size that goes to and fro
    /// allocates nothing. With no elements and `count` zero, gives back everything if it was large. Room for `count`
    /// elements stays.
    void trim(std::size_t count) noexcept {
        const std::size_t needed = chunks_for((std::max)(count, size_));
        if (needed == 0 && chunks_.capacity() > large_directory) {
            chunks_ = Chunks();
            return;
        }
        while (chunks_.size() > needed + 1) {
            chunks_.pop_back();
        }
    }

    /// Adds an element. Allocates only if `reserve` has not made room, as in a copy; if that throws, nothing has
    /// changed.
    void push_back(const T& element) {
        if (size_ == capacity()) {
            reserve(size_ + 1);
        }
        (*this)[size_++] = element;
    }
    /// Takes the last element out; precondition: there is one.
    void pop_back() noexcept { --size_; }
    /// Takes out all elements from `count` on.
    void truncate(std::size_t count) noexcept { size_ = (std::min)(size_, count); }

    /// The element at `index`; precondition: index < size().
    [[nodiscard]] T& operator[](std::size_t index) noexcept { return elements(index / chunk_size)[index % chunk_size]; }
    /// The element at `index`; precondition: index < size().
    [[nodiscard]] const T& operator[](std::size_t index) const noexcept {
        return elements(index / chunk_size)[index % chunk_size];
    }

    /// How many elements there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// Whether there is no element.
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// How many elements there is room for.
    [[nodiscard]] std::size_t capacity() const noexcept { return chunks_.size() * chunk_size; }

    /// Same elements.
    friend bool operator==(const ChunkedVector& left, const ChunkedVector& right) noexcept {
        if (left.size_ != right.size_) {
            return false;
        }
        for (std::size_t index = 0; index < left.size_; ++index) {
            if (!(left[index] == right[index])) {
                return false;
            }
        }
        return true;
    }

private:
    // A list of more chunks than this is worth giving back: 64 pointers.
    static constexpr std::size_t large_directory = 64;

    // Bytes, uninitialized. The type is the same for every T, so that a translation unit compiles it once.
    using Chunks = std::vector<std::unique_ptr<std::byte[]>>;  // NOLINT(modernize-avoid-c-arrays)

    [[nodiscard]] T* elements(std::size_t chunk) const noexcept { return reinterpret_cast<T*>(chunks_[chunk].get()); }

    [[nodiscard]] static constexpr std::size_t chunks_for(std::size_t count) noexcept {
        return (count + chunk_size - 1) / chunk_size;
    }

    Chunks chunks_{};
    std::size_t size_ = 0;
};

}  // namespace residency::core
