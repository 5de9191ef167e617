// Base URLs, options, base64: what is taken, and what is refused.

#include "support/calls.hpp"
#include "support/dialects.hpp"

#include <chrono>
#include <functional>
#include <limits>
#include <stdexcept>

namespace options_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using detail::remote::floats_of_base64;
using detail::remote::parse_url;

TEST_CASE("remote: a base URL has a host, a port and a prefix") {
    struct Case {
        const char* url;
        const char* host;
        int port;
        const char* prefix;
        const char* authority;
    };
    const auto [url, host, port, prefix, authority] = GENERATE(values<Case>({
        {"http://h", "h", 80, "", "h"},
        {"http://h/", "h", 80, "", "h"},
        {"http://h:80/v1", "h", 80, "/v1", "h"},
        {"http://h:8080/a/b//", "h", 8080, "/a/b", "h:8080"},
        {"https://api.example.com/v1", "api.example.com", 443, "/v1", "api.example.com"},
        {"https://h:65535", "h", 65535, "", "h:65535"},
        {"http://[::1]:8080/v1", "::1", 8080, "/v1", "[::1]:8080"},
        {"http://10.0.0.1:1", "10.0.0.1", 1, "", "10.0.0.1:1"},
    }));
    INFO(url);
    const detail::remote::Url parsed = parse_url(url);
    CHECK(parsed.host == host);
    CHECK(parsed.port == port);
    CHECK(parsed.prefix == prefix);
    CHECK(parsed.authority() == authority);
    CHECK(parse_url(parsed.text()).text() == parsed.text());
}

TEST_CASE("remote: what is no base URL is refused, and not repeated") {
    const std::string url = GENERATE(
        as<std::string>(), "", "h", "h:8080", "ftp://h", "http:/h", "http://", "http:///v1", "http://:80",
        "http://h:", "http://h:0", "http://h:65536", "http://h:99999999999", "http://h:-1", "http://h:8o",
        "http://h:80:80", "http://[::1", "http://[::1]8080", "http://[]", "http://u:secret@h", "http://secret@h",
        "http://h?secret", "http://h/v1?secret=1", "http://h/#secret", "http://h h", "http://h\r\n",
        "http://h/v1\r\nX: secret", "http://h/\xc3\xa4", "http://\xc3\xa4", std::string("http://h\0", 9), "http://::1");
    INFO(url);
    try {
        static_cast<void>(parse_url(url));
        FAIL("it was taken");
    } catch (const std::invalid_argument& error) {
        CHECK_THAT(error.what(), !contains_text("secret"));
    }
}

TEST_CASE("remote: an option that is not what its doc demands is refused by name") {
    using Change = std::function<void(RemoteModelOptions&)>;
    const auto [field, change] = GENERATE(values<std::pair<std::string, Change>>({
        {"endpoints", [](auto& options) { options.endpoints.clear(); }},
        {"endpoints[1].url", [](auto& options) { options.endpoints.push_back({.url = "ftp://h"}); }},
        {"endpoints[0].url", [](auto& options) { options.endpoints[0].url.clear(); }},
        {"connections", [](auto& options) { options.connections = 0; }},
        {"connections", [](auto& options) { options.connections = 1025; }},
        {"connect_timeout", [](auto& options) { options.connect_timeout = 0ms; }},
        {"connect_timeout", [](auto& options) { options.connect_timeout = 24h + 1ms; }},
        {"request_timeout", [](auto& options) { options.request_timeout = -1ms; }},
        {"request_timeout", [](auto& options) { options.request_timeout = std::chrono::milliseconds::max(); }},
        {"pause", [](auto& options) { options.pause = 0ms; }},
        {"retries", [](auto& options) { options.retries = 11; }},
        {"texts_per_request", [](auto& options) { options.texts_per_request = 0; }},
        {"texts_per_request", [](auto& options) { options.texts_per_request = 65'537; }},
        {"max_answer_bytes", [](auto& options) { options.max_answer_bytes = 1023; }},
        {"headers", [](auto& options) { options.headers = {{"", "x"}}; }},
        {"headers", [](auto& options) { options.headers = {{"a b", "x"}}; }},
        {"headers", [](auto& options) { options.headers = {{"a", "x\r\nb: y"}}; }},
    }));
    RemoteModelOptions options = options_for({"http://h"});
    change(options);
    CHECK_THROWS_WITH(RemoteEmbeddingBackend({.model = options}), contains_text("option model." + field));
    CHECK_THROWS_WITH(RemoteRerankerBackend({.model = options}), contains_text("option model." + field));
}

#if !defined(RESIDENCY_REMOTE_TLS)
TEST_CASE("remote: https is refused by name where it was not built in") {
    CHECK_THROWS_WITH(RemoteEmbeddingBackend({.model = options_for({"https://h"})}),
                      contains_text("RESIDENCY_REMOTE_TLS"));
    RemoteModelOptions options = options_for({"http://h"});
    options.certificates = "file";
    CHECK_THROWS_WITH(RemoteEmbeddingBackend({.model = options}), contains_text("RESIDENCY_REMOTE_TLS"));
}
#endif

TEST_CASE("remote: options at their limits are taken") {
    RemoteModelOptions options = options_for({"http://h"});
    options.connections = 1024;
    options.connect_timeout = 24h;
    options.request_timeout = 1ms;
    options.pause = 24h;
    options.retries = 10;
    options.texts_per_request = 65'536;
    options.max_answer_bytes = 1024;
    CHECK_NOTHROW(RemoteEmbeddingBackend({.model = options}));
}

TEST_CASE("remote: base64 is floats, or nothing") {
    std::vector<float> floats;
    for (int count = 0; count < 20; ++count) {
        CHECK(floats_of_base64(base64_of(floats)) == floats);
        floats.push_back(static_cast<float>(count) * -1.37F);
    }
    CHECK(floats_of_base64("AACAPw==") == std::vector<float>{1.0F});
    for (const char* const other : {"A", "AA", "AAA", "AAAA", "AACAPw=", "AACAPw", "AACAPw=A", "AACA w==", "AACAPw==\n",
                                    "====", "=", "==", "AA==", "AACAP_==", "AACAPw==AACAPw==", "\xff\xff\xff\xff"}) {
        INFO(other);
        CHECK(!floats_of_base64(other));
    }
}

TEST_CASE("remote: base64 of any number of floats is read, and none with another character in it") {
    constexpr std::string_view characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<float> floats;
    for (int count = 1; count <= 6; ++count) {
        floats.push_back(1.0F / static_cast<float>(count * 7) - 0.03F);
        const std::string text = base64_of(floats);
        CHECK(floats_of_base64(text) == floats);
        for (std::size_t place = 0; place < text.size(); ++place) {
            for (int byte = 0; byte < 256; ++byte) {
                std::string other = text;
                other[place] = static_cast<char>(byte);
                const bool is_padding = text[place] == '=';
                const bool is_valid = characters.find(other[place]) != std::string_view::npos && !is_padding;
                if (other != text && !is_valid && floats_of_base64(other)) {
                    FAIL("character " << byte << " in place " << place << " of " << text);
                }
            }
        }
    }
}

}  // namespace options_test
