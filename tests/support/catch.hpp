#pragma once

// Catch2 as it is installed: version 2 (one header) or 3 (many).

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace residency::test {

/// Matches a string that contains `part`. (Catch2 renamed its own between 2 and 3.)
inline auto contains_text(const std::string& part) {
#if __has_include(<catch2/catch_test_macros.hpp>)
    return Catch::Matchers::ContainsSubstring(part);
#else
    return Catch::Matchers::Contains(part);
#endif
}

/// Says that this test case cannot be run here; it then returns. If nothing failed, ctest reports it as skipped. One
/// such test case per run of a program, as ctest runs them.
void skip(const std::string& why);

}  // namespace residency::test
