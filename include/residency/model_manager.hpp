#pragma once

#include "residency/backend.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_slot.hpp"
#include "residency/options.hpp"
#include "residency/ranking.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/shell/calls.hpp"
#include "residency/status.hpp"

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency {

/// Two slots, one of embedding models and one of reranker models, with one set of executors, one shutdown and one status.
///
/// Errors of every asynchronous call arrive as a `residency::Error` in the handler's exception_ptr (where there is no memory for one, as
/// std::bad_alloc). A handler runs on its associated executor, on `Executors::control` if it has none, and never inside the call that
/// started it.
///
/// Threads: all member functions may be called from any thread at once. The destructor refuses new requests, tells those that wait or
/// run `shutting_down`, sets the stop_tokens of loads and calls, and, if the executors are the manager's own, waits for what runs and
/// joins its threads; on one of its own threads, or with the host's executors, it returns at once. It waits for no lease.
template <EmbeddingBackend Embedding, RerankerBackend Reranker, class Clock = std::chrono::steady_clock>
class ModelManager {
public:
    /// The slot of the embedding models.
    using embedding_slot_type = ModelSlot<Embedding, Clock>;
    /// The slot of the reranker models.
    using reranker_slot_type = ModelSlot<Reranker, Clock>;

    /// A manager with nothing resident.
    ///
    /// Throws std::invalid_argument naming the option that is wrong; std::system_error if a thread cannot be made.
    explicit ModelManager(Embedding embedding = {}, Reranker reranker = {}, const ManagerOptions& options = {},
                          const Executors& executors = {})
        : runtime_(detail::make_runtime<Clock>(
              executors, {{options.embedding, "embedding"}, {options.reranker, "reranker"}}, options.observer)),
          embedding_(std::move(embedding), options.embedding, runtime_, "embedding"),
          reranker_(std::move(reranker), options.reranker, runtime_, "reranker") {}
    ModelManager(const ModelManager&) = delete;
    ModelManager& operator=(const ModelManager&) = delete;
    /// See the class.
    ~ModelManager() = default;

    /// The slot of the embedding models: leases, `ensure_loaded`, `unload`, its own `status`.
    [[nodiscard]] embedding_slot_type& embedding() noexcept { return embedding_; }
    /// The slot of the reranker models.
    [[nodiscard]] reranker_slot_type& reranker() noexcept { return reranker_; }

    /// Embeds `texts` with the model for `key`, loading it if need be. An empty list gives an empty result and loads nothing.
    ///
    /// Signature  void(std::exception_ptr, Embeddings): row i is that of texts[i]
    /// Completes  when the model has answered and its lease is given back, or when the request fails; never inside this call
    /// Errors     invalid_request, shutting_down, model_changed, cooling_down, overloaded, timed_out (queue, load, inference),
    ///            load_failed, inference_failed or the code of the backend's or model's own Error, bad_result; operation_aborted
    /// Cancel     waiting: any type, the waiter leaves the queue; running: terminal, the caller goes at once, and the lease lives until
    ///            the model returns
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_embed]
    template <asio::completion_token_for<void(std::exception_ptr, Embeddings)> Token = asio::use_awaitable_t<>>
    auto async_embed(const ModelKey& key, std::vector<std::string> texts, RequestOptions options,
                     Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, Embeddings)>(StartEmbed{embedding_.core_}, token,
                                                                                 key, std::move(texts), options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, Embeddings)> Token = asio::use_awaitable_t<>>
    auto async_embed(const ModelKey& key, std::vector<std::string> texts, Token&& token = Token()) {
        return async_embed(key, std::move(texts), RequestOptions(), std::forward<Token>(token));
    }
    /// The same, blocking.
    ///
    /// Throws     the errors of `async_embed`; would_deadlock where it could only hang: inside a handler, an observer, a backend or a
    ///            model, and on a thread that runs one of the manager's executors, if that is an io_context's, a thread_pool's or a strand of
    ///            one; of other executors nobody can tell, and it hangs
    /// Threads    any but those
    [[nodiscard]] Embeddings embed(const ModelKey& key, std::vector<std::string> texts, RequestOptions options = {}) {
        return embedding_.template block_on<Embeddings>(key, [&](auto handler) {
            StartEmbed{embedding_.core_}(std::move(handler), key, std::move(texts), options);
        });
    }

    /// Ranks `documents` by how well they answer `query`, with the model for `key`, loading it if need be. An empty list of documents
    /// gives an empty result and loads nothing; an empty query is `invalid_request`.
    ///
    /// Signature  void(std::exception_ptr, Ranking): index and score of every document, best first
    /// Completes  when the model has answered and its lease is given back, or when the request fails; never inside this call
    /// Errors     those of `async_embed`
    /// Cancel     as `async_embed`
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_rerank]
    template <asio::completion_token_for<void(std::exception_ptr, Ranking)> Token = asio::use_awaitable_t<>>
    auto async_rerank(const ModelKey& key, std::string query, std::vector<std::string> documents,
                      RequestOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, Ranking)>(
            StartRerank{reranker_.core_}, token, key, std::move(query), std::move(documents), options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, Ranking)> Token = asio::use_awaitable_t<>>
    auto async_rerank(const ModelKey& key, std::string query, std::vector<std::string> documents,
                      Token&& token = Token()) {
        return async_rerank(key, std::move(query), std::move(documents), RequestOptions(), std::forward<Token>(token));
    }
    /// The same, blocking. Throws as `embed` does.
    [[nodiscard]] Ranking rerank(const ModelKey& key, std::string query, std::vector<std::string> documents,
                                 RequestOptions options = {}) {
        return reranker_.template block_on<Ranking>(key, [&](auto handler) {
            StartRerank{reranker_.core_}(std::move(handler), key, std::move(query), std::move(documents), options);
        });
    }

    /// Ends both slots: refuses new requests, fails those that wait, lets leases and calls end, asks loads to stop, unloads everything.
    /// Past the deadline it completes with the keys that are left; each of them is unloaded when its last lease ends.
    ///
    /// Signature  void(std::exception_ptr, ShutdownReport)
    /// Completes  when nothing is left in either slot, or at the deadline; never inside this call. Several shutdowns complete each at
    ///            its own deadline
    /// Errors     operation_aborted. With std::bad_alloc the shutdown of the reranker's slot may not have begun: call this again
    /// Cancel     any type: the wait ends, the shutdown goes on
    /// Threads    any, also inside handlers
    /// Example    examples/12_each_call.cpp [async_shutdown]
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(std::chrono::milliseconds deadline, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, ShutdownReport)>(
            StartShutdown{embedding_.core_, reranker_.core_}, token, std::optional(deadline));
    }
    /// The same without a deadline.
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, ShutdownReport)>(
            StartShutdown{embedding_.core_, reranker_.core_}, token, std::optional<std::chrono::milliseconds>());
    }
    /// The same, blocking. Throws would_deadlock as `embed` does. Precondition: this thread holds no lease of the manager's.
    ShutdownReport shutdown(std::optional<std::chrono::milliseconds> deadline = {}) {
        return embedding_.template block_on<ShutdownReport>(ModelKey(), [&](auto handler) {
            StartShutdown{embedding_.core_, reranker_.core_}(std::move(handler), deadline);
        });
    }

    /// What both slots look like now. Does not count as use.
    [[nodiscard]] ManagerStatus status() const { return {embedding_.status(), reranker_.status()}; }

