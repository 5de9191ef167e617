#pragma once

#include "residency/backends/remote/connection_pool.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/backends/remote/url.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace residency::detail::remote {

/// In which form an endpoint gives vectors.
enum class VectorForm : std::uint8_t {
    /// Not known yet: base64 is asked for, and floats if that is refused.
    unknown,
    /// Base64, a fifth of what decimals cost.
    base64,
    /// Decimals.
    decimals,
};

/// One place where a model answers, as one loaded model knows it.
struct Endpoint {
    /// As the options have it.
    explicit Endpoint(const RemoteEndpoint& option, std::size_t connections)
        : url(parse_url(option.url)),
          shown(url.text()),
          dialect(option.dialect),
          pool(std::make_shared<ConnectionPool>(connections)) {}

    /// Where it is.
    const Url url;
    /// The same for messages.
    const std::string shown;
    /// What it understands.
    const RemoteDialect dialect;
    /// Its idle connections.
    const std::shared_ptr<ConnectionPool> pool;
    /// In which form it gives vectors.
    std::atomic<VectorForm> form{VectorForm::unknown};

    // Under the mutex of the Endpoints that it is of.

    /// Requests in flight.
    std::size_t in_flight = 0;
    /// Failures in a row.
    unsigned failures = 0;
    /// After failures: until when it gets no requests.
    std::chrono::steady_clock::time_point paused_until{};
    /// A request tries whether it works again.
    bool is_tried = false;
};

}  // namespace residency::detail::remote
