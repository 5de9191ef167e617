#pragma once

#include "residency/backends/llama_cpp/llama.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace residency::detail::llama_cpp {

/// The tokens of one sequence: of a text, or of a query with its document.
using Tokens = std::vector<llama_token>;

inline void append(Tokens& to, std::span<const llama_token> from) { to.insert(to.end(), from.begin(), from.end()); }

/// Whether `vocabulary` can be tokenized with at all: llama.cpp ends the process where it cannot, or where a token that
/// the vocabulary wants to add does not exist. Empty if it can, else why not.
inline std::string why_not_tokenizable(const llama_vocab* vocabulary) {
    const auto type = llama_vocab_type(vocabulary);
    if (type == LLAMA_VOCAB_TYPE_NONE) {
        return "it has no vocabulary";
    }
    const bool begins = llama_vocab_get_add_bos(vocabulary) || type == LLAMA_VOCAB_TYPE_WPM;
    if (begins && llama_vocab_bos(vocabulary) == LLAMA_TOKEN_NULL) {
        return "its vocabulary adds a first token that it does not have";
    }
    if (type == LLAMA_VOCAB_TYPE_WPM && llama_vocab_sep(vocabulary) == LLAMA_TOKEN_NULL) {
        return "its vocabulary adds a separator that it does not have";
    }
    if (type != LLAMA_VOCAB_TYPE_WPM && llama_vocab_get_add_eos(vocabulary) &&
        llama_vocab_eos(vocabulary) == LLAMA_TOKEN_NULL) {
        return "its vocabulary adds a last token that it does not have";
    }
    return {};
}

/// Whether the byte at `at` begins what would be a character past U+10FFFF: llama.cpp throws at those, and takes other
/// bytes that are not UTF-8 for U+FFFD. (`unicode.cpp`, `unicode_cpt_to_utf8`.)
[[nodiscard]] inline bool begins_past_unicode(std::string_view text, std::size_t at) noexcept {
    const auto byte = static_cast<unsigned char>(text[at]);
    return (byte >= 0xF5 && byte <= 0xF7) ||
           (byte == 0xF4 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0x90);
}

/// `text` with no byte that begins a character past U+10FFFF: a byte that is no UTF-8 takes its place. Kept in `copy`
/// if there is any.
[[nodiscard]] inline std::string_view within_unicode(std::string_view text, std::string& copy) {
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (begins_past_unicode(text, at)) {
            if (copy.empty()) {
                copy = text;
            }
            copy[at] = '\xFF';
        }
    }
    return copy.empty() ? text : std::string_view(copy);
}

/// Makes tokens of texts. Any number of threads at once.
class Tokenizer {
public:
    /// The vocabulary must be tokenizable and live as long.
    explicit Tokenizer(const llama_vocab* vocabulary) : vocabulary_(vocabulary) {
        // What is added before a text and what after is told by where a text's own tokens stand among all.
        const Tokens all = call("a", true);
        const Tokens own = call("a", false);
        const auto at = std::search(all.begin(), all.end(), own.begin(), own.end());
        opening_.assign(all.begin(), at);
        if (at != all.end()) {
            closing_.assign(at + static_cast<std::ptrdiff_t>(own.size()), all.end());
        }
    }

    /// The vocabulary.
    [[nodiscard]] const llama_vocab* vocabulary() const noexcept { return vocabulary_; }
    /// What the vocabulary adds before a text.
    [[nodiscard]] const Tokens& opening() const noexcept { return opening_; }
    /// What the vocabulary adds after a text.
    [[nodiscard]] const Tokens& closing() const noexcept { return closing_; }

    /// The tokens of `text` alone, in which nothing is special: the characters of `[SEP]` are text.
    [[nodiscard]] Tokens tokenize(std::string_view text) const { return call(text, false); }

    /// A text's own tokens with what the vocabulary adds to them.
    [[nodiscard]] Tokens enclosed(std::span<const llama_token> own) const {
        Tokens tokens;
        tokens.reserve(opening_.size() + own.size() + closing_.size());
        append(tokens, opening_);
        append(tokens, own);
        append(tokens, closing_);
        return tokens;
    }

private:
    [[nodiscard]] Tokens call(std::string_view given, bool add_special) const {
        // A token is at least a byte, but for what is added; a text of other lengths is asked for twice.
        const auto longest = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()) - 16;
        if (given.size() > longest) {
            throw std::length_error("a text of more than 2 GiB");
        }
        std::string copy;
        const std::string_view text = within_unicode(given, copy);
        Tokens tokens(text.size() + 16);
        const auto into = [&] {
            return llama_tokenize(vocabulary_, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                                  static_cast<std::int32_t>(tokens.size()), add_special, false);
        };
        std::int32_t count = into();
        if (count < 0 && count != std::numeric_limits<std::int32_t>::min()) {
            tokens.resize(static_cast<std::size_t>(-count));
            count = into();
        }
        if (count < 0) {
            throw std::length_error("a text of more than 2^31 tokens");
        }
        tokens.resize(static_cast<std::size_t>(count));
        return tokens;
    }

    const llama_vocab* vocabulary_;
    Tokens opening_{};
    Tokens closing_{};
};

}  // namespace residency::detail::llama_cpp
