// A small program of a consumer.

#include <residency/ranking.hpp>

#include <vector>

int main() {
    const std::vector<float> scores{0.25F, 0.75F, 0.5F};
    const residency::Ranking ranking = residency::rank(scores);
    return ranking.front().index == 1 && ranking.back().index == 0 ? 0 : 1;
}
