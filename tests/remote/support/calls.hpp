#pragma once

// Calls of a remote model on an io_context that the test runs.

#include "residency/backends/remote.hpp"

#include "support/catch.hpp"

#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// Runs a coroutine to its end on `io` and gives what it gave.
template <class Result>
Result run(asio::io_context& io, asio::awaitable<Result> call) {
    std::exception_ptr thrown;
    std::optional<Result> result;
    asio::co_spawn(io, std::move(call), [&](const std::exception_ptr& error, Result given) {
        thrown = error;
        result = std::move(given);
    });
    io.restart();
    io.run();
    if (thrown) {
        std::rethrow_exception(thrown);
    }
    return std::move(*result);
}

/// Options for these base URLs.
inline RemoteModelOptions options_for(const std::vector<std::string>& urls,
                                      RemoteDialect dialect = RemoteDialect::openai) {
    RemoteModelOptions options;
    for (const std::string& url : urls) {
        options.endpoints.push_back({.url = url, .dialect = dialect});
    }
    return options;
}

/// Loads the embedding model `key`.
inline std::unique_ptr<RemoteEmbeddingModel> load_embedder(RemoteEmbeddingOptions options, const ModelKey& key = "m") {
    LoadContext context;
    return RemoteEmbeddingBackend(std::move(options)).load(key, context);
}
/// Loads the reranker `key`.
inline std::unique_ptr<RemoteReranker> load_reranker(RemoteRerankerOptions options, const ModelKey& key = "m") {
    LoadContext context;
    return RemoteRerankerBackend(std::move(options)).load(key, context);
}

/// What `call` throws; fails the test if that is no Error.
template <class Call>
Error error_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error;
    }
    FAIL("nothing was thrown");
    return Error(errc::invalid_request, {}, Stage::admission);
}

/// An embedding model with an io_context of its own.
struct Embedder {
    explicit Embedder(RemoteModelOptions options, const ModelKey& key = "m")
        : model(load_embedder({.model = std::move(options)}, key)) {}

    Embeddings embed(const std::vector<std::string>& texts, EmbedAs as = EmbedAs::as_is, std::stop_token stop = {}) {
        return run(io, model->embed(texts, as, std::move(stop)));
    }
    Error error(const std::vector<std::string>& texts) {
        return error_of([&] { embed(texts); });
    }

    asio::io_context io{1};
    std::unique_ptr<RemoteEmbeddingModel> model;
};

}  // namespace residency::test
