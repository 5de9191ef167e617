// Decoders: models with a memory, which a small file of random weights stands for.

#include "residency/backends/llama_cpp.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace decoder_test {

using namespace residency;
using namespace residency::test;

namespace {

const std::string chat =
    "<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n";

std::unique_ptr<LlamaCppEmbeddingModel> load_embedder(const TemporaryFolder& folder, const TinyModel& tiny,
                                                      LlamaCppEmbeddingOptions options = {}) {
    write_tiny_model(folder.path() / "tiny-f32.gguf", tiny);
    options.model.files = folder.path();
    LoadContext context;
    return LlamaCppEmbeddingBackend(options).load({"tiny", "f32"}, context);
}

std::unique_ptr<LlamaCppRerankerModel> load_reranker(const TemporaryFolder& folder, const TinyModel& tiny,
                                                     LlamaCppRerankerOptions options = {}) {
    write_tiny_model(folder.path() / "tiny-f32.gguf", tiny);
    options.model.files = folder.path();
    LoadContext context;
    return LlamaCppRerankerBackend(options).load({"tiny", "f32"}, context);
}

TinyModel judge(std::vector<std::string> labels) {
    return {.pooling = 4, .labels = std::move(labels), .rerank_template = chat};
}

}  // namespace

TEST_CASE("a decoder embeds: a text's vector depends on no other text, before it or beside it") {
    const TemporaryFolder folder;
    LlamaCppEmbeddingOptions options;
    options.model.contexts = 1;
    options.model.batch_tokens = 64;
    const auto model = load_embedder(folder, {}, options);
    CHECK(model->dimension() == 64);
    std::vector<std::string> texts;
    for (std::size_t count = 1; count <= 40; ++count) {
        texts.push_back(std::string(count, static_cast<char>('a' + count % 26)) + " the end");
    }
    texts.push_back(std::string(300, 'x'));  // Longer than a batch: the context is made anew for it.
    const Embeddings together = model->embed(texts);
    for (std::size_t index = 0; index < texts.size(); ++index) {
        INFO(texts[index]);
        const Embeddings alone = model->embed({&texts[index], 1});
        CHECK(cosine(alone[0], together[index]) > 0.99999);
        CHECK(length(alone[0]) == Approx(1.0));
        // What was computed before is forgotten.
        CHECK(model->embed({&texts[index], 1}) == alone);
    }
    CHECK(cosine(together[0], together[1]) < 0.999);
}

TEST_CASE("batches and texts may have any number of tokens") {
    const TemporaryFolder folder;
    const std::vector<std::string> texts{std::string(299, 'x'), "short", std::string(150, 'y'), "another", "x"};
    for (const LlamaCppPooling pooling : {LlamaCppPooling::mean, LlamaCppPooling::last}) {
        LlamaCppEmbeddingOptions options{.pooling = pooling};
        options.model.contexts = 1;
        const Embeddings expected = load_embedder(folder, {}, options)->embed(texts);
        for (const std::size_t batch_tokens : {16U, 17U, 100U, 255U, 257U, 384U, 600U}) {
            for (const std::size_t context_tokens : {299U, 300U, 301U, 511U}) {
                INFO(batch_tokens << " tokens a batch, " << context_tokens << " a text");
                options.model.batch_tokens = batch_tokens;
                options.model.context_tokens = context_tokens;
                const Embeddings rows = load_embedder(folder, {}, options)->embed(texts);
                for (std::size_t text = 0; text < texts.size(); ++text) {
                    CHECK(cosine(rows[text], expected[text]) > 0.99999);
                }
            }
        }
    }
}

TEST_CASE("vectors are scaled only if asked for, and the pooling of the option wins") {
    const TemporaryFolder folder;
    const std::vector<std::string> texts{"some text"};
    const Embeddings last = load_embedder(folder, {})->embed(texts);
    const Embeddings raw = load_embedder(folder, {}, {.normalise = false})->embed(texts);
    CHECK(length(raw[0]) > 1.5);
    CHECK(cosine(raw[0], last[0]) == Approx(1.0));
    const Embeddings mean = load_embedder(folder, {}, {.pooling = LlamaCppPooling::mean})->embed(texts);
    const Embeddings first = load_embedder(folder, {}, {.pooling = LlamaCppPooling::cls})->embed(texts);
    CHECK(cosine(mean[0], last[0]) < 0.999);
    CHECK(cosine(first[0], last[0]) < 0.999);
    // A file that says `mean` itself.
    CHECK(cosine(load_embedder(folder, {.pooling = 1})->embed(texts)[0], mean[0]) == Approx(1.0));
}

TEST_CASE("a text of no tokens is refused; an empty one is embedded where the vocabulary adds to it") {
    const TemporaryFolder folder;
    const std::vector<std::string> texts{"text", ""};
    const auto bare = load_embedder(folder, {});
    const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)bare->embed(texts); });
    CHECK_THAT(error.what(), contains_text("text 1: it has no tokens"));
    CHECK(bare->embed({}).empty());
    const Embeddings rows = load_embedder(folder, {.adds_end = true})->embed(texts);
    CHECK(length(rows[1]) == Approx(1.0));
}

