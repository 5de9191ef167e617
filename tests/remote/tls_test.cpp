// https: peers are verified, and what is not trusted gets no request.

#include "support/calls.hpp"
#include "support/dialects.hpp"
#include "support/temporary_folder.hpp"

#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

namespace tls_test {

using namespace residency;
using namespace residency::test;

namespace {

namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;

// A certificate that signs itself, for this subject's other name ("IP:127.0.0.1"), and its key, as files.
void make_certificate(const std::string& name, const std::string& certificate_file, const std::string& key_file) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
    X509_set_version(certificate.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60L * 60);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 60L * 60);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* const subject = X509_get_subject_name(certificate.get());
    const unsigned char common[] = "a peer of tests";
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, common, -1, -1, 0);
    X509_set_issuer_name(certificate.get(), subject);
    X509_EXTENSION* const names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, name.c_str());
    X509_add_ext(certificate.get(), names, -1);
    X509_EXTENSION_free(names);
    REQUIRE(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
    std::FILE* file = std::fopen(certificate_file.c_str(), "w");
    PEM_write_X509(file, certificate.get());
    std::fclose(file);
    file = std::fopen(key_file.c_str(), "w");
    PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
}

// Answers embeddings over TLS, one connection after the other.
class TlsPeer {
public:
    // `and_more`: behind each answer comes another that no request asked for.
    explicit TlsPeer(const std::string& name = "IP:127.0.0.1", bool and_more = false) : and_more_(and_more) {
        make_certificate(name, certificates(), folder_.path() / "key.pem");
        context_.use_certificate_file(certificates(), asio::ssl::context::pem);
        context_.use_private_key_file(folder_.path() / "key.pem", asio::ssl::context::pem);
        thread_ = std::thread([this] { serve(); });
    }
    ~TlsPeer() {
        ended_ = true;
        {
            // The last connection: it ends the wait for one.
            asio::io_context io;
            Tcp::socket last(io);
            last.connect(acceptor_.local_endpoint());
        }
        thread_.join();
    }
    TlsPeer(const TlsPeer&) = delete;
    TlsPeer& operator=(const TlsPeer&) = delete;

    [[nodiscard]] std::string url(const std::string& host = "127.0.0.1") const {
        return "https://" + host + ':' + std::to_string(acceptor_.local_endpoint().port()) + "/v1";
    }
    [[nodiscard]] std::string certificates() const { return folder_.path() / "certificate.pem"; }
    [[nodiscard]] int requests() const { return requests_; }
    [[nodiscard]] int connections() const { return connections_; }
    // Waits until it has sent so many answers that no request asked for.
    void wait_for_unasked(int count) const {
        for (int sent = unasked_; sent < count; sent = unasked_) {
            unasked_.wait(sent);
        }
    }

private:
    void serve() {
        while (!ended_) {
            boost::system::error_code error;
            asio::ssl::stream<Tcp::socket> stream(acceptor_.accept(), context_);
            stream.handshake(asio::ssl::stream_base::server, error);
            if (error) {
                continue;
            }
            ++connections_;
            stream.next_layer().set_option(Tcp::no_delay(true));  // What is written has come.
            boost::beast::flat_buffer buffer;
            for (;;) {
                http::request<http::string_body> request;
                http::read(stream, buffer, request, error);
                if (error) {
                    break;
                }
                ++requests_;
                http::response<http::string_body> response(http::status::ok, 11);
                response.body() = openai_answer_to(request.body());
                response.prepare_payload();
                http::write(stream, response, error);
                if (and_more_) {
                    response.body() = "unasked";
                    response.prepare_payload();
                    http::write(stream, response, error);
                    ++unasked_;
                    unasked_.notify_all();
                }
            }
        }
    }

    const bool and_more_;
    TemporaryFolder folder_{};
    asio::io_context io_{};
    asio::ssl::context context_{asio::ssl::context::tls_server};
    Tcp::acceptor acceptor_{io_, Tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
    std::atomic<bool> ended_{false};
    std::atomic<int> requests_{0};
    std::atomic<int> connections_{0};
    std::atomic<int> unasked_{0};
    std::thread thread_{};
};

}  // namespace

