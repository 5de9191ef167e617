// An embedding model hands its rows over: what it kept, the next call could change.
// GNU: // Embeddings embed(std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'EmbeddingModel'
// Clang: residency::Embeddings

#include "residency/backend.hpp"

#include <span>
#include <string>

struct Mine {
#if defined(CONTROL)
    residency::Embeddings embed(std::span<const std::string> texts);
#else
    const residency::Embeddings& embed(std::span<const std::string> texts);
#endif
};

static_assert(residency::EmbeddingModel<Mine>);
