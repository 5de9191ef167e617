#pragma once

#include "residency/compiler.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

namespace residency::detail {

/// Which requests were lately found to make a model call fail, as hashes of their keys and texts. A client that asks
/// for the same again would fail every call that it shares: a known one has a call of its own at once, until that
/// succeeds. Another request of the same hash loses no more than company. All functions may be called from any thread.
class KnownFaults {
public:
    /// How many are known at most; a newer one takes the place of the oldest.
    static constexpr std::size_t most = 16;

    /// Whether any is known.
    [[nodiscard]] bool any() const noexcept {
        return std::any_of(hashes_.begin(), hashes_.end(), [](const Hash& each) { return each.load(relaxed) != none; });
    }
    /// Whether this one is.
    [[nodiscard]] bool contains(std::size_t hash) const noexcept {
        return hash != none && std::any_of(hashes_.begin(), hashes_.end(),
                                           [hash](const Hash& each) { return each.load(relaxed) == hash; });
    }
    /// It is from now on.
    void add(std::size_t hash) noexcept {
        if (!contains(hash)) {
            hashes_[next_.fetch_add(1, relaxed) % most].store(hash, relaxed);
        }
    }
    /// It is not any more.
    void remove(std::size_t hash) noexcept {
        for (Hash& each : hashes_) {
            std::size_t expected = hash;
            each.compare_exchange_strong(expected, none, relaxed);
        }
    }

private:
    using Hash = std::atomic<std::size_t>;
    // Nothing is read because of a hash that another thread has written.
    static constexpr std::memory_order relaxed = std::memory_order_relaxed;
    // A request of this hash is never known.
    static constexpr std::size_t none = 0;

    std::array<Hash, most> hashes_{};
    std::atomic<std::size_t> next_{0};
};

}  // namespace residency::detail
