// A reranker backend's models rerank.
// GNU: required for the satisfaction of 'RerankerModel<
// Clang: because 'typename Mine::model_type' (aka 'Embedder') does not satisfy 'RerankerModel'

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
    using model_type = Reranker;
#else
    using model_type = Embedder;
#endif
    std::unique_ptr<model_type> load(const residency::ModelKey& key);
};

static_assert(residency::RerankerBackend<Mine>);
