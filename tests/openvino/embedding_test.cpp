// An embedder of OpenVINO: lengths, texts of all kinds, prefixes, stopping, many threads, and what cannot be loaded.

#include "residency/backends/openvino.hpp"
#include "residency/residency.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/openvino_folders.hpp"
#include "support/parallel.hpp"
#include "support/temporary_folder.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace embedding_test {

using namespace residency;
using namespace residency::test;

namespace {

const ModelKey key{"all-minilm-l6-v2", "f16"};

std::unique_ptr<OpenVinoEmbeddingModel> load(OpenVinoEmbeddingOptions options, const ModelKey& wanted = key) {
    LoadContext context;
    return OpenVinoEmbeddingBackend(std::move(options)).load(wanted, context);
}

// A text of this many tokens, the two that are added included.
std::string text_of(std::size_t tokens) {
    std::string text;
    for (std::size_t token = 2; token < tokens; ++token) {
        text += "wing ";
    }
    return text;
}

std::string refusal(errc code, OpenVinoEmbeddingOptions options, const ModelKey& wanted = key) {
    return error_of(make_error_code(code), [&] { (void)load(std::move(options), wanted); }).what();
}

// A model's folder that can be changed: a copy of the real one.
class Copy {
public:
    explicit Copy(const std::filesystem::path& models, const std::string& model = "all-minilm-l6-v2-f16") {
        std::filesystem::copy(models / model, path(), std::filesystem::copy_options::recursive);
    }
    [[nodiscard]] std::filesystem::path path() const { return folder_.path() / "copy"; }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path() / name, std::ios::binary | std::ios::trunc) << text;
    }
    [[nodiscard]] OpenVinoEmbeddingOptions options() const { return {.model = {.folders = folder_.path()}}; }

private:
    TemporaryFolder folder_{};
};

}  // namespace

TEST_CASE("a text that is too long for OpenVINO's model is refused, or by the option cut") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const auto strict = load({.model = {.folders = *folder}});
    const auto cutting = load({.model = {.folders = *folder, .truncate = true}});
    const std::vector<std::string> fits{text_of(512)};
    const Embeddings whole = strict->embed(fits);
    for (const std::size_t tokens : {std::size_t{513}, std::size_t{5000}}) {
        const std::vector<std::string> texts{"short", text_of(tokens)};
        const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)strict->embed(texts); });
        CHECK(error.text_index() == std::optional<std::size_t>(1));
        CHECK_THAT(error.what(), contains_text("it has " + std::to_string(tokens) + " tokens, and the limit is 512"));
        CHECK(cosine(cutting->embed(texts)[1], whole[0]) > 0.9999);
    }
    const auto short_one = load({.model = {.folders = *folder, .context_tokens = 10, .truncate = true}});
    CHECK(short_one->context_tokens() == 10);
    const std::vector<std::string> longer{text_of(11)};
    const std::vector<std::string> ten{text_of(10)};
    CHECK(cosine(short_one->embed(longer)[0], strict->embed(ten)[0]) > 0.9999);
    CHECK_THAT(refusal(errc::load_failed, {.model = {.folders = *folder, .context_tokens = 513}}),
               contains_text("context_tokens is 513, but it takes 512"));
    CHECK_THAT(refusal(errc::load_failed, {.model = {.folders = *folder, .context_tokens = 2}}),
               contains_text("there is no room for the text"));
}

TEST_CASE("the name of a special token is text to OpenVINO's tokenizer") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    // [CLS] a [ sep ] b [SEP]: seven tokens, and five if [SEP] were one.
    const std::vector<std::string> texts{"a [SEP] b"};
    CHECK(load({.model = {.folders = *folder, .context_tokens = 7}})->embed(texts).size() == 1);
    const auto shorter = load({.model = {.folders = *folder, .context_tokens = 6}});
    const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)shorter->embed(texts); });
    CHECK_THAT(error.what(), contains_text("it has 7 tokens"));
}

