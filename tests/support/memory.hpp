#pragma once

// Replaces operator new for the whole program, so that a test can count allocations and let them fail. For one source file of a program.
// What Boost.Asio allocates for its executors and timers does not pass through here.

#include <cstddef>
#include <cstdlib>
#include <new>

namespace residency::test {

/// What happens to the allocations of one thread.
struct Memory {
    /// How many there were.
    std::size_t allocations = 0;
    /// How many of them failed.
    std::size_t failures = 0;
    /// Which one is the first to fail, counted from now; with all that follow it. Zero: none fails.
    std::size_t fail_from = 0;

    /// This thread's.
    [[nodiscard]] static Memory& here() noexcept {
        thread_local Memory memory;
        return memory;
    }
    /// Whether the next allocation may be made; counts it.
    [[nodiscard]] bool grants() noexcept {
        ++allocations;
        if (fail_from == 0 || --fail_from != 0) {
            return true;
        }
        fail_from = 1;
        ++failures;
        return false;
    }
};

/// Lets allocations of this thread fail, from the `first`-th on, for as long as it lives.
class ScarceMemory {
public:
    explicit ScarceMemory(std::size_t first = 1) noexcept : failures_before_(Memory::here().failures) { Memory::here().fail_from = first; }
    ~ScarceMemory() { Memory::here().fail_from = 0; }
    ScarceMemory(const ScarceMemory&) = delete;
    ScarceMemory& operator=(const ScarceMemory&) = delete;
    /// How many have failed.
    [[nodiscard]] std::size_t failures() const noexcept { return Memory::here().failures - failures_before_; }

private:
    std::size_t failures_before_;
};

/// Lets allocations succeed within a ScarceMemory: for what is the test's own.
class AmpleMemory {
public:
    AmpleMemory() noexcept : fail_from_(Memory::here().fail_from) { Memory::here().fail_from = 0; }
    ~AmpleMemory() { Memory::here().fail_from = fail_from_; }
    AmpleMemory(const AmpleMemory&) = delete;
    AmpleMemory& operator=(const AmpleMemory&) = delete;

private:
    std::size_t fail_from_;
};

}  // namespace residency::test

// Not inlined: where g++ sees one of a pair and not the other, it warns that they do not match.
// NOLINTBEGIN(misc-definitions-in-headers): a program includes this once.
[[gnu::noinline]] void* operator new(std::size_t size) {
    if (residency::test::Memory::here().grants()) {
        if (void* const memory = std::malloc(size == 0 ? 1 : size)) {
            return memory;
        }
    }
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return residency::test::Memory::here().grants() ? std::malloc(size == 0 ? 1 : size) : nullptr;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
// NOLINTEND(misc-definitions-in-headers)
