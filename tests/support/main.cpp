// The main function of every test program. With Catch2 2 it takes long to compile, so it is compiled once for all of
// them.

#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#endif

#include "support/catch.hpp"

#include <iostream>

namespace {

bool skipped = false;

// What ctest reports as skipped. Catch2 2 returns the number of failures, which must not be taken for it.
constexpr int exit_skipped = 77;

}  // namespace

namespace residency::test {

void skip(const std::string& why) {
    std::cout << "skipped: " << why << std::endl;
    skipped = true;
}

}  // namespace residency::test

int main(int argc, char** argv) {
    if (Catch::Session().run(argc, argv) != 0) {
        return 1;
    }
    return skipped ? exit_skipped : 0;
}
