// Requests with more texts than fit one call: cut into parts that run beside other requests and beside one another.

#include "support/bench.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bulk_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

using Texts = std::vector<std::string>;

/// As many distinct texts, the longest first.
Texts texts(std::size_t count) {
    Texts all;
    for (std::size_t index = 0; index < count; ++index) {
        all.push_back(std::to_string(index) + std::string(count - index, 'x'));
    }
    return all;
}

/// A manager whose models of key `a` take `limits` a call; the sizes of the calls are noted. Nothing runs but what a
/// test lets run: `step()` ends one call.
struct BulkBench : ManagerBench {
    explicit BulkBench(const BatchLimits& limits = {4}, std::size_t calls = 1, ManagerOptions options = {})
        : ManagerBench(with_calls(options, calls)) {
        for (const ModelKey& key : {a, b}) {
            world->set_batch_limits(key, limits);
        }
        world->on(FakeStep::inference, [this](const FakeCall& call) {
            calls_of.emplace_back(call.texts.begin(), call.texts.end());
            if (hook) {
                hook(call);
            }
        });
        load(a);
    }

    static ManagerOptions with_calls(ManagerOptions options, std::size_t calls) {
        options.embedding.max_calls = options.reranker.max_calls = calls;
        return options;
    }
    void load(const ModelKey& key) {
        manager->embedding().async_ensure_loaded(key, [](const std::exception_ptr&, Generation) {});
        run_ready(control, loading);
    }

    Outcome<Embeddings>& embed(const Texts& wanted, const RequestOptions& options = {}, const ModelKey& key = a) {
        asked.push_back(wanted);
        Outcome<Embeddings>& answer = answers.emplace_back();
        manager->async_embed(key, wanted, options, answer.handler());
        return answer;
    }
    /// Lets the slot decide and load; no call begins.
    void run_control() { run_ready(control, loading); }
    /// Ends one call, and lets the slot decide.
    void step() {
        inference.restart();
        inference.poll_one();
        run_ready(control, loading);
    }
    void check_answer(std::size_t index) {
        REQUIRE(answers[index].calls() == 1);
        REQUIRE_FALSE(answers[index].exception());
        CHECK(testing::answered_by(answers[index].value(), asked[index]) != 0);
    }
    [[nodiscard]] std::vector<std::size_t> sizes() const {
        std::vector<std::size_t> all;
        for (const Texts& call : calls_of) {
            all.push_back(call.size());
        }
        return all;
    }

    std::vector<Texts> calls_of;
    std::function<void(const FakeCall&)> hook;
    std::deque<Outcome<Embeddings>> answers;
    std::vector<Texts> asked;
};

/// Two texts a call. The dimension of its rows is the world's, which `shift` may change after each call.
struct Shifting {
    struct World {
        std::size_t dimension = 2;
        std::atomic<int> loads = 0;
        std::function<void()> shift;
    };
    World* world;

    [[nodiscard]] Embeddings embed(std::span<const std::string> some) const {
        Embeddings rows(some.size(), world->dimension);
        world->shift();
        return rows;
    }
    [[nodiscard]] static BatchLimits batch_limits() { return {2}; }
};

struct ShiftingBackend {
    using model_type = Shifting;
    Shifting::World* world;

    [[nodiscard]] std::unique_ptr<Shifting> load(const ModelKey& /*key*/) const {
        ++world->loads;
        return std::make_unique<Shifting>(Shifting{world});
    }
};

}  // namespace

TEST_CASE("A large request is cut into parts, shortest texts first, and its rows come back in its order",
          "[H26][R14]") {
    BulkBench bench;
    bench.embed(texts(10));
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{4, 4, 2});
    CHECK(bench.calls_of[0][0].size() < bench.calls_of[2][1].size());
    bench.check_answer(0);
    CHECK(bench.manager->status().embedding.counters.texts == 10);
    CHECK(bench.manager->status().embedding.counters.batches == 3);
    bench.check_end();
}

TEST_CASE("Parts are cut by the bytes of their texts; a text that is too long has a part of its own", "[H26]") {
    BulkBench bench({4, 10});
    bench.embed({"123456789012", "1", "22", "333", "4444", "55555"});
    bench.run();
    CHECK(bench.calls_of == std::vector<Texts>{{"1", "22", "333", "4444"}, {"55555"}, {"123456789012"}});
    bench.check_answer(0);
    bench.check_end();
}

TEST_CASE("Parts of a request that is alone run on all calls at once", "[H26]") {
    BulkBench bench({4}, 3);
    bench.embed(texts(20));
    bench.run_control();
    CHECK(bench.manager->status().embedding.leases == 3);
    bench.run();
    bench.check_answer(0);
    CHECK(bench.sizes() == std::vector<std::size_t>{4, 4, 4, 4, 4});
    bench.check_end();
}

