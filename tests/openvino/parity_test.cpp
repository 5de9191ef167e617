// The real models give what the reference implementation gives: whatever shares a sub-batch, and in each precision.

#include "support/parity.hpp"
#include "residency/backends/openvino.hpp"
#include "support/catch.hpp"
#include "support/openvino_folders.hpp"
#include "support/references.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace parity_test {

using namespace residency;
using namespace residency::test;

namespace {

struct Precision {
    OpenVinoPrecision precision;
    const char* name;
    /// Of rerankers' scores.
    double largest_difference;
};

constexpr Precision precisions[] = {{OpenVinoPrecision::f32, "f32", 0.03},
                                    {OpenVinoPrecision::of_device, "of the device", 0.15}};

}  // namespace

TEST_CASE("embeddings of OpenVINO are those of the reference, one text a call and all in one") {
    const auto references = models_or_skip();
    const auto folder = openvino_models_or_skip();
    if (!references || !folder) {
        return;
    }
    const auto cases = read_embedding_cases(*references / "all-minilm-l6-v2.reference.json");
    REQUIRE(cases.size() == 36);
    std::vector<std::string> texts;
    for (const EmbeddingCase& each : cases) {
        texts.push_back(each.text);
    }
    for (const Precision& each : precisions) {
        const OpenVinoEmbeddingBackend backend({.model = {.folders = *folder, .precision = each.precision}});
        LoadContext context;
        const auto model = backend.load({"all-minilm-l6-v2", "f16"}, context);
        CHECK(model->dimension() == 384);
        CHECK(model->context_tokens() == 512);
        const EmbeddingBound bound{each.name, 0.9999};
        check(model->embed(texts), cases, bound);
        Embeddings alone(texts.size(), model->dimension());
        for (std::size_t index = 0; index < texts.size(); ++index) {
            const Embeddings row = model->embed({&texts[index], 1});
            std::copy(row.values().begin(), row.values().end(), alone[index].begin());
        }
        check(alone, cases, bound);
    }
}

TEST_CASE("scores of OpenVINO are those of the reference, one document a call and all in one") {
    const auto references = models_or_skip();
    const auto folder = openvino_models_or_skip();
    if (!references || !folder) {
        return;
    }
    const auto cases = read_rerank_cases(*references / "qa-reranker-l6.reference.json");
    REQUIRE(cases.size() == 13);
    std::vector<RerankPair> pairs;
    for (const RerankCase& each : cases) {
        for (const std::string& document : each.documents) {
            pairs.push_back({each.query, document});
        }
    }
    for (const Precision& precision : precisions) {
        const OpenVinoRerankerBackend backend({.model = {.folders = *folder, .precision = precision.precision}});
        LoadContext context;
        const auto model = backend.load({"qa-reranker-l6", "f16"}, context);
        const RerankBound bound{precision.name, precision.largest_difference, precision.largest_difference};
        const std::vector<float> together = model->rerank(pairs);
        REQUIRE(together.size() == pairs.size());
        std::size_t begin = 0;
        double largest = 0.0;
        for (const RerankCase& each : cases) {
            largest = std::max(largest, check(model->rerank(each.query, each.documents), each, bound));
            std::vector<float> alone;
            for (const std::string& document : each.documents) {
                alone.push_back(model->rerank(each.query, {&document, 1}).at(0));
            }
            largest = std::max(largest, check(alone, each, bound));
            const auto from = together.begin() + static_cast<std::ptrdiff_t>(begin);
            begin += each.documents.size();
            const std::vector<float> part(from, together.begin() + static_cast<std::ptrdiff_t>(begin));
            largest = std::max(largest, check(part, each, bound));
        }
        WARN(precision.name << ": largest difference " << largest);
    }
}

}  // namespace parity_test
