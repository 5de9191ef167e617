#pragma once

#include "residency/backends/openvino/batch.hpp"
#include "residency/backends/openvino/inference.hpp"
#include "residency/backends/openvino/runtime.hpp"
#include "residency/backends/utf8.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::openvino {

/// The most bytes that a text may have: far more than a model reads, at 0.6 s of tokenizing.
inline constexpr std::size_t most_bytes = std::size_t{16} << 20U;

/// The regular expression that matches one of `words` as it is; one that matches nothing if there are none.
inline std::string pattern_of(std::span<const std::string> words) {
    std::vector<std::string> longest_first(words.begin(), words.end());
    std::stable_sort(longest_first.begin(), longest_first.end(),
                     [](const std::string& left, const std::string& right) { return left.size() > right.size(); });
    std::string pattern;
    for (const std::string& word : longest_first) {
        pattern += pattern.empty() ? "(" : "|";
        for (const char each : word) {
            const bool plain = (each >= '0' && each <= '9') || (each >= 'a' && each <= 'z') ||
                               (each >= 'A' && each <= 'Z') || each == '_' ||
                               (static_cast<unsigned char>(each) & 0x80U) != 0;
            pattern += plain ? "" : "\\";
            pattern += each;
        }
    }
    return pattern.empty() ? "(?!)" : pattern + ")";
}

/// Has `tokenizer` read the names of special tokens as text, but for those of `text_tokens`. Before it is compiled.
inline void make_special_tokens_text(ov::Model& tokenizer, std::span<const std::string> text_tokens) {
    constexpr std::size_t pattern_input = 5;
    for (const auto& node : tokenizer.get_ops()) {
        if (node->get_type_name() == std::string_view("SpecialTokensSplit") && node->get_input_size() > pattern_input) {
            const std::string pattern = pattern_of(text_tokens);
            const auto constant =
                std::make_shared<ov::op::v0::Constant>(ov::element::u8, ov::Shape{pattern.size()}, pattern.data());
            node->input(pattern_input).replace_source_output(constant->output(0));
        }
    }
}

/// Has `tokenizer` cut no text, as it may have been converted to. Before it is compiled.
inline void keep_whole_texts(ov::Model& tokenizer) {
    // So much that tokens may be added to it.
    constexpr std::int32_t most = (std::numeric_limits<std::int32_t>::max)() / 2;
    // The last inputs are the most tokens, the side that is cut, and how pairs are.
    constexpr std::size_t from_end = 3;
    for (const auto& node : tokenizer.get_ops()) {
        if (node->get_type_name() == std::string_view("Truncate") && node->get_input_size() > from_end) {
            const auto constant = std::make_shared<ov::op::v0::Constant>(ov::element::i32, ov::Shape{}, &most);
            const std::size_t input = node->get_input_size() - from_end;
            // Newer ones select it by a state, which must not be left over.
            ov::Node* const selects = node->get_input_node_ptr(input);
            if (selects->get_type_name() == std::string_view("Select")) {
                selects->input(1).replace_source_output(constant->output(0));
                selects->input(2).replace_source_output(constant->output(0));
            } else {
                node->input(input).replace_source_output(constant->output(0));
            }
        }
    }
}

/// Makes tokens of texts in a request of its own for each call. Any number of threads at once.
class Tokenizer {
public:
    /// Of a tokenizer that was compiled. Throws std::runtime_error if it does not look like one of openvino_tokenizers.
    explicit Tokenizer(ov::CompiledModel& compiled) : inputs_(compiled.inputs().size()), typed_(has_types(compiled)) {
        if (inputs_ != 1 && inputs_ != 2) {
            throw std::runtime_error("its tokenizer has " + std::to_string(inputs_) + " inputs, not 1 or 2");
        }
        // The tokens before and after a text's own are those that an empty text has.
        ov::InferRequest request = compiled.create_infer_request();
        const std::vector<std::string> probes{"", "a"};
        const auto rows = run(request, probes, probes.front());
        const auto split =
            std::mismatch(rows[0].tokens.begin(), rows[0].tokens.end(), rows[1].tokens.begin(), rows[1].tokens.end());
        opening_.assign(rows[0].tokens.begin(), split.first);
        closing_.assign(split.first, rows[0].tokens.end());
    }

