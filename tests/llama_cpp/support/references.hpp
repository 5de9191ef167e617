#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace residency::test {

/// A text, its tokens and its vector, as the reference implementation gives them.
struct EmbeddingCase {
    std::string text{};
    std::vector<int> tokens{};
    std::vector<float> vector{};
};

/// A query, documents and their scores, as the reference implementation gives them.
struct RerankCase {
    std::string query{};
    std::vector<std::string> documents{};
    std::vector<float> scores{};
};

/// Reads `all-minilm-l6-v2.reference.json`.
std::vector<EmbeddingCase> read_embedding_cases(const std::filesystem::path& file);

/// Reads `qa-reranker-l6.reference.json`.
std::vector<RerankCase> read_rerank_cases(const std::filesystem::path& file);

/// A text with its number.
struct NumberedText {
    int id = 0;
    std::string text{};
};

/// A judgement: how much a document gives to a query.
struct Judgement {
    int query = 0;
    int document = 0;
    int gain = 0;
};

/// A test collection.
struct Collection {
    /// As they are to be embedded: `title. text`, trimmed.
    std::vector<NumberedText> documents{};
    std::vector<NumberedText> queries{};
    std::vector<Judgement> judgements{};
};

/// Reads the collection in `folder`.
Collection read_collection(const std::filesystem::path& folder);

}  // namespace residency::test
