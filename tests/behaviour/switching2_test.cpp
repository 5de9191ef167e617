// Three faults of an earlier manager: a model could be switched between the check that it was loaded and its use; there
// was no version by which that could have been noticed; and the lock was released between loading a model and using it.
//
// Here a lease is the check and the use in one, every residency has its own number, and a request may say which one it
// means.

#include "support/bench.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

namespace switching2_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

// -- Switched between check and use -----------------------------------------------------------------------------------

TEST_CASE("Review: the holder of a lease uses that model, whatever is switched meanwhile", "[R1][R2][R11]") {
    ManagerBench bench;
    auto lease = bench.acquire(a);
    bench.run();
    REQUIRE(lease.calls() == 1);
    const auto other = bench.embed(b);
    bench.run();
    CHECK(other.calls() == 0);
    const Embeddings rows = lease.value()->embed(std::vector<std::string>{"text"});
    CHECK(testing::answered_by(rows) == 1);
    CHECK(lease.value().key() == a);
    lease.value().release();
    bench.run();
    REQUIRE(other.calls() == 1);
    CHECK(testing::answered_by(Outcome<Embeddings>(other).value()) == 2);
    bench.finish(2);
}

TEST_CASE("Review: while threads switch a slot to and fro, every answer is of the model that was asked for",
          "[R1][R2][R11]") {
    ThreadedManager bench;
    std::atomic<int> wrong{0};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 4; ++thread) {
            threads.emplace_back([&, thread] {
                for (int call = 0; call < 40; ++call) {
                    const ModelKey& key = (thread + call) % 2 == 0 ? a : b;
                    if (call % 4 == 0) {
                        const FakeLease lease = bench.manager->embedding().acquire(key);
                        wrong += lease.key() == key && lease->key() == key ? 0 : 1;
                        const Embeddings rows = lease->embed(std::vector<std::string>{"text"});
                        wrong += testing::answered_by(rows) == lease->serial() ? 0 : 1;
                    } else {
                        const Embeddings rows = bench.manager->embed(key, {"text"});
                        wrong += bench.world->model(testing::answered_by(rows)).key == key ? 0 : 1;
                    }
                    const Ranking ranking = bench.manager->rerank(key, "query", {"text"});
                    wrong += bench.world->model(testing::answered_by(ranking)).key == key ? 0 : 1;
                }
            });
        }
    }
    CHECK(wrong == 0);
    CHECK(bench.manager->embedding().status().counters.loads >= 2);
    bench.finish(0);
}

// -- No version to detect it ------------------------------------------------------------------------------------------

TEST_CASE("Review: a request that means one residency is not answered by another", "[R6][R11]") {
    ManagerBench bench;
    const auto loaded = bench.ensure(a);
    bench.run();
    RequestOptions this_one;
    this_one.expected_generation = Outcome<Generation>(loaded).value();
    const auto same = bench.embed(a, {"text"}, this_one);
    bench.run();
    CHECK_FALSE(same.exception());

    // Gone: it is not loaded for this. Loading: the next one is not it either. Loaded again: it has another number.
    const auto unload = bench.unload(a);
    bench.run();
    CHECK(unload.calls() == 1);
    const auto gone = bench.embed(a, {"text"}, this_one);
    bench.run();
    CHECK(gone.code() == errc::model_changed);
    CHECK(gone.code() == condition::caller);
    CHECK(bench.world->counts().loads == 1);
    Outcome<Embeddings> too_early;
    during(*bench.world, FakeStep::load, [&] {
        too_early = bench.embed(a, {"text"}, this_one);
        bench.run_without_loading();
    });
    const auto again = bench.ensure(a);
    bench.run();
    CHECK(too_early.code() == errc::model_changed);
    CHECK(Outcome<Generation>(again).value() > *this_one.expected_generation);
    const auto old = bench.embed(a, {"text"}, this_one);
    bench.run();
    CHECK(old.code() == errc::model_changed);

    // One that waits for it fails as soon as it cannot be any more.
    this_one.expected_generation = Outcome<Generation>(again).value();
    auto lease = bench.acquire(a);
    bench.run();
    const auto drained = bench.unload(a);
    const auto waits = bench.embed(a, {"text"}, this_one);
    bench.run();
    CHECK(waits.code() == errc::model_changed);
    lease.value().release();
    bench.run();
    CHECK(drained.calls() == 1);
    CHECK(bench.world->counts().loads == 2);
    bench.finish(10);
}

TEST_CASE("Review: equal versions mean the same model, while threads replace it all the time", "[R6]") {
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

// -- The lock released between loading and inference ------------------------------------------------------------------

TEST_CASE("Review: a request that is granted when its load ends keeps that model, however late it is run", "[R1][R4]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ManagerBench bench({.embedding = options});
    auto answer = bench.embed(a);
    testing::run_ready(bench.loading);
    // Loaded and granted; no thread has taken the call. Whatever would take the model away comes now.
    CHECK(answer.calls() == 0);
    CHECK(bench.manager->embedding().status().leases == 1);
    const auto unload = bench.unload(a);
    const auto other = bench.embed(b);
    VirtualClock::advance(1h);
    bench.run_control();
    testing::run_ready(bench.loading);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(unload.calls() == 0);
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK(testing::answered_by(answer.value()) == 1);
    CHECK(unload.calls() == 1);
    CHECK_FALSE(other.exception());
    CHECK(bench.world->counts(a).loads == 1);
    bench.finish(3);
}

TEST_CASE("Review: what threads load is there when they use it, while others take every chance to take it away",
          "[R1][R4][R11]") {
    SlotOptions options;
    options.keep_alive = 0ms;
    ThreadedManager bench({.embedding = options});
    std::atomic<int> failed{0};
    std::atomic<int> using_it{2};
    {
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 2; ++thread) {
            threads.emplace_back([&] {
                for (int call = 0; call < 60; ++call) {
                    // By the keep-alive this model is gone before anything can be done with it...
                    bench.manager->embedding().ensure_loaded(a);
                    // ...but a request loads and uses it in one, and never fails for that.
                    failed += code_of([&] { (void)bench.manager->embed(a, {"text"}); }) ? 1 : 0;
                }
                --using_it;
            });
        }
        threads.emplace_back([&] {
            while (using_it != 0) {
                (void)bench.manager->embed(b, {"text"});
            }
        });
        threads.emplace_back([&] {
            while (using_it != 0) {
                bench.manager->embedding().unload();
            }
        });
    }
    CHECK(failed == 0);
    CHECK(bench.world->counts(a).calls == 120);
    CHECK(bench.world->counts().most_resident == 1);
    bench.finish(0);
}

}  // namespace switching2_test
