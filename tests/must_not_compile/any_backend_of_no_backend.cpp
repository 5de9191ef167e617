// What is no embedding backend is not taken for one because its type is erased.
// GNU: required for the satisfaction of 'EmbeddingModel<typename Backend::model_type>' [with Backend = Mine]
// GNU: no matching function for call to 'residency::AnyEmbeddingBackend::AnyEmbeddingBackend(Mine)'
// Clang: because 'Mine' does not satisfy 'EmbeddingBackend'

#include "residency/backends/any.hpp"

#include <memory>
#include <span>
#include <string>

struct Model {
#if defined(CONTROL)
    residency::Embeddings embed(std::span<const std::string> texts);
#else
    residency::Embeddings embed(const std::string& text);
#endif
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

residency::AnyEmbeddingBackend use() { return residency::AnyEmbeddingBackend(Mine()); }
