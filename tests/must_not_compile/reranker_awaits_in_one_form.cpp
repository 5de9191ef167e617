// A reranker whose requests share calls answers in one way, whether a call is about one request or several.
// GNU: both forms of rerank, of documents and of pairs, must answer asynchronously, or neither
// Clang: both forms of rerank, of documents and of pairs, must answer asynchronously, or neither

#include "residency/backends/lexical.hpp"
#include "residency/model_manager.hpp"

#include <boost/asio/awaitable.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Model {
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents);
#if defined(CONTROL)
    std::vector<float> rerank(std::span<const residency::RerankPair> pairs);
#else
    boost::asio::awaitable<std::vector<float>> rerank(std::span<const residency::RerankPair> pairs);
#endif
    residency::BatchLimits batch_limits() const;
};

struct Mine {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key);
};

void use() { residency::ModelManager<residency::LexicalEmbeddingBackend, Mine> models{{}, Mine()}; }
