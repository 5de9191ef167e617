// Backends whose type is erased: everything that they offer is passed on, nothing is copied; and keys that go to
// different backends.

#include "residency/backends/any.hpp"
#include "residency/backends/lexical.hpp"
#include "residency/testing/fake_async_backend.hpp"

#include "support/bench.hpp"
#include "support/memory.hpp"

#include <boost/asio/use_future.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency::test::any_backend_test {

namespace {

const ModelKey a("a", "f16");
const ModelKey b("b", "f16");

using Texts = std::vector<std::string>;

static_assert(std::is_nothrow_move_constructible_v<AnyEmbeddingBackend>);
static_assert(std::is_nothrow_move_assignable_v<AnyRerankerBackend>);
static_assert(!std::copy_constructible<AnyEmbeddingBackend>);
static_assert(std::constructible_from<AnyEmbeddingBackend, LexicalEmbeddingBackend>);
static_assert(!std::constructible_from<AnyEmbeddingBackend, LexicalRerankerBackend>);
static_assert(!std::constructible_from<AnyEmbeddingBackend, AnyRerankerBackend>);
static_assert(!std::constructible_from<AnyRerankerBackend, int>);

/// A backend of one type of models, which it makes without more ado.
template <class Model>
struct Loads {
    using model_type = Model;
    static std::unique_ptr<Model> load(const ModelKey& /*key*/) { return std::make_unique<Model>(); }
};

/// The model for a key of an erased backend.
template <class Backend>
[[nodiscard]] auto loaded_by(const Backend& backend, const ModelKey& key = a) {
    LoadContext context;
    return backend.load(key, context);
}

// What reached a model.
struct Seen {
    const std::string* texts = nullptr;
    std::size_t count = 0;
    std::optional<EmbedAs> as{};
    bool can_stop = false;
};
Seen seen;
const float* given = nullptr;

[[nodiscard]] Embeddings rows_for(std::span<const std::string> texts) {
    seen.texts = texts.data();
    seen.count = texts.size();
    Embeddings rows(texts.size(), 2);
    given = rows.values().data();
    return rows;
}

struct EmbedsPlainly {
    static Embeddings embed(std::span<const std::string> texts) { return rows_for(texts); }
};
struct EmbedsWithToken {
    static Embeddings embed(std::span<const std::string> texts, const std::stop_token& stop) {
        seen.can_stop = stop.stop_possible();
        return rows_for(texts);
    }
};
struct EmbedsAs {
    static Embeddings embed(std::span<const std::string> texts, EmbedAs as) {
        seen.as = as;
        return rows_for(texts);
    }
};
struct EmbedsAsWithToken {
    static Embeddings embed(std::span<const std::string> texts, EmbedAs as, const std::stop_token& stop) {
        seen.as = as;
        seen.can_stop = stop.stop_possible();
        return rows_for(texts);
    }
};

struct Reranks {
    static std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
        seen.texts = documents.data();
        return std::vector<float>(documents.size(), 1.0F);
    }
};
struct ReranksPairs : Reranks {
    using Reranks::rerank;
    static std::vector<float> rerank(std::span<const RerankPair> pairs, const std::stop_token& stop) {
        seen.count = pairs.size();
        seen.can_stop = stop.stop_possible();
        return std::vector<float>(pairs.size(), 2.0F);
    }
    static BatchLimits batch_limits() { return {8, 100}; }
};

struct SaysAll : EmbedsAs {
    static std::size_t max_concurrency() { return 3; }
    std::size_t memory_used() const { return used; }
    std::size_t used = 1000;
    static BatchLimits batch_limits() { return {4, 1000}; }
    static bool distinguishes() { return false; }
};

