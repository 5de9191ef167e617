#pragma once

#include "residency/core/key_memory.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace residency::core {

/// What a slot has to say to its budget, in order: a queue of messages that are taken a few at a time. Taking some
/// costs the same however many follow. A plain value.
class MemoryRequests {
public:
    using const_iterator = std::vector<MemoryRequest>::const_iterator;

    /// Makes room for `count` more messages: up to then `push` does not allocate. Throws bad_alloc; then nothing has
    /// changed.
    void reserve(std::size_t count) {
        const std::size_t most = all_.size() + count;
        if (all_.capacity() < most) {
            all_.reserve(most + most / 2);
        }
    }
    /// Adds a message. Allocates only if `reserve` has not made room for it.
    void push(const MemoryRequest& request) { all_.push_back(request); }
    /// Takes the first messages, as many as there are and `to` has room for; gives their number. The room stays.
    std::size_t take(std::span<MemoryRequest> to) noexcept {
        const std::size_t count = (std::min)(to.size(), size());
        std::copy_n(begin(), count, to.begin());
        taken_ += count;
        // No more are moved than were taken since the last time.
        if (2 * taken_ >= all_.size()) {
            all_.erase(all_.begin(), begin());
            taken_ = 0;
        }
        return count;
    }
    /// Takes back what was said of where the key that waits for `id` stands.
    void erase_move(MemoryId id) noexcept {
        const auto is_move = [id](const MemoryRequest& each) {
            return each.type == MemoryRequest::Type::move && each.id == id;
        };
        all_.erase(std::remove_if(all_.begin() + static_cast<std::ptrdiff_t>(taken_), all_.end(), is_move), all_.end());
    }
    /// Takes all messages out. The room stays.
    void clear() noexcept {
        all_.clear();
        taken_ = 0;
    }

    /// The first message.
    [[nodiscard]] const_iterator begin() const noexcept { return all_.begin() + static_cast<std::ptrdiff_t>(taken_); }
    /// Past the last message.
    [[nodiscard]] const_iterator end() const noexcept { return all_.end(); }
    /// The first message; precondition: there is one.
    [[nodiscard]] const MemoryRequest& front() const noexcept { return *begin(); }
    /// The last message; precondition: there is one.
    [[nodiscard]] const MemoryRequest& back() const noexcept { return all_.back(); }
    /// How many messages there are.
    [[nodiscard]] std::size_t size() const noexcept { return all_.size() - taken_; }
    /// Whether there is none.
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    /// Same messages.
    friend bool operator==(const MemoryRequests& left, const MemoryRequests& right) noexcept {
        return std::equal(left.begin(), left.end(), right.begin(), right.end());
    }

private:
    std::vector<MemoryRequest> all_{};
    // How many of them, from the first on, were taken.
    std::size_t taken_ = 0;
};

}  // namespace residency::core
