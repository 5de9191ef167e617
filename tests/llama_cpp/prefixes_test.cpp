// Prefixes of queries and documents.

#include "residency/backends/llama_cpp.hpp"
#include "residency/embed_as.hpp"
#include "residency/model_slot.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/folders.hpp"
#include "support/tiny_model.hpp"

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace prefixes_test {

using namespace residency;
using namespace residency::test;

namespace {

const boost::system::error_code invalid_request = make_error_code(errc::invalid_request);

// Two files of one model, of which one has prefixes.
class Models {
public:
    explicit Models(bool truncate = false) {
        write_tiny_model(folder_.path() / "tiny-plain.gguf", {.adds_begin = true, .context_length = 64});
        write_tiny_model(folder_.path() / "tiny-prefixed.gguf", {.adds_begin = true, .context_length = 64});
        options_.model.files = folder_.path();
        options_.model.truncate = truncate;
        options_.prefixes = [](const ModelKey& key) {
            return key.quantization == "prefixed" ? std::optional(LlamaCppPrefixes{"query: ", "passage: "})
                                                  : std::nullopt;
        };
    }

    [[nodiscard]] const LlamaCppEmbeddingOptions& options() const noexcept { return options_; }
    [[nodiscard]] std::unique_ptr<LlamaCppEmbeddingModel> load(const std::string& quantization) const {
        LoadContext context;
        return LlamaCppEmbeddingBackend(options_).load({"tiny", quantization}, context);
    }

private:
    TemporaryFolder folder_;
    LlamaCppEmbeddingOptions options_{};
};

std::vector<float> row_of(LlamaCppEmbeddingModel& model, const std::string& text, EmbedAs as) {
    const std::vector<std::string> texts{text};
    const Embeddings rows = model.embed(texts, as);
    return {rows[0].begin(), rows[0].end()};
}

}  // namespace

TEST_CASE("a query and a document are embedded with the model's prefixes, and a text as it is without") {
    const Models models;
    const auto model = models.load("prefixed");
    CHECK(model->distinguishes());
    const auto plain = [&](const std::string& text) { return row_of(*model, text, EmbedAs::as_is); };
    CHECK(row_of(*model, "a text", EmbedAs::query) == plain("query: a text"));
    CHECK(row_of(*model, "a text", EmbedAs::document) == plain("passage: a text"));
    CHECK(row_of(*model, "a text", EmbedAs::query) != plain("a text"));
    // Also of a text that has no tokens of its own.
    CHECK(row_of(*model, "", EmbedAs::document) == plain("passage: "));
    const std::vector<std::string> texts{"a text"};
    const Embeddings rows = model->embed(texts);
    CHECK(std::vector<float>(rows[0].begin(), rows[0].end()) == plain("a text"));
}

TEST_CASE("a prefix stays when its text is cut, and counts among the tokens where it is not") {
    const std::string text(200, 'x');
    const Models cutting(true);
    const auto cuts = cutting.load("prefixed");
    CHECK(row_of(*cuts, text, EmbedAs::query) == row_of(*cuts, "query: " + text, EmbedAs::as_is));
    CHECK(row_of(*cuts, text, EmbedAs::query) != row_of(*cuts, text, EmbedAs::as_is));
    const Models models;
    const auto model = models.load("prefixed");
    // One token a byte and one before them: it fits, and with a prefix it does not.
    const std::string fits(60, 'x');
    CHECK_NOTHROW(row_of(*model, fits, EmbedAs::as_is));
    const Error error = error_of(invalid_request, [&] { row_of(*model, fits, EmbedAs::document); });
    CHECK_THAT(error.what(), contains_text("text 0"));
}

TEST_CASE("a model without prefixes accepts a text as it is alone, and its status shows it") {
    const Models models;
    const auto model = models.load("plain");
    CHECK_FALSE(model->distinguishes());
    CHECK_NOTHROW(row_of(*model, "a text", EmbedAs::as_is));
    for (const EmbedAs as : {EmbedAs::query, EmbedAs::document}) {
        const Error error = error_of(invalid_request, [&] { row_of(*model, "a text", as); });
        CHECK(error.stage() == Stage::inference);
        CHECK(error.key() == ModelKey("tiny", "plain"));
        CHECK_THAT(error.what(), contains_text("LlamaCppEmbeddingOptions::prefixes"));
    }
    ModelSlot<LlamaCppEmbeddingBackend> slot(LlamaCppEmbeddingBackend(models.options()));
    slot.ensure_loaded({"tiny", "plain"});
    CHECK_FALSE(slot.status().residents.at(0).distinguishes);
    slot.ensure_loaded({"tiny", "prefixed"});
    CHECK(slot.status().residents.at(0).distinguishes);
}

TEST_CASE("what the function of the prefixes throws fails the load") {
    LlamaCppEmbeddingOptions options{.model = {.files = "."}};
    options.prefixes = [](const ModelKey&) -> std::optional<LlamaCppPrefixes> {
        throw std::runtime_error("no card for this model");
    };
    LoadContext context;
    CHECK_THROWS_WITH(LlamaCppEmbeddingBackend(options).load("tiny", context), "no card for this model");
}

}  // namespace prefixes_test
