#pragma once

// A server on loopback that answers what a test says, byte by byte if need be.

#include "residency/backends/remote/beast.hpp"

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace residency::test {

/// A request that a peer got.
struct Seen {
    /// The path.
    std::string target{};
    /// The body.
    std::string body{};
    /// `Authorization`; empty if there is none.
    std::string authorization{};
    /// `Host`.
    std::string host{};
    /// `X-Test`.
    std::string extra{};
    /// Which connection it came on, counted from 1.
    std::size_t connection = 0;
    /// Which request of that connection it is, counted from 1.
    std::size_t of_connection = 0;
    /// Which request of all, counted from 1.
    std::size_t of_all = 0;
};

/// What a peer does with a request.
struct Reply {
    /// What it writes.
    std::string bytes{};
    /// What it does then.
    enum class Then {
        /// Waits for the next request.
        go_on,
        /// Closes the connection.
        close,
        /// Resets it.
        reset,
        /// Neither writes nor reads a request any more, until the client closes.
        hang,
        /// Writes `more` byte by byte, again and again, until the client closes.
        trickle,
    } then = Then::go_on;
    /// Whether `bytes` are written one by one.
    bool one_by_one = false;
    /// For `trickle`; not empty then.
    std::string more{};
};

/// An answer with these headers, each with its line break, and a Content-Length.
inline Reply answer(unsigned status, const std::string& body, const std::string& headers = "") {
    return {.bytes = "HTTP/1.1 " + std::to_string(status) + " X\r\n" + headers +
                     (headers.find("Content-Type") == std::string::npos ? "Content-Type: application/json\r\n" : "") +
                     "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body};
}

/// A server that answers by `answers`, which is called on its own thread.
class Peer {
public:
    using Answers = std::function<Reply(const Seen&)>;

    explicit Peer(Answers answers) : answers_(std::move(answers)) { listen(0); }
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    ~Peer() { die(); }

    /// `http://127.0.0.1:PORT` and `prefix`.
    [[nodiscard]] std::string url(const std::string& prefix = "/v1") const {
        return "http://127.0.0.1:" + std::to_string(port_) + prefix;
    }

    /// Closes everything; connections are refused from now on.
    void die() {
        if (!thread_.joinable()) {
            return;
        }
        asio::post(*io_, [this] {
            acceptor_.reset();
            for (auto& [number, socket] : open_) {
                boost::system::error_code ignored;
                socket->close(ignored);
            }
            work_.reset();
        });
        thread_.join();
        open_.clear();
        io_.reset();
    }
    /// Listens on the same port again.
    void rise() { listen(port_); }

    /// What it got so far.
    [[nodiscard]] std::vector<Seen> seen() const {
        const std::lock_guard lock(mutex_);
        return seen_;
    }
    /// Of those, what it wrote the whole answer of before it died: a client gets that.
    [[nodiscard]] std::vector<Seen> answered() const {
        const std::lock_guard lock(mutex_);
        return answered_;
    }
    /// How many connections it accepted.
    [[nodiscard]] std::size_t accepted() const {
        const std::lock_guard lock(mutex_);
        return accepted_;
    }
    /// Waits until `count` connections are open.
    void wait_for_open(std::size_t count) const {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return accepted_ - ended_ == count; });
    }
    /// Waits until it got `count` requests.
    void wait_for_requests(std::size_t count) const {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return seen_.size() >= count; });
    }

