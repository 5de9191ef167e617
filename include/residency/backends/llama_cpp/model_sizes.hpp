#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace residency::detail::llama_cpp {

/// What decides how much memory a model takes. Numbers of a file, which may be any: as floating point none overflows,
/// and up to 2^53 all are exact.
struct ModelSizes {
    /// Bytes of the weights.
    double weights = 0;
    /// Tokens of the vocabulary, the bytes of their texts, and pairs of tokens that are merged.
    double tokens = 0;
    double token_bytes = 0;
    double merges = 0;
    /// Whether texts are taken apart by a tree of all tokens' characters.
    bool token_tree = false;
    /// Floats of a token's vector, within and at the end, and within a layer's network.
    double width = 0;
    double row = 0;
    double inner = 0;
    /// Floats of a token's queries and of its keys and values together, and how many layers there are.
    double queries = 0;
    double keys_and_values = 0;
    double layers = 0;
    /// Whether it is a decoder, or may be one: keys and values stay in memory, and it computes what token comes next.
    bool decoder = true;
    /// Tokens that it was trained for.
    double context = 0;
};

/// Bytes as a size; the largest one if there are more.
[[nodiscard]] inline std::size_t to_size(double bytes) noexcept {
    constexpr auto largest = static_cast<double>((std::numeric_limits<std::size_t>::max)());
    return bytes >= largest ? (std::numeric_limits<std::size_t>::max)() : static_cast<std::size_t>(bytes);
}

/// What a context takes that has computed a batch of `tokens` tokens, and of at most `sequences` texts.
///
/// The outputs are exact; so is the graph for BERT, where it is what one layer's network holds at once. What ggml and
/// the graph's own description take besides was measured.
[[nodiscard]] inline double context_memory(const ModelSizes& model, double tokens, double sequences) noexcept {
    constexpr double number = 4;
    constexpr double half = 2;
    const double outputs = (std::max)(tokens, sequences) * (model.tokens + model.row) * number;
    const double layer = 3 * model.width + (std::max)(model.decoder ? 2 * model.inner : model.inner,
                                                      model.queries + model.keys_and_values);
    double graph = tokens * (layer + sequences) * number + tokens * tokens * half;
    double kept = 0;
    if (model.decoder) {
        graph += tokens * model.tokens * number;
        constexpr double step = 256;  // llama.cpp's own
        kept = model.layers * (tokens + step) * model.keys_and_values * half;
    }
    const double work = tokens * model.inner * half + model.tokens * number + (1 << 20);
    return outputs + graph + kept + work;
}

/// What a model takes with its contexts, each of which has computed a batch of `tokens` tokens and of at most
/// `sequences` texts. What the vocabulary takes is what its containers are made of in libstdc++.
[[nodiscard]] inline double model_memory(const ModelSizes& model, double contexts, double tokens,
                                         double sequences) noexcept {
    constexpr double token = 152;
    constexpr double merge = 104;
    constexpr double tree_node = 112;
    const double vocabulary =
        model.tokens * token + model.merges * merge + model.token_bytes * (model.token_tree ? tree_node : 1);
    // What the heap loses between blocks, and llama.cpp's tables, which come with the first model and stay.
    constexpr double rest = 6 << 20;
    return model.weights + vocabulary + contexts * context_memory(model, tokens, sequences) + rest;
}

}  // namespace residency::detail::llama_cpp
