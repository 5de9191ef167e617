#include "residency/embeddings.hpp"

#include "support/catch.hpp"

#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace embeddings_test {

using residency::Embeddings;

static_assert(std::is_nothrow_move_constructible_v<Embeddings>, "handlers hand it on");

TEST_CASE("Embeddings without rows are empty") {
    const Embeddings none;
    CHECK(none.empty());
    CHECK(none.size() == 0);
    CHECK(none.dimension() == 0);
    CHECK(none.values().empty());

    const Embeddings no_rows(0, 384);
    CHECK(no_rows.empty());
    CHECK(no_rows.size() == 0);
    CHECK(no_rows.dimension() == 384);

    const Embeddings no_floats(3, 0);
    CHECK(no_floats.empty());
    CHECK(no_floats.size() == 0);
}

TEST_CASE("New rows are zero and can be written one by one") {
    Embeddings rows(2, 3);
    REQUIRE(rows.size() == 2);
    REQUIRE(rows.dimension() == 3);
    for (const float value : rows.values()) {
        CHECK(value == 0.0F);
    }
    rows[1][0] = 4.0F;
    rows[1][2] = 6.0F;
    CHECK(std::vector<float>(rows.values().begin(), rows.values().end()) ==
          std::vector<float>{0.0F, 0.0F, 0.0F, 4.0F, 0.0F, 6.0F});
    const Embeddings& read = rows;
    CHECK(read[1].size() == 3);
    CHECK(read[1].data() == rows.values().data() + 3);
}

TEST_CASE("Values are taken row by row") {
    const Embeddings rows(2, std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F});
    REQUIRE(rows.size() == 2);
    CHECK(rows[0][0] == 1.0F);
    CHECK(rows[0][1] == 2.0F);
    CHECK(rows[1][0] == 3.0F);
    CHECK(rows[1][1] == 4.0F);
}

TEST_CASE("Values that are not a whole number of rows are refused, and the message says so") {
    CHECK_THROWS_AS(Embeddings(2, std::vector<float>(3)), std::invalid_argument);
    CHECK_THROWS_AS(Embeddings(0, std::vector<float>(1)), std::invalid_argument);
    CHECK_NOTHROW(Embeddings(0, std::vector<float>()));
    CHECK_NOTHROW(Embeddings(5, std::vector<float>()));
    CHECK_THROWS_WITH(Embeddings(2, std::vector<float>(3)),
                      residency::test::contains_text("3 values") && residency::test::contains_text("rows of 2"));
}

TEST_CASE("Embeddings are equal with the same dimension and the same floats") {
    const Embeddings rows(2, std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F});
    CHECK(rows == Embeddings(2, std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F}));
    CHECK(rows != Embeddings(2, std::vector<float>{1.0F, 2.0F, 3.0F, 5.0F}));
    CHECK(rows != Embeddings(4, std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F}));
    const Embeddings nan(1, std::vector<float>{std::numeric_limits<float>::quiet_NaN()});
    CHECK(nan != nan);
}

}  // namespace embeddings_test
