#pragma once

#include "residency/backend.hpp"
#include "residency/backends/lexical/bm25.hpp"
#include "residency/backends/lexical/feature_hashing.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/not_a_number.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The embedded default: models that need no file and no download. They are **lexical, not semantic**: texts are near
// each other when they share words or parts of words, and nothing here knows what a word means. "car" and "automobile"
// have nothing in common; "load", "loads" and "loaded" have something. That is enough to try the library out, to test
// with, and for keyword-like search; for meaning, take a backend with trained models.
//
// The same text gives the same vector, bit for bit, in every run, on every thread, with every standard library and
// compiler, as long as it is compiled without -ffast-math: features are hashed by functions written out here and summed
// as integers.
//
// Texts are read as UTF-8. Words are runs of letters and digits, folded in case (ASCII, Latin-1, the rest of European
// Latin, Greek, Cyrillic, Armenian); each ideograph, kana and pictograph is a word. Bytes that are not UTF-8 separate
// words and do no harm. Texts are not normalised: a letter with a combining mark differs from the same letter in one
// code point.

namespace residency {

/// How a `LexicalEmbedder` makes its vectors. Checked in the backend's constructor.
struct LexicalOptions {
    /// How many floats a vector has. From 1 to 65,536.
    /// Default 384: the size of the small sentence embedders (MiniLM, bge-small), so that one can take the other's
    /// place.
    std::size_t dimension = 384;

    /// The shortest character n-gram of a word that is a feature, in code points, the marks at the word's ends
    /// included. At least 1.
    /// Default 3: with the longest at 4, the best of the ranges from 3 to 6 on a collection of abstracts at 384 floats.
    std::size_t shortest_ngram = 3;

    /// The longest one. Not more than 32; less than `shortest_ngram`: words alone are features.
    /// Default 4: more n-grams in few floats collide more than they help.
    std::size_t longest_ngram = 4;
};

/// How a `LexicalReranker` scores: the two parameters of BM25. Checked in the backend's constructor.
struct LexicalRerankerOptions {
    /// How soon more occurrences of a word stop to matter; 0: whether it occurs is all that counts. From 0 to
    /// 1,000,000. Default 1.2: the middle of what Robertson and Zaragoza found good for most collections, and Lucene's.
    double k1 = 1.2;

    /// How far long documents are held back: from 0, not at all, to 1, in full proportion.
    /// Default 0.75: likewise.
    double b = 0.75;
};

namespace detail {

// A lexical model stands for any name, but its numbers are 32-bit floats and nothing else.
inline void check_lexical_key(const ModelKey& key) {
    if (key.name.empty()) {
        throw Error(errc::invalid_request, key, Stage::load, "the key's name is empty");
    }
    if (!key.quantization.empty() && key.quantization != "f32") {
        throw Error(errc::invalid_request, key, Stage::load, "a lexical model has the quantization f32 and no other");
    }
}

// What a copy of the string has on the heap at most, whatever the standard library keeps within the object.
inline std::size_t heap_bytes(const std::string& text) noexcept { return text.size() + 16; }

/// What a lexical model for the key holds: itself and its key.
template <class Model>
[[nodiscard]] std::size_t lexical_memory(const ModelKey& key) noexcept {
    return sizeof(Model) + heap_bytes(key.name) + heap_bytes(key.quantization);
}

inline void stop_if_requested(const std::stop_token& stop, const ModelKey& key) {
    if (stop.stop_requested()) {
        throw Error(operation_aborted(), key, Stage::inference);
    }
}

}  // namespace detail

/// Embeds texts by their words and the character n-grams within them, by feature hashing. Lexical, not semantic.
///
/// Nothing changes in it after its construction: any number of threads may call it at once.
class LexicalEmbedder {
public:
    /// The model for `key`. `LexicalEmbeddingBackend` makes it, and checks the options.
    LexicalEmbedder(ModelKey key, const LexicalOptions& options) : key_(std::move(key)), options_(options) {}

    /// A row of length 1 for each text, `dimension` floats wide; the dot product of two rows is their cosine. A text
    /// without any letter or digit has a row of zeros. Takes about as long as the texts together are, and meanwhile
    /// many times the memory of the longest.
    ///
    /// Errors   operation_aborted, when stop is requested between two texts
    /// Threads  any, also at once
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts, const std::stop_token& stop = {}) const {
        Embeddings embeddings(texts.size(), options_.dimension);
        lexical::FeatureHasher hasher(options_.shortest_ngram, options_.longest_ngram);
        for (std::size_t index = 0; index < texts.size(); ++index) {
            detail::stop_if_requested(stop, key_);
            hasher.embed(texts[index], embeddings[index]);
        }
        return embeddings;
    }

    /// How many floats a row has.
    [[nodiscard]] std::size_t dimension() const noexcept { return options_.dimension; }

