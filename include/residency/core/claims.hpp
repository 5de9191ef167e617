#pragma once

#include "residency/core/slab.hpp"
#include "residency/core/time.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace residency::core {

/// A key that keeps its turn although its last waiter timed out.
struct Claim {
    /// The request that timed out.
    Index request = none;
    /// Until when.
    Time until = never;

    /// Same in both.
    friend bool operator==(const Claim&, const Claim&) = default;
};

/// The claims of a slot, in the order in which they end (H1). A plain value.
class Claims {
public:
    /// How many there may be.
    static constexpr std::size_t most = 256;

    /// Makes room for so many, as far as there may be. Throws bad_alloc; then nothing has changed.
    void reserve(std::size_t count) {
        if (const std::size_t claims = (std::min)(most, count); claims_.capacity() < claims) {
            claims_.reserve((std::min)(most, (std::max)(claims, claims_.capacity() * 2)));
        }
    }
    /// Adds one, for which there is room. Precondition: no other ends later.
    void add(Index request, Time until) noexcept { claims_.push_back({request, until}); }
    /// Takes out that of the request; precondition: it has one.
    void erase(Index request) noexcept {
        claims_.erase(
            std::find_if(claims_.begin(), claims_.end(), [&](const Claim& claim) { return claim.request == request; }));
    }

    /// How many there are.
    [[nodiscard]] std::size_t size() const noexcept { return claims_.size(); }
    /// Whether there is none.
    [[nodiscard]] bool empty() const noexcept { return claims_.empty(); }
    /// All of them.
    [[nodiscard]] const std::vector<Claim>& all() const noexcept { return claims_; }
    /// The one that ends first; precondition: there is one.
    [[nodiscard]] const Claim& front() const noexcept { return claims_.front(); }

    /// Same in every part.
    friend bool operator==(const Claims&, const Claims&) = default;

private:
    std::vector<Claim> claims_{};
};

}  // namespace residency::core
