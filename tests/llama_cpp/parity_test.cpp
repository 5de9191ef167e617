// The real models give what the reference implementation gives: whatever shares a batch, and however many threads ask.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/references.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace residency;
using namespace residency::test;

namespace {

struct EmbeddingBound {
    const char* quantization;
    double least_cosine;
};

struct RerankBound {
    const char* quantization;
    double largest_difference;
    // Two scores at least this far apart in the reference keep their order; none if it is not promised.
    double kept_order;
};

void check(const Embeddings& rows, const std::vector<EmbeddingCase>& cases, double least_cosine) {
    REQUIRE(rows.size() == cases.size());
    double worst = 1.0;
    for (std::size_t index = 0; index < cases.size(); ++index) {
        INFO(cases[index].text);
        worst = std::min(worst, cosine(rows[index], cases[index].vector));
        CHECK(cosine(rows[index], cases[index].vector) >= least_cosine);
        CHECK(std::abs(length(rows[index]) - 1.0) < 1e-5);
    }
    UNSCOPED_INFO("least cosine " << worst);
}

void check(const std::vector<float>& scores, const RerankCase& expected, const RerankBound& bound) {
    REQUIRE(scores.size() == expected.scores.size());
    for (std::size_t index = 0; index < scores.size(); ++index) {
        INFO(expected.query << " / " << expected.documents[index]);
        CHECK(std::abs(static_cast<double>(scores[index]) - static_cast<double>(expected.scores[index])) <=
              bound.largest_difference);
        for (std::size_t other = 0; other < scores.size(); ++other) {
            if (expected.scores[index] - expected.scores[other] > bound.kept_order) {
                CHECK(scores[index] > scores[other]);
            }
        }
    }
}

}  // namespace

TEST_CASE("embeddings are those of the reference, one text a call and all in one") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_embedding_cases(*folder / "all-minilm-l6-v2.reference.json");
    REQUIRE(cases.size() == 36);
    std::vector<std::string> texts;
    for (const EmbeddingCase& each : cases) {
        texts.push_back(each.text);
    }
    // One thread each: two that wait for each other by spinning are slow where others want the processor too.
    LlamaCppEmbeddingBackend backend({.model = {.files = *folder, .threads = 1}});
    for (const EmbeddingBound& bound : {EmbeddingBound{"f16", 0.9999}, EmbeddingBound{"q8_0", 0.997}}) {
        INFO(bound.quantization);
        LoadContext context;
        const auto model = backend.load({"all-minilm-l6-v2", bound.quantization}, context);
        CHECK(model->dimension() == 384);
        CHECK(model->context_tokens() == 512);
        check(model->embed(texts), cases, bound.least_cosine);
        Embeddings alone(texts.size(), model->dimension());
        for (std::size_t index = 0; index < texts.size(); ++index) {
            const Embeddings row = model->embed({&texts[index], 1});
            std::copy(row.values().begin(), row.values().end(), alone[index].begin());
        }
        check(alone, cases, bound.least_cosine);
    }
}

TEST_CASE("tokens are those of the reference") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    LlamaCppModelOptions options{.files = *folder};
    options.contexts = 1;
    LoadContext context;
    const ModelKey key("all-minilm-l6-v2", "f16");
    const auto model = detail::llama_cpp::Loading(options, key, context).run([](const auto&) {
        return detail::llama_cpp::Use{.pooling = LLAMA_POOLING_TYPE_MEAN};
    });
    for (const EmbeddingCase& each : read_embedding_cases(*folder / "all-minilm-l6-v2.reference.json")) {
        INFO(each.text);
        CHECK(model->tokenizer().enclosed(model->tokenizer().tokenize(each.text)) == each.tokens);
    }
}

TEST_CASE("scores are those of the reference, one document a call and all in one") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const auto cases = read_rerank_cases(*folder / "qa-reranker-l6.reference.json");
    REQUIRE(cases.size() == 13);
    LlamaCppRerankerBackend backend({.model = {.files = *folder, .threads = 1}});
    for (const RerankBound& bound : {RerankBound{"f16", 0.03, 0.03}, RerankBound{"q8_0", 0.4, 1e9}}) {
        INFO(bound.quantization);
        LoadContext context;
        const auto model = backend.load({"qa-reranker-l6", bound.quantization}, context);
        for (const RerankCase& each : cases) {
            check(model->rerank(each.query, each.documents), each, bound);
            std::vector<float> alone;
            for (const std::string& document : each.documents) {
                alone.push_back(model->rerank(each.query, {&document, 1}).at(0));
            }
            check(alone, each, bound);
        }
    }
}
