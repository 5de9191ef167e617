#pragma once

#include "residency/compiler.hpp"

#include <memory>
#include <utility>

namespace residency::detail {

/// Intrusive FIFO; `Next` is the link member, a pointer that may own the next node. It needs no memory. A node is in
/// one queue at a time through the same link.
template <auto Next>
class IntrusiveQueue;

template <class Node, class Pointer, Pointer Node::*Next>
class IntrusiveQueue<Next> {
public:
    IntrusiveQueue() noexcept = default;
    /// Takes all nodes of `other`.
    IntrusiveQueue(IntrusiveQueue&& other) noexcept
        : first_(std::exchange(other.first_, nullptr)), last_(std::exchange(other.last_, nullptr)) {}
    IntrusiveQueue(const IntrusiveQueue&) = delete;
    IntrusiveQueue& operator=(const IntrusiveQueue&) = delete;
    IntrusiveQueue& operator=(IntrusiveQueue&&) = delete;
    ~IntrusiveQueue() = default;

    [[nodiscard]] bool empty() const noexcept { return last_ == nullptr; }

    /// Adds a node behind the others. Precondition: not null, and in no queue.
    void push(Pointer node) noexcept {
        Node* const last = std::to_address(node);
        end() = std::move(node);
        last_ = last;
    }

    /// Moves all nodes of `other` behind the others, in their order.
    void append(IntrusiveQueue& other) noexcept {
        if (!other.empty()) {
            end() = std::exchange(other.first_, nullptr);
            last_ = std::exchange(other.last_, nullptr);
        }
    }

    /// Calls `visit` with each node, those included that it adds.
    template <class Visit>
    void for_each(const Visit& visit) const {
        for (const Pointer* each = &first_; *each; each = &((**each).*Next)) {
            visit(**each);
        }
    }

    /// Takes out the first node. Precondition: not empty.
    [[nodiscard]] Pointer pop() noexcept {
        Pointer node = std::move(first_);
        first_ = std::exchange((*node).*Next, nullptr);
        if (!first_) {
            last_ = nullptr;
        }
        return node;
    }

private:
    [[nodiscard]] Pointer& end() noexcept { return last_ == nullptr ? first_ : last_->*Next; }

    Pointer first_{};
    Node* last_ = nullptr;
};

}  // namespace residency::detail
