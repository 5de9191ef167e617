// Requests that share the calls of a real model: each gets what it gets alone, and fails for its own texts only.

#include "residency/backends/llama_cpp.hpp"
#include "residency/model_manager.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/parity.hpp"
#include "support/references.hpp"
#include "support/tiny_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace sharing_test {

using namespace residency;
using namespace residency::test;
using residency::testing::Outcome;
using residency::testing::run_ready;

namespace {

using Manager = ModelManager<LlamaCppEmbeddingBackend, LlamaCppRerankerBackend>;
using Texts = std::vector<std::string>;

const boost::system::error_code invalid_request = make_error_code(errc::invalid_request);

// With so many tokens a batch there is room for all texts of a tiny model's test in one call.
LlamaCppModelOptions options_for(const std::filesystem::path& folder, std::size_t batch_tokens = 4096) {
    return {.files = folder, .contexts = 1, .threads = 1, .batch_tokens = batch_tokens};
}

constexpr std::size_t real_batch_tokens = 512;

/// A manager with one call at once, on contexts that only the test runs: what is asked for while a call is held waits.
struct SharingBench {
    explicit SharingBench(const LlamaCppModelOptions& options)
        : manager(LlamaCppEmbeddingBackend({.model = options}), LlamaCppRerankerBackend({.model = options}), one_call(),
                  {control.get_executor(), inference.get_executor(), loading.get_executor()}) {}

    static ManagerOptions one_call() {
        ManagerOptions options;
        options.embedding.max_calls = options.reranker.max_calls = 1;
        return options;
    }

    /// Loads the model, and begins a call that is held at its executor.
    void occupy_embedder(const ModelKey& key) {
        manager.async_embed(key, Texts{"first"}, first_row.handler());
        run_ready(control, loading);
    }
    void occupy_reranker(const ModelKey& key) {
        manager.async_rerank(key, "first", Texts{"first"}, first_ranking.handler());
        run_ready(control, loading);
    }
    /// Embeds each text in a request of its own, in one call.
    std::deque<Outcome<Embeddings>> embed_each(const ModelKey& key, const Texts& texts) {
        occupy_embedder(key);
        std::deque<Outcome<Embeddings>> answers(texts.size());
        for (std::size_t index = 0; index < texts.size(); ++index) {
            manager.async_embed(key, Texts{texts[index]}, answers[index].handler());
        }
        run_ready(control, inference, loading);
        return answers;
    }

    asio::io_context control{};
    asio::io_context inference{};
    asio::io_context loading{};
    Outcome<Embeddings> first_row{};
    Outcome<Ranking> first_ranking{};
    Manager manager;
};

/// A folder with a tiny model of each kind. 64 tokens are the most that it takes.
class TinyFolder {
public:
    TinyFolder() {
        write_tiny_model(folder_.path() / "embedder.gguf", {.context_length = 64});
        write_tiny_model(folder_.path() / "flags.gguf",
                         {.pooling = 4, .labels = {"yes", "no"}, .adds_end = true, .context_length = 64});
        write_tiny_model(folder_.path() / "template.gguf", {.pooling = 4,
                                                            .labels = {"yes", "no"},
                                                            .rerank_template = "{query}<|im_end|>{document}<|im_end|>",
                                                            .context_length = 64});
    }
    [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }
    [[nodiscard]] std::unique_ptr<LlamaCppRerankerModel> reranker(const std::string& name) const {
        LoadContext context;
        return LlamaCppRerankerBackend({.model = options_for(path())}).load(name, context);
    }

private:
    TemporaryFolder folder_{};
};

Texts short_texts(std::size_t count) {
    Texts texts;
    for (std::size_t index = 0; index < count; ++index) {
        texts.push_back("text " + std::to_string(index));
    }
    return texts;
}

std::vector<RerankPair> pairs_of(const std::vector<RerankCase>& cases) {
    std::vector<RerankPair> pairs;
    for (const RerankCase& each : cases) {
        for (const std::string& document : each.documents) {
            pairs.push_back({each.query, document});
        }
    }
    return pairs;
}

}  // namespace

