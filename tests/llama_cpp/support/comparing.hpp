#pragma once

#include "residency/error.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace residency::test {

/// The cosine of two vectors.
inline double cosine(std::span<const float> left, std::span<const float> right) {
    REQUIRE(left.size() == right.size());
    double product = 0.0;
    double left_square = 0.0;
    double right_square = 0.0;
    for (std::size_t index = 0; index < left.size(); ++index) {
        product += static_cast<double>(left[index]) * static_cast<double>(right[index]);
        left_square += static_cast<double>(left[index]) * static_cast<double>(left[index]);
        right_square += static_cast<double>(right[index]) * static_cast<double>(right[index]);
    }
    return product / std::sqrt(left_square * right_square);
}

/// The length of a vector.
inline double length(std::span<const float> vector) {
    double square = 0.0;
    for (const float value : vector) {
        square += static_cast<double>(value) * static_cast<double>(value);
    }
    return std::sqrt(square);
}

/// What `call` throws, which must be an Error with this code.
template <class Call>
Error error_of(boost::system::error_code code, Call&& call) {
    try {
        std::forward<Call>(call)();
    } catch (const Error& error) {
        INFO(error.what());
        CHECK(error.code() == code);
        return error;
    }
    FAIL("nothing was thrown");
    throw std::logic_error("not reached");
}

}  // namespace residency::test