TEST_CASE("A request that fits one call is cut evenly over free calls if it is alone in the slot", "[H25][R14]") {
    BulkBench bench({8}, 3);
    bench.embed(texts(7));
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{3, 3, 1});
    bench.check_answer(0);
    // With one that runs it is not.
    bench.calls_of.clear();
    bench.embed({"one"});
    bench.embed(texts(7));
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{1, 7});
    bench.check_answer(2);
    bench.check_end();
}

TEST_CASE("With one call, every second batch is left to other requests", "[H26]") {
    BulkBench bench;
    bench.embed(texts(12));
    for (const char* const text : {"p", "q"}) {
        bench.embed({text});
    }
    bench.step();
    bench.step();
    bench.embed({"r"});
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{4, 2, 4, 1, 4});
    for (std::size_t index = 0; index < bench.answers.size(); ++index) {
        bench.check_answer(index);
    }
    bench.check_end();
}

TEST_CASE("With several calls, one is left to requests that come again and again", "[H26]") {
    BulkBench bench({4}, 2);
    bench.embed({"p"});
    bench.run_control();
    bench.embed(texts(40));
    bench.run_control();
    CHECK(bench.manager->status().embedding.leases == 2);
    // The small one ends: another is expected, and finds its call free.
    bench.step();
    CHECK(bench.manager->status().embedding.leases == 1);
    bench.embed({"q"});
    bench.run_control();
    CHECK(bench.manager->status().embedding.leases == 2);
    CHECK(bench.answers[1].calls() == 0);
    bench.run();
    for (std::size_t index = 0; index < bench.answers.size(); ++index) {
        bench.check_answer(index);
    }
    // Once none has come for a while the large one has all calls.
    CHECK(bench.world->counts().most_calling >= 1);
    bench.check_end();
}

TEST_CASE("Of large requests the one with the fewest texts left goes first", "[H26]") {
    BulkBench bench;
    bench.embed({"held"});
    bench.run_control();
    bench.embed(texts(20));
    bench.embed(texts(9));
    bench.step();
    bench.step();
    bench.step();
    bench.step();
    CHECK(bench.answers[2].calls() <= 1);
    bench.run();
    bench.check_answer(1);
    bench.check_answer(2);
    bench.check_end();
}

TEST_CASE("A part that fails fails its request at once, and names the text", "[H26][H30]") {
    const bool names = GENERATE(true, false);
    BulkBench bench({4}, 2);
    const Texts wanted = texts(20);
    bench.hook = [&](const FakeCall& call) {
        for (std::size_t index = 0; index < call.texts.size(); ++index) {
            if (call.texts[index] == wanted[17]) {
                const Error error(errc::invalid_request, call.key, Stage::inference, "it is bad");
                throw names ? error.at_text(index) : error;
            }
        }
    };
    bench.embed(wanted);
    bench.embed({"other"});
    bench.run();
    CHECK(bench.answers[0].code() == errc::invalid_request);
    CHECK(bench.answers[0].error().text_index() == (names ? std::optional<std::size_t>(17) : std::nullopt));
    bench.check_answer(1);
    // The parts that waited were not computed.
    CHECK(bench.manager->status().embedding.counters.texts < 20);
    CHECK(bench.manager->status().embedding.waiting == 0);
    bench.check_end();
}

TEST_CASE("A part that is out of memory is halved", "[H30][R14]") {
    BulkBench bench({8});
    bench.hook = [](const FakeCall& call) {
        if (call.rows > 2) {
            throw std::bad_alloc();
        }
    };
    bench.embed(texts(12));
    bench.run();
    bench.check_answer(0);
    CHECK(bench.sizes() == std::vector<std::size_t>{8, 4, 2, 2, 2, 2, 2, 2});
    bench.check_end();
}

TEST_CASE("A model that has memory for one text a call still has large requests cut", "[H30]") {
    BulkBench bench({4});
    bench.hook = [](const FakeCall& call) {
        if (call.rows > 1) {
            throw std::bad_alloc();
        }
    };
    bench.embed(texts(4));
    bench.embed(texts(5));
    bench.embed(texts(5));
    bench.run();
    CHECK(bench.answers[0].calls() == 1);
    bench.check_answer(1);
    bench.check_answer(2);
    CHECK(std::count(bench.calls_of.begin(), bench.calls_of.end(), texts(5)) == 0);
    bench.check_end();
}

TEST_CASE("No half of a part is computed for a request that completed while the model ran out of memory", "[H31]") {
    BulkBench bench({4});
    bench.embed(texts(8));
    bench.run_control();
    bench.hook = [&](const FakeCall&) {
        bench.manager->embedding().async_unload(a, UnloadMode::revoke, [](const std::exception_ptr&) {});
        run_ready(bench.control);
        throw std::bad_alloc();
    };
    bench.run();
    CHECK(bench.answers[0].code() == errc::model_changed);
    CHECK(bench.sizes() == std::vector<std::size_t>{4});
    bench.check_end();
}

