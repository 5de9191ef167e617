#include "residency/core/time.hpp"

#include "residency/options.hpp"
#include "support/catch.hpp"

#include <chrono>

namespace residency::core::time_test {

using namespace std::chrono_literals;

TEST_CASE("milliseconds become durations, however many") {
    CHECK(to_duration(0ms) == Duration::zero());
    CHECK(to_duration(1500ms) == Duration(1'500'000'000));
    CHECK(to_duration(-1ms) == Duration(-1'000'000));
    CHECK(to_duration(keep_alive_forever) == Duration::max());
    CHECK(to_duration(keep_alive_forever - 1ms) == Duration::max());
    CHECK(to_duration(std::chrono::milliseconds::min()) == Duration::min());
    constexpr auto most = std::chrono::duration_cast<std::chrono::milliseconds>(Duration::max());
    CHECK(to_duration(most - 1ms) == Duration(most - 1ms));
    CHECK(to_duration(most + 1ms) == Duration::max());
    constexpr auto least = std::chrono::duration_cast<std::chrono::milliseconds>(Duration::min());
    CHECK(to_duration(least + 1ms) == Duration(least + 1ms));
    CHECK(to_duration(least - 1ms) == Duration::min());
}

TEST_CASE("later never overflows") {
    CHECK(later(Time(5ms), Duration(3ms)) == Time(8ms));
    CHECK(later(Time(5ms), Duration(-8ms)) == Time(-3ms));
    CHECK(later(Time(5ms), Duration::zero()) == Time(5ms));
    CHECK(later(Time(5ms), Duration::max()) == never);
    CHECK(later(Time::max(), Duration(1)) == never);
    CHECK(later(Time::max() - Duration(1), Duration(1)) == never);
    CHECK(later(Time::max() - Duration(2), Duration(1)) == Time::max() - Duration(1));
    CHECK(later(Time::min(), Duration::max()) == Time(-1));
    CHECK(later(Time::min(), Duration(-1)) == Time::min());
    CHECK(later(Time(-5ms), Duration::min()) == Time::min());
    CHECK(later(never, Duration::zero()) == never);
}

}  // namespace residency::core::time_test
