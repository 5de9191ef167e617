#include "residency/testing/fake_backend.hpp"

#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace fake_backend_test {

using namespace residency;
using namespace residency::testing;
using namespace std::chrono_literals;

static_assert(ModelBackend<FakeBackend<FakeModel>>);
static_assert(EmbeddingBackend<FakeEmbeddingBackend> && !RerankerBackend<FakeEmbeddingBackend>);
static_assert(RerankerBackend<FakeRerankerBackend> && !EmbeddingBackend<FakeRerankerBackend>);
// `{}` makes one, as in `ModelManager<...> models{{}, {}}`.
static_assert(std::is_convertible_v<FakeEmbeddingBackend (*)(), FakeEmbeddingBackend (*)()>);

namespace {

const ModelKey a{"a", "f16"};
const ModelKey b{"b", "f16"};

struct Fixture {
    std::shared_ptr<FakeWorld> world = std::make_shared<FakeWorld>();
    FakeEmbeddingBackend embedding{world};
    FakeRerankerBackend reranking{world};

    std::unique_ptr<FakeEmbedder> load(const ModelKey& key = a, std::stop_token stop = {}) {
        LoadContext context(std::move(stop));
        return embedding.load(key, context);
    }
    std::unique_ptr<FakeReranker> load_reranker(const ModelKey& key = b) {
        LoadContext context;
        return reranking.load(key, context);
    }
};

FakeEmbeddingBackend from_braces(FakeEmbeddingBackend backend) { return backend; }

}  // namespace

TEST_CASE("The world counts what lives and what is gone, by key and in all") {
    Fixture f;
    CHECK(f.world->counts().loads == 0);
    auto first = f.load(a);
    auto second = f.load_reranker(b);
    CHECK(f.world->counts().live == 2);
    CHECK(f.world->counts(a).live == 1);
    CHECK(f.world->counts(b).live == 1);
    CHECK(f.world->counts("unknown").live == 0);

    first.reset();
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.world->counts(a).unloads == 1);
    CHECK(f.world->counts(b).unloads == 0);
    second.reset();

    const FakeCounts all = f.world->counts();
    CHECK(all.loads == 2);
    CHECK(all.loading == 0);
    CHECK(all.live == 0);
    CHECK(all.unloads == 2);
    CHECK(all.most_resident == 2);
    CHECK(all.most_loading == 1);
    CHECK(f.world->counts(a).most_resident == 1);
    CHECK(f.world->violations().empty());
}

TEST_CASE("A backend from nothing has a world of its own, a copy shares it") {
    const FakeEmbeddingBackend mine = from_braces({});
    const FakeEmbeddingBackend copy = mine;  // NOLINT(performance-unnecessary-copy-initialization)
    const FakeEmbeddingBackend other;
    CHECK(&mine.world() == &copy.world());
    CHECK(&mine.world() != &other.world());
}

TEST_CASE("An embedding shows which model gave it, for which text") {
    Fixture f;
    const auto first = f.load(a);
    const auto second = f.load(b);
    const std::vector<std::string> texts{"short", "a longer one", "short"};
    const Embeddings rows = second->embed(texts);
    REQUIRE(rows.size() == 3);
    CHECK(rows.dimension() == fake_dimension);
    CHECK(answered_by(rows) == second->serial());
    CHECK(answered_by(rows) != first->serial());
    CHECK(f.world->model(answered_by(rows)).key == b);
    for (std::size_t index = 0; index < texts.size(); ++index) {
        const auto expected = fake_row(second->serial(), texts[index]);
        CHECK(std::equal(expected.begin(), expected.end(), rows[index].begin()));
    }
    CHECK(fake_row(1, "ab") != fake_row(1, "ba"));
    CHECK(answered_by(rows, texts) == second->serial());
    CHECK_THROWS_AS(answered_by(rows, std::vector<std::string>{"a longer one", "short", "short"}), std::logic_error);
    CHECK_THROWS_AS(answered_by(rows, std::vector<std::string>{"short"}), std::logic_error);
    CHECK(second->embed({}).empty());
}

