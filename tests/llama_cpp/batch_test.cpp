// Which sequences share a batch.

#include "residency/backends/llama_cpp/batch.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

namespace batch_test {

using namespace residency::detail::llama_cpp;

namespace {

std::vector<Tokens> sequences_of(const std::vector<std::size_t>& lengths) {
    std::vector<Tokens> sequences;
    for (const std::size_t length : lengths) {
        sequences.emplace_back(length, llama_token{1});
    }
    return sequences;
}

}  // namespace

TEST_CASE("no sequences make no batch") {
    const BatchPlan plan = plan_batches({}, 16, 4);
    CHECK(plan.order.empty());
    CHECK(plan.ends.empty());
}

TEST_CASE("batches are filled longest first, and a sequence that is longer than a batch has one to itself") {
    const auto sequences = sequences_of({3, 40, 5, 16, 7});
    const BatchPlan plan = plan_batches(sequences, 16, 4);
    CHECK(plan.order == std::vector<std::size_t>{1, 3, 4, 2, 0});
    CHECK(plan.ends == std::vector<std::size_t>{1, 2, 5});
}

TEST_CASE("batches come out even, where filling them up would leave a small one") {
    CHECK(plan_batches(sequences_of(std::vector<std::size_t>(24, 12)), 256, 256).ends ==
          std::vector<std::size_t>{12, 24});
    CHECK(plan_batches(sequences_of(std::vector<std::size_t>(21, 12)), 256, 256).ends == std::vector<std::size_t>{21});
    CHECK(plan_batches(sequences_of(std::vector<std::size_t>(96, 12)), 256, 256).ends ==
          std::vector<std::size_t>{20, 40, 60, 80, 96});
}

TEST_CASE("whatever the lengths: each sequence once, no batch over a limit that could keep it") {
    std::mt19937 random(7);
    for (int round = 0; round < 200; ++round) {
        std::vector<std::size_t> lengths(random() % 60);
        for (std::size_t& length : lengths) {
            length = 1 + random() % 40;
        }
        const auto sequences = sequences_of(lengths);
        const BatchPlan plan = plan_batches(sequences, 32, 5);
        std::vector<std::size_t> sorted = plan.order;
        std::sort(sorted.begin(), sorted.end());
        for (std::size_t index = 0; index < sorted.size(); ++index) {
            REQUIRE(sorted[index] == index);
        }
        REQUIRE(sorted.size() == lengths.size());
        std::size_t begin = 0;
        for (const std::size_t end : plan.ends) {
            REQUIRE(end > begin);
            std::size_t tokens = 0;
            for (std::size_t at = begin; at < end; ++at) {
                tokens += lengths[plan.order[at]];
            }
            REQUIRE((tokens <= 32 || end - begin == 1));
            REQUIRE(end - begin <= 5);
            begin = end;
        }
        REQUIRE(begin == lengths.size());
    }
}

TEST_CASE("a batch shows llama.cpp its sequences one after the other") {
    Batch batch;
    batch.add(Tokens{5, 6, 7});
    batch.add(Tokens{8});
    const llama_batch view = batch.view();
    REQUIRE(view.n_tokens == 4);
    CHECK(Tokens(view.token, view.token + 4) == Tokens{5, 6, 7, 8});
    CHECK(std::vector<llama_pos>(view.pos, view.pos + 4) == std::vector<llama_pos>{0, 1, 2, 0});
    for (int index = 0; index < 4; ++index) {
        CHECK(view.n_seq_id[index] == 1);
        CHECK(view.seq_id[index][0] == (index == 3 ? 1 : 0));
    }
    batch.clear();
    CHECK(batch.tokens() == 0);
    CHECK(batch.sequences() == 0);
}

}  // namespace batch_test
