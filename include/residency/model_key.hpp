#pragma once

#include "residency/one_line.hpp"

#include <compare>
#include <cstddef>
#include <functional>
#include <ostream>
#include <string>
#include <utility>

namespace residency {

/// Names the weights of one model: which model, in which precision.
///
/// Two keys are the same model only if both parts are equal, so `{"minilm", "f16"}` and `{"minilm", "q8_0"}` are two
/// models that a slot switches between. A key is valid if its name is not empty; the quantization may be.
struct ModelKey {
    /// What the backend knows the model by. At most `max_part_length` bytes; must not be empty.
    std::string name{};
    /// The precision of its weights, as the backend names it ("f32", "f16", "q8_0"); may be empty.
    std::string quantization{};

    /// The longest name or quantization that a slot accepts, in bytes. A longer one is `invalid_request`: it is a
    /// mistake (a text passed for a key), and every event and error would carry it.
    static constexpr std::size_t max_part_length = 4096;

    // Not an aggregate: g++ 12 destroys a braced aggregate argument twice inside `co_await`.
    /// The empty key, which no slot accepts.
    ModelKey() = default;
    /// The key of `model_name` in precision `model_quantization`.
    ModelKey(std::string model_name, std::string model_quantization = {})  // NOLINT(google-explicit-constructor)
        : name(std::move(model_name)), quantization(std::move(model_quantization)) {}
    /// The same, so that a literal converts.
    ModelKey(const char* model_name, const char* model_quantization = "")  // NOLINT(google-explicit-constructor)
        : name(model_name), quantization(model_quantization) {}

    /// Same name and same quantization.
    friend bool operator==(const ModelKey&, const ModelKey&) = default;
    /// Orders by name, then by quantization.
    friend std::strong_ordering operator<=>(const ModelKey&, const ModelKey&) = default;

    /// Prints `name@quantization`, or `name` alone if there is no quantization.
    friend std::ostream& operator<<(std::ostream& out, const ModelKey& key) {
        out << key.name;
        if (!key.quantization.empty()) {
            out << '@' << key.quantization;
        }
        return out;
    }
};

/// The key as `operator<<` prints it, made fit for a message: cut to at most 80 bytes, between two characters of UTF-8,
/// and control characters as `?`, so that no key can break a line.
inline std::string to_string(const ModelKey& key) {
    constexpr std::size_t longest = 80;
    std::string text = key.name;
    if (!key.quantization.empty()) {
        text += '@';
        text += key.quantization;
    }
    if (text.size() > longest) {
        std::size_t end = longest;
        // A character has at most four bytes; what goes on for longer is no UTF-8.
        while (end > longest - 3 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) {
            --end;
        }
        text.resize(end);
        text += "...";
    }
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (const std::size_t controls = detail::control_character(text, at); controls != 0) {
            text.replace(at, controls, controls, '?');
        }
    }
    return text;
}

}  // namespace residency

/// Hashes both parts, for unordered containers. Not stable between standard libraries.
template <>
struct std::hash<residency::ModelKey> {
    /// The hash of `key`.
    std::size_t operator()(const residency::ModelKey& key) const noexcept {
        const std::size_t first = std::hash<std::string>{}(key.name);
        const std::size_t second = std::hash<std::string>{}(key.quantization);
        // Mixed so that swapping the two parts gives another hash.
        return first ^ (second + 0x9e3779b97f4a7c15ULL + (first << 6U) + (first >> 2U));
    }
};
