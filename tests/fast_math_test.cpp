// Compiled with -O2 -ffast-math, with which a compiler takes it for granted that no number is a NaN: the checks must be
// there all the same.

#include "residency/backends/lexical.hpp"
#include "residency/event.hpp"
#include "residency/not_a_number.hpp"
#include "residency/ranking.hpp"

#include "support/bench.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#ifndef __FAST_MATH__
#error "this test says something only with -ffast-math"
#endif

namespace residency::test {

namespace {

// From bits: with -ffast-math an expression is no NaN.
template <class Number, class Bits>
std::vector<Number> numbers_of(const std::vector<Bits>& bits) {
    std::vector<Number> numbers;
    for (const Bits pattern : bits) {
        numbers.push_back(std::bit_cast<Number>(pattern));
    }
    return numbers;
}

const ModelKey a("a");

constexpr std::uint32_t quiet = 0x7fc00000U;
constexpr std::uint32_t zero = 0;

struct NanEmbedder {
    [[nodiscard]] Embeddings embed(std::span<const std::string> texts) const {
        Embeddings rows(texts.size(), 2);
        rows[texts.size() - 1][1] = std::bit_cast<float>(quiet);
        return rows;
    }
};
struct NanReranker {
    [[nodiscard]] std::vector<float> rerank(std::string_view, std::span<const std::string> documents) const {
        std::vector<float> scores(documents.size());
        scores.back() = std::bit_cast<float>(quiet);
        return scores;
    }
};
template <class Model>
struct NanBackend {
    using model_type = Model;
    [[nodiscard]] std::unique_ptr<Model> load(const ModelKey&, LoadContext& context) const {
        context.progress(std::bit_cast<float>(quiet));
        context.progress(0.5F);
        return std::make_unique<Model>();
    }
};

template <class Make>
bool is_refused(const Make& make) {
    try {
        make();
        return false;
    } catch (const std::invalid_argument&) {
        return true;
    }
}

TEST_CASE("Fast math: every NaN is one, and nothing else is") {
    for (const float& value : numbers_of<float>(std::vector{quiet, 0xffc00000U, 0x7f800001U, 0xffffffffU})) {
        CHECK(detail::is_nan(value));
    }
    // Zeros, ones, the largest, the smallest, infinities.
    for (const float& value : numbers_of<float>(std::vector{0U, 0x80000000U, 0x3f800000U, 0xbf800000U, 0x7f7fffffU,
                                                            0xff7fffffU, 1U, 0x7f800000U, 0xff800000U})) {
        CHECK_FALSE(detail::is_nan(value));
    }
    using Bits = std::vector<std::uint64_t>;
    for (const double& value :
         numbers_of<double>(Bits{0x7ff8000000000000U, 0xfff8000000000000U, 0x7ff0000000000001U})) {
        CHECK(detail::is_nan(value));
    }
    for (const double& value : numbers_of<double>(Bits{0, 0x8000000000000000U, 0x3ff0000000000000U, 0x7fefffffffffffffU,
                                                       0x7ff0000000000000U, 0xfff0000000000000U})) {
        CHECK_FALSE(detail::is_nan(value));
    }
}

TEST_CASE("Fast math: a NaN of a model is a bad result, and one in the progress of a load is passed over") {
    Bench bench;
    ManagerOptions options;
    options.observer = bench.events.observer();
    ModelManager<NanBackend<NanEmbedder>, NanBackend<NanReranker>, VirtualClock> models({}, {}, options,
                                                                                        bench.executors());
    Outcome<Embeddings> embedded;
    Outcome<Ranking> ranked;
    models.async_embed(a, {"one", "two"}, embedded.handler());
    models.async_rerank(a, "query", {"one", "two", "three"}, ranked.handler());
    bench.run();
    CHECK(embedded.code() == errc::bad_result);
    CHECK(embedded.error().detail() == "the model gave a NaN in its row");
    CHECK(embedded.error().text_index() == std::size_t{1});
    CHECK(ranked.code() == errc::bad_result);
    CHECK(ranked.error().detail() == "the model gave a NaN as its score");
    CHECK(ranked.error().text_index() == std::size_t{2});
    const std::vector<Event> progress = bench.events.all(EventType::load_progress);
    REQUIRE(progress.size() == 2);
    CHECK(progress[0].progress == 0.5F);
    CHECK(progress[1].progress == 0.5F);

    bench.check_ends_clean(models);
}

TEST_CASE("Fast math: the fakes' NaN is one") {
    ManagerBench bench;
    bench.world->spoil_next(FakeFault::nan, a, 2);
    Outcome<Embeddings> embedded;
    Outcome<Ranking> ranked;
    bench.manager->async_embed(a, {"text"}, embedded.handler());
    bench.manager->async_rerank(a, "query", {"text"}, ranked.handler());
    bench.run();
    CHECK(embedded.code() == errc::bad_result);
    CHECK(ranked.code() == errc::bad_result);
    bench.check_end();
}

TEST_CASE("Fast math: a NaN ranks last, and the rest in order") {
    constexpr std::uint32_t one = 0x3f800000U;
    constexpr std::uint32_t two = 0x40000000U;
    const std::vector<float> scores = numbers_of<float>(std::vector{quiet, one, quiet, two, zero, 0xffc00000U, one});
    const Ranking ranking = rank(scores);
    std::vector<std::size_t> order;
    for (const RankedDocument& document : ranking) {
        order.push_back(document.index);
    }
    CHECK(order == std::vector<std::size_t>{3, 1, 6, 4, 0, 2, 5});
}

TEST_CASE("Fast math: an event whose progress is a NaN prints 0 %") {
    std::ostringstream out;
    Event event;
    event.type = EventType::load_progress;
    event.progress = std::bit_cast<float>(quiet);
    out << event;
    CHECK(out.str() == "load_progress 0 %");
}

TEST_CASE("Fast math: the lexical reranker's options refuse a NaN") {
    const auto nan = std::bit_cast<double>(std::uint64_t{0x7ff8000000000000U});
    CHECK(is_refused([&] { (void)LexicalRerankerBackend({.k1 = nan}); }));
    CHECK(is_refused([&] { (void)LexicalRerankerBackend({.b = nan}); }));
    CHECK_FALSE(is_refused([] { (void)LexicalRerankerBackend({.k1 = 1.5}); }));
}

}  // namespace

}  // namespace residency::test
