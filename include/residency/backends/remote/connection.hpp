#pragma once

#include "residency/backends/remote/beast.hpp"
#include "residency/backends/remote/url.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace residency::detail::remote {

/// What all connections of a model share: the certificates that they verify.
struct Security {
#if defined(RESIDENCY_REMOTE_TLS)
    /// Verifies peers, TLS 1.2 and newer.
    asio::ssl::context context{asio::ssl::context::tls_client};

    /// `certificates`: more certificates than the system's, a file in PEM, or empty. Throws
    /// boost::system::system_error if they cannot be read.
    explicit Security(const std::string& certificates) {
        context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                            asio::ssl::context::no_tlsv1_1);
        context.set_default_verify_paths();
        if (!certificates.empty()) {
            boost::system::error_code error;
            context.load_verify_file(certificates, error);
            if (error) {
                throw boost::system::system_error(error, "option model.certificates: " + certificates);
            }
        }
        context.set_verify_mode(asio::ssl::verify_peer);
    }
#else
    /// Without TLS there is nothing to share.
    explicit Security(const std::string& /*certificates*/) {}
#endif
};

/// A connection to an endpoint, over TLS if its URL says so.
///
/// Used by one call at a time. Every operation completes on the executor of the coroutine that awaits it, whatever the
/// executor that the connection was made with, so that calls on different strands can use it one after the other.
class Connection {
public:
    /// Writes a request part by part.
    using Serializer = http::request_serializer<http::string_body>;

    /// One that is not open yet, of the context of `executor`. `security` outlives it.
    Connection(const asio::any_io_executor& executor, const Url& url, Security& security)
        : socket_(executor), context_(&asio::query(executor, asio::execution::context)) {
#if defined(RESIDENCY_REMOTE_TLS)
        if (url.tls) {
            secured_ = std::make_unique<Secured>(socket_, security.context);
            secured_->set_verify_callback(asio::ssl::host_name_verification(url.host));
            // The server's name, for hosts that have several; an address is none.
            boost::system::error_code is_name;
            asio::ip::make_address(url.host, is_name);
            if (is_name) {
                // SSL_set_tlsext_host_name without its cast. It copies the name.
                std::string name = url.host;
                SSL_ctrl(secured_->native_handle(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                         name.data());
            }
        }
#else
        static_cast<void>(url);
        static_cast<void>(security);
#endif
    }

    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() = default;

    /// Connects to the first of `addresses` that answers.
    [[nodiscard]] asio::awaitable<boost::system::error_code> open(Tcp::resolver::results_type addresses) {
        boost::system::error_code error;
        co_await asio::async_connect(socket_, addresses, asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            co_return error;
        }
        boost::system::error_code ignored;
        socket_.set_option(Tcp::no_delay(true), ignored);
        socket_.non_blocking(true, ignored);  // For `is_quiet` and `write_at_once`.
        buffer_.reserve(read_at_once);
#if defined(RESIDENCY_REMOTE_TLS)
        if (secured_) {
            co_await secured_->async_handshake(asio::ssl::stream_base::client,
                                               asio::redirect_error(asio::use_awaitable, error));
        }
#endif
        co_return error;
    }

    /// Writes as much of a request as the system takes at once, which is mostly all of it: the call then waits for its
    /// answer alone, and no other thread of the context is woken to say that it is written. `error` says what went
    /// wrong. False: the rest is for `write`.
    [[nodiscard]] bool write_at_once(Serializer& request, boost::system::error_code& error) {
        // TLS loses what the system does not take.
        if (is_secured()) {
            return false;
        }
        http::write(socket_, request, error);
        return error != asio::error::would_block;
    }

    /// Writes what is left of a request; `error` says what went wrong, and outlives it.
    [[nodiscard]] asio::awaitable<std::size_t> write(Serializer& request, boost::system::error_code& error) {
#if defined(RESIDENCY_REMOTE_TLS)
        if (secured_) {
            return http::async_write(*secured_, request, asio::redirect_error(asio::use_awaitable, error));
        }
#endif
        return http::async_write(socket_, request, asio::redirect_error(asio::use_awaitable, error));
    }

    /// Reads an answer; `error` says what went wrong, and outlives it.
    [[nodiscard]] asio::awaitable<std::size_t> read(http::response_parser<http::string_body>& parser,
                                                    boost::system::error_code& error) {
#if defined(RESIDENCY_REMOTE_TLS)
        if (secured_) {
            return http::async_read(*secured_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
        }
#endif
        return http::async_read(socket_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    }

    /// Whether a request may be written: the peer has not closed it, and has sent nothing that no request asked for.
    [[nodiscard]] bool is_quiet() noexcept {
        try {
            if (buffer_.size() != 0) {
                return false;
            }
            boost::system::error_code error;
            char byte = 0;
#if defined(RESIDENCY_REMOTE_TLS)
            if (secured_) {
                // Takes in what is the protocol's own (session tickets).
                secured_->read_some(asio::buffer(&byte, 1), error);
                return error == asio::error::would_block;
            }
#endif
            socket_.receive(asio::buffer(&byte, 1), Tcp::socket::message_peek, error);
            return error == asio::error::would_block;
        } catch (...) {
            return false;
        }
    }

    /// Closes it; what waits for it ends.
    void close() noexcept {
        boost::system::error_code ignored;
        socket_.close(ignored);
    }

    /// The context that it lives in.
    [[nodiscard]] asio::execution_context& context() const noexcept { return *context_; }

private:
    [[nodiscard]] bool is_secured() const noexcept {
#if defined(RESIDENCY_REMOTE_TLS)
        return secured_ != nullptr;
#else
        return false;
#endif
    }

    // Beast reads as much as the buffer has room for, and half a kilobyte if it has none: a batch's answer has some ten
    // kilobytes.
    static constexpr std::size_t read_at_once = 64 * std::size_t{1024};

    Tcp::socket socket_;
    asio::execution_context* context_;
    boost::beast::flat_buffer buffer_{};
#if defined(RESIDENCY_REMOTE_TLS)
    using Secured = asio::ssl::stream<Tcp::socket&>;
    std::unique_ptr<Secured> secured_{};
#endif
};

}  // namespace residency::detail::remote
