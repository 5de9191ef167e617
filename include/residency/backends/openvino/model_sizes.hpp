#pragma once

#include "residency/compiler.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <system_error>

namespace residency::detail::openvino {

/// What decides how much memory a model takes.
struct ModelSizes {
    /// How many weights it has.
    double parameters = 0;
    /// How many numbers a token's vector has.
    double width = 0;
};

/// What `name="..."` says in the tag; empty if it does not.
[[nodiscard]] inline std::string_view attribute(std::string_view tag, std::string_view name) noexcept {
    for (std::size_t at = tag.find(name); at != std::string_view::npos; at = tag.find(name, at + 1)) {
        std::string_view rest = tag.substr(at + name.size());
        if (rest.starts_with("=\"") && at != 0 && tag[at - 1] == ' ') {
            rest.remove_prefix(2);
            return rest.substr(0, rest.find('"'));
        }
    }
    return {};
}

/// The decimal number; 0 if it is none.
[[nodiscard]] inline double whole_number(std::string_view text) noexcept {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? static_cast<double>(value) : 0;
}

/// How many bytes a weight of this type takes in a file.
[[nodiscard]] inline double bytes_of(std::string_view element_type) noexcept {
    if (element_type == "f16" || element_type == "bf16") {
        return 2;
    }
    if (element_type == "i8" || element_type == "u8" || element_type.starts_with("f8")) {
        return 1;
    }
    return element_type == "i4" || element_type == "u4" || element_type == "nf4" ? 0.5 : 4;
}

/// What the constants of a model's XML file say. The width is that of the largest of them, which as a rule has a row
/// for each token of the vocabulary.
[[nodiscard]] inline ModelSizes sizes_in(std::string_view xml) noexcept {
    ModelSizes sizes;
    double largest = 0;
    for (std::size_t at = xml.find("<data "); at != std::string_view::npos; at = xml.find("<data ", at + 1)) {
        const std::string_view tag = xml.substr(at, xml.find('>', at) - at);
        if (attribute(tag, "offset").empty()) {
            continue;  // Not a constant.
        }
        const double count = whole_number(attribute(tag, "size")) / bytes_of(attribute(tag, "element_type"));
        sizes.parameters += count;
        if (count > largest) {
            largest = count;
            const std::string_view shape = attribute(tag, "shape");
            const std::size_t last = shape.find_last_of(", ");
            sizes.width = whole_number(last == std::string_view::npos ? shape : shape.substr(last + 1));
        }
    }
    return sizes;
}

/// What a weight, a stream and a number of a token's vector take in memory. Measured on processors, in anonymous
/// memory: weights come converted and packed, in one copy for embeddings and two for the rest.
struct MemoryRates {
    double parameter;
    double stream;
    double number_of_token;
};

/// What a model gives: for each token a vector, which are in memory too, or less than that.
enum class Gives : std::uint8_t { tokens, less };

/// Of a model that is computed in `half` precision, or in f32; `most`: on any processor that was measured.
[[nodiscard]] constexpr MemoryRates memory_rates(bool half, bool most, Gives gives) noexcept {
    constexpr double mebibyte = 1 << 20;
    const double output = gives == Gives::less ? 0 : half ? (most ? 14 : 12) : (most ? 6 : 4);
    if (most) {
        return half ? MemoryRates{4.0, 10 * mebibyte, 30 + output} : MemoryRates{5.2, 10 * mebibyte, 54 + output};
    }
    return half ? MemoryRates{3.6, 10 * mebibyte, 22 + output} : MemoryRates{4.6, 12 * mebibyte, 42 + output};
}

/// How many bytes a model takes once each stream has computed a sub-batch of `tokens` padded tokens.
[[nodiscard]] inline std::size_t model_memory(const ModelSizes& sizes, std::size_t streams, std::size_t tokens,
                                              const MemoryRates& rates) noexcept {
    constexpr double mebibyte = 1 << 20;
    constexpr double tokenizer_and_plugin = 20 * mebibyte;
    const double bytes = tokenizer_and_plugin + sizes.parameters * rates.parameter +
                         static_cast<double>(streams) *
                             (rates.stream + static_cast<double>(tokens) * sizes.width * rates.number_of_token);
    constexpr auto largest = static_cast<double>((std::numeric_limits<std::size_t>::max)());
    return bytes >= largest ? (std::numeric_limits<std::size_t>::max)() : static_cast<std::size_t>(bytes);
}

}  // namespace residency::detail::openvino