    /// What is added before a text.
    [[nodiscard]] const Tokens& opening() const noexcept { return opening_; }
    /// What is added after a text.
    [[nodiscard]] const Tokens& closing() const noexcept { return closing_; }
    /// How many texts it takes: 1, or 2 for pairs.
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    /// The own tokens of each text, without what is added. Precondition: `request` is of the tokenizer and not in use.
    /// Throws what OpenVINO throws; std::runtime_error if a text's tokens are not enclosed by what is added.
    template <class GoOn>
    [[nodiscard]] std::vector<Tokens> tokenize(ov::InferRequest& request, std::span<const std::string> texts,
                                               const GoOn& go_on) const {
        std::vector<Tokens> all;
        all.reserve(texts.size());
        while (!texts.empty()) {
            go_on();
            // Rows are padded to the longest: a long text is read with few others.
            constexpr std::size_t most_texts = 64;
            constexpr std::size_t most_padded_bytes = std::size_t{256} << 10U;
            std::size_t count = 0;
            for (std::size_t longest = 0; count < texts.size() && count < most_texts; ++count) {
                longest = (std::max)(longest, texts[count].size());
                if (count > 0 && longest * (count + 1) > most_padded_bytes) {
                    break;
                }
            }
            for (Sequence& row : run(request, texts.first(count), {})) {
                all.push_back(own_part(row.tokens));
            }
            texts = texts.subspan(count);
        }
        return all;
    }

    /// The tokens of two texts as a tokenizer with two inputs joins them. Precondition: inputs() == 2.
    [[nodiscard]] Sequence pair(ov::InferRequest& request, const std::string& first, const std::string& second) const {
        return run(request, {&first, 1}, second).at(0);
    }

private:
    [[nodiscard]] Tokens own_part(const Tokens& all) const {
        if (all.size() < opening_.size() + closing_.size() ||
            !std::equal(opening_.begin(), opening_.end(), all.begin()) ||
            !std::equal(closing_.rbegin(), closing_.rend(), all.rbegin())) {
            throw std::runtime_error("the tokenizer did not enclose a text as it encloses others");
        }
        return {all.begin() + static_cast<std::ptrdiff_t>(opening_.size()),
                all.end() - static_cast<std::ptrdiff_t>(closing_.size())};
    }

    [[nodiscard]] std::vector<Sequence> run(ov::InferRequest& request, std::span<const std::string> texts,
                                            const std::string& second) const {
        // It fails, or gives too few rows, where all texts are without tokens: one more text has some.
        const std::size_t count = texts.size() + 1;
        ov::Tensor first_input(ov::element::string, {count});
        first_input.data<std::string>()[texts.size()] = "a";
        // Its regular expressions read beyond a text that is not UTF-8.
        std::transform(texts.begin(), texts.end(), first_input.data<std::string>(), as_utf8);
        request.set_input_tensor(0, first_input);
        if (inputs_ == 2) {
            ov::Tensor second_input(ov::element::string, {1});
            second_input.data<std::string>()[0] = as_utf8(second);
            request.set_input_tensor(1, second_input);
        }
        infer(request);
        const ov::Tensor ids = request.get_tensor("input_ids");
        const ov::Tensor mask = request.get_tensor("attention_mask");
        if (ids.get_shape().size() != 2 || ids.get_shape()[0] != count || mask.get_shape() != ids.get_shape()) {
            throw std::runtime_error("the tokenizer gave no row of tokens for each text");
        }
        std::vector<Sequence> rows(texts.size());
        const std::size_t width = ids.get_shape()[1];
        const auto all = integers(ids);
        const auto kept = integers(mask);
        const auto types = typed_ ? integers(request.get_tensor("token_type_ids")) : Tokens();
        for (std::size_t row = 0; row < rows.size(); ++row) {
            for (std::size_t at = row * width; at < (row + 1) * width; ++at) {
                if (kept[at] != 0) {
                    rows[row].tokens.push_back(all[at]);
                    if (typed_) {
                        rows[row].types.push_back(types[at]);
                    }
                }
            }
        }
        return rows;
    }

    static bool has_types(const ov::CompiledModel& compiled) {
        const auto outputs = compiled.outputs();
        return std::any_of(outputs.begin(), outputs.end(),
                           [](const auto& output) { return output.get_names().count("token_type_ids") != 0; });
    }

    static Tokens integers(const ov::Tensor& tensor) {
        if (tensor.get_element_type() == ov::element::i32) {
            const auto* const begin = tensor.data<std::int32_t>();
            return {begin, begin + tensor.get_size()};
        }
        const auto* const begin = tensor.data<std::int64_t>();
        return {begin, begin + tensor.get_size()};
    }

    std::size_t inputs_;
    bool typed_;
    Tokens opening_{};
    Tokens closing_{};
};

}  // namespace residency::detail::openvino