TEST_CASE("what the vocabulary adds is counted, and stays when a text is cut") {
    const TemporaryFolder folder;
    const std::vector<std::string> fits{std::string(62, 'a')};
    const std::vector<std::string> long_one{"b", std::string(63, 'a')};
    LlamaCppEmbeddingOptions options;
    options.model.context_tokens = 64;
    const TinyModel tiny{.adds_begin = true, .adds_end = true};
    {
        const auto model = load_embedder(folder, tiny, options);
        CHECK(model->embed(fits).size() == 1);
        const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)model->embed(long_one); });
        CHECK_THAT(error.what(), contains_text("text 1: it has 65 tokens, and the limit is 64"));
        CHECK(error.key() == ModelKey("tiny", "f32"));
        CHECK(error.stage() == Stage::inference);
    }
    options.model.truncate = true;
    const auto model = load_embedder(folder, tiny, options);
    const Embeddings cut = model->embed({&long_one[1], 1});
    CHECK(cut == model->embed(fits));
}

TEST_CASE("a judge of two answers scores by the probability of yes, wherever its label stands") {
    const TemporaryFolder folder;
    const std::vector<std::string> documents{"one", "the other", ""};
    const std::vector<float> yes = load_reranker(folder, judge({"yes", "no"}))->rerank("query", documents);
    const std::vector<float> swapped = load_reranker(folder, judge({"no", "yes"}))->rerank("query", documents);
    const std::vector<float> logistic =
        load_reranker(folder, judge({"yes", "no"}), {.score = LlamaCppScore::logistic})->rerank("query", documents);
    REQUIRE(yes.size() == 3);
    for (std::size_t index = 0; index < yes.size(); ++index) {
        CHECK(yes[index] > 0.0F);
        CHECK(yes[index] < 1.0F);
        CHECK(yes[index] == Approx(swapped[index]).margin(1e-6));
        CHECK(yes[index] == logistic[index]);
    }
    CHECK(yes[0] != yes[1]);
}

TEST_CASE("a head of another number of scores is refused") {
    const TemporaryFolder folder;
    for (const std::vector<std::string>& labels :
         {std::vector<std::string>{"yes"}, std::vector<std::string>{"a", "b", "c"}}) {
        const Error error =
            error_of(make_error_code(errc::load_failed), [&] { (void)load_reranker(folder, judge(labels)); });
        CHECK_THAT(error.what(), contains_text("gives " + std::to_string(labels.size()) + " scores"));
    }
}

TEST_CASE("a template without a place for the document is refused") {
    const TemporaryFolder folder;
    TinyModel tiny = judge({"yes", "no"});
    tiny.rerank_template = "<|im_start|>{query}<|im_end|>";
    const Error error = error_of(make_error_code(errc::load_failed), [&] { (void)load_reranker(folder, tiny); });
    CHECK_THAT(error.what(), contains_text("{document}"));
}

TEST_CASE("a pair that is too long is cut in the document; a query that leaves no room is refused") {
    const TemporaryFolder folder;
    LlamaCppRerankerOptions options;
    options.model.context_tokens = 128;
    const std::vector<std::string> documents{"short", std::string(200, 'd')};
    {
        const auto model = load_reranker(folder, judge({"yes", "no"}), options);
        const Error error =
            error_of(make_error_code(errc::invalid_request), [&] { (void)model->rerank("query", documents); });
        CHECK_THAT(error.what(), contains_text("document 1: it has "));
        CHECK_THAT(error.what(), contains_text("the limit is 128"));
    }
    options.model.truncate = true;
    const auto model = load_reranker(folder, judge({"yes", "no"}), options);
    const std::vector<float> scores = model->rerank("query", documents);
    const std::vector<std::string> longer{std::string(300, 'd')};
    CHECK(model->rerank("query", longer).front() == scores[1]);
    const Error error = error_of(make_error_code(errc::invalid_request),
                                 [&] { (void)model->rerank(std::string(120, 'q'), documents); });
    CHECK_THAT(error.what(), contains_text("no room for one token of a document"));
}

TEST_CASE("files that do not say what to do with them are refused in words") {
    const TemporaryFolder folder;
    const auto embedder_fails = [&](const TinyModel& tiny, const std::string& words,
                                    LlamaCppEmbeddingOptions options = {}) {
        const Error error =
            error_of(make_error_code(errc::load_failed), [&] { (void)load_embedder(folder, tiny, options); });
        CHECK_THAT(error.what(), contains_text(words));
        CHECK_THAT(error.what(), contains_text((folder.path() / "tiny-f32.gguf").string()));
    };
    embedder_fails({.pooling = {}}, "option pooling");
    embedder_fails({.pooling = 0}, "option pooling");
    embedder_fails({.pooling = 77}, "option pooling");
    embedder_fails(judge({"yes", "no"}), "it is a reranker");
    embedder_fails({.architecture = "nonesuch"}, "unknown model architecture: 'nonesuch'");
    embedder_fails({.no_vocabulary = true}, "it has no vocabulary");
    LlamaCppEmbeddingOptions too_long;
    too_long.model.context_tokens = 513;
    embedder_fails({}, "it was trained for 512", too_long);
    LlamaCppEmbeddingOptions too_short;
    too_short.model.context_tokens = 2;
    embedder_fails({.adds_begin = true, .adds_end = true}, "no room for the text", too_short);
    const Error error = error_of(make_error_code(errc::load_failed), [&] { (void)load_reranker(folder, {}); });
    CHECK_THAT(error.what(), contains_text("it is no reranker"));
    // With the option, a file that says nothing embeds.
    CHECK(load_embedder(folder, {.pooling = {}}, {.pooling = LlamaCppPooling::last})->dimension() == 64);
}

}  // namespace decoder_test
