// The measure that `quality` prints.

#include "support/ndcg.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <vector>

namespace ndcg_test {

using namespace residency::test;

TEST_CASE("nDCG@10 of orders that can be computed by hand") {
    const Gains gains{{1, 4}, {2, 1}, {3, 0}};
    CHECK(ndcg_at_10(std::vector<int>{1, 2, 3}, gains) == Approx(1.0));
    CHECK(ndcg_at_10(std::vector<int>{}, gains) == 0.0);
    CHECK(ndcg_at_10(std::vector<int>{7, 8}, gains) == 0.0);
    CHECK(ndcg_at_10(std::vector<int>{1}, {}) == 0.0);
    const double ideal = 15.0 + 1.0 / std::log2(3.0);
    CHECK(ndcg_at_10(std::vector<int>{2, 1}, gains) == Approx((1.0 + 15.0 / std::log2(3.0)) / ideal));
    CHECK(ndcg_at_10(std::vector<int>{7, 1}, gains) == Approx(15.0 / std::log2(3.0) / ideal));
}

TEST_CASE("nDCG@10 looks at ten, and so does its ideal") {
    Gains gains;
    std::vector<int> order;
    for (int document = 1; document <= 12; ++document) {
        gains[document] = 1;
        order.push_back(document);
    }
    CHECK(ndcg_at_10(order, gains) == Approx(1.0));
    order.insert(order.begin(), {100, 101, 102, 103, 104, 105, 106, 107, 108, 109});
    CHECK(ndcg_at_10(order, gains) == 0.0);
}

}  // namespace ndcg_test
