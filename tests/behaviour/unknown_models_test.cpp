// H5: a key that the backend does not know is refused before anything is evicted for it.

#include "support/bench.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace unknown_models_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey nonsense("nonsense", "q8_0");

/// What a backend answers, and how often it was asked.
struct Catalogue {
    std::function<bool(const ModelKey&)> knows = [](const ModelKey& key) { return key.name != "nonsense"; };
    std::atomic<int> asked{0};
};

template <class Model>
class Knowing : public testing::FakeBackend<Model> {
public:
    Knowing(std::shared_ptr<FakeWorld> world, std::shared_ptr<Catalogue> catalogue)
        : testing::FakeBackend<Model>(std::move(world)), catalogue_(std::move(catalogue)) {}
    [[nodiscard]] bool knows(const ModelKey& key) const {
        ++catalogue_->asked;
        return catalogue_->knows(key);
    }

private:
    std::shared_ptr<Catalogue> catalogue_;
};

using KnowingEmbedders = Knowing<testing::FakeEmbedder>;
using KnowingRerankers = Knowing<testing::FakeReranker>;
using Slot = ModelSlot<KnowingEmbedders, VirtualClock>;
using EmbedderLease = Slot::lease_type;

struct KnowingBench : Bench {
    explicit KnowingBench(const SlotOptions& options = {.max_resident = 1})
        : slot(std::in_place, KnowingEmbedders(world, catalogue), options, executors(), events.observer()) {}

    EmbedderLease lease(const ModelKey& key) {
        Outcome<EmbedderLease> answer;
        slot->async_acquire(key, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return std::move(answer.value());
    }

    std::shared_ptr<Catalogue> catalogue = std::make_shared<Catalogue>();
    std::optional<Slot> slot;
};

}  // namespace

TEST_CASE("Nothing is evicted for a key that the backend does not know", "[H5]") {
    KnowingBench bench;
    bench.lease(a).release();
    bench.run();
    const Generation generation = bench.slot->generation();

    Outcome<EmbedderLease> lease;
    Outcome<Generation> loaded;
    bench.slot->async_acquire(nonsense, lease.handler());
    bench.slot->async_ensure_loaded(nonsense, {.timeout = 1s}, loaded.handler());
    CHECK(lease.calls() == 0);
    run_ready(bench.control);
    REQUIRE(lease.calls() == 1);
    REQUIRE(loaded.calls() == 1);
    for (const Error& error : {lease.error(), loaded.error()}) {
        CHECK(error.code() == errc::unknown_model);
        CHECK(error.code() == condition::caller);
        CHECK_FALSE(error.retryable());
        CHECK_FALSE(error.retry_after());
        CHECK(error.stage() == Stage::admission);
        CHECK(error.key() == nonsense);
        CHECK(std::string(error.what()) ==
              "residency: unknown_model for 'nonsense@q8_0' in stage admission: the backend of slot 'model' knows no "
              "model with this key; check the key's name and quantization");
    }
    bench.run();
    CHECK(bench.slot->generation() == generation);
    CHECK(bench.world->counts(nonsense).loads == 0);
    CHECK(bench.world->counts(a).unloads == 0);
    CHECK(bench.slot->status().counters.unknown_model == 2);
    CHECK(bench.slot->status().failures.empty());
    // Summed up like other refusals (H19).
    const std::vector<Event> refused = bench.events.all(EventType::rejected);
    REQUIRE(refused.size() == 1);
    CHECK(refused[0].reason == Reason::unknown_model);
    CHECK(refused[0].key == nonsense);
    bench.check_ends_clean(*bench.slot);
}

