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
    /// The sequences' indices, longest first, so that a request's buffers have their size after the first sub-batch.
    std::vector<std::size_t> order{};
    /// Where in `order` each sub-batch ends.
    std::vector<std::size_t> ends{};
};

/// Fills sub-batches with sequences, longest first, up to `batch_tokens` tokens each. A sequence counts as long as the
/// longest of its sub-batch, as it is padded to that. A longer sequence has a sub-batch of its own.
inline BatchPlan plan_batches(std::span<const Sequence> sequences, std::size_t batch_tokens) {
    BatchPlan plan;
    for (std::size_t index = 0; index < sequences.size(); ++index) {
        plan.order.push_back(index);
    }
    std::stable_sort(plan.order.begin(), plan.order.end(), [sequences](std::size_t left, std::size_t right) {
        return sequences[left].tokens.size() > sequences[right].tokens.size();
    });
    std::size_t begin = 0;
    for (std::size_t at = 1; at < plan.order.size(); ++at) {
        const std::size_t longest = sequences[plan.order[begin]].tokens.size();
        if ((at - begin + 1) * longest > batch_tokens) {
            plan.ends.push_back(at);
            begin = at;
        }
    }
    if (!plan.order.empty()) {
        plan.ends.push_back(plan.order.size());
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
