#pragma once

#include "search/passages.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace search {

/// A passage that may be a result.
struct Candidate {
    /// The cosine of its vector and the query's.
    float similarity = 0.0F;
    /// The index of its file.
    std::size_t file = 0;
    Passage passage{};
};

/// The cosine of two vectors of length 1.
inline float cosine(std::span<const float> left, std::span<const float> right) {
    float sum = 0.0F;
    for (std::size_t index = 0; index < left.size(); ++index) {
        sum += left[index] * right[index];
    }
    return sum;
}

/// Keeps the nearest passages of those that it is shown, in room for that many. Which they are does not depend on the
/// order in which they were shown: of equally near ones the earlier file wins, then the earlier passage.
class Nearest {
public:
    explicit Nearest(std::size_t room) : room_(room) {}

    /// Takes the candidate if it is among the nearest so far. One that has nothing in common with the query never is.
    void show(Candidate&& candidate) {
        if (candidate.similarity <= 0.0F) {
            return;
        }
        if (heap_.size() < room_) {
            heap_.push_back(std::move(candidate));
            std::push_heap(heap_.begin(), heap_.end(), before);
        } else if (before(candidate, heap_.front())) {
            std::pop_heap(heap_.begin(), heap_.end(), before);
            heap_.back() = std::move(candidate);
            std::push_heap(heap_.begin(), heap_.end(), before);
        }
    }

    /// Shows it all that `other` has.
    void merge(Nearest&& other) {
        for (Candidate& candidate : other.heap_) {
            show(std::move(candidate));
        }
    }

    /// The candidates, nearest first.
    std::vector<Candidate> take() && {
        std::sort_heap(heap_.begin(), heap_.end(), before);
        return std::move(heap_);
    }

private:
    static bool before(const Candidate& left, const Candidate& right) {
        return std::tuple(-left.similarity, left.file, left.passage.number) <
               std::tuple(-right.similarity, right.file, right.passage.number);
    }

    std::size_t room_;
    // The last of them in front.
    std::vector<Candidate> heap_;
};

}  // namespace search
