// A reranker of OpenVINO: lengths of pairs, templates, scores, and what cannot be loaded.

#include "residency/backends/openvino.hpp"
#include "residency/residency.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/openvino_folders.hpp"
#include "support/temporary_folder.hpp"

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reranker_test {

using namespace residency;
using namespace residency::test;

namespace {

const ModelKey key{"qa-reranker-l6", "f16"};

std::unique_ptr<OpenVinoRerankerModel> load(OpenVinoRerankerOptions options, const ModelKey& wanted = key) {
    LoadContext context;
    return OpenVinoRerankerBackend(std::move(options)).load(wanted, context);
}

std::string words(std::size_t count) {
    std::string text;
    for (std::size_t word = 0; word < count; ++word) {
        text += "wing ";
    }
    return text;
}

// Copies a model's folder, with `with` in the place of `what` in its tokenizer.
void copy_with(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& what,
               const std::string& with) {
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
    std::ifstream in(from / "openvino_tokenizer.xml", std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const std::size_t at = text.find(what);
    REQUIRE(at != std::string::npos);
    text.replace(at, what.size(), with);
    std::ofstream(to / "openvino_tokenizer.xml", std::ios::binary | std::ios::trunc) << text;
}

void copy_without_template(const std::filesystem::path& from, const std::filesystem::path& to) {
    copy_with(from, to, "<processed_post_processor_template", "<xrocessed_post_processor_template");
}

}  // namespace

TEST_CASE("of a pair that is too long for OpenVINO's model the document is refused, or by the option cut") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const auto strict = load({.model = {.folders = *folder}});
    const auto cutting = load({.model = {.folders = *folder, .truncate = true}});
    const std::string query = words(9);
    const std::vector<std::string> fits{words(500)};
    const std::vector<float> expected = strict->rerank(query, fits);
    for (const std::size_t count : {std::size_t{501}, std::size_t{5000}}) {
        const std::vector<std::string> documents{"short", words(count)};
        const Error error =
            error_of(make_error_code(errc::invalid_request), [&] { (void)strict->rerank(query, documents); });
        CHECK(error.text_index() == std::optional<std::size_t>(1));
        CHECK_THAT(error.what(),
                   contains_text(std::to_string(count + 12) + " tokens with the query, and the limit is 512"));
        CHECK(std::abs(cutting->rerank(query, documents)[1] - expected[0]) < 0.05F);
    }
    const std::vector<std::string> one{"a"};
    const Error alone =
        error_of(make_error_code(errc::invalid_request), [&] { (void)cutting->rerank(words(509), one); });
    CHECK_THAT(alone.what(), contains_text("no room for one token of a document"));
    CHECK_FALSE(alone.text_index());
    CHECK(cutting->rerank(words(508), one).size() == 1);
    const std::string long_query = words(509);
    const std::vector<RerankPair> pairs{{"a", "b"}, {long_query, "c"}, {long_query, "d"}};
    const Error of_pairs = error_of(make_error_code(errc::invalid_request), [&] { (void)cutting->rerank(pairs); });
    CHECK(of_pairs.text_index() == std::optional<std::size_t>(1));
    CHECK(strict->rerank("a", std::vector<std::string>{}).empty());
    CHECK(strict->rerank(std::vector<RerankPair>{}).empty());
}

TEST_CASE("a score of OpenVINO is the raw logit, or by the option its logistic") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const std::vector<std::string> documents{"a wing has lift", "cheese is made of milk", ""};
    const auto logits = load({.model = {.folders = *folder}})->rerank("what has lift", documents);
    const auto logistics =
        load({.model = {.folders = *folder}, .score = OpenVinoScore::logistic})->rerank("what has lift", documents);
    for (std::size_t index = 0; index < documents.size(); ++index) {
        CHECK(logistics[index] == Approx(1.0 / (1.0 + std::exp(-static_cast<double>(logits[index])))).margin(1e-3));
    }
}

TEST_CASE("a tokenizer with two inputs that says nothing of pairs is asked how it joins them") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const TemporaryFolder copies;
    copy_without_template(*folder / "qa-reranker-l6-f16", copies.path() / "learned");
    const std::vector<std::string> documents{"a wing has lift", "cheese is made of milk", ""};
    CHECK(load({.model = {.folders = copies.path()}}, "learned")->rerank("what has lift", documents) ==
          load({.model = {.folders = *folder}})->rerank("what has lift", documents));
}

TEST_CASE("a pair without tokens is refused") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const TemporaryFolder copies;
    copy_with(*folder / "qa-reranker-l6-f16", copies.path() / "bare", "[101, -1, 102, -2, 102]", "[-1, -2]");
    const auto model = load({.model = {.folders = copies.path()}}, "bare");
    const std::vector<std::string> documents{"a", ""};
    CHECK(model->rerank("b", documents).size() == 2);
    const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)model->rerank("", documents); });
    CHECK(error.text_index() == std::optional<std::size_t>(1));
}

TEST_CASE("a folder without a head or without a way to join pairs is no reranker") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const auto refusal = [](const std::filesystem::path& models, const ModelKey& wanted) {
        return std::string(error_of(make_error_code(errc::load_failed), [&] {
                               (void)load({.model = {.folders = models}}, wanted);
                           }).what());
    };
    CHECK_THAT(refusal(*folder, {"all-minilm-l6-v2", "f16"}), contains_text("it is no reranker"));
    // The embedder's tokenizer takes one text.
    const TemporaryFolder copies;
    copy_without_template(*folder / "all-minilm-l6-v2-f16", copies.path() / "single");
    for (const char* const file : {"openvino_model.xml", "openvino_model.bin"}) {
        std::filesystem::copy_file(*folder / "qa-reranker-l6-f16" / file, copies.path() / "single" / file,
                                   std::filesystem::copy_options::overwrite_existing);
    }
    CHECK_THAT(refusal(copies.path(), "single"), contains_text("--number-of-inputs 2"));
}

TEST_CASE("a tokenizer with one input serves a reranker by its template") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const TemporaryFolder copies;
    std::filesystem::copy(*folder / "qa-reranker-l6-f16", copies.path() / "single");
    for (const char* const file : {"openvino_tokenizer.xml", "openvino_tokenizer.bin"}) {
        std::filesystem::copy_file(*folder / "all-minilm-l6-v2-f16" / file, copies.path() / "single" / file,
                                   std::filesystem::copy_options::overwrite_existing);
    }
    const auto single = load({.model = {.folders = copies.path()}}, "single");
    const auto paired = load({.model = {.folders = *folder}});
    for (const std::string query : {"what has lift", "", " "}) {
        for (const auto& documents : {std::vector<std::string>{"a wing [SEP] has lift", "cheese is made of milk"},
                                      std::vector<std::string>{""}, std::vector<std::string>{" ", ""}}) {
            INFO('\'' << query << "' for " << documents.size() << " documents, the first '" << documents[0] << '\'');
            CHECK(single->rerank(query, documents) == paired->rerank(query, documents));
        }
    }
}

TEST_CASE("a manager embeds and reranks with OpenVINO") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    ModelManager<OpenVinoEmbeddingBackend, OpenVinoRerankerBackend> manager(
        OpenVinoEmbeddingBackend({.model = {.folders = *folder}}),
        OpenVinoRerankerBackend({.model = {.folders = *folder}}));
    CHECK(manager.embed({"all-minilm-l6-v2", "f16"}, {"a text"}).size() == 1);
    CHECK(manager.rerank(key, "what has lift", {"cheese is made of milk", "a wing has lift"}).size() == 2);
}

}  // namespace reranker_test
