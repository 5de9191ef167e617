#pragma once

#include "residency/backends/remote/answer.hpp"
#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/connection.hpp"
#include "residency/backends/remote/connection_pool.hpp"
#include "residency/backends/remote/url.hpp"
#include "residency/backends/remote/watch.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace residency::detail::remote {

/// One HTTP request to one endpoint: takes a connection, writes, reads the answer, and puts the connection back if
/// another request may use it. A kept connection that turns out to be closed is replaced by a fresh one, once.
class Exchanger {
public:
    /// To the endpoint at `url`. All that is referred to outlives it.
    Exchanger(const Url& url, ConnectionPool& pool, Security& security, std::size_t max_answer_bytes,
              std::chrono::milliseconds connect_timeout)
        : url_(url),
          pool_(pool),
          security_(security),
          max_answer_bytes_(max_answer_bytes),
          connect_timeout_(connect_timeout) {}

    /// Sends `request` and gives what became of it.
    ///
    /// Cancel  any type, and what `watch` ends: the connection is closed
    [[nodiscard]] asio::awaitable<Exchange> exchange(http::request<http::string_body>& request, Watch& watch) {
        const asio::any_io_executor executor = co_await asio::this_coro::executor;
        std::unique_ptr<Connection> connection = pool_.take(asio::query(executor, asio::execution::context));
        if (connection) {
            Exchange done = co_await over(*connection, request, watch);
            if (done.fault != Fault::no_answer) {
                keep(std::move(connection));
                co_return done;
            }
        }
        watch.uses_none();
        connection = std::make_unique<Connection>(executor, url_, security_);
        Exchange opened = co_await open(*connection, executor, watch);
        if (opened.fault != Fault::nothing) {
            co_return opened;
        }
        Exchange done = co_await over(*connection, request, watch);
        keep(std::move(connection));
        co_return done;
    }

private:
    void keep(std::unique_ptr<Connection> connection) {
        if (reusable_) {
            pool_.put(std::move(connection));
        }
    }

    asio::awaitable<Exchange> open(Connection& connection, const asio::any_io_executor& executor, Watch& watch) {
        Tcp::resolver resolver(executor);
        boost::system::error_code error;
        watch.connects(connection, resolver, connect_timeout_);
        // An address needs no look-up, for which Asio has a thread of its own.
        const asio::ip::address address = asio::ip::make_address(url_.host, error);
        Tcp::resolver::results_type addresses;
        if (!error) {
            addresses = Tcp::resolver::results_type::create(Tcp::endpoint(address, url_.port), url_.host,
                                                            std::to_string(url_.port));
        } else {
            addresses = co_await resolver.async_resolve(url_.host, std::to_string(url_.port),
                                                        asio::redirect_error(asio::use_awaitable, error));
        }
        if (!error && watch.cause() == Watch::Cause::nothing) {
            error = co_await connection.open(addresses);
        }
        watch.uses(connection);
        if (error || watch.cause() != Watch::Cause::nothing) {
            co_return failed(Fault::no_connection, error.message(), watch);
        }
        co_return Exchange();
    }

    asio::awaitable<Exchange> over(Connection& connection, http::request<http::string_body>& request, Watch& watch) {
        reusable_ = false;
        watch.uses(connection);
        Connection::Serializer serializer(request);
        boost::system::error_code not_written;
        if (!connection.write_at_once(serializer, not_written)) {
            co_await connection.write(serializer, not_written);
        }
        // A peer may answer before it has read all, and close: its answer says more than the failed write.
        for (int interim = 0; interim < most_interim_answers; ++interim) {
            std::optional<http::response_parser<http::string_body>> parser;
            parser.emplace();
            parser->header_limit(max_header_bytes);
            parser->body_limit(max_answer_bytes_);
            boost::system::error_code error;
            co_await connection.read(*parser, error);
            if (watch.cause() != Watch::Cause::nothing) {
                co_return failed(Fault::timed_out, std::string(), watch);
            }
            if (error) {
                const bool began = interim != 0 || parser->got_some();
                co_return failed(began ? Fault::broken : Fault::no_answer, why(error, not_written, began), watch);
            }
            auto answer = parser->release();
            const unsigned status = answer.result_int();
            if (status >= 100 && status < 200) {
                continue;
            }
            watch.uses_none();
            reusable_ = answer.keep_alive() && !answer.need_eof() && !not_written;
            co_return Exchange{.answer = read_answer(std::move(answer)), .fault = Fault::nothing, .why = {}};
        }
        co_return failed(Fault::broken, "it does not stop sending interim answers", watch);
    }

    static Answer read_answer(http::response<http::string_body> response) {
        const auto type = response[http::field::content_type];
        const auto retry = response[http::field::retry_after];
        const auto date = response[http::field::date];
        std::optional<std::chrono::milliseconds> retry_after;
        if (!retry.empty()) {
            retry_after = retry_after_of({retry.data(), retry.size()}, {date.data(), date.size()},
                                         std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
        }
        return {.status = response.result_int(),
                .is_json = type.find("json") != boost::beast::string_view::npos,
                .retry_after = retry_after,
                .body = std::move(response.body())};
    }

    [[nodiscard]] std::string why(const boost::system::error_code& error, const boost::system::error_code& not_written,
                                  bool began) const {
        if (error == http::error::body_limit) {
            return "the answer has more than " + std::to_string(max_answer_bytes_) +
                   " bytes, the limit of option model.max_answer_bytes";
        }
        if (!began) {
            return "the connection ended without an answer: " + (not_written ? not_written : error).message();
        }
        return "the answer is no whole HTTP response: " + error.message();
    }

    static Exchange failed(Fault fault, std::string why, const Watch& watch) {
        switch (watch.cause()) {
            case Watch::Cause::nothing: break;
            case Watch::Cause::connect_timeout:
                return {.answer = {}, .fault = Fault::no_connection, .why = "no connection within connect_timeout"};
            case Watch::Cause::request_timeout:
                return {.answer = {}, .fault = Fault::timed_out, .why = "no whole answer within request_timeout"};
            case Watch::Cause::stop: return {.answer = {}, .fault = Fault::stopped, .why = "a stop was requested"};
        }
        return {.answer = {}, .fault = fault, .why = std::move(why)};
    }

    static constexpr int most_interim_answers = 8;
    static constexpr std::uint32_t max_header_bytes = 16 * 1024;

    const Url& url_;
    ConnectionPool& pool_;
    Security& security_;
    std::size_t max_answer_bytes_;
    std::chrono::milliseconds connect_timeout_;
    bool reusable_ = false;
};

}  // namespace residency::detail::remote
