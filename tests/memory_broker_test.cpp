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
    std::vector<core::MemoryUse> uses{};
    std::function<void()> in_limit_changed{};
    int reads = 0;
    int stops = 0;
    std::vector<core::MemoryVerdict> answers{};
    std::vector<core::MemoryId> ids{};
    std::vector<std::size_t> available_bytes{};

    core::Time read(std::vector<core::MemoryUse>& all) override {
        ++reads;
        all.insert(all.end(), uses.begin(), uses.end());
        if (in_read) {
            in_read();
        }
        return core::Time{0};
    }
    void stop_watching() noexcept override { ++stops; }
    void answer(const core::MemoryAnswer& answer) noexcept override {
        answers.push_back(answer.verdict);
        ids.push_back(answer.id);
    }
    void look_at(core::Time /*at*/) noexcept override {}
    void available(std::size_t bytes) noexcept override { available_bytes.push_back(bytes); }
    void limit_changed() noexcept override {
        if (in_limit_changed) {
            in_limit_changed();
        }
    }
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

TEST_CASE("A slot hears how much memory there could be beside pinned models, of all slots as they are then",
          "[H34][R13]") {
    MemoryBroker broker(100);
    const auto asks = std::make_shared<User>();
    const auto other = std::make_shared<User>();
    const core::Index number = broker.join(asks, nullptr);
    const core::Index other_number = broker.join(other, nullptr);
    const auto say = [&](core::Index slot, core::MemoryRequest::Type type) {
        core::MemoryRequest request;
        request.type = type;
        request.key = 0;
        request.bytes = 30;
        broker.post(slot, core::Time{0}, request);
        broker.settle(1);
    };
    say(other_number, core::MemoryRequest::Type::reserve);
    CHECK(other->reads == 0);
    core::MemoryUse use;
    use.id = other->ids.at(0);
    use.hold = GENERATE(core::MemoryHold::pinned, core::MemoryHold::leased, core::MemoryHold::in_use);
    other->uses.push_back(use);
    say(number, core::MemoryRequest::Type::available);
    CHECK(asks->available_bytes == std::vector<std::size_t>{use.hold == core::MemoryHold::in_use ? 100U : 70U});
    CHECK(other->available_bytes.empty());
    // It is asked once, and the residents are of no interest any more.
    broker.settle();
    CHECK(other->reads == 1);
    CHECK(asks->stops == 1);
    // While a limit changes no answer is given; the slot has it after that.
    asks->in_limit_changed = [&] {
        say(number, core::MemoryRequest::Type::available);
        CHECK(asks->available_bytes.size() == 1);
    };
    broker.set_limit(50);
    CHECK(asks->available_bytes.size() == 2);
    CHECK(asks->available_bytes.back() == (use.hold == core::MemoryHold::in_use ? 50U : 20U));
}

TEST_CASE("A slot that asks how much memory there could be hears what was so after that", "[H34][R13]") {
    BrokerBench bench;
    const auto other = std::make_shared<User>();
    const core::Index number = bench.broker.join(other, nullptr);
    core::MemoryUse use;
    use.id = bench.user->ids.at(0);
    use.hold = core::MemoryHold::in_use;
    bench.user->uses.push_back(use);
    // It asks once the first slot has been looked at, and that has a bare lease then.
    other->in_read = [&] {
        if (bench.user->uses.back().hold == core::MemoryHold::leased) {
            return;
        }
        core::MemoryRequest request;
        request.type = core::MemoryRequest::Type::available;
        bench.broker.post(number, core::Time{0}, request);
        bench.user->uses.back().hold = core::MemoryHold::leased;
        bench.broker.settle(1);
    };
    bench.say(core::MemoryRequest::Type::look);
    bench.broker.settle(1);
    CHECK(other->available_bytes == std::vector<std::size_t>{40});
}

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

TEST_CASE("Nothing is refused by a limit of which its slot has not heard", "[H33][H38]") {
    BrokerBench bench;
    const auto other = std::make_shared<User>();
    const core::Index number = bench.broker.join(other, nullptr);
    const auto say = [&](core::MemoryRequest::Type type, core::MemoryId id = {}) {
        core::MemoryRequest request;
        request.type = type;
        request.key = 1;
        request.bytes = 90;
        request.id = id;
        bench.broker.post(number, core::Time{0}, request);
        bench.broker.settle(1);
    };
    say(core::MemoryRequest::Type::reserve);
    REQUIRE(other->answers == std::vector{core::MemoryVerdict::lacking});
    // The first slot hears of the limit, and has something to say at once.
    bench.user->in_limit_changed = [&] {
        bench.say(core::MemoryRequest::Type::look);
        bench.broker.settle(1);
    };
    // The second then needs less than it has asked for.
    other->in_limit_changed = [&] { CHECK(other->answers.size() == 1); };
    bench.broker.set_limit(80);
    CHECK(other->answers == std::vector{core::MemoryVerdict::lacking, core::MemoryVerdict::impossible});
}

}  // namespace memory_broker_test
