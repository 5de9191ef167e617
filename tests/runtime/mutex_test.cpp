#include "residency/runtime/mutex.hpp"

#include "support/catch.hpp"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace mutex_test {

using residency::runtime::Mutex;
using residency::runtime::MutexLock;

static_assert(!std::is_copy_constructible_v<MutexLock> && !std::is_copy_assignable_v<MutexLock>);

namespace {

struct Guarded {
    Mutex mutex;
    int value RESIDENCY_GUARDED_BY(mutex) = 0;
};

}  // namespace

TEST_CASE("Mutex: one thread at a time") {
    Guarded guarded;
    constexpr int threads = 4;
    constexpr int rounds = 5000;
    {
        std::vector<std::jthread> counting;
        for (int thread = 0; thread < threads; ++thread) {
            counting.emplace_back([&guarded] {
                for (int round = 0; round < rounds; ++round) {
                    const MutexLock lock(guarded.mutex);
                    ++guarded.value;
                }
            });
        }
    }
    const MutexLock lock(guarded.mutex);
    CHECK(guarded.value == threads * rounds);
}

TEST_CASE("MutexLock: holds the mutex for as long as it lives, also past an exception") {
    Mutex mutex;
    // From another thread: a thread must not try a std::mutex that it holds.
    const auto is_free = [&mutex] {
        bool got = false;
        std::thread([&] {
            if (mutex.native().try_lock()) {
                mutex.native().unlock();
                got = true;
            }
        }).join();
        return got;
    };
    CHECK(is_free());
    try {
        const MutexLock lock(mutex);
        CHECK_FALSE(is_free());
        throw 1;
    } catch (int) {
        CHECK(is_free());
    }
}

TEST_CASE("Mutex: a condition variable can wait with it") {
    Guarded guarded;
    std::condition_variable_any changed;
    std::thread setter([&] {
        const MutexLock lock(guarded.mutex);
        guarded.value = 1;
        changed.notify_all();
    });
    {
        const MutexLock lock(guarded.mutex);
        while (guarded.value == 0) {
            changed.wait(guarded.mutex);
        }
        CHECK(guarded.value == 1);
    }
    setter.join();
}

}  // namespace mutex_test