    /// The model itself and its key: less than a kilobyte with any usual name. What a call needs it gives back.
    [[nodiscard]] std::size_t memory_used() const noexcept { return detail::lexical_memory<LexicalEmbedder>(key_); }

private:
    ModelKey key_;
    LexicalOptions options_{};
};

/// Scores documents for a query by BM25 over those documents. Lexical, not semantic.
///
/// Nothing changes in it after its construction: any number of threads may call it at once.
class LexicalReranker {
public:
    /// The model for `key`. `LexicalRerankerBackend` makes it, and checks the options.
    LexicalReranker(ModelKey key, const LexicalRerankerOptions& options) : key_(std::move(key)), options_(options) {}

    /// A score for each document, never negative; 0 if it has no word of the query. How rare a word is, and how long a
    /// document, is taken from the given documents, so scores from two calls do not compare. A word that the query has
    /// twice counts twice.
    ///
    /// Errors   operation_aborted, when stop is requested between two documents
    /// Threads  any, also at once
    [[nodiscard]] std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                                            const std::stop_token& stop = {}) const {
        lexical::Bm25 bm25(query, options_.k1, options_.b);
        for (const std::string& document : documents) {
            detail::stop_if_requested(stop, key_);
            bm25.add(document);
        }
        return bm25.scores();
    }

    /// The model itself and its key: less than a kilobyte with any usual name. What a call needs it gives back.
    [[nodiscard]] std::size_t memory_used() const noexcept { return detail::lexical_memory<LexicalReranker>(key_); }

private:
    ModelKey key_;
    LexicalRerankerOptions options_{};
};

/// Gives a `LexicalEmbedder` for any name, with the quantization "f32" or none. Its models hold no weights: all are
/// alike.
class LexicalEmbeddingBackend {
public:
    /// The type of the models.
    using model_type = LexicalEmbedder;

    /// With the default options. Not explicit, so that `{}` makes one.
    LexicalEmbeddingBackend() = default;
    /// Throws std::invalid_argument, naming the field, unless the options hold what their docs demand.
    explicit LexicalEmbeddingBackend(const LexicalOptions& options) : options_(options) {
        if (options_.dimension < 1 || options_.dimension > 65'536) {
            throw std::invalid_argument("residency: option LexicalOptions.dimension must be between 1 and 65536");
        }
        if (options_.shortest_ngram < 1) {
            throw std::invalid_argument("residency: option LexicalOptions.shortest_ngram must be at least 1");
        }
        if (options_.longest_ngram > 32) {
            throw std::invalid_argument("residency: option LexicalOptions.longest_ngram must be at most 32");
        }
    }

    /// The model; at once. Throws Error `invalid_request` if the name is empty or the quantization is another than
    /// "f32".
    [[nodiscard]] std::unique_ptr<LexicalEmbedder> load(const ModelKey& key) const {
        detail::check_lexical_key(key);
        return std::make_unique<LexicalEmbedder>(key, options_);
    }

    /// What the model's `memory_used` will be. For any key; from any thread.
    [[nodiscard]] static std::size_t memory_needed(const ModelKey& key) noexcept {
        return detail::lexical_memory<LexicalEmbedder>(key);
    }

private:
    LexicalOptions options_{};
};

/// Gives a `LexicalReranker` for any name, with the quantization "f32" or none. Its models hold no weights: all are
/// alike.
class LexicalRerankerBackend {
public:
    /// The type of the models.
    using model_type = LexicalReranker;

    /// With the default options. Not explicit, so that `{}` makes one.
    LexicalRerankerBackend() = default;
    /// Throws std::invalid_argument, naming the field, unless the options hold what their docs demand.
    explicit LexicalRerankerBackend(const LexicalRerankerOptions& options) : options_(options) {
        if (detail::is_nan(options_.k1) || options_.k1 < 0.0 || options_.k1 > 1e6) {
            throw std::invalid_argument("residency: option LexicalRerankerOptions.k1 must be between 0 and 1000000");
        }
        if (detail::is_nan(options_.b) || options_.b < 0.0 || options_.b > 1.0) {
            throw std::invalid_argument("residency: option LexicalRerankerOptions.b must be between 0 and 1");
        }
    }

    /// The model; at once. Throws Error `invalid_request` if the name is empty or the quantization is another than
    /// "f32".
    [[nodiscard]] std::unique_ptr<LexicalReranker> load(const ModelKey& key) const {
        detail::check_lexical_key(key);
        return std::make_unique<LexicalReranker>(key, options_);
    }

    /// What the model's `memory_used` will be. For any key; from any thread.
    [[nodiscard]] static std::size_t memory_needed(const ModelKey& key) noexcept {
        return detail::lexical_memory<LexicalReranker>(key);
    }

private:
    LexicalRerankerOptions options_{};
};

static_assert(EmbeddingBackend<LexicalEmbeddingBackend>);
static_assert(RerankerBackend<LexicalRerankerBackend>);

}  // namespace residency
