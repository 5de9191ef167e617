#pragma once

#include "residency/compiler.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace residency::detail::openvino {

/// A JSON value, as the small files beside a model hold them. Any number of threads may read one.
class Json {
public:
    /// `null`.
    Json() noexcept : value_() {}

    /// The value that `text` is; none if it is not JSON, or nested more than 64 deep.
    [[nodiscard]] static std::optional<Json> parse(std::string_view text);

    /// The member `key` of an object, the last one if there are several; null if there is none.
    [[nodiscard]] const Json* find(std::string_view key) const noexcept {
        const auto* const object = std::get_if<Object>(&value_);
        for (std::size_t index = object != nullptr ? object->size() : 0; index > 0; --index) {
            if ((*object)[index - 1].first == key) {
                return &(*object)[index - 1].second;
            }
        }
        return nullptr;
    }

    /// The elements of an array; none if it is not an array.
    [[nodiscard]] std::span<const Json> elements() const noexcept {
        const auto* const array = std::get_if<Array>(&value_);
        return array != nullptr ? std::span<const Json>(*array) : std::span<const Json>();
    }

    /// The string; null if it is not one.
    [[nodiscard]] const std::string* string() const noexcept { return std::get_if<std::string>(&value_); }

    /// The number; none if it is not one.
    [[nodiscard]] std::optional<double> number() const noexcept {
        const auto* const number = std::get_if<double>(&value_);
        return number != nullptr ? std::optional<double>(*number) : std::nullopt;
    }

    /// Whether it is `true`.
    [[nodiscard]] bool is_true() const noexcept {
        const auto* const flag = std::get_if<bool>(&value_);
        return flag != nullptr && *flag;
    }

private:
    friend class JsonReader;
    using Array = std::vector<Json>;
    using Object = std::vector<std::pair<std::string, Json>>;

    std::variant<std::monostate, bool, double, std::string, Array, Object> value_;
};

/// Takes a JSON value off the front of a text.
class JsonReader {
public:
    explicit JsonReader(std::string_view text) noexcept : rest_(text) {}