template <class Model>
void check_embeds(bool takes_as, bool takes_token) {
    const auto model = loaded_by(AnyEmbeddingBackend(Loads<Model>()));
    const Texts texts{"one", "two"};
    const std::stop_source stop;
    seen = {};
    const std::size_t before = Memory::here().allocations;
    const Embeddings rows = model->embed(texts, takes_as ? EmbedAs::query : EmbedAs::as_is, stop.get_token());
    // The answer's own, and nothing else is copied on the way.
    CHECK(Memory::here().allocations - before == 1);
    CHECK(rows.values().data() == given);
    CHECK(seen.texts == texts.data());
    CHECK(seen.count == 2);
    CHECK(seen.as == (takes_as ? std::optional(EmbedAs::query) : std::nullopt));
    CHECK(seen.can_stop == takes_token);
    CHECK(model->embed(texts).size() == 2);
    CHECK(model->distinguishes() == takes_as);
    if (!takes_as) {
        try {
            static_cast<void>(model->embed(texts, EmbedAs::document, {}));
            FAIL("a model that takes no EmbedAs embedded a document");
        } catch (const Error& error) {
            CHECK(error.code() == errc::invalid_request);
        }
    }
}

// One that embeds and reranks, and answers one of them asynchronously; what its backend gives is not changed.
struct EmbedsNowReranksLater : EmbedsPlainly {
    static asio::awaitable<std::vector<float>> rerank(std::string_view /*query*/,
                                                      std::span<const std::string> documents) {
        co_return std::vector<float>(documents.size(), 1.0F);
    }
};
struct LoadsConst {
    using model_type = const EmbedsNowReranksLater;
    static std::unique_ptr<const EmbedsNowReranksLater> load(const ModelKey& /*key*/) {
        return std::make_unique<const EmbedsNowReranksLater>();
    }
};

/// A manager over backends of fakes whose type is erased.
struct AnyBench : Bench {
    using Manager = ModelManager<AnyEmbeddingBackend, AnyRerankerBackend, VirtualClock>;

    void make(AnyEmbeddingBackend embedding, AnyRerankerBackend reranker) {
        ManagerOptions options;
        options.embedding.max_calls = options.reranker.max_calls = 1;
        options.observer = events.observer();
        manager.emplace(std::move(embedding), std::move(reranker), options, executors());
    }
    /// Notes how many texts each call is about.
    void watch() {
        world->on(FakeStep::inference, [this](const FakeCall& call) { calls.push_back(call.texts.size()); });
    }

    std::vector<std::size_t> calls;
    std::optional<Manager> manager;
};

/// A fake reranker that takes no pairs.
class OneQuery : public FakeModel {
public:
    using FakeModel::FakeModel;
    std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
        return infer(std::vector<std::string_view>(documents.begin(), documents.end()), {},
                     [&](std::uint64_t /*serial*/, std::optional<FakeFault> /*fault*/) {
                         return std::vector<float>(documents.size(), 1.0F);
                     });
    }
};

/// Knows one key.
struct KnowsA : Loads<EmbedsPlainly> {
    static bool knows(const ModelKey& key) { return key.name == "a"; }
};

/// Says what its models need, but for one key.
struct SaysNeed : Loads<EmbedsPlainly> {
    static std::optional<std::size_t> memory_needed(const ModelKey& key) {
        return key == b ? std::nullopt : std::optional(key.name.size());
    }
};

/// Throws `42` when it is asked, and on each load.
struct Throws : Loads<EmbedsPlainly> {
    static std::unique_ptr<EmbedsPlainly> load(const ModelKey& /*key*/) { throw std::out_of_range("no such shelf"); }
    static bool knows(const ModelKey& /*key*/) { throw std::out_of_range("no such list"); }
    static std::size_t memory_needed(const ModelKey& /*key*/) { throw std::out_of_range("no such box"); }
};

struct ThrowsWhenMoved : Loads<EmbedsPlainly> {
    explicit ThrowsWhenMoved(int moves) : moves_left(moves) {}
    ThrowsWhenMoved(ThrowsWhenMoved&& other) : moves_left(other.moves_left - 1) {  // NOLINT: it is to throw
        if (moves_left < 0) {
            throw std::runtime_error("it stays where it is");
        }
    }
    ~ThrowsWhenMoved() = default;
    ThrowsWhenMoved(const ThrowsWhenMoved&) = delete;
    ThrowsWhenMoved& operator=(const ThrowsWhenMoved&) = delete;
    ThrowsWhenMoved& operator=(ThrowsWhenMoved&&) = delete;
    int moves_left;
};

