// Keys that keep their turn although their last waiter timed out.

#include "residency/core/claims.hpp"

#include "support/catch.hpp"
#include "support/memory.hpp"

#include <cstddef>

namespace residency::core::claims_test {

using namespace std::chrono_literals;

TEST_CASE("the claim that ends first is in front, whichever goes", "[H1]") {
    Claims claims;
    CHECK(claims.empty());
    claims.reserve(3);
    claims.add(7, 1s);
    claims.add(2, 2s);
    claims.add(5, 2s);
    CHECK(claims.size() == 3);
    CHECK(claims.front() == Claim{7, 1s});
    claims.erase(2);
    CHECK(claims.front() == Claim{7, 1s});
    claims.erase(7);
    CHECK(claims.front() == Claim{5, 2s});
    CHECK_FALSE(claims == Claims());
    claims.erase(5);
    CHECK(claims.empty());
    CHECK(claims == Claims());
}

TEST_CASE("claims have room for what was reserved, and for no more than there may be", "[H1]") {
    Claims claims;
    claims.reserve(10 * Claims::most);
    const std::size_t before = test::Memory::here().allocations;
    for (Index request = 0; request < Claims::most; ++request) {
        claims.add(request, 1s);
    }
    CHECK(test::Memory::here().allocations == before);
}

}  // namespace residency::core::claims_test