TEST_CASE("A ranking shows which model gave it") {
    Fixture f;
    const auto first = f.load_reranker(a);
    const auto second = f.load_reranker(b);
    const std::vector<std::string> documents{"mid size", "s", "the longest of all"};
    const Ranking ranking = rank(second->rerank("query", documents));
    REQUIRE(ranking.size() == 3);
    CHECK(ranking[0].index == 2);
    CHECK(ranking[1].index == 0);
    CHECK(ranking[2].index == 1);
    CHECK(answered_by(ranking) == second->serial());
    CHECK(answered_by(ranking) != first->serial());
    CHECK(fake_score(4095, std::string(10'000, 'x')) == 4095.0F * 4096.0F + 4095.0F);
}

TEST_CASE("An answer put together from several models is found out") {
    Embeddings rows(2, fake_dimension);
    const auto put = [&rows](std::size_t row, std::uint64_t serial) {
        const auto values = fake_row(serial, "text");
        std::copy(values.begin(), values.end(), rows[row].begin());
    };
    put(0, 1);
    put(1, 1);
    CHECK(answered_by(rows) == 1);
    put(1, 2);
    CHECK_THROWS_AS(answered_by(rows), std::logic_error);
    CHECK_THROWS_AS(answered_by(Embeddings()), std::logic_error);
    CHECK_THROWS_AS(answered_by(Embeddings(1, fake_dimension + 1)), std::logic_error);

    CHECK(answered_by(Ranking{{0, fake_score(7, "abc")}, {1, fake_score(7, "a")}}) == 7);
    CHECK_THROWS_AS(answered_by(Ranking{{0, fake_score(7, "abc")}, {1, fake_score(6, "a")}}), std::logic_error);
    CHECK_THROWS_AS(answered_by(Ranking{}), std::logic_error);
}

TEST_CASE("Calls fail as they were asked to, in order, and are right again afterwards") {
    Fixture f;
    f.world->fail_next(FakeStep::load, a, std::runtime_error("no such file"), 2);
    f.world->fail_next(FakeStep::load, a, 42);
    f.world->fail_next(FakeStep::load, a, std::make_exception_ptr(Error(errc::invalid_request, a, Stage::load)));
    CHECK_THROWS_WITH(f.load(a), "no such file");
    CHECK(f.load(b) != nullptr);
    CHECK_THROWS_WITH(f.load(a), "no such file");
    CHECK_THROWS_AS(f.load(a), int);
    CHECK_THROWS_AS(f.load(a), Error);
    CHECK(f.load(a) != nullptr);

    const FakeCounts counts = f.world->counts(a);
    CHECK(counts.loads == 5);
    CHECK(counts.failed_loads == 4);
    CHECK(counts.loading == 0);
    CHECK(counts.unloads == 1);
    CHECK(counts.live == 0);
}

TEST_CASE("An inference fails as it was asked to, and is counted all the same") {
    Fixture f;
    const auto model = f.load(a);
    const std::vector<std::string> texts{"text"};
    f.world->fail_next(FakeStep::inference, a, std::runtime_error("out of memory"));
    CHECK_THROWS_WITH(model->embed(texts), "out of memory");
    CHECK(answered_by(model->embed(texts)) == model->serial());
    CHECK(f.world->counts(a).calls == 2);
    CHECK(f.world->counts(a).calling == 0);
    CHECK(f.world->model(model->serial()).calls == 2);
    CHECK_THROWS_AS(f.world->fail_next(FakeStep::unload, a, 42), std::invalid_argument);
}

TEST_CASE("Answers are wrong as they were asked to be") {
    Fixture f;
    const auto embedder = f.load(a);
    const auto reranker = f.load_reranker(b);
    const std::vector<std::string> texts{"one", "two"};

    for (const FakeFault fault : {FakeFault::too_few, FakeFault::too_many, FakeFault::nan}) {
        f.world->spoil_next(fault, a);
        f.world->spoil_next(fault, b);
    }
    CHECK(embedder->embed(texts).size() == 1);
    CHECK(embedder->embed(texts).size() == 3);
    const Embeddings nan = embedder->embed(texts);
    REQUIRE(nan.size() == 2);
    CHECK(std::isnan(nan.values().back()));
    CHECK_FALSE(std::isnan(nan.values().front()));
    CHECK(answered_by(embedder->embed(texts)) == embedder->serial());

    CHECK(reranker->rerank("q", texts).size() == 1);
    CHECK(reranker->rerank("q", texts).size() == 3);
    const std::vector<float> nans = reranker->rerank("q", texts);
    REQUIRE(nans.size() == 2);
    CHECK(std::isnan(nans.back()));
    CHECK_FALSE(std::isnan(nans.front()));
    CHECK(answered_by(rank(reranker->rerank("q", texts))) == reranker->serial());
}

TEST_CASE("A load gives no model if it was asked to") {
    Fixture f;
    f.world->spoil_next(FakeFault::null_model, a);
    CHECK(f.load(a) == nullptr);
    CHECK(f.world->counts(a).failed_loads == 1);
    CHECK(f.world->counts(a).loading == 0);
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.load(a) != nullptr);
}

TEST_CASE("A hook sees each call") {
    Fixture f;
    std::vector<std::string> seen;
    const auto hook = [&](const FakeCall& call) {
        seen.push_back(to_string(call.key) + ' ' + std::to_string(call.serial) + ' ' + std::to_string(call.rows) +
                       (call.context != nullptr ? " loads" : ""));
    };
    for (const FakeStep step : {FakeStep::load, FakeStep::inference, FakeStep::unload}) {
        f.world->on(step, hook);
    }
    f.load(b).reset();
    auto model = f.load(a);
    (void)model->embed(std::vector<std::string>(3));
    model.reset();
    CHECK(seen ==
          std::vector<std::string>{"b@f16 1 0 loads", "b@f16 1 0", "a@f16 2 0 loads", "a@f16 2 3", "a@f16 2 0"});

    f.world->on(FakeStep::load, {});
    f.load(a).reset();
    CHECK(seen.size() == 6);
}

TEST_CASE("A hook fails its call, makes it slow, logs for a load, and may ask the world") {
    Fixture f;
    VirtualClock::reset();
    f.world->on(FakeStep::load, [&](const FakeCall& call) {
        call.context->progress(0.5F);
        VirtualClock::advance(3s);
        if (f.world->counts(call.key).loads == 2) {
            throw std::runtime_error("the second load");
        }
    });
    std::vector<float> progress;
    LoadContext context({}, {.progress = [&](float done) { progress.push_back(done); }});
    CHECK(f.embedding.load(a, context) != nullptr);
    CHECK_THROWS_WITH(f.embedding.load(a, context), "the second load");
    CHECK(progress == std::vector<float>{0.5F, 0.5F});
    CHECK(VirtualClock::now().time_since_epoch() == 6s);
    CHECK(f.world->counts(a).failed_loads == 1);
}

TEST_CASE("A blocked load waits for its gate; others do not") {
    Fixture f;
    const auto gate = f.world->block(FakeStep::load, a);
    std::unique_ptr<FakeEmbedder> loaded;
    std::jthread loading([&] { loaded = f.load(a); });
    gate->await_held();
    CHECK(f.world->counts(a).loading == 1);
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.load(b) != nullptr);
    CHECK(f.world->counts().most_loading == 2);
    gate->open();
    loading.join();
    CHECK(loaded != nullptr);
    CHECK(f.world->counts(a).loading == 0);
    CHECK(f.load(a) != nullptr);
}

TEST_CASE("A blocked call honours its stop_token only if it was asked to") {
    Fixture f;
    std::stop_source stop;
    stop.request_stop();

    const auto honours = f.world->block(FakeStep::load, a, FakeStop::honour);
    try {
        (void)f.load(a, stop.get_token());
        FAIL("the load was not stopped");
    } catch (const Error& error) {
        CHECK(error.code() == operation_aborted());
        CHECK(error.stage() == Stage::load);
        CHECK(error.key() == a);
    }
    CHECK(f.world->counts(a).failed_loads == 1);

    const auto model = f.load(b);
    const auto inference = f.world->block(FakeStep::inference, b, FakeStop::honour);
    try {
        (void)model->embed(std::vector<std::string>(1), stop.get_token());
        FAIL("the inference was not stopped");
    } catch (const Error& error) {
        CHECK(error.code() == operation_aborted());
        CHECK(error.stage() == Stage::inference);
    }

    const auto ignores = f.world->block(FakeStep::load, a);
    std::unique_ptr<FakeEmbedder> loaded;
    std::jthread loading([&] { loaded = f.load(a, stop.get_token()); });
    ignores->await_held();
    ignores->open();
    loading.join();
    CHECK(loaded != nullptr);
}

TEST_CASE("A model lives until its blocked destructor has ended, and its threads are noted") {
    Fixture f;
    auto model = f.load(a);
    const std::uint64_t serial = model->serial();
    const auto gate = f.world->block(FakeStep::unload, a);
    std::jthread unloading([&] { model.reset(); });
    const std::thread::id unloader = unloading.get_id();
    gate->await_held();
    CHECK(f.world->counts(a).live == 1);
    CHECK(f.world->counts(a).unloads == 0);
    CHECK_FALSE(f.world->model(serial).unloaded_on.has_value());
    gate->open();
    f.world->await(a, [](const FakeCounts& counts) { return counts.unloads == 1; });
    CHECK(f.world->counts(a).live == 0);
    CHECK(f.world->model(serial).loaded_on == std::this_thread::get_id());
    CHECK(f.world->model(serial).unloaded_on == std::optional(unloader));
}

TEST_CASE("The most calls at once are noted for each model") {
    Fixture f;
    const auto model = f.load(a);
    CHECK(model->max_concurrency() == static_cast<std::size_t>(-1));
    const auto gate = f.world->block(FakeStep::inference, a);
    {
        std::vector<std::jthread> callers;
        for (int caller = 0; caller < 3; ++caller) {
            callers.emplace_back([&] { (void)model->embed(std::vector<std::string>(1)); });
        }
        f.world->await([](const FakeCounts& counts) { return counts.calling == 3; });
        CHECK(f.world->model(model->serial()).calling == 3);
        gate->open();
    }
    const FakeModelRecord record = f.world->model(model->serial());
    CHECK(record.most_calling == 3);
    CHECK(record.calling == 0);
    CHECK(record.calls == 3);
    CHECK(f.world->counts().most_calling == 3);
    CHECK(f.world->violations().empty());
}

TEST_CASE("More calls at once than a model takes are a violation") {
    Fixture f;
    f.world->set_max_concurrency(a, 1);
    const auto model = f.load(a);
    CHECK(model->max_concurrency() == 1);
    CHECK(f.load(b)->max_concurrency() == static_cast<std::size_t>(-1));
    (void)model->embed(std::vector<std::string>(1));
    (void)model->embed(std::vector<std::string>(1));
    CHECK(f.world->violations().empty());

    const auto gate = f.world->block(FakeStep::inference, a);
    {
        std::jthread first([&] { (void)model->embed(std::vector<std::string>(1)); });
        gate->await_held(1);
        CHECK(f.world->violations().empty());
        std::jthread second([&] { (void)model->embed(std::vector<std::string>(1)); });
        gate->await_held(2);
        gate->open();
    }
    CHECK(f.world->violations() ==
          std::vector<std::string>{"model 1, a@f16, was called more often at once than it takes"});
}

TEST_CASE("A model destroyed under its call is a violation, and the call ends") {
    Fixture f;
    auto model = f.load(a);
    FakeEmbedder& called = *model;
    const auto gate = f.world->block(FakeStep::inference, a);
    Embeddings rows;
    {
        std::jthread caller([&] { rows = called.embed(std::vector<std::string>(1)); });
        gate->await_held();
        model.reset();
        gate->open();
    }
    CHECK(f.world->violations() == std::vector<std::string>{"model 1, a@f16, was destroyed while it was called"});
    CHECK(answered_by(rows) == 1);
}

TEST_CASE("Records of models long gone are dropped, those of the living never") {
    Fixture f;
    const auto living = f.load(b);
    constexpr std::size_t many = 10'000;
    for (std::size_t load = 0; load < many; ++load) {
        f.load(a).reset();
    }
    const std::vector<FakeModelRecord> models = f.world->models();
    CHECK(models.size() > 4096);
    CHECK(models.size() < many);
    CHECK(models.front().serial == living->serial());
    CHECK(models.back().serial == many + 1);
    CHECK_THROWS_AS(f.world->model(2), std::out_of_range);
    CHECK(f.world->counts(a).unloads == many);
}

TEST_CASE("The world outlives backends and models, and they it") {
    auto world = std::make_shared<FakeWorld>();
    const std::weak_ptr<FakeWorld> watched = world;
    auto backend = std::make_unique<FakeEmbeddingBackend>(world);
    LoadContext context;
    auto model = backend->load(a, context);
    backend.reset();
    world.reset();
    CHECK(answered_by(model->embed(std::vector<std::string>(1))) == 1);
    model.reset();
    CHECK(watched.expired());
}

namespace {

struct Counter : FakeModel {
    using FakeModel::FakeModel;
    std::size_t count(std::size_t rows) {
        return infer(rows, {},
                     [rows](std::uint64_t, std::optional<FakeFault> fault) { return rows_with(fault, rows); });
    }
};

struct FailsToBegin : FakeModel {
    FailsToBegin(std::shared_ptr<FakeWorld> world, const ModelKey& key, std::uint64_t serial)
        : FakeModel(std::move(world), key, serial) {
        throw std::runtime_error("no memory");
    }
};

}  // namespace

TEST_CASE("A model with a call of its own is counted like the others") {
    FakeBackend<Counter> backend;
    static_assert(ModelBackend<FakeBackend<Counter>>);
    LoadContext context;
    const auto model = backend.load(a, context);
    CHECK(model->count(7) == 7);
    backend.world().spoil_next(FakeFault::too_few, a);
    CHECK(model->count(7) == 6);
    CHECK(backend.world().counts(a).calls == 2);
}

TEST_CASE("A model whose constructor throws leaves nothing behind") {
    FakeBackend<FailsToBegin> backend;
    LoadContext context;
    CHECK_THROWS_WITH(backend.load(a, context), "no memory");
    const FakeCounts counts = backend.world().counts(a);
    CHECK(counts.live == 0);
    CHECK(counts.loading == 0);
    CHECK(counts.loads == 1);
    CHECK(counts.failed_loads == 1);
}

}  // namespace fake_backend_test
