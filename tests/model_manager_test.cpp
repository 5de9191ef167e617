// The face: blocking calls, results, both slots, and many threads at once. What a slot decides is tested in behaviour/.

#include "residency/model_manager.hpp"

#include "support/bench.hpp"

#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace model_manager_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a", "f16");
const ModelKey b("b", "f16");

using Manager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;

static_assert(std::is_default_constructible_v<Manager>);
static_assert(!std::is_copy_constructible_v<Manager> && !std::is_move_constructible_v<Manager>);

// Models that take no stop_token, and say nothing of how many calls they take.
struct PlainEmbedder {
    Embeddings embed(std::span<const std::string> texts) {
        Embeddings rows(texts.size(), 1);
        for (std::size_t index = 0; index < texts.size(); ++index) {
            rows[index][0] = static_cast<float>(texts[index].size());
        }
        return rows;
    }
};
struct PlainReranker {
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents) {
        std::vector<float> scores;
        for (const std::string& document : documents) {
            scores.push_back(document.find(query) == std::string::npos ? 0.0F : 1.0F);
        }
        return scores;
    }
};
template <class Model>
struct PlainLoader {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey&) { return std::make_unique<Model>(); }
};

std::string nested_in(const std::exception_ptr& failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        try {
            std::rethrow_if_nested(error);
        } catch (const std::exception& nested) {
            return nested.what();
        }
    }
    return "nothing";
}

}  // namespace

TEST_CASE("ModelManager: embeds row by row, and ranks best first") {
    ModelManager<PlainLoader<PlainEmbedder>, PlainLoader<PlainReranker>> models;
    const Embeddings rows = models.embed(a, {"", "one", "three"});
    CHECK(rows == Embeddings(1, {0.0F, 3.0F, 5.0F}));
    const Ranking ranking = models.rerank(b, "needle", {"hay", "a needle", "straw", "needle"});
    // Equal scores in the request's order.
    CHECK(ranking == Ranking{{1, 1.0F}, {3, 1.0F}, {0, 0.0F}, {2, 0.0F}});
    CHECK(models.shutdown().clean());
}

TEST_CASE("ModelManager: an empty list gives an empty result and loads nothing") {
    ManagerBench bench;
    Outcome<Embeddings> rows;
    Outcome<Ranking> ranking;
    bench.manager->async_embed(a, {}, rows.handler());
    bench.manager->async_rerank(a, "query", {}, ranking.handler());
    CHECK(rows.calls() + ranking.calls() == 0);
    bench.run();
    CHECK(rows.value().empty());
    CHECK(ranking.value().empty());
    CHECK(bench.world->counts().loads == 0);
    bench.check_end();
}

TEST_CASE("ModelManager: the two slots are two: one key in each, one queue each") {
    ManagerBench bench({.embedding = {.max_leases = 1, .max_queue = 1}, .reranker = {.keep_alive = 0ms}});
    auto& models = *bench.manager;
    Outcome<Lease<testing::FakeEmbedder>> held;
    Outcome<Embeddings> waits;
    Outcome<Embeddings> refused;
    Outcome<Ranking> ranked;
    models.embedding().async_acquire(a, held.handler());
    bench.run();
    models.async_embed(a, {"text"}, waits.handler());
    models.async_embed(a, {"text"}, refused.handler());
    models.async_rerank(a, "query", {"text"}, ranked.handler());
    bench.run();
    CHECK(refused.code() == errc::overloaded);
    CHECK_THAT(std::string(refused.error().what()), contains_text("'embedding'"));
    CHECK(ranked.value().size() == 1);
    const ManagerStatus status = models.status();
    CHECK(status.embedding.name == "embedding");
    CHECK(status.embedding.waiting == 1);
    CHECK(status.reranker.name == "reranker");
    CHECK(status.reranker.residents.empty());
    std::ostringstream text;
    text << status;
    CHECK_THAT(text.str(), contains_text("embedding: generation 1") && contains_text("reranker: generation 2"));
    held.value().release();
    bench.run();
    CHECK(waits.value().size() == 1);
    bench.check_end();
}

