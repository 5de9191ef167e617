#pragma once

// What every history that is made of bytes has: the bytes that are left, and a trace of what they say.

#include "residency/model_key.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace residency::test {

/// Reads the bytes one after the other. The trace may be null.
class HistoryBytes {
protected:
    HistoryBytes(const std::uint8_t* bytes, std::size_t size, std::ostream* trace)
        : next_(bytes), end_(bytes + size), trace_(trace) {}

    [[nodiscard]] bool at_end() const noexcept { return next_ == end_; }
    // The next byte; 0 past the end.
    std::uint8_t byte() noexcept { return at_end() ? std::uint8_t{0} : *next_++; }
    std::size_t below(std::size_t count) noexcept { return byte() % count; }
    template <class Item, std::size_t Count>
    Item one_of(const std::array<Item, Count>& items) noexcept {
        return items[below(Count)];
    }

    // One to `most` keys, named in the order of the alphabet.
    std::vector<ModelKey> read_keys(std::size_t most) {
        std::vector<ModelKey> keys;
        const std::size_t count = 1 + below(most);
        for (std::size_t key = 0; key < count; ++key) {
            keys.emplace_back(std::string(1, static_cast<char>('a' + key)));
        }
        return keys;
    }

    // Adds a line to the trace.
    template <class... Parts>
    void write(const Parts&... parts) {
        if (trace_ != nullptr) {
            ((*trace_ << parts), ...);
            *trace_ << '\n';
        }
    }

private:
    const std::uint8_t* next_;
    const std::uint8_t* end_;
    std::ostream* trace_;
};

}  // namespace residency::test
