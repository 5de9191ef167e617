// How fast requests come through residency::remote, beside a bare Beast client that sends each text by itself. Prints a
// table for people. Usage: remote_speed [SECONDS for each row]

#include "residency/backends/remote.hpp"
#include "residency/model_manager.hpp"

#include "support/dialects.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

// Answers with vectors of 384 floats in base64. One worker, which takes `each` for a request and `text` for each text.
class Server {
public:
    Server(Clock::duration each, Clock::duration text) : each_(each), text_(text) {
        row_ = base64_of(std::vector<float>(384, 0.25F));
        asio::co_spawn(io_, accept(), [](const std::exception_ptr&) {});
        thread_ = std::thread([this] { io_.run(); });
    }
    ~Server() {
        io_.stop();
        thread_.join();
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    [[nodiscard]] Tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }
    [[nodiscard]] std::size_t requests() const { return requests_; }

private:
    asio::awaitable<void> accept() {
        for (;;) {
            asio::co_spawn(io_, serve(co_await acceptor_.async_accept(asio::use_awaitable)),
                           [](const std::exception_ptr&) {});
        }
    }
    asio::awaitable<void> serve(Tcp::socket socket) {
        socket.set_option(Tcp::no_delay(true));
        boost::beast::flat_buffer buffer;
        asio::steady_timer timer(io_);
        for (;;) {
            http::request<http::string_body> request;
            co_await http::async_read(socket, buffer, request, asio::use_awaitable);
            ++requests_;
            const std::string& body = request.body();
            // A text of this program has one x; that of the load has none.
            const auto texts = (std::max)(std::ptrdiff_t{1}, std::count(body.begin(), body.end(), 'x'));
            if (each_ != Clock::duration::zero()) {
                free_at_ = (std::max)(free_at_, Clock::now()) + each_ + text_ * texts;
                timer.expires_at(free_at_);
                co_await timer.async_wait(asio::use_awaitable);
            }
            http::response<http::string_body> response(http::status::ok, 11);
            response.body() = R"({"data":[)";
            for (auto index = texts; index > 0; --index) {
                response.body() += R"({"embedding":")" + row_ + (index == 1 ? "\"}" : "\"},");
            }
            response.body() += "]}";
            response.prepare_payload();
            co_await http::async_write(socket, response, asio::use_awaitable);
        }
    }

    Clock::duration each_;
    Clock::duration text_;
    std::string row_{};
    asio::io_context io_{1};
    Tcp::acceptor acceptor_{io_, Tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
    Clock::time_point free_at_{};
    std::atomic<std::size_t> requests_{0};
    std::thread thread_{};
};

struct Result {
    double texts = 0;     // A second.
    double requests = 0;  // HTTP, a second.
    double cpu = 0;       // Of the clients' threads, microseconds an HTTP request.
};

double cpu_of_thread() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

Result measured(Clock::duration time, std::size_t texts, std::size_t requests, double cpu) {
    const double seconds = std::chrono::duration<double>(time).count();
    return {static_cast<double>(texts) / seconds, static_cast<double>(requests) / seconds,
            cpu / static_cast<double>(requests)};
}

asio::awaitable<void> bare_caller(Tcp::endpoint endpoint, Clock::time_point until, std::size_t& texts) {
    Tcp::socket socket(co_await asio::this_coro::executor);
    co_await socket.async_connect(endpoint, asio::use_awaitable);
    socket.set_option(Tcp::no_delay(true));
    boost::beast::flat_buffer buffer;
    while (Clock::now() < until) {
        http::request<http::string_body> request(http::verb::post, "/v1/embeddings", 11);
        request.set(http::field::host, "127.0.0.1");
        request.set(http::field::content_type, "application/json");
        request.body() = R"({"model":"m","encoding_format":"base64","input":["x"]})";
        request.prepare_payload();
        co_await http::async_write(socket, request, asio::use_awaitable);
        http::response<http::string_body> response;
        co_await http::async_read(socket, buffer, response, asio::use_awaitable);
        const boost::json::value body = boost::json::parse(response.body());
        const auto& vector = body.at("data").at(0).at("embedding").as_string();
        texts += detail::remote::floats_of_base64({vector.data(), vector.size()})->size() / 384;
    }
}

