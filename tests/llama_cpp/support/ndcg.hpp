#pragma once

#include "references.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <vector>

namespace residency::test {

/// The gains of one query, by document.
using Gains = std::map<int, int>;

/// How good the first ten of `ranking`, documents' numbers best first, are: gain 2^g - 1, discount log2(rank + 1), over
/// that of the ideal order of all judged documents. Zero if none is of any gain.
inline double ndcg_at_10(std::span<const int> ranking, const Gains& gains) {
    static constexpr std::size_t depth = 10;
    const auto sum = [](std::span<const int> of) {
        double total = 0.0;
        for (std::size_t rank = 0; rank < std::min(depth, of.size()); ++rank) {
            total += (std::exp2(of[rank]) - 1.0) / std::log2(static_cast<double>(rank) + 2.0);
        }
        return total;
    };
    std::vector<int> ideal;
    for (const auto& [document, gain] : gains) {
        ideal.push_back(gain);
    }
    std::sort(ideal.begin(), ideal.end(), std::greater<>());
    std::vector<int> found;
    for (const int document : ranking) {
        const auto at = gains.find(document);
        found.push_back(at == gains.end() ? 0 : at->second);
    }
    const double best = sum(ideal);
    return best > 0.0 ? sum(found) / best : 0.0;
}

/// The gains of every query.
inline std::map<int, Gains> gains_of(const Collection& collection) {
    std::map<int, Gains> gains;
    for (const Judgement& each : collection.judgements) {
        gains[each.query][each.document] = each.gain;
    }
    return gains;
}

}  // namespace residency::test
