// Texts that are not UTF-8.

#include "residency/backends/utf8.hpp"

#include "support/catch.hpp"

#include <string>

namespace utf8_test {

using residency::detail::as_utf8;

TEST_CASE("what is UTF-8 stays, and each other byte becomes U+FFFD") {
    const std::string same(
        "a\0\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 25);
    CHECK(as_utf8(same) == same);
    CHECK(as_utf8("").empty());
    const std::string bad = "\xEF\xBF\xBD";
    CHECK(as_utf8("\x80") == bad);
    CHECK(as_utf8("a\xFF") == "a" + bad);
    CHECK(as_utf8("\xF0\x9F\x98") == bad + bad + bad);
    CHECK(as_utf8("\xC0\x80") == bad + bad);
    CHECK(as_utf8("\xE0\x9F\xBF") == bad + bad + bad);
    CHECK(as_utf8("\xED\xA0\x80") == bad + bad + bad);
    CHECK(as_utf8("\xF4\x90\x80\x80") == bad + bad + bad + bad);
    CHECK(as_utf8("\xC3z") == bad + "z");
}

}  // namespace utf8_test
