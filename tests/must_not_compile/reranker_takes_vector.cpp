// A reranker takes a span: the documents are not copied for it.
// GNU: // std::vector<float> rerank(std::string_view, std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'RerankerModel'
// Clang: model.rerank(query, documents)

#include "residency/backend.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Mine {
#if defined(CONTROL)
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents);
#else
    std::vector<float> rerank(std::string_view query, const std::vector<std::string>& documents);
#endif
};

static_assert(residency::RerankerModel<Mine>);
