#include "residency/backend.hpp"
#include "residency/backend_calls.hpp"
#include "residency/embed_as.hpp"

#include "support/catch.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace backend_test {

using namespace residency;

// Both sides of each concept: the least that satisfies it, and what is one thing short of it.
namespace {

using Texts = std::span<const std::string>;

struct Model {};

template <class M>
struct Loads {
    using model_type = M;
    std::unique_ptr<M> load(const ModelKey& /*key*/) { return std::make_unique<M>(); }
};

struct LoadsWithAToken {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey& key, std::stop_token stop);
};
struct LoadsWithAContext {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context);
};
struct LoadsWithAConstContext {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey& key, const LoadContext& context);
};
struct LoadsByValue {
    using model_type = Model;
    std::unique_ptr<Model> load(ModelKey key);
};
struct LoadsConst {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey& key) const;
};
struct LoadsStatically {
    using model_type = Model;
    static std::unique_ptr<Model> load(const ModelKey& key);
};
struct MovesOnly {
    using model_type = Model;
    MovesOnly() = default;
    MovesOnly(MovesOnly&&) = default;
    std::unique_ptr<Model> load(const ModelKey& key);
};

static_assert(ModelBackend<Loads<Model>>);
static_assert(ModelBackend<LoadsWithAToken>);
static_assert(ModelBackend<LoadsWithAContext>);
static_assert(ModelBackend<LoadsWithAConstContext>);
static_assert(ModelBackend<LoadsByValue>);
static_assert(ModelBackend<LoadsConst>);
static_assert(ModelBackend<LoadsStatically>);
static_assert(ModelBackend<MovesOnly>);

struct NamesNoModel {
    std::unique_ptr<Model> load(const ModelKey& key);
};
struct NamesNoClass {
    using model_type = int;
    std::unique_ptr<int> load(const ModelKey& key);
};
struct LoadsNothing {
    using model_type = Model;
};
struct LoadsWithoutAKey {
    using model_type = Model;
    std::unique_ptr<Model> load();
};
struct LoadsWithSomethingMore {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey& key, int device);
};
struct LoadsAPlainPointer {
    using model_type = Model;
    Model* load(const ModelKey& key);
};
struct LoadsASharedPointer {
    using model_type = Model;
    std::shared_ptr<Model> load(const ModelKey& key);
};
struct LoadsAReference {
    using model_type = Model;
    std::unique_ptr<Model>& load(const ModelKey& key);
};
struct LoadsAnotherModel {
    using model_type = Model;
    std::unique_ptr<int> load(const ModelKey& key);
};
class LoadsPrivately {
public:
    using model_type = Model;

private:
    std::unique_ptr<Model> load(const ModelKey& key);
};
struct DoesNotMove {
    using model_type = Model;
    DoesNotMove(DoesNotMove&&) = delete;
    std::unique_ptr<Model> load(const ModelKey& key);
};
struct ThrowsOnUnload {
    ~ThrowsOnUnload() noexcept(false) {}
};

static_assert(NamesModelType<LoadsNothing> && !NamesModelType<NamesNoModel> && !NamesModelType<NamesNoClass>);
static_assert(UnloadsWithoutThrowing<Loads<Model>> && !UnloadsWithoutThrowing<Loads<ThrowsOnUnload>>);
static_assert(LoadsModels<Loads<ThrowsOnUnload>> && !ModelBackend<Loads<ThrowsOnUnload>>);
static_assert(!LoadsModels<NamesNoModel>);
static_assert(!LoadsModels<LoadsNothing>);
static_assert(!LoadsModels<LoadsWithoutAKey>);
static_assert(!LoadsModels<LoadsWithSomethingMore>);
static_assert(!LoadsModels<LoadsAPlainPointer>);
static_assert(!LoadsModels<LoadsASharedPointer>);
static_assert(!LoadsModels<LoadsAReference>);
static_assert(!LoadsModels<LoadsAnotherModel>);
static_assert(!LoadsModels<LoadsPrivately>);
static_assert(LoadsModels<DoesNotMove> && !ModelBackend<DoesNotMove>);
static_assert(!ModelBackend<int>);

struct Embeds {
    Embeddings embed(Texts texts) { return {texts.size(), 1}; }
};
struct EmbedsWithAToken {
    Embeddings embed(Texts texts, std::stop_token stop);
};
struct EmbedsAs {
    Embeddings embed(Texts texts, EmbedAs as);
};
struct EmbedsAsWithAToken {
    Embeddings embed(Texts texts, EmbedAs as, std::stop_token stop);
};
struct EmbedsAsANumber {
    Embeddings embed(Texts texts, int as);
};
struct EmbedsAsLast {
    Embeddings embed(Texts texts, std::stop_token stop, EmbedAs as);
};
struct EmbedsConst {
    Embeddings embed(Texts texts) const;
};
struct EmbedsDoubles {
    std::vector<double> embed(Texts texts);
};
struct EmbedsNestedVectors {
    std::vector<std::vector<float>> embed(Texts texts);
};
struct EmbedsAVectorOfTexts {
    Embeddings embed(const std::vector<std::string>& texts);
};
struct EmbedsOneText {
    Embeddings embed(const std::string& text);
};

