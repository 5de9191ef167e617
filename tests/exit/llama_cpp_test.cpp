// A process that exits while managers with static storage are at work with llama.cpp: each in a process of its own.

#include "llama_cpp/support/folders.hpp"
#include "llama_cpp/support/tiny_model.hpp"
#include "support/catch.hpp"
#include "support/child_process.hpp"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>

using namespace residency::test;

namespace {

void require_exit_0_at_each_moment(const std::filesystem::path& folder, const std::string& model) {
    REQUIRE(::setenv("RESIDENCY_EXIT_MODELS", folder.c_str(), 1) == 0);
    std::size_t turn = 0;
    for (const int step : {0, 1, 2, 5, 10, 20, 30, 50, 70, 100}) {
        for (const std::string work : {"load", "inference", "unload"}) {
            const std::string storage = std::array{"global", "local", "library"}[(turn + turn / 3) % 3];
            ++turn;
            INFO(storage << " " << work << " " << step);
            REQUIRE(run_program({EXIT_MOMENT, storage, work, std::to_string(step), model}) == "exit 0");
        }
    }
}

}  // namespace

TEST_CASE("a process exits while llama.cpp is at work with a small model", "[S47][H40]") {
    const TemporaryFolder folder;
    write_tiny_model(folder.path() / "tiny-f32.gguf", {});
    require_exit_0_at_each_moment(folder.path(), "tiny@f32");
}

TEST_CASE("a process exits while llama.cpp is at work with a real model", "[S47][H40]") {
    if (const auto folder = models_or_skip()) {
        require_exit_0_at_each_moment(*folder, "all-minilm-l6-v2@f16");
    }
}
