#pragma once

#include <memory>
#include <utility>

namespace residency::detail {

/// A queue that runs through its members themselves, so that it needs no memory: `Next` is the member of theirs that names, and maybe
/// owns, who comes after. Whoever is in a chain is in no other through the same member. First in, first out.
template <auto Next>
class IntrusiveQueue;

template <class Node, class Pointer, Pointer Node::*Next>
class IntrusiveQueue<Next> {
public:
    IntrusiveQueue() noexcept = default;
    IntrusiveQueue(const IntrusiveQueue&) = delete;
    IntrusiveQueue& operator=(const IntrusiveQueue&) = delete;
    ~IntrusiveQueue() = default;

    [[nodiscard]] bool empty() const noexcept { return last_ == nullptr; }

    /// Adds a node behind the others. Precondition: it is there, and in no chain.
    void push(Pointer node) noexcept {
        Node* const last = std::to_address(node);
        end() = std::move(node);
        last_ = last;
    }

    /// Adds all nodes of another chain, in their order, which leaves that one empty.
    void append(IntrusiveQueue& other) noexcept {
        if (!other.empty()) {
            end() = std::exchange(other.first_, nullptr);
            last_ = std::exchange(other.last_, nullptr);
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
