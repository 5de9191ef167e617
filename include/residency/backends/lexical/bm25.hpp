#pragma once

#include "residency/backends/lexical/integer_log.hpp"
#include "residency/backends/lexical/text.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::lexical {

/// Scores documents for one query by BM25, with these documents as the whole collection.
///
/// For each word of the query, as often as it stands there: idf * f (k1 + 1) / (f + k1 (1 - b + b length / mean
/// length)), f being how often the document has it (S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework:
/// BM25 and Beyond", 2009, 3.15), with idf = ln(1 + (N - n + 0.5) / (n + 0.5)), N documents of which n have the word:
/// the form without negative values that Lucene's BM25Similarity uses. One thread at a time.
class Bm25 {
public:
    /// Takes the query apart. `k1` says how soon more occurrences stop to matter, `b` how far a document's length
    /// counts.
    Bm25(std::string_view query, double k1, double b) : k1_(k1), b_(b) {
        for_each_word(query, word_, [this](std::string_view word) { terms_.push_back({std::string(word), 1, 0, 0}); });
        std::sort(terms_.begin(), terms_.end(),
                  [](const Term& left, const Term& right) { return left.word < right.word; });
        std::size_t kept = 0;
        for (std::size_t index = 1; index < terms_.size(); ++index) {
            if (terms_[index].word == terms_[kept].word) {
                ++terms_[kept].in_query;
            } else if (++kept != index) {
                terms_[kept] = std::move(terms_[index]);
            }
        }
        terms_.resize(terms_.empty() ? 0 : kept + 1);
    }

    /// Adds a document to the collection.
    void add(std::string_view document) {
        std::uint64_t length = 0;
        for_each_word(document, word_, [&](std::string_view word) {
            ++length;
            const auto term =
                std::lower_bound(terms_.begin(), terms_.end(), word,
                                 [](const Term& left, std::string_view right) { return left.word < right; });
            if (term != terms_.end() && term->word == word && term->in_document++ == 0) {
                found_.push_back(static_cast<std::size_t>(term - terms_.begin()));
            }
        });
        // Only what was found is kept: a long query over many documents would need their product. Sorted, because the
        // order of a sum decides its last bit.
        std::sort(found_.begin(), found_.end());
        for (const std::size_t index : found_) {
            Term& term = terms_[index];
            hits_.push_back({index, std::exchange(term.in_document, 0)});
            ++term.documents;
        }
        found_.clear();
        documents_.push_back({length, hits_.size()});
        total_length_ += length;
    }

    /// The score of each document, in the order that they were added; never negative, and 0 for one without a word of
    /// the query.
    [[nodiscard]] std::vector<float> scores() const {
        const std::uint64_t count{documents_.size()};
        std::vector<double> weights;
        for (const Term& term : terms_) {
            // 1 + (N - n + 0.5) / (n + 0.5) = (2 N + 2) / (2 n + 1): a difference of two logarithms of integers.
            const std::uint64_t numerator = integer_log(2 * count + 2);
            const std::uint64_t log_ratio = numerator - (std::min)(integer_log(2 * term.documents + 1), numerator);
            const double idf = static_cast<double>(log_ratio) / static_cast<double>(log_one);
            weights.push_back(idf * static_cast<double>(term.in_query) * (k1_ + 1.0));
        }
        const double mean_length =
            static_cast<double>(total_length_) / static_cast<double>(std::max<std::uint64_t>(count, 1));
        std::vector<float> scores;
        scores.reserve(documents_.size());
        std::size_t hit = 0;
        for (const Document& document : documents_) {
            double score = 0.0;
            for (; hit < document.hits_end; ++hit) {  // A document with a hit has a word, so the mean is not 0.
                const auto frequency = static_cast<double>(hits_[hit].frequency);
                const double relative_length = static_cast<double>(document.length) / mean_length;
                score += weights[hits_[hit].term] * frequency / (frequency + k1_ * (1.0 - b_ + b_ * relative_length));
            }
            scores.push_back(static_cast<float>(score));
        }
        return scores;
    }

private:
    struct Term {
        std::string word{};
        std::uint64_t in_query = 0;
        std::uint64_t in_document = 0;
        std::uint64_t documents = 0;
    };

    struct Hit {
        std::size_t term = 0;
        std::uint64_t frequency = 0;
    };

    struct Document {
        std::uint64_t length = 0;
        // Its hits end here, and begin where those of the document before it end.
        std::size_t hits_end = 0;
    };

    double k1_;
    double b_;
    std::string word_{};
    // Sorted by word, each once.
    std::vector<Term> terms_{};
    std::vector<std::size_t> found_{};
    std::vector<Hit> hits_{};
    std::vector<Document> documents_{};
    std::uint64_t total_length_ = 0;
};

}  // namespace residency::lexical