TEST_CASE("ModelManager: inference_failed and bad_result carry all that a caller needs", "[R9]") {
    ManagerBench bench;
    auto& models = *bench.manager;
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("out of scratch memory"));
    Outcome<Embeddings> failed;
    models.async_embed(a, {"text"}, failed.handler());
    bench.run();
    const Error error = failed.error();
    CHECK(error.code() == errc::inference_failed);
    CHECK(error.code() == condition::backend);
    CHECK(error.key() == a);
    CHECK(error.stage() == Stage::inference);
    CHECK_FALSE(error.retry_after());
    CHECK(nested_in(failed.exception()) == "out of scratch memory");
    CHECK_THAT(std::string(error.what()),
               contains_text("inference_failed") && contains_text("a@f16") && contains_text("out of scratch memory"));
    REQUIRE(bench.events.count(EventType::inference_failed) == 1);
    const Event event = bench.events.all(EventType::inference_failed).front();
    CHECK(event.slot == "embedding");
    CHECK(event.key == a);
    CHECK(event.generation == models.embedding().generation());
    CHECK(event.message == "out of scratch memory");

    bench.world->spoil_next(FakeFault::too_few, b);
    Outcome<Ranking> few;
    models.async_rerank(b, "query", {"one", "two"}, few.handler());
    bench.run();
    CHECK(few.code() == errc::bad_result);
    CHECK(few.error().key() == b);
    CHECK(few.error().stage() == Stage::inference);
    CHECK_THAT(std::string(few.error().what()), contains_text("1 scores for 2 documents"));

    // A model's own Error keeps its code.
    bench.world->fail_next(FakeStep::inference, a,
                           Error(errc::invalid_request, a, Stage::inference, "a text of 9,000 tokens"));
    Outcome<Embeddings> refused;
    models.async_embed(a, {"text"}, refused.handler());
    bench.run();
    CHECK(refused.code() == errc::invalid_request);
    // And a model that failed stays resident.
    Outcome<Embeddings> next;
    models.async_embed(a, {"text"}, next.handler());
    bench.run();
    CHECK(testing::answered_by(next.value()) == 1);
    bench.check_end();
}

TEST_CASE("ModelManager: many threads, two keys, one place: every answer is of the model that was asked for",
          "[R1][R2][R4][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    constexpr int threads = 4;
    constexpr int rounds = 200;
    std::atomic<int> answered = 0;
    std::atomic<int> wrong = 0;
    {
        Manager models{testing::FakeEmbeddingBackend(world),
                       testing::FakeRerankerBackend(world),
                       {.embedding = {.keep_alive = 0ms}, .reranker = {.max_leases = 2}}};
        std::vector<std::jthread> users;
        for (int thread = 0; thread < threads; ++thread) {
            users.emplace_back([&, thread] {
                for (int round = 0; round < rounds; ++round) {
                    const ModelKey& key = (thread + round / 8) % 2 == 0 ? a : b;
                    const Embeddings rows = models.embed(key, {"one", "two"});
                    const Ranking ranking = models.rerank(key, "query", {"short", "longer"});
                    const bool right = world->model(testing::answered_by(rows)).key == key && ranking[0].index == 1;
                    ++(right ? answered : wrong);
                }
            });
        }
        users.clear();
        CHECK(models.shutdown().clean());
        CHECK(models.status().embedding.counters.leases_granted == threads * rounds);
    }
    CHECK(answered == threads * rounds);
    CHECK(wrong == 0);
    const FakeCounts counts = world->counts();
    CHECK(counts.calls == 2 * threads * rounds);
    CHECK(counts.live == 0);
    // One place in each slot.
    CHECK(counts.most_resident <= 2);
    CHECK(world->violations().empty());
}

TEST_CASE("ModelManager: requests, cancels, unloads and a shutdown at once, and each request is answered once",
          "[R9][R12]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::thread_pool pool(3);
    constexpr int threads = 3;
    constexpr int rounds = 100;
    std::atomic<int> started = 0;
    std::atomic<int> completed = 0;
    {
        Manager models{testing::FakeEmbeddingBackend(world),
                       testing::FakeRerankerBackend(world),
                       {.embedding = {.keep_alive = 1ms, .max_leases = 2, .max_queue = 16}},
                       Executors::all(pool.get_executor())};
        std::vector<std::jthread> users;
        for (int thread = 0; thread < threads; ++thread) {
            users.emplace_back([&, thread] {
                for (int round = 0; round < rounds; ++round) {
                    started += 3;
                    models.async_embed(round % 3 == 0 ? a : b, {"text"}, {.timeout = round % 5 == 0 ? 1ms : 10s},
                                       [&](std::exception_ptr, const Embeddings&) { ++completed; });
                    models.async_rerank(a, "query", {"text"}, [&](std::exception_ptr, const Ranking&) { ++completed; });
                    models.embedding().async_unload(a, round % 2 == 0 ? UnloadMode::drain : UnloadMode::revoke,
                                                    [&](std::exception_ptr) { ++completed; });
                    if (thread == 0 && round == rounds / 2) {
                        ++started;
                        models.async_shutdown([&](std::exception_ptr, const ShutdownReport&) { ++completed; });
                    }
                }
            });
        }
        users.clear();
        CHECK(models.shutdown().clean());
        CHECK(world->counts().live == 0);
    }
    pool.join();
    CHECK(started == threads * rounds * 3 + 1);
    CHECK(completed == started);
    CHECK(world->violations().empty());
    CHECK(world.use_count() == 1);
}

}  // namespace model_manager_test
