#pragma once

#include "stress/facts.hpp"

#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <utility>

namespace residency::stress {

namespace asio = boost::asio;

/// An executor that notes when the handler of one request is posted to it (R12), and otherwise is `Inner`.
template <class Inner>
class NotingExecutor {
public:
    NotingExecutor(Inner inner, RequestFacts& request) : inner_(std::move(inner)), request_(&request) {}

    template <class Function>
    void execute(Function&& function) const {
        request_->posted.set(true);
        inner_.execute(std::forward<Function>(function));
    }
    template <class Property>
    requires asio::can_query_v<const Inner&, Property>
    [[nodiscard]] decltype(auto) query(const Property& property) const { return asio::query(inner_, property); }
    template <class Property>
    requires asio::can_require_v<const Inner&, Property>
    [[nodiscard]] auto require(const Property& property) const {
        return NotingExecutor<std::decay_t<decltype(asio::require(inner_, property))>>(asio::require(inner_, property),
                                                                                       *request_);
    }

    friend bool operator==(const NotingExecutor&, const NotingExecutor&) = default;

private:
    Inner inner_;
    RequestFacts* request_;
};

}  // namespace residency::stress
