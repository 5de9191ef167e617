#pragma once

#include "residency/not_a_number.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace residency {

/// One document of a ranking.
struct RankedDocument {
    /// Where the document stood in the request, from 0.
    std::size_t index = 0;
    /// The model's score for it; greater is better. What the numbers mean is the model's own.
    float score = 0.0F;

    /// Same index and same score.
    friend bool operator==(const RankedDocument&, const RankedDocument&) = default;
};

/// The documents of a rerank request, best first; equal scores in the request's order.
using Ranking = std::vector<RankedDocument>;

/// Orders the documents by their scores: `scores[i]` is that of document i. Writes to `ranking`, whose memory it uses
/// if that has room. A NaN ranks last.
inline void rank(std::span<const float> scores, Ranking& ranking) {
    ranking.resize(scores.size());
    for (std::size_t index = 0; index < scores.size(); ++index) {
        ranking[index] = {index, scores[index]};
    }
    // Not std::stable_sort, which asks for memory of its own.
    std::sort(ranking.begin(), ranking.end(), [](const RankedDocument& left, const RankedDocument& right) {
        const bool left_is_nan = detail::is_nan(left.score);
        if (const bool right_is_nan = detail::is_nan(right.score); left_is_nan || right_is_nan) {
            return left_is_nan != right_is_nan ? right_is_nan : left.index < right.index;
        }
        return left.score != right.score ? left.score > right.score : left.index < right.index;
    });
}

/// The same, as a new ranking.
[[nodiscard]] inline Ranking rank(std::span<const float> scores) {
    Ranking ranking;
    rank(scores, ranking);
    return ranking;
}

}  // namespace residency