    /// Whether the whole text is one value, which is put into `to`.
    bool whole(Json& to) {
        if (!value(to, 0)) {
            return false;
        }
        space();
        return rest_.empty();
    }

private:
    // Each is false where the text is not JSON.
    void space() noexcept {
        const std::size_t at = rest_.find_first_not_of(" \t\r\n");
        rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at);
    }

    bool take(std::string_view word) noexcept {
        const bool found = rest_.starts_with(word);
        rest_.remove_prefix(found ? word.size() : 0);
        return found;
    }

    bool value(Json& to, int depth) {
        constexpr int deepest = 64;
        space();
        if (depth > deepest || rest_.empty()) {
            return false;
        }
        switch (rest_.front()) {
            case '{': return object(to, depth);
            case '[': return array(to, depth);
            case '"': return string(to.value_.emplace<std::string>());
            default: break;
        }
        if (take("null")) {
            return true;
        }
        if (take("true")) {
            to.value_ = true;
            return true;
        }
        if (take("false")) {
            to.value_ = false;
            return true;
        }
        return number(to.value_.emplace<double>());
    }

    bool object(Json& to, int depth) {
        auto& members = to.value_.emplace<Json::Object>();
        rest_.remove_prefix(1);
        space();
        if (take("}")) {
            return true;
        }
        for (;;) {
            auto& member = members.emplace_back();
            space();
            if (!rest_.starts_with('"') || !string(member.first)) {
                return false;
            }
            space();
            if (!take(":") || !value(member.second, depth + 1)) {
                return false;
            }
            space();
            if (take("}")) {
                return true;
            }
            if (!take(",")) {
                return false;
            }
        }
    }

    bool array(Json& to, int depth) {
        auto& elements = to.value_.emplace<Json::Array>();
        rest_.remove_prefix(1);
        space();
        if (take("]")) {
            return true;
        }
        for (;;) {
            if (!value(elements.emplace_back(), depth + 1)) {
                return false;
            }
            space();
            if (take("]")) {
                return true;
            }
            if (!take(",")) {
                return false;
            }
        }
    }

    bool string(std::string& to) {
        rest_.remove_prefix(1);
        for (;;) {
            const std::size_t end = rest_.find_first_of("\"\\");
            if (end == std::string_view::npos) {
                return false;
            }
            to += rest_.substr(0, end);
            const bool closes = rest_[end] == '"';
            rest_.remove_prefix(end + 1);
            if (closes) {
                return true;
            }
            if (!escaped(to)) {
                return false;
            }
        }
    }

    bool escaped(std::string& to) {
        constexpr std::string_view names = "\"\\/bfnrt";
        constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
        if (take("u")) {
            return code_point(to);
        }
        const std::size_t at = rest_.empty() ? std::string_view::npos : names.find(rest_.front());
        if (at == std::string_view::npos) {
            return false;
        }
        to += meanings[at];
        rest_.remove_prefix(1);
        return true;
    }

    std::optional<std::uint32_t> four_digits() noexcept {
        if (rest_.size() < 4) {
            return {};
        }
        std::uint32_t code = 0;
        for (const char each : rest_.substr(0, 4)) {
            constexpr std::string_view digits = "0123456789abcdefABCDEF";
            const std::size_t at = digits.find(each);
            if (at == std::string_view::npos) {
                return {};
            }
            code = code * 16 + static_cast<std::uint32_t>(at < 16 ? at : at - 6);
        }
        rest_.remove_prefix(4);
        return code;
    }

    bool code_point(std::string& to) {
        std::optional<std::uint32_t> code = four_digits();
        if (!code) {
            return false;
        }
        if (*code >= 0xD800 && *code < 0xDC00) {
            const auto low = take("\\u") ? four_digits() : std::nullopt;
            if (!low || *low < 0xDC00 || *low > 0xDFFF) {
                return false;
            }
            code = 0x10000 + ((*code - 0xD800) << 10U) + (*low - 0xDC00);
        }
        const auto put = [&to](std::uint32_t byte) { to += static_cast<char>(static_cast<unsigned char>(byte)); };
        if (*code < 0x80) {
            put(*code);
        } else if (*code < 0x800) {
            put(0xC0U | (*code >> 6U));
            put(0x80U | (*code & 0x3FU));
        } else {
            if (*code < 0x10000) {
                put(0xE0U | (*code >> 12U));
            } else {
                put(0xF0U | (*code >> 18U));
                put(0x80U | ((*code >> 12U) & 0x3FU));
            }
            put(0x80U | ((*code >> 6U) & 0x3FU));
            put(0x80U | (*code & 0x3FU));
        }
        return true;
    }

    // The digits at the front, counted.
    std::size_t digits(double& to) noexcept {
        std::size_t count = 0;
        for (; count < rest_.size() && rest_[count] >= '0' && rest_[count] <= '9'; ++count) {
            to = to * 10.0 + static_cast<double>(rest_[count] - '0');
        }
        rest_.remove_prefix(count);
        return count;
    }

    // By hand: the functions of the C library look at the process's locale.
    bool number(double& to) noexcept {
        const double sign = take("-") ? -1.0 : 1.0;
        to = 0.0;
        if (digits(to) == 0) {
            return false;
        }
        double exponent = 0.0;
        if (take(".")) {
            const std::size_t count = digits(to);
            if (count == 0) {
                return false;
            }
            exponent = -static_cast<double>(count);
        }
        if (take("e") || take("E")) {
            const double direction = take("-") ? -1.0 : 1.0;
            static_cast<void>(direction > 0.0 && take("+"));
            double more = 0.0;
            if (digits(more) == 0) {
                return false;
            }
            exponent += direction * more;
        }
        // Zero times infinity would be no number.
        to *= to == 0.0 ? sign : sign * std::pow(10.0, exponent);
        return true;
    }

    std::string_view rest_;
};

inline std::optional<Json> Json::parse(std::string_view text) {
    Json value;
    return JsonReader(text).whole(value) ? std::optional<Json>(std::move(value)) : std::nullopt;
}

}  // namespace residency::detail::openvino
