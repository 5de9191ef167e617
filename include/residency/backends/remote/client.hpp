#pragma once

#include "residency/backends/remote/answer.hpp"
#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/endpoints.hpp"
#include "residency/backends/remote/exchange.hpp"
#include "residency/backends/remote/json.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/backends/remote/question.hpp"
#include "residency/backends/remote/secrets.hpp"
#include "residency/backends/remote/watch.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

namespace residency::detail::remote {

/// Asks the endpoints of one loaded model.
///
/// Threads  any; calls run beside each other
class Client {
public:
    /// For the model of `key`. `options` are checked. Throws boost::system::system_error if the certificates cannot be
    /// read.
    Client(const RemoteModelOptions& options, ModelKey key)
        : options_(options), key_(std::move(key)), security_(options.certificates), endpoints_(options_) {}

    /// Asks `question` of one endpoint, or of another if that does not answer.
    ///
    /// Errors  at load: overloaded, load_failed, bad_result; later: invalid_request, overloaded, inference_failed,
    ///         bad_result. Each names the endpoint. operation_aborted: `stop` was requested, or the coroutine was
    ///         cancelled
    [[nodiscard]] asio::awaitable<void> ask(Question& question, Stage stage, std::stop_token stop) {
        if (stop.stop_requested()) {
            throw Error(operation_aborted(), key_, stage, "a stop was requested");
        }
        const auto watch = std::make_shared<Watch>(co_await asio::this_coro::executor, options_.request_timeout);
        watch->begin(std::move(stop));
        endpoints_.count_request();
        Endpoint* failed_last = nullptr;
        for (std::size_t repeated = 0;; ++repeated) {
            const Endpoints::Use use = endpoints_.choose(Endpoints::Clock::now(), failed_last);
            Endpoint& endpoint = use.endpoint();
            const std::string key = secret(stage);
            Exchange done = co_await send(question, endpoint, key, *watch);
            if (done.fault == Fault::nothing && done.answer.status != 200 &&
                question.ask_otherwise(endpoint, done.answer)) {
                done = co_await send(question, endpoint, key, *watch);
            }
            // Its connection was closed for that: the endpoint is not to blame.
            if (done.fault != Fault::nothing &&
                (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) {
                watch->end();
                throw Error(operation_aborted(), key_, stage, "the call was cancelled");
            }
            const std::optional<Error> error = judge(done, question, use, key, stage);
            if (!error) {
                watch->end();
                co_return;
            }
            if (!is_to_be_repeated(done, *error, use, stage, repeated)) {
                watch->end();
                throw Error(*error);
            }
            if (stage == Stage::load) {
                watch->extend(options_.request_timeout);
            } else {
                watch->forget_connect_timeout();
            }
            failed_last = &endpoint;
        }
    }

    /// Closes the idle connections that live in `context`.
    void drop_connections(const asio::execution_context& context) {
        for (const auto& endpoint : endpoints_.all()) {
            endpoint->pool->drop(context);
        }
    }

    /// The options.
    [[nodiscard]] const RemoteModelOptions& options() const noexcept { return options_; }
    /// How many requests may run at once.
    [[nodiscard]] std::size_t max_concurrency() const noexcept {
        return options_.connections * options_.endpoints.size();
    }
    /// The key.
    [[nodiscard]] const ModelKey& key() const noexcept { return key_; }
    /// The endpoints.
    [[nodiscard]] const Endpoints& endpoints() const noexcept { return endpoints_; }

private:
    [[nodiscard]] std::string secret(Stage stage) const {
        std::string key = options_.api_key ? options_.api_key() : std::string();
        if (!is_header_value(key)) {
            throw Error(failure_in(stage), key_, stage,
                        "what option model.api_key gave has a control character, such as a line break at its end");
        }
        return key;
    }

    asio::awaitable<Exchange> send(Question& question, const Endpoint& endpoint, const std::string& key, Watch& watch) {
        Post post = question.post(endpoint);
        http::request<http::string_body> request(http::verb::post, endpoint.url.prefix + post.path, 11);
        request.set(http::field::host, endpoint.url.authority());
        request.set(http::field::user_agent, "residency");
        request.set(http::field::content_type, "application/json");
        request.set(http::field::accept, "application/json");
        for (const auto& [name, value] : options_.headers) {
            request.set(name, value);
        }
        if (!key.empty()) {
            request.set(http::field::authorization, "Bearer " + key);
        }
        request.body() = std::move(post.body);
        request.prepare_payload();
        Exchanger exchanger(endpoint.url, *endpoint.pool, security_, options_.max_answer_bytes,
                            options_.connect_timeout);
        Exchange done = co_await exchanger.exchange(request, watch);
        co_return done;
    }

    // What is wrong with what became of a request, if anything. Notes what it says of the endpoint.
    std::optional<Error> judge(const Exchange& done, Question& question, const Endpoints::Use& use,
                               const std::string& key, Stage stage) const {
        Endpoint& endpoint = use.endpoint();
        if (done.fault == Fault::stopped) {
            return Error(operation_aborted(), key_, stage, done.why);
        }
        if (done.fault != Fault::nothing) {
            use.failed();
            return error(failure_in(stage), stage, endpoint, done.why);
        }
        const Answer& answer = done.answer;
        if (answer.status != 200) {
            return refusal(answer, use, key, stage);
        }
        try {
            question.read(endpoint, answer.body);
        } catch (const BrokenAnswer& broken) {
            use.failed();
            return error(failure_in(stage), stage, endpoint, broken.what());
        } catch (const Error& bad) {
            use.worked();
            const Error named = error(errc::bad_result, stage, endpoint, std::string(bad.detail()));
            return bad.text_index() ? named.at_text(*bad.text_index(), question.noun()) : named;
        }
        use.worked();
        return std::nullopt;
    }

    Error refusal(const Answer& answer, const Endpoints::Use& use, const std::string& key, Stage stage) const {
        const Endpoint& endpoint = use.endpoint();
        const unsigned status = answer.status;
        if (status == 502 || status == 503 || status == 504) {
            use.failed();
        } else if (status != 500) {
            use.worked();
        }
        bool has_error = false;
        const std::string said = words(words_of(answer, has_error), key);
        const std::string detail = "it answers " + std::to_string(status) + (said.empty() ? "" : ": " + said);
        if (status == 429 || (status == 503 && answer.retry_after)) {
            return error(errc::overloaded, stage, endpoint, detail, answer.retry_after);
        }
        if (stage != Stage::load && (status == 400 || status == 413 || status == 422)) {
            return error(errc::invalid_request, stage, endpoint, detail);
        }
        return error(failure_in(stage), stage, endpoint, detail);
    }

    //  1. A load asks each endpoint once, until one answers that is up: that alone says something of the model.
    //  2. Else only what no peer has answered, or a proxy for one that was ended.
    [[nodiscard]] bool is_to_be_repeated(const Exchange& done, const Error& error, const Endpoints::Use& use,
                                         Stage stage, std::size_t repeated) {
        if (done.fault == Fault::stopped) {
            return false;
        }
        const unsigned status = done.answer.status;
        if (stage == Stage::load && repeated + 1 < endpoints_.all().size() &&
            (done.fault != Fault::nothing || status >= 500 || (status == 200 && error.code() == errc::load_failed))) {
            return true;
        }
        bool may_be = done.fault == Fault::no_connection || done.fault == Fault::no_answer;
        if (done.fault == Fault::nothing && status == 500) {
            bool has_error = false;
            static_cast<void>(words_of(done.answer, has_error));
            may_be = !has_error;
        }
        return may_be && repeated < options_.retries && endpoints_.may_repeat(use);
    }

    // What the endpoint said; some repeat a key that they refuse.
    [[nodiscard]] std::string words(const std::string& said, const std::string& key) const {
        Secrets secrets;
        secrets.add(key);
        for (const auto& [name, value] : options_.headers) {
            secrets.add_header(value);
        }
        return secrets.words(said);
    }

    [[nodiscard]] Error error(errc code, Stage stage, const Endpoint& endpoint, const std::string& detail,
                              std::optional<std::chrono::milliseconds> retry_after = {}) const {
        return Error(code, key_, stage, endpoint.shown + ": " + detail, retry_after);
    }
    static errc failure_in(Stage stage) noexcept {
        return stage == Stage::load ? errc::load_failed : errc::inference_failed;
    }

    const RemoteModelOptions options_;
    const ModelKey key_;
    Security security_;
    Endpoints endpoints_;
};

}  // namespace residency::detail::remote
