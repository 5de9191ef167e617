// The real models give what the reference implementation gives: whatever shares a batch, and however many threads ask.

#include "support/parity.hpp"
#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/references.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace parity_test {

using namespace residency;
using namespace residency::test;

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
    for (const EmbeddingBound& bound : embedding_bounds) {
        LoadContext context;
        const auto model = backend.load({"all-minilm-l6-v2", bound.quantization}, context);
        CHECK(model->dimension() == 384);
        CHECK(model->context_tokens() == 512);
        check(model->embed(texts), cases, bound);
        Embeddings alone(texts.size(), model->dimension());
        for (std::size_t index = 0; index < texts.size(); ++index) {
            const Embeddings row = model->embed({&texts[index], 1});
            std::copy(row.values().begin(), row.values().end(), alone[index].begin());
        }
        check(alone, cases, bound);
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
    for (const RerankBound& bound : rerank_bounds) {
        double largest = 0.0;
        LoadContext context;
        const auto model = backend.load({"qa-reranker-l6", bound.quantization}, context);
        for (const RerankCase& each : cases) {
            largest = std::max(largest, check(model->rerank(each.query, each.documents), each, bound));
            std::vector<float> alone;
            for (const std::string& document : each.documents) {
                alone.push_back(model->rerank(each.query, {&document, 1}).at(0));
            }
            largest = std::max(largest, check(alone, each, bound));
        }
        WARN(bound.quantization << ": largest difference " << largest);
    }
}

TEST_CASE("a file with a head is no embedder, and one without is no reranker") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    LoadContext context;
    for (const char* const quantization : {"f16", "q8_0"}) {
        const Error reranker = error_of(make_error_code(errc::load_failed), [&] {
            (void)LlamaCppEmbeddingBackend({.model = {.files = *folder}})
                .load({"qa-reranker-l6", quantization}, context);
        });
        CHECK_THAT(reranker.what(), contains_text("it is a reranker"));
        const Error embedder = error_of(make_error_code(errc::load_failed), [&] {
            (void)LlamaCppRerankerBackend({.model = {.files = *folder}})
                .load({"all-minilm-l6-v2", quantization}, context);
        });
        CHECK_THAT(embedder.what(), contains_text("it is no reranker"));
    }
}

TEST_CASE("a score is the raw logit, or by the option its logistic") {
    const auto folder = models_or_skip();
    if (!folder) {
        return;
    }
    const RerankCase one = read_rerank_cases(*folder / "qa-reranker-l6.reference.json").front();
    const auto scores = [&](LlamaCppScore score) {
        LoadContext context;
        return LlamaCppRerankerBackend({.model = {.files = *folder, .contexts = 1, .threads = 1}, .score = score})
            .load({"qa-reranker-l6", "f16"}, context)
            ->rerank(one.query, one.documents);
    };
    const std::vector<float> logits = scores(LlamaCppScore::logit);
    const std::vector<float> logistics = scores(LlamaCppScore::logistic);
    for (std::size_t index = 0; index < logits.size(); ++index) {
        CHECK(logistics[index] == Approx(1.0 / (1.0 + std::exp(-static_cast<double>(logits[index])))));
    }
}

}  // namespace parity_test
