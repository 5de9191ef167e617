// A manager takes the embedding backend first, then the reranker backend.
// GNU: template constraint failure for
// GNU: required for the satisfaction of 'EmbeddingBackend<
// Clang: constraints not satisfied for class template 'ModelManager'
// Clang: does not satisfy 'EmbeddingModel'

#include "residency/model_manager.hpp"
#include "residency/testing/fake_backend.hpp"

using residency::testing::FakeEmbeddingBackend;
using residency::testing::FakeRerankerBackend;

#if defined(CONTROL)
void use(residency::ModelManager<FakeEmbeddingBackend, FakeRerankerBackend>& models);
#else
void use(residency::ModelManager<FakeRerankerBackend, FakeEmbeddingBackend>& models);
#endif
