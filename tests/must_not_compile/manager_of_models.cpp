// A manager takes backends, which load models, not models.
// GNU: template constraint failure for
// GNU: required for the satisfaction of 'NamesModelType<
// Clang: constraints not satisfied for class template 'ModelManager'
// Clang: does not satisfy 'NamesModelType'

#include "residency/model_manager.hpp"
#include "residency/testing/fake_backend.hpp"

using residency::testing::FakeRerankerBackend;

struct Embedder {
    residency::Embeddings embed(std::span<const std::string> texts);
};
struct EmbedderBackend {
    using model_type = Embedder;
    std::unique_ptr<Embedder> load(const residency::ModelKey& key);
};

#if defined(CONTROL)
void use(residency::ModelManager<EmbedderBackend, FakeRerankerBackend>& models);
#else
void use(residency::ModelManager<Embedder, FakeRerankerBackend>& models);
#endif
