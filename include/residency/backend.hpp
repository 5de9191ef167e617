#pragma once

// Version 14 takes concepts apart, and compilers show them to users as they stand here.
// clang-format off

#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/event.hpp"
#include "residency/model_key.hpp"
#include "residency/model_memory.hpp"

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace residency {

/// Passed to `load`: shows whether the load is still wanted, and reports its progress and log lines as events.
///
/// Lives as long as the call of `load`; a copy must not report after that. All of it may be used from the loading
/// thread; `stop_token()` from any.
class LoadContext {
public:
    /// Receives the progress and the log lines of a load.
    struct Sink {
        /// Gets progress, from 0 to 1.
        std::function<void(float)> progress{};
        /// Gets a line.
        std::function<void(Severity, std::string_view)> log{};
    };

    /// For a backend's own tests: a context with this token that reports to `sink`.
    explicit LoadContext(std::stop_token stop, Sink sink) : stop_(std::move(stop)), sink_(std::move(sink)) {}
    /// A context whose reports are dropped.
    explicit LoadContext(std::stop_token stop = {}) : stop_(std::move(stop)) {}

    /// Stop is requested when the model has had no waiter for `SlotOptions::abandon_after`, is to be unloaded, or the
    /// slot shuts down. A load that then throws, whatever it throws, counts as aborted, not as failed.
    [[nodiscard]] const std::stop_token& stop_token() const noexcept { return stop_; }

    /// Reports the progress of the load, from 0 to 1; an event `load_progress`. May be called often: steps below 1 %
    /// are not published.
    void progress(float done) const {
        if (sink_.progress) {
            sink_.progress(done);
        }
    }

    /// Writes a line for the log: an event `load_log`.
    void log(Severity severity, std::string_view line) const {
        if (sink_.log) {
            sink_.log(severity, line);
        }
    }

private:
    std::stop_token stop_;
    Sink sink_{};
};

/// A query and one document, for a reranker whose calls several requests may share. Both are the requests' own and last
/// as long as the call.
struct RerankPair {
    /// The query.
    std::string_view query{};
    /// The document.
    std::string_view document{};
};

namespace detail {

template <class Result, class Model>
concept HandsOver = std::same_as<std::remove_cv_t<Result>, std::unique_ptr<Model>>;

// What a model gives: `Result`, or what yields one to a coroutine that awaits it, such as boost::asio::awaitable. Known
// by the names of its members, since this header stands below Asio.
template <class Given, class Result>
concept Awaits = requires { typename Given::executor_type; } && std::same_as<typename Given::value_type, Result>;
template <class Given, class Result>
concept Gives = std::same_as<Given, Result> || Awaits<Given, Result>;

template <class Backend>
concept LoadsWithContext = requires(Backend& backend, const ModelKey& key, LoadContext& context) {
    { backend.load(key, context) } -> HandsOver<typename Backend::model_type>;
};

template <class Backend>
concept LoadsWithToken = requires(Backend& backend, const ModelKey& key, std::stop_token stop) {
    { backend.load(key, stop) } -> HandsOver<typename Backend::model_type>;
};

template <class Backend>
concept LoadsPlainly = requires(Backend& backend, const ModelKey& key) {
    { backend.load(key) } -> HandsOver<typename Backend::model_type>;
};

template <class Model>
concept EmbedsAsWithToken =
    requires(Model& model, std::span<const std::string> texts, EmbedAs as, std::stop_token stop) {
        { model.embed(texts, as, stop) } -> Gives<Embeddings>;
    };

template <class Model>
concept EmbedsAs = requires(Model& model, std::span<const std::string> texts, EmbedAs as) {
    { model.embed(texts, as) } -> Gives<Embeddings>;
};

template <class Model>
concept EmbedsWithToken = requires(Model& model, std::span<const std::string> texts, std::stop_token stop) {
    { model.embed(texts, stop) } -> Gives<Embeddings>;
};

template <class Model>
concept EmbedsPlainly = requires(Model& model, std::span<const std::string> texts) {
    { model.embed(texts) } -> Gives<Embeddings>;
};

template <class Model>
concept ReranksWithToken =
    requires(Model& model, std::string_view query, std::span<const std::string> documents, std::stop_token stop) {
        { model.rerank(query, documents, stop) } -> Gives<std::vector<float>>;
    };

template <class Model>
concept ReranksPlainly = requires(Model& model, std::string_view query, std::span<const std::string> documents) {
    { model.rerank(query, documents) } -> Gives<std::vector<float>>;
};

template <class Model>
concept ReranksPairsWithToken = requires(Model& model, std::span<const RerankPair> pairs, std::stop_token stop) {
    { model.rerank(pairs, stop) } -> Gives<std::vector<float>>;
};

template <class Model>
concept ReranksPairsPlainly = requires(Model& model, std::span<const RerankPair> pairs) {
    { model.rerank(pairs) } -> Gives<std::vector<float>>;
};

template <class Model>
concept ReranksPairs = ReranksPairsWithToken<Model> || ReranksPairsPlainly<Model>;

template <class Model>
concept SaysBatchLimits = requires(const Model& model) {
    { model.batch_limits() } -> std::same_as<BatchLimits>;
};

template <class Model>
concept SaysWhetherItDistinguishes = requires(const Model& model) {
    { model.distinguishes() } -> std::same_as<bool>;
};

template <class Model>
concept SaysWhetherItJoins = requires(const Model& model) {
    { model.joins_requests() } -> std::same_as<bool>;
};

// A model of whichever type behind one face: whether it answers asynchronously is known once it is loaded. If it does,
// `embed_later` and `rerank_later` are called instead of `embed` and `rerank`.
template <class Model>
concept SaysHowItAnswers = requires(const Model& model) {
    { model.answers_asynchronously() } -> std::same_as<bool>;
};

template <class Model>
concept SaysConcurrency = requires(const Model& model) {
    { model.max_concurrency() } -> std::convertible_to<std::size_t>;
};

template <class Backend>
concept SaysWhatItKnows = requires(const Backend& backend, const ModelKey& key) {
    { backend.knows(key) } -> std::same_as<bool>;
};

}  // namespace detail

/// The backend names the type of its models: `using model_type = ...;`.
template <class Backend>
concept NamesModelType = requires { typename Backend::model_type; } && std::is_class_v<typename Backend::model_type>;

/// The model's destructor, which is what unloads it, does not throw.
template <class Backend>
concept UnloadsWithoutThrowing =
    NamesModelType<Backend> && std::is_nothrow_destructible_v<typename Backend::model_type>;

/// The backend loads: `std::unique_ptr<model_type> load(const ModelKey&)`, which may also take a `std::stop_token` or a
/// `LoadContext&`.
template <class Backend>
concept LoadsModels = NamesModelType<Backend> && (
    detail::LoadsWithContext<Backend> ||  // std::unique_ptr<model_type> load(const ModelKey&, LoadContext&)
    detail::LoadsWithToken<Backend> ||    // std::unique_ptr<model_type> load(const ModelKey&, std::stop_token)
    detail::LoadsPlainly<Backend>);       // std::unique_ptr<model_type> load(const ModelKey&)

/// What a `ModelSlot` can hold models of: it has a `model_type` and a `load`, is movable, and its models' destructors
/// do not throw.
///
/// `load` may block. It runs on the loading executor, at most `SlotOptions::max_loads` calls at once in a slot and
/// possibly beside the destructor of another model, never under a lock. It throws to fail and never returns null. A
/// `residency::Error` that it throws keeps its code; `invalid_request` and `unknown_model` start no cooldown.
///
/// With `bool knows(const ModelKey&) const` the backend says whether there may be a model with a key. It is asked when
/// a request comes for a key without a resident. If it does not know the key, the request fails at once with
/// `unknown_model`, and no model is evicted for it. It is called on the thread that makes the request, never under a
/// lock, any number of calls at once and beside `load`: it must be cheap and not wait. If it throws, the key counts as
/// known.
///
/// With `std::size_t memory_needed(const ModelKey&)` the backend says before a load how many bytes the model will hold
/// at most, with all that its calls need beside the texts and the results. It may block, as to read the head of a file.
/// It is called on any thread, never under a lock, several calls at once and beside `load`; if it throws, the load has
/// failed. With `std::size_t memory_used() const` the model says what that is in truth. It is asked after the load and
/// may be asked again, beside calls of the model. Weights in a mapped file count like others, as each call needs them
/// in memory. Both may give a `std::optional<std::size_t>`: without a value, or with zero, they do not say.
template <class Backend>
concept ModelBackend = NamesModelType<Backend> && UnloadsWithoutThrowing<Backend> && LoadsModels<Backend> &&
                       std::move_constructible<Backend>;

/// A model that embeds: `Embeddings embed(std::span<const std::string>)`, which may also take an `EmbedAs`, if queries
/// and documents differ for it, and a `std::stop_token`, in this order. If that depends on what was loaded, the model
/// says so with `bool distinguishes() const`, which its status shows, and refuses all but `as_is` with
/// `invalid_request`. Called from up to `max_leases` threads at once, or `max_concurrency()` if the model has that;
/// zero counts as 1.
///
/// With `BatchLimits batch_limits() const`, asked once after the load, requests with equal key and `EmbedAs` share
/// calls up to these limits. The vector of a text must then not depend on the others of its call. Where one text is at
/// fault the model should throw `Error(...).at_text(index)`: its request alone fails then, at the cost of one more
/// call. After any other failure of a shared call the one at fault is found by halves: by as many calls as n requests
/// can be halved, until one alone has failed, and one more for the others.
///
/// A model that waits rather than computes may give `boost::asio::awaitable<Embeddings>`, and then answers
/// asynchronously: the library spawns what it gave on a strand over `Executors::inference`, and no thread is occupied
/// while that waits. The strand is this call's alone; other calls run beside it. The model, and the texts that the span
/// refers to, last until the coroutine has ended; the parameters themselves are to be taken by value, as it outlives
/// its caller's.
/// When none of the call's requests wants it any more, on revoke and on destruction, stop is requested and the
/// coroutine is cancelled with `boost::asio::cancellation_type::all`, of which it sees `terminal` unless it enables
/// more (`this_coro::reset_cancellation_state`). One that ignores both keeps its lease until it ends. What it throws is
/// the request's error, as with any other model. As many calls run at once as `max_concurrency()` and
/// `SlotOptions::max_calls` allow, which by default is `max_leases` here.
template <class Model>
concept EmbeddingModel =
    detail::EmbedsAsWithToken<Model> ||  // Embeddings embed(std::span<const std::string>, EmbedAs, std::stop_token)
    detail::EmbedsAs<Model> ||           // Embeddings embed(std::span<const std::string>, EmbedAs)
    detail::EmbedsWithToken<Model> ||    // Embeddings embed(std::span<const std::string>, std::stop_token)
    detail::EmbedsPlainly<Model>;        // Embeddings embed(std::span<const std::string>), or an awaitable of these

/// A model that reranks: `std::vector<float> rerank(std::string_view, std::span<const std::string>)`, a score for each
/// document, greater is better; it may also take a `std::stop_token`. Called from as many threads at once as an
/// embedding model.
///
/// With `batch_limits()` and `std::vector<float> rerank(std::span<const RerankPair>)`, which may take a
/// `std::stop_token`, requests share calls as those of an embedding model do. The score of a pair must then not depend
/// on the others of its call.
///
/// It may give `boost::asio::awaitable<std::vector<float>>`, and then answers asynchronously as an embedding model may;
/// the `rerank` of pairs, if it has that, must then do so, too. The query, the documents and the pairs last until the
/// coroutine has ended.
template <class Model>
concept RerankerModel =
    // std::vector<float> rerank(std::string_view, std::span<const std::string>, std::stop_token)
    detail::ReranksWithToken<Model> ||
    // std::vector<float> rerank(std::string_view, std::span<const std::string>), or an awaitable of these
    detail::ReranksPlainly<Model>;

/// A backend whose models embed.
template <class Backend>
concept EmbeddingBackend = ModelBackend<Backend> && EmbeddingModel<typename Backend::model_type>;

/// A backend whose models rerank.
template <class Backend>
concept RerankerBackend = ModelBackend<Backend> && RerankerModel<typename Backend::model_type>;

/// A backend over an engine: a library with objects of static storage, some of which may be made later than a manager
/// with static storage. It has `static void close_engine() noexcept`.
///
/// On Linux with glibc such a manager is ended when the process exits, before any static object is destroyed, and then
/// `close_engine` is called, perhaps several times, on the thread that exits: it waits until no other thread is in the
/// engine, and from then on the models, also those under a lease, must not touch it, not even in their destructors. It
/// must not wait for its own thread, which may have called `exit` inside a model.
template <class Backend>
concept ClosesEngine = requires {
    { Backend::close_engine() } noexcept;
};

}  // namespace residency
