// The requests of a model, taken and given back by many threads.

#include "residency/backends/openvino/request_pool.hpp"
#include "support/catch.hpp"

#include <atomic>
#include <cstddef>
#include <latch>
#include <memory>
#include <stop_token>
#include <thread>
#include <vector>

namespace request_pool_test {

using residency::detail::openvino::RequestPool;

namespace {

using Pool = RequestPool<int>;

}  // namespace

TEST_CASE("a call that finds no free request waits for one, and its token ends the wait") {
    Pool pool({1, 2});
    CHECK(pool.size() == 2);
    const auto first = pool.take({});
    std::unique_ptr<Pool::Turn> second(new Pool::Turn(pool.take({})));
    REQUIRE(first);
    REQUIRE(*second);
    CHECK(&first.request() != &second->request());
    std::stop_source stop;
    std::jthread stopper([&stop] { stop.request_stop(); });
    CHECK_FALSE(pool.take(stop.get_token()));
    // One that is given back wakes the call that waits.
    std::latch asked(1);
    std::atomic<bool> got{false};
    std::jthread waiter([&] {
        asked.count_down();
        got = static_cast<bool>(pool.take({}));
    });
    asked.wait();
    second.reset();
    waiter.join();
    CHECK(got);
}

TEST_CASE("the request that was given back last is taken first") {
    Pool pool({1, 2, 3});
    int last = 0;
    {
        const auto first = pool.take({});
        const auto second = pool.take({});
        last = first.request();
    }
    CHECK(pool.take({}).request() == last);
}

TEST_CASE("many threads never have the same request at once") {
    Pool pool({0, 0});
    constexpr int rounds = 500;
    std::atomic<int> total{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&] {
                for (int round = 0; round < rounds; ++round) {
                    const auto turn = pool.take({});
                    ++turn.request();  // Not atomic: that is what is tested.
                    ++total;
                }
            });
        }
    }
    const auto first = pool.take({});
    const auto second = pool.take({});
    CHECK(first.request() + second.request() == total);
    CHECK(total == 4 * rounds);
}

}  // namespace request_pool_test
