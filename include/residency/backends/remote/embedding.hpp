#pragma once

#include "residency/backend.hpp"
#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/client.hpp"
#include "residency/backends/remote/embed_question.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/backends/remote/probe.hpp"
#include "residency/batch_limits.hpp"
#include "residency/embed_as.hpp"
#include "residency/embeddings.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency {

/// An embedding model that answers at one or several endpoints. Made by `RemoteEmbeddingBackend`; its destructor closes
/// the connections.
class RemoteEmbeddingModel {
public:
    /// What `RemoteEmbeddingBackend::load` calls.
    RemoteEmbeddingModel(std::unique_ptr<detail::remote::Client> client, std::string name, std::size_t dimension,
                         std::optional<RemotePrefixes> prefixes = {})
        : client_(std::move(client)), name_(std::move(name)), dimension_(dimension), prefixes_(std::move(prefixes)) {}

    /// Embeds the texts: a row of `dimension()` floats for each, in their order, as the endpoint gave it; nothing is
    /// scaled. More texts than `texts_per_request` are several HTTP requests, one after the other. Bytes that are not
    /// UTF-8 are sent as U+FFFD.
    ///
    /// Completes when the last answer has been read, `stop` is requested, or `request_timeout` is over for one of them
    /// Errors    invalid_request: `as` is not `as_is`, and nothing says what that is to the model; it is `as_is`, and
    ///           an endpoint speaks `cohere`, which has no such thing; the endpoint refused the texts (400, 413, 422).
    ///           overloaded: it has too much to do (429, or 503 with a `Retry-After`, which is `retry_after()`).
    ///           bad_result: wrong number of rows or floats, a NaN or an infinite number. inference_failed: no
    ///           connection, no whole answer in time, or any other answer. operation_aborted: `stop` was requested, or
    ///           the coroutine was cancelled. Each names the endpoint, and what it said.
    /// Cancel    any type: closes the connection
    /// Threads   any number of calls at once, on any executors; each on one thread at a time
    [[nodiscard]] asio::awaitable<Embeddings> embed(std::span<const std::string> texts, EmbedAs as,
                                                    std::stop_token stop) {
        const std::string_view prefix = prefix_for(as);
        const std::size_t most = client_->options().texts_per_request;
        std::vector<float> values;
        for (std::size_t done = 0; done < texts.size();) {
            const std::size_t count = (std::min)(most, texts.size() - done);
            detail::remote::EmbedQuestion::About about;
            about.model = name_;
            about.texts = texts.subspan(done, count);
            about.as = as;
            about.prefix = prefix;
            about.dimension = dimension_;
            detail::remote::EmbedQuestion question(about);
            try {
                co_await client_->ask(question, Stage::inference, stop);
            } catch (const Error& error) {
                if (!error.text_index() || done == 0) {
                    throw;
                }
                throw error.at_text(done + *error.text_index());
            }
            std::vector<float> rows = question.take_values();
            if (done == 0 && count == texts.size()) {
                values = std::move(rows);
            } else {
                values.insert(values.end(), rows.begin(), rows.end());
            }
            done += count;
        }
        co_return Embeddings(dimension_, std::move(values));
    }

    /// Whether queries and documents differ for it: it has prefixes, or all endpoints speak `cohere`.
    [[nodiscard]] bool distinguishes() const noexcept { return prefixes_.has_value() || are_cohere(true); }
    /// How many floats a vector has.
    [[nodiscard]] std::size_t dimension() const noexcept { return dimension_; }
    /// How many calls run at once: the connections to all endpoints.
    [[nodiscard]] std::size_t max_concurrency() const noexcept { return client_->max_concurrency(); }
    /// How much one call does best with: `texts_per_request`.
    [[nodiscard]] BatchLimits batch_limits() const noexcept { return {.texts = client_->options().texts_per_request}; }

private:
    // Whether all endpoints speak cohere, or any.
    [[nodiscard]] bool are_cohere(bool all) const noexcept {
        const auto speaks = [](const RemoteEndpoint& endpoint) { return endpoint.dialect == RemoteDialect::cohere; };
        const std::vector<RemoteEndpoint>& endpoints = client_->options().endpoints;
        return all ? std::all_of(endpoints.begin(), endpoints.end(), speaks)
                   : std::any_of(endpoints.begin(), endpoints.end(), speaks);
    }
    [[nodiscard]] std::string_view prefix_for(EmbedAs as) const {
        if (as == EmbedAs::as_is) {
            if (are_cohere(false)) {
                throw Error(errc::invalid_request, client_->key(), Stage::inference,
                            "Cohere embeds a text as a query or as a document; set RequestOptions::as");
            }
            return {};
        }
        if (!distinguishes()) {
            throw Error(errc::invalid_request, client_->key(), Stage::inference,
                        "the model has no prefixes for queries and documents; leave RequestOptions::as at as_is, or "
                        "set RemoteEmbeddingOptions::prefixes");
        }
        if (!prefixes_) {
            return {};
        }
        return as == EmbedAs::query ? prefixes_->query : prefixes_->document;
    }

    std::unique_ptr<detail::remote::Client> client_;
    std::string name_;
    std::size_t dimension_;
    std::optional<RemotePrefixes> prefixes_;
};

/// "Loads" embedding models that endpoints answer for; satisfies `EmbeddingBackend`.
class RemoteEmbeddingBackend {
public:
    /// The type of the models.
    using model_type = RemoteEmbeddingModel;

    /// Throws std::invalid_argument, naming the field, if an option is not what its doc demands.
    explicit RemoteEmbeddingBackend(RemoteEmbeddingOptions options) : options_(std::move(options)) {
        options_.model = detail::remote::checked(std::move(options_.model));
    }

    /// Asks an endpoint for the vector of a short text: loaded is a model that answers. Each endpoint is asked once,
    /// until one answers that is up.
    ///
    /// Errors   invalid_request: the key has a quantization, and there is no option model.name. overloaded: the
    ///          endpoint answered 429, or 503 with a `Retry-After`. load_failed, naming the endpoint: no connection, no
    ///          answer in time, any other status than 200 (a wrong API key, no such model), or an answer that is none.
    ///          bad_result: not one vector, or a NaN in it. operation_aborted: stop was requested.
    ///          boost::system::system_error: the certificates cannot be read.
    /// Threads  any, several at once
    [[nodiscard]] std::unique_ptr<RemoteEmbeddingModel> load(const ModelKey& key, LoadContext& context) const {
        std::optional<RemotePrefixes> prefixes = options_.prefixes ? options_.prefixes(key) : std::nullopt;
        std::string name = detail::remote::name_of(options_.model, key);
        auto client = std::make_unique<detail::remote::Client>(options_.model, key);
        const std::vector<std::string> texts{"a"};
        detail::remote::EmbedQuestion question({.model = name, .texts = texts, .as = EmbedAs::document});
        detail::remote::probe(*client, question, context);
        return std::make_unique<RemoteEmbeddingModel>(std::move(client), std::move(name), question.dimension(),
                                                      std::move(prefixes));
    }

private:
    RemoteEmbeddingOptions options_;
};

static_assert(EmbeddingBackend<RemoteEmbeddingBackend>);

}  // namespace residency