static_assert(EmbeddingModel<Embeds>);
static_assert(EmbeddingModel<EmbedsWithAToken>);
static_assert(EmbeddingModel<EmbedsConst>);
static_assert(!EmbeddingModel<Model>);
static_assert(!EmbeddingModel<EmbedsDoubles>);
static_assert(!EmbeddingModel<EmbedsNestedVectors>);
static_assert(!EmbeddingModel<EmbedsAVectorOfTexts>);
static_assert(!EmbeddingModel<EmbedsOneText>);

struct Reranks {
    std::vector<float> rerank(std::string_view /*query*/, Texts documents) {
        return std::vector<float>(documents.size());
    }
};
struct ReranksWithAToken {
    std::vector<float> rerank(std::string_view query, Texts documents, std::stop_token stop);
};
struct ReranksDoubles {
    std::vector<double> rerank(std::string_view query, Texts documents);
};
struct ReranksWithoutAQuery {
    std::vector<float> rerank(Texts documents);
};
struct ReranksTheOtherWayRound {
    std::vector<float> rerank(Texts documents, std::string_view query);
};

static_assert(RerankerModel<Reranks>);
static_assert(RerankerModel<ReranksWithAToken>);
static_assert(!RerankerModel<Model>);
static_assert(!RerankerModel<Embeds> && !EmbeddingModel<Reranks>);
static_assert(!RerankerModel<ReranksDoubles>);
static_assert(!RerankerModel<ReranksWithoutAQuery>);
static_assert(!RerankerModel<ReranksTheOtherWayRound>);

struct SaysNone {};
struct SaysZero {
    [[nodiscard]] static int max_concurrency() { return 0; }
};
struct SaysLess {
    [[nodiscard]] static int max_concurrency() { return -1; }
};
struct SaysThree {
    [[nodiscard]] std::size_t max_concurrency() const { return 3; }
};
struct SaysInWords {
    [[nodiscard]] std::string max_concurrency() const;
};
struct SaysAndChanges {
    std::size_t max_concurrency();
};

// What those above are made of.
static_assert(detail::HandsOver<std::unique_ptr<Model>, Model> &&
              detail::HandsOver<const std::unique_ptr<Model>, Model>);
static_assert(!detail::HandsOver<std::unique_ptr<Model>&, Model> && !detail::HandsOver<Model*, Model>);
static_assert(detail::LoadsWithContext<LoadsWithAContext> && !detail::LoadsWithContext<LoadsWithAToken>);
static_assert(detail::LoadsWithToken<LoadsWithAToken> && !detail::LoadsWithToken<LoadsConst>);
static_assert(detail::LoadsPlainly<LoadsConst> && !detail::LoadsPlainly<LoadsWithAContext>);
static_assert(detail::EmbedsWithToken<EmbedsWithAToken> && !detail::EmbedsWithToken<Embeds>);
static_assert(detail::EmbedsPlainly<Embeds> && !detail::EmbedsPlainly<EmbedsWithAToken>);
static_assert(detail::EmbedsAs<EmbedsAs> && !detail::EmbedsAs<Embeds> && !detail::EmbedsAs<EmbedsWithAToken>);
static_assert(detail::EmbedsAsWithToken<EmbedsAsWithAToken> && !detail::EmbedsAsWithToken<EmbedsAs>);
static_assert(detail::takes_embed_as<EmbedsAs> && detail::takes_embed_as<EmbedsAsWithAToken>);
static_assert(!detail::takes_embed_as<Embeds> && !detail::takes_embed_as<EmbedsWithAToken>);
static_assert(EmbeddingModel<EmbedsAs> && EmbeddingModel<EmbedsAsWithAToken>);
static_assert(!EmbeddingModel<EmbedsAsANumber> && !EmbeddingModel<EmbedsAsLast>);
static_assert(detail::ReranksWithToken<ReranksWithAToken> && !detail::ReranksWithToken<Reranks>);
static_assert(detail::ReranksPlainly<Reranks> && !detail::ReranksPlainly<ReranksWithAToken>);
static_assert(detail::SaysConcurrency<SaysZero> && detail::SaysConcurrency<SaysThree>);
static_assert(!detail::SaysConcurrency<SaysNone> && !detail::SaysConcurrency<SaysInWords> &&
              !detail::SaysConcurrency<SaysAndChanges>);

