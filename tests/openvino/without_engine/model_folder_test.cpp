// What the files beside a model say, and where a key's folder is.

#include "residency/backends/openvino/model_folder.hpp"
#include "residency/backends/openvino/folders.hpp"
#include "residency/backends/openvino/options.hpp"
#include "residency/error.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace model_folder_test {

using namespace residency;
using namespace residency::test;
using residency::detail::openvino::ModelFolder;

namespace {

class Written {
public:
    void write(const std::string& name, const std::string& text) const {
        std::filesystem::create_directories((folder_.path() / name).parent_path());
        std::ofstream(folder_.path() / name, std::ios::binary) << text;
    }
    [[nodiscard]] ModelFolder folder() const { return ModelFolder(folder_.path()); }
    [[nodiscard]] std::filesystem::path path() const { return folder_.path(); }

private:
    TemporaryFolder folder_{};
};

}  // namespace

TEST_CASE("the least of what the files say is how many tokens a model takes") {
    const Written written;
    CHECK_FALSE(written.folder().limit());
    written.write("tokenizer_config.json", R"({"model_max_length": 1000000000000000019884624838656})");
    CHECK_FALSE(written.folder().limit());
    written.write("config.json", R"({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0})");
    CHECK(written.folder().limit() == 512);
    written.write("tokenizer_config.json", R"({"model_max_length": 384})");
    CHECK(written.folder().limit() == 384);
    written.write("sentence_bert_config.json", R"({"max_seq_length": 256, "do_lower_case": false})");
    CHECK(written.folder().limit() == 256);
    written.write("sentence_bert_config.json", R"({"max_seq_length": null})");
    CHECK(written.folder().limit() == 384);
}

TEST_CASE("a number that no model can have limits nothing") {
    const Written written;
    for (const char* const number : {"0", "0e999", "-1", "0.5", "1e9", "1e30", "1e400", "-1e400",
                                     "18446744073709551615", "9223372036854775808", "null", "\"512\"", "[512]"}) {
        INFO(number);
        written.write("config.json", std::string(R"({"max_position_embeddings": )") + number + "}");
        CHECK_FALSE(written.folder().limit());
        written.write("config.json", R"({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})");
        CHECK(written.folder().limit() == 512);
    }
    written.write("config.json", R"({"max_position_embeddings": 1, "max_position_embeddings": 512.0})");
    CHECK(written.folder().limit() == 512);
}

TEST_CASE("a file that is not JSON is refused by its name") {
    const Written written;
    written.write("openvino_model.xml", "<net></net>");
    const std::string text = GENERATE(as<std::string>(), "", "{", "{} x", "{\"a\": 1,}", "// no\n{}", "\xEF\xBB\xBF{}",
                                      "{\"a\": NaN}", "{\"a\": \"\xFF\"}", std::string(1'000'000, '['),
                                      R"({"a":)" + std::string(100, '[') + std::string(100, ']') + "}");
    INFO(text.substr(0, 100));
    const auto refused = [&](const std::string& name, auto reads) {
        written.write(name, text);
        CHECK_THROWS_WITH(reads(written.folder()), name + " cannot be read, or is not JSON");
        std::filesystem::remove(written.path() / name);
    };
    const auto limit = [](const ModelFolder& folder) { return folder.limit(); };
    refused("tokenizer_config.json", limit);
    refused("sentence_bert_config.json", limit);
    refused("config.json", limit);
    refused("config.json", [](const ModelFolder& folder) { return folder.sizes(); });
    refused("1_Pooling/config.json", [](const ModelFolder& folder) { return folder.pooling(); });
    refused("config_sentence_transformers.json", [](const ModelFolder& folder) { return folder.prefixes(); });
    refused("tokenizer.json", [](const ModelFolder& folder) { return folder.added_text_tokens(); });
}

