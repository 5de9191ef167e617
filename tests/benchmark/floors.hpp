#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <mutex>

namespace residency::cost {

/// The least that a lease which can be ended from any thread costs: its mutex is taken and given back when it begins
/// and when it ends, and one of the two looks at the clock.
class LeaseFloor {
public:
    void begin() {
        const std::lock_guard lock(mutex_);
        benchmark::DoNotOptimize(++leases_);
    }
    void end() {
        const auto now = std::chrono::steady_clock::now();
        const std::lock_guard lock(mutex_);
        benchmark::DoNotOptimize(--leases_);
        idle_since_ = now;
        benchmark::DoNotOptimize(idle_since_);
    }

private:
    std::mutex mutex_;
    int leases_ = 0;
    std::chrono::steady_clock::time_point idle_since_{};
};

}  // namespace residency::cost
