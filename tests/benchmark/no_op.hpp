#pragma once

#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "residency/options.hpp"
#include "residency/runtime/asio.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace residency::cost {

/// A model that does nothing, so that all that is measured is what stands around it. The answer that its concept
/// demands, a row for each text, is one allocation.
struct NoOpEmbedder {
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) { return {texts.size(), 1}; }
};

/// A backend that does nothing.
struct NoOpBackend {
    using model_type = NoOpEmbedder;
    [[nodiscard]] std::unique_ptr<NoOpEmbedder> load(const ModelKey& /*key*/) {
        return std::make_unique<NoOpEmbedder>();
    }
};

/// The same as a model that answers asynchronously.
struct NoOpAsyncEmbedder {
    [[nodiscard]] asio::awaitable<Embeddings> embed(std::span<const std::string> texts) {
        co_return Embeddings(texts.size(), 1);
    }
};
struct NoOpAsyncBackend {
    using model_type = NoOpAsyncEmbedder;
    [[nodiscard]] std::unique_ptr<NoOpAsyncEmbedder> load(const ModelKey& /*key*/) {
        return std::make_unique<NoOpAsyncEmbedder>();
    }
};

/// The same for the other slot of a manager.
struct NoOpReranker {
    [[nodiscard]] std::vector<float> rerank(std::string_view /*query*/, std::span<const std::string> documents) {
        return std::vector<float>(documents.size());
    }
};
struct NoOpRerankerBackend {
    using model_type = NoOpReranker;
    [[nodiscard]] std::unique_ptr<NoOpReranker> load(const ModelKey& /*key*/) {
        return std::make_unique<NoOpReranker>();
    }
};

/// A key as hosts have them: its name is past the small-string size.
inline const ModelKey& usual_key() {
    static const ModelKey key("bge-small-en-v1.5", "q8_0");
    return key;
}

/// The options of a slot that never says no while a benchmark runs.
inline SlotOptions roomy() {
    SlotOptions options;
    options.max_leases = 64;
    options.max_queue = 1'000'000;
    return options;
}

}  // namespace residency::cost
