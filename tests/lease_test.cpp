#include "residency/lease.hpp"

#include "support/bench.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace lease_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

static_assert(std::is_nothrow_default_constructible_v<FakeLease>);
static_assert(std::is_nothrow_move_constructible_v<FakeLease> && std::is_nothrow_move_assignable_v<FakeLease>);
static_assert(!std::is_copy_constructible_v<FakeLease> && !std::is_copy_assignable_v<FakeLease>);
static_assert(noexcept(std::declval<FakeLease&>().release()));
// Not by accident in an expression: only where a condition is wanted.
static_assert(!std::is_convertible_v<FakeLease, bool>);

namespace {

const ModelKey a("a");
const ModelKey b("b");

}  // namespace

TEST_CASE("Lease: an empty one holds nothing, and releasing it does nothing") {
    FakeLease lease;
    CHECK_FALSE(lease);
    lease.release();
    lease = FakeLease();
    CHECK_FALSE(lease);
}

TEST_CASE("Lease: moving hands it over, and the count stays one", "[R4]") {
    SlotBench bench;
    FakeLease first = bench.lease(a);
    FakeModel* const model = &*first;
    FakeLease second = std::move(first);
    CHECK_FALSE(first);  // NOLINT(bugprone-use-after-move)
    REQUIRE(second);
    CHECK(&*second == model);
    CHECK(second.operator->() == model);
    CHECK(bench.slot->status().leases == 1);
    first.release();
    CHECK(bench.slot->status().leases == 1);
    second.release();
    CHECK_FALSE(second);
    CHECK(bench.slot->status().leases == 0);
    second.release();
    CHECK(bench.slot->status().leases == 0);
    bench.check_end();
}

TEST_CASE("Lease: assigning to one ends what it held, and assigning to itself changes nothing", "[R4]") {
    SlotBench bench({.max_resident = 2});
    FakeLease held = bench.lease(a);
    FakeLease other = bench.lease(b);
    CHECK(bench.slot->status().leases == 2);
    held = std::move(other);
    CHECK(bench.slot->status().leases == 1);
    CHECK(held.key() == b);
    FakeLease& same = held;
    held = std::move(same);
    REQUIRE(held);
    CHECK(held->key() == b);
    CHECK(bench.slot->status().leases == 1);
    held = FakeLease();
    CHECK(bench.slot->status().leases == 0);
    bench.check_end();
}

TEST_CASE("Lease: ends with its scope, also when that is left by an exception", "[R4]") {
    SlotBench bench;
    try {
        const FakeLease held = bench.lease(a);
        CHECK(bench.slot->status().leases == 1);
        throw 1;
    } catch (int) {}
    CHECK(bench.slot->status().leases == 0);
    bench.check_end();
}

TEST_CASE("Lease: its key, model and generation stay where they are while the slot's tables grow", "[R1]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 200, .max_leases = 1000, .max_queue = 1000});
    FakeLease held = bench.lease(ModelKey("the first, with a name that is not small", "f16"));
    const ModelKey* const key = &held.key();
    const FakeModel* const model = &*held;
    const Generation generation = held.generation();
    std::vector<FakeLease> others;
    for (int index = 0; index < 150; ++index) {
        others.push_back(bench.lease(ModelKey("another " + std::to_string(index))));
    }
    CHECK(&held.key() == key);
    CHECK(held.key().quantization == "f16");
    CHECK(&*held == model);
    CHECK(held.generation() == generation);
    others.clear();
    held.release();
    bench.check_end();
}

TEST_CASE("Lease: released within its own handler", "[R10]") {
    SlotBench bench({.keep_alive = 0ms, .max_leases = 1});
    int calls = 0;
    for (int round = 0; round < 3; ++round) {
        bench.slot->async_acquire(a, [&](std::exception_ptr error, FakeLease lease) {
            CHECK_FALSE(error);
            ++calls;
            lease.release();
            CHECK(bench.slot->status().leases <= 1);
        });
    }
    bench.run();
    CHECK(calls == 3);
    CHECK_FALSE(bench.resident(a));
    bench.check_end();
}

TEST_CASE("Lease: one that its handler does not keep ends with it", "[R9]") {
    SlotBench bench;
    int calls = 0;
    bench.slot->async_acquire(a, [&](std::exception_ptr, const FakeLease&) { ++calls; });
    bench.run();
    CHECK(calls == 1);
    CHECK(bench.slot->status().leases == 0);
    bench.check_end();
}

TEST_CASE("Lease: taken on one thread, ended on another, with no model lost and none left", "[R1][R2][R4][R8]") {
    const auto world = std::make_shared<FakeWorld>();
    constexpr int threads = 4;
    constexpr int rounds = 300;
    constexpr std::size_t most = 6;
    std::atomic<int> wrong = 0;
    {
        ModelSlot<PlainBackend> slot{PlainBackend(world), {.keep_alive = 0ms, .max_resident = 2, .max_leases = most}};
        std::vector<std::jthread> users;
        for (int thread = 0; thread < threads; ++thread) {
            users.emplace_back([&, thread] {
                FakeLease kept;
                for (int round = 0; round < rounds; ++round) {
                    const ModelKey& key = (thread + round) % 3 == 0 ? a : b;
                    // One at a time: holding one while blocking for another is a precondition that is not met.
                    FakeLease lease = slot.acquire(key);
                    wrong += lease->key() == key && lease.key() == key ? 0 : 1;
                    if (round % 16 == 0) {
                        std::jthread([lease = std::move(lease)]() mutable { lease.release(); });
                    } else {
                        kept = std::move(lease);
                        kept.release();
                    }
                    FakeLease tried = slot.try_acquire(key);
                    wrong += !tried || tried->key() == key ? 0 : 1;
                }
            });
        }
        users.clear();
        const SlotStatus status = slot.status();
        CHECK(status.leases == 0);
        CHECK(status.waiting == 0);
        CHECK(status.counters.most_leases <= most);
        CHECK(slot.shutdown().clean());
    }
    CHECK(wrong == 0);
    const FakeCounts counts = world->counts();
    CHECK(counts.most_resident <= 2);
    CHECK(counts.live == 0);
    CHECK(counts.loads == counts.unloads);
    CHECK(world->violations().empty());
}

}  // namespace lease_test
