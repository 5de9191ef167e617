#pragma once

#include "residency/backend.hpp"
#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"
#include "residency/runtime/asio.hpp"
#include "stress/facts.hpp"
#include "stress/random.hpp"
#include "stress/witness.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace residency::stress {

[[nodiscard]] inline ModelKey key_of(std::uint32_t key) {
    return {std::string(1, static_cast<char>('a' + key)), "f16"};
}

/// Text `row` of request `id`.
[[nodiscard]] inline std::string text_of(std::uint32_t id, std::uint32_t row) {
    return std::to_string(id) + '.' + std::to_string(row) + ": long enough to be in memory of its own";
}
/// The other way round.
[[nodiscard]] inline TextOf parse(const std::string& text) {
    std::size_t end = 0;
    const auto id = static_cast<std::uint32_t>(std::stoul(text, &end));
    return {id, static_cast<std::uint32_t>(std::stoul(text.substr(end + 1)))};
}
/// What a model gives for it.
[[nodiscard]] inline float value_of(TextOf text) { return static_cast<float>(text.request * 32 + text.row); }

/// A model. Its answers hold the numbers of the requests that it was called for, and of their texts. It can answer both
/// ways, as a type-erased one can, and is called as all of its manager are: so both are one program.
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

    [[nodiscard]] bool answers_asynchronously() const noexcept { return witness_.asynchronous; }
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return facts_.capacity; }
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return facts_.limits; }
    [[nodiscard]] std::size_t memory_used() const noexcept { return facts_.memory_used; }
    [[nodiscard]] ModelFacts& facts() const noexcept { return facts_; }

    Embeddings embed(std::span<const std::string> texts, EmbedAs as, std::stop_token stop) requires(Slot == 0) {
        Call call = call_of(texts, as);
        work(call, stop, [&](std::size_t index) { return texts[index]; });
        return rows_of(call);
    }
    asio::awaitable<Embeddings> embed_later(std::span<const std::string> texts, EmbedAs as,
                                            std::stop_token stop) requires(Slot == 0) {
        Call call = call_of(texts, as);
        co_await work_later(call, stop, [&](std::size_t index) { return texts[index]; });
        co_return rows_of(call);
    }
    std::vector<float> rerank(std::string_view query, std::span<const std::string> documents,
                              std::stop_token stop) requires(Slot == 1) {
        return rerank(pairs_of(query, documents), std::move(stop));
    }
    std::vector<float> rerank(std::span<const RerankPair> pairs, std::stop_token stop) requires(Slot == 1) {
        Call call = call_of(pairs);
        work(call, stop, [&](std::size_t index) { return pairs[index].document; });
        return scores_of(call);
    }
    asio::awaitable<std::vector<float>> rerank_later(std::string_view query, std::span<const std::string> documents,
                                                     std::stop_token stop) requires(Slot == 1) {
        const std::vector<RerankPair> pairs = pairs_of(query, documents);
        co_return co_await rerank_later(pairs, std::move(stop));
    }
    asio::awaitable<std::vector<float>> rerank_later(std::span<const RerankPair> pairs,
                                                     std::stop_token stop) requires(Slot == 1) {
        Call call = call_of(pairs);
        co_await work_later(call, stop, [&](std::size_t index) { return pairs[index].document; });
        co_return scores_of(call);
    }