template <int Which>
struct ClosesEngineNumber : Loads<EmbedsPlainly> {
    static void close_engine() noexcept { ++closed; }
    static inline int closed = 0;
};
static_assert(ClosesEngine<AnyEmbeddingBackend> && ClosesEngine<AnyRerankerBackend>);

}  // namespace

// -- One backend ------------------------------------------------------------------------------------------------------

TEST_CASE("any: each form of embed is called with what it takes, and nothing is copied") {
    check_embeds<EmbedsPlainly>(false, false);
    check_embeds<EmbedsWithToken>(false, true);
    check_embeds<EmbedsAs>(true, false);
    check_embeds<EmbedsAsWithToken>(true, true);
}

TEST_CASE("any: a reranker is called with documents and, if it takes them, pairs") {
    const Texts documents{"one", "two"};
    const std::vector<RerankPair> pairs{{"q", "one"}, {"r", "two"}};
    const std::stop_source stop;
    const auto plain = loaded_by(AnyRerankerBackend(Loads<Reranks>()));
    seen = {};
    CHECK(plain->rerank("q", documents, {}) == std::vector<float>{1.0F, 1.0F});
    CHECK(seen.texts == documents.data());
    CHECK_FALSE(plain->joins_requests());
    CHECK_THROWS_AS(plain->rerank(pairs, {}), Error);

    const auto of_pairs = loaded_by(AnyRerankerBackend(Loads<ReranksPairs>()));
    CHECK(of_pairs->rerank("q", documents, {}) == std::vector<float>{1.0F, 1.0F});
    CHECK(of_pairs->rerank(pairs, stop.get_token()) == std::vector<float>{2.0F, 2.0F});
    CHECK(seen.count == 2);
    CHECK(seen.can_stop);
    CHECK(of_pairs->joins_requests());
    CHECK(of_pairs->batch_limits() == BatchLimits{8, 100});
}

TEST_CASE("any: what a model says of itself is passed on, and what it does not say stays unsaid") {
    const auto plain = loaded_by(AnyEmbeddingBackend(Loads<EmbedsPlainly>()));
    CHECK(plain->max_concurrency() == detail::concurrency_of(EmbedsPlainly()));
    CHECK(plain->batch_limits() == BatchLimits());
    CHECK_FALSE(plain->joins_requests());
    CHECK(plain->memory_used() == std::nullopt);
    const auto full = loaded_by(AnyEmbeddingBackend(Loads<SaysAll>()));
    CHECK(full->max_concurrency() == 3);
    CHECK(full->batch_limits() == BatchLimits{4, 1000});
    CHECK(full->joins_requests());
    CHECK_FALSE(full->distinguishes());
    CHECK(full->memory_used() == std::optional<std::size_t>(1000));
}

TEST_CASE("any: what a model holds is asked anew each time, of a reranker, too") {
    struct Grows : Reranks {
        std::size_t memory_used() const { return *bytes; }
        std::shared_ptr<std::size_t> bytes{};
    };
    struct LoadsGrowing {
        using model_type = Grows;
        std::unique_ptr<Grows> load(const ModelKey& /*key*/) const {
            auto model = std::make_unique<Grows>();
            model->bytes = bytes;
            return model;
        }
        std::shared_ptr<std::size_t> bytes = std::make_shared<std::size_t>(5);
    };
    LoadsGrowing backend;
    const auto bytes = backend.bytes;
    const auto model = loaded_by(AnyRerankerBackend(std::move(backend)));
    CHECK(model->memory_used() == std::optional<std::size_t>(5));
    *bytes = 6;
    CHECK(model->memory_used() == std::optional<std::size_t>(6));
}

