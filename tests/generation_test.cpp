#include "residency/generation.hpp"

#include "support/catch.hpp"

#include <concepts>
#include <cstdint>
#include <limits>
#include <sstream>
#include <type_traits>

namespace generation_test {

using residency::Generation;

// It must not mix with numbers, or be reckoned with.
static_assert(!std::is_convertible_v<std::uint64_t, Generation> && !std::is_convertible_v<Generation, std::uint64_t>);
static_assert(std::is_constructible_v<Generation, std::uint64_t>);
template <class T>
concept Adds = requires(T value) {
    value + value;
};
template <class T>
concept Increments = requires(T value) {
    ++value;
};
static_assert(Adds<int> && !Adds<Generation>);
static_assert(Increments<int> && !Increments<Generation>);
static_assert(std::totally_ordered<Generation> && std::is_trivially_copyable_v<Generation>);

TEST_CASE("The default generation is none, and before all others") {
    static_assert(Generation{} == Generation{0});
    static_assert(Generation{} < Generation{1});
    CHECK(Generation{}.value() == 0);
}

TEST_CASE("Generations are equal and ordered as their numbers are") {
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    CHECK(Generation{7} == Generation{7});
    CHECK(Generation{7} != Generation{8});
    CHECK(Generation{7} < Generation{8});
    CHECK(Generation{most} > Generation{most - 1});
    CHECK(Generation{most}.value() == most);
}

TEST_CASE("A generation prints its number") {
    std::ostringstream out;
    out << Generation{} << ' ' << Generation{42};
    CHECK(out.str() == "0 42");
}

}  // namespace generation_test
