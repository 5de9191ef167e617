#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace residency::stress {

/// Random numbers from a seed (splitmix64).
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

    [[nodiscard]] std::uint64_t next() noexcept {
        std::uint64_t mixed = state_ += 0x9E3779B97F4A7C15U;
        mixed = (mixed ^ (mixed >> 30U)) * 0xBF58476D1CE4E5B9U;
        mixed = (mixed ^ (mixed >> 27U)) * 0x94D049BB133111EBU;
        return mixed ^ (mixed >> 31U);
    }
    /// At least 0 and less than `limit`.
    [[nodiscard]] std::uint32_t below(std::uint32_t limit) noexcept {
        return static_cast<std::uint32_t>((next() >> 32U) % limit);
    }
    /// One time in `times`.
    [[nodiscard]] bool once_in(std::uint32_t times) noexcept { return below(times) == 0; }
    [[nodiscard]] bool coin() noexcept { return once_in(2); }

private:
    std::uint64_t state_;
};

/// Threads that have drawn a number and have not ended. Those that the library started are among them: each calls a
/// fake or a handler.
inline std::atomic<int> threads_alive{0};

namespace detail {

inline std::atomic<std::uint64_t> next_thread_seed{0};

struct ThreadRandom {
    ThreadRandom() : random(next_thread_seed++) { ++threads_alive; }
    ~ThreadRandom() { --threads_alive; }
    ThreadRandom(const ThreadRandom&) = delete;
    ThreadRandom& operator=(const ThreadRandom&) = delete;

    Random random;
};

}  // namespace detail

/// This thread's random numbers.
inline Random& dice() {
    thread_local detail::ThreadRandom mine;
    return mine.random;
}
/// This thread's numbers come from `seed` from now on; those of threads that the library starts, from its successors.
inline void seed_thread(std::uint64_t seed) { dice() = Random(seed); }
inline void seed_new_threads(std::uint64_t seed) { detail::next_thread_seed = seed; }

/// Lets others run, up to `most` times.
inline void dawdle(std::uint32_t most) {
    for (std::uint32_t count = dice().below(most + 1); count != 0; --count) {
        std::this_thread::yield();
    }
}

}  // namespace residency::stress
