#pragma once

#include "residency/backends/filesystem.hpp"
#include "residency/backends/llama_cpp/key_path.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <cerrno>
#include <concepts>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
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

/// What gives a key's path.
template <class Type>
concept PathOfKey = std::is_invocable_r_v<std::filesystem::path, const Type&, const ModelKey&> &&
    !std::convertible_to<Type, std::filesystem::path>;

}  // namespace detail::llama_cpp

/// Where the file of a key is: in a folder, or where a function says.
class LlamaCppFiles {
public:
    /// Nowhere; the backends do not take it.
    LlamaCppFiles() = default;

    /// In `folder`, as `NAME-QUANTIZATION.gguf`, or `NAME.gguf` for an empty quantization, where NAME may have the
    /// ending already. If there is no such file, the first part of a split model of that name:
    /// `NAME-QUANTIZATION-00001-of-00003.gguf`. An empty path is nowhere: the current folder is `.`.
    template <detail::llama_cpp::FolderName Folder>
    LlamaCppFiles(Folder&& folder) {  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
        if (std::filesystem::path path(std::forward<Folder>(folder)); !path.empty()) {
            path_of_ = [path = std::move(path)](const ModelKey& key) {
                return detail::llama_cpp::path_in_folder(path, key);
            };
            is_folder_ = true;
        }
    }

    /// Where `path_of` says. It is called on the loading thread and must be safe to call from several if the backend is
    /// used by several slots; what it throws is the load's failure.
    template <detail::llama_cpp::PathOfKey Function>
    LlamaCppFiles(Function path_of)  // NOLINT(google-explicit-constructor)
        : path_of_(std::move(path_of)) {}

    /// The key that finds `file` in its folder: what follows the last dash of its name is the quantization. None for a
    /// file that is not named like a model's, or like a later part of one.
    [[nodiscard]] static std::optional<ModelKey> key_of(const std::filesystem::path& file) {
        return detail::llama_cpp::key_of_file(file);
    }

    /// Whether it is anywhere.
    [[nodiscard]] bool known() const noexcept { return static_cast<bool>(path_of_); }

    /// The path of the key's file, which need not exist. Throws Error `invalid_request` for a key that leads out of the
    /// folder, names a later part of a split model, or could mean two models: a file and a folder of the same name, or
    /// two splits. Precondition: known().
    [[nodiscard]] std::filesystem::path path_of(const ModelKey& key) const {
        std::filesystem::path path = path_of_(key);
        // What follows a NUL would be lost on the way to the system, and another file opened.
        if (path.native().find(std::filesystem::path::value_type{}) != std::filesystem::path::string_type::npos) {
            throw Error(errc::invalid_request, key, Stage::load, "the path of the model's file holds a NUL");
        }
        return path;
    }

    /// Whether the key may have a file. In a folder: whether there is one, or the key is refused for what is there. A
    /// function that says the path is not called, as it may take its time: true. From any thread.
    [[nodiscard]] bool may_have(const ModelKey& key) const noexcept {
        if (!is_folder_) {
            return true;
        }
        if (detail::llama_cpp::leads_out(key)) {
            return false;
        }
        try {
            std::error_code ignored;
            return std::filesystem::exists(path_of_(key), ignored);
        } catch (...) {
            return true;
        }
    }

private:
    std::function<std::filesystem::path(const ModelKey&)> path_of_{};
    bool is_folder_ = false;
};

namespace detail::llama_cpp {

/// Why `path` is not a regular file that can be read, in the system's words; empty if it is one.
inline std::string why_not_readable(const std::filesystem::path& path) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) {
        return error ? error.message() : std::generic_category().message(ENOENT);
    }
    if (std::filesystem::is_directory(status)) {
        return std::generic_category().message(EISDIR);
    }
    if (!std::filesystem::is_regular_file(status)) {
        return "it is not a regular file";
    }
    errno = 0;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.string().c_str(), "rb"), &std::fclose);
    return file ? "" : std::generic_category().message(errno);
}

}  // namespace detail::llama_cpp
}  // namespace residency
