// An embedding model gives its rows in one block.
// GNU: // Embeddings embed(std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'EmbeddingModel'
// Clang: residency::Embeddings

#include "residency/backend.hpp"

#include <span>
#include <string>
#include <vector>

struct Mine {
#if defined(CONTROL)
    residency::Embeddings embed(std::span<const std::string> texts);
#else
    std::vector<std::vector<float>> embed(std::span<const std::string> texts);
#endif
};

static_assert(residency::EmbeddingModel<Mine>);
