#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace residency::test {

/// Calls `work(index)` for each index below `count`, on `threads` threads, and waits. Throws what the first to throw
/// threw.
inline void in_parallel(std::size_t threads, std::size_t count, const std::function<void(std::size_t)>& work) {
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr thrown;
    {
        std::vector<std::jthread> running;
        for (std::size_t thread = 0; thread < threads; ++thread) {
            running.emplace_back([&] {
                try {
                    for (std::size_t index = next++; index < count; index = next++) {
                        work(index);
                    }
                } catch (...) {
                    const std::lock_guard lock(mutex);
                    thrown = thrown ? thrown : std::current_exception();
                    next = count;
                }
            });
        }
    }
    if (thrown) {
        std::rethrow_exception(thrown);
    }
}

}  // namespace residency::test