TEST_CASE("an added token that is text stays one token") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const Copy copy(*folder);
    const auto tokens_at_most = [&copy](std::size_t tokens) {
        auto options = copy.options();
        options.model.context_tokens = tokens;
        return load(options, "copy");
    };
    const std::vector<std::string> texts{"a [MASK] b"};
    (void)error_of(errc::invalid_request, [&] { (void)tokens_at_most(6)->embed(texts); });
    copy.write("tokenizer.json", R"({"added_tokens": [{"content": "[MASK]", "special": false}]})");
    CHECK(tokens_at_most(5)->embed(texts).size() == 1);
}

TEST_CASE("a tokenizer that was converted to cut texts cuts none, and what is too long is refused") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    (void)load({.model = {.folders = *folder}});  // The core then knows the tokenizer's operations.
    const auto tokenizer =
        detail::openvino::core().read_model((*folder / "all-minilm-l6-v2-f16" / "openvino_tokenizer.xml").string());
    // As convert_tokenizer does it with truncation=True.
    std::size_t cuts = 0;
    for (const auto& node : tokenizer->get_ops()) {
        if (node->get_type_name() == std::string_view("ReadValue")) {
            const bool on = true;
            const auto constant = std::make_shared<ov::op::v0::Constant>(ov::element::boolean, ov::Shape{}, &on);
            node->input(0).replace_source_output(constant->output(0));
        } else if (node->get_type_name() == std::string_view("Truncate")) {
            constexpr std::int32_t most = 3;
            const auto constant = std::make_shared<ov::op::v0::Constant>(ov::element::i32, ov::Shape{}, &most);
            ov::Node* const selects = node->get_input_node_ptr(node->get_input_size() - 3);
            REQUIRE(selects->get_type_name() == std::string_view("Select"));
            selects->input(1).replace_source_output(constant->output(0));
            ++cuts;
        }
    }
    REQUIRE(cuts == 1);
    const Copy copy(*folder);
    ov::save_model(tokenizer, (copy.path() / "openvino_tokenizer.xml").string(), false);
    auto options = copy.options();
    options.model.context_tokens = 10;
    const auto model = load(options, "copy");
    const std::vector<std::string> fits{text_of(10)};
    CHECK(cosine(model->embed(fits)[0], load({.model = {.folders = *folder}})->embed(fits)[0]) > 0.9999);
    const std::vector<std::string> longer{text_of(11)};
    CHECK_THAT(error_of(make_error_code(errc::invalid_request), [&] { (void)model->embed(longer); }).what(),
               contains_text("it has 11 tokens"));
}

TEST_CASE("texts of all kinds have a vector of length 1, whatever is beside them") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const auto model = load({.model = {.folders = *folder}});
    CHECK(model->embed(std::vector<std::string>{}).size() == 0);
    const std::vector<std::string> texts{
        "",           std::string("a\0b", 3), "\xFF\xFE bad",        "\xF0\x9F\x98\x80",
        text_of(400), "a plain text",         std::string(200, 'x'), "[UNK]",
        " \t\n "};
    const Embeddings together = model->embed(texts);
    REQUIRE(together.size() == texts.size());
    for (std::size_t index = 0; index < texts.size(); ++index) {
        INFO(index);
        CHECK(std::abs(length(together[index]) - 1.0) < 1e-5);
        CHECK(cosine(model->embed({&texts[index], 1})[0], together[index]) > 0.9995);
    }
    for (int round = 0; round < 100; ++round) {
        const std::vector<std::string> cut_off{std::string(static_cast<std::size_t>(round), 'a') + "\xFF", "\xF0\x9F",
                                               ""};
        CHECK(model->embed(cut_off).size() == 3);
    }
    const std::vector<std::string> empty(3);
    CHECK(cosine(model->embed(empty)[2], together[0]) > 0.9995);
    const std::vector<std::string> large{std::string((std::size_t{16} << 20U) + 1, 'a')};
    const Error error = error_of(make_error_code(errc::invalid_request), [&] { (void)model->embed(large); });
    CHECK_THAT(error.what(), contains_text("16777217 bytes"));
}

