#pragma once

#include "residency/backends/lexical/text.hpp"
#include "residency/backends/llama_cpp/llama.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace residency::detail::llama_cpp {

/// The most characters, by `PreTokenizer::longest_match`, that one match may take. The 8 MiB of stack that a thread has
/// as a rule are enough for fewer, about 26,000.
inline constexpr std::size_t max_match = 32'768;

/// What a model's file calls its pre-tokenizer; empty if it says nothing.
inline std::string pre_tokenizer_of(const llama_model& model) {
    std::array<char, 64> name{};
    llama_model_meta_val_str(&model, "tokenizer.ggml.pre", name.data(), name.size());
    return name.data();
}

/// How llama.cpp splits a text before it makes tokens of it, as far as that can end the process.
///
/// It has loops of its own for some vocabularies. For the others it uses std::regex, and libstdc++'s recurses for each
/// character that a match takes: such a text needs a stack for its longest match.
class PreTokenizer {
public:
    /// That of the vocabulary, which its file calls `name`.
    PreTokenizer(const llama_vocab* vocabulary, std::string_view name)
        : recurses_(llama_vocab_type(vocabulary) == LLAMA_VOCAB_TYPE_BPE &&
                    std::find(with_loops.begin(), with_loops.end(), name) == with_loops.end()),
          joins_words_(name == "exaone-moe"),
          keeps_spaces_(name == "whitespace") {}

    /// At least as many characters as one match in `text` takes, give or take a character, or a second such run after
    /// it; zero if llama.cpp does not recurse.
    ///
    /// No expression of llama.cpp crosses from one of these kinds of character to another, but that the run of a word
    /// may go on with one of line ends: white space; all else; line ends and slashes; for one vocabulary letters and
    /// spaces. Characters beyond ASCII that may be of several kinds, and bytes that are not UTF-8, count as each.
    [[nodiscard]] std::size_t longest_match(std::string_view text) const noexcept {
        if (!recurses_) {
            return 0;
        }
        std::size_t longest = 0;
        std::size_t white = 0;
        std::size_t solid = 0;
        std::size_t line_ends = 0;
        std::size_t words = 0;
        const auto count = [&longest](std::size_t& run, bool goes_on) {
            run = goes_on ? run + 1 : 0;
            longest = (std::max)(longest, run);
        };
        while (!text.empty()) {
            const char32_t point = lexical::next_code_point(text);
            const bool any = may_be_any(point);
            count(white, any || is_white(point));
            count(solid, !is_white(point));
            count(line_ends, any || point == '\r' || point == '\n' || point == '/');
            count(words, joins_words_ && (point >= 0x80 || point == ' ' || is_letter(point)));
        }
        return longest;
    }

    /// How much of the beginning of `text` llama.cpp can be given at once. The tokens of the parts, one after the
    /// other, are those of the text.
    ///
    /// With one vocabulary it ends the process on a space that has other white space beside it. A space is always a
    /// word of its own there, so the text can be cut on either side of it.
    [[nodiscard]] std::size_t part(std::string_view text) const noexcept {
        if (!keeps_spaces_) {
            return text.size();
        }
        const auto may_be_white = [](char byte) {
            const auto point = static_cast<unsigned char>(byte);
            return point >= 0x80 || is_white(point);
        };
        for (std::size_t at = 1; at < text.size(); ++at) {
            if ((text[at - 1] == ' ' && may_be_white(text[at])) || (may_be_white(text[at - 1]) && text[at] == ' ')) {
                return at;
            }
        }
        return text.size();
    }

private:
    // The names of those for which llama.cpp 0.5 has loops. One that is missing here costs a thread for some texts.
    static constexpr std::array<std::string_view, 37> with_loops{
        "gpt-2",
        "phi-2",
        "jina-es",
        "jina-de",
        "gigachat",
        "jina-v1-en",
        "jina-v2-code",
        "jina-v2-es",
        "jina-v2-de",
        "a.x-4.0",
        "mellum",
        "modern-bert",
        "roberta-bpe",
        "mpt",
        "olmo",
        "jais",
        "trillion",
        "granite-docling",
        "exaone4",
        "llama3",
        "llama-v3",
        "llama-bpe",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "jina-v5-nano",
        "qwen2",
        "deepseek-r1-qwen",
        "kormo",
        "f2llmv2",
        "megrez",
        "stablelm2",
        "qwen35",
        "gemma4",
        "granite-embed-multi-311m",
    };

    static constexpr bool is_white(char32_t point) noexcept { return point == ' ' || (point >= '\t' && point <= '\r'); }
    static constexpr bool is_letter(char32_t point) noexcept {
        return (point >= 'a' && point <= 'z') || (point >= 'A' && point <= 'Z');
    }
    // White space beyond ASCII, what stands near it, and what llama.cpp may read otherwise.
    static constexpr bool may_be_any(char32_t point) noexcept {
        return point == 0x85 || point == 0xA0 || point == 0x1680 || point == 0x180E ||
               (point >= 0x2000 && point <= 0x206F) || point == 0x3000 || point == lexical::replacement;
    }

    bool recurses_;
    bool joins_words_;
    bool keeps_spaces_;
};

}  // namespace residency::detail::llama_cpp