private:
    static Call call_of(std::span<const std::string> texts, EmbedAs as) {
        Call call{.as = as};
        for (const std::string& text : texts) {
            call.texts.push_back(parse(text));
            call.bytes += text.size();
        }
        call.text_bytes = call.bytes;
        return call;
    }
    static Embeddings rows_of(const Call& call) {
        Embeddings rows(call.rows(), 2);
        for (std::size_t row = 0; row < std::min(rows.size(), call.texts.size()); ++row) {
            rows[row][0] = value_of(call.texts[row]);
            rows[row][1] = call.ending == Ending::nan && row == call.at ? std::numeric_limits<float>::quiet_NaN() : 1;
        }
        return rows;
    }
    static std::vector<RerankPair> pairs_of(std::string_view query, std::span<const std::string> documents) {
        std::vector<RerankPair> pairs;
        for (const std::string& document : documents) {
            pairs.push_back({query, document});
        }
        return pairs;
    }
    Call call_of(std::span<const RerankPair> pairs) {
        Call call;
        for (const RerankPair& pair : pairs) {
            const TextOf text = parse(std::string(pair.document));
            witness_.require(pair.query == text_of(text.request, 0), "R14: a document with another request's query");
            call.text_bytes += pair.document.size();
            call.bytes += pair.document.size() + (text.row == 0 ? pair.query.size() : 0);
            call.texts.push_back(text);
        }
        return call;
    }
    // Best last, so that the ranking turns them round.
    static std::vector<float> scores_of(const Call& call) {
        std::vector<float> scores(call.rows());
        for (std::size_t row = 0; row < std::min(scores.size(), call.texts.size()); ++row) {
            scores[row] = call.ending == Ending::nan && row == call.at ? std::numeric_limits<float>::quiet_NaN()
                                                                       : value_of(call.texts[row]);
        }
        return scores;
    }

    // Notes the call and its end, and throws if it is to.
    template <class TextAt>
    void work(Call& call, const std::stop_token& stop, const TextAt& text_at) {
        witness_.begin_call(facts_, call, requests_);
        const std::stop_callback on_stop(stop, [this] { witness_.call_back_in_stop(); });
        if (waits_for_stop(call)) {
            // The requests' timeouts end it early and set the stop_token.
            while (!stop.stop_requested()) {
                std::this_thread::yield();
            }
        } else if (!stop.stop_requested()) {
            dawdle(length(call));
        }
        finish(call, stop, text_at);
    }
    // The same; it waits without a thread, and may be cancelled meanwhile or ignore that.
    template <class TextAt>
    asio::awaitable<void> work_later(Call& call, const std::stop_token& stop, const TextAt& text_at) {
        witness_.begin_call(facts_, call, requests_);
        const std::stop_callback on_stop(stop, [this] { witness_.call_back_in_stop(); });
        co_await asio::this_coro::throw_if_cancelled(false);
        const bool ignores = dice().coin();
        if (ignores) {
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        }
        asio::steady_timer timer(co_await asio::this_coro::executor);
        if (waits_for_stop(call)) {
            do {
                // One that does not ignore it is woken by the cancellation alone.
                timer.expires_after(ignores ? std::chrono::microseconds(50) : std::chrono::hours(1));
                co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
            } while (!stop.stop_requested());
        } else if (dice().coin()) {
            timer.expires_after(std::chrono::microseconds(length(call)));
            co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
        } else {
            dawdle(length(call));
        }
        const asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
        witness_.require(state.cancelled() == asio::cancellation_type::none || stop.stop_requested(),
                         "H39: a call was cancelled, and not asked to stop");
        finish(call, stop, text_at);
    }

    [[nodiscard]] bool waits_for_stop(const Call& call) const {
        const bool will_stop =
            call.is_first && std::all_of(call.requests.begin(), call.requests.end(), [](const RequestFacts* request) {
                return request->options.timeout.has_value();
            });
        return will_stop && witness_.waits_for_stop && dice().once_in(call.requests.size() == 1 ? 16 : 3);
    }
    // Now and then long enough to be cancelled or revoked meanwhile.
    [[nodiscard]] static std::uint32_t length(const Call& call) {
        return dice().once_in(6) ? 200 : call.requests.size() > 1 ? 100 : 10;
    }
    template <class TextAt>
    void finish(Call& call, const std::stop_token& stop, const TextAt& text_at) {
        witness_.call_back();
        draw_ending(call);
        for (std::size_t index = 0; index < call.texts.size(); ++index) {
            const TextOf& text = call.texts[index];
            witness_.require(text_of(text.request, text.row) == text_at(index), "H10: a call's texts changed under it");
        }
        witness_.end_call(facts_, call, stop.stop_requested());
        const auto fails = [&](std::optional<std::chrono::milliseconds> retry_after = std::nullopt) {
            return Error(errc::inference_failed, key_of(facts_.key), Stage::inference, "the model was made to fail",
                         retry_after);
        };
        switch (call.ending) {
            case Ending::threw: throw FakeFailure(call.number);
            case Ending::names_text: throw FakeError(call.number, fails().at_text(call.at));
            case Ending::busy: throw FakeError(call.number, fails(std::chrono::milliseconds(1)));
            case Ending::out_of_memory: throw FakeShortage(call.number);
            default: break;
        }
    }
    // Joint calls fail more often: much depends on how.
    static void draw_ending(Call& call) {
        const std::uint32_t how = dice().below(call.requests.size() == 1 ? 60 : 15);
        call.ending = how < 7 ? static_cast<Ending>(how) : Ending::sound;
        call.at = dice().below(static_cast<std::uint32_t>(call.texts.size()));
    }

    Witness& witness_;
    Requests& requests_;
    ModelFacts& facts_;
};

template <std::uint32_t Slot>
class StressedBackend {
public:
    using model_type = StressedModel<Slot>;

    StressedBackend(Witness& witness, Requests& requests, const BatchLimits& limits)
        : witness_(&witness), requests_(&requests), limits_(limits) {}

    std::unique_ptr<model_type> load(const ModelKey& key, std::stop_token stop) {
        constexpr std::array<std::size_t, 4> capacities{1, 2, 1000, 1000};
        const auto number = static_cast<std::uint32_t>(key.name.front() - 'a');
        ModelFacts& facts = witness_->begin_load(Slot, number, capacities[dice().below(4)]);
        facts.limits = limits_;
        witness_->call_back();
        dawdle(50);
        if (dice().once_in(12) || (stop.stop_requested() && dice().coin())) {
            if (witness_->memory_limit != 0 && dice().coin()) {
                witness_->load_failed(facts, false);
                witness_->out_of_memory();
                throw FakeShortage(facts);
            }
            const bool refuses = dice().once_in(4);
            witness_->load_failed(facts, refuses);
            if (refuses) {
                throw Error(errc::invalid_request, key, Stage::load, "the fake knows no such model");
            }
            throw FakeFailure(facts);
        }
        auto model = std::make_unique<model_type>(*witness_, *requests_, facts);
        const std::size_t bytes = bytes_of(Slot, number);
        witness_->loaded(facts, std::array{bytes, bytes, bytes - 5, bytes + most_overrun}[dice().below(4)]);
        return model;
    }
    /// With a memory budget, on a thread of the library's.
    [[nodiscard]] std::size_t memory_needed(const ModelKey& key) const {
        witness_->call_back();
        return bytes_of(Slot, static_cast<std::uint32_t>(key.name.front() - 'a'));
    }
    /// On the caller's thread, which may call back; now and then a key is not known, or that cannot be said.
    [[nodiscard]] bool knows(const ModelKey& key) const {
        witness_->call_back();
        switch (dice().below(64)) {
            case 0:
                witness_->slots[Slot].keys.at(static_cast<std::size_t>(key.name.front() - 'a')).denials.count();
                return false;
            case 1: throw std::runtime_error("the fake cannot say");
            default: return true;
        }
    }

private:
    Witness* witness_;
    Requests* requests_;
    BatchLimits limits_;
};

}  // namespace residency::stress