TEST_CASE("Before its first part a large request may be cancelled in any way, later only with terminal", "[H29]") {
    BulkBench bench;
    asio::cancellation_signal signal;
    Outcome<Embeddings> answer;
    bench.embed({"held"});
    bench.run_control();
    bench.manager->async_embed(a, texts(12), asio::bind_cancellation_slot(signal.slot(), answer.handler()));
    bench.run_control();
    const bool starts = GENERATE(false, true);
    if (starts) {
        bench.step();
    }
    signal.emit(asio::cancellation_type::partial);
    run_ready(bench.control);
    CHECK(answer.calls() == (starts ? 0 : 1));
    signal.emit(asio::cancellation_type::terminal);
    run_ready(bench.control);
    CHECK(answer.code() == asio::error::operation_aborted);
    CHECK(bench.manager->status().embedding.waiting == 0);
    bench.run();
    CHECK(bench.calls_of.size() == 1);
    bench.check_end();
}

TEST_CASE("A timeout ends a large request between its parts, and no more of them are computed", "[H26][H31]") {
    BulkBench bench;
    bench.embed(texts(12), {.timeout = 1s});
    bench.run_control();
    bench.hook = [&](const FakeCall& call) {
        VirtualClock::advance(1s);
        run_ready(bench.control);
        CHECK(bench.answers[0].code() == errc::timed_out);
        CHECK(bench.answers[0].error().stage() == Stage::inference);
        CHECK(call.stop.stop_requested());
    };
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{4});
    CHECK(bench.events.count(EventType::timed_out) == 1);
    bench.check_end();
}

TEST_CASE("A large request goes on with the next residency of its key", "[H28][R14]") {
    BulkBench bench;
    bench.embed(texts(12));
    bench.run_control();
    bench.manager->embedding().async_unload(a, [](const std::exception_ptr&) {});
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{4, 4, 4});
    CHECK(bench.world->counts(a).loads == 2);
    REQUIRE(bench.answers[0].calls() == 1);
    const Embeddings rows = bench.answers[0].value();
    REQUIRE(rows.size() == 12);
    for (std::size_t row = 0; row < rows.size(); ++row) {
        const auto expected = testing::fake_row(static_cast<std::uint64_t>(rows[row][0]), bench.asked[0][row]);
        CHECK(std::equal(expected.begin(), expected.end(), rows[row].begin()));
    }
    bench.check_end();
}

TEST_CASE("A large request that expects its residency fails when that is unloaded between two parts", "[H28]") {
    BulkBench bench;
    bench.embed(texts(12), {.expected_generation = bench.manager->embedding().generation()});
    bench.run_control();
    bench.manager->embedding().async_unload(a, [](const std::exception_ptr&) {});
    bench.run();
    CHECK(bench.answers[0].code() == errc::model_changed);
    CHECK(bench.calls_of.size() <= 1);
    bench.check_end();
}

TEST_CASE("A revoke completes a large request, and no more of its parts are computed", "[H28][H30]") {
    BulkBench bench({4}, 2);
    bench.embed(texts(20));
    bench.run_control();
    bench.hook = [&](const FakeCall& call) {
        if (bench.calls_of.size() == 1) {
            bench.manager->embedding().async_unload(a, UnloadMode::revoke, [](const std::exception_ptr&) {});
            run_ready(bench.control);
            CHECK(bench.answers[0].code() == errc::model_changed);
            CHECK(call.stop.stop_requested());
        }
    };
    bench.run();
    CHECK(bench.calls_of.size() == 1);
    CHECK(bench.manager->status().embedding.waiting == 0);
    bench.check_end();
}

TEST_CASE("A shutdown fails what waits of a large request, and waits for the part that runs", "[R12][H26]") {
    BulkBench bench;
    bench.embed(texts(12));
    bench.run_control();
    Outcome<ShutdownReport> shutdown;
    bench.manager->async_shutdown(shutdown.handler());
    run_ready(bench.control, bench.loading);
    CHECK(bench.answers[0].code() == errc::shutting_down);
    CHECK(shutdown.calls() == 0);
    bench.run();
    CHECK(shutdown.value().clean());
    CHECK(bench.calls_of.empty());
    bench.check_nothing_left();
}

TEST_CASE("A manager that is destroyed completes a large request", "[R9][H26]") {
    BulkBench bench({4}, 2);
    bench.embed(texts(20));
    bench.run_control();
    bench.manager.reset();
    bench.run();
    CHECK(bench.answers[0].code() == errc::shutting_down);
    bench.check_nothing_left();
}