TEST_CASE("Both slots of a manager refuse texts for an unknown key", "[H5]") {
    Bench bench;
    const auto catalogue = std::make_shared<Catalogue>();
    ModelManager<KnowingEmbedders, KnowingRerankers, VirtualClock> models(
        KnowingEmbedders(bench.world, catalogue), KnowingRerankers(bench.world, catalogue), {}, bench.executors());
    Outcome<Embeddings> rows;
    Outcome<Ranking> ranking;
    // One of several texts, which has to be cut if its model does best with few.
    models.async_embed(nonsense, {"one", "two", "three"}, rows.handler());
    models.async_rerank(nonsense, "query", {"document"}, ranking.handler());
    bench.run();
    REQUIRE(rows.calls() == 1);
    REQUIRE(ranking.calls() == 1);
    CHECK(rows.code() == errc::unknown_model);
    CHECK(ranking.code() == errc::unknown_model);
    CHECK(catalogue->asked == 2);
    // What is wrong with the request itself, and nothing to do, come first.
    Outcome<Embeddings> nothing;
    Outcome<Embeddings> invalid;
    models.async_embed(nonsense, {}, nothing.handler());
    models.async_embed("", {"text"}, invalid.handler());
    bench.run();
    CHECK_FALSE(nothing.exception());
    CHECK(invalid.code() == errc::invalid_request);
    CHECK(catalogue->asked == 2);
    bench.check_ends_clean(models);
}

TEST_CASE("A backend is not asked about a key that is resident, whether it is leased or waited for", "[H5]") {
    KnowingBench bench({.max_resident = 1, .max_leases = 1});
    Outcome<EmbedderLease> first;
    Outcome<EmbedderLease> loading;
    bench.slot->async_acquire(a, first.handler());
    CHECK(bench.catalogue->asked == 1);
    // From here on the backend would deny it.
    bench.catalogue->knows = [](const ModelKey&) { return false; };
    bench.slot->async_acquire(a, loading.handler());
    bench.run();
    REQUIRE(first.calls() == 1);
    Outcome<EmbedderLease> waits;
    Outcome<Generation> ready;
    bench.slot->async_acquire(a, waits.handler());
    bench.slot->async_ensure_loaded(a, ready.handler());
    first.value().release();
    bench.run();
    REQUIRE(loading.calls() == 1);
    loading.value().release();
    bench.run();
    REQUIRE(waits.calls() == 1);
    waits.value().release();
    CHECK(ready.calls() == 1);
    CHECK(bench.slot->try_acquire(a));
    CHECK(bench.catalogue->asked == 1);

    // Nor where nothing is loaded anyway.
    CHECK_FALSE(bench.slot->try_acquire(nonsense));
    Outcome<> unloaded;
    bench.slot->async_unload(nonsense, unloaded.handler());
    bench.run();
    CHECK_FALSE(unloaded.exception());
    CHECK(bench.catalogue->asked == 1);

    // Once it is gone, it is asked about again.
    Outcome<> gone;
    bench.slot->async_unload(a, gone.handler());
    bench.run();
    Outcome<EmbedderLease> again;
    bench.slot->async_acquire(a, again.handler());
    bench.run();
    CHECK(again.code() == errc::unknown_model);
    CHECK(bench.catalogue->asked == 2);
    bench.check_ends_clean(*bench.slot);
}

TEST_CASE("unknown_model comes after shutting_down and model_changed, and before cooling_down and overloaded", "[H5]") {
    KnowingBench bench({.max_resident = 1, .max_leases = 1, .max_queue = 1});
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("broken"));
    Outcome<EmbedderLease> fails;
    bench.slot->async_acquire(a, fails.handler());
    bench.run();
    REQUIRE(fails.code() == errc::load_failed);
    const EmbedderLease held = bench.lease(b);
    Outcome<EmbedderLease> waits;
    bench.slot->async_acquire(b, waits.handler());
    REQUIRE(bench.slot->status().waiting == 1);

    const auto answer = [&](const ModelKey& key, const RequestOptions& options = {}) {
        Outcome<EmbedderLease> outcome;
        bench.slot->async_acquire(key, options, outcome.handler());
        run_ready(bench.control);
        REQUIRE(outcome.calls() == 1);
        return outcome.code();
    };
    CHECK(answer(a) == errc::cooling_down);
    bench.catalogue->knows = [](const ModelKey&) { return false; };
    CHECK(answer(a) == errc::unknown_model);
    CHECK(answer(nonsense) == errc::unknown_model);
    CHECK(answer(b) == errc::overloaded);
    CHECK(answer(nonsense, {.expected_generation = held.generation()}) == errc::model_changed);
    const int asked = bench.catalogue->asked;
    Outcome<ShutdownReport> report;
    bench.slot->async_shutdown(0ms, report.handler());
    CHECK(answer(nonsense) == errc::shutting_down);
    CHECK(bench.catalogue->asked == asked);
}

