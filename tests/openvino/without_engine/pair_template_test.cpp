// How a query and a document become one sequence.

#include "residency/backends/openvino/pair_template.hpp"
#include "support/catch.hpp"

namespace pair_template_test {

using namespace residency::detail::openvino;

TEST_CASE("a pair is joined as its tokenizer's template says") {
    const auto form = PairTemplate::parse(R"({"single": {"ids": [101, -1, 102]},
        "pair": {"ids": [101, -1, 102, -2, 102], "type_ids": [0, 0, 0, 1, 1]}})");
    REQUIRE(form);
    CHECK(form->added() == 3);
    const Sequence joined = form->join(Tokens{7, 8}, Tokens{9});
    CHECK(joined.tokens == Tokens{101, 7, 8, 102, 9, 102});
    CHECK(joined.types == Tokens{0, 0, 0, 0, 1, 1});
    CHECK(form->join({}, {}).tokens == Tokens{101, 102, 102});
}

TEST_CASE("a template without types has type 0, and one that is no template of pairs is none") {
    const auto form = PairTemplate::parse(R"({"pair": {"ids": [0, -1, 2, 2, -2, 2]}})");
    REQUIRE(form);
    CHECK(form->join(Tokens{5}, Tokens{6}).types == Tokens(6, 0));
    for (const char* const text :
         {"", "{", "{}", R"({"pair": {}})", R"({"pair": {"ids": []}})", R"({"pair": {"ids": [1, -1, 2]}})",
          R"({"pair": {"ids": [1, -2, 2, -1]}})", R"({"pair": {"ids": [-1, -1, -2]}})",
          R"({"pair": {"ids": [-1, -2, "a"]}})", R"({"pair": {"ids": [-1, -2, -3]}})", R"({"pair": {"ids": 7}})",
          R"({"pair": {"ids": [0e999, -1, -2]}})", R"({"pair": {"ids": [1e30, -1, -2]}})",
          R"({"pair": {"ids": [18446744073709551615, -1, -2]}})", R"({"pair": {"ids": [5000000000, -1, -2]}})",
          R"({"pair": {"ids": [-1, -2]}} x)"}) {
        INFO(text);
        CHECK_FALSE(PairTemplate::parse(text));
    }
}

TEST_CASE("a template is learned of a pair that a tokenizer joined") {
    const auto form =
        PairTemplate::learn({{101, 7, 8, 102, 7, 9, 102}, {0, 0, 0, 0, 1, 1, 1}}, Tokens{7, 8}, Tokens{7, 9});
    REQUIRE(form);
    const Sequence joined = form->join(Tokens{1, 2, 3}, Tokens{4});
    CHECK(joined.tokens == Tokens{101, 1, 2, 3, 102, 4, 102});
    CHECK(joined.types == Tokens{0, 0, 0, 0, 0, 1, 1});
    CHECK_FALSE(PairTemplate::learn({{101, 7, 102, 102}, {}}, Tokens{7}, Tokens{9}));
    CHECK_FALSE(PairTemplate::learn({{101, 9, 102, 102}, {}}, Tokens{7}, Tokens{9}));
    CHECK_FALSE(PairTemplate::learn({{101, 7, 102}, {}}, Tokens{7}, Tokens{}));
}

}  // namespace pair_template_test
