// What a text is to an embedding model: RequestOptions::as on its way to the model, and where it is refused.

#include "residency/embed_as.hpp"

#include "support/bench.hpp"

#include <array>
#include <span>
#include <string>
#include <vector>

namespace residency::test::embed_as_test {

namespace {

const ModelKey a("a");

/// A fake whose `embed` takes no EmbedAs.
class PlainEmbedder : public FakeModel {
public:
    using FakeModel::FakeModel;
    [[nodiscard]] static Embeddings embed(std::span<const std::string> texts) { return {texts.size(), 1}; }
};

using PlainManager = ModelManager<testing::FakeBackend<PlainEmbedder>, testing::FakeRerankerBackend, VirtualClock>;

}  // namespace

TEST_CASE("The model gets what its texts are, as_is unless the request says otherwise") {
    ManagerBench bench;
    std::vector<EmbedAs> seen;
    bench.world->on(FakeStep::inference, [&](const FakeCall& call) { seen.push_back(call.as); });
    std::array<Outcome<Embeddings>, 4> answers;
    bench.manager->async_embed(a, {"text"}, answers[0].handler());
    bench.manager->async_embed(a, {"text"}, {.as = EmbedAs::as_is}, answers[1].handler());
    bench.manager->async_embed(a, {"text"}, {.as = EmbedAs::query}, answers[2].handler());
    bench.manager->async_embed(a, {"text"}, {.as = EmbedAs::document}, answers[3].handler());
    bench.run();
    CHECK(seen == std::vector<EmbedAs>{EmbedAs::as_is, EmbedAs::as_is, EmbedAs::query, EmbedAs::document});
    for (Outcome<Embeddings>& answer : answers) {
        CHECK(answer.value().size() == 1);
    }
    bench.check_end();
}

TEST_CASE("A model whose embed takes no EmbedAs accepts as_is alone, and nothing is loaded to find that out") {
    Bench bench;
    PlainManager models(testing::FakeBackend<PlainEmbedder>(bench.world), {}, {}, bench.executors());
    for (const EmbedAs as : {EmbedAs::query, EmbedAs::document}) {
        for (const std::vector<std::string>& texts : {std::vector<std::string>{"text"}, std::vector<std::string>{}}) {
            Outcome<Embeddings> refused;
            models.async_embed(a, texts, {.as = as}, refused.handler());
            bench.run();
            CHECK(refused.code() == errc::invalid_request);
            CHECK(refused.error().stage() == Stage::admission);
            CHECK(refused.error().key() == a);
            CHECK(refused.error().detail() ==
                  "the slot's models make no difference between queries and documents; leave RequestOptions::as at "
                  "as_is");
        }
    }
    CHECK(bench.world->counts().loads == 0);
    Outcome<Embeddings> answer;
    models.async_embed(a, {"text"}, {.as = EmbedAs::as_is}, answer.handler());
    bench.run();
    CHECK(answer.value().size() == 1);
}

namespace {

/// One for whose models queries and documents differ if the key says so.
class SomeEmbedder : public testing::FakeEmbedder {
public:
    using FakeEmbedder::FakeEmbedder;
    [[nodiscard]] bool distinguishes() const { return key().quantization == "prefixes"; }
};

template <class Model>
std::vector<bool> statuses(const std::vector<ModelKey>& keys) {
    Bench bench;
    ModelSlot<testing::FakeBackend<Model>, VirtualClock> slot(testing::FakeBackend<Model>(bench.world), {},
                                                              bench.executors());
    std::vector<bool> statuses;
    for (const ModelKey& key : keys) {
        Outcome<Generation> loaded;
        slot.async_ensure_loaded(key, loaded.handler());
        bench.run();
        statuses.push_back(slot.status().residents.at(0).distinguishes);
    }
    return statuses;
}

}  // namespace

TEST_CASE("The status shows whether queries and documents differ for a model") {
    const std::vector<ModelKey> keys{{"a", "prefixes"}, {"a", "none"}};
    CHECK(statuses<testing::FakeEmbedder>(keys) == std::vector<bool>{true, true});
    CHECK(statuses<PlainEmbedder>(keys) == std::vector<bool>{false, false});
    CHECK(statuses<SomeEmbedder>(keys) == std::vector<bool>{true, false});
}

TEST_CASE("An EmbedAs that is none of its values is an invalid request") {
    ManagerBench bench;
    Outcome<Embeddings> refused;
    bench.manager->async_embed(a, {"text"}, {.as = static_cast<EmbedAs>(3)}, refused.handler());
    bench.run();
    CHECK(refused.code() == errc::invalid_request);
    CHECK(refused.error().detail() == "RequestOptions::as is none of as_is, query and document");
    CHECK(bench.world->counts().loads == 0);
    bench.check_end();
}

TEST_CASE("Requests other than embed do not read what texts are") {
    ManagerBench bench;
    const RequestOptions options{.as = EmbedAs::query};
    Outcome<Ranking> ranked;
    Outcome<Generation> loaded;
    bench.manager->async_rerank(a, "query", {"text"}, options, ranked.handler());
    bench.manager->embedding().async_ensure_loaded(a, options, loaded.handler());
    bench.run();
    CHECK(ranked.value().size() == 1);
    CHECK(loaded.value() == Generation(1));
    bench.check_end();
}

}  // namespace residency::test::embed_as_test
