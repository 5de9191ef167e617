#pragma once

#include "residency/backends/remote/url.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency {

/// What an endpoint understands: its paths, and the form of its requests and answers.
enum class RemoteDialect : std::uint8_t {
    /// `/embeddings` as OpenAI has it, and `/rerank` as Jina has it: vLLM, Infinity, llama-server, ollama (which does
    /// not rerank), Ray Serve's LLM API. The base URL has their prefix, most often `/v1`.
    openai,
    /// `/embed` and `/rerank` of Hugging Face's text-embeddings-inference.
    tei,
    /// `/v2/embed` and `/v2/rerank` of Cohere.
    cohere,
};

/// One place where models answer.
struct RemoteEndpoint {
    /// Its base URL with the prefix: `http://host:8080/v1`. No user, password, query or fragment. Must be set.
    std::string url{};
    /// What it understands. Default `openai`: what most engines speak.
    RemoteDialect dialect = RemoteDialect::openai;
};

/// What the options of remote embedders and rerankers have in common.
struct RemoteModelOptions {
    /// Where the models answer. With several, each request goes to the one with the fewest requests in flight. At
    /// least one.
    std::vector<RemoteEndpoint> endpoints{};

    /// What the endpoints call the model of a key. Called once for each load, on the loading thread; what it throws
    /// fails the load. Default none: the key's name, and a key with a quantization is `invalid_request`.
    std::function<std::string(const ModelKey&)> name{};

    /// Gives the key that is sent as `Authorization: Bearer KEY`; empty: none is sent. Called for each HTTP request, on
    /// the inference executor or the loading thread, also from several threads at once, so that a key can change. What
    /// it throws fails the request. No log line, event or error has the key in it. Over http:// it is sent unencrypted.
    /// Default none.
    std::function<std::string()> api_key{};

    /// More headers of each request: name and value. They may be secret, and are in no message either: a value of at
    /// least four bytes that an endpoint repeats is `***` there. Default none.
    std::vector<std::pair<std::string, std::string>> headers{};

    /// How many idle connections to an endpoint are kept, and how many requests of a model run at once for each
    /// endpoint (`max_concurrency()`). Between 1 and 1024.
    /// Default 16: with shared calls few more are ever busy.
    std::size_t connections = 16;

    /// How long a connection may take to be made, the TLS handshake included. Positive, at most a day. A look-up of a
    /// host's name is the system's: it ends when that does. Default 2 s: a host that lives answers within it.
    std::chrono::milliseconds connect_timeout{std::chrono::seconds{2}};

    /// How long an HTTP request may take with its repetitions, until the last byte of its answer. A load gives each
    /// endpoint as long. Positive, at most a day. Default 60 s.
    std::chrono::milliseconds request_timeout{std::chrono::seconds{60}};

    /// How often a request that had no answer, or a 500 without an error in JSON, is sent again, to another endpoint if
    /// there is one. At most 10. Over time repetitions are at most 10 % of the requests, after the first ten. Those of
    /// requests that tried an endpoint after its pause are not counted if there is another. A load asks each endpoint
    /// once whatever this is, until one answers that is up. Default 1.
    std::size_t retries = 1;

    /// How many texts or documents an HTTP request has at most (`batch_limits()`). Requests for embeddings share calls
    /// up to it; larger requests are cut, those for scores, too. Between 1 and 65,536. Default 32: the default limit of
    /// text-embeddings-inference.
    std::size_t texts_per_request = 32;

    /// The largest body of an answer, in bytes. At least 1024. Parsed JSON takes up to 16 times as much memory while an
    /// answer is read. Default 64 MiB: 512 vectors of 4096 floats in decimals.
    std::size_t max_answer_bytes = std::size_t{64} * 1024 * 1024;

    /// How long an endpoint that failed gets no requests if there is another; it doubles with each failure in a row, up
    /// to 64 times this. Then one request tries it. Positive, at most a day. Default 1 s.
    std::chrono::milliseconds pause{std::chrono::seconds{1}};

    /// A file with certificates, in PEM, that endpoints with https are verified against, beside the system's. Default
    /// empty: the system's alone. Needs RESIDENCY_REMOTE_TLS.
    std::string certificates{};
};

