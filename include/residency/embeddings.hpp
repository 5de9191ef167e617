#pragma once

#include "residency/compiler.hpp"

#include <cassert>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency {

/// The vectors of a list of texts: `size()` rows of `dimension()` floats each, in one block, row by row.
///
/// Row i belongs to text i of the request. A value type; distinct objects may be used from distinct threads.
class Embeddings {
public:
    /// No rows.
    Embeddings() = default;

    /// Room for `rows` vectors of `dimension` floats, all zero. Throws std::length_error if that is more than a
    /// vector can hold, std::bad_alloc if it is more than there is memory for.
    Embeddings(std::size_t rows, std::size_t dimension) : dimension_(dimension) {
        if (dimension != 0 && rows > values_.max_size() / dimension) {
            throw std::length_error("residency::Embeddings: " + std::to_string(rows) + " rows of " +
                                    std::to_string(dimension) + " floats are more than memory can hold");
        }
        values_.resize(rows * dimension);
    }

    /// Takes `values` as rows of `dimension` floats.
    /// Throws std::invalid_argument if `values` is not a whole number of rows.
    Embeddings(std::size_t dimension, std::vector<float> values) : dimension_(dimension), values_(std::move(values)) {
        if (dimension_ == 0 ? !values_.empty() : values_.size() % dimension_ != 0) {
            throw std::invalid_argument("residency::Embeddings: " + std::to_string(values_.size()) +
                                        " values are not a whole number of rows of " + std::to_string(dimension_));
        }
    }

    /// How many rows there are.
    [[nodiscard]] std::size_t size() const noexcept { return dimension_ == 0 ? 0 : values_.size() / dimension_; }
    /// Whether there is no row.
    [[nodiscard]] bool empty() const noexcept { return values_.empty(); }
    /// How many floats a row has.
    [[nodiscard]] std::size_t dimension() const noexcept { return dimension_; }

    /// Row `row`; precondition: row < size().
    [[nodiscard]] std::span<const float> operator[](std::size_t row) const noexcept {
        assert(row < size() && "residency: there is no such row in these Embeddings");
        return {values_.data() + row * dimension_, dimension_};
    }
    /// Row `row`, to be written; precondition: row < size().
    [[nodiscard]] std::span<float> operator[](std::size_t row) noexcept {
        assert(row < size() && "residency: there is no such row in these Embeddings");
        return {values_.data() + row * dimension_, dimension_};
    }

    /// All rows one after the other: size() * dimension() floats.
    [[nodiscard]] std::span<const float> values() const noexcept { return {values_.data(), values_.size()}; }

    /// Same dimension and the same floats.
    friend bool operator==(const Embeddings&, const Embeddings&) = default;

private:
    std::size_t dimension_ = 0;
    std::vector<float> values_{};
};

}  // namespace residency
