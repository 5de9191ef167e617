// What OpenVINO's errors say to a person.

#include "residency/backends/openvino/words.hpp"
#include "support/catch.hpp"

namespace words_test {

using residency::detail::openvino::words_of;

TEST_CASE("places in OpenVINO's sources are left out of its words, and lines are joined") {
    CHECK(
        words_of("Exception from src/inference/src/cpp/core.cpp:97:\nException from src/a.cpp:1:\nCheck 'x' failed at "
                 "src/b.cpp:3:\nCould not open the file\n  Device with \"GPU\" name is not registered  \n\n") ==
        "Could not open the file; Device with \"GPU\" name is not registered");
    CHECK(words_of("plain") == "plain");
    CHECK(words_of("Exception from src/a.cpp:1:\n") == "OpenVINO gives no reason");
    CHECK(words_of("") == "OpenVINO gives no reason");
}

}  // namespace words_test
