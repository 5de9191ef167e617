// An embedding model takes all the texts of a call at once.
// GNU: // Embeddings embed(std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'EmbeddingModel'
// Clang: model.embed(texts)

#include "residency/backend.hpp"

#include <span>
#include <string>

struct Mine {
#if defined(CONTROL)
    residency::Embeddings embed(std::span<const std::string> texts);
#else
    residency::Embeddings embed(const std::string& text);
#endif
};

static_assert(residency::EmbeddingModel<Mine>);