TEST_CASE("JSON of another shape says nothing") {
    const Written written;
    const std::string text = GENERATE(as<std::string>(), "null", "[]", "7", "\"text\"", "{}", R"({"added_tokens": 7})",
                                      R"({"added_tokens": [7, null, {}, {"content": 7}, {"content": ""}]})",
                                      R"({"prompts": 7})", R"({"prompts": {"query": 7}})", R"({"pooling_mode": 7})");
    INFO(text);
    for (const char* const name : {"tokenizer_config.json", "sentence_bert_config.json", "config.json",
                                   "1_Pooling/config.json", "config_sentence_transformers.json", "tokenizer.json"}) {
        written.write(name, text);
    }
    CHECK_FALSE(written.folder().limit());
    CHECK_FALSE(written.folder().pooling());
    CHECK_FALSE(written.folder().prefixes());
    CHECK(written.folder().added_text_tokens().empty());
}

TEST_CASE("models that number positions from the padding take so many tokens less") {
    const Written written;
    written.write("config.json", R"({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1})");
    CHECK(written.folder().limit() == 512);
    written.write("config.json", R"({"model_type": "mpnet", "max_position_embeddings": 514})");
    CHECK(written.folder().limit() == 512);
}

TEST_CASE("a pooling is read in both forms, and one that is not computed is refused") {
    const Written written;
    CHECK_FALSE(written.folder().pooling());
    const auto pooling_of = [&written](const std::string& text) {
        written.write("1_Pooling/config.json", text);
        return written.folder().pooling();
    };
    CHECK(pooling_of(R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false})") ==
          OpenVinoPooling::mean);
    CHECK(pooling_of(R"({"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true})") == OpenVinoPooling::cls);
    CHECK(pooling_of(R"({"pooling_mode_lasttoken": true})") == OpenVinoPooling::last);
    CHECK(pooling_of(R"({"pooling_mode": "cls"})") == OpenVinoPooling::cls);
    CHECK(pooling_of(R"({"pooling_mode": "mean"})") == OpenVinoPooling::mean);
    CHECK_FALSE(pooling_of(R"({"word_embedding_dimension": 384})"));
    for (const char* const text :
         {R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true})", R"({"pooling_mode": "max"})",
          R"({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true})",
          R"({"pooling_mode_weightedmean_tokens": true})"}) {
        INFO(text);
        CHECK_THROWS_WITH(pooling_of(text), contains_text("pooling other than mean, cls or last"));
    }
    CHECK_THROWS_WITH(pooling_of("{"), contains_text("1_Pooling/config.json cannot be read, or is not JSON"));
}

TEST_CASE("prompts are prefixes, and empty ones are none") {
    const Written written;
    CHECK_FALSE(written.folder().prefixes());
    written.write("config_sentence_transformers.json", R"({"prompts": {"query": "", "document": ""}})");
    CHECK_FALSE(written.folder().prefixes());
    written.write("config_sentence_transformers.json", R"({"prompts": {"query": "query: ", "passage": "passage: "}})");
    const auto prefixes = written.folder().prefixes();
    REQUIRE(prefixes);
    CHECK(prefixes->query == "query: ");
    CHECK(prefixes->document == "passage: ");
}

TEST_CASE("added tokens that are not special are text") {
    const Written written;
    CHECK(written.folder().added_text_tokens().empty());
    written.write("tokenizer.json", R"({"added_tokens": [{"content": "[SEP]", "special": true},
        {"content": "covid-19", "special": false}, {"content": "", "special": false}]})");
    CHECK(written.folder().added_text_tokens() == std::vector<std::string>{"covid-19"});
}

