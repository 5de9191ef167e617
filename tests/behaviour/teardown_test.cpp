// H8, H9 and S44: unloads and shutdowns whose caller leaves, the generation of nothing, and shutdowns that revoke at
// their deadline.

#include "support/associated.hpp"
#include "support/bench.hpp"

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <utility>

namespace {

/// How many blocks of the program's memory are out.
std::atomic<std::ptrdiff_t> live_blocks = 0;

}  // namespace

// Not inlined: where g++ sees one of a pair and not the other, it warns that they do not match.
[[gnu::noinline]] void* operator new(std::size_t size) {
    if (void* const memory = std::malloc(size == 0 ? 1 : size)) {
        ++live_blocks;
        return memory;
    }
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    void* const memory = std::malloc(size == 0 ? 1 : size);
    live_blocks += memory == nullptr ? 0 : 1;
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    live_blocks -= memory == nullptr ? 0 : 1;
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { operator delete(memory); }

namespace teardown_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

/// Starts something with a handler that has an allocator and owns a token, has its caller cancel it, and checks that
/// nothing of it is left.
template <class Start>
void check_cancelled_leaves_nothing(SlotBench& bench, const Start& start) {
    const auto token = std::make_shared<int>();
    AllocatorCounts memory;
    asio::cancellation_signal signal;
    boost::system::error_code code;
    std::size_t calls = 0;
    start(asio::bind_cancellation_slot(
        signal.slot(),
        asio::bind_allocator(CountingAllocator<>(memory), [&, token](const std::exception_ptr& error, const auto&...) {
            ++calls;
            try {
                std::rethrow_exception(error);
            } catch (const Error& failure) {
                code = failure.code();
            }
        })));
    bench.run();
    CHECK(calls == 0);
    CHECK(memory.allocations != 0);
    signal.emit(asio::cancellation_type::terminal);
    bench.run();
    CHECK(calls == 1);
    CHECK(code == asio::error::operation_aborted);
    CHECK(memory.live == 0);
    CHECK(token.use_count() == 1);
}

}  // namespace

// -- Callers that leave -----------------------------------------------------------------------------------------------

TEST_CASE("A cancelled async_unload leaves nothing behind, and the unload goes on", "[H8]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    for (int times = 0; times < 3; ++times) {
        check_cancelled_leaves_nothing(
            bench, [&](auto handler) { bench.slot->async_unload(a, UnloadMode::drain, std::move(handler)); });
    }
    CHECK(bench.is(a, ResidentState::draining));
    // One whose caller stays completes as ever.
    Outcome<> patient;
    bench.slot->async_unload(a, patient.handler());
    check_cancelled_leaves_nothing(bench, [&](auto handler) { bench.slot->async_unload(std::move(handler)); });
    CHECK(patient.calls() == 0);
    held.release();
    bench.run();
    CHECK(patient.calls() == 1);
    CHECK_FALSE(patient.exception());
    CHECK(bench.world->counts().unloads == 1);
    bench.check_end();
}

TEST_CASE("A thousand cancelled unloads and shutdowns keep no memory while the lease lives", "[H8][H9]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    const auto start_and_leave = [&](int times, bool closes) {
        for (int time = 0; time < times; ++time) {
            Request<> unload;
            Request<ShutdownReport> shutdown;
            if (closes) {
                bench.slot->async_shutdown(shutdown.token());
                shutdown.cancel();
            } else {
                bench.slot->async_unload(a, unload.token());
                unload.cancel();
            }
            bench.run();
            REQUIRE(unload.calls() + shutdown.calls() == 1);
            REQUIRE_FALSE(unload.held());
            REQUIRE_FALSE(shutdown.held());
        }
    };
    for (const bool closes : {false, true}) {
        INFO("shutdowns " << closes);
        start_and_leave(10, closes);
        const std::ptrdiff_t before = live_blocks;
        start_and_leave(1000, closes);
        CHECK(live_blocks - before <= 100);
    }
    held.release();
    bench.run();
    bench.check_end();
}

TEST_CASE("A cancelled async_shutdown leaves nothing behind, and the shutdown goes on", "[H9]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    check_cancelled_leaves_nothing(bench, [&](auto handler) { bench.slot->async_shutdown(std::move(handler)); });
    check_cancelled_leaves_nothing(bench, [&](auto handler) { bench.slot->async_shutdown(1h, std::move(handler)); });
    Outcome<FakeLease> refused;
    bench.slot->async_acquire(a, refused.handler());
    bench.run();
    CHECK(refused.code() == errc::shutting_down);
    held.release();
    bench.run();
    CHECK(bench.world->counts().live == 0);
    // Not even the timer of the hour.
    CHECK(bench.at_rest());
    bench.check_end();
}

