#pragma once

#include <atomic>

namespace residency::stress {

/// A value that any thread may read and write and that orders nothing else. The order that the oracle relies on is the
/// one that the library promises (a grant comes after the release that made room for it, a model's destructor after its
/// last lease): an order of the oracle's own would hide from ThreadSanitizer where the library fails to give it.
template <class Value>
class Relaxed {
public:
    constexpr Relaxed() noexcept : value_(Value()) {}
    constexpr explicit Relaxed(Value value) noexcept : value_(value) {}

    [[nodiscard]] Value get() const noexcept { return value_.load(std::memory_order_relaxed); }
    void set(Value value) noexcept { value_.store(value, std::memory_order_relaxed); }
    /// Sets it and gives what it was.
    Value exchange(Value value) noexcept { return value_.exchange(value, std::memory_order_relaxed); }
    /// Adds one and gives the sum.
    Value count() noexcept { return value_.fetch_add(1, std::memory_order_relaxed) + 1; }
    /// Takes one away and gives what is left.
    Value uncount() noexcept { return value_.fetch_sub(1, std::memory_order_relaxed) - 1; }
    void add(Value more) noexcept { value_.fetch_add(more, std::memory_order_relaxed); }
    /// The same; gives what it was.
    Value exchange_add(Value more) noexcept { return value_.fetch_add(more, std::memory_order_relaxed); }
    void subtract(Value less) noexcept { value_.fetch_sub(less, std::memory_order_relaxed); }
    /// Sets these bits, or takes them away; gives what it was.
    Value include(Value bits) noexcept { return value_.fetch_or(bits, std::memory_order_relaxed); }
    Value exclude(Value bits) noexcept { return value_.fetch_and(~bits, std::memory_order_relaxed); }
    /// Sets it if it is less.
    void raise(Value value) noexcept {
        Value seen = get();
        while (seen < value && !value_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {}
    }
    /// Sets it if it is still `expected`; gives what it was.
    Value set_if(Value expected, Value value) noexcept {
        value_.compare_exchange_strong(expected, value, std::memory_order_relaxed);
        return expected;
    }

private:
    std::atomic<Value> value_;
};

}  // namespace residency::stress
