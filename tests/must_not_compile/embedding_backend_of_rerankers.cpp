// An embedding backend's models embed.
// GNU: required for the satisfaction of 'EmbeddingModel<
// Clang: because 'typename Mine::model_type' (aka 'Reranker') does not satisfy 'EmbeddingModel'

#include "residency/backend.hpp"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Embedder {
    residency::Embeddings embed(std::span<const std::string> texts);
};
struct Reranker {
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents);
};

struct Mine {
#if defined(CONTROL)
    using model_type = Embedder;
#else
    using model_type = Reranker;
#endif
    std::unique_ptr<model_type> load(const residency::ModelKey& key);
};

static_assert(residency::EmbeddingBackend<Mine>);
