#pragma once

#include "residency/backend.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/fake_call.hpp"
#include "residency/testing/gate.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::testing {

/// A fake model that answers asynchronously: what a FakeWorld asks of it is done in a coroutine, and at a gate
/// (`FakeWorld::block`) it waits without a thread. Derive from it for a model with a call of its own.
///
/// With `FakeStop::honour` it is Asio's cancellation that ends the wait: the coroutine then throws `operation_aborted`.
/// With `FakeStop::ignore` it goes on until the gate opens.
class FakeAsyncModel : public FakeModel {
public:
    using FakeModel::FakeModel;

protected:
    /// Does an inference over these texts: counts it, does what the world asks of it, and gives the number of the model
    /// and the fault to answer with. Neither it nor the caller may touch the model afterwards: a fault of the library
    /// may have destroyed it meanwhile, and is to be reported rather than to crash.
    [[nodiscard]] asio::awaitable<std::pair<std::uint64_t, std::optional<FakeFault>>> infer_later(
        std::vector<std::string_view> texts, EmbedAs as, std::stop_token stop) {
        const Inference running(life_);
        FakeWorld& world = *running.life->world;
        const FakeCall call{.step = FakeStep::inference,
                            .key = running.life->key,
                            .serial = running.life->serial,
                            .rows = texts.size(),
                            .texts = texts,
                            .as = as,
                            .stop = std::move(stop)};
        world.call_hook(call);
        if (const FakeWorld::Wait wait = world.gate_of(call); wait.gate) {
            if (!co_await is_open(wait.gate, wait.stop)) {
                FakeWorld::stopped(call);
            }
        }
        co_return std::pair(call.serial, world.answer(call));
    }

private:
    // Waits until the gate is open, or the coroutine is cancelled. Gives whether it is open.
    static asio::awaitable<bool> is_open(std::shared_ptr<Gate> gate, FakeStop stop) {
        struct Entered {
            Gate& gate;
            bool over = false;
            bool leave() {
                over = true;
                return gate.leave();
            }
            ~Entered() {
                if (!over) {
                    gate.leave();
                }
            }
        };
        using Timer = asio::basic_waitable_timer<std::chrono::steady_clock>;
        const auto wakes = std::make_shared<Timer>(co_await asio::this_coro::executor, (Timer::time_point::max)());
        if (stop == FakeStop::ignore) {
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        }
        // The gate may outlive the timer's context.
        gate->enter([waiting = std::weak_ptr(wakes)] {
            if (std::shared_ptr<Timer> timer = waiting.lock()) {
                asio::post(timer->get_executor(), [timer] { timer->cancel(); });
            }
        });
        Entered entered{*gate};
        try {
            co_await wakes->async_wait(asio::use_awaitable);
        } catch (
            const boost::system::system_error&) {  // NOLINT(bugprone-empty-catch): which of both it was, the gate knows
        }
        co_return entered.leave();
    }
};

/// `FakeEmbedder` as a model that answers asynchronously.
class FakeAsyncEmbedder : public FakeAsyncModel {
public:
    using FakeAsyncModel::FakeAsyncModel;

    /// A row of `fake_dimension` floats for each text.
    asio::awaitable<Embeddings> embed(std::span<const std::string> texts, EmbedAs as, std::stop_token stop) {
        const auto [serial, fault] = co_await infer_later({texts.begin(), texts.end()}, as, std::move(stop));
        co_return rows_of(serial, fault, texts);
    }
};

/// `FakeReranker` as a model that answers asynchronously.
class FakeAsyncReranker : public FakeAsyncModel {
public:
    using FakeAsyncModel::FakeAsyncModel;

    /// A score for each document.
    asio::awaitable<std::vector<float>> rerank(std::string_view /*query*/, std::span<const std::string> documents,
                                               std::stop_token stop) {
        co_return co_await score({documents.begin(), documents.end()}, std::move(stop));
    }
    /// A score for each pair.
    asio::awaitable<std::vector<float>> rerank(std::span<const RerankPair> pairs, std::stop_token stop) {
        std::vector<std::string_view> documents;
        for (const RerankPair& pair : pairs) {
            documents.push_back(pair.document);
        }
        co_return co_await score(std::move(documents), std::move(stop));
    }

private:
    asio::awaitable<std::vector<float>> score(std::vector<std::string_view> documents, std::stop_token stop) {
        const auto [serial, fault] = co_await infer_later(documents, EmbedAs::as_is, std::move(stop));
        co_return scores_of(serial, fault, documents);
    }
};

/// A backend of fake embedding models that answer asynchronously.
using FakeAsyncEmbeddingBackend = FakeBackend<FakeAsyncEmbedder>;
/// A backend of fake rerankers that answer asynchronously.
using FakeAsyncRerankerBackend = FakeBackend<FakeAsyncReranker>;

static_assert(EmbeddingBackend<FakeAsyncEmbeddingBackend> && RerankerBackend<FakeAsyncRerankerBackend>);

}  // namespace residency::testing
