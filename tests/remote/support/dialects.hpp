#pragma once

// Answers as engines give them, for the peers of tests.

#include <boost/json.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace residency::test {

/// The vector of a text: its length, its first byte, 0.5.
inline std::vector<float> row_of(std::string_view text) {
    return {static_cast<float>(text.size()), text.empty() ? 0.0F : static_cast<float>(text.front()), 0.5F};
}

/// The floats in base64.
inline std::string base64_of(const std::vector<float>& floats) {
    constexpr std::string_view characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<std::uint8_t> bytes;
    for (const float value : floats) {
        const auto bits = std::bit_cast<std::uint32_t>(value);
        for (unsigned shift = 0; shift < 32; shift += 8) {
            bytes.push_back(static_cast<std::uint8_t>(bits >> shift));
        }
    }
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const auto byte = [&](std::size_t index) { return std::uint32_t{index < bytes.size() ? bytes[index] : 0U}; };
        const std::uint32_t three = byte(at) << 16U | byte(at + 1) << 8U | byte(at + 2);
        for (unsigned place = 0; place < 4; ++place) {
            text += at + place > bytes.size() ? '=' : characters[three >> (18U - 6U * place) & 63U];
        }
    }
    return text;
}

/// The strings in the list `name` of a request.
inline std::vector<std::string> texts_in(const std::string& body, const char* name) {
    std::vector<std::string> texts;
    const boost::json::value request = boost::json::parse(body);
    for (const auto& text : request.at(name).as_array()) {
        texts.emplace_back(text.as_string());
    }
    return texts;
}

/// The whole body of an answer of OpenAI's form to these texts, the last one first.
inline std::string openai_answer(const std::vector<std::string>& texts, bool base64) {
    boost::json::array data;
    for (std::size_t index = texts.size(); index-- > 0;) {
        boost::json::object row{{"object", "embedding"}, {"index", index}};
        if (base64) {
            row["embedding"] = base64_of(row_of(texts[index]));
        } else {
            boost::json::array numbers;
            for (const float value : row_of(texts[index])) {
                numbers.emplace_back(value);
            }
            row["embedding"] = std::move(numbers);
        }
        data.emplace_back(std::move(row));
    }
    return boost::json::serialize(boost::json::object{{"object", "list"}, {"data", std::move(data)}});
}

/// The same to the body of a request, in the form that it asks for.
inline std::string openai_answer_to(const std::string& request) {
    return openai_answer(texts_in(request, "input"), request.find("base64") != std::string::npos);
}

}  // namespace residency::test
