// The reader of the small files beside a model.

#include "residency/backends/openvino/json.hpp"
#include "support/catch.hpp"

#include <cstddef>
#include <string>

using namespace residency::test;
using residency::detail::openvino::Json;

TEST_CASE("JSON of each kind is read") {
    const auto json = Json::parse(
        " {\"a\" : [1, -2.5e1, 1E+2, 0.25, true, false, null, {}, []],\n\t\"b\": "
        "\"x\\n\\\"\\\\\\/\\u00e9\\u20ac\\ud83d\\ude00\"}\r\n");
    REQUIRE(json);
    REQUIRE(json->find("a") != nullptr);
    const auto elements = json->find("a")->elements();
    REQUIRE(elements.size() == 9);
    CHECK(elements[0].number() == 1.0);
    CHECK(elements[1].number() == -25.0);
    CHECK(elements[2].number() == 100.0);
    CHECK(elements[3].number() == 0.25);
    CHECK(elements[4].is_true());
    CHECK_FALSE(elements[5].is_true());
    CHECK_FALSE(elements[5].number());
    CHECK_FALSE(elements[6].is_true());
    CHECK(elements[7].find("a") == nullptr);
    CHECK(elements[8].elements().empty());
    REQUIRE(json->find("b") != nullptr);
    REQUIRE(json->find("b")->string() != nullptr);
    CHECK(*json->find("b")->string() == "x\n\"\\/\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    CHECK(json->find("c") == nullptr);
    CHECK(json->string() == nullptr);
}

TEST_CASE("of two members of one name the last counts, and a limit that is none is a large number") {
    const auto json = Json::parse(R"({"a": 1, "a": 2, "model_max_length": 1000000000000000019884624838656})");
    REQUIRE(json);
    CHECK(json->find("a")->number() == 2.0);
    CHECK(*json->find("model_max_length")->number() > 1e29);
}

TEST_CASE("zero is zero, whatever its exponent") {
    for (const char* const text : {"0e999", "-0.0E400", "0e-999"}) {
        INFO(text);
        const auto json = Json::parse(text);
        REQUIRE(json);
        CHECK(json->number() == 0.0);
    }
}

TEST_CASE("what is not JSON is nothing, wherever it breaks off") {
    for (const char* const text : {"",          " ",         "{",           "[",           "[1",
                                   "[1,",       "[1 2]",     "{\"a\"",      "{\"a\":",     "{\"a\":1",
                                   "{\"a\":1,", "{a:1}",     "{\"a\" 1}",   "\"",          "\"\\",
                                   "\"\\x\"",   "\"\\u12\"", "\"\\u12g4\"", "\"\\ud83d\"", "\"\\ud83d\\u0041\"",
                                   "tru",       "-",         "1.",          "1e",          "1e+",
                                   "1 2",       "{} {}",     "nul"}) {
        INFO(text);
        CHECK_FALSE(Json::parse(text));
    }
}

TEST_CASE("JSON nested beyond reason is refused without a deep stack") {
    CHECK(Json::parse(std::string(60, '[') + std::string(60, ']')));
    CHECK_FALSE(Json::parse(std::string(1'000'000, '[')));
    std::string objects;
    for (int depth = 0; depth < 100'000; ++depth) {
        objects += "{\"a\":";
    }
    CHECK_FALSE(Json::parse(objects));
}