private:
    using Embedder = typename Embedding::model_type;
    using RerankerModelType = typename Reranker::model_type;

    struct StartEmbed {
        detail::SlotRef<typename embedding_slot_type::Core> slot;

        template <class Handler>
        void operator()(Handler&& handler, const ModelKey& key, std::vector<std::string> texts,
                        const RequestOptions& options) const {
            const bool nothing_to_do = texts.empty();
            detail::start_call<Embedder>(std::forward<Handler>(handler), slot.owner(), key, options,
                                         detail::invalid(key, options), nothing_to_do,
                                         detail::EmbedWork<Embedder>{std::move(texts)});
        }
    };

    struct StartRerank {
        detail::SlotRef<typename reranker_slot_type::Core> slot;

        template <class Handler>
        void operator()(Handler&& handler, const ModelKey& key, std::string query, std::vector<std::string> documents,
                        const RequestOptions& options) const {
            std::exception_ptr error = detail::invalid(key, options);
            if (!error && query.empty()) {
                error = make_error(Error(errc::invalid_request, key, Stage::admission, "the query is empty"));
            }
            const bool nothing_to_do = documents.empty();
            detail::start_call<RerankerModelType>(
                std::forward<Handler>(handler), slot.owner(), key, options, std::move(error), nothing_to_do,
                detail::RerankWork<RerankerModelType>{std::move(query), std::move(documents)});
        }
    };

    struct StartShutdown {
        detail::SlotRef<typename embedding_slot_type::Core> embedding;
        detail::SlotRef<typename reranker_slot_type::Core> reranker;

        template <class Handler>
        void operator()(Handler&& handler, std::optional<std::chrono::milliseconds> deadline) const {
            const auto operation =
                detail::make_operation<detail::TeardownOp<std::decay_t<Handler>, std::exception_ptr, ShutdownReport>>(
                    std::decay_t<Handler>(std::forward<Handler>(handler)), embedding.owner(), std::size_t{2});
            detail::start_operation(
                operation, [deadline](auto& in, const auto& pending) { in.start_shutdown(deadline, pending); },
                embedding.owner(), reranker.owner());
        }
    };

    // Destroyed last: waits for what runs, if the threads are its own.
    std::shared_ptr<detail::SlotRuntime<Clock>> runtime_;
    embedding_slot_type embedding_;
    reranker_slot_type reranker_;
};

}  // namespace residency
