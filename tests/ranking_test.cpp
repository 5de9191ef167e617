#include "residency/ranking.hpp"

#include "support/catch.hpp"

#include <cstddef>
#include <limits>
#include <vector>

namespace ranking_test {

using residency::rank;
using residency::RankedDocument;
using residency::Ranking;

TEST_CASE("The best score comes first, with the index that it had") {
    const std::vector<float> scores{0.5F, -1.0F, 2.0F};
    CHECK(rank(scores) == Ranking{{2, 2.0F}, {0, 0.5F}, {1, -1.0F}});
}

TEST_CASE("Equal scores keep the order of the request") {
    // Enough of them for a sort that is not stable to show it.
    std::vector<float> scores(1000, 1.0F);
    scores[700] = 2.0F;
    const Ranking ranking = rank(scores);
    REQUIRE(ranking.size() == scores.size());
    CHECK(ranking[0] == RankedDocument{700, 2.0F});
    std::size_t expected = 0;
    for (std::size_t place = 1; place < ranking.size(); ++place) {
        expected += expected == 700 ? 1 : 0;
        REQUIRE(ranking[place].index == expected++);
    }
}

TEST_CASE("No score, no document") { CHECK(rank({}).empty()); }

TEST_CASE("A score that is NaN ranks last, after the lowest; more of them in the request's order") {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> scores{nan, 1.0F, nan, -std::numeric_limits<float>::infinity(), -nan, 2.0F};
    std::vector<std::size_t> order;
    for (const RankedDocument& document : rank(scores)) {
        order.push_back(document.index);
    }
    CHECK(order == std::vector<std::size_t>{5, 1, 3, 0, 2, 4});
}

TEST_CASE("Infinite scores are ordered like others") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::vector<float> scores{-infinity, 0.0F, infinity};
    CHECK(rank(scores) == Ranking{{2, infinity}, {1, 0.0F}, {0, -infinity}});
}

}  // namespace ranking_test
