#pragma once

#include "residency/backend.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/asio.hpp"
#include "simulation/facts.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::simulation {

/// A text or document: whose it is, and which one.
struct TextOf {
    int request = 0;
    int row = 0;
};

/// What is written in a text of the request: both numbers, and something to make it longer.
[[nodiscard]] inline std::string text_of(int request, int row) {
    return std::to_string(request) + ':' + std::to_string(row) +
           std::string(static_cast<std::size_t>(request % 5), '+');
}
/// The other way round.
[[nodiscard]] inline TextOf parse(std::string_view text) {
    TextOf parsed;
    const char* const end = text.data() + text.size();
    const char* const after = std::from_chars(text.data(), end, parsed.request).ptr;
    if (after != end) {
        std::from_chars(after + 1, end, parsed.row);
    }
    return parsed;
}

/// What a fake call is about.
struct FakeCall {
    std::vector<TextOf> texts{};
    /// The requests whose queries these are, a rerank's.
    std::vector<int> queries{};
    EmbedAs as = EmbedAs::as_is;
    std::stop_token stop{};
};

/// How it is to be answered.
struct FakeAnswer {
    Ending ending = Ending::sound;
    /// In which row the fault is.
    std::size_t at = 0;
    /// Which call of all it is.
    int call = 0;
};

/// What the fakes ask what they are to do, and notify of what they do.
class FakeStage {
public:
    FakeStage() = default;
    virtual ~FakeStage() = default;
    FakeStage(const FakeStage&) = delete;
    FakeStage& operator=(const FakeStage&) = delete;

    /// The backend is asked whether it knows the key of the request that is being started.
    virtual bool knows(int slot, const ModelKey& key) = 0;
    /// The backend is asked how much memory the key needs: throws to fail; none if it does not say.
    virtual std::optional<std::size_t> memory_needed(int slot, const ModelKey& key) = 0;
    /// A load runs: throws to fail; null for a null model.
    virtual ModelFacts* load(int slot, const ModelKey& key, LoadContext& context) = 0;
    /// A model is called; throws to fail.
    virtual FakeAnswer call(ModelFacts& model, const FakeCall& call) = 0;
    /// A model that answers asynchronously is called; throws to fail. `call` lasts until the answer.
    virtual asio::awaitable<FakeAnswer> call_later(ModelFacts& model, const FakeCall& call) = 0;
    /// A model is being destroyed.
    virtual void unload(ModelFacts& model) = 0;
};

/// What both kinds of fake models have in common. A row or a score holds the model's number, the
/// request's and the text's.
class SimulatedModel {
public:
    SimulatedModel(FakeStage& stage, ModelFacts& facts) : stage_(stage), facts_(facts) {}
    SimulatedModel(const SimulatedModel&) = delete;
    SimulatedModel& operator=(const SimulatedModel&) = delete;
    ~SimulatedModel() { stage_.unload(facts_); }

    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.capacity; }
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return facts_.limits; }
    [[nodiscard]] std::optional<std::size_t> memory_used() const noexcept {
        return facts_.says == 0 ? std::nullopt : std::optional(facts_.says);
    }
    [[nodiscard]] ModelFacts& facts() noexcept { return facts_; }

protected:
    FakeStage& stage_;
    ModelFacts& facts_;
};

[[nodiscard]] inline std::size_t rows_at(Ending ending, std::size_t rows) noexcept {
    return ending == Ending::too_few ? rows - 1 : ending == Ending::too_many ? rows + 1 : rows;
}

/// What an embedder is called for.
[[nodiscard]] inline FakeCall call_of(std::span<const std::string> texts, EmbedAs as, std::stop_token stop) {
    FakeCall call{.as = as, .stop = std::move(stop)};
    for (const std::string& text : texts) {
        call.texts.push_back(parse(text));
    }
    return call;
}

/// What it answers, by the texts as they are then.
[[nodiscard]] inline Embeddings rows_of(int serial, std::span<const std::string> texts, const FakeAnswer& answer) {
    Embeddings rows(rows_at(answer.ending, texts.size()), 4);
    for (std::size_t row = 0; row < std::min(rows.size(), texts.size()); ++row) {
        const TextOf text = parse(texts[row]);
        rows[row][0] = static_cast<float>(serial);
        rows[row][1] = static_cast<float>(text.request);
        rows[row][2] = static_cast<float>(text.row);
        rows[row][3] = static_cast<float>(answer.call);
    }
    if (answer.ending == Ending::nan) {
        rows[answer.at][3] = std::numeric_limits<float>::quiet_NaN();
    }
    return rows;
}