TEST_CASE("model and tokenizer are found in the folder and below, and what is missing is said") {
    CHECK_THROWS_WITH(ModelFolder("nowhere/at/all").model(), contains_text("No such file or directory"));
    const Written written;
    CHECK_THROWS_WITH(written.folder().model(), contains_text("neither openvino_model.xml nor model.onnx"));
    CHECK_THROWS_WITH(written.folder().tokenizer(), contains_text("convert_tokenizer"));
    written.write("onnx/model.onnx", "");
    CHECK(written.folder().model() == written.path() / "onnx" / "model.onnx");
    written.write("openvino/openvino_model.xml", "model");
    CHECK_THROWS_WITH(written.folder().model(), contains_text("openvino_model.xml cannot be read, or is not XML"));
    written.write("openvino/openvino_model.xml", "\n<?xml");
    CHECK(written.folder().model() == written.path() / "openvino" / "openvino_model.xml");
    written.write("openvino_model.xml", "<net");
    CHECK(written.folder().model() == written.path() / "openvino_model.xml");
    written.write("openvino/openvino_tokenizer.xml", "<net");
    CHECK(written.folder().tokenizer() == written.path() / "openvino" / "openvino_tokenizer.xml");
    CHECK_THROWS_WITH(ModelFolder(written.path() / "openvino_model.xml").model(), contains_text("Not a directory"));
}

TEST_CASE("a key finds its folder and leads out of none") {
    const OpenVinoFolders folders("models");
    CHECK(folders.path_of({"bge", "int8"}) == std::filesystem::path("models") / "bge-int8");
    CHECK(folders.path_of("bge") == std::filesystem::path("models") / "bge");
    for (const ModelKey& key : {ModelKey("../x", "f16"), ModelKey(".."), ModelKey("."), ModelKey("a", "/b"),
                                ModelKey(std::string("a\0b", 3), "f16")}) {
        CHECK_THROWS_AS(folders.path_of(key), Error);
    }
    CHECK_FALSE(OpenVinoFolders().known());
    CHECK_FALSE(OpenVinoFolders("").known());
    const OpenVinoFolders function([](const ModelKey& key) { return std::filesystem::path("x/" + key.name); });
    CHECK(function.path_of("a/b") == "x/a/b");
    const OpenVinoFolders with_nul([](const ModelKey&) { return std::filesystem::path(std::string("a\0b", 3)); });
    CHECK_THROWS_AS(with_nul.path_of("a"), Error);
}

TEST_CASE("options that are not what their docs demand are refused by name, and zeros are decided") {
    using detail::openvino::checked;
    const auto refused = [](OpenVinoModelOptions options, const std::string& field) {
        INFO(field);
        CHECK_THROWS_WITH(checked(std::move(options)), contains_text("option model." + field));
    };
    const OpenVinoFolders folders("models");
    refused({}, "folders");
    refused({.folders = folders, .device = ""}, "device");
    refused({.folders = folders, .streams = 257}, "streams");
    refused({.folders = folders, .threads = 513}, "threads");
    refused({.folders = folders, .batch_tokens = 15}, "batch_tokens");
    refused({.folders = folders, .batch_tokens = 1'048'577}, "batch_tokens");
    const OpenVinoModelOptions decided = checked({.folders = folders});
    CHECK(decided.streams >= 1);
    CHECK(decided.streams <= 4);
    CHECK(decided.threads >= decided.streams);
    CHECK(checked({.folders = folders, .streams = 512 / 2}).threads >= 256);
}

TEST_CASE("a key is known if it has a folder, and one that leads out of the folder of models is not") {
    const Written written;
    written.write("minilm-f16/openvino_model.xml", "");
    const OpenVinoFolders folders(written.path());
    CHECK(folders.may_have({"minilm", "f16"}));
    CHECK_FALSE(folders.may_have({"minilm", "f32"}));
    CHECK_FALSE(folders.may_have({"minilm"}));
    CHECK_FALSE(folders.may_have({"..", ""}));
    CHECK_FALSE(folders.may_have({"../" + written.path().filename().string() + "/minilm", "f16"}));
    // A function is not called for it: it may take its time.
    const OpenVinoFolders chosen([](const ModelKey& key) -> std::filesystem::path {
        throw Error(errc::load_failed, key, Stage::load, "called");
    });
    CHECK(chosen.may_have({"minilm", "f16"}));
}

}  // namespace model_folder_test
