#pragma once

#include "residency/batch_limits.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace residency::detail::openvino {

/// The ids of tokens.
using Tokens = std::vector<std::int64_t>;

/// What a model reads at once: the tokens of a text, or of a query with its document.
struct Sequence {
    /// The tokens.
    Tokens tokens{};
    /// Which of the two texts each token belongs to; empty if all are of type 0.
    Tokens types{};
};

/// Which sequences of a call share a sub-batch.
struct BatchPlan {
    /// The sequences' indices, longest first.
    std::vector<std::size_t> order{};
    /// Where in `order` each sub-batch ends.
    std::vector<std::size_t> ends{};
};

/// What one more sub-batch costs, in tokens: as much as this much padding. Of all-MiniLM-L6 a sub-batch takes some
/// 0.5 ms beside its tokens; two cores of an EPYC without AMX compute 12 tokens in that, those with AMX twice as many.
inline constexpr std::size_t tokens_for_a_batch = 16;

/// The most sequences of a sub-batch: what one more costs is nothing beside so many, and to plan takes no longer.
inline constexpr std::size_t most_in_a_batch = 256;

/// Makes sub-batches of at most `batch_tokens` tokens each, the longest sequences first, so that padding and
/// sub-batches together cost least. A sequence counts as long as the longest of its sub-batch, as it is padded to that.
/// A longer sequence has a sub-batch of its own.
inline BatchPlan plan_batches(std::span<const Sequence> sequences, std::size_t batch_tokens) {
    BatchPlan plan;
    const std::size_t count = sequences.size();
    for (std::size_t index = 0; index < count; ++index) {
        plan.order.push_back(index);
    }
    std::stable_sort(plan.order.begin(), plan.order.end(), [sequences](std::size_t left, std::size_t right) {
        return sequences[left].tokens.size() > sequences[right].tokens.size();
    });
    // From the last sequence to the first: what all from it on cost, and where the first sub-batch of those ends.
    std::vector<std::size_t> costs(count + 1, 0);
    std::vector<std::size_t> ends(count, 0);
    for (std::size_t begin = count; begin-- > 0;) {
        const std::size_t longest = sequences[plan.order[begin]].tokens.size();
        costs[begin] = longest + tokens_for_a_batch + costs[begin + 1];
        ends[begin] = begin + 1;
        const std::size_t last = (std::min)(count, begin + most_in_a_batch);
        for (std::size_t end = begin + 2; end <= last && (end - begin) * longest <= batch_tokens; ++end) {
            const std::size_t cost = (end - begin) * longest + tokens_for_a_batch + costs[end];
            if (cost <= costs[begin]) {
                costs[begin] = cost;
                ends[begin] = end;
            }
        }
    }
    for (std::size_t begin = 0; begin < count; begin = plan.ends.back()) {
        plan.ends.push_back(ends[begin]);
    }
    return plan;
}

/// How much a call does best with where a sub-batch takes so many tokens: what fills one, at 4 bytes a token, as
/// English has 4 to 6.
inline BatchLimits batch_limits_for(std::size_t batch_tokens) noexcept {
    constexpr std::size_t bytes_per_token = 4;
    return {batch_tokens, batch_tokens * bytes_per_token};
}

}  // namespace residency::detail::openvino
