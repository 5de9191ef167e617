// H8: generations, requests that expect one, and unloading by drain and by revoke.

#include "support/bench.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace generations_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey c("c");

}  // namespace

TEST_CASE("A resident's generation is the counter's value when its load finished, and never changes", "[H8][R6]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 2});
    CHECK(bench.slot->generation() == Generation{});
    FakeLease on_a = bench.lease(a);
    CHECK(on_a.generation() == bench.slot->generation());
    const Generation of_a = on_a.generation();
    FakeLease on_b = bench.lease(b);
    CHECK(on_b.generation() == bench.slot->generation());
    CHECK(on_b.generation() > of_a);
    CHECK(on_a.generation() == of_a);
    CHECK(bench.resident(a)->generation == of_a);
    Outcome<Generation> known;
    bench.slot->async_ensure_loaded(a, known.handler());
    bench.run();
    CHECK(known.value() == of_a);
    on_a.release(), on_b.release();
    bench.check_end();
}

TEST_CASE("The counter is raised when unloading begins or a resident is revoked, not by draining", "[H8][R6]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    const Generation ready = bench.slot->generation();
    Outcome<> drained;
    bench.slot->async_unload(a, drained.handler());
    bench.run();
    REQUIRE(bench.is(a, ResidentState::draining));
    CHECK(bench.slot->generation() == ready);

    SECTION("unloading begins") {
        held.release();
        REQUIRE(bench.is(a, ResidentState::unloading));
        const Generation unloading = bench.slot->generation();
        CHECK(unloading > ready);
        bench.run();
        CHECK_FALSE(bench.resident(a));
        CHECK(bench.slot->generation() == unloading);
    }
    SECTION("revoked") {
        Outcome<> revoked;
        bench.slot->async_unload(a, UnloadMode::revoke, revoked.handler());
        const Generation after = bench.slot->generation();
        CHECK(after > ready);
        CHECK(held.generation() == ready);
        held.release();
        bench.run();
        // Once for one residency's end.
        CHECK(bench.slot->generation() == after);
        CHECK(revoked.calls() == 1);
    }
    CHECK(drained.calls() == 1);
    bench.check_end();
}

TEST_CASE("Two equal readings of the counter mean that no residency changed between them", "[H8][R6]") {
    SlotBench bench({.keep_alive = 1min});
    std::vector<Generation> seen{bench.slot->generation()};
    const auto changed = [&] {
        const bool differs = seen.back() != bench.slot->generation();
        seen.push_back(bench.slot->generation());
        return differs;
    };
    FakeLease held = bench.lease(a);
    CHECK(changed());
    held.release();
    bench.lease(a).release();
    CHECK_FALSE(changed());
    bench.advance(1min);
    CHECK(changed());
    // A load that fails is no residency that anybody could have used.
    bench.world->fail_next(FakeStep::load, b, 5);
    Outcome<Generation> failed;
    bench.slot->async_ensure_loaded(b, failed.handler());
    bench.run();
    CHECK(failed.code() == errc::load_failed);
    CHECK_FALSE(changed());
    bench.lease(a).release();
    CHECK(changed());
    bench.lease(c).release();
    CHECK(changed());
    // No number twice.
    CHECK(std::is_sorted(seen.begin(), seen.end()));
    bench.check_end();
}

TEST_CASE("Equal generations mean the same model, while threads replace it all the time", "[H8][R6]") {
    ThreadedSlot bench;
    std::array<std::atomic<std::uint64_t>, 4096> serial_of{};
    std::atomic<int> wrong{0};
    std::atomic<int> still_looking{3};
    std::atomic<int> changed{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&] {
                // Each has a good number of looks, and together they see it change.
                for (int look = 0; look < 60 || changed < 10; ++look) {
                    RequestOptions this_one;
                    this_one.expected_generation = bench.slot->ensure_loaded(a);
                    try {
                        const FakeLease lease = bench.slot->acquire(a, this_one);
                        wrong += lease.generation() == *this_one.expected_generation ? 0 : 1;
                        std::uint64_t known = 0;
                        auto& serial = serial_of.at(lease.generation().value() % serial_of.size());
                        if (!serial.compare_exchange_strong(known, lease->serial())) {
                            wrong += known == lease->serial() ? 0 : 1;
                        }
                    } catch (const Error& error) {
                        wrong += error.code() == errc::model_changed ? 0 : 1;
                        ++changed;
                    }
                    // Two equal readings of the counter, and nothing has changed between them.
                    const Generation before = bench.slot->generation();
                    const FakeLease lease = bench.slot->try_acquire(a);
                    const Generation after = bench.slot->generation();
                    wrong += lease && before == after && lease.generation() != after ? 1 : 0;
                    wrong += after < before ? 1 : 0;
                }
                --still_looking;
            });
        }
        threads.emplace_back([&] {
            while (still_looking != 0) {
                bench.slot->unload(a);
            }
        });
    }
    CHECK(wrong == 0);
    bench.finish(0);
}

