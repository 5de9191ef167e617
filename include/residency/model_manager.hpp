#pragma once

#include "residency/backend.hpp"
#include "residency/embeddings.hpp"
#include "residency/model_slot.hpp"
#include "residency/options.hpp"
#include "residency/ranking.hpp"
#include "residency/runtime/asio.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/shell/blocking.hpp"
#include "residency/shell/embed_op.hpp"
#include "residency/shell/end_at_exit.hpp"
#include "residency/shell/rerank_op.hpp"
#include "residency/shell/slot_runtime.hpp"
#include "residency/shell/teardown_op.hpp"
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

/// Two slots, one of embedding models and one of reranker models, with one set of executors, one shutdown and one
/// status.
///
/// Errors of every asynchronous call arrive as a `residency::Error` in the handler's exception_ptr (where there is no
/// memory for one, as std::bad_alloc). A handler runs on its associated executor, on `Executors::callbacks` if it has
/// none, and never inside the call that started it.
///
/// Threads: all member functions may be called from any thread at once. The destructor refuses new requests, completes
/// all others with `shutting_down`, sets the stop_tokens of loads and calls, and, if the threads are the manager's own,
/// joins them: callbacks on them may use the manager until it returns. On one of its own threads, or with the host's
/// executors, it returns at once; handlers that run later must not use it. It waits for no lease. The contexts of a
/// host's executors outlive the manager, the context of a handler's executor its request.
///
/// Exit: a manager with static storage whose backend `ClosesEngine` is ended when the process exits, before static
/// objects are destroyed, if it was made on the main thread (Linux with glibc): requests complete with `shutting_down`,
/// models that no lease has are unloaded, its own threads are joined. Calls answer `shutting_down` from then on; a
/// handler that would run on the manager's own threads is destroyed uncalled with it.
///
/// Fork: in a child made by fork() every request to a manager of the parent's fails at once with `shutting_down`.
/// Blocking calls throw it. So do asynchronous ones whose handler would run on the manager's own threads, or on Asio's
/// system_executor, as that of use_future; others complete on their executor, which has to run in the child. Requests
/// that were pending never complete there. The child may destroy the manager and its leases: models and the backend are
/// left as they are. A manager made in the child works.
template <EmbeddingBackend Embedding, RerankerBackend Reranker, class Clock = std::chrono::steady_clock>
class ModelManager {
public:
    /// The slot of the embedding models.
    using embedding_slot_type = ModelSlot<Embedding, Clock>;
    /// The slot of the reranker models.
    using reranker_slot_type = ModelSlot<Reranker, Clock>;

    /// A manager with nothing resident.
    ///
    /// Throws std::invalid_argument naming the option that is wrong, or the `Executors` that are missing;
    /// std::system_error if a thread cannot be made; boost::system::system_error, which is no std::system_error, if a
    /// timer cannot be made, as when the process has no descriptor left. Nothing is left behind then.
    explicit ModelManager(Embedding embedding = {}, Reranker reranker = {}, const ManagerOptions& options = {},
                          const Executors& executors = {})
        : runtime_(detail::make_runtime<Clock>(executors,
                                               {{detail::with_memory(options.embedding, options.memory), "embedding",
                                                 detail::EmbedWork<typename Embedding::model_type>::is_asynchronous},
                                                {detail::with_memory(options.reranker, options.memory), "reranker",
                                                 detail::RerankWork<typename Reranker::model_type>::is_asynchronous}},
                                               options.observer)),
          embedding_(std::move(embedding), *runtime_, 0, "embedding"),
          reranker_(std::move(reranker), *runtime_, 1, "reranker") {
        detail::end_at_exit(runtime_, embedding_.shell_, reranker_.shell_);
    }
    ModelManager(const ModelManager&) = delete;
    ModelManager& operator=(const ModelManager&) = delete;
    /// See the class.
    ~ModelManager() { runtime_->end(detail::Ending::destruction, *embedding_.shell_, *reranker_.shell_); }

    /// The slot of the embedding models: leases, `ensure_loaded`, `unload`, its own `status`.
    [[nodiscard]] embedding_slot_type& embedding() noexcept { return embedding_; }
    /// The slot of the reranker models.
    [[nodiscard]] reranker_slot_type& reranker() noexcept { return reranker_; }

