#pragma once

#include "residency/backends/json.hpp"
#include "residency/backends/remote/answer.hpp"
#include "residency/backends/utf8.hpp"

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace residency::detail::remote {

/// An answer whose JSON is not what the dialect has.
class BrokenAnswer : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The JSON of an answer. Its values live as long as this.
class Json {
public:
    /// Throws BrokenAnswer if `text` is no JSON, or is nested more than 64 deep.
    explicit Json(std::string_view text) : root_(parsed(text, &memory_)) {}
    Json(const Json&) = delete;
    Json& operator=(const Json&) = delete;
    ~Json() = default;

    /// The whole.
    [[nodiscard]] const boost::json::value& root() const noexcept { return root_; }

private:
    static boost::json::value parsed(std::string_view text, const boost::json::storage_ptr& memory) {
        boost::system::error_code error;
        boost::json::value value = parse_json(text, error, memory);
        if (error) {
            throw BrokenAnswer("the answer is no JSON: " + error.message());
        }
        return value;
    }

    boost::json::monotonic_resource memory_{};
    boost::json::value root_;
};

/// The array that `value` is. Throws BrokenAnswer, which calls it `what`.
[[nodiscard]] inline const boost::json::array& array_of(const boost::json::value* value, std::string_view what) {
    const boost::json::array* const array = value == nullptr ? nullptr : value->if_array();
    if (array == nullptr) {
        throw BrokenAnswer("the answer has no list " + std::string(what));
    }
    return *array;
}

/// Whether `value` is neither a NaN nor infinite. Looks at the bits: see not_a_number.hpp.
[[nodiscard]] constexpr bool is_finite(const float& value) noexcept {
    return (std::bit_cast<std::uint32_t>(value) & 0x7f800000U) != 0x7f800000U;
}

/// The number that `value` is, as a float; infinite if it is too large. JSON has no NaN: engines write `null` for one
/// (text-embeddings-inference, llama-server, Infinity). Throws BrokenAnswer, which calls it `what`.
[[nodiscard]] inline float float_of(const boost::json::value* value, std::string_view what) {
    if (value != nullptr && value->is_double()) {
        return static_cast<float>(value->get_double());
    }
    if (value != nullptr && value->is_int64()) {
        return static_cast<float>(value->get_int64());
    }
    if (value != nullptr && value->is_uint64()) {
        return static_cast<float>(value->get_uint64());
    }
    if (value != nullptr && value->is_null()) {
        return std::numeric_limits<float>::quiet_NaN();
    }
    throw BrokenAnswer("the answer has " + std::string(what) + " that is no number");
}

/// The `index` that a row has, or its place if it has none. Throws BrokenAnswer if it is not below `count`.
[[nodiscard]] inline std::size_t index_of(const boost::json::value& row, std::size_t place, std::size_t count) {
    const boost::json::value* const index = member_of(row, "index");
    if (index == nullptr) {
        return place;
    }
    // Boost.JSON makes an int64 of every number that fits.
    if (!index->is_int64() || index->get_int64() < 0 || static_cast<std::uint64_t>(index->get_int64()) >= count) {
        throw BrokenAnswer("the answer has an index that none of the " + std::to_string(count) + " texts has");
    }
    return static_cast<std::size_t>(index->get_int64());
}

/// Appends `text` as it stands inside a string in JSON. That is UTF-8: a byte that is not becomes U+FFFD.
inline void append_escaped(std::string& json, std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::size_t plain = 0;  // Where what needs no escape begins.
    for (std::size_t at = 0; at < text.size();) {
        const auto byte = static_cast<unsigned char>(text[at]);
        const bool is_escaped = byte < 0x20 || text[at] == '"' || text[at] == '\\';
        const std::size_t size = byte < 0x80 ? 1 : utf8_length(text.substr(at));
        if (size != 0 && !is_escaped) {
            at += size;
            continue;
        }
        json += text.substr(plain, at - plain);
        plain = ++at;
        if (size == 0) {
            json += "\\ufffd";
        } else if (byte >= 0x20) {
            json += '\\';
            json += static_cast<char>(byte);
        } else {
            json += "\\u00";
            json += digits[byte >> 4U];
            json += digits[byte & 0xfU];
        }
    }
    json += text.substr(plain);
}
/// Appends `text` as a string in JSON.
inline void append_string(std::string& json, std::string_view text) {
    json += '"';
    append_escaped(json, text);
    json += '"';
}
/// Appends a list of strings, each with `prefix` before it.
inline void append_strings(std::string& json, std::span<const std::string> texts, std::string_view prefix = {}) {
    json += '[';
    for (const std::string& text : texts) {
        json += json.back() == '[' ? "\"" : ",\"";
        append_escaped(json, prefix);
        append_escaped(json, text);
        json += '"';
    }
    json += ']';
}

/// What an answer that is an error says: its message, or its body. Sets `has_error` if it is JSON with an error in it.
[[nodiscard]] inline std::string words_of(const Answer& answer, bool& has_error) {
    has_error = false;
    try {
        const Json json(answer.body);
        const boost::json::value* found = nullptr;
        for (const std::string_view name : {"error", "message", "detail"}) {
            if (const boost::json::value* const value = member_of(json.root(), name); value != nullptr && !found) {
                const boost::json::value* const inner = member_of(*value, "message");
                found = inner != nullptr ? inner : value;
            }
        }
        has_error = found != nullptr;
        if (found != nullptr && found->is_string()) {
            return std::string(found->get_string().data(), found->get_string().size());
        }
        // Written anew, each character has one form, in which a secret is found: some engines escape a `/`.
        if (answer.body.find('\\') != std::string::npos) {
            return boost::json::serialize(json.root());
        }
    } catch (const BrokenAnswer&) {  // NOLINT(bugprone-empty-catch): then it is the body
    }
    return answer.body;
}

}  // namespace residency::detail::remote
