// What an embedding model that answers asynchronously yields is Embeddings, too.
// GNU: // Embeddings embed(std::span<const std::string>), or an awaitable of these
// Clang: because 'Mine' does not satisfy 'EmbeddingModel'
// Clang: residency::Embeddings

#include "residency/model_manager.hpp"

#include <boost/asio/awaitable.hpp>

#include <span>
#include <string>
#include <vector>

struct Mine {
#if defined(CONTROL)
    boost::asio::awaitable<residency::Embeddings> embed(std::span<const std::string> texts);
#else
    boost::asio::awaitable<std::vector<double>> embed(std::span<const std::string> texts);
#endif
};

static_assert(residency::EmbeddingModel<Mine>);
