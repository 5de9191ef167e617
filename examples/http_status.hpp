#pragma once

#include <residency/error.hpp>

// What an HTTP service answers for each error. A switch without `default`: the compiler names a code that is missing.

//! [answer]
/// The status of the answer to a request that failed with `error`. A `retry_after()` is the answer's Retry-After.
inline int http_status(const residency::Error& error) {
    using residency::errc;
    if (error.code() == residency::operation_aborted()) {
        return 499;  // cancelled: the client has left, and this is for the log alone
    }
    if (error.code().category() != residency::error_category()) {
        return 502;  // the backend's own code
    }
    switch (static_cast<errc>(error.code().value())) {
        case errc::invalid_request: return 400;
        case errc::unknown_model: return 404;
        case errc::model_changed: return error.stage() == residency::Stage::inference ? 503 : 409;  // 503: revoked
        case errc::overloaded: return 429;
        case errc::cooling_down:
        case errc::insufficient_memory:
        case errc::shutting_down: return 503;
        case errc::load_failed:
        case errc::inference_failed:
        case errc::bad_result: return 502;
        case errc::timed_out: return 504;
        case errc::would_deadlock: break;  // a mistake in the service
    }
    return 500;
}
//! [answer]
