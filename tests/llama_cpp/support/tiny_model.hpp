#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace residency::test {

/// What a tiny model file is to hold.
struct TinyModel {
    /// A decoder: "qwen3", or a name that llama.cpp does not know.
    std::string architecture = "qwen3";
    /// As `llama_pooling_type` numbers it; none: the file says nothing.
    std::optional<int> pooling = 3;
    /// Labels of a classification head; empty: no head.
    std::vector<std::string> labels{};
    /// The rerank template; empty: none.
    std::string rerank_template{};
    /// Whether the vocabulary adds a first and a last token to texts.
    bool adds_begin = false;
    bool adds_end = false;
    /// How many tokens it was trained for.
    unsigned context_length = 512;
    /// How texts are split before tokens are made of them, as llama.cpp names it.
    std::string pre_tokenizer = "qwen2";
    /// Without a vocabulary.
    bool no_vocabulary = false;
};

/// Writes a decoder of two layers with random weights, the same for the same description but for its labels' order, and
/// with a byte-level vocabulary that has `<|im_start|>` and `<|im_end|>` as special tokens.
void write_tiny_model(const std::filesystem::path& file, const TinyModel& model);

/// Writes the model in `file` again, split: `PREFIX-00001-of-0000N.gguf` and so on.
void write_split_model(const std::filesystem::path& prefix, int parts, const std::filesystem::path& file);

}  // namespace residency::test