TEST_CASE("expected_generation is answered by that very resident, ready or draining for a switch", "[H8]") {
    SlotBench bench({.keep_alive = keep_alive_forever});
    FakeLease held = bench.lease(a);
    const RequestOptions same{.expected_generation = held.generation()};

    FakeLease ready = bench.lease(a, same);
    CHECK(ready->serial() == held->serial());
    ready.release();

    Request<FakeLease> other;
    bench.slot->async_acquire(b, other.token());
    bench.run();
    REQUIRE(bench.is(a, ResidentState::draining));
    Outcome<FakeLease> patient;
    bench.slot->async_acquire(a, same, patient.handler());
    bench.run();
    CHECK(patient.calls() == 0);

    SECTION("it returns") {
        other.cancel();
        bench.run();
        REQUIRE(patient.calls() == 1);
        CHECK(patient.value()->serial() == held->serial());
        patient.value().release();
        held.release();
    }
    SECTION("it goes") {
        held.release();
        bench.run();
        REQUIRE(patient.calls() == 1);
        CHECK(patient.code() == errc::model_changed);
        CHECK(other.calls() == 1);
        other.value().release();
        // And nothing was loaded for it.
        CHECK(bench.world->counts(a).loads == 1);
    }
    bench.check_end();
}

TEST_CASE("expected_generation is compared at the call: anything else is model_changed, without a load",
          "[H8][R6][R11]") {
    SlotBench bench({.keep_alive = 1min, .max_resident = 2});
    const Generation old = bench.lease(a).generation();
    const Generation of_b = bench.lease(b).generation();
    const auto refused = [&](const ModelKey& key, Generation expected) {
        Outcome<FakeLease> lease;
        Outcome<Generation> ensured;
        bench.slot->async_acquire(key, {.expected_generation = expected}, lease.handler());
        bench.slot->async_ensure_loaded(key, {.expected_generation = expected}, ensured.handler());
        run_ready(bench.control);
        CHECK(lease.code() == condition::caller);
        return lease.code() == errc::model_changed && ensured.code() == errc::model_changed;
    };
    CHECK(refused(a, of_b));
    CHECK(refused(c, old));
    CHECK(refused(a, Generation{old.value() + 1000}));

    SECTION("gone") {
        bench.advance(1min);
        REQUIRE_FALSE(bench.resident(a));
        CHECK(refused(a, old));
        CHECK(bench.world->counts().loads == 2);
    }
    SECTION("loading") {
        bench.advance(1min);
        Outcome<Generation> again;
        bench.slot->async_ensure_loaded(a, again.handler());
        REQUIRE(bench.is(a, ResidentState::queued));
        CHECK(refused(a, old));
        bench.run();
        CHECK(again.value() > old);
        CHECK(refused(a, old));
    }
    SECTION("draining for an unload") {
        FakeLease held = bench.lease(a);
        Outcome<> unloaded;
        bench.slot->async_unload(a, unloaded.handler());
        CHECK(refused(a, old));
        held.release();
        CHECK(bench.is(a, ResidentState::unloading));
        CHECK(refused(a, old));
        bench.run();
        CHECK(unloaded.calls() == 1);
    }
    bench.check_end();
}

TEST_CASE("expected_generation is compared again at grant", "[H8]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_leases = 1});
    FakeLease held = bench.lease(a);
    Outcome<FakeLease> expecting;
    Outcome<FakeLease> easy;
    bench.slot->async_acquire(a, {.expected_generation = held.generation()}, expecting.handler());
    bench.slot->async_acquire(a, easy.handler());
    bench.run();
    CHECK(expecting.calls() == 0);
    Outcome<> unloaded;
    bench.slot->async_unload(a, unloaded.handler());
    bench.run();
    // It can never be granted any more, and fails at once rather than when the lease ends.
    CHECK(expecting.code() == errc::model_changed);
    CHECK(easy.calls() == 0);
    held.release();
    bench.run();
    REQUIRE(easy.calls() == 1);
    CHECK(easy.value()->serial() == 2);
    CHECK(unloaded.calls() == 1);
    easy.value().release();
    bench.check_end();
}