    /// Embeds `texts` with the model for `key`, loading it if need be. An empty list gives an empty result and loads
    /// nothing.
    ///
    /// Signature  void(std::exception_ptr, Embeddings): row i is that of texts[i]
    /// Completes  when the model has answered and its lease is given back, or when the request fails; never inside this
    ///            call
    /// Errors     invalid_request, shutting_down, model_changed, unknown_model, cooling_down, insufficient_memory,
    ///            overloaded, timed_out (queue, memory, load, inference), load_failed, inference_failed or the code of
    ///            the backend's or model's own Error, bad_result; operation_aborted
    /// Cancel     waiting: any type, the waiter leaves the queue; running: terminal, the caller goes at once, and the
    ///            lease lives until the model returns
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_embed]
    template <asio::completion_token_for<void(std::exception_ptr, Embeddings)> Token = asio::use_awaitable_t<>>
    auto async_embed(const ModelKey& key, std::vector<std::string> texts, RequestOptions options,
                     Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, Embeddings)>(InitiateEmbed{embedding_.shell_},
                                                                                 token, key, std::move(texts), options);
    }
    /// The same with default options.
    template <asio::completion_token_for<void(std::exception_ptr, Embeddings)> Token = asio::use_awaitable_t<>>
    auto async_embed(const ModelKey& key, std::vector<std::string> texts, Token&& token = Token()) {
        return async_embed(key, std::move(texts), RequestOptions(), std::forward<Token>(token));
    }
    /// The same, blocking.
    ///
    /// Throws     the errors of `async_embed`; would_deadlock where it could only hang: inside a backend, a model, an
    ///            observer or a handler without an executor, and on a thread that runs one of the manager's executors,
    ///            if that is an io_context's, a thread_pool's or a strand of one. Executors of other types cannot be
    ///            recognised; the call then hangs
    /// Threads    any but those
    [[nodiscard]] Embeddings embed(const ModelKey& key, std::vector<std::string> texts, RequestOptions options = {}) {
        return embedding_.template block_on<Embeddings>(key, options.timeout, [&](auto handler) {
            InitiateEmbed{embedding_.shell_}(std::move(handler), key, std::move(texts), options);
        });
    }

    /// Ranks `documents` by how well they answer `query`, with the model for `key`, loading it if need be. An empty
    /// list of documents gives an empty result and loads nothing; an empty query is `invalid_request`.
    ///
    /// Signature  void(std::exception_ptr, Ranking): index and score of every document, best first
    /// Completes  when the model has answered and its lease is given back, or when the request fails; never inside this
    ///            call
    /// Errors     those of `async_embed`
    /// Cancel     as `async_embed`
    /// Threads    any
    /// Example    examples/12_each_call.cpp [async_rerank]
    template <asio::completion_token_for<void(std::exception_ptr, Ranking)> Token = asio::use_awaitable_t<>>
    auto async_rerank(const ModelKey& key, std::string query, std::vector<std::string> documents,
                      RequestOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, Ranking)>(
            InitiateRerank{reranker_.shell_}, token, key, std::move(query), std::move(documents), options);
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
        return reranker_.template block_on<Ranking>(key, options.timeout, [&](auto handler) {
            InitiateRerank{reranker_.shell_}(std::move(handler), key, std::move(query), std::move(documents), options);
        });
    }

    /// Ends both slots: refuses new requests, fails those that wait, lets leases and calls end, asks loads to stop,
    /// unloads everything. Past the deadline it completes with the keys that are left; each of them is unloaded when
    /// its last lease ends.
    ///
    /// Signature  void(std::exception_ptr, ShutdownReport)
    /// Completes  when nothing is left in either slot and the handlers of all requests before it were posted, or at the
    ///            deadline; never inside this call. Several shutdowns complete each at its own deadline
    /// Errors     operation_aborted. With std::bad_alloc the shutdown of the reranker's slot may not have begun: call
    ///            this again
    /// Cancel     any type: the wait ends, the shutdown goes on
    /// Threads    any, also inside handlers
    /// Example    examples/12_each_call.cpp [async_shutdown]
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(ShutdownOptions options, Token&& token = Token()) {
        return asio::async_initiate<Token, void(std::exception_ptr, ShutdownReport)>(
            StartShutdown{embedding_.shell_, reranker_.shell_}, token, options);
    }
    /// The same with a deadline alone.
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(std::chrono::milliseconds deadline, Token&& token = Token()) {
        return async_shutdown(ShutdownOptions{deadline}, std::forward<Token>(token));
    }
    /// The same without a deadline.
    template <asio::completion_token_for<void(std::exception_ptr, ShutdownReport)> Token = asio::use_awaitable_t<>>
    auto async_shutdown(Token&& token = Token()) {
        return async_shutdown(ShutdownOptions(), std::forward<Token>(token));
    }
    /// The same, blocking. Throws would_deadlock as `embed` does. Precondition: this thread holds no lease of the
    /// manager's.
    ShutdownReport shutdown(ShutdownOptions options = {}) {
        return detail::block_on<ShutdownReport>(
            *embedding_.shell_, ModelKey(), options.deadline,
            [&](auto handler) {
                StartShutdown{embedding_.shell_, reranker_.shell_}(std::move(handler), options);
            },
            *reranker_.shell_);
    }
    /// The same with a deadline alone.
    ShutdownReport shutdown(std::optional<std::chrono::milliseconds> deadline) {
        return shutdown(ShutdownOptions{deadline});
    }

    /// What both slots look like now. Does not count as use.
    [[nodiscard]] ManagerStatus status() const { return {embedding_.status(), reranker_.status()}; }

private:
    using EmbeddingShell = typename embedding_slot_type::Shell;
    using RerankerShell = typename reranker_slot_type::Shell;
    using InitiateEmbed = detail::InitiateEmbed<EmbeddingShell, typename Embedding::model_type>;
    using InitiateRerank = detail::InitiateRerank<RerankerShell, typename Reranker::model_type>;
    using StartShutdown = detail::StartShutdown<EmbeddingShell, RerankerShell>;

    // Destroyed last: its threads have to end before what they use.
    std::shared_ptr<detail::SlotRuntime<Clock>> runtime_;
    embedding_slot_type embedding_;
    reranker_slot_type reranker_;
};

}  // namespace residency
