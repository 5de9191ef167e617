#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace residency::test {

// An ONNX file by hand: a model that looks each token up in a table. The numbers of fields and types are those of
// onnx.proto3.

/// A message of protobuf, field by field.
class Message {
public:
    Message& number(unsigned field, std::uint64_t value) {
        varint(std::uint64_t{field} << 3U);
        varint(value);
        return *this;
    }
    Message& bytes(unsigned field, std::string_view value) {
        varint((std::uint64_t{field} << 3U) | 2U);
        varint(value.size());
        bytes_ += value;
        return *this;
    }
    Message& message(unsigned field, const Message& value) { return bytes(field, value.bytes_); }

    [[nodiscard]] const std::string& text() const noexcept { return bytes_; }

private:
    void varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7U) {
            bytes_ += static_cast<char>((value & 0x7FU) | 0x80U);
        }
        bytes_ += static_cast<char>(value);
    }

    std::string bytes_{};
};

/// The file `model.onnx` of a model that takes `input_ids` and `attention_mask`, any number of texts of any length, and
/// gives as `last_hidden_state` of each token its row in `table`, which has `width` columns.
inline std::string table_as_onnx(std::span<const float> table, std::size_t width) {
    static_assert(std::endian::native == std::endian::little, "the table's bytes are those of the file");
    constexpr std::uint64_t of_float = 1;
    constexpr std::uint64_t of_int64 = 7;
    const auto texts_by_tokens = [] {
        return Message().message(1, Message().bytes(2, "texts")).message(1, Message().bytes(2, "tokens"));
    };
    const auto value = [](std::string_view name, std::uint64_t type, const Message& shape) {
        return Message().bytes(1, name).message(2, Message().message(1, Message().number(1, type).message(2, shape)));
    };
    const std::string_view raw(reinterpret_cast<const char*>(table.data()), table.size_bytes());
    const Message tensor =
        Message().number(1, table.size() / width).number(1, width).number(2, of_float).bytes(8, "table").bytes(9, raw);
    const Message gather =
        Message().bytes(1, "table").bytes(1, "input_ids").bytes(2, "last_hidden_state").bytes(4, "Gather");
    const Message graph = Message()
                              .message(1, gather)
                              .bytes(2, "lookup")
                              .message(5, tensor)
                              .message(11, value("input_ids", of_int64, texts_by_tokens()))
                              .message(11, value("attention_mask", of_int64, texts_by_tokens()))
                              .message(12, value("last_hidden_state", of_float,
                                                 texts_by_tokens().message(1, Message().number(1, width))));
    return Message().number(1, 8).message(7, graph).message(8, Message().number(2, 13)).text();
}

}  // namespace residency::test
