// Which sequences share a sub-batch.

#include "residency/backends/openvino/batch.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <random>
#include <vector>

namespace batch_test {

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

TEST_CASE("sub-batches go longest first, each sequence counted as long as the first") {
    const auto plan = plan_batches(of_lengths({3, 10, 4, 10, 5, 30}), 20);
    CHECK(plan.order == std::vector<std::size_t>{5, 1, 3, 4, 2, 0});
    CHECK(plan.ends == std::vector<std::size_t>{1, 3, 6});
    CHECK(plan_batches({}, 20).ends.empty());
}

TEST_CASE("a sub-batch more is made where it saves more padding than it costs") {
    CHECK(plan_batches(of_lengths({40, 24, 24}), 512).ends == std::vector<std::size_t>{1, 3});
    CHECK(plan_batches(of_lengths({40, 32, 32}), 512).ends == std::vector<std::size_t>{3});
    CHECK(plan_batches(of_lengths({40, 40, 8, 8, 8, 8}), 512).ends == std::vector<std::size_t>{2, 6});
    // Not more than are quickly planned.
    CHECK(plan_batches(of_lengths(std::vector<std::size_t>(600, 1)), 1'000'000).ends ==
          std::vector<std::size_t>{256, 512, 600});
}

TEST_CASE("each sequence is in one sub-batch, and no other plan costs less") {
    std::mt19937 random(7);
    for (int round = 0; round < 300; ++round) {
        std::vector<std::size_t> lengths(random() % 12);
        for (std::size_t& length : lengths) {
            length = 1 + random() % 40;
        }
        const std::size_t most = 16 + random() % 200;
        const auto plan = plan_batches(of_lengths(lengths), most);
        REQUIRE(plan.order.size() == lengths.size());
        std::vector<std::size_t> sorted;
        std::vector<bool> seen(lengths.size());
        for (const std::size_t index : plan.order) {
            REQUIRE_FALSE(seen.at(index));
            seen[index] = true;
            REQUIRE((sorted.empty() || sorted.back() >= lengths[index]));
            sorted.push_back(lengths[index]);
        }
        // What a plan costs; none if a sub-batch of it is too large. It has a bit for each sequence that another
        // sub-batch begins with.
        const auto cost_of = [&](std::size_t bits) -> std::optional<std::size_t> {
            std::size_t cost = 0;
            for (std::size_t begin = 0; begin < sorted.size();) {
                std::size_t end = begin + 1;
                while (end < sorted.size() && (bits >> end & 1U) == 0) {
                    ++end;
                }
                if (end - begin > 1 && (end - begin) * sorted[begin] > most) {
                    return std::nullopt;
                }
                cost += (end - begin) * sorted[begin] + tokens_for_a_batch;
                begin = end;
            }
            return cost;
        };
        std::size_t bits = 0;
        for (const std::size_t end : plan.ends) {
            bits |= std::size_t{1} << end;
        }
        REQUIRE((lengths.empty() ? plan.ends.empty() : plan.ends.back() == lengths.size()));
        const auto cost = cost_of(bits);
        REQUIRE(cost);
        for (std::size_t other = 0; other < std::size_t{1} << lengths.size(); other += 2) {
            REQUIRE(cost_of(other).value_or(*cost) >= *cost);
        }
    }
}

TEST_CASE("a call does best with what fills a sub-batch") { CHECK(batch_limits_for(512) == BatchLimits{512, 2048}); }

}  // namespace batch_test
