// A small program of a consumer: backends of its own, one text embedded, two documents ranked, everything unloaded.

#include <residency/residency.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct LengthEmbedder {
    residency::Embeddings embed(std::span<const std::string> texts) {
        residency::Embeddings lengths(texts.size(), 1);
        for (std::size_t index = 0; index < texts.size(); ++index) {
            lengths[index][0] = static_cast<float>(texts[index].size());
        }
        return lengths;
    }
};

struct LengthReranker {
    std::vector<float> rerank(std::string_view, std::span<const std::string> documents) {
        std::vector<float> scores;
        for (const std::string& document : documents) {
            scores.push_back(static_cast<float>(document.size()));
        }
        return scores;
    }
};

template <class Model>
struct Backend {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey&) { return std::make_unique<Model>(); }
};

}  // namespace

int main() {
    using namespace std::chrono_literals;
    residency::ModelManager<Backend<LengthEmbedder>, Backend<LengthReranker>> models{
        {}, {}, {.embedding = {.keep_alive = 1min}, .reranker = {.keep_alive = 0ms}}};

    const residency::Embeddings embeddings = models.embed("lengths", {"four"});
    const residency::Ranking ranking = models.rerank("lengths", "which is longer", {"this", "or that"});
    const bool clean = models.shutdown().clean();

    return embeddings.size() == 1 && embeddings[0][0] == 4.0F && ranking.front().index == 1 && clean ? 0 : 1;
}
