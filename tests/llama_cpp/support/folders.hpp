#pragma once

#include "support/catch.hpp"

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

/// A folder of this test's own, deleted with all that is in it.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "residency-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::filesystem::filesystem_error("mkdtemp", pattern,
                                                    std::error_code(errno, std::generic_category()));
        }
        path_ = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
    std::filesystem::path path_{};
};

}  // namespace residency::test
