// H20 and H21: traps of the compilers and of Boost.Asio. Worth most under AddressSanitizer on g++ 12.

#include "support/bench.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace language_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size: freed twice, these are noticed.
constexpr const char* long_name = "bge-small-en-v1.5-and-then-some-more";
constexpr const char* long_quantization = "q8_0-with-a-name-that-is-not-small";

std::vector<std::string> texts() { return {std::string(100, 'x'), std::string(100, 'y')}; }

// Runs `body` as a coroutine on the bench's control context, to its end.
template <class Body>
void run_coroutine(Bench& bench, Body body) {
    int ended = 0;
    asio::co_spawn(bench.control, std::move(body), [&ended](std::exception_ptr error) {
        ++ended;
        if (error) {
            std::rethrow_exception(error);
        }
    });
    bench.run();
    CHECK(ended == 1);
}

}  // namespace

TEST_CASE("No argument of an asynchronous call is an aggregate that owns memory", "[H20]") {
    STATIC_REQUIRE_FALSE(std::is_aggregate_v<ModelKey>);
    STATIC_REQUIRE(std::is_trivially_copyable_v<RequestOptions>);
    STATIC_REQUIRE(std::is_trivially_copyable_v<UnloadMode>);
    STATIC_REQUIRE(std::is_trivially_copyable_v<std::chrono::milliseconds>);
}

TEST_CASE("Each call of a slot takes braced arguments under co_await", "[H20]") {
    SlotBench bench({.keep_alive = 1min});
    auto& slot = *bench.slot;
    int steps = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        FakeLease lease = co_await slot.async_acquire({long_name, long_quantization});
        CHECK(lease.key() == ModelKey(long_name, long_quantization));
        ++steps;
        FakeLease again =
            co_await slot.async_acquire({long_name, long_quantization}, {.timeout = 1s, .keep_alive = 1min});
        CHECK(again->serial() == lease->serial());
        ++steps;
        again.release();
        lease.release();
        const Generation known = co_await slot.async_ensure_loaded({long_name, long_quantization});
        const Generation same = co_await slot.async_ensure_loaded(
            {long_name, long_quantization}, {.priority = Priority::high, .expected_generation = known});
        CHECK(known == same);
        ++steps;
        co_await slot.async_unload({long_name, long_quantization});
        co_await slot.async_unload({long_name, long_quantization}, UnloadMode::revoke);
        ++steps;
        const ShutdownReport report = co_await slot.async_shutdown(1s);
        CHECK(report.clean());
        ++steps;
    });
    CHECK(steps == 5);
    bench.check_end();
}

TEST_CASE("Each call of a manager takes a braced key and options under co_await", "[H20]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    int steps = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        const Embeddings first = co_await models.async_embed({long_name, long_quantization}, texts());
        const Embeddings second = co_await models.async_embed({long_name, long_quantization}, texts(), {.timeout = 1s});
        CHECK(first == second);
        ++steps;
        const Ranking ranking = co_await models.async_rerank({long_name, long_quantization}, long_name, texts());
        const Ranking same =
            co_await models.async_rerank({long_name, long_quantization}, long_name, texts(), {.timeout = 1s});
        CHECK(ranking == same);
        CHECK(ranking.size() == 2);
        ++steps;
        const ShutdownReport report = co_await models.async_shutdown();
        CHECK(report.clean());
        ++steps;
    });
    CHECK(steps == 3);
    bench.check_end();
}

TEST_CASE("A braced key under co_await that fails is freed once, too", "[H20]") {
    SlotBench bench;
    auto& slot = *bench.slot;
    bench.world->fail_next(FakeStep::load, {long_name, long_quantization}, std::runtime_error("broken"));
    int caught = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        try {
            (void)co_await slot.async_acquire({long_name, long_quantization});
        } catch (const Error& error) {
            ++caught;
            CHECK(error.code() == errc::load_failed);
            CHECK(error.key() == ModelKey(long_name, long_quantization));
        }
    });
    CHECK(caught == 1);
    bench.check_end();
}

TEST_CASE("deferred: what is invoked later, and as_tuple of it under co_await", "[H21]") {
    SlotBench bench;
    auto& slot = *bench.slot;
    const ModelKey key(long_name, long_quantization);
    // Nothing happens until it is invoked.
    auto later = slot.async_acquire(key, asio::deferred);
    bench.run();
    CHECK(bench.world->counts().loads == 0);
    Outcome<FakeLease> answer;
    std::move(later)(answer.handler());
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(answer.value().key() == key);
    answer.value().release();

    int steps = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        auto [error, lease] = co_await slot.async_acquire(key, asio::as_tuple(asio::deferred));
        CHECK_FALSE(error);
        CHECK(lease.key() == key);
        ++steps;
    });
    CHECK(steps == 1);
    bench.check_end();
}

TEST_CASE("as_tuple(use_awaitable) gives the error instead of throwing it", "[H21]") {
    SlotBench bench;
    auto& slot = *bench.slot;
    int steps = 0;
    run_coroutine(bench, [&]() -> asio::awaitable<void> {
        auto [error, lease] = co_await slot.async_acquire({long_name}, asio::as_tuple(asio::use_awaitable));
        CHECK_FALSE(error);
        CHECK(lease);
        auto [refused, none] = co_await slot.async_acquire({""}, asio::as_tuple(asio::use_awaitable));
        CHECK(refused);
        CHECK_FALSE(none);
        ++steps;
    });
    CHECK(steps == 1);
    bench.check_end();
}

TEST_CASE("A deferred call may outlive the slot that it was made for", "[H21][R9]") {
    SlotBench bench;
    auto later = bench.slot->async_acquire(ModelKey(long_name), asio::deferred);
    bench.slot.reset();
    Outcome<FakeLease> answer;
    std::move(later)(answer.handler());
    bench.run();
    CHECK(answer.calls() == 1);
    CHECK(answer.code() == errc::shutting_down);
    bench.check_nothing_left();
}

}  // namespace language_test