struct UsesThree {
    std::size_t memory_used() const { return 3; }
};
struct MayUse {
    std::optional<std::size_t> memory_used() const { return bytes; }
    std::optional<std::size_t> bytes{};
};
struct UsesAndChanges {
    std::size_t memory_used();
};
struct UsesLess {
    int memory_used() const;
};
static_assert(detail::SaysMemoryUsed<UsesThree> && detail::SaysMemoryUsed<MayUse> && !detail::SaysMemoryUsed<Model>);
static_assert(!detail::SaysMemoryUsed<UsesAndChanges> && !detail::SaysMemoryUsed<UsesLess>);

struct NeedsItsName : Loads<Model> {
    std::size_t memory_needed(const ModelKey& key) { return key.name.size(); }
};
struct MayNeed : Loads<Model> {
    std::optional<std::size_t> memory_needed(const ModelKey& key) const {
        return key.name.empty() ? std::nullopt : std::optional(key.name.size());
    }
};
struct MaySayItsNeed : NeedsItsName {
    bool says_memory_needed() const { return says; }
    bool says = false;
};
struct NeedsWithoutAKey : Loads<Model> {
    std::size_t memory_needed();
};
struct NeedsAFraction : Loads<Model> {
    double memory_needed(const ModelKey& key);
};
static_assert(detail::SaysMemoryNeeded<NeedsItsName> && detail::SaysMemoryNeeded<MayNeed>);
static_assert(!detail::SaysMemoryNeeded<Loads<Model>> && !detail::SaysMemoryNeeded<NeedsWithoutAKey> &&
              !detail::SaysMemoryNeeded<NeedsAFraction>);

static_assert(EmbeddingBackend<Loads<Embeds>> && !EmbeddingBackend<Loads<Reranks>> && !EmbeddingBackend<Loads<Model>>);
static_assert(RerankerBackend<Loads<Reranks>> && !RerankerBackend<Loads<Embeds>> && !RerankerBackend<Loads<Model>>);
static_assert(!EmbeddingBackend<Embeds> && !RerankerBackend<Reranks>, "a model is not a backend");

}  // namespace

TEST_CASE("A load context calls its sink, and hands on the token") {
    std::vector<float> progress;
    std::vector<std::string> lines;
    std::stop_source source;
    const LoadContext context(source.get_token(),
                              {.progress = [&](float done) { progress.push_back(done); },
                               .log =
                                   [&](Severity severity, std::string_view line) {
                                       lines.push_back(std::string(to_string(severity)) + ' ' + std::string(line));
                                   }});
    context.progress(0.25F);
    context.progress(1.0F);
    context.log(Severity::warning, "old file");
    CHECK(progress == std::vector<float>{0.25F, 1.0F});
    CHECK(lines == std::vector<std::string>{"warning old file"});
    CHECK_FALSE(context.stop_token().stop_requested());
    source.request_stop();
    CHECK(context.stop_token().stop_requested());
}

TEST_CASE("A load context without a sink calls nothing") {
    const LoadContext context;
    CHECK_NOTHROW(context.progress(0.5F));
    CHECK_NOTHROW(context.log(Severity::error, "unheard"));
    CHECK_FALSE(context.stop_token().stop_possible());
}

namespace {

// Which of the overloads was called.
struct Overloaded {
    struct Both {
        std::string called;
        Embeddings embed(Texts /*texts*/) { return called = "embed(texts)", Embeddings{}; }
        Embeddings embed(Texts /*texts*/, std::stop_token /*stop*/) {
            return called = "embed(texts, stop)", Embeddings{};
        }
        std::vector<float> rerank(std::string_view /*query*/, Texts /*documents*/) {
            return called = "rerank(q, d)", std::vector<float>{};
        }
        std::vector<float> rerank(std::string_view /*query*/, Texts /*documents*/, std::stop_token /*stop*/) {
            return called = "rerank(q, d, stop)", std::vector<float>{};
        }
    };
    using model_type = Both;
    std::string called{};
    std::unique_ptr<Both> load(const ModelKey& /*key*/) { return called = "load(key)", nullptr; }
    std::unique_ptr<Both> load(const ModelKey& /*key*/, std::stop_token /*stop*/) {
        return called = "load(key, stop)", nullptr;
    }
};
struct OverloadedThrice : Overloaded {
    using Overloaded::load;
    std::unique_ptr<Both> load(const ModelKey& /*key*/, LoadContext& /*context*/) {
        return called = "load(key, context)", nullptr;
    }
};

}  // namespace

