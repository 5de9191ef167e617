#include "residency/shell/known_faults.hpp"

#include "support/catch.hpp"

#include <cstddef>

namespace known_faults_test {

using residency::detail::KnownFaults;

TEST_CASE("A request is known to have failed until it is removed", "[H30]") {
    KnownFaults faults;
    CHECK_FALSE(faults.any());
    CHECK_FALSE(faults.contains(7));
    faults.add(7);
    faults.add(7);
    CHECK(faults.any());
    CHECK(faults.contains(7));
    CHECK_FALSE(faults.contains(8));
    faults.remove(8);
    CHECK(faults.contains(7));
    faults.remove(7);
    CHECK_FALSE(faults.any());
}

TEST_CASE("The oldest of too many known requests is forgotten, and one that is known already takes no place", "[H30]") {
    KnownFaults faults;
    for (std::size_t hash = 1; hash <= KnownFaults::most; ++hash) {
        faults.add(hash);
        faults.add(1);
    }
    CHECK(faults.contains(1));
    faults.add(100);
    CHECK_FALSE(faults.contains(1));
    CHECK(faults.contains(2));
    CHECK(faults.contains(100));
}

TEST_CASE("A hash of zero stands for no request", "[H30]") {
    KnownFaults faults;
    faults.add(0);
    CHECK_FALSE(faults.any());
    CHECK_FALSE(faults.contains(0));
}

}  // namespace known_faults_test
