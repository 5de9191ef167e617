#pragma once

#include "residency/backends/filesystem.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <concepts>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace residency {

class OpenVinoFolders;

namespace detail::openvino {

/// What names a folder.
template <class Type>
concept FolderName =
    std::convertible_to<Type, std::filesystem::path> && !std::same_as<std::remove_cvref_t<Type>, OpenVinoFolders>;

/// What gives a key's path.
template <class Type>
concept PathOfKey = std::is_invocable_r_v<std::filesystem::path, const Type&, const ModelKey&> &&
    !std::convertible_to<Type, std::filesystem::path>;

/// The key's folder in `folder`: `NAME-QUANTIZATION`, or `NAME` for an empty quantization. Throws Error invalid_request
/// if the key would lead out of `folder`.
inline std::filesystem::path path_in_folder(const std::filesystem::path& folder, const ModelKey& key) {
#if defined(_WIN32)
    constexpr std::string_view forbidden{"/\\:\0", 4};
#else
    constexpr std::string_view forbidden{"/\0", 2};
#endif
    const std::string name = key.quantization.empty() ? key.name : key.name + '-' + key.quantization;
    if (name.find_first_of(forbidden) != std::string::npos || name.find_first_not_of('.') == std::string::npos) {
        throw Error(errc::invalid_request, key, Stage::load,
                    "a model's name and quantization must not hold a path separator or a NUL, nor dots alone: the key "
                    "would lead out of the folder of models");
    }
    return folder / name;
}

}  // namespace detail::openvino

/// Where the folder of a key's model is: in a folder of models, or where a function says.
class OpenVinoFolders {
public:
    /// Nowhere; the backends do not take it.
    OpenVinoFolders() = default;

    /// In `folder`, as `NAME-QUANTIZATION`, or `NAME` for an empty quantization. An empty path is nowhere: the current
    /// folder is `.`.
    template <detail::openvino::FolderName Folder>
    OpenVinoFolders(Folder&& folder)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
        : is_folder_(true) {
        if (std::filesystem::path path(std::forward<Folder>(folder)); !path.empty()) {
            path_of_ = [path = std::move(path)](const ModelKey& key) {
                return detail::openvino::path_in_folder(path, key);
            };
        }
    }

    /// Where `path_of` says. It is called on the loading thread and must be safe to call from several if the backend is
    /// used by several slots; what it throws is the load's failure.
    template <detail::openvino::PathOfKey Function>
    OpenVinoFolders(Function path_of)  // NOLINT(google-explicit-constructor)
        : path_of_(std::move(path_of)) {}

    /// Whether it is anywhere.
    [[nodiscard]] bool known() const noexcept { return static_cast<bool>(path_of_); }

    /// The key's folder, which need not exist. Throws Error `invalid_request` for a key that leads out of the folder of
    /// models. Precondition: known().
    [[nodiscard]] std::filesystem::path path_of(const ModelKey& key) const {
        std::filesystem::path path = path_of_(key);
        // What follows a NUL would be lost on the way to the system, and another file opened.
        if (path.native().find(std::filesystem::path::value_type{}) != std::filesystem::path::string_type::npos) {
            throw Error(errc::invalid_request, key, Stage::load, "the path of the model's folder holds a NUL");
        }
        return path;
    }

    /// Whether the key may have a folder. In a folder of models: whether there is one. A function that says the path is
    /// not called, as it may take its time: true. From any thread.
    [[nodiscard]] bool may_have(const ModelKey& key) const noexcept {
        if (!is_folder_ || !known()) {
            return true;
        }
        try {
            std::error_code ignored;
            return std::filesystem::exists(path_of(key), ignored);
        } catch (const Error&) {
            return false;
        } catch (...) {
            return true;
        }
    }

private:
    std::function<std::filesystem::path(const ModelKey&)> path_of_{};
    bool is_folder_ = false;
};

}  // namespace residency
