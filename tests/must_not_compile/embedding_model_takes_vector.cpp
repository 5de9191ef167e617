// An embedding model takes a span: the texts are not copied for it.
// GNU: // Embeddings embed(std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'EmbeddingModel'
// Clang: model.embed(texts)

#include "residency/backend.hpp"

#include <span>
#include <string>
#include <vector>

struct Mine {
#if defined(CONTROL)
    residency::Embeddings embed(std::span<const std::string> texts);
#else
    residency::Embeddings embed(const std::vector<std::string>& texts);
#endif
};

static_assert(residency::EmbeddingModel<Mine>);