TEST_CASE("A backend that throws where it is asked loads the key, which says what is wrong", "[H5][R10]") {
    KnowingBench bench;
    bench.catalogue->knows = [](const ModelKey&) -> bool { throw std::runtime_error("the catalogue is torn"); };
    CHECK(bench.lease(a)->key() == a);
    bench.world->fail_next(FakeStep::load, nonsense, std::runtime_error("no such file"));
    Outcome<EmbedderLease> fails;
    bench.slot->async_acquire(nonsense, fails.handler());
    bench.run();
    CHECK(fails.code() == errc::load_failed);
    bench.check_ends_clean(*bench.slot);
}

TEST_CASE("A backend that is asked may call back into its slot, but not block on it", "[H5][R10]") {
    KnowingBench bench;
    std::vector<Outcome<Generation>> within;
    bool would_block = false;
    bench.catalogue->knows = [&](const ModelKey& key) {
        if (key == a) {
            return true;
        }
        // None of these returns while the slot's mutex is held.
        static_cast<void>(bench.slot->status());
        CHECK_FALSE(bench.slot->try_acquire(a));
        bench.slot->async_ensure_loaded(a, within.emplace_back().handler());
        bench.slot->async_unload([](const std::exception_ptr&) {});
        try {
            static_cast<void>(bench.slot->ensure_loaded(a));
        } catch (const Error& error) {
            would_block = error.code() == errc::would_deadlock;
        }
        return false;
    };
    Outcome<EmbedderLease> outcome;
    bench.slot->async_acquire(nonsense, outcome.handler());
    bench.run();
    CHECK(outcome.code() == errc::unknown_model);
    REQUIRE(within.size() == 1);
    CHECK(within[0].calls() == 1);
    CHECK(would_block);
    bench.check_ends_clean(*bench.slot);
}

TEST_CASE("A key that becomes resident while its backend is asked is waited for", "[H5]") {
    KnowingBench bench;
    Outcome<EmbedderLease> outer;
    Outcome<Generation> inner;
    int depth = 0;
    bench.catalogue->knows = [&](const ModelKey&) {
        if (depth++ == 0) {
            bench.slot->async_ensure_loaded(a, inner.handler());
            return false;
        }
        return true;
    };
    bench.slot->async_acquire(a, outer.handler());
    bench.run();
    REQUIRE(inner.calls() == 1);
    CHECK_FALSE(inner.exception());
    REQUIRE(outer.calls() == 1);
    CHECK(outer.value()->key() == a);
    outer.value().release();
    bench.check_ends_clean(*bench.slot);
}

TEST_CASE("A slot that shuts down while its backend is asked refuses the request for that", "[H5][R12]") {
    KnowingBench bench;
    Outcome<ShutdownReport> report;
    bench.catalogue->knows = [&](const ModelKey&) {
        bench.slot->async_shutdown(report.handler());
        return false;
    };
    Outcome<EmbedderLease> outcome;
    bench.slot->async_acquire(nonsense, outcome.handler());
    bench.run();
    CHECK(outcome.code() == errc::shutting_down);
    CHECK(report.calls() == 1);
    bench.slot.reset();
    bench.check_nothing_left();
}

TEST_CASE("Requests for known and unknown keys may come from many threads at once", "[H5][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    const auto catalogue = std::make_shared<Catalogue>();
    ModelSlot<KnowingEmbedders> slot(KnowingEmbedders(world, catalogue), {.max_queue = 10'000});
    std::atomic<int> refused = 0;
    std::atomic<int> served = 0;
    const auto ask = [&](const ModelKey& known) {
        for (int round = 0; round < 100; ++round) {
            try {
                const auto lease = slot.acquire(round % 2 == 0 ? nonsense : known);
                ++served;
            } catch (const Error& error) {
                refused += error.code() == errc::unknown_model && error.key() == nonsense ? 1 : 0;
            }
        }
    };
    std::vector<std::thread> callers;
    for (const ModelKey& known : {a, b, a, b}) {
        callers.emplace_back(ask, known);
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
    CHECK(refused == 200);
    CHECK(served == 200);
    CHECK(world->counts(nonsense).loads == 0);
    CHECK(slot.shutdown().clean());
}

}  // namespace unknown_models_test
