// A reranker gives a score for each document, in their order; the manager ranks.
// GNU: // std::vector<float> rerank(std::string_view, std::span<const std::string>)
// Clang: because 'Mine' does not satisfy 'RerankerModel'
// Clang: std::vector<float>

#include "residency/backend.hpp"
#include "residency/ranking.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Mine {
#if defined(CONTROL)
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents);
#else
    residency::Ranking rerank(std::string_view query, std::span<const std::string> documents);
#endif
};

static_assert(residency::RerankerModel<Mine>);
