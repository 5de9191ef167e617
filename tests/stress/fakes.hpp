#pragma once

#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "stress/facts.hpp"
#include "stress/random.hpp"
#include "stress/witness.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace residency::stress {

[[nodiscard]] inline ModelKey key_of(std::uint32_t key) {
    return {std::string(1, static_cast<char>('a' + key)), "f16"};
}

/// Where a model finds the facts of a request by the number that the request carries.
using Requests = std::vector<RequestFacts>;

/// A text of request `id`.
[[nodiscard]] inline std::string text_of(std::uint32_t id) {
    return std::to_string(id) + ": long enough to be in memory of its own";
}

/// A model. Its answers hold the number of the request that it was called for.
template <std::uint32_t Slot>
class StressedModel {
public:
    StressedModel(Witness& witness, Requests& requests, ModelFacts& facts)
        : witness_(witness), requests_(requests), facts_(facts) {}
    StressedModel(const StressedModel&) = delete;
    StressedModel& operator=(const StressedModel&) = delete;
    ~StressedModel() {
        witness_.begin_unload(facts_);
        witness_.call_back();
        dawdle(dice().coin() ? 20 : 0);
        witness_.end_unload(facts_);
    }

    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.capacity; }
    [[nodiscard]] ModelFacts& facts() const noexcept { return facts_; }

    Embeddings embed(std::span<const std::string> texts, std::stop_token stop) requires(Slot == 0) {
        const bool bad = work(texts.front(), stop);
        Embeddings rows(bad ? texts.size() + 1 : texts.size(), 2);
        for (std::size_t row = 0; row < texts.size(); ++row) {
            rows[row][0] = static_cast<float>(std::stoul(texts[row]));
            rows[row][1] = static_cast<float>(row);
        }
        return rows;
    }
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                              std::stop_token stop) requires(Slot == 1) {
        const bool bad = work(std::string(query), stop);
        std::vector<float> scores;
        for (const std::string& document : documents) {
            // Best last, so that the ranking turns them round.
            scores.push_back(static_cast<float>(std::stoul(document)) + static_cast<float>(scores.size()));
        }
        if (bad) {
            scores.front() = std::numeric_limits<float>::quiet_NaN();
        }
        return scores;
    }

private:
    // True if the answer is to be unusable.
    bool work(const std::string& text, const std::stop_token& stop) {
        RequestFacts& request = requests_[std::stoul(text)];
        witness_.begin_call(facts_, request);
        const std::stop_callback on_stop(stop, [this] { witness_.call_back_in_stop(); });
        if (request.options.timeout && witness_.waits_for_stop && dice().once_in(16)) {
            // The request's timeout ends it early and sets the stop_token.
            while (!stop.stop_requested()) {
                std::this_thread::yield();
            }
        } else if (!stop.stop_requested()) {
            // Now and then long enough to be cancelled or revoked meanwhile.
            dawdle(dice().once_in(6) ? 200 : 10);
        }
        witness_.call_back();
        const std::uint32_t how = dice().below(30);
        const std::uint32_t id = request.id;
        witness_.require(text_of(id) == text, "H10: a call's texts changed under it");
        witness_.end_call(facts_, request);
        if (how == 0) {
            throw FakeFailure(id);
        }
        return how == 1;
    }

    Witness& witness_;
    Requests& requests_;
    ModelFacts& facts_;
};

template <std::uint32_t Slot>
class StressedBackend {
public:
    using model_type = StressedModel<Slot>;

    StressedBackend(Witness& witness, Requests& requests) : witness_(&witness), requests_(&requests) {}

    std::unique_ptr<model_type> load(const ModelKey& key, std::stop_token stop) {
        constexpr std::array<std::size_t, 4> capacities{1, 2, 1000, 1000};
        const auto number = static_cast<std::uint32_t>(key.name.front() - 'a');
        ModelFacts& facts = witness_->begin_load(Slot, number, capacities[dice().below(4)]);
        witness_->call_back();
        dawdle(50);
        if (dice().once_in(12) || (stop.stop_requested() && dice().coin())) {
            const bool refuses = dice().once_in(4);
            witness_->load_failed(facts, refuses);
            if (refuses) {
                throw Error(errc::invalid_request, key, Stage::load, "the fake knows no such model");
            }
            throw FakeFailure(facts);
        }
        auto model = std::make_unique<model_type>(*witness_, *requests_, facts);
        witness_->loaded(facts);
        return model;
    }

private:
    Witness* witness_;
    Requests* requests_;
};

}  // namespace residency::stress