TEST_CASE("any: a backend says what a model needs, and whether it says that") {
    const AnyEmbeddingBackend says{SaysNeed()};
    CHECK(says.says_memory_needed());
    CHECK(says.memory_needed("abc") == std::optional<std::size_t>(3));
    CHECK(says.memory_needed(b) == std::nullopt);
    const AnyEmbeddingBackend silent{Loads<EmbedsPlainly>()};
    CHECK_FALSE(silent.says_memory_needed());
    CHECK(silent.memory_needed(a) == std::nullopt);
    CHECK_FALSE(detail::says_memory_needed(silent));
    CHECK_THROWS_AS(AnyEmbeddingBackend(Throws()).memory_needed(a), std::out_of_range);
}

TEST_CASE("any: a load gets its context, its failure keeps its type, and null stays null") {
    const auto world = std::make_shared<FakeWorld>();
    const AnyEmbeddingBackend backend{testing::FakeEmbeddingBackend(world)};
    std::vector<float> done;
    world->on(FakeStep::load, [](const FakeCall& call) { call.context->progress(0.5F); });
    LoadContext context({}, {.progress = [&](float progress) { done.push_back(progress); }});
    auto model = backend.load(a, context);
    CHECK(done == std::vector<float>{0.5F});
    CHECK(world->counts(a).live == 1);
    model.reset();
    CHECK(world->counts(a).live == 0);

    world->spoil_next(FakeFault::null_model, a);
    CHECK(backend.load(a, context) == nullptr);
    const AnyEmbeddingBackend throws{Throws()};
    CHECK_THROWS_AS(loaded_by(throws), std::out_of_range);
    CHECK_THROWS_AS(throws.knows(a), std::out_of_range);
    CHECK_THROWS_AS(AnyEmbeddingBackend(ThrowsWhenMoved(0)), std::runtime_error);
    CHECK(AnyEmbeddingBackend(ThrowsWhenMoved(9)));
}

TEST_CASE("any: a backend says which keys it knows; one that does not may know any") {
    const AnyEmbeddingBackend one{KnowsA()};
    CHECK(one.knows(a));
    CHECK_FALSE(one.knows(b));
    CHECK(AnyEmbeddingBackend(Loads<EmbedsPlainly>()).knows(b));
}