class SimulatedEmbedder : public SimulatedModel {
public:
    using SimulatedModel::SimulatedModel;

    Embeddings embed(std::span<const std::string> texts, EmbedAs as, std::stop_token stop) {
        const int serial = facts_.serial;
        return rows_of(serial, texts, stage_.call(facts_, call_of(texts, as, std::move(stop))));
    }
};

/// The same, answering asynchronously.
class AsyncSimulatedEmbedder : public SimulatedModel {
public:
    using SimulatedModel::SimulatedModel;

    asio::awaitable<Embeddings> embed(std::span<const std::string> texts, EmbedAs as, std::stop_token stop) {
        const int serial = facts_.serial;
        const FakeCall call = call_of(texts, as, std::move(stop));
        const FakeAnswer answer = co_await stage_.call_later(facts_, call);
        co_return rows_of(serial, texts, answer);
    }
};

/// The score of a document; the last of a request's is its best.
[[nodiscard]] inline float score_of(int serial, TextOf document) {
    return static_cast<float>((serial * 512 + document.request) * 4 + document.row);
}

/// What a reranker is called for.
[[nodiscard]] inline FakeCall call_of(std::string_view query, std::span<const std::string> documents,
                                      std::stop_token stop) {
    FakeCall call{.stop = std::move(stop)};
    for (const std::string& document : documents) {
        call.texts.push_back(parse(document));
        call.queries.push_back(parse(query).request);
    }
    return call;
}
/// The same for pairs.
[[nodiscard]] inline FakeCall call_of(std::span<const RerankPair> pairs, std::stop_token stop) {
    FakeCall call{.stop = std::move(stop)};
    for (const RerankPair& pair : pairs) {
        call.texts.push_back(parse(pair.document));
        call.queries.push_back(parse(pair.query).request);
    }
    return call;
}

/// What it answers.
[[nodiscard]] inline std::vector<float> scores_of(int serial, const FakeCall& call, const FakeAnswer& answer) {
    std::vector<float> scores(rows_at(answer.ending, call.texts.size()));
    for (std::size_t row = 0; row < std::min(scores.size(), call.texts.size()); ++row) {
        scores[row] = score_of(serial, call.texts[row]);
    }
    if (answer.ending == Ending::nan) {
        scores[answer.at] = std::numeric_limits<float>::quiet_NaN();
    }
    return scores;
}

class SimulatedReranker : public SimulatedModel {
public:
    using SimulatedModel::SimulatedModel;

    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents, std::stop_token stop) {
        return score(call_of(query, documents, std::move(stop)));
    }
    std::vector<float> rerank(std::span<const RerankPair> pairs, std::stop_token stop) {
        return score(call_of(pairs, std::move(stop)));
    }

private:
    std::vector<float> score(const FakeCall& call) {
        const int serial = facts_.serial;
        return scores_of(serial, call, stage_.call(facts_, call));
    }
};

/// The same, answering asynchronously.
class AsyncSimulatedReranker : public SimulatedModel {
public:
    using SimulatedModel::SimulatedModel;

    asio::awaitable<std::vector<float>> rerank(std::string_view query, std::span<const std::string> documents,
                                               std::stop_token stop) {
        const int serial = facts_.serial;
        const FakeCall call = call_of(query, documents, std::move(stop));
        const FakeAnswer answer = co_await stage_.call_later(facts_, call);
        // By what they are then.
        co_return scores_of(serial, call_of(query, documents, {}), answer);
    }
    asio::awaitable<std::vector<float>> rerank(std::span<const RerankPair> pairs, std::stop_token stop) {
        const int serial = facts_.serial;
        const FakeCall call = call_of(pairs, std::move(stop));
        const FakeAnswer answer = co_await stage_.call_later(facts_, call);
        co_return scores_of(serial, call_of(pairs, {}), answer);
    }
};

template <class Model, int Slot>
class SimulatedBackend {
public:
    using model_type = Model;

    explicit SimulatedBackend(FakeStage& stage) : stage_(&stage) {}

    std::unique_ptr<Model> load(const ModelKey& key, LoadContext& context) {
        ModelFacts* const facts = stage_->load(Slot, key, context);
        return facts == nullptr ? nullptr : std::make_unique<Model>(*stage_, *facts);
    }
    [[nodiscard]] bool knows(const ModelKey& key) const { return stage_->knows(Slot, key); }
    [[nodiscard]] std::optional<std::size_t> memory_needed(const ModelKey& key) {
        return stage_->memory_needed(Slot, key);
    }

private:
    FakeStage* stage_;
};

}  // namespace residency::simulation
