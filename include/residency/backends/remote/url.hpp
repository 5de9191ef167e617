#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace residency::detail::remote {

/// Where an endpoint is: the parts of its base URL.
struct Url {
    /// Whether it is https.
    bool tls = false;
    /// A name or an address; one of IPv6 without its brackets.
    std::string host{};
    /// The port.
    std::uint16_t port = 0;
    /// What comes before each path: empty, or `/` and more, without a `/` at its end.
    std::string prefix{};

    /// Host and port as the `Host` header has them.
    [[nodiscard]] std::string authority() const {
        std::string text = host.find(':') == std::string::npos ? host : '[' + host + ']';
        if (port != (tls ? 443 : 80)) {
            text += ':' + std::to_string(port);
        }
        return text;
    }
    /// The URL, for messages.
    [[nodiscard]] std::string text() const { return (tls ? "https://" : "http://") + authority() + prefix; }
};

/// Takes a base URL apart: `http://host:8080/v1`.
///
/// Throws std::invalid_argument, whose message is the rule alone ("must have ..."), if it is none of http or https, has
/// user information, a query or a fragment, or a character that a URL has not. The message does not repeat the URL,
/// which may hold a password.
[[nodiscard]] inline Url parse_url(std::string_view text) {
    const auto demand = [](bool holds, const char* rule) {
        if (!holds) {
            throw std::invalid_argument(rule);
        }
    };
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto of_host = [digit](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || digit(c) || c == '.' || c == '-' || c == '_';
    };
    Url url;
    url.tls = text.starts_with("https://");
    demand(url.tls || text.starts_with("http://"), "must begin with http:// or https://");
    demand(text.find_first_of("?#@") == std::string_view::npos, "must have no user, password, query or fragment");
    text.remove_prefix(url.tls ? 8 : 7);
    std::string_view authority = text.substr(0, text.find('/'));
    std::string_view prefix = text.substr(authority.size());
    while (prefix.ends_with('/')) {
        prefix.remove_suffix(1);
    }
    demand(std::all_of(prefix.begin(), prefix.end(), [](char c) { return c > ' ' && c < '\x7f'; }),
           "must have no character that is not printable ASCII");
    url.prefix = prefix;
    const bool bracketed = authority.starts_with('[');
    const std::size_t end = bracketed ? authority.find(']') : (std::min)(authority.find(':'), authority.size());
    demand(end != std::string_view::npos, "has a [ without its ]");
    url.host = bracketed ? authority.substr(1, end - 1) : authority.substr(0, end);
    authority.remove_prefix(bracketed ? end + 1 : end);
    demand(!url.host.empty() && std::all_of(url.host.begin(), url.host.end(),
                                            [&](char c) { return of_host(c) || (bracketed && c == ':'); }),
           "must have the name or the address of a host");
    url.port = url.tls ? 443 : 80;
    if (!authority.empty()) {
        const char* const last = authority.data() + authority.size();
        const auto [stopped, error] = std::from_chars(authority.data() + 1, last, url.port);
        demand(authority.front() == ':' && error == std::errc() && stopped == last && url.port != 0,
               "must have a port between 1 and 65535, or none");
    }
    return url;
}

}  // namespace residency::detail::remote