TEST_CASE("vectors are as long as the model makes them if they are not to be scaled") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const std::vector<std::string> texts{"some text"};
    const Embeddings plain = load({.model = {.folders = *folder}, .normalise = false})->embed(texts);
    CHECK(std::abs(length(plain[0]) - 1.0) > 0.01);
    CHECK(cosine(plain[0], load({.model = {.folders = *folder}})->embed(texts)[0]) > 0.99999);
}

TEST_CASE("prefixes come from the folder's prompts or from the option, and stand before a text") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const std::vector<std::string> texts{"lift of a wing"};
    const std::vector<std::string> by_hand{"query: lift of a wing"};
    const auto plain = load({.model = {.folders = *folder}});
    CHECK_FALSE(plain->distinguishes());
    CHECK_THAT(
        error_of(make_error_code(errc::invalid_request), [&] { (void)plain->embed(texts, EmbedAs::query); }).what(),
        contains_text("no prefixes"));
    const Embeddings expected = plain->embed(by_hand);
    const Copy copy(*folder);
    copy.write("config_sentence_transformers.json", R"({"prompts": {"query": "query: ", "document": ""}})");
    const auto of_folder = load(copy.options(), "copy");
    CHECK(of_folder->distinguishes());
    CHECK(of_folder->embed(texts, EmbedAs::query) == expected);
    CHECK(of_folder->embed(texts, EmbedAs::document) == plain->embed(texts));
    CHECK(of_folder->embed(texts) == plain->embed(texts));
    auto options = copy.options();
    options.prefixes = [](const ModelKey& of) {
        return of.name == "copy" ? std::optional(OpenVinoPrefixes{"", "query: "}) : std::nullopt;
    };
    CHECK(load(options, "copy")->embed(texts, EmbedAs::document) == expected);
    options.prefixes = [](const ModelKey&) { return std::optional<OpenVinoPrefixes>(); };
    CHECK_FALSE(load(options, "copy")->distinguishes());
}

TEST_CASE("what is wrong with a folder is said with its path") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    CHECK_THAT(refusal(errc::load_failed, {.model = {.folders = *folder}}, {"nonesuch", "f16"}),
               contains_text((*folder / "nonesuch-f16").string() + "': No such file or directory"));
    CHECK_THAT(refusal(errc::load_failed, {.model = {.folders = *folder}}, {"qa-reranker-l6", "f16"}),
               contains_text("it is a reranker"));
    CHECK_THAT(refusal(errc::load_failed, {.model = {.folders = *folder, .device = "NONESUCH"}}),
               contains_text("NONESUCH"));
    CHECK_THAT(refusal(errc::load_failed, {.model = {.folders = *folder, .properties = {{"NO_SUCH_PROPERTY", "1"}}}}),
               contains_text("NO_SUCH_PROPERTY"));
    const auto said_of = [&folder](const auto& change, OpenVinoPooling pooling = OpenVinoPooling::from_model) {
        const Copy copy(*folder);
        change(copy);
        auto options = copy.options();
        options.pooling = pooling;
        return refusal(errc::load_failed, std::move(options), "copy");
    };
    CHECK_THAT(said_of([](const Copy& copy) { std::filesystem::remove(copy.path() / "openvino_tokenizer.xml"); }),
               contains_text("convert_tokenizer"));
    CHECK_THAT(said_of([](const Copy& copy) { std::filesystem::remove_all(copy.path() / "1_Pooling"); }),
               contains_text("does not say how token vectors become a text's"));
    CHECK_THAT(said_of([](const Copy& copy) { copy.write("config.json", "no JSON"); }),
               contains_text("config.json cannot be read, or is not JSON"));
    CHECK_THAT(said_of([](const Copy& copy) {
                   std::filesystem::remove(copy.path() / "config.json");
                   std::filesystem::remove(copy.path() / "tokenizer_config.json");
               }),
               contains_text("option model.context_tokens does"));
    CHECK_THAT(said_of([](const Copy& copy) { copy.write("openvino_model.xml", "no model"); }),
               contains_text("openvino_model.xml cannot be read, or is not XML"));
    CHECK_THAT(
        said_of([](const Copy& copy) { std::filesystem::resize_file(copy.path() / "openvino_model.bin", 1000); }),
        contains_text("cannot load '"));
    // The option says what the folder does not.
    const Copy copy(*folder);
    const std::vector<std::string> texts{"some text"};
    const Embeddings expected = load(copy.options(), "copy")->embed(texts);
    std::filesystem::remove_all(copy.path() / "1_Pooling");
    auto options = copy.options();
    options.pooling = OpenVinoPooling::mean;
    CHECK(load(options, "copy")->embed(texts) == expected);
    options.pooling = OpenVinoPooling::cls;
    CHECK(load(options, "copy")->embed(texts) != expected);
    options.pooling = OpenVinoPooling::last;
    CHECK(load(options, "copy")->embed(texts) != expected);
}