private:
    using Tcp = asio::ip::tcp;
    using Socket = std::shared_ptr<Tcp::socket>;

    void listen(unsigned short port) {
        io_ = std::make_unique<asio::io_context>();
        acceptor_ = std::make_unique<Tcp::acceptor>(*io_, Tcp::endpoint(asio::ip::address_v4::loopback(), port));
        port_ = acceptor_->local_endpoint().port();
        work_.emplace(io_->get_executor());
        asio::co_spawn(*io_, accept(), [](const std::exception_ptr&) {});
        thread_ = std::thread([this] { io_->run(); });
    }

    asio::awaitable<void> accept() {
        while (acceptor_) {
            boost::system::error_code error;
            Tcp::socket accepted = co_await acceptor_->async_accept(asio::redirect_error(asio::use_awaitable, error));
            if (error) {
                co_return;
            }
            const auto socket = std::make_shared<Tcp::socket>(std::move(accepted));
            std::size_t number = 0;
            {
                const std::lock_guard lock(mutex_);
                number = ++accepted_;
            }
            changed_.notify_all();
            open_[number] = socket;
            asio::co_spawn(*io_, serve(socket, number), [this, number](const std::exception_ptr& thrown) {
                if (thrown) {
                    std::rethrow_exception(thrown);  // A flaw of the test: ends the program.
                }
                open_.erase(number);
                {
                    const std::lock_guard lock(mutex_);
                    ++ended_;
                }
                changed_.notify_all();
            });
        }
    }

    asio::awaitable<void> serve(Socket socket, std::size_t number) {
        namespace http = boost::beast::http;
        boost::beast::flat_buffer buffer;
        boost::system::error_code error;
        for (std::size_t count = 1;; ++count) {
            http::request_parser<http::string_body> parser;
            parser.body_limit(64 * 1024 * 1024);
            co_await http::async_read(*socket, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
            if (error) {
                co_return;
            }
            const auto& request = parser.get();
            Seen seen{.target = std::string(request.target()),
                      .body = request.body(),
                      .authorization = std::string(request[http::field::authorization]),
                      .host = std::string(request[http::field::host]),
                      .extra = std::string(request["X-Test"]),
                      .connection = number,
                      .of_connection = count};
            {
                const std::lock_guard lock(mutex_);
                seen.of_all = seen_.size() + 1;
                seen_.push_back(seen);
            }
            changed_.notify_all();
            const Reply reply = answers_(seen);
            if (reply.one_by_one) {
                error = co_await trickle(socket, reply.bytes);
            } else {
                co_await asio::async_write(*socket, asio::buffer(reply.bytes),
                                           asio::redirect_error(asio::use_awaitable, error));
            }
            if (!error) {
                const std::lock_guard lock(mutex_);
                answered_.push_back(std::move(seen));
            }
            switch (reply.then) {
                case Reply::Then::go_on: break;
                case Reply::Then::close: socket->close(error); co_return;
                case Reply::Then::reset:
                    socket->set_option(asio::socket_base::linger(true, 0), error);
                    socket->close(error);
                    co_return;
                case Reply::Then::hang: {
                    char byte = 0;
                    co_await asio::async_read(*socket, asio::buffer(&byte, 1),
                                              asio::redirect_error(asio::use_awaitable, error));
                    co_return;
                }
                case Reply::Then::trickle:
                    while (!error) {
                        error = co_await trickle(socket, reply.more);
                    }
                    co_return;
            }
        }
    }

    // Each byte is a packet of its own.
    static asio::awaitable<boost::system::error_code> trickle(Socket socket, const std::string& bytes) {
        boost::system::error_code error;
        socket->set_option(Tcp::no_delay(true), error);
        for (std::size_t at = 0; at < bytes.size() && !error; ++at) {
            co_await asio::async_write(*socket, asio::buffer(&bytes[at], 1),
                                       asio::redirect_error(asio::use_awaitable, error));
        }
        co_return error;
    }

    Answers answers_;
    std::unique_ptr<asio::io_context> io_{};
    std::unique_ptr<Tcp::acceptor> acceptor_{};
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_{};
    unsigned short port_ = 0;
    std::map<std::size_t, Socket> open_{};
    std::thread thread_{};
    mutable std::mutex mutex_{};
    mutable std::condition_variable changed_{};
    std::vector<Seen> seen_{};
    std::vector<Seen> answered_{};
    std::size_t accepted_ = 0;
    std::size_t ended_ = 0;
};

}  // namespace residency::test
