#pragma once

#include "residency/backends/llama_cpp/llama.hpp"
#include "residency/backends/llama_cpp/rerank_template.hpp"
#include "residency/backends/llama_cpp/tokenizer.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace residency::detail::llama_cpp {

/// A query, made ready to be joined with documents.
class PreparedQuery {
public:
    virtual ~PreparedQuery() = default;
    PreparedQuery() = default;
    PreparedQuery(const PreparedQuery&) = delete;
    PreparedQuery& operator=(const PreparedQuery&) = delete;

    /// How many tokens it has with an empty document.
    [[nodiscard]] virtual std::size_t size() const = 0;
    /// The tokens of it and the document.
    [[nodiscard]] virtual Tokens join(std::string_view document) const = 0;
    /// The same with as much of the document's beginning as makes at most `limit` tokens. Precondition: size() < limit.
    [[nodiscard]] virtual Tokens join_cut(std::string_view document, std::size_t limit) const = 0;
};

/// Joined by the vocabulary's flags: begin, query, end, separator, document, end. If the flags give no end, the
/// separator closes.
class FlagQuery final : public PreparedQuery {
public:
    FlagQuery(const Tokenizer& tokenizer, std::string_view query) : tokenizer_(tokenizer) {
        const llama_vocab* const vocabulary = tokenizer.vocabulary();
        const llama_token separator = llama_vocab_sep(vocabulary);
        llama_token end = llama_vocab_eos(vocabulary);
        if (end == LLAMA_TOKEN_NULL) {
            end = separator;
        }
        const auto put = [](Tokens& to, bool wanted, llama_token token) {
            if (wanted && token != LLAMA_TOKEN_NULL) {
                to.push_back(token);
            }
        };
        put(before_, llama_vocab_get_add_bos(vocabulary), llama_vocab_bos(vocabulary));
        append(before_, tokenizer.tokenize(query));
        const bool ends = llama_vocab_get_add_eos(vocabulary);
        put(before_, ends, end);
        put(before_, llama_vocab_get_add_sep(vocabulary), separator);
        put(after_, true, ends ? end : separator);
    }

    [[nodiscard]] std::size_t size() const override { return before_.size() + after_.size(); }

    [[nodiscard]] Tokens join(std::string_view document) const override {
        return around(tokenizer_.tokenize(document));
    }

    [[nodiscard]] Tokens join_cut(std::string_view document, std::size_t limit) const override {
        Tokens own = tokenizer_.tokenize(document);
        own.resize((std::min)(own.size(), limit - size()));
        return around(own);
    }

private:
    [[nodiscard]] Tokens around(const Tokens& own) const {
        Tokens tokens;
        tokens.reserve(size() + own.size());
        append(tokens, before_);
        append(tokens, own);
        append(tokens, after_);
        return tokens;
    }

    const Tokenizer& tokenizer_;
    Tokens before_{};
    Tokens after_{};
};

/// Joined by the model's own rerank template.
class TemplateQuery final : public PreparedQuery {
public:
    TemplateQuery(const Tokenizer& tokenizer, const RerankTemplate& form, std::string_view query)
        : tokenizer_(tokenizer), form_(form), query_(query), empty_size_(join({}).size()) {}

    [[nodiscard]] std::size_t size() const override { return empty_size_; }

    [[nodiscard]] Tokens join(std::string_view document) const override {
        return form_.tokens(tokenizer_, query_, document);
    }

    // The document's tokens melt into those of the text around it, so it is its characters that are cut: the longest
    // beginning that a bisection finds to fit.
    [[nodiscard]] Tokens join_cut(std::string_view document, std::size_t limit) const override {
        Tokens best = join({});
        std::size_t fits = 0;
        std::size_t too_long = document.size() + 1;
        while (fits + 1 < too_long) {
            const std::size_t middle = fits + (too_long - fits) / 2;
            Tokens tokens = join(document.substr(0, character_begin(document, middle)));
            if (tokens.size() <= limit) {
                best = std::move(tokens);
                fits = middle;
            } else {
                too_long = middle;
            }
        }
        return best;
    }

private:
    // Where the UTF-8 character that `at` is in begins.
    static std::size_t character_begin(std::string_view text, std::size_t at) noexcept {
        while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) {
            --at;
        }
        return at;
    }

    const Tokenizer& tokenizer_;
    const RerankTemplate& form_;
    std::string query_;
    std::size_t empty_size_;
};

}  // namespace residency::detail::llama_cpp
