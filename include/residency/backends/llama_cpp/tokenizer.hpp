#pragma once

#include "residency/backends/llama_cpp/deep_stack.hpp"
#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/pre_tokenizer.hpp"

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

/// Whether the bytes from `at` on are no character in UTF-8, but one to llama.cpp: it throws at those past U+10FFFF,
/// and may end the process at a space that takes more than one byte. It reads other bytes that are not UTF-8 as U+FFFD.
/// (`unicode.cpp`, `unicode_cpt_from_utf8` and `unicode_cpt_to_utf8`.)
[[nodiscard]] inline bool is_misread(std::string_view text, std::size_t at) noexcept {
    const auto byte = static_cast<unsigned char>(text[at]);
    const unsigned next = at + 1 < text.size() ? static_cast<unsigned char>(text[at + 1]) : 0U;
    const bool past_unicode = (byte >= 0xF5 && byte <= 0xF7) || (byte == 0xF4 && next >= 0x90);
    const bool too_long =
        byte == 0xC0 || byte == 0xC1 || (byte == 0xE0 && next < 0xA0) || (byte == 0xF0 && next < 0x90);
    return past_unicode || too_long;
}

/// `text` with a byte that is no UTF-8 in place of each that begins what is misread. Kept in `copy` if there is any.
[[nodiscard]] inline std::string_view without_misread(std::string_view text, std::string& copy) {
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (is_misread(text, at)) {
            if (copy.empty()) {
                copy = text;
            }
            copy[at] = '\xFF';
        }
    }
    return copy.empty() ? text : std::string_view(copy);
}

/// What llama.cpp takes of a stack, measured and rounded up: 12 KiB for a call, and 320 bytes for each character of a
/// match, or 530 if it was built without optimisation. The match of a word may be followed by one as long.
inline constexpr std::size_t stack_of_a_call = std::size_t{256} << 10U;
inline constexpr std::size_t stack_of_a_character = 2048;

/// Such a match needs at most 64 KiB: a text without a longer one is read on the caller's own stack.
inline constexpr std::size_t max_match_on_any_stack = 64;

/// The most bytes that llama.cpp can be given in one piece.
inline constexpr std::size_t most_bytes = static_cast<std::size_t>((std::numeric_limits<std::int32_t>::max)()) - 16;

/// Makes tokens of texts. Any number of threads at once.
class Tokenizer {
public:
    /// The vocabulary must be tokenizable and live as long. `pre` is what its file calls its pre-tokenizer.
    explicit Tokenizer(const llama_vocab* vocabulary, std::string_view pre = {})
        : vocabulary_(vocabulary), pre_(vocabulary, pre) {
        // The tokens before and after the text's own are those that the vocabulary adds.
        const Tokens all = call("a", true);
        const Tokens own = call("a", false);
        const auto at = std::search(all.begin(), all.end(), own.begin(), own.end());
        opening_.assign(all.begin(), at);
        if (at != all.end()) {
            closing_.assign(at + static_cast<std::ptrdiff_t>(own.size()), all.end());
        }
    }
    Tokenizer(const Tokenizer&) = default;
    Tokenizer& operator=(const Tokenizer&) = default;

    /// The vocabulary.
    [[nodiscard]] const llama_vocab* vocabulary() const noexcept { return vocabulary_; }
    /// What the vocabulary adds before a text.
    [[nodiscard]] const Tokens& opening() const noexcept { return opening_; }
    /// What the vocabulary adds after a text.
    [[nodiscard]] const Tokens& closing() const noexcept { return closing_; }

    /// Why `text` must not be made tokens of, as a sentence without its subject; empty if it may.
    [[nodiscard]] std::string flaw_of(std::string_view text) const {
        if (text.size() > most_bytes) {
            return "has " + std::to_string(text.size()) + " bytes, and the limit is " + std::to_string(most_bytes);
        }
        const std::size_t longest = pre_.longest_match(text);
        if (longest <= max_match) {
            return {};
        }
        return "has " + std::to_string(longest) +
               " characters in a row without a break between words, and with this model's tokenizer the limit is " +
               std::to_string(max_match);
    }

    /// The tokens of `text` alone, in which nothing is special: the characters of `[SEP]` are text.
    [[nodiscard]] Tokens tokenize(std::string_view text) const {
        std::size_t part = pre_.part(text);
        Tokens tokens = call(text.substr(0, part), false);
        while (part < text.size()) {
            text.remove_prefix(part);
            part = pre_.part(text);
            append(tokens, call(text.substr(0, part), false));
        }
        return tokens;
    }

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
        if (given.size() > most_bytes) {
            throw std::length_error("a text of more than 2 GiB");
        }
        std::string copy;
        const std::string_view text = without_misread(given, copy);
        Tokens tokens(text.size() + 16);
        const auto into = [&] {
            return llama_tokenize(vocabulary_, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                                  static_cast<std::int32_t>(tokens.size()), add_special, false);
        };
        std::int32_t count = 0;
        const auto read = [&] {
            count = into();
            if (count < 0 && count != (std::numeric_limits<std::int32_t>::min)()) {
                tokens.resize(static_cast<std::size_t>(-count));
                count = into();
            }
        };
        const std::size_t longest = pre_.longest_match(text);
        if (longest <= max_match_on_any_stack) {
            read();
        } else {
            with_stack(stack_of_a_call + longest * stack_of_a_character, read);
        }
        if (count < 0) {
            throw std::length_error("a text of more than 2^31 tokens");
        }
        tokens.resize(static_cast<std::size_t>(count));
        return tokens;
    }

    const llama_vocab* vocabulary_;
    PreTokenizer pre_;
    Tokens opening_{};
    Tokens closing_{};
};

}  // namespace residency::detail::llama_cpp
