// Which sequences share a sub-batch.

#include "residency/backends/openvino/batch.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

using namespace residency;
using namespace residency::detail::openvino;

namespace {

std::vector<Sequence> of_lengths(const std::vector<std::size_t>& lengths) {
    std::vector<Sequence> sequences;
    for (const std::size_t length : lengths) {
        sequences.push_back({Tokens(length, 7), {}});
    }
    return sequences;
}

}  // namespace

TEST_CASE("sub-batches are filled longest first, each sequence counted as long as the first") {
    const auto plan = plan_batches(of_lengths({3, 10, 4, 10, 5, 30}), 20);
    CHECK(plan.order == std::vector<std::size_t>{5, 1, 3, 4, 2, 0});
    CHECK(plan.ends == std::vector<std::size_t>{1, 3, 6});
    CHECK(plan_batches({}, 20).ends.empty());
}

TEST_CASE("each sequence is in one sub-batch, which is full but for its last place") {
    std::mt19937 random(7);
    for (int round = 0; round < 200; ++round) {
        std::vector<std::size_t> lengths(random() % 60);
        for (std::size_t& length : lengths) {
            length = 1 + random() % 40;
        }
        const std::size_t most = 16 + random() % 100;
        const auto plan = plan_batches(of_lengths(lengths), most);
        std::vector<bool> seen(lengths.size());
        for (const std::size_t index : plan.order) {
            REQUIRE_FALSE(seen.at(index));
            seen[index] = true;
        }
        REQUIRE(plan.order.size() == lengths.size());
        std::size_t begin = 0;
        for (const std::size_t end : plan.ends) {
            REQUIRE(end > begin);
            const std::size_t longest = lengths[plan.order[begin]];
            for (std::size_t at = begin; at < end; ++at) {
                REQUIRE(lengths[plan.order[at]] <= longest);
            }
            REQUIRE((end - begin == 1 || (end - begin) * longest <= most));
            REQUIRE((end == lengths.size() || (end - begin + 1) * longest > most));
            begin = end;
        }
        REQUIRE(begin == lengths.size());
    }
}

TEST_CASE("a call does best with what fills a sub-batch") { CHECK(batch_limits_for(512) == BatchLimits{512, 2048}); }
