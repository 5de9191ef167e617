#pragma once

#include "residency/batch_limits.hpp"
#include "residency/core/slab.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace residency::core {

/// The texts of one request in the order in which it is cut into parts: shortest first, so that texts of a part need
/// about the same time, and those of one length keep their order. A plain value.
class TextLengths {
public:
    /// Throws bad_alloc. Precondition: together they have fewer than 2^32 bytes.
    explicit TextLengths(std::span<const std::string> texts) : order_(texts.size()), ends_(texts.size()) {
        // Not std::iota: <numeric> does not stand a host's macros min and max.
        for (std::size_t place = 0; place < order_.size(); ++place) {
            order_[place] = static_cast<Index>(place);
        }
        std::sort(order_.begin(), order_.end(), [&](Index left, Index right) {
            return texts[left].size() != texts[right].size() ? texts[left].size() < texts[right].size() : left < right;
        });
        Index sum = 0;
        for (std::size_t place = 0; place < order_.size(); ++place) {
            ends_[place] = sum += static_cast<Index>(texts[order_[place]].size());
        }
    }

    /// Which text is at this place.
    [[nodiscard]] Index operator[](std::size_t place) const noexcept { return order_[place]; }
    /// How many bytes the texts have from place `first` to before `end`.
    [[nodiscard]] Index bytes(std::size_t first, std::size_t end) const noexcept { return up_to(end) - up_to(first); }
    /// How many texts from place `first` on fit one call; one if even the first does not. Precondition: there is one.
    [[nodiscard]] Index fitting(std::size_t first, const BatchLimits& limits) const noexcept {
        const std::size_t most = (std::min)(limits.texts, ends_.size() - first);
        const auto begin = ends_.begin() + static_cast<std::ptrdiff_t>(first);
        const std::uint64_t end = std::uint64_t{up_to(first)} + limits.bytes;
        const auto found = std::upper_bound(begin, begin + static_cast<std::ptrdiff_t>(most),
                                            end < limits.bytes ? ~std::uint64_t{0} : end);
        return (std::max)(Index{1}, static_cast<Index>(found - begin));
    }

private:
    [[nodiscard]] Index up_to(std::size_t place) const noexcept { return place == 0 ? 0 : ends_[place - 1]; }

    std::vector<Index> order_;
    // The bytes of all texts up to and with each place.
    std::vector<Index> ends_;
};

}  // namespace residency::core
