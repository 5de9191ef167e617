#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/testing/outcome.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

namespace residency::test {

using testing::Outcome;

/// One asynchronous request: what it was answered, and the way to cancel it.
template <class Result = void>
class Request : public Outcome<Result> {
public:
    /// The completion token for it, once.
    [[nodiscard]] auto token() { return asio::bind_cancellation_slot(signal_.slot(), this->handler()); }
    /// Its caller leaves.
    void cancel(asio::cancellation_type type = asio::cancellation_type::terminal) { signal_.emit(type); }

private:
    asio::cancellation_signal signal_;
};

}  // namespace residency::test
