#pragma once

#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace residency::test {

/// The folder that the environment variable names, or none if it is not set.
inline std::optional<std::filesystem::path> folder_of(const char* variable) {
    const char* const value = std::getenv(variable);
    if (value == nullptr || *value == '\0') {
        return {};
    }
    return std::filesystem::path(value);
}

/// The folder of the real models; none, and the test case is reported as skipped, if the environment names none.
inline std::optional<std::filesystem::path> models_or_skip() {
    auto folder = folder_of("RESIDENCY_MODELS");
    if (!folder) {
        skip("RESIDENCY_MODELS names no folder of models");
    }
    return folder;
}

/// The folder of the test collection; the same otherwise.
inline std::optional<std::filesystem::path> corpus_or_skip() {
    auto folder = folder_of("RESIDENCY_CORPUS");
    if (!folder) {
        skip("RESIDENCY_CORPUS names no folder of texts");
    }
    return folder;
}

}  // namespace residency::test
