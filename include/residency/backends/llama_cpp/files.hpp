#pragma once

#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <cerrno>
#include <concepts>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace residency {

class LlamaCppFiles;

namespace detail::llama_cpp {

/// What names a folder.
template <class Type>
concept FolderName =
    std::convertible_to<Type, std::filesystem::path> && !std::same_as<std::remove_cvref_t<Type>, LlamaCppFiles>;

/// What tells a key's path.
template <class Type>
concept PathOfKey = std::is_invocable_r_v<std::filesystem::path, const Type&, const ModelKey&> &&
    !std::convertible_to<Type, std::filesystem::path>;

}  // namespace detail::llama_cpp

/// Where the file of a key is: in a folder, or where a function says.
class LlamaCppFiles {
public:
    /// Nowhere; the backends do not take it.
    LlamaCppFiles() = default;

    /// In `folder`, as `NAME-QUANTIZATION.gguf`, or `NAME.gguf` for an empty quantization. A key that would lead
    /// elsewhere is `invalid_request`. An empty path is nowhere: the current folder is `.`.
    template <detail::llama_cpp::FolderName Folder>
    LlamaCppFiles(Folder&& folder) {  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
        if (std::filesystem::path path(std::forward<Folder>(folder)); !path.empty()) {
            path_of_ = [path = std::move(path)](const ModelKey& key) { return in_folder(path, key); };
        }
    }

    /// Where `path_of` says. It is called on the loading thread and must be safe to call from several if the backend is
    /// used by several slots; what it throws is the load's failure.
    template <detail::llama_cpp::PathOfKey Function>
    LlamaCppFiles(Function path_of)  // NOLINT(google-explicit-constructor)
        : path_of_(std::move(path_of)) {}

    /// Whether it is anywhere.
    [[nodiscard]] bool known() const noexcept { return static_cast<bool>(path_of_); }

    /// The path of the key's file, which need not exist. Throws Error `invalid_request` for a key that leads out of the
    /// folder. Precondition: known().
    [[nodiscard]] std::filesystem::path path_of(const ModelKey& key) const {
        std::filesystem::path path = path_of_(key);
        // What follows a NUL would be lost on the way to the system, and another file opened.
        if (path.native().find(std::filesystem::path::value_type{}) != std::filesystem::path::string_type::npos) {
            throw Error(errc::invalid_request, key, Stage::load, "the path of the model's file holds a NUL");
        }
        return path;
    }

private:
    static std::filesystem::path in_folder(const std::filesystem::path& folder, const ModelKey& key) {
        // A separator is all that could lead out: the name is followed by more, so that it is never `..` itself.
#if defined(_WIN32)
        constexpr std::string_view forbidden{"/\\:\0", 4};
#else
        constexpr std::string_view forbidden{"/\0", 2};
#endif
        for (const std::string_view part : {std::string_view(key.name), std::string_view(key.quantization)}) {
            if (part.find_first_of(forbidden) != std::string_view::npos) {
                throw Error(errc::invalid_request, key, Stage::load,
                            "a model's name and quantization must not hold a path separator or a NUL: the key would "
                            "lead out of the folder of models");
            }
        }
        return folder / (key.quantization.empty() ? key.name + ".gguf" : key.name + '-' + key.quantization + ".gguf");
    }

    std::function<std::filesystem::path(const ModelKey&)> path_of_{};
};

namespace detail::llama_cpp {

/// Throws Error `load_failed` with the system's words unless `path` is a regular file that can be read.
inline void require_readable_file(const ModelKey& key, const std::filesystem::path& path) {
    const auto refuse = [&](const std::string& why) {
        throw Error(errc::load_failed, key, Stage::load, "cannot load '" + path.string() + "': " + why);
    };
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
        refuse(error ? error.message() : std::generic_category().message(ENOENT));
    }
    if (std::filesystem::is_directory(status)) {
        refuse(std::generic_category().message(EISDIR));
    }
    if (!std::filesystem::is_regular_file(status)) {
        refuse("it is not a regular file");
    }
    errno = 0;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.string().c_str(), "rb"), &std::fclose);
    if (!file) {
        refuse(std::generic_category().message(errno));
    }
}

}  // namespace detail::llama_cpp
}  // namespace residency
