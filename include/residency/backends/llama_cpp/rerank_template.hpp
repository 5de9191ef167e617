#pragma once

#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/tokenizer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace residency::detail::llama_cpp {

/// How a model wants query and document put to it: a text with `{query}` and `{document}` in it, and with special
/// tokens.
///
/// It is cut at its own special tokens once. Texts are put in between them afterwards and tokenized as text, so that
/// the name of a special token in a document is no special token. Any number of threads at once.
class RerankTemplate {
public:
    /// What stands for the query and for the document.
    static constexpr std::string_view query_mark = "{query}";
    static constexpr std::string_view document_mark = "{document}";

    /// Cuts `form` at the special tokens that it names.
    RerankTemplate(const Tokenizer& tokenizer, std::string_view form) {
        std::vector<llama_token> specials = special_tokens(tokenizer.vocabulary());
        std::string_view rest = form;
        std::vector<Special> found;
        // Longer names first, as llama.cpp does it: one may be part of another.
        for (const llama_token token : specials) {
            const std::string_view name = llama_vocab_get_text(tokenizer.vocabulary(), token);
            for (std::size_t at = form.find(name); at != std::string_view::npos;
                 at = form.find(name, at + name.size())) {
                const bool covered = std::any_of(found.begin(), found.end(), [&](const Special& other) {
                    return at < other.begin + other.size && other.begin < at + name.size();
                });
                if (!covered) {
                    found.push_back({at, name.size(), token});
                }
            }
        }
        std::sort(found.begin(), found.end(),
                  [](const Special& left, const Special& right) { return left.begin < right.begin; });
        bool strip_begin = false;
        for (const Special& special : found) {
            const auto attributes =
                static_cast<std::uint32_t>(llama_vocab_get_attr(tokenizer.vocabulary(), special.token));
            const std::size_t length = special.begin - (form.size() - rest.size());
            add_run(rest.substr(0, length), strip_begin, (attributes & LLAMA_TOKEN_ATTR_LSTRIP) != 0);
            pieces_.push_back({.token = special.token});
            rest.remove_prefix(length + special.size);
            strip_begin = (attributes & LLAMA_TOKEN_ATTR_RSTRIP) != 0;
        }
        add_run(rest, strip_begin, false);
    }

    /// Whether both a query and a document have a place in it.
    [[nodiscard]] bool usable() const noexcept {
        const auto has = [this](std::string_view mark) {
            return std::any_of(pieces_.begin(), pieces_.end(),
                               [mark](const Piece& piece) { return piece.run.find(mark) != std::string::npos; });
        };
        return has(query_mark) && has(document_mark);
    }

    /// The tokens of the template with both in their places.
    [[nodiscard]] Tokens tokens(const Tokenizer& tokenizer, std::string_view query, std::string_view document) const {
        Tokens tokens;
        for (const Piece& piece : pieces_) {
            if (piece.token != LLAMA_TOKEN_NULL) {
                tokens.push_back(piece.token);
            } else {
                const std::string text = filled(piece.run, query, document);
                append(tokens, tokenizer.tokenize(stripped(text, piece.strip_begin, piece.strip_end)));
            }
        }
        return tokens;
    }

private:
    struct Special {
        std::size_t begin;
        std::size_t size;
        llama_token token;
    };

    // A special token, or a run of text between two of them.
    struct Piece {
        llama_token token = LLAMA_TOKEN_NULL;
        std::string run{};
        bool strip_begin = false;
        bool strip_end = false;
    };

    static std::vector<llama_token> special_tokens(const llama_vocab* vocabulary) {
        std::vector<llama_token> tokens;
        for (llama_token token = 0; token < llama_vocab_n_tokens(vocabulary); ++token) {
            const auto attributes = static_cast<std::uint32_t>(llama_vocab_get_attr(vocabulary, token));
            const bool special = (attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0;
            if (special && *llama_vocab_get_text(vocabulary, token) != '\0') {
                tokens.push_back(token);
            }
        }
        std::stable_sort(tokens.begin(), tokens.end(), [vocabulary](llama_token left, llama_token right) {
            return std::string_view(llama_vocab_get_text(vocabulary, left)).size() >
                   std::string_view(llama_vocab_get_text(vocabulary, right)).size();
        });
        return tokens;
    }

    void add_run(std::string_view run, bool strip_begin, bool strip_end) {
        if (!run.empty()) {
            pieces_.push_back({.run = std::string(run), .strip_begin = strip_begin, .strip_end = strip_end});
        }
    }

    // In one pass: a mark in the query's text is text.
    static std::string filled(std::string_view run, std::string_view query, std::string_view document) {
        std::string text;
        while (!run.empty()) {
            const std::size_t at = (std::min)(run.find(query_mark), run.find(document_mark));
            text += run.substr(0, at);
            if (at == std::string_view::npos) {
                break;
            }
            run.remove_prefix(at);
            const bool is_query = run.starts_with(query_mark);
            text += is_query ? query : document;
            run.remove_prefix(is_query ? query_mark.size() : document_mark.size());
        }
        return text;
    }

    // Some special tokens swallow the white space before or after them.
    static std::string_view stripped(std::string_view text, bool begin, bool end) noexcept {
        constexpr std::string_view space = " \t\n\r\f\v";
        if (begin) {
            text.remove_prefix((std::min)(text.find_first_not_of(space), text.size()));
        }
        if (end) {
            text = text.substr(0, text.find_last_not_of(space) + 1);
        }
        return text;
    }

    std::vector<Piece> pieces_{};
};

}  // namespace residency::detail::llama_cpp