TEST_CASE("remote: https with a certificate that the options name, over connections that are kept") {
    TlsPeer peer;
    RemoteModelOptions options = options_for({peer.url()});
    options.certificates = peer.certificates();
    Embedder embedder(options);
    for (int call = 0; call < 3; ++call) {
        CHECK(embedder.embed({"one"}) == Embeddings(3, row_of("one")));
    }
    CHECK(peer.connections() == 2);
    CHECK(peer.requests() == 4);
    embedder.model.reset();
}

TEST_CASE("remote: what a peer sends over TLS without a request is not taken for the answer to the next one") {
    TlsPeer peer("IP:127.0.0.1", true);
    RemoteModelOptions options = options_for({peer.url()});
    options.certificates = peer.certificates();
    Embedder embedder(options);
    for (int call = 0; call < 3; ++call) {
        peer.wait_for_unasked(call + 1);
        CHECK(embedder.embed({"one"}) == Embeddings(3, row_of("one")));
    }
    embedder.model.reset();
}

TEST_CASE("remote: a certificate that is not known gets no request") {
    TlsPeer peer;
    const Error error = error_of([&] { load_embedder({.model = options_for({peer.url()})}); });
    CHECK(error.code() == errc::load_failed);
    CHECK_THAT(error.what(), contains_text("certificate"));
    CHECK(peer.requests() == 0);
}

TEST_CASE("remote: a certificate of another host gets no request") {
    TlsPeer peer("DNS:example.com");
    RemoteModelOptions options = options_for({peer.url()});
    options.certificates = peer.certificates();
    CHECK(error_of([&] { load_embedder({.model = options}); }).code() == errc::load_failed);
    CHECK(peer.requests() == 0);
}

TEST_CASE("remote: a peer that speaks https gets no request over http") {
    TlsPeer peer;
    RemoteModelOptions options = options_for({"http://" + peer.url().substr(8)});
    CHECK(error_of([&] { load_embedder({.model = options}); }).code() == errc::load_failed);
    CHECK(peer.requests() == 0);
}

namespace {

// Takes connections, and says nothing: a TLS handshake with it does not end.
class SilentPeer {
public:
    [[nodiscard]] std::string url() const {
        return "https://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
    }
    // Waits for the connection, and whatever comes first over it.
    void accept() {
        socket_ = acceptor_.accept();
        char byte = 0;
        asio::read(socket_, asio::buffer(&byte, 1));
    }

private:
    asio::io_context io_{};
    Tcp::acceptor acceptor_{io_, Tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
    Tcp::socket socket_{io_};
};

}  // namespace

TEST_CASE("remote: a TLS handshake ends with connect_timeout, and the request goes to another endpoint") {
    const SilentPeer silent;
    RemoteModelOptions options = options_for({silent.url()});
    options.connect_timeout = std::chrono::milliseconds(20);
    options.retries = 0;
    const Error error = error_of([&] { load_embedder({.model = options}); });
    CHECK(error.code() == errc::load_failed);
    CHECK_THAT(error.what(), contains_text(silent.url() + ": no connection within connect_timeout"));

    const TlsPeer peer;
    options = options_for({peer.url(), silent.url()});
    options.certificates = peer.certificates();
    options.connect_timeout = std::chrono::seconds(1);
    CHECK(Embedder(options).embed({"one"}) == Embeddings(3, row_of("one")));
}

TEST_CASE("remote: a TLS handshake ends when the load's stop is requested") {
    SilentPeer silent;
    std::stop_source stop;
    std::thread stopping([&] {
        silent.accept();
        stop.request_stop();
    });
    LoadContext context(stop.get_token());
    RemoteModelOptions options = options_for({silent.url()});
    options.connect_timeout = options.request_timeout;
    const RemoteEmbeddingBackend backend({.model = options});
    const Error error = error_of([&] { static_cast<void>(backend.load("m", context)); });
    stopping.join();
    CHECK(error.code() == asio::error::operation_aborted);
}

TEST_CASE("remote: certificates that cannot be read fail the load") {
    RemoteModelOptions options = options_for({"https://127.0.0.1:1"});
    options.certificates = "no-such-file.pem";
    CHECK_THROWS_AS(load_embedder({.model = options}), boost::system::system_error);
    CHECK_THROWS_WITH(load_embedder({.model = options}), contains_text("model.certificates: no-such-file.pem"));
}

}  // namespace tls_test
