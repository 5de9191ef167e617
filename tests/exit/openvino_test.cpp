// A process that exits while managers with static storage are at work with OpenVINO: each in a process of its own.

#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/openvino_folders.hpp"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>

using namespace residency::test;

TEST_CASE("a process exits while OpenVINO is at work", "[S47][H40]") {
    const auto folder = openvino_models_or_skip();
    if (!folder) {
        return;
    }
    REQUIRE(::setenv("RESIDENCY_EXIT_MODELS", folder->c_str(), 1) == 0);
    std::size_t turn = 0;
    for (const int step : {0, 1, 2, 3, 4, 20, 50}) {
        for (const std::string work : {"load", "inference", "unload"}) {
            const std::string storage = std::array{"global", "local", "library"}[(turn + turn / 3) % 3];
            ++turn;
            INFO(storage << " " << work << " " << step);
            REQUIRE(run_program({EXIT_MOMENT, storage, work, std::to_string(step), "all-minilm-l6-v2@f16"}) ==
                    "exit 0");
        }
    }
}
