#pragma once

#include "residency/backends/lexical/integer_log.hpp"
#include "residency/backends/lexical/text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace residency::lexical {

/// The hash of a feature: FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo; RFC 9923) over its bytes, 64 bits wide.
class FeatureHash {
public:
    /// Begins a feature of the kind that `tag` names; equal bytes of two kinds are two features.
    constexpr explicit FeatureHash(char tag) noexcept { add(tag); }

    /// Takes one more byte in.
    constexpr void add(char byte) noexcept {
        value_ = (value_ ^ static_cast<std::uint64_t>(static_cast<unsigned char>(byte))) * 0x100000001B3ULL;
    }

    /// The hash of what was taken in so far, with every bit depending on every byte: FNV's own high bits know little of
    /// the last ones. The finaliser is that of MurmurHash3 (A. Appleby).
    [[nodiscard]] constexpr std::uint64_t value() const noexcept {
        std::uint64_t mixed = value_;
        mixed = (mixed ^ (mixed >> 33U)) * 0xFF51AFD7ED558CCDULL;
        mixed = (mixed ^ (mixed >> 33U)) * 0xC4CEB9FE1A85EC53ULL;
        return mixed ^ (mixed >> 33U);
    }

private:
    std::uint64_t value_ = 0xCBF29CE484222325ULL;
};

/// Turns texts into vectors by feature hashing with a signed hash (K. Weinberger et al., "Feature Hashing for Large
/// Scale Multitask Learning", ICML 2009): the features are a text's words and the character n-grams within them, a hash
/// gives each its place and its sign, and its weight there is sublinear in how often it occurs, 1 + ln(count) (C.
/// Manning, P. Raghavan, H. Schütze, "Introduction to Information Retrieval", 2008, 6.4.1).
///
/// All sums are of integers, so neither the order of the features nor the compiler's choice of instructions changes a
/// vector. Keeps its working memory from one text to the next; one thread at a time.
class FeatureHasher {
public:
    /// N-grams of `shortest_ngram` to `longest_ngram` code points of a word and the marks around it.
    FeatureHasher(std::size_t shortest_ngram, std::size_t longest_ngram)
        : shortest_(shortest_ngram), longest_(longest_ngram) {}

    /// Writes the vector of `text`, of length 1, over `row`; zeros if the text has no word. Precondition: `row` is not
    /// empty.
    void embed(std::string_view text, std::span<float> row) {
        collect(text);
        sums_.assign(row.size(), 0);
        for (std::size_t group = 0; group < groups_.size(); ++group) {
            add_group(groups_[group], group == ngrams ? ngram_weight : word_weight(group + 1));
        }
        write_normalised(row);
    }

private:
    // A text's features in groups of equal weight: words of 1, 2, 3, 4 bytes, longer ones, n-grams.
    static constexpr std::size_t ngrams = 5;

    // Without a collection to learn it from, a word's length is the best guess at how much it means:
    // "of" is everywhere, "aileron" is not.
    static constexpr std::uint64_t word_weight(std::size_t length) noexcept {
        return 40 * std::uint64_t{length} * length;
    }

    // A word has several n-grams, which are there for its inflected and misspelt forms: each counts for less than the
    // word.
    static constexpr std::uint64_t ngram_weight = 256;

    // 1 + ln(count), times log_one; from a table for the counts that are usual.
    static std::uint64_t sublinear(std::uint64_t count) noexcept {
        static constexpr std::array<std::uint64_t, 64> table = [] {
            std::array<std::uint64_t, 64> values{};
            for (std::size_t index = 1; index < values.size(); ++index) {
                values[index] = log_one + integer_log(index);
            }
            return values;
        }();
        return count < table.size() ? table.data()[count] : log_one + integer_log(count);
    }

    void collect(std::string_view text) {
        for (auto& features : groups_) {
            features.clear();
        }
        for_each_word(text, word_, [this](std::string_view word) {
            FeatureHash hash('w');
            for (const char byte : word) {
                hash.add(byte);
            }
            groups_[(std::min)(word.size(), ngrams) - 1].push_back(hash.value());
            collect_ngrams(word);
        });
    }

    void collect_ngrams(std::string_view word) {
        // "<" and ">" mark the ends of a word, so that "un" at its start differs from "un" within it; no word contains
        // them.
        marked_.assign(1, '<');
        marked_.append(word).push_back('>');
        for (std::size_t begin = 0; begin < marked_.size(); begin = next_boundary(begin)) {
            FeatureHash hash('n');
            std::size_t end = begin;
            for (std::size_t length = 1; length <= longest_ && end < marked_.size(); ++length) {
                for (const std::size_t next = next_boundary(end); end < next; ++end) {
                    hash.add(marked_[end]);
                }
                const bool whole = begin == 0 && end == marked_.size();
                if (length >= shortest_ && !whole) {
                    groups_[ngrams].push_back(hash.value());
                }
            }
        }
    }

    // Where the code point after the one at `begin` starts; words are valid UTF-8.
    [[nodiscard]] std::size_t next_boundary(std::size_t begin) const noexcept {
        do {
            ++begin;
        } while (begin < marked_.size() && (static_cast<unsigned char>(marked_[begin]) & 0xC0U) == 0x80U);
        return begin;
    }

    void add_group(std::vector<std::uint64_t>& features, std::uint64_t weight) {
        std::sort(features.begin(), features.end());  // Equal features side by side, to be counted.
        for (auto run = features.begin(); run != features.end();) {
            const auto end =
                std::find_if(run, features.end(), [run](std::uint64_t feature) { return feature != *run; });
            const auto count = static_cast<std::uint64_t>(end - run);
            const auto term = static_cast<std::int64_t>(weight * sublinear(count) / log_one);
            // The high half chooses the place, by multiplication instead of a remainder; the lowest bit the sign.
            const std::uint64_t place = ((*run >> 32U) * std::uint64_t{sums_.size()}) >> 32U;
            sums_.data()[place] += (*run & 1U) != 0 ? term : -term;
            run = end;
        }
    }

    void write_normalised(std::span<float> row) {
        std::int64_t greatest = 0;
        for (const std::int64_t sum : sums_) {
            greatest = (std::max)(greatest, sum < 0 ? -sum : sum);
        }
        // Squares of numbers below 2^26 are exact in a double, so that a fused multiply-add gives the same sum as two
        // instructions.
        std::int64_t divisor = 1;
        while (greatest / divisor >= (std::int64_t{1} << 26)) {
            divisor *= 2;
        }
        double squares = 0.0;
        for (std::int64_t& sum : sums_) {
            sum /= divisor;
            squares += static_cast<double>(sum) * static_cast<double>(sum);
        }
        const double length = std::sqrt(squares);
        for (std::size_t index = 0; index < row.size(); ++index) {
            row[index] = squares > 0.0 ? static_cast<float>(static_cast<double>(sums_[index]) / length) : 0.0F;
        }
    }

    std::size_t shortest_;
    std::size_t longest_;
    std::string word_{};
    std::string marked_{};
    std::array<std::vector<std::uint64_t>, ngrams + 1> groups_{};
    std::vector<std::int64_t> sums_{};
};

}  // namespace residency::lexical
