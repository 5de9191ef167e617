#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

namespace residency::simulation {

/// Every decision of a simulation, drawn from a seed or replayed from a list. Whatever is drawn is kept, so that a list
/// of numbers says all that happened; a shorter list, or one with smaller numbers, is a simpler simulation.
class Choices {
public:
    /// Draws from `seed`: the same numbers with every compiler and standard library.
    explicit Choices(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
    /// Replays `list`; after its end every choice is the plainest, 0.
    explicit Choices(std::vector<std::uint32_t> list) : replayed_(true), list_(std::move(list)) {}

    /// One of `limit` alternatives; 0 is the plainest.
    std::uint32_t below(std::uint32_t limit) {
        std::uint32_t choice = 0;
        if (!replayed_) {
            choice = static_cast<std::uint32_t>(((next() >> 32U) * limit) >> 32U);
        } else if (taken_.size() < list_.size()) {
            choice = list_[taken_.size()] % limit;
        }
        taken_.push_back(choice);
        if (taken_.size() < mirror_.size()) {
            mirror_[0] = static_cast<std::uint32_t>(taken_.size());
            mirror_[taken_.size()] = choice;
        }
        return choice;
    }
    /// Whether it happens, once in `times`; plainest is that it does not.
    bool once_in(std::uint32_t times) { return below(times) + 1 == times; }
    /// An index into `weights`, as often as they say; the first is the plainest.
    std::size_t weighted(std::initializer_list<std::uint32_t> weights) {
        std::uint32_t sum = 0;
        for (const std::uint32_t weight : weights) {
            sum += weight;
        }
        std::uint32_t choice = below(sum);
        std::size_t index = 0;
        for (const std::uint32_t weight : weights) {
            if (choice < weight) {
                return index;
            }
            choice -= weight;
            ++index;
        }
        return 0;
    }

    /// Also writes what is chosen to `mirror`, after their number, so that they are known when this process has
    /// crashed.
    void mirror_in(std::span<std::uint32_t> mirror) noexcept { mirror_ = mirror; }

    /// What was chosen.
    [[nodiscard]] const std::vector<std::uint32_t>& taken() const noexcept { return taken_; }

private:
    // splitmix64.
    std::uint64_t next() noexcept {
        state_ += 0x9e3779b97f4a7c15ULL;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9ULL;
        mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebULL;
        return mixed ^ (mixed >> 31U);
    }

    bool replayed_ = false;
    std::uint64_t state_ = 0;
    std::vector<std::uint32_t> list_;
    std::vector<std::uint32_t> taken_;
    std::span<std::uint32_t> mirror_;
};

}  // namespace residency::simulation