TEST_CASE("what a model needs is said before its load, or why it cannot be loaded in the load's own words") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    static_assert(detail::SaysMemoryNeeded<OpenVinoEmbeddingBackend> && detail::SaysMemoryUsed<OpenVinoEmbeddingModel>);
    static_assert(detail::SaysMemoryNeeded<OpenVinoRerankerBackend> && detail::SaysMemoryUsed<OpenVinoRerankerModel>);
    const auto needed = [&](OpenVinoModelOptions options) {
        options.folders = *folder;
        return OpenVinoEmbeddingBackend({.model = std::move(options)}).memory_needed(key);
    };
    const std::size_t one = needed({.streams = 1});
    CHECK(one >= load({.model = {.folders = *folder, .streams = 1}})->memory_used());
    CHECK(needed({.streams = 2}) > one);
    CHECK(needed({.precision = OpenVinoPrecision::f32, .streams = 1}) >= one);
    CHECK(needed({.streams = 1, .batch_tokens = 4096}) > one);
    // A text is as long as the largest sub-batch, whatever is asked of that.
    CHECK(needed({.streams = 1, .batch_tokens = 16}) == one);
    CHECK(needed({.streams = 1, .batch_tokens = 16, .context_tokens = 128}) < one);
    // Which precision a property asks for is not looked at: that of f32 is the most.
    CHECK(needed({.streams = 1, .properties = {{"INFERENCE_PRECISION_HINT", "bf16"}}}) ==
          needed({.precision = OpenVinoPrecision::f32, .streams = 1}));

    const Copy copy(*folder);
    for (const char* const file : {"openvino_tokenizer.xml", "openvino_model.xml"}) {
        std::filesystem::remove(copy.path() / file);
        const std::string loading = refusal(errc::load_failed, copy.options(), "copy");
        CHECK(error_of(make_error_code(errc::load_failed), [&] {
                  (void)OpenVinoEmbeddingBackend(copy.options()).memory_needed("copy");
              }).what() == loading);
    }
}

TEST_CASE("a load of OpenVINO reports its progress, ends when asked to, and lets what a sink throws through") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const OpenVinoEmbeddingBackend backend({.model = {.folders = *folder}});
    std::vector<float> steps;
    LoadContext context({}, {[&steps](float done) { steps.push_back(done); }, {}});
    (void)backend.load(key, context);
    REQUIRE(steps.size() >= 3);
    CHECK(std::is_sorted(steps.begin(), steps.end()));
    CHECK(steps.back() == 1.0F);
    for (std::size_t at = 0; at < steps.size() - 1; ++at) {
        std::stop_source stop;
        std::size_t step = 0;
        LoadContext stopped(stop.get_token(), {[&](float) {
                                                   if (step++ == at) {
                                                       stop.request_stop();
                                                   }
                                               },
                                               {}});
        (void)error_of(operation_aborted(), [&] { (void)backend.load(key, stopped); });
    }
    LoadContext thrower({}, {[](float) { throw std::runtime_error("full"); }, {}});
    CHECK_THROWS_WITH(backend.load(key, thrower), "full");
}

