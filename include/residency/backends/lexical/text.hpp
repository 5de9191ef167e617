#pragma once

#include "residency/backends/utf8.hpp"
#include "residency/compiler.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// How the lexical backend takes a text apart: bytes to code points, code points to folded words. Nothing here asks the
// locale or the standard library what a letter is, so that every platform cuts a text into the same words.

namespace residency::lexical {

/// What stands for bytes that are not UTF-8.
inline constexpr char32_t replacement = 0xFFFD;

/// Takes the next code point off the front of `text`; precondition: `text` is not empty.
///
/// A byte that begins no valid UTF-8 sequence (stray, truncated, overlong, a surrogate, past U+10FFFF) gives
/// `replacement` and is skipped alone, so decoding always ends and never reads past the text.
[[nodiscard]] constexpr char32_t next_code_point(std::string_view& text) noexcept {
    const std::size_t length = detail::utf8_length(text);
    if (length == 0) {
        text.remove_prefix(1);
        return replacement;
    }
    const auto byte = [&text](std::size_t index) {
        return static_cast<std::uint32_t>(static_cast<unsigned char>(text[index]));
    };
    // Of several bytes the first has as many leading ones as there are, and each of the others six bits.
    std::uint32_t value = length == 1 ? byte(0) : byte(0) & (0xFFU >> (length + 1));
    for (std::size_t index = 1; index < length; ++index) {
        value = (value << 6U) | (byte(index) & 0x3FU);
    }
    text.remove_prefix(length);
    return static_cast<char32_t>(value);
}

/// Appends `code_point` to `text` as UTF-8; precondition: it is not a surrogate and not past U+10FFFF.
constexpr void append_utf8(std::string& text, char32_t code_point) {
    const auto value = static_cast<std::uint32_t>(code_point);
    const auto push = [&text](std::uint32_t byte) {
        text.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    };
    if (value < 0x80) {
        push(value);
    } else if (value < 0x800) {
        push(0xC0U | (value >> 6U));
        push(0x80U | (value & 0x3FU));
    } else if (value < 0x10000) {
        push(0xE0U | (value >> 12U));
        push(0x80U | ((value >> 6U) & 0x3FU));
        push(0x80U | (value & 0x3FU));
    } else {
        push(0xF0U | (value >> 18U));
        push(0x80U | ((value >> 12U) & 0x3FU));
        push(0x80U | ((value >> 6U) & 0x3FU));
        push(0x80U | (value & 0x3FU));
    }
}

/// The letter without its case: Unicode's simple case folding of the Latin letters up to U+017F, of modern Greek,
/// Cyrillic, Armenian and the full-width Latin letters. Any other code point is given back as it is.
[[nodiscard]] constexpr char32_t fold_case(char32_t letter) noexcept {
    const auto within = [letter](char32_t first, char32_t last) { return letter >= first && letter <= last; };
    // In these blocks the capital stands right before its small letter: on even or on odd places.
    const auto even_capital = [letter] { return letter | 1U; };
    const auto odd_capital = [letter] { return letter + (letter & 1U); };
    if (letter < 0x80) {
        return within('A', 'Z') ? letter + 0x20 : letter;
    }
    if (letter < 0x100) {
        if (letter == 0xB5) {
            return 0x3BC;  // The micro sign is a mu.
        }
        return within(0xC0, 0xDE) && letter != 0xD7 ? letter + 0x20 : letter;
    }
    if (letter < 0x180) {
        if (letter == 0x178) {
            return 0xFF;
        }
        if (letter == 0x17F) {
            return 's';
        }
        if (within(0x139, 0x148) || within(0x179, 0x17E)) {
            return odd_capital();
        }
        // U+0130 and U+0131 are Turkish, U+0138 and U+0149 have no capital.
        return within(0x130, 0x131) || letter == 0x138 || letter == 0x149 ? letter : even_capital();
    }
    if (within(0x386, 0x3CF)) {
        if (within(0x391, 0x3AB) && letter != 0x3A2) {
            return letter + 0x20;
        }
        switch (letter) {
            case 0x386: return 0x3AC;
            case 0x388:
            case 0x389:
            case 0x38A: return letter + 0x25;
            case 0x38C: return 0x3CC;
            case 0x38E:
            case 0x38F: return letter + 0x3F;
            case 0x3C2: return 0x3C3;  // A sigma at the end of a word is a sigma.
            case 0x3CF: return 0x3D7;
            default: return letter;
        }
    }
    if (within(0x400, 0x42F)) {
        return letter < 0x410 ? letter + 0x50 : letter + 0x20;
    }
    if (within(0x460, 0x481) || within(0x48A, 0x4BF) || within(0x4D0, 0x52F)) {
        return even_capital();
    }
    if (within(0x4C0, 0x4CE)) {
        return letter == 0x4C0 ? 0x4CF : odd_capital();
    }
    if (within(0x531, 0x556)) {
        return letter + 0x30;
    }
    return within(0xFF21, 0xFF3A) ? letter + 0x20 : letter;
}

/// What a code point does to the word that it stands in.
enum class LetterKind : std::uint8_t {
    /// It ends the word: spaces, punctuation, controls, what is not UTF-8.
    separator,
    /// It belongs to the word.
    letter,
    /// It is a word of its own: ideographs and kana, written without spaces, and pictographs.
    word,
    /// It is not there: soft hyphens, zero-width joiners, variation selectors.
    ignored,
};

/// The kind of a code point. Coarse on purpose: what is not known as a separator is a letter, so that no script is
/// lost.
[[nodiscard]] constexpr LetterKind kind_of(char32_t letter) noexcept {
    const auto within = [letter](char32_t first, char32_t last) { return letter >= first && letter <= last; };
    if (letter < 0x80) {
        return within('0', '9') || within('A', 'Z') || within('a', 'z') ? LetterKind::letter : LetterKind::separator;
    }
    if (letter < 0x100) {
        if (letter == 0xAD) {
            return LetterKind::ignored;
        }
        const bool is_letter =
            (letter >= 0xC0 && letter != 0xD7 && letter != 0xF7) || letter == 0xAA || letter == 0xB5 || letter == 0xBA;
        return is_letter ? LetterKind::letter : LetterKind::separator;
    }
    if (letter < 0x2000) {
        // The stops and commas of Greek, Armenian, Hebrew, Arabic and the Indic scripts; the Ogham space.
        switch (letter) {
            case 0x37E:
            case 0x387:
            case 0x589:
            case 0x5BE:
            case 0x5C3:
            case 0x60C:
            case 0x61B:
            case 0x61F:
            case 0x6D4:
            case 0x964:
            case 0x965:
            case 0x1680: return LetterKind::separator;
            default: return LetterKind::letter;
        }
    }
    if (within(0x200B, 0x200D) || letter == 0x2060 || within(0xFE00, 0xFE0F) || letter == 0xFEFF ||
        within(0xE0000, 0xE0FFF)) {
        return LetterKind::ignored;
    }
    // General punctuation to arrows, mathematics, boxes and supplemental punctuation, but for letter-like symbols and
    // the alphabets that lie between; then CJK punctuation, half-width and vertical forms, private use, what is not a
    // character.
    if (within(0x2000, 0x20FF) || within(0x2190, 0x25FF) || within(0x2768, 0x2BFF) || within(0x2E00, 0x2E7F) ||
        within(0x3000, 0x3004) || within(0x3008, 0x3020) || letter == 0x3030 || letter == 0x30FB ||
        within(0xE000, 0xF8FF) || within(0xFE10, 0xFE1F) || within(0xFE30, 0xFE6F) || within(0xFF00, 0xFF0F) ||
        within(0xFF1A, 0xFF20) || within(0xFF3B, 0xFF40) || within(0xFF5B, 0xFF65) || within(0xFFE0, 0xFFFF) ||
        letter >= 0xF0000) {
        return LetterKind::separator;
    }
    if (within(0x2600, 0x2767) || within(0x2E80, 0x2FFF) || within(0x3005, 0x312F) || within(0x3190, 0x9FFF) ||
        within(0xF900, 0xFAFF) || within(0x1F000, 0x3FFFF)) {
        return LetterKind::word;
    }
    return LetterKind::letter;
}

/// Calls `use(std::string_view)` with each word of `text`, folded, as valid UTF-8, in order. `word` is the room that
/// the words are made in: a caller with many texts keeps it.
template <class Use>
constexpr void for_each_word(std::string_view text, std::string& word, Use&& use) {
    word.clear();
    const auto finish = [&] {
        if (!word.empty()) {
            use(std::string_view(word));
            word.clear();
        }
    };
    while (!text.empty()) {
        const char32_t letter = next_code_point(text);
        switch (kind_of(letter)) {
            case LetterKind::separator: finish(); break;
            case LetterKind::ignored: break;
            case LetterKind::word:
                finish();
                append_utf8(word, letter);
                finish();
                break;
            case LetterKind::letter:
                if (letter == 0xDF || letter == 0x1E9E) {
                    word += "ss";  // Sharp s: its capitals are SS.
                } else {
                    append_utf8(word, fold_case(letter));
                }
                break;
        }
    }
    finish();
}

}  // namespace residency::lexical
