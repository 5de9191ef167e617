// The JSON of files beside a model and of answers over HTTP.

#include "residency/backends/json.hpp"

#include "residency/backends/llama_cpp/deep_stack.hpp"
#include "support/catch.hpp"
#include "support/memory.hpp"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <boost/system/error_code.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <string_view>

namespace json_test {

using namespace residency::test;
using residency::detail::member_of;
using residency::detail::parse_json;
using residency::detail::llama_cpp::with_stack;

namespace {

std::optional<boost::json::value> parsed(std::string_view text) {
    boost::system::error_code error;
    boost::json::value value = parse_json(text, error);
    if (error) {
        CHECK(value.is_null());
        return std::nullopt;
    }
    return value;
}

std::string nested(std::size_t depth, std::string_view opening, std::string_view closing) {
    std::string text;
    for (std::size_t level = 0; level < depth; ++level) {
        text += opening;
    }
    for (std::size_t level = 0; level < depth; ++level) {
        text += closing;
    }
    return text;
}

}  // namespace

TEST_CASE("JSON of each kind is read") {
    const auto json = parsed(
        " {\"a\" : [1, -2.5e1, 1E+2, 0.25, true, false, null, {}, []],\n\t\"b\": "
        "\"x\\n\\\"\\\\\\/\\u00e9\\u20ac\\ud83d\\ude00\"}\r\n");
    REQUIRE(json);
    REQUIRE(member_of(*json, "a") != nullptr);
    const boost::json::array& elements = member_of(*json, "a")->as_array();
    REQUIRE(elements.size() == 9);
    CHECK(elements[0].as_int64() == 1);
    CHECK(elements[1].as_double() == -25.0);
    CHECK(elements[2].as_double() == 100.0);
    CHECK(elements[3].as_double() == 0.25);
    CHECK(elements[4].as_bool());
    CHECK_FALSE(elements[5].as_bool());
    CHECK(elements[6].is_null());
    CHECK(member_of(elements[7], "a") == nullptr);
    CHECK(elements[8].as_array().empty());
    REQUIRE(member_of(*json, "b") != nullptr);
    CHECK(std::string_view(member_of(*json, "b")->as_string()) == "x\n\"\\/\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    CHECK(member_of(*json, "c") == nullptr);
    CHECK(member_of(elements[0], "a") == nullptr);
}

TEST_CASE("of two members of one name the last counts, and a limit that is none is a large number") {
    const auto json = parsed(R"({"a": 1, "a": 2, "model_max_length": 1000000000000000019884624838656})");
    REQUIRE(json);
    CHECK(member_of(*json, "a")->as_int64() == 2);
    CHECK(member_of(*json, "model_max_length")->as_double() > 1e29);
}

TEST_CASE("integers are exact as far as 64 bits hold them") {
    const auto json = parsed("[-9223372036854775808, 9223372036854775807, 18446744073709551615, 18446744073709551616]");
    REQUIRE(json);
    const boost::json::array& elements = json->as_array();
    CHECK(elements[0].as_int64() == INT64_MIN);
    CHECK(elements[1].as_int64() == INT64_MAX);
    CHECK(elements[2].as_uint64() == UINT64_MAX);
    CHECK(elements[3].as_double() > 1.8e19);
}

TEST_CASE("zero with an exponent beyond all doubles is no number of use, and no reason to refuse the whole") {
    for (const char* const text : {"0e999", "-0.0E400", "0e-999"}) {
        INFO(text);
        const auto json = parsed(text);
        REQUIRE(json);
        const double number = json->as_double();
        CHECK((number == 0.0 || std::isnan(number)));
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
        CHECK_FALSE(parsed(text));
    }
}

TEST_CASE(
    "what only resembles JSON is refused: comments, trailing commas, NaN, a byte order mark, bytes that are not "
    "UTF-8") {
    for (const char* const text : {"// no\n{}", "/* no */ {}", "{} // no", "[1,]", "{\"a\":1,}", "NaN", "[Infinity]",
                                   "-Infinity", "01", "+1", ".5", "'a'", "\xEF\xBB\xBF{}", "\"\xFF\"", "\"\xC3\"",
                                   "\"\xED\xA0\x80\"", "\"\\udc00\"", "\"a\nb\"", "{}x"}) {
        INFO(text);
        CHECK_FALSE(parsed(text));
    }
    CHECK_FALSE(parsed(std::string_view("{}\0", 3)));
}

TEST_CASE("JSON nested beyond reason is refused without a deep stack") {
    const auto reads = [](const std::string& text) {
        bool read = false;
        // Its values are also destroyed there.
        with_stack(std::size_t{256} << 10U, [&] { read = parsed(text).has_value(); });
        return read;
    };
    CHECK(reads(std::string(60, '[') + std::string(60, ']')));
    CHECK(reads(nested(64, "[", "]")));
    CHECK_FALSE(reads(nested(65, "[", "]")));
    CHECK(reads(nested(32, "{\"a\":[", "]}")));
    CHECK_FALSE(reads(nested(33, "{\"a\":[", "]}")));
    CHECK_FALSE(reads(std::string(1'000'000, '[')));
    CHECK_FALSE(reads(nested(100'000, "[", "]")));
    CHECK_FALSE(reads(nested(100'000, "{\"a\":", "")));
}

TEST_CASE("whichever allocation fails, reading throws std::bad_alloc and leaves nothing behind") {
    // Longer than what any value holds in itself.
    const std::string text =
        R"({"a name of some length": ["a text that is longer than a small one", {"another": 1.5}]})";
    std::size_t failures = 0;
    for (std::size_t nth = 1;; ++nth) {
        INFO("allocation " << nth);
        REQUIRE(nth < 100);
        const std::size_t before = Memory::here().blocks();
        bool refused = false;
        {
            const AllocationFaults faults(nth, FaultPattern::only);
            try {
                boost::system::error_code error;
                static_cast<void>(parse_json(text, error));
            } catch (const std::bad_alloc&) {
                refused = true;
            }
            // The one that failed is counted as allocated.
            CHECK(Memory::here().blocks() == before + faults.failures());
            if (faults.failures() == 0) {
                CHECK_FALSE(refused);
                break;
            }
            ++failures;
        }
        CHECK(refused);
    }
    CHECK(failures > 2);
}

}  // namespace json_test
