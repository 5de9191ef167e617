// An embedding model embeds.
// GNU: // Embeddings embed(std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'EmbeddingModel'
// Clang: no member named 'embed' in 'Mine'

#include "residency/backend.hpp"

#include <span>
#include <string>
#include <vector>

struct Mine {
#if defined(CONTROL)
    residency::Embeddings embed(std::span<const std::string> texts);
#endif
};

static_assert(residency::EmbeddingModel<Mine>);
