// A model from an ONNX file beside a tokenizer, in each folder where it may be.

#include "residency/backends/openvino.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/openvino_folders.hpp"
#include "support/references.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_onnx.hpp"

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace onnx_test {

using namespace residency;
using namespace residency::test;

namespace {

constexpr std::size_t vocabulary = 30522;
constexpr std::size_t width = 3;

float in_table(int token, std::size_t column) {
    return static_cast<float>((static_cast<std::size_t>(token) * (column + 1)) % 101);
}

}  // namespace

TEST_CASE("an ONNX file is computed as it says, in each folder where it may be") {
    const auto models = openvino_models_or_skip();
    const auto references = models ? models_or_skip() : std::nullopt;
    if (!references) {
        return;
    }
    std::vector<float> table;
    for (std::size_t token = 0; token < vocabulary; ++token) {
        for (std::size_t column = 0; column < width; ++column) {
            table.push_back(in_table(static_cast<int>(token), column));
        }
    }
    const TemporaryFolder folder;
    const std::filesystem::path model = folder.path() / "lookup";
    std::filesystem::copy(*models / "all-minilm-l6-v2-f16", model, std::filesystem::copy_options::recursive);
    std::filesystem::remove(model / "openvino_model.xml");
    std::filesystem::remove(model / "openvino_model.bin");
    std::ofstream(model / "model.onnx", std::ios::binary) << table_as_onnx(table, width);

    std::vector<std::string> texts;
    std::vector<std::vector<float>> expected;
    for (const EmbeddingCase& each : read_embedding_cases(*references / "all-minilm-l6-v2.reference.json")) {
        texts.push_back(each.text);
        std::vector<float>& mean = expected.emplace_back(width, 0.0F);
        for (const int token : each.tokens) {
            for (std::size_t column = 0; column < width; ++column) {
                mean[column] += in_table(token, column) / static_cast<float>(each.tokens.size());
            }
        }
    }
    REQUIRE(texts.size() > 3);
    for (const std::string where : {"", "onnx", "openvino"}) {
        INFO(where);
        if (!where.empty()) {
            std::filesystem::create_directory(model / where);
            std::filesystem::rename(model / "model.onnx", model / where / "model.onnx");
        }
        const OpenVinoEmbeddingBackend backend(
            {.model = {.folders = folder.path(), .truncate = true}, .normalise = false});
        CHECK(backend.memory_needed("lookup") > table.size() * sizeof(float));
        LoadContext context;
        const auto loaded = backend.load("lookup", context);
        CHECK(loaded->dimension() == width);
        const Embeddings rows = loaded->embed(texts);
        for (std::size_t text = 0; text < texts.size(); ++text) {
            INFO(texts[text]);
            for (std::size_t column = 0; column < width; ++column) {
                CHECK(std::abs(rows[text][column] - expected[text][column]) < 0.01F);
            }
        }
        if (!where.empty()) {
            std::filesystem::rename(model / where / "model.onnx", model / "model.onnx");
        }
    }
}

}  // namespace onnx_test
