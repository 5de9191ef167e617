#pragma once

#include "residency/embeddings.hpp"
#include "support/catch.hpp"
#include "support/comparing.hpp"
#include "support/references.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace residency::test {

/// How near a quantization of all-minilm-l6-v2 is to the reference.
struct EmbeddingBound {
    const char* quantization;
    double least_cosine;
};

inline constexpr std::array embedding_bounds{EmbeddingBound{"f16", 0.9999}, EmbeddingBound{"q8_0", 0.997}};

/// How near a quantization of qa-reranker-l6 is to the reference.
struct RerankBound {
    const char* quantization;
    double largest_difference;
    /// Two scores of a query that are further apart than this in the reference keep their order.
    double kept_order;
};

inline constexpr std::array rerank_bounds{RerankBound{"f16", 0.03, 0.03},
                                          RerankBound{"q8_0", 0.4, std::numeric_limits<double>::infinity()}};

/// Checks a row for each case.
inline void check(const Embeddings& rows, const std::vector<EmbeddingCase>& cases, const EmbeddingBound& bound) {
    REQUIRE(rows.size() == cases.size());
    double worst = 1.0;
    for (std::size_t index = 0; index < cases.size(); ++index) {
        worst = std::min(worst, cosine(rows[index], cases[index].vector));
        INFO(bound.quantization << ": " << cases[index].text);
        CHECK(cosine(rows[index], cases[index].vector) >= bound.least_cosine);
        CHECK(std::abs(length(rows[index]) - 1.0) < 1e-5);
    }
    WARN(bound.quantization << ": least cosine " << worst);
}

/// Checks the scores of a case's documents, and gives the largest difference.
inline double check(const std::vector<float>& scores, const RerankCase& expected, const RerankBound& bound) {
    REQUIRE(scores.size() == expected.scores.size());
    double largest = 0.0;
    for (std::size_t index = 0; index < scores.size(); ++index) {
        INFO(bound.quantization << ": " << expected.query << " / " << expected.documents[index]);
        const double difference =
            std::abs(static_cast<double>(scores[index]) - static_cast<double>(expected.scores[index]));
        CHECK(difference <= bound.largest_difference);
        largest = std::max(largest, difference);
        for (std::size_t other = 0; other < scores.size(); ++other) {
            if (static_cast<double>(expected.scores[index] - expected.scores[other]) > bound.kept_order) {
                CHECK(scores[index] > scores[other]);
            }
        }
    }
    return largest;
}

}  // namespace residency::test