TEST_CASE("requests that share a call get the rows that they get alone") {
    const TinyFolder folder;
    SharingBench bench(options_for(folder.path()));
    const Texts texts = short_texts(64);
    std::deque<Outcome<Embeddings>> answers = bench.embed_each("embedder", texts);
    const SlotCounters counters = bench.manager.status().embedding.counters;
    CHECK(counters.batches == 2);
    CHECK(counters.texts == 65);
    LoadContext context;
    const auto model = LlamaCppEmbeddingBackend({.model = options_for(folder.path())}).load("embedder", context);
    for (std::size_t index = 0; index < texts.size(); ++index) {
        INFO(texts[index]);
        CHECK(cosine(answers[index].value()[0], model->embed({&texts[index], 1})[0]) > 0.99999);
    }
}

TEST_CASE("requests that share a call of a real model get the reference's rows") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_embedding_cases(*folder / "all-minilm-l6-v2.reference.json");
    Texts texts;
    for (const EmbeddingCase& each : cases) {
        texts.push_back(each.text);
    }
    for (const EmbeddingBound& bound : embedding_bounds) {
        SharingBench bench(options_for(*folder, real_batch_tokens));
        std::deque<Outcome<Embeddings>> answers = bench.embed_each({"all-minilm-l6-v2", bound.quantization}, texts);
        CHECK(bench.manager.status().embedding.counters.batches < texts.size() / 2);
        Embeddings rows(texts.size(), 384);
        for (std::size_t index = 0; index < texts.size(); ++index) {
            std::copy_n(answers[index].value()[0].begin(), 384, rows[index].begin());
        }
        check(rows, cases, bound);
    }
}

TEST_CASE("a text that is at fault fails its request alone among 64, and names its own index") {
    const auto [bad, why] = GENERATE(table<std::string, std::string>(
        {{std::string(65, 'x'), "text 2: it has 65 tokens, and the limit is 64"}, {"", "text 2: it has no tokens"}}));
    const TinyFolder folder;
    SharingBench bench(options_for(folder.path()));
    bench.occupy_embedder("embedder");
    std::deque<Outcome<Embeddings>> answers(64);
    for (std::size_t index = 0; index < answers.size(); ++index) {
        Texts texts = short_texts(3);
        if (index == 40) {
            texts[2] = bad;
        }
        bench.manager.async_embed("embedder", texts, answers[index].handler());
    }
    run_ready(bench.control, bench.inference, bench.loading);
    for (std::size_t index = 0; index < answers.size(); ++index) {
        REQUIRE(answers[index].calls() == 1);
        if (index != 40) {
            CHECK(answers[index].value().size() == 3);
        }
    }
    const Error error = answers[40].error();
    CHECK(error.code() == invalid_request);
    CHECK(error.text_index() == std::optional<std::size_t>(2));
    CHECK_THAT(error.what(), contains_text(why));
    CHECK(bench.manager.status().embedding.counters.batches == 2);
}

TEST_CASE("pairs of several queries have the scores of separate calls") {
    const TinyFolder folder;
    const Texts documents{"one", "the other", ""};
    for (const char* const name : {"flags", "template"}) {
        const auto model = folder.reranker(name);
        // One query comes twice, with another between.
        const std::vector<RerankPair> pairs{{"query", documents[0]},
                                            {"query", documents[1]},
                                            {"what", documents[0]},
                                            {"what else", documents[2]},
                                            {"query", documents[2]}};
        const std::vector<float> scores = model->rerank(pairs);
        REQUIRE(scores.size() == pairs.size());
        for (std::size_t index = 0; index < pairs.size(); ++index) {
            INFO(name << ": " << pairs[index].query << " / " << pairs[index].document);
            const std::string document(pairs[index].document);
            CHECK(scores[index] == Approx(model->rerank(pairs[index].query, {&document, 1}).at(0)).margin(1e-4));
        }
        CHECK(scores[0] != scores[2]);
        CHECK(model->rerank(std::span<const RerankPair>()).empty());
    }
}