TEST_CASE("An inference executor that drops a part fails its request", "[R9][H26]") {
    BulkBench bench;
    auto inference = std::make_unique<asio::io_context>();
    bench.manager.emplace(
        testing::FakeEmbeddingBackend(bench.world), testing::FakeRerankerBackend(bench.world),
        BulkBench::with_calls({}, 1),
        Executors{bench.control.get_executor(), inference->get_executor(), bench.loading.get_executor()});
    bench.load(a);
    bench.embed(texts(12));
    bench.run_control();
    inference->run_one();
    run_ready(bench.control);
    inference.reset();
    bench.run();
    CHECK(bench.answers[0].code() == errc::inference_failed);
    CHECK(bench.manager->status().embedding.leases == 0);
    CHECK(bench.manager->status().embedding.waiting == 0);
}

TEST_CASE("What can be granted at once needs no place beside a large request that waits", "[H4]") {
    ManagerOptions options;
    options.embedding.max_queue = 1;
    BulkBench bench({4}, 2, options);
    bench.embed({"p"});
    bench.run_control();
    bench.embed(texts(40));
    bench.run_control();
    bench.step();
    CHECK(bench.manager->status().embedding.waiting == 1);
    CHECK(bench.manager->embedding().try_acquire(a));
    bench.embed({"q"});
    bench.run_control();
    CHECK(bench.answers[2].calls() == 0);
    bench.run();
    bench.check_answer(2);
    bench.check_end();
}

TEST_CASE("Rows of another dimension than a part's before: the model has changed, or what it gave is wrong",
          "[H28][R14]") {
    Shifting::World world;
    Outcome<Embeddings> answer;
    ManagerOptions options;
    options.embedding.max_calls = 1;
    ModelManager<ShiftingBackend, testing::FakeRerankerBackend> models(ShiftingBackend{&world},
                                                                       testing::FakeRerankerBackend(), options);
    SECTION("of one residency") {
        world.shift = [&] { ++world.dimension; };
        models.async_embed(a, texts(4), answer.handler());
        answer.wait();
        CHECK(answer.code() == errc::bad_result);
        CHECK_THAT(answer.error().what(), contains_text("rows of 3 floats after 2"));
    }
    SECTION("of the next residency") {
        world.shift = [&] {
            if (world.loads == 1) {
                ++world.dimension;
                models.embedding().async_unload(a, [](const std::exception_ptr&) {});
            }
        };
        models.async_embed(a, texts(4), answer.handler());
        answer.wait();
        CHECK(answer.code() == errc::model_changed);
        CHECK(world.loads == 2);
    }
    CHECK(models.shutdown().clean());
}

TEST_CASE("More parts may run at once than 16 bits can count", "[H26][R14]") {
    constexpr std::size_t parts = 70'000;
    ManagerOptions options;
    options.embedding.max_leases = parts;
    BulkBench bench({2}, parts, options);
    const std::size_t all = bench.embed(Texts(2 * parts, "text")).calls();
    CHECK(all == 0);
    bench.run_control();
    CHECK(bench.manager->status().embedding.leases == parts);
    run_ready(bench.inference, bench.control);
    REQUIRE(bench.answers[0].calls() == 1);
    REQUIRE_FALSE(bench.answers[0].exception());
    CHECK(bench.answers[0].value().size() == 2 * parts);
}

TEST_CASE("A large request for a model without limits has one call", "[H24]") {
    BulkBench bench({1});
    bench.embed(texts(100));
    bench.run();
    CHECK(bench.sizes() == std::vector<std::size_t>{100});
    bench.check_end();
}

TEST_CASE("A large rerank request is cut, and its ranking is that of all its documents", "[H26][R14]") {
    BulkBench bench({4}, 2);
    Outcome<Ranking> answer;
    const Texts documents = texts(10);
    bench.manager->async_rerank(a, "query", documents, answer.handler());
    bench.run();
    CHECK(bench.calls_of.size() == 3);
    REQUIRE(answer.value().size() == 10);
    for (std::size_t place = 0; place < 10; ++place) {
        CHECK(answer.value()[place].score ==
              testing::fake_score(testing::answered_by(answer.value()), documents[answer.value()[place].index]));
        CHECK((place == 0 || answer.value()[place - 1].score >= answer.value()[place].score));
    }
    bench.check_end();
}

TEST_CASE("A NaN in a part names the text of the request", "[H26][R14]") {
    BulkBench bench;
    const Texts wanted = texts(10);
    bench.hook = [&](const FakeCall& call) {
        if (call.texts.back() == wanted[2]) {
            bench.world->spoil_next(FakeFault::nan, a);
        }
    };
    bench.embed(wanted);
    bench.run();
    CHECK(bench.answers[0].code() == errc::bad_result);
    CHECK(bench.answers[0].error().text_index() == std::optional<std::size_t>(2));
    bench.check_end();
}

}  // namespace bulk_test
