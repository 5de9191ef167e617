// A process that exits while managers with static storage are at work: each in a process of its own.

#include "support/catch.hpp"
#include "support/child_process.hpp"

#include <string>
#include <vector>

using namespace residency::test;

namespace {

void require_exit_0(const std::string& storage, const std::string& work, int step, const std::string& model = "m") {
    INFO(storage << " " << work << " " << step << " " << model);
    REQUIRE(run_program({EXIT_MOMENT, storage, work, std::to_string(step), model}) == "exit 0");
}

}  // namespace

TEST_CASE("a process exits while a manager with static storage loads", "[S47][H40]") {
    const std::string storage = GENERATE("global", "local", "library");
    require_exit_0(storage, "nothing", 0);
    for (const int step : {1, 2, 5, 10, 20, 50, 80, 99, 100}) {
        require_exit_0(storage, "load", step);
        require_exit_0(storage, "load", step, "endless");
    }
}

TEST_CASE("a process exits while a model of a manager with static storage computes", "[S47][H40]") {
    const std::string storage = GENERATE("global", "local", "library");
    for (const int step : {0, 1, 2, 3, 5, 10, 20, 50, 100, 200}) {
        require_exit_0(storage, "inference", step);
    }
}

TEST_CASE("a process exits while a manager with static storage unloads or switches", "[S47][H40]") {
    const std::string storage = GENERATE("global", "local", "library");
    for (const int step : {0, 1, 2, 3, 5, 10, 20, 50, 100, 200}) {
        require_exit_0(storage, "unload", step);
        require_exit_0(storage, "switch", step);
    }
}

TEST_CASE("a process exits with other owners of models and threads than the manager", "[S47][H40]") {
    const std::string work =
        GENERATE("host_pool", "host_gone", "lease_in_use", "static_lease", "erased", "made_on_thread", "exit_on_thread",
                 "exit_in_handler", "ended_by_thread", "handlers");
    INFO(work);
    for (int run = 0; run < 5; ++run) {
        REQUIRE(run_program({EXIT_OWNERS, work}) == "exit 0");
    }
}
