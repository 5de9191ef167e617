// The order in which a large request is cut, and how much of it fits a call.

#include "residency/core/text_lengths.hpp"

#include "support/catch.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace residency::core::text_lengths_test {

namespace {

const std::vector<std::string> texts{"4444", "", "22", "1", "ab", "333"};

}  // namespace

TEST_CASE("TextLengths: shortest first, equal ones in their own order") {
    const TextLengths lengths(texts);
    std::vector<Index> order;
    for (std::size_t place = 0; place < texts.size(); ++place) {
        order.push_back(lengths[place]);
    }
    CHECK(order == std::vector<Index>{1, 3, 2, 4, 5, 0});
    CHECK(lengths.bytes(0, 6) == 12);
    CHECK(lengths.bytes(2, 4) == 4);
    CHECK(lengths.bytes(3, 3) == 0);
}

TEST_CASE("TextLengths: as many fit as neither the texts nor the bytes exceed, and one in any case") {
    const TextLengths lengths(texts);
    CHECK(lengths.fitting(0, {6}) == 6);
    CHECK(lengths.fitting(0, {100}) == 6);
    CHECK(lengths.fitting(2, {100}) == 4);
    CHECK(lengths.fitting(0, {3}) == 3);
    CHECK(lengths.fitting(0, {100, 5}) == 4);
    CHECK(lengths.fitting(0, {100, 4}) == 3);
    CHECK(lengths.fitting(3, {100, 4}) == 1);
    CHECK(lengths.fitting(5, {100, 3}) == 1);
    CHECK(lengths.fitting(0, {100, 0}) == 1);
}

}  // namespace residency::core::text_lengths_test
