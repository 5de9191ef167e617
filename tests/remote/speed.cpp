// How fast requests come through residency::remote, beside a bare Beast client that sends each text by itself. Prints a
// table for people. Usage: remote_speed [SECONDS for each row]
//
// The rows of a group take turns. A figure is the median of a row's turns; a ratio is the median of its ratios to the
// group's first row, each to the turn of the same round, so that whatever else the machine does is in both.
//
// "asked for by another thread" is the same bare client with one hand-over to its thread and one back, which a manager
// on threads of its own needs, too. With two calls it has two such threads, of which Asio wakes one to watch the
// sockets whenever the other has something to do.

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
#include <functional>
#include <future>
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

double microseconds_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

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
    // Of its thread, in microseconds.
    [[nodiscard]] double cpu() {
        std::promise<double> cpu;
        asio::post(io_, [&cpu] { cpu.set_value(microseconds_of(CLOCK_THREAD_CPUTIME_ID)); });
        return cpu.get_future().get();
    }

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
    double latency = 0;   // The median of the callers' requests, microseconds.
    double cpu = 0;       // Of all threads but the peer's, microseconds an HTTP request.
};

double median(std::vector<double> values) {
    if (values.empty()) {
        return 0;
    }
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// What the callers of one turn have got.
struct Tally {
    std::size_t texts = 0;
    std::vector<double> latencies{};

    void count(std::size_t more, Clock::time_point since) {
        texts += more;
        latencies.push_back(std::chrono::duration<double, std::micro>(Clock::now() - since).count());
    }
};

// What the clients have done since it was made.
class Usage {
public:
    explicit Usage(Server& server) : server_(server), cpu_(cpu()), requests_(server.requests()) {}

    [[nodiscard]] Result of(const Tally& tally) const {
        const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
        const auto requests = static_cast<double>(server_.requests() - requests_);
        const double used = cpu() - cpu_;
        return {static_cast<double>(tally.texts) / seconds, requests / seconds, median(tally.latencies),
                used / requests};
    }

private:
    [[nodiscard]] double cpu() const { return microseconds_of(CLOCK_PROCESS_CPUTIME_ID) - server_.cpu(); }

    Server& server_;
    double cpu_;
    std::size_t requests_;
    Clock::time_point began_ = Clock::now();
};

// With an `asker` each request comes from the thread of that, and its answer goes there.
asio::awaitable<void> bare_caller(Tcp::endpoint endpoint, Clock::time_point until, Tally& tally,
                                  asio::io_context* asker) {
    Tcp::socket socket(co_await asio::this_coro::executor);
    co_await socket.async_connect(endpoint, asio::use_awaitable);
    socket.set_option(Tcp::no_delay(true));
    boost::beast::flat_buffer buffer;
    for (Clock::time_point asked; (asked = Clock::now()) < until;) {
        if (asker != nullptr) {
            co_await asio::post(*asker, asio::use_awaitable);  // There, and back.
        }
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
        tally.count(detail::remote::floats_of_base64({vector.data(), vector.size()})->size() / 384, asked);
    }
}

Result bare(Server& server, std::size_t callers, Clock::duration time, asio::io_context* asker = nullptr) {
    asio::io_context io(1);
    Tally tally;
    const Usage usage(server);
    for (std::size_t caller = 0; caller < callers; ++caller) {
        asio::co_spawn(io, bare_caller(server.endpoint(), Clock::now() + time, tally, asker),
                       [](const std::exception_ptr&) {});
    }
    io.run();
    return usage.of(tally);
}

Result bare_across_threads(Server& server, std::size_t callers, Clock::duration time) {
    asio::io_context asker(1);
    auto work = asio::make_work_guard(asker);
    std::thread thread([&asker] { asker.run(); });
    const Result result = bare(server, callers, time, &asker);
    work.reset();
    thread.join();
    return result;
}

using Models = ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend>;

asio::awaitable<void> caller(Models& models, Clock::time_point until, Tally& tally) {
    for (Clock::time_point asked; (asked = Clock::now()) < until;) {
        std::vector<std::string> one{"x"};
        const Embeddings rows = co_await models.async_embed("m", std::move(one), {}, asio::use_awaitable);
        tally.count(rows.size(), asked);
    }
}

// On the host's executor, or on threads of the manager's own.
Result through(Server& server, std::size_t callers, Clock::duration time, bool owned, std::size_t batch,
               std::size_t calls) {
    RemoteModelOptions model;
    model.endpoints = {{.url = "http://127.0.0.1:" + std::to_string(server.endpoint().port()) + "/v1"}};
    model.connections = 64;
    model.texts_per_request = batch;
    ManagerOptions options;
    options.embedding.max_leases = calls;
    asio::io_context io(1);
    const RemoteEmbeddingBackend embedding({.model = model});
    const RemoteRerankerBackend reranker({.model = model});
    auto models = owned ? std::make_unique<Models>(embedding, reranker, options)
                        : std::make_unique<Models>(embedding, reranker, options, Executors::all(io.get_executor()));
    Tally tally;
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
    const Usage usage(server);
    for (std::size_t each = 0; each < callers; ++each) {
        asio::co_spawn(io, caller(*models, Clock::now() + time, tally), ended);
    }
    run();
    return usage.of(tally);
}

struct Row {
    const char* what;
    std::function<Result(Clock::duration)> measure;
    std::vector<Result> turns{};
};

// The rows have `seconds` each, in turns.
void print(double seconds, std::chrono::milliseconds turn, std::vector<Row> rows) {
    const auto rounds =
        (std::max)(std::size_t{1}, static_cast<std::size_t>(seconds * 1000) / static_cast<std::size_t>(turn.count()));
    for (std::size_t round = 0; round < rounds; ++round) {
        for (Row& row : rows) {
            row.turns.push_back(row.measure(turn));
        }
    }
    const std::vector<Result>& first = rows.front().turns;
    for (const Row& row : rows) {
        const auto figure = [&](double Result::*of) {
            std::vector<double> values;
            for (const Result& each : row.turns) {
                values.push_back(each.*of);
            }
            return median(std::move(values));
        };
        const auto ratio = [&](double Result::*of) {
            std::vector<double> values;
            for (std::size_t round = 0; round < rounds; ++round) {
                values.push_back(row.turns[round].*of / (first[round].*of));
            }
            return median(std::move(values));
        };
        std::printf(
            "%-50s %6.0f texts/s %5.2f x  %6.0f requests/s  latency %7.1f us %5.2f x  CPU %6.1f us a request %5.2f x\n",
            row.what, figure(&Result::texts), ratio(&Result::texts), figure(&Result::requests),
            figure(&Result::latency), ratio(&Result::latency), figure(&Result::cpu), ratio(&Result::cpu));
        std::fflush(stdout);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const double seconds = count > 1 ? std::atof(arguments[1]) : 3.0;
    constexpr bool owned = true;
    constexpr bool hosts = false;
    const auto bare_by = [](Server& server, std::size_t callers) {
        return [&server, callers](Clock::duration turn) { return bare(server, callers, turn); };
    };
    const auto residency_by = [](Server& server, std::size_t callers, bool owns, std::size_t batch, std::size_t calls) {
        return [&server, callers, owns, batch, calls](Clock::duration turn) {
            return through(server, callers, turn, owns, batch, calls);
        };
    };
    {
        Server slow(2ms, 100us);
        print(seconds, 100ms,
              {{"64 callers, 2 ms + 0.1 ms a text: bare", bare_by(slow, 64)},
               {"  residency, host's executor", residency_by(slow, 64, hosts, 32, 2)},
               {"  residency, owned threads", residency_by(slow, 64, owned, 32, 2)}});
    }
    Server quick(0ms, 0ms);
    print(seconds, 100ms,
          {{"64 callers, no-op peer: bare", bare_by(quick, 64)},
           {"  residency, host's executor", residency_by(quick, 64, hosts, 32, 2)},
           {"  residency, owned threads", residency_by(quick, 64, owned, 32, 2)},
           {"  residency, host's executor, each text by itself", residency_by(quick, 64, hosts, 1, 64)},
           {"  residency, owned threads, each text by itself", residency_by(quick, 64, owned, 1, 64)}});
    print(seconds, 25ms,
          {{"1 caller, no-op peer: bare", bare_by(quick, 1)},
           {"  bare, asked for by another thread", [&](auto turn) { return bare_across_threads(quick, 1, turn); }},
           {"  residency, host's executor", residency_by(quick, 1, hosts, 32, 2)},
           {"  residency, owned threads", residency_by(quick, 1, owned, 32, 2)},
           {"  residency, owned threads, one call at a time", residency_by(quick, 1, owned, 32, 1)}});
}
