// What a reranker that answers asynchronously yields is a float for each document, too.
// GNU: // std::vector<float> rerank(std::string_view, std::span<const std::string>), or an awaitable of these
// Clang: because 'Mine' does not satisfy 'RerankerModel'
// Clang: std::vector<float>

#include "residency/model_manager.hpp"

#include <boost/asio/awaitable.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Mine {
#if defined(CONTROL)
    boost::asio::awaitable<std::vector<float>> rerank(std::string_view query, std::span<const std::string> documents);
#else
    boost::asio::awaitable<std::vector<double>> rerank(std::string_view query, std::span<const std::string> documents);
#endif
};

static_assert(residency::RerankerModel<Mine>);
