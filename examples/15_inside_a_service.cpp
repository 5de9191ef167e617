// New here: a service. A request has a deadline, and is cancelled when its client leaves; a failure becomes a status
// with a Retry-After; SIGTERM lets what runs end until a deadline. Its clients are in this program, at the other ends
// of pairs of sockets.
#include "http_status.hpp"

#include <residency/residency.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/write.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <iostream>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

/// Embeds "slow" until it is asked to stop, and everything else at once.
struct Model {
    residency::Embeddings embed(std::span<const std::string> texts, std::stop_token stop) const {
        for (const std::string& text : texts) {
            if (text == "slow") {
                std::mutex mutex;
                std::unique_lock lock(mutex);
                std::condition_variable_any().wait(lock, stop, [] { return false; });
            }
        }
        return {texts.size(), 4};
    }
};

struct Backend {
    using model_type = Model;
    std::unique_ptr<Model> load(const residency::ModelKey& key) {
        if (key.name == "broken") {
            throw std::runtime_error("cannot read broken.gguf");
        }
        return std::make_unique<Model>();
    }
};

using Models = residency::ModelManager<Backend, residency::LexicalRerankerBackend>;
using Socket = asio::local::stream_protocol::socket;  // in a service that of tcp
constexpr auto as_tuple = asio::as_tuple(asio::use_awaitable);

//! [failure]
struct Answer {
    int status = 200;
    std::optional<std::chrono::seconds> retry_after{};
};

Answer answer_to(const std::exception_ptr& failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const residency::Error& error) {
        Answer answer{http_status(error)};
        if (const auto wait = error.retry_after()) {
            answer.retry_after = std::chrono::ceil<std::chrono::seconds>(*wait);
        }
        return answer;
    } catch (const std::bad_alloc&) {
        return {503};
    }
}
//! [failure]

//! [request]
/// Completes when the client has closed its end.
asio::awaitable<void> client_leaves(Socket& client) {
    std::array<char, 1> nothing{};
    co_await client.async_read_some(asio::buffer(nothing), as_tuple);
}

/// The answer to a request; none if the client has left meanwhile. `timeout` is how long the client waits.
asio::awaitable<std::optional<Answer>> embed(Models& models, Socket& client, residency::ModelKey key, std::string text,
                                             std::chrono::milliseconds timeout) {
    using asio::experimental::awaitable_operators::operator||;
    std::vector<std::string> texts{std::move(text)};
    // `||` waits for the first that succeeds. With `as_tuple` a failed request counts as one, too.
    const auto first =
        co_await (models.async_embed(key, std::move(texts), {.timeout = timeout}, as_tuple) || client_leaves(client));
    if (first.index() == 1) {
        co_return std::nullopt;  // the request was cancelled: it left the queue, or its model was asked to stop
    }
    const auto& [failure, vectors] = std::get<0>(first);
    co_return failure ? answer_to(failure) : Answer();
}
//! [request]

/// Serves one request, a line: MODEL MILLISECONDS TEXT.
asio::awaitable<void> serve(Models& models, Socket client) {
    std::string line;
    co_await asio::async_read_until(client, asio::dynamic_buffer(line), '\n', asio::use_awaitable);
    std::istringstream words(line);
    std::string model;
    std::string text;
    int milliseconds = 0;
    words >> model >> milliseconds >> text;
    const std::optional<Answer> answer =
        co_await embed(models, client, model, text, std::chrono::milliseconds(milliseconds));
    if (answer) {
        std::string sent = std::to_string(answer->status);
        if (answer->retry_after) {
            sent += " Retry-After: " + std::to_string(answer->retry_after->count());
        }
        co_await asio::async_write(client, asio::buffer(sent), as_tuple);
    }
}

//! [stop]
asio::awaitable<void> stop_on_signal(Models& models, asio::signal_set& signals) {
    co_await signals.async_wait(asio::use_awaitable);
    // A server closes its acceptor first. New requests fail with `shutting_down`, and so does what waits; what runs has
    // until the deadline, then its stop_token is set and it fails, too: no client is left without an answer.
    const residency::ShutdownReport report =
        co_await models.async_shutdown({.deadline = 100ms, .revoke_at_deadline = true});
    std::cout << "shutdown: " << report << '\n';
}
//! [stop]

/// A client that has sent its request.
Socket ask(asio::io_context& context, Models& models, const std::string& line) {
    Socket client(context);
    Socket server(context);
    asio::local::connect_pair(client, server);
    asio::write(client, asio::buffer(line + '\n'));
    asio::co_spawn(context, serve(models, std::move(server)), asio::detached);
    return client;
}

/// What the service sends before it closes the connection.
asio::awaitable<std::string> answer(Socket client) {
    std::string text;
    co_await asio::async_read(client, asio::dynamic_buffer(text), as_tuple);
    std::cout << (text.empty() ? "(nothing)" : text) << '\n';
    co_return text;
}

asio::awaitable<void> clients(asio::io_context& context, Models& models, std::vector<std::string>& answers) {
    answers.push_back(co_await answer(ask(context, models, "broken 60000 quick")));
    answers.push_back(co_await answer(ask(context, models, "broken 60000 quick")));
    answers.push_back(co_await answer(ask(context, models, "minilm 60000 quick")));

    Socket runs = ask(context, models, "minilm 60000 slow");
    Socket waits = ask(context, models, "minilm 60000 slow");
    answers.push_back(co_await answer(ask(context, models, "minilm 60000 quick")));  // the queue is full
    waits.shutdown(Socket::shutdown_send);
    answers.push_back(co_await answer(std::move(waits)));
    answers.push_back(co_await answer(ask(context, models, "minilm 20 quick")));

    std::raise(SIGTERM);
    answers.push_back(co_await answer(std::move(runs)));
    answers.push_back(co_await answer(ask(context, models, "minilm 60000 quick")));
}

}  // namespace

int main() {
    asio::io_context context;
    const residency::ManagerOptions options{
        .embedding = {.max_leases = 1, .max_queue = 1, .cooldown = 30s}};  // so little that it is full soon
    Models models{{}, {}, options};
    asio::signal_set signals(context, SIGINT, SIGTERM);
    std::vector<std::string> answers;
    asio::co_spawn(context, stop_on_signal(models, signals), asio::detached);
    asio::co_spawn(context, clients(context, models, answers), asio::detached);
    context.run();
    for (std::string& text : answers) {
        text = text.substr(0, text.find(':'));  // how many seconds exactly is the clock's
    }
    const std::vector<std::string> expected{
        "502 Retry-After", "503 Retry-After", "200", "429", "", "504", "503", "503"};
    return answers == expected ? 0 : 1;
}