// -- The generation of nothing ----------------------------------------------------------------------------------------

TEST_CASE("An expected generation of zero is nothing resident: always model_changed, and nothing is loaded", "[H8]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    const RequestOptions nothing{.expected_generation = Generation()};
    const auto check_refused = [&] {
        Outcome<Embeddings> embedded;
        Outcome<Ranking> ranked;
        Outcome<Lease<testing::FakeEmbedder>> leased;
        Outcome<Generation> loaded;
        models.async_embed(a, {"text"}, nothing, embedded.handler());
        models.async_rerank(a, "query", {"text"}, nothing, ranked.handler());
        models.embedding().async_acquire(a, nothing, leased.handler());
        models.embedding().async_ensure_loaded(a, nothing, loaded.handler());
        run_ready(bench.control);
        CHECK(embedded.code() == errc::model_changed);
        CHECK(ranked.code() == errc::model_changed);
        CHECK(leased.code() == errc::model_changed);
        CHECK(loaded.code() == errc::model_changed);
    };
    // Before anything was ever loaded, when the slot's own counter is zero.
    CHECK(models.embedding().generation() == Generation());
    check_refused();
    CHECK(bench.world->counts().loads == 0);
    // While the model loads, which has no generation yet.
    bench.world->on(FakeStep::load, [&](const FakeCall&) { check_refused(); });
    Outcome<Embeddings> answer;
    models.async_embed(a, {"text"}, answer.handler());
    bench.run();
    CHECK(answer.value().size() == 1);
    bench.world->on(FakeStep::load, {});
    // While it is there.
    check_refused();
    CHECK(bench.world->counts().loads == 1);
    bench.check_end();
}

// -- Shutdowns that revoke --------------------------------------------------------------------------------------------

TEST_CASE("A shutdown that revokes at its deadline completes what is in flight, asks it to stop, and completes",
          "[H9][S44]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Embeddings> running;
    Outcome<ShutdownReport> report;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        models.async_shutdown(ShutdownOptions{.deadline = 1s, .revoke_at_deadline = true}, report.handler());
        run_ready(bench.control);
        CHECK(running.calls() == 0);
        CHECK_FALSE(call.stop.stop_requested());
        VirtualClock::advance(1s);
        run_ready(bench.control, bench.loading);
        CHECK(running.code() == errc::shutting_down);
        CHECK(call.stop.stop_requested());
        REQUIRE(report.calls() == 1);
        // The model is still computing: the report names it.
        CHECK_FALSE(report.value().clean());
        REQUIRE(report.value().leftovers.size() == 1);
        CHECK(report.value().leftovers[0].key == a);
        CHECK(bench.world->counts().live == 1);
    });
    models.async_embed(a, {"text"}, running.handler());
    bench.run();
    // Unloaded when it returned.
    CHECK(bench.world->counts().live == 0);
    CHECK(running.calls() == 1);
    CHECK(report.calls() == 1);
    bench.check_nothing_left();
}

TEST_CASE("A shutdown without revoke_at_deadline leaves what is in flight alone", "[H9][S31]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<Embeddings> running;
    Outcome<ShutdownReport> report;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        models.async_shutdown(ShutdownOptions{.deadline = 1s}, report.handler());
        VirtualClock::advance(1s);
        run_ready(bench.control, bench.loading);
        REQUIRE(report.calls() == 1);
        CHECK_FALSE(report.value().clean());
        CHECK(running.calls() == 0);
        CHECK_FALSE(call.stop.stop_requested());
    });
    models.async_embed(a, {"text"}, running.handler());
    bench.run();
    CHECK(running.value().size() == 1);
    bench.check_nothing_left();
}

TEST_CASE("A bare lease learns of the revoke at the deadline, and its model lives until it is released", "[H9][R1]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(ShutdownOptions{.deadline = 1s, .revoke_at_deadline = true}, report.handler());
    bench.advance(1s - 1ns);
    CHECK_FALSE(held.revoked());
    CHECK(report.calls() == 0);
    bench.advance(1ns);
    CHECK(held.revoked());
    REQUIRE(report.calls() == 1);
    CHECK_FALSE(report.value().clean());
    CHECK(bench.world->counts().live == 1);
    held.release();
    bench.check_nothing_left();
}

}  // namespace teardown_test