TEST_CASE("an inference of OpenVINO that is asked to stop stops, and the next is right") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const auto model = load({.model = {.folders = *folder}});
    const std::vector<std::string> texts(16, text_of(500));
    const Embeddings whole = model->embed(texts);
    std::stop_source before;
    before.request_stop();
    (void)error_of(operation_aborted(), [&] { (void)model->embed(texts, before.get_token()); });
    int stopped = 0;
    for (int round = 0; round < 20; ++round) {
        std::stop_source stop;
        std::latch begun(1);
        std::jthread stopper([&] {
            begun.wait();
            for (int spin = 0; spin < round * 10'000; ++spin) {
                std::atomic_signal_fence(std::memory_order_seq_cst);
            }
            stop.request_stop();
        });
        begun.count_down();
        try {
            const Embeddings rows = model->embed(texts, stop.get_token());
            CHECK(rows == whole);
        } catch (const Error& error) {
            CHECK(error.code() == operation_aborted());
            ++stopped;
        }
    }
    CHECK(stopped > 0);
    CHECK(model->embed(texts) == whole);
}

TEST_CASE("after an inference of OpenVINO that was asked to stop, texts are computed as before it") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    // One stream computes all of them; OpenVINO keeps there what shapes the inference before had.
    const auto model = load({.model = {.folders = *folder, .streams = 1}});
    const std::vector<std::string> few{"lift of a wing", "drag"};
    const std::vector<std::string> many(4, text_of(300));
    const Embeddings expected = model->embed(few);
    for (int round = 0; round < 40; ++round) {
        std::stop_source stop;
        std::latch begun(1);
        std::jthread stopper([&] {
            begun.wait();
            for (int spin = 0; spin < round * 50'000; ++spin) {
                std::atomic_signal_fence(std::memory_order_seq_cst);
            }
            stop.request_stop();
        });
        begun.count_down();
        try {
            (void)model->embed(many, stop.get_token());
        } catch (const Error& error) {
            CHECK(error.code() == operation_aborted());
        }
        CHECK(model->embed(few) == expected);
    }
}

TEST_CASE("many threads embed with one model of OpenVINO, each its own texts") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    const auto model = load({.model = {.folders = *folder, .streams = 2}});
    CHECK(model->max_concurrency() == 2);
    const std::array<std::string, 5> words{"lift", "drag", "shock", "heat", "flow"};
    std::vector<std::vector<std::string>> calls;
    std::vector<Embeddings> expected;
    for (std::size_t call = 0; call < words.size(); ++call) {
        calls.push_back({words[call], words[call] + " of a wing", text_of(10 + 20 * call)});
        expected.push_back(model->embed(calls.back()));
    }
    std::vector<Embeddings> got(40);
    in_parallel(8, got.size(), [&](std::size_t index) { got[index] = model->embed(calls[index % calls.size()]); });
    for (std::size_t index = 0; index < got.size(); ++index) {
        CHECK(got[index] == expected[index % expected.size()]);
    }
}

TEST_CASE("a manager keeps a model of OpenVINO, and requests share its calls") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    ModelManager<OpenVinoEmbeddingBackend, LexicalRerankerBackend> manager(
        OpenVinoEmbeddingBackend({.model = {.folders = *folder}}), {});
    const std::vector<std::string> texts{"one text", "another"};
    const Embeddings rows = manager.embed(key, texts);
    CHECK(rows.size() == 2);
    std::vector<Embeddings> got(32);
    in_parallel(16, got.size(), [&](std::size_t index) { got[index] = manager.embed(key, {texts[index % 2]}); });
    for (std::size_t index = 0; index < got.size(); ++index) {
        CHECK(cosine(got[index][0], rows[index % 2]) > 0.999);
    }
    CHECK(manager.status().embedding.counters.loads == 1);
}

}  // namespace embedding_test
