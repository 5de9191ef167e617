#pragma once

#include "residency/runtime/asio.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <thread>
#include <utility>

namespace residency::test {

/// What a CountingAllocator has done.
struct AllocatorCounts {
    /// Blocks given out.
    std::size_t allocations = 0;
    /// Blocks that are out.
    std::size_t live = 0;
    /// The most at once.
    std::size_t most_live = 0;
};

/// Counts, for a handler's associated allocator. Copies share the figures; for one thread at a time.
template <class T = void>
class CountingAllocator {
public:
    using value_type = T;

    explicit CountingAllocator(AllocatorCounts& counts) noexcept : counts_(&counts) {}
    template <class U>
    CountingAllocator(const CountingAllocator<U>& other) noexcept
        : counts_(&other.counts()) {}  // NOLINT(google-explicit-constructor)

    [[nodiscard]] T* allocate(std::size_t count) {
        T* const block = std::allocator<T>().allocate(count);
        ++counts_->allocations;
        counts_->most_live = std::max(counts_->most_live, ++counts_->live);
        return block;
    }
    void deallocate(T* block, std::size_t count) noexcept {
        std::allocator<T>().deallocate(block, count);
        --counts_->live;
    }
    [[nodiscard]] AllocatorCounts& counts() const noexcept { return *counts_; }

    template <class U>
    friend bool operator==(const CountingAllocator& left, const CountingAllocator<U>& right) noexcept {
        return &left.counts() == &right.counts();
    }

private:
    AllocatorCounts* counts_;
};

/// An executor that runs what it is given on another thread before `execute` returns: the soonest that a handler may
/// ever run, and so what shows whether everything was finished before it was posted.
class EagerExecutor {
public:
    explicit EagerExecutor(asio::execution_context& context) noexcept : context_(&context) {}

    template <class Function>
    void execute(Function&& function) const {
        std::thread([work = std::decay_t<Function>(std::forward<Function>(function))]() mutable {
            std::move(work)();
        }).join();
    }
    [[nodiscard]] asio::execution_context& query(asio::execution::context_t) const noexcept { return *context_; }
    [[nodiscard]] static constexpr asio::execution::blocking_t query(asio::execution::blocking_t) noexcept {
        return asio::execution::blocking_t::never;
    }
    [[nodiscard]] EagerExecutor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }

    friend bool operator==(const EagerExecutor& left, const EagerExecutor& right) noexcept {
        return left.context_ == right.context_;
    }
    friend bool operator!=(const EagerExecutor& left, const EagerExecutor& right) noexcept { return !(left == right); }

private:
    asio::execution_context* context_;
};

}  // namespace residency::test
