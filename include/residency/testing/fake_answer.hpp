#pragma once

#include "residency/embeddings.hpp"
#include "residency/ranking.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace residency::testing {

/// How many floats a row of a FakeEmbedder has.
inline constexpr std::size_t fake_dimension = 4;

/// After how many models the scores of fake rerankers begin to repeat: a float holds no more than 24 bits exactly.
inline constexpr std::uint64_t fake_score_period = 4096;

/// What FakeFault::nan puts into an answer. A constant: with -ffast-math a call might give anything else.
inline constexpr float fake_nan = std::numeric_limits<float>::quiet_NaN();

/// The row that the FakeEmbedder with number `serial` gives for a text: its number, and the text's length and two
/// checksums. All are exact in a float for the first 2^24 models.
[[nodiscard]] inline std::array<float, fake_dimension> fake_row(std::uint64_t serial, std::string_view text) noexcept {
    std::uint32_t sum = 1;
    std::uint32_t sum_of_sums = 0;
    for (const char letter : text) {
        sum = (sum * 31U + static_cast<unsigned char>(letter)) % 65'521U;
        sum_of_sums = (sum_of_sums + sum) % 65'521U;
    }
    return {static_cast<float>(serial % (1U << 24U)), static_cast<float>(text.size()), static_cast<float>(sum),
            static_cast<float>(sum_of_sums)};
}

/// The score that the FakeReranker with number `serial` gives to `document`: the longer the better, up to 4,095 bytes;
/// the query does not matter. The serial is in it, exactly, modulo `fake_score_period`.
[[nodiscard]] inline float fake_score(std::uint64_t serial, std::string_view document) noexcept {
    const std::uint64_t length = std::min<std::uint64_t>(document.size(), 4095);
    return static_cast<float>((serial % fake_score_period) * 4096 + length);
}

/// The number of the FakeEmbedder that gave `embeddings`, all rows of them.
/// Throws std::logic_error if there are no rows, or they are not of one fake.
[[nodiscard]] inline std::uint64_t answered_by(const Embeddings& embeddings) {
    if (embeddings.empty() || embeddings.dimension() != fake_dimension) {
        throw std::logic_error("residency: these embeddings are not a fake's, or empty");
    }
    const float serial = embeddings[0][0];
    for (std::size_t row = 0; row < embeddings.size(); ++row) {
        if (embeddings[row][0] != serial) {
            throw std::logic_error("residency: these embeddings are of several models");
        }
    }
    return static_cast<std::uint64_t>(serial);
}

/// The same, if they are what it gives for these texts, in their order.
/// Throws std::logic_error if they are not.
[[nodiscard]] inline std::uint64_t answered_by(const Embeddings& embeddings, std::span<const std::string> texts) {
    const std::uint64_t serial = answered_by(embeddings);
    if (embeddings.size() != texts.size()) {
        throw std::logic_error("residency: these embeddings are more, or fewer, than the texts");
    }
    for (std::size_t row = 0; row < texts.size(); ++row) {
        const auto expected = fake_row(serial, texts[row]);
        if (!std::equal(expected.begin(), expected.end(), embeddings[row].begin())) {
            throw std::logic_error("residency: row " + std::to_string(row) + " is another text's");
        }
    }
    return serial;
}

/// The number of the FakeReranker that gave `ranking`, modulo `fake_score_period`.
/// Throws std::logic_error if there are no scores, or they are not of one fake.
[[nodiscard]] inline std::uint64_t answered_by(const Ranking& ranking) {
    if (ranking.empty()) {
        throw std::logic_error("residency: an empty ranking does not show who gave it");
    }
    const auto serial_of = [](const RankedDocument& document) {
        return static_cast<std::uint64_t>(document.score) / 4096;
    };
    const std::uint64_t serial = serial_of(ranking.front());
    if (std::any_of(ranking.begin(), ranking.end(),
                    [&](const RankedDocument& document) { return serial_of(document) != serial; })) {
        throw std::logic_error("residency: these scores are of several models");
    }
    return serial;
}

}  // namespace residency::testing
