#pragma once

#include "residency/compiler.hpp"

#include <compare>
#include <cstdint>
#include <ostream>
#include <string>

namespace residency {

/// A value of a slot's generation counter.
///
/// The counter is raised when a model becomes usable and again when it stops being so. The number it has when a load
/// finished is that residency's own, for ever; no number is used twice. Two equal readings of a slot's counter mean
/// that no residency began or ended between them.
class Generation {
public:
    /// No generation: what a slot's counter shows before its first model was ready.
    constexpr Generation() = default;
    /// The generation with this number.
    constexpr explicit Generation(std::uint64_t value) noexcept : value_(value) {}

    /// The number.
    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

    /// Same number, same residency.
    friend constexpr bool operator==(Generation, Generation) = default;
    /// Earlier generations are less.
    friend constexpr auto operator<=>(Generation, Generation) = default;

    /// Prints the number.
    friend std::ostream& operator<<(std::ostream& out, Generation generation) {
        return out << std::to_string(generation.value_);
    }

private:
    std::uint64_t value_ = 0;
};

}  // namespace residency
