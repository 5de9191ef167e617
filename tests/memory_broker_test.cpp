// H33: who settles what slots say to a budget.

#include "residency/shell/memory_broker.hpp"

#include <catch2/catch.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace memory_broker_test {

using namespace residency;
using detail::MemoryBroker;

namespace {

// A slot that does something where it is asked what its residents do: there another thread may.
struct User final : detail::MemoryUser {
    std::function<void()> in_read{};
    int reads = 0;
    std::vector<core::MemoryVerdict> answers{};

    core::Time read(std::vector<core::MemoryUse>& /*uses*/) override {
        ++reads;
        if (in_read) {
            in_read();
        }
        return core::Time{0};
    }
    void stop_watching() noexcept override {}
    void answer(const core::MemoryAnswer& answer) noexcept override { answers.push_back(answer.verdict); }
    void look_at(core::Time /*at*/) noexcept override {}
    void limit_changed() noexcept override {}
    void describe(std::vector<detail::MemoryHolding>& /*all*/) const override {}
};

struct BrokerBench {
    BrokerBench() {
        say(core::MemoryRequest::Type::reserve);
        broker.settle(1);
        // Memory is lacking from now on: the slot is asked in each round.
        say(core::MemoryRequest::Type::reserve);
        broker.settle(1);
        REQUIRE(user->answers == std::vector{core::MemoryVerdict::reserved, core::MemoryVerdict::lacking});
        user->reads = 0;
    }
    void say(core::MemoryRequest::Type type) {
        core::MemoryRequest request;
        request.type = type;
        request.key = 0;
        request.bytes = 60;
        broker.post(number, core::Time{0}, request);
    }

    MemoryBroker broker{100};
    std::shared_ptr<User> user = std::make_shared<User>();
    core::Index number = broker.join(user, nullptr);
};

}  // namespace

TEST_CASE("A thread that settles leaves what another one brings to that", "[H33][R16]") {
    BrokerBench bench;
    // The other one has brought it, and is about to settle.
    bench.user->in_read = [&] { bench.say(core::MemoryRequest::Type::look); };
    bench.say(core::MemoryRequest::Type::look);
    bench.broker.settle(1);
    CHECK(bench.user->reads == 1);
    bench.user->in_read = {};
    bench.broker.settle(1);
    CHECK(bench.user->reads == 2);
    // All is settled.
    bench.broker.settle();
    CHECK(bench.user->reads == 2);
}

TEST_CASE("A thread that settles goes on with what another one has left to it", "[H33]") {
    BrokerBench bench;
    bench.user->in_read = [&] {
        if (bench.user->reads < 3) {
            bench.say(core::MemoryRequest::Type::look);
            // Another one settles: this returns at once.
            bench.broker.settle(1);
        }
    };
    bench.say(core::MemoryRequest::Type::look);
    bench.broker.settle(1);
    CHECK(bench.user->reads == 3);
}

}  // namespace memory_broker_test
