// A reranker that answers one form asynchronously and the other not is refused as by a manager.
// GNU: both forms of rerank, of documents and of pairs, must answer asynchronously, or neither
// Clang: both forms of rerank, of documents and of pairs, must answer asynchronously, or neither

#include "residency/backends/any.hpp"

#include <boost/asio/awaitable.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Model {
    boost::asio::awaitable<std::vector<float>> rerank(std::string_view query, std::span<const std::string> documents);
#if defined(CONTROL)
    boost::asio::awaitable<std::vector<float>> rerank(std::span<const residency::RerankPair> pairs);
#else
    std::vector<float> rerank(std::span<const residency::RerankPair> pairs);
#endif
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

residency::AnyRerankerBackend use() { return residency::AnyRerankerBackend(Mine()); }