TEST_CASE("Revoke ends what runs on the resident with model_changed, and sets its stop_token", "[H8]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<> unloaded;
    Outcome<Embeddings> running;
    Outcome<Ranking> untouched;
    int calls = 0;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        ++calls;
        const Generation before = models.embedding().generation();
        models.embedding().async_unload(a, UnloadMode::revoke, unloaded.handler());
        run_ready(bench.control);
        CHECK(models.embedding().generation() > before);
        CHECK(call.stop.stop_requested());
        CHECK(running.calls() == 1);
        // The memory is not back yet.
        CHECK(unloaded.calls() == 0);
        CHECK(bench.world->counts().live == 1);
    });
    models.async_embed(a, {"text"}, running.handler());
    bench.run();
    CHECK(calls == 1);
    CHECK(running.calls() == 1);
    CHECK(running.code() == errc::model_changed);
    CHECK(running.error().stage() == Stage::inference);
    CHECK(unloaded.calls() == 1);
    CHECK(unloaded.exception() == nullptr);
    CHECK(bench.world->counts().live == 0);
    CHECK(models.embedding().status().counters.unloads[static_cast<std::size_t>(Reason::revoked)] == 1);
    bench.world->on(FakeStep::inference, {});
    models.async_rerank(a, "query", {"text"}, untouched.handler());
    bench.run();
    CHECK(untouched.value().size() == 1);
    bench.check_end();
}

TEST_CASE("Revoke ends a rerank that runs with model_changed", "[H8]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    Outcome<> unloaded;
    Outcome<Ranking> running;
    bool stopped = false;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) {
        models.reranker().async_unload(UnloadMode::revoke, unloaded.handler());
        // Stops are requested on callbacks.
        run_ready(bench.control);
        stopped = call.stop.stop_requested();
    });
    models.async_rerank(a, "query", {"text"}, running.handler());
    bench.run();
    CHECK(stopped);
    CHECK(running.calls() == 1);
    CHECK(running.code() == errc::model_changed);
    CHECK(unloaded.calls() == 1);
    bench.check_end();
}

TEST_CASE("A drain does not revoke; a revoke upgrades a drain", "[H8]") {
    SlotBench bench;
    FakeLease held = bench.lease(a);
    Outcome<> drained;
    Outcome<> revoked;
    Outcome<> joined;
    bench.slot->async_unload(a, drained.handler());
    bench.run();
    CHECK_FALSE(held.revoked());
    bench.slot->async_unload(a, UnloadMode::revoke, revoked.handler());
    bench.run();
    CHECK(held.revoked());
    // A drain after a revoke changes nothing, and joins.
    bench.slot->async_unload(a, joined.handler());
    bench.run();
    CHECK(drained.calls() + revoked.calls() + joined.calls() == 0);
    held.release();
    bench.run();
    CHECK(drained.calls() == 1);
    CHECK(revoked.calls() == 1);
    CHECK(joined.calls() == 1);
    CHECK(bench.world->counts().unloads == 1);
    bench.check_end();
}

TEST_CASE("Cancelling an unload ends the wait, not the unload", "[H8][R9]") {
    for (const auto type :
         {asio::cancellation_type::total, asio::cancellation_type::partial, asio::cancellation_type::terminal}) {
        SlotBench bench;
        FakeLease held = bench.lease(a);
        Request<> leaver;
        Outcome<> joined;
        bench.slot->async_unload(a, leaver.token());
        bench.run();
        leaver.cancel(type);
        CHECK(leaver.calls() == 0);
        bench.run();
        CHECK(leaver.calls() == 1);
        CHECK(leaver.code() == asio::error::operation_aborted);
        CHECK(leaver.error().stage() == Stage::unload);
        CHECK(bench.is(a, ResidentState::draining));
        bench.slot->async_unload(a, joined.handler());
        held.release();
        bench.run();
        CHECK(joined.calls() == 1);
        CHECK_FALSE(bench.resident(a));
        CHECK(leaver.calls() == 1);
        bench.check_end();
    }
}

TEST_CASE("unload of all unloads every resident, and completes once all are gone", "[H8]") {
    SlotBench bench({.keep_alive = keep_alive_forever, .max_resident = 3});
    FakeLease on_a = bench.lease(a);
    FakeLease on_b = bench.lease(b);
    bench.lease(c).release();
    Outcome<> unloaded;
    bench.slot->async_unload(unloaded.handler());
    bench.run();
    CHECK_FALSE(bench.resident(c));
    on_a.release();
    bench.run();
    CHECK(unloaded.calls() == 0);
    on_b.release();
    bench.run();
    CHECK(unloaded.calls() == 1);
    CHECK(bench.slot->status().residents.empty());
    Outcome<> nothing;
    bench.slot->async_unload(nothing.handler());
    CHECK(nothing.calls() == 0);
    bench.run();
    CHECK(nothing.calls() == 1);
    CHECK(nothing.exception() == nullptr);
    bench.check_end();
}

}  // namespace generations_test