TEST_CASE("pairs of several queries have the reference's scores, and requests that share a call too") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_rerank_cases(*folder / "qa-reranker-l6.reference.json");
    for (const RerankBound& bound : rerank_bounds) {
        const ModelKey key("qa-reranker-l6", bound.quantization);
        LoadContext context;
        const auto model =
            LlamaCppRerankerBackend({.model = options_for(*folder, real_batch_tokens)}).load(key, context);
        const std::vector<float> all = model->rerank(pairs_of(cases));
        SharingBench bench(options_for(*folder, real_batch_tokens));
        bench.occupy_reranker(key);
        std::deque<Outcome<Ranking>> answers(cases.size());
        for (std::size_t index = 0; index < cases.size(); ++index) {
            bench.manager.async_rerank(key, cases[index].query, cases[index].documents, answers[index].handler());
        }
        run_ready(bench.control, bench.inference, bench.loading);
        // Long documents make several parts of a request, each with several pairs.
        const SlotCounters counters = bench.manager.status().reranker.counters;
        CHECK(counters.batches < counters.texts);
        auto next = all.begin();
        for (std::size_t index = 0; index < cases.size(); ++index) {
            const auto end = next + static_cast<std::ptrdiff_t>(cases[index].documents.size());
            check(std::vector<float>(next, end), cases[index], bound);
            std::vector<float> shared(cases[index].documents.size());
            for (const RankedDocument& document : answers[index].value()) {
                shared.at(document.index) = document.score;
            }
            check(shared, cases[index], bound);
            next = end;
        }
    }
}

TEST_CASE("a document or a query that is at fault fails its request alone") {
    const TinyFolder folder;
    SharingBench bench(options_for(folder.path()));
    bench.occupy_reranker("flags");
    std::deque<Outcome<Ranking>> answers(5);
    const Texts good{"one", "two"};
    bench.manager.async_rerank("flags", "query", good, answers[0].handler());
    bench.manager.async_rerank("flags", "query", Texts{"one", std::string(70, 'd')}, answers[1].handler());
    bench.manager.async_rerank("flags", "query", good, answers[2].handler());
    bench.manager.async_rerank("flags", std::string(70, 'q'), good, answers[3].handler());
    bench.manager.async_rerank("flags", "what", good, answers[4].handler());
    run_ready(bench.control, bench.inference, bench.loading);
    for (const std::size_t index : {0U, 2U, 4U}) {
        CHECK(answers[index].value().size() == 2);
    }
    const Error document = answers[1].error();
    CHECK(document.code() == invalid_request);
    CHECK(document.text_index() == std::optional<std::size_t>(1));
    CHECK_THAT(document.what(), contains_text("document 1: it has "));
    CHECK_THAT(document.what(), contains_text(" tokens with the query, and the limit is 64"));
    const Error query = answers[3].error();
    CHECK(query.code() == invalid_request);
    CHECK(query.text_index() == std::optional<std::size_t>(0));
    CHECK_THAT(query.what(), contains_text("the query makes "));
    CHECK(bench.manager.status().reranker.counters.batches == 2);
}

TEST_CASE("an error of a query names the first of its pairs, and no document where it is the call's only query") {
    const TinyFolder folder;
    const std::string endless(70, 'q');
    const Texts documents{"one", "two"};
    for (const char* const name : {"flags", "template"}) {
        const auto model = folder.reranker(name);
        const std::vector<RerankPair> pairs{
            {"query", documents[0]}, {"query", documents[1]}, {endless, documents[0]}, {endless, documents[1]}};
        const Error shared = error_of(invalid_request, [&] { (void)model->rerank(pairs); });
        CHECK(shared.text_index() == std::optional<std::size_t>(2));
        CHECK_THAT(shared.what(), contains_text("document 2: the query makes "));
        const Error alone = error_of(invalid_request, [&] { (void)model->rerank(endless, documents); });
        CHECK_FALSE(alone.text_index());
        CHECK_THAT(alone.what(), contains_text("no room for one token of a document"));
    }
}

TEST_CASE("a model says how much its calls do best with") {
    const TinyFolder folder;
    LoadContext context;
    LlamaCppModelOptions options{.files = folder.path(), .contexts = 1};
    CHECK(LlamaCppEmbeddingBackend({.model = options}).load("embedder", context)->batch_limits() ==
          BatchLimits{256, 1024});
    options.batch_tokens = 64;
    CHECK(LlamaCppRerankerBackend({.model = options}).load("flags", context)->batch_limits() == BatchLimits{64, 256});
    // What llama.cpp takes is the most.
    options.batch_tokens = 4096;
    CHECK(LlamaCppRerankerBackend({.model = options}).load("flags", context)->batch_limits() ==
          BatchLimits{llama_max_parallel_sequences(), 16384});
}

}  // namespace sharing_test