TEST_CASE("any: an empty backend fails each load, and says why") {
    AnyEmbeddingBackend backend;
    CHECK_FALSE(backend);
    backend = LexicalEmbeddingBackend();
    CHECK(backend);
    AnyEmbeddingBackend other(std::move(backend));
    CHECK(loaded_by(other, "lexical")->embed(Texts{"text"}).size() == 1);
    // NOLINTNEXTLINE(bugprone-use-after-move): what is left is what is tested
    CHECK_FALSE(backend);
    CHECK(backend.knows(a));
    CHECK(backend.says_memory_needed());
    try {
        static_cast<void>(backend.memory_needed(a));
        FAIL("an empty backend said what it needs");
    } catch (const Error& error) {
        CHECK(error.code() == errc::load_failed);
        CHECK(error.key() == a);
    }
    AnyBench bench;
    bench.make(std::move(backend), {});
    Outcome<Embeddings> rows;
    Outcome<Ranking> ranking;
    bench.manager->async_embed(a, {"text"}, rows.handler());
    bench.manager->async_rerank(a, "query", {"document"}, ranking.handler());
    bench.run();
    for (const Error& error : {rows.error(), ranking.error()}) {
        CHECK(error.code() == errc::load_failed);
        CHECK(error.detail() == "the type-erased backend is empty: it was made without a backend, or moved from");
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("any: the engines of all erased backends are closed, each type's once a time") {
    using First = ClosesEngineNumber<1>;
    using Second = ClosesEngineNumber<2>;
    const AnyEmbeddingBackend first{First()};
    const AnyEmbeddingBackend again{First()};
    AnyEmbeddingBackend::close_engine();
    CHECK(First::closed == 1);
    CHECK(Second::closed == 0);
    const AnyEmbeddingBackend second{Second()};
    AnyRerankerBackend::close_engine();
    CHECK(First::closed == 2);
    CHECK(Second::closed == 1);
}

// -- In a manager -----------------------------------------------------------------------------------------------------

TEST_CASE("any: requests share the calls of a model with limits, and each gets its own rows", "[H24][R14]") {
    AnyBench bench;
    bench.world->set_batch_limits(a, {8});
    bench.watch();
    bench.make(testing::FakeEmbeddingBackend(bench.world), testing::FakeRerankerBackend(bench.world));
    const std::vector<Texts> asked{{"first"}, {"b", "cc"}, {"ddd"}, {"e", "ff", "b"}};
    std::vector<Outcome<Embeddings>> answers(asked.size());
    for (std::size_t index = 0; index < asked.size(); ++index) {
        bench.manager->async_embed(a, asked[index], answers[index].handler());
        if (index == 0) {
            run_ready(bench.control, bench.loading);
        }
    }
    bench.run();
    CHECK(bench.calls == std::vector<std::size_t>{1, 6});
    for (std::size_t index = 0; index < asked.size(); ++index) {
        REQUIRE(answers[index].calls() == 1);
        CHECK(testing::answered_by(answers[index].value(), asked[index]) != 0);
    }
    // One of more texts than a call takes is cut.
    bench.calls.clear();
    Outcome<Embeddings> large;
    const Texts many(20, "text");
    bench.manager->async_embed(a, many, large.handler());
    bench.run();
    CHECK(bench.calls == std::vector<std::size_t>{8, 8, 4});
    CHECK(testing::answered_by(large.value(), many) != 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("any: calls of a model without limits are neither joined nor split", "[H24]") {
    AnyBench bench;
    bench.watch();
    bench.make(testing::FakeEmbeddingBackend(bench.world), testing::FakeRerankerBackend(bench.world));
    std::vector<Outcome<Embeddings>> answers(3);
    bench.manager->async_embed(a, {"first"}, answers[0].handler());
    run_ready(bench.control, bench.loading);
    bench.manager->async_embed(a, {"b", "cc"}, answers[1].handler());
    bench.manager->async_embed(a, Texts(20, "text"), answers[2].handler());
    bench.run();
    CHECK(bench.calls == std::vector<std::size_t>{1, 2, 20});
    for (Outcome<Embeddings>& answer : answers) {
        CHECK(answer.calls() == 1);
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("any: a reranker with limits joins queries only if it takes pairs", "[H24]") {
    const bool takes_pairs = GENERATE(true, false);
    AnyBench bench;
    bench.world->set_batch_limits(a, {8});
    bench.watch();
    bench.make({}, takes_pairs ? AnyRerankerBackend(testing::FakeRerankerBackend(bench.world))
                               : AnyRerankerBackend(testing::FakeBackend<OneQuery>(bench.world)));
    std::vector<Outcome<Ranking>> answers(4);
    bench.manager->async_rerank(a, "q", {"first"}, answers[0].handler());
    run_ready(bench.control, bench.loading);
    bench.manager->async_rerank(a, "r", {"b", "cc"}, answers[1].handler());
    bench.manager->async_rerank(a, "s", {"ddd"}, answers[2].handler());
    bench.run();
    CHECK(bench.calls == (takes_pairs ? std::vector<std::size_t>{1, 3} : std::vector<std::size_t>{1, 2, 1}));
    // Documents of one query are cut either way.
    bench.calls.clear();
    bench.manager->async_rerank(a, "t", Texts(10, "document"), answers[3].handler());
    bench.run();
    CHECK(bench.calls == std::vector<std::size_t>{8, 2});
    for (Outcome<Ranking>& answer : answers) {
        REQUIRE(answer.calls() == 1);
        CHECK_FALSE(answer.exception());
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("any: the slot holds what an erased model takes at once, and shows what it distinguishes", "[R8]") {
    AnyBench bench;
    bench.world->set_max_concurrency(a, 2);
    bench.make(testing::FakeEmbeddingBackend(bench.world), {});
    std::vector<Outcome<Lease<AnyEmbeddingModel>>> leases(3);
    for (auto& lease : leases) {
        bench.manager->embedding().async_acquire(a, lease.handler());
    }
    bench.run();
    CHECK((leases[0].calls() == 1 && leases[1].calls() == 1 && leases[2].calls() == 0));
    CHECK(bench.manager->status().embedding.residents.at(0).distinguishes);
    CHECK(leases[0].value()->embed(Texts{"text"}).size() == 1);
    for (auto& lease : leases) {
        lease.value().release();
        bench.run();
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("any: asynchronous models behind the same type as synchronous ones, one manager with both",
          "[H39][H24][R14]") {
    AnyBench bench;
    bench.world->set_batch_limits(a, {8});
    bench.watch();
    bench.make(route({{"a", testing::FakeAsyncEmbeddingBackend(bench.world)},
                      {"b", testing::FakeEmbeddingBackend(bench.world)}}),
               testing::FakeAsyncRerankerBackend(bench.world));
    const auto gate = bench.world->block(FakeStep::inference, a);
    Outcome<Embeddings> waits;
    bench.manager->async_embed(a, {"first"}, waits.handler());
    bench.run();
    // It waits without a thread: all that there is runs in this one.
    CHECK(gate->held() == 1);
    const std::vector<Texts> asked{{"b", "cc"}, {"ddd"}, {"e", "ff", "b"}, Texts(20, "text")};
    std::vector<Outcome<Embeddings>> answers(asked.size());
    for (std::size_t index = 0; index < asked.size(); ++index) {
        bench.manager->async_embed(a, asked[index], answers[index].handler());
    }
    gate->open();
    bench.run();
    CHECK(waits.calls() == 1);
    for (std::size_t index = 0; index < asked.size(); ++index) {
        REQUIRE(answers[index].calls() == 1);
        CHECK(testing::answered_by(answers[index].value(), asked[index]) != 0);
    }
    CHECK(*std::max_element(bench.calls.begin(), bench.calls.end()) <= 8);
    CHECK(bench.calls.size() < asked.size() + 4);
    Outcome<Embeddings> synchronous;
    bench.manager->async_embed(b, {"text"}, synchronous.handler());
    std::vector<Outcome<Ranking>> rankings(2);
    bench.manager->async_rerank(a, "q", {"x", "yy"}, rankings[0].handler());
    bench.manager->async_rerank(a, "r", {"zzz"}, rankings[1].handler());
    bench.run();
    CHECK(synchronous.value().size() == 1);
    CHECK(rankings[0].value().front().index == 1);
    CHECK(rankings[1].value().size() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("any: under a lease a model is awaited whatever it is, and an asynchronous one refuses to be called",
          "[H39]") {
    const auto world = std::make_shared<FakeWorld>();
    const Texts texts{"x", "yy"};
    const auto awaited = [](auto awaitable) {
        asio::io_context context;
        auto answer = asio::co_spawn(context, std::move(awaitable), asio::use_future);
        context.run();
        return answer.get();
    };
    const auto later = loaded_by(AnyEmbeddingBackend(testing::FakeAsyncEmbeddingBackend(world)));
    CHECK(later->answers_asynchronously());
    CHECK(awaited(later->embed_later(texts, EmbedAs::query, {})).size() == 2);
    CHECK_THROWS_AS(later->embed(texts), Error);
    const auto now = loaded_by(AnyEmbeddingBackend(testing::FakeEmbeddingBackend(world)));
    CHECK_FALSE(now->answers_asynchronously());
    CHECK(awaited(now->embed_later(texts, EmbedAs::as_is, {})).size() == 2);
    const auto reranks_later = loaded_by(AnyRerankerBackend(testing::FakeAsyncRerankerBackend(world)));
    CHECK(awaited(reranks_later->rerank_later("q", texts, {})).size() == 2);
    CHECK_THROWS_AS(reranks_later->rerank("q", texts, {}), Error);
    const std::vector<RerankPair> pairs{{"q", "x"}};
    CHECK(awaited(reranks_later->rerank_later(pairs, {})).size() == 1);
    CHECK_THROWS_AS(reranks_later->rerank(pairs, {}), Error);
    const auto one_query = loaded_by(AnyRerankerBackend(testing::FakeBackend<OneQuery>(world)));
    CHECK(awaited(one_query->rerank_later("q", texts, {})).size() == 2);
    CHECK_THROWS_AS(awaited(one_query->rerank_later(pairs, {})), Error);
}

TEST_CASE("any: a model of both kinds answers asynchronously as that of the kind does which it is held as", "[H39]") {
    const auto embedder = loaded_by(AnyEmbeddingBackend(LoadsConst()));
    CHECK_FALSE(embedder->answers_asynchronously());
    CHECK(embedder->embed(Texts{"x"}).size() == 1);
    CHECK(loaded_by(AnyRerankerBackend(LoadsConst()))->answers_asynchronously());
    Bench bench;
    // The type of the models may be const, type-erased or not.
    ModelManager<LoadsConst, AnyRerankerBackend, VirtualClock> models{{}, LoadsConst(), {}, bench.executors()};
    Outcome<Embeddings> rows;
    Outcome<Ranking> ranking;
    Outcome<Lease<const EmbedsNowReranksLater>> lease;
    models.async_embed(a, {"x"}, rows.handler());
    models.async_rerank(a, "q", {"x"}, ranking.handler());
    models.embedding().async_acquire(a, lease.handler());
    bench.run();
    CHECK(rows.value().size() == 1);
    CHECK(ranking.value().size() == 1);
    CHECK(lease.value()->embed(Texts{"x"}).size() == 1);
    lease.value().release();
    bench.check_ends_clean(models);
}

// -- Routes -----------------------------------------------------------------------------------------------------------

TEST_CASE("route: a pattern is compared with the name, or, if it has an @, with name@quantization") {
    const auto matches = [](const char* pattern, const ModelKey& key) {
        return RerankerRoute{pattern, {}}.matches(key);
    };
    const ModelKey key("minilm-l6", "q8_0");
    for (const char* pattern : {"*", "minilm-l6", "minilm*", "*l6", "m*l*6", "**", "minilm-l?", "?inilm-l6", "*@q8_0",
                                "minilm-l6@q8_0", "*@*", "mini*@q?_0", "m*m*@*", "*m-l6"}) {
        INFO(pattern);
        CHECK(matches(pattern, key));
    }
    for (const char* pattern : {"", "minilm", "l6", "*@", "@*", "*@f16", "minilm-l6@", "minilm-l6?", "*l7", "m*x*", "?",
                                "minilm-l6@q8_0?", "Minilm-l6"}) {
        INFO(pattern);
        CHECK_FALSE(matches(pattern, key));
    }
    CHECK(matches("plain@", "plain"));
    CHECK(matches("plain", "plain"));
    CHECK(matches("*@*", "plain"));
    CHECK_FALSE(matches("*@?*", "plain"));
    // What no backtracking without a memory could do in time.
    CHECK_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*ab", ModelKey(std::string(4000, 'a'))));
}

TEST_CASE("route: a key goes to the first backend whose pattern matches, and one that matches none is unknown",
          "[H5]") {
    AnyBench bench;
    const auto other = std::make_shared<FakeWorld>();
    bench.make(route({{"a*", testing::FakeEmbeddingBackend(bench.world)},
                      {"*@f16", testing::FakeEmbeddingBackend(other)},
                      {"a", AnyEmbeddingBackend(Throws())}}),
               route({{"*", testing::FakeRerankerBackend(bench.world)}}));
    const auto embed = [&](const ModelKey& key) {
        Outcome<Embeddings> answer;
        bench.manager->async_embed(key, {"text"}, answer.handler());
        bench.run();
        REQUIRE(answer.calls() == 1);
        return answer;
    };
    CHECK_FALSE(embed(a).exception());
    CHECK(bench.world->counts(a).loads == 1);
    CHECK_FALSE(embed(b).exception());
    CHECK(other->counts(b).loads == 1);
    CHECK(embed({"b", "q8_0"}).code() == errc::unknown_model);
    // The model that is there stays.
    CHECK(other->counts(b).unloads == 0);
    Outcome<Ranking> ranking;
    bench.manager->async_rerank(b, "query", {"document"}, ranking.handler());
    bench.run();
    CHECK_FALSE(ranking.exception());
    bench.check_ends_clean(*bench.manager);
    CHECK(other->counts().live == 0);
}

TEST_CASE("route: the backend that a key goes to is asked whether it knows it, and routes may lead to routes") {
    std::vector<EmbeddingRoute> table;
    table.push_back({"a*", route({{"a", KnowsA()}, {"ab", Loads<EmbedsPlainly>()}})});
    table.push_back({"b", KnowsA()});
    const AnyEmbeddingBackend backend = route(std::move(table));
    CHECK(backend.knows("a"));
    CHECK(backend.knows("ab"));
    CHECK_FALSE(backend.knows("abc"));
    CHECK_FALSE(backend.knows("b"));
    CHECK_FALSE(backend.knows("c"));
    // A model is held once, through however many routes its key went.
    const auto model = loaded_by(backend, "ab");
    CHECK(dynamic_cast<detail::HeldEmbeddingModel<EmbedsPlainly>*>(model.get()) != nullptr);
    try {
        static_cast<void>(loaded_by(backend, "c"));
        FAIL("a key without a route was loaded");
    } catch (const Error& error) {
        CHECK(error.code() == errc::unknown_model);
        CHECK(error.key() == ModelKey("c"));
    }
}

TEST_CASE("route: the backend that a key goes to says what it needs, and the table says it if all do") {
    const AnyEmbeddingBackend some = route({{"a*", SaysNeed()}, {"b*", Loads<EmbedsPlainly>()}});
    CHECK_FALSE(some.says_memory_needed());
    CHECK(some.memory_needed("abc") == std::optional<std::size_t>(3));
    CHECK(some.memory_needed("b") == std::nullopt);
    const AnyEmbeddingBackend all = route({{"a*", SaysNeed()}, {"l", LexicalEmbeddingBackend()}});
    CHECK(all.says_memory_needed());
    CHECK(all.memory_needed("l") == std::optional(LexicalEmbeddingBackend::memory_needed("l")));
    CHECK(route({{"*", route({{"a", SaysNeed()}})}}).says_memory_needed());
    CHECK_FALSE(route({{"*", route({{"a", Loads<EmbedsPlainly>()}})}}).says_memory_needed());
    try {
        static_cast<void>(all.memory_needed("c"));
        FAIL("a key without a route was sized");
    } catch (const Error& error) {
        CHECK(error.code() == errc::unknown_model);
        CHECK(error.key() == ModelKey("c"));
    }
}

TEST_CASE("route: a function chooses the backend, or none") {
    AnyEmbeddingBackend lexical{LexicalEmbeddingBackend()};
    AnyRerankerBackend rerankers{LexicalRerankerBackend()};
    const AnyEmbeddingBackend embedding =
        route([&](const ModelKey& key) { return key.name == "lexical" ? &lexical : nullptr; });
    const AnyRerankerBackend reranker =
        route([&](const ModelKey& key) -> const AnyRerankerBackend* { return key == a ? nullptr : &rerankers; });
    CHECK(embedding.knows("lexical"));
    CHECK_FALSE(embedding.knows(a));
    CHECK(loaded_by(embedding, "lexical")->embed(Texts{"text"}).size() == 1);
    CHECK_THROWS_AS(loaded_by(embedding, a), Error);
    CHECK(embedding.says_memory_needed());
    CHECK(embedding.memory_needed("lexical") == lexical.memory_needed("lexical"));
    CHECK_THROWS_AS(embedding.memory_needed(a), Error);
    CHECK((reranker.knows("b") && !reranker.knows(a)));
    CHECK(loaded_by(reranker, "b")->rerank("q", Texts{"text"}, {}).size() == 1);
}

TEST_CASE("route: a table with an empty backend is refused by its pattern; one without lines knows no key") {
    try {
        static_cast<void>(route({{"a*", LexicalEmbeddingBackend()}, {"b*", AnyEmbeddingBackend()}}));
        FAIL("an empty backend was taken");
    } catch (const std::invalid_argument& error) {
        CHECK(std::string(error.what()) == "residency: route: the backend of pattern 'b*' is empty");
    }
    CHECK_FALSE(route(std::vector<RerankerRoute>()).knows(a));
}

}  // namespace residency::test::any_backend_test
