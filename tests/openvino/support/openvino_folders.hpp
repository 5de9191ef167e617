#pragma once

#include "support/folders.hpp"

#include <filesystem>
#include <optional>

namespace residency::test {

/// The folder of OpenVINO models; none, and the test case is reported as skipped, if the environment names none.
inline std::optional<std::filesystem::path> openvino_models_or_skip() {
    auto folder = folder_of("RESIDENCY_OPENVINO_MODELS");
    if (!folder) {
        skip("RESIDENCY_OPENVINO_MODELS names no folder of models");
    }
    return folder;
}

}  // namespace residency::test