TEST_CASE("Of several loads the one that takes most is called") {
    LoadContext context;
    Overloaded two;
    CHECK(detail::call_load(two, "m", context) == nullptr);
    CHECK(two.called == "load(key, stop)");
    OverloadedThrice three;
    CHECK(detail::call_load(three, "m", context) == nullptr);
    CHECK(three.called == "load(key, context)");
    Loads<Model> plain;
    CHECK(detail::call_load(plain, "m", context) != nullptr);
}

TEST_CASE("Of two inferences the one that takes a stop_token is called") {
    Overloaded::Both both;
    (void)detail::call_embed(both, {}, EmbedAs::as_is, {});
    CHECK(both.called == "embed(texts, stop)");
    (void)detail::call_rerank(both, "q", {}, {});
    CHECK(both.called == "rerank(q, d, stop)");

    const std::vector<std::string> texts(3);
    Embeds embeds;
    CHECK(detail::call_embed(embeds, texts, EmbedAs::as_is, {}).size() == 3);
    Reranks reranks;
    CHECK(detail::call_rerank(reranks, "q", texts, {}).size() == 3);
}

namespace {

// What the overload that was called got.
struct Distinguishes {
    std::string called{};
    Embeddings embed(Texts /*texts*/, std::stop_token /*stop*/) { return called = "stop", Embeddings{}; }
    Embeddings embed(Texts /*texts*/, EmbedAs as) {
        return called = as == EmbedAs::query ? "query" : "another", Embeddings{};
    }
};
struct DistinguishesAndStops : Distinguishes {
    using Distinguishes::embed;
    Embeddings embed(Texts /*texts*/, EmbedAs as, std::stop_token /*stop*/) {
        return called = as == EmbedAs::document ? "document, stop" : "another, stop", Embeddings{};
    }
};

}  // namespace

TEST_CASE("Of two calls of embed the one that takes an EmbedAs is called") {
    Distinguishes plain;
    (void)detail::call_embed(plain, {}, EmbedAs::query, {});
    CHECK(plain.called == "query");
    (void)detail::call_embed(plain, {}, EmbedAs::as_is, {});
    CHECK(plain.called == "another");
    DistinguishesAndStops stops;
    (void)detail::call_embed(stops, {}, EmbedAs::document, {});
    CHECK(stops.called == "document, stop");
}

namespace {

// Of a type that takes an EmbedAs; whether it matters depends on the object.
struct MayDistinguish : Distinguishes {
    bool does = false;
    [[nodiscard]] bool distinguishes() const { return does; }
};

}  // namespace

TEST_CASE("Whether queries and documents differ is what the model says, or else what its embed takes") {
    CHECK(detail::distinguishes(Distinguishes{}));
    CHECK_FALSE(detail::distinguishes(Embeds{}));
    MayDistinguish model;
    CHECK_FALSE(detail::distinguishes(model));
    model.does = true;
    CHECK(detail::distinguishes(model));
}

TEST_CASE("A model says its concurrency, which is at least one, or takes any") {
    CHECK(detail::concurrency_of(SaysThree{}) == 3);
    CHECK(detail::concurrency_of(SaysZero{}) == 1);
    CHECK(detail::concurrency_of(SaysLess{}) == 1);
    CHECK(detail::concurrency_of(SaysNone{}) == static_cast<std::size_t>(-1));
}

TEST_CASE("What a model holds is what it says, and none if it does not say") {
    CHECK(detail::memory_used_of(UsesThree{}) == std::optional<std::size_t>(3));
    CHECK(detail::memory_used_of(Model{}) == std::nullopt);
    MayUse model;
    CHECK(detail::memory_used_of(model) == std::nullopt);
    model.bytes = 5;
    CHECK(detail::memory_used_of(model) == std::optional<std::size_t>(5));
}

TEST_CASE("What a model will need is what its backend says for the key, and none if it does not say") {
    NeedsItsName needs;
    CHECK(detail::call_memory_needed(needs, ModelKey("four", "")) == std::optional<std::size_t>(4));
    CHECK(detail::says_memory_needed(needs));
    MayNeed may;
    CHECK(detail::call_memory_needed(may, ModelKey("four", "")) == std::optional<std::size_t>(4));
    CHECK(detail::call_memory_needed(may, ModelKey()) == std::nullopt);
    CHECK(detail::says_memory_needed(may));
    Loads<Model> silent;
    CHECK(detail::call_memory_needed(silent, ModelKey("four", "")) == std::nullopt);
    CHECK_FALSE(detail::says_memory_needed(silent));
    MaySayItsNeed holder;
    CHECK_FALSE(detail::says_memory_needed(holder));
    holder.says = true;
    CHECK(detail::says_memory_needed(holder));
}

}  // namespace backend_test