/// What a model was trained to see before a text. Either may be empty.
struct RemotePrefixes {
    /// Before a text that is embedded as `EmbedAs::query`.
    std::string query{};
    /// Before one that is embedded as `EmbedAs::document`.
    std::string document{};
};

/// How `RemoteEmbeddingBackend` loads and embeds.
struct RemoteEmbeddingOptions {
    /// Where the endpoints are, and how they are asked.
    RemoteModelOptions model{};

    /// Gives the prefixes of the model that a key means, once for each load, or none if queries and documents do not
    /// differ for it. Endpoints that speak `cohere` get `input_type` instead. What it throws fails the load. Default
    /// none: no model has any.
    std::function<std::optional<RemotePrefixes>(const ModelKey&)> prefixes{};
};

/// How `RemoteRerankerBackend` loads and scores.
struct RemoteRerankerOptions {
    /// Where the endpoints are, and how they are asked.
    RemoteModelOptions model{};
};

namespace detail::remote {

/// Whether a header may have it for its value: no control character in it.
[[nodiscard]] inline bool is_header_value(std::string_view text) noexcept {
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return (byte < 0x20 && c != '\t') || byte == 0x7f;
    });
}

/// Whether it is a token, as the name of a header is.
[[nodiscard]] inline bool is_header_name(std::string_view text) noexcept {
    constexpr std::string_view others = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               others.find(c) != std::string_view::npos;
    });
}

/// Throws std::invalid_argument, naming the field, unless the options hold what their docs demand.
inline RemoteModelOptions checked(RemoteModelOptions options) {
    const auto demand = [](bool holds, std::string_view field, std::string_view rule) {
        if (!holds) {
            throw std::invalid_argument("residency: option model." + std::string(field) + " " + std::string(rule));
        }
    };
    const auto is_time = [](std::chrono::milliseconds time) {
        return time > std::chrono::milliseconds::zero() && time <= std::chrono::hours(24);
    };
    demand(!options.endpoints.empty(), "endpoints", "must have at least one endpoint");
    for (std::size_t place = 0; place < options.endpoints.size(); ++place) {
        const std::string field = "endpoints[" + std::to_string(place) + "].url";
        Url url;
        try {
            url = parse_url(options.endpoints[place].url);
        } catch (const std::invalid_argument& bad) {
            demand(false, field, bad.what());
        }
#if !defined(RESIDENCY_REMOTE_TLS)
        demand(!url.tls, field, "has https, which needs RESIDENCY_REMOTE_TLS");
#endif
    }
#if !defined(RESIDENCY_REMOTE_TLS)
    demand(options.certificates.empty(), "certificates", "needs RESIDENCY_REMOTE_TLS");
#endif
    for (const auto& [name, value] : options.headers) {
        demand(is_header_name(name) && is_header_value(value), "headers",
               "must have names that are tokens, and values without control characters");
    }
    demand(options.connections >= 1 && options.connections <= 1024, "connections", "must be between 1 and 1024");
    demand(is_time(options.connect_timeout), "connect_timeout", "must be positive and at most a day");
    demand(is_time(options.request_timeout), "request_timeout", "must be positive and at most a day");
    demand(is_time(options.pause), "pause", "must be positive and at most a day");
    demand(options.retries <= 10, "retries", "must be at most 10");
    demand(options.texts_per_request >= 1 && options.texts_per_request <= 65'536, "texts_per_request",
           "must be between 1 and 65536");
    demand(options.max_answer_bytes >= 1024, "max_answer_bytes", "must be at least 1024");
    return options;
}

/// What the endpoints call the model of `key`. Throws Error with `invalid_request`.
[[nodiscard]] inline std::string name_of(const RemoteModelOptions& options, const ModelKey& key) {
    if (options.name) {
        return options.name(key);
    }
    if (!key.quantization.empty()) {
        throw Error(errc::invalid_request, key, Stage::load,
                    "the key has a quantization, which endpoints do not know of; leave it empty, or set option "
                    "model.name");
    }
    return key.name;
}

}  // namespace detail::remote
}  // namespace residency