Result bare(const Server& server, std::size_t callers, Clock::duration time) {
    asio::io_context io(1);
    std::size_t texts = 0;
    const double cpu = cpu_of_thread();
    for (std::size_t caller = 0; caller < callers; ++caller) {
        asio::co_spawn(io, bare_caller(server.endpoint(), Clock::now() + time, texts),
                       [](const std::exception_ptr&) {});
    }
    io.run();
    return measured(time, texts, texts, cpu_of_thread() - cpu);
}

using Models = ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend>;

asio::awaitable<void> caller(Models& models, Clock::time_point until, std::size_t& texts) {
    while (Clock::now() < until) {
        std::vector<std::string> one{"x"};
        const Embeddings rows = co_await models.async_embed("m", std::move(one), {}, asio::use_awaitable);
        texts += rows.size();
    }
}

// On the host's executor, or on threads of the manager's own, whose work is not in the CPU time.
Result through(const Server& server, std::size_t callers, Clock::duration time, bool owned, std::size_t batch) {
    RemoteModelOptions model;
    model.endpoints = {{.url = "http://127.0.0.1:" + std::to_string(server.endpoint().port()) + "/v1"}};
    model.connections = 64;
    model.texts_per_request = batch;
    ManagerOptions options;
    options.embedding.max_leases = batch == 1 ? 64 : 2;
    asio::io_context io(1);
    const RemoteEmbeddingBackend embedding({.model = model});
    const RemoteRerankerBackend reranker({.model = model});
    auto models = owned ? std::make_unique<Models>(embedding, reranker, options)
                        : std::make_unique<Models>(embedding, reranker, options, Executors::all(io.get_executor()));
    std::size_t texts = 0;
    std::size_t running = 1;
    const auto ended = [&](const std::exception_ptr& thrown) {
        --running;
        if (thrown) {
            std::rethrow_exception(thrown);
        }
    };
    const auto run = [&] {
        while (running != 0) {
            io.run_one();
        }
        io.restart();
    };
    // A manager on owned threads leaves `io` without work between two calls.
    const auto work = asio::make_work_guard(io);
    asio::co_spawn(io, models->embedding().async_ensure_loaded("m", {}, asio::use_awaitable),
                   [&](const std::exception_ptr& thrown, Generation) { ended(thrown); });
    run();
    running = callers;
    const std::size_t before = server.requests();
    const double cpu = cpu_of_thread();
    for (std::size_t each = 0; each < callers; ++each) {
        asio::co_spawn(io, caller(*models, Clock::now() + time, texts), ended);
    }
    run();
    return measured(time, texts, server.requests() - before, cpu_of_thread() - cpu);
}

void print(const char* what, const Result& result) {
    std::printf("%-58s %10.0f texts/s %10.0f requests/s %8.1f us CPU a request\n", what, result.texts, result.requests,
                result.cpu);
    std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
    const auto time = std::chrono::milliseconds(static_cast<int>((count > 1 ? std::atof(arguments[1]) : 3.0) * 1000));
    {
        const Server slow(2ms, 100us);
        print("64 callers, 2 ms + 0.1 ms a text: bare", bare(slow, 64, time));
        print("  residency, host's executor", through(slow, 64, time, false, 32));
        print("  residency, owned threads", through(slow, 64, time, true, 32));
    }
    const Server quick(0ms, 0ms);
    print("64 callers, no-op peer: bare", bare(quick, 64, time));
    print("  residency, host's executor", through(quick, 64, time, false, 32));
    print("  residency, owned threads", through(quick, 64, time, true, 32));
    print("  residency, host's executor, each text by itself", through(quick, 64, time, false, 1));
    print("1 caller, no-op peer: bare", bare(quick, 1, time));
    print("  residency, host's executor", through(quick, 1, time, false, 32));
    print("  residency, owned threads", through(quick, 1, time, true, 32));
}
