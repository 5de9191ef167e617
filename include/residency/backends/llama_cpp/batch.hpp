#pragma once

#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/tokenizer.hpp"
#include "residency/batch_limits.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace residency::detail::llama_cpp {

/// Which sequences of a call share a batch.
struct BatchPlan {
    /// The sequences' indices, longest first, so that a context's buffers have their size after the first batch.
    std::vector<std::size_t> order{};
    /// Where in `order` each batch ends.
    std::vector<std::size_t> ends{};
};

/// Fills batches with sequences, longest first, up to `batch_tokens` tokens and `batch_sequences` sequences each. A
/// longer sequence has a batch of its own. Batches come out even: a small one at the end would compute slowly.
inline BatchPlan plan_batches(std::span<const Tokens> sequences, std::size_t batch_tokens,
                              std::size_t batch_sequences) {
    BatchPlan plan;
    for (std::size_t index = 0; index < sequences.size(); ++index) {
        plan.order.push_back(index);
    }
    std::stable_sort(plan.order.begin(), plan.order.end(), [sequences](std::size_t left, std::size_t right) {
        return sequences[left].size() > sequences[right].size();
    });
    std::size_t total = 0;
    for (const Tokens& sequence : sequences) {
        total += sequence.size();
    }
    const std::size_t least_batches = std::max<std::size_t>(1, (total + batch_tokens - 1) / batch_tokens);
    const std::size_t enough = (total + least_batches - 1) / least_batches;
    std::size_t tokens = 0;
    std::size_t begin = 0;
    for (std::size_t at = 0; at < plan.order.size(); ++at) {
        const std::size_t more = sequences[plan.order[at]].size();
        if (at > begin && (tokens >= enough || tokens + more > batch_tokens || at - begin == batch_sequences)) {
            plan.ends.push_back(at);
            begin = at;
            tokens = 0;
        }
        tokens += more;
    }
    if (!plan.order.empty()) {
        plan.ends.push_back(plan.order.size());
    }
    return plan;
}

/// How much a call does best with where a batch takes so many tokens and sequences: what fills one batch, at 4 bytes a
/// token, as English has 4 to 6. With 2 to 4 times as much, 64 callers with a text each get no more texts a second, and
/// the slowest of them wait longer.
inline BatchLimits batch_limits_for(std::size_t batch_tokens, std::size_t batch_sequences) noexcept {
    constexpr std::size_t bytes_per_token = 4;
    return {batch_sequences, batch_tokens * bytes_per_token};
}

/// Sequences laid out as llama.cpp reads them. Kept with a context, so that its memory is used again.
class Batch {
public:
    /// Begins anew.
    void clear() noexcept {
        tokens_.clear();
        positions_.clear();
        sequences_.clear();
        count_ = 0;
    }

    /// Adds a sequence; its number is how many were added before.
    void add(std::span<const llama_token> tokens) {
        append(tokens_, tokens);
        for (std::size_t position = 0; position < tokens.size(); ++position) {
            positions_.push_back(static_cast<llama_pos>(position));
            sequences_.push_back(static_cast<llama_seq_id>(count_));
        }
        ++count_;
    }

    /// How many tokens it has.
    [[nodiscard]] std::size_t tokens() const noexcept { return tokens_.size(); }
    /// How many sequences it has.
    [[nodiscard]] std::size_t sequences() const noexcept { return count_; }

    /// What llama.cpp takes; valid until the batch changes. No flags for outputs: a context that embeds puts out every
    /// token.
    [[nodiscard]] llama_batch view() {
        ones_.assign(tokens_.size(), 1);
        pointers_.resize(tokens_.size());
        for (std::size_t index = 0; index < tokens_.size(); ++index) {
            pointers_[index] = &sequences_[index];
        }
        return {static_cast<std::int32_t>(tokens_.size()),
                tokens_.data(),
                nullptr,
                positions_.data(),
                ones_.data(),
                pointers_.data(),
                nullptr};
    }

private:
    Tokens tokens_{};
    std::vector<llama_pos> positions_{};
    std::vector<llama_seq_id> sequences_{};
    std::vector<std::int32_t> ones_{};
    std::vector<llama_seq_id*> pointers_{};
    std::size_t count_ = 0;
};

}  // namespace residency::detail::llama_cpp
