// H33 to H38: slots and managers that share a memory budget.

#include "support/bench.hpp"
#include "support/held_models.hpp"

#include "residency/backends/lexical.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace memory_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;
using testing::Gate;

namespace {

const ModelKey a("a");
const ModelKey b("b");
const ModelKey c("c");

/// What the models of a test need, and how often the backend was asked.
struct Sizes {
    std::function<std::size_t(const ModelKey&)> needed = [](const ModelKey& /*key*/) { return std::size_t{60}; };
    std::atomic<int> asked{0};
};

template <class Model>
class Sized : public testing::FakeBackend<Model> {
public:
    // clang 14 asks for it: a manager's backends have a default.
    Sized() : Sized(std::make_shared<FakeWorld>(), std::make_shared<Sizes>()) {}
    Sized(std::shared_ptr<FakeWorld> world, std::shared_ptr<Sizes> sizes)
        : testing::FakeBackend<Model>(std::move(world)), sizes_(std::move(sizes)) {}
    [[nodiscard]] std::size_t memory_needed(const ModelKey& key) {
        ++sizes_->asked;
        return sizes_->needed(key);
    }

private:
    std::shared_ptr<Sizes> sizes_;
};

using SizedEmbedders = Sized<testing::FakeEmbedder>;
using SizedRerankers = Sized<testing::FakeReranker>;
using Manager = ModelManager<SizedEmbedders, SizedRerankers, VirtualClock>;

ManagerOptions with_budget(const std::shared_ptr<MemoryBudget>& budget, std::size_t max_resident = 0) {
    ManagerOptions options;
    options.memory = budget;
    options.embedding.max_resident = options.reranker.max_resident = max_resident;
    return options;
}

struct MemoryBench : Bench {
    explicit MemoryBench(std::size_t limit, std::size_t max_resident = 0)
        : budget(std::make_shared<MemoryBudget>(limit)) {
        ManagerOptions options = with_budget(budget, max_resident);
        options.observer = events.observer();
        manager.emplace(SizedEmbedders(world, sizes), SizedRerankers(world, sizes), options, executors());
    }

    void embed(const ModelKey& key) {
        Outcome<Embeddings> answer;
        manager->async_embed(key, {"text"}, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        REQUIRE_FALSE(answer.exception());
    }
    void rerank(const ModelKey& key) {
        Outcome<Ranking> answer;
        manager->async_rerank(key, "query", {"text"}, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        REQUIRE_FALSE(answer.exception());
    }
    [[nodiscard]] Error refusal(const ModelKey& key, const RequestOptions& options = {}) {
        Outcome<Embeddings> answer;
        manager->async_embed(key, {"text"}, options, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return answer.error();
    }

    std::shared_ptr<MemoryBudget> budget;
    std::shared_ptr<Sizes> sizes = std::make_shared<Sizes>();
    std::optional<Manager> manager;
};

}  // namespace

TEST_CASE("Models of both slots that fit together stay beside each other", "[hard_case][S50][H33][R13]") {
    MemoryBench bench(120);
    bench.embed(a);
    bench.rerank(b);
    CHECK(bench.world->counts().live == 2);
    CHECK(bench.world->counts().unloads == 0);
    CHECK(bench.budget->used() == 120);
    CHECK(bench.sizes->asked == 2);
    bench.check_ends_clean(*bench.manager);
    CHECK(bench.budget->used() == 0);
}

TEST_CASE("Slots take turns where only one model fits", "[hard_case][S50][H32][H36]") {
    MemoryBench bench(100);
    for (int turn = 0; turn < 3; ++turn) {
        bench.embed(a);
        CHECK(bench.world->counts(a).live == 1);
        bench.advance(1s);
        bench.rerank(b);
        CHECK(bench.world->counts(a).live == 0);
        CHECK(bench.world->counts(b).live == 1);
        CHECK(bench.budget->used() == 60);
        bench.advance(1s);
    }
    const std::vector<Event> unloads = bench.events.all(EventType::unload_started);
    REQUIRE(unloads.size() == 5);
    CHECK(unloads.front().reason == Reason::memory);
    CHECK(unloads.front().key == a);
    const SlotStatus status = bench.manager->embedding().status();
    CHECK(status.counters.unloads[static_cast<std::size_t>(Reason::memory)] == 3);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("The longest idle model of either slot goes for a third", "[hard_case][H36]") {
    MemoryBench bench(120);
    bench.rerank(b);
    bench.advance(1s);
    bench.embed(a);
    bench.advance(1s);
    bench.embed(c);
    CHECK(bench.world->counts(b).live == 0);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.world->counts(c).live == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("What needs more than the limit is refused at once, in words", "[hard_case][S49][H35][R13]") {
    MemoryBench bench(120);
    bench.sizes->needed = [](const ModelKey& key) { return key == c ? std::size_t{121} : std::size_t{60}; };
    bench.embed(a);
    const Error error = bench.refusal(c);
    CHECK(error.code() == errc::insufficient_memory);
    CHECK(error.code() == condition::capacity);
    CHECK_FALSE(error.retryable());
    CHECK(error.key() == c);
    const std::string text = error.what();
    CHECK(text.find("needs 121 bytes") != std::string::npos);
    CHECK(text.find("limit of 120 bytes") != std::string::npos);
    CHECK(text.find("60 are in use") != std::string::npos);
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.manager->embedding().status().counters.insufficient_memory == 1);
    CHECK(bench.manager->embedding().status().counters.load_failures == 0);
    CHECK(bench.manager->embedding().status().failures.empty());
    // Beside a pinned model another cannot be loaded, and its load need not be tried.
    Outcome<Embeddings> pinned;
    bench.manager->async_embed(a, {"text"}, {.keep_alive = keep_alive_forever}, pinned.handler());
    bench.run();
    bench.sizes->needed = [](const ModelKey& /*key*/) { return std::size_t{90}; };
    CHECK(bench.refusal(b).code() == errc::insufficient_memory);
    CHECK(bench.world->counts(a).live == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("An estimate that throws fails as a load does", "[hard_case][H34]") {
    MemoryBench bench(120);
    bench.sizes->needed = [](const ModelKey& /*key*/) -> std::size_t { throw std::runtime_error("no such file"); };
    const Error error = bench.refusal(a);
    CHECK(error.code() == errc::load_failed);
    CHECK(error.stage() == Stage::memory);
    CHECK(std::string(error.what()).find("no such file") != std::string::npos);
    CHECK(bench.world->counts().loads == 0);
    CHECK(bench.refusal(a).code() == errc::cooling_down);
    const std::vector<Event> failures = bench.events.all(EventType::load_failed);
    REQUIRE(failures.size() == 1);
    CHECK(failures.front().key == a);
    CHECK(failures.front().message == "no such file");
    REQUIRE(bench.manager->embedding().status().failures.size() == 1);
    // An error of the backend's own keeps its code and its words.
    bench.sizes->needed = [](const ModelKey& key) -> std::size_t {
        throw Error(errc::insufficient_memory, key, Stage::load, "no device has so much");
    };
    const Error own = bench.refusal(b);
    CHECK(own.code() == errc::insufficient_memory);
    // The budget has refused nothing.
    CHECK(bench.manager->embedding().status().counters.insufficient_memory == 0);
    CHECK(std::string(own.what()).find("no device has so much") != std::string::npos);
    bench.sizes->needed = [](const ModelKey& /*key*/) { return std::size_t{60}; };
    bench.advance(1s);
    bench.embed(a);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Each of many requests that an estimate fails gets its words, whichever fails next", "[hard_case][H34]") {
    MemoryBench bench(120);
    bench.sizes->needed = [](const ModelKey& key) -> std::size_t {
        throw Error(errc::invalid_request, key, Stage::load, "no file for " + key.name);
    };
    ManagerOptions options = with_budget(bench.budget);
    options.embedding.max_queue = 10'000;
    Manager manager(SizedEmbedders(bench.world, bench.sizes), SizedRerankers(bench.world, bench.sizes), options,
                    bench.executors());
    // More than one decision fails.
    constexpr int many = 3'000;
    int in_words = 0;
    const auto ask = [&](const ModelKey& key) {
        manager.async_embed(key, {"text"}, [&, key](const std::exception_ptr& exception, const Embeddings&) {
            try {
                std::rethrow_exception(exception);
            } catch (const Error& error) {
                in_words += error.code() == errc::invalid_request &&
                                    std::string(error.what()).find("no file for " + key.name) != std::string::npos
                                ? 1
                                : 0;
            }
        });
    };
    for (int request = 0; request < many; ++request) {
        ask(a);
    }
    ask(b);
    bench.loading.restart();
    bench.loading.run();
    bench.run();
    CHECK(in_words == many + 1);
    bench.check_ends_clean(manager);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("What an estimate threw is destroyed with no mutex held", "[hard_case][H34][R10]") {
    MemoryBench bench(120);
    struct Asking : std::runtime_error {
        Asking(std::optional<Manager>& asked, int& count)
            : std::runtime_error("no file"), manager(&asked), looks(&count) {}
        ~Asking() override {
            if (*manager) {
                static_cast<void>((*manager)->status());
                ++*looks;
            }
        }
        std::optional<Manager>* manager;
        int* looks;
    };
    int looks = 0;
    bench.sizes->needed = [&](const ModelKey& /*key*/) -> std::size_t { throw Asking(bench.manager, looks); };
    CHECK(bench.refusal(a).code() == errc::load_failed);
    const int before = looks;
    // The next one takes its place.
    CHECK(bench.refusal(b).code() == errc::load_failed);
    CHECK(looks > before);
    bench.check_ends_clean(*bench.manager);
    bench.manager.reset();
}

TEST_CASE("A backend that says zero says nothing: then the slot's options do", "[hard_case][H34]") {
    MemoryBench bench(120);
    bench.sizes->needed = [](const ModelKey& /*key*/) { return std::size_t{0}; };
    CHECK(std::string(bench.refusal(a).what()).find("model_memory") != std::string::npos);
    ManagerOptions options = with_budget(bench.budget);
    options.embedding.model_memory = 50;
    Manager other(SizedEmbedders(bench.world, bench.sizes), SizedRerankers(bench.world, bench.sizes), options,
                  bench.executors());
    Outcome<Embeddings> answer;
    other.async_embed(a, {"text"}, answer.handler());
    bench.run();
    REQUIRE(answer.calls() == 1);
    CHECK_FALSE(answer.exception());
    CHECK(bench.budget->used() == 50);
    bench.check_ends_clean(other);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A load that waits for its turn keeps no memory once nothing waits for it", "[hard_case][H1][H34]") {
    MemoryBench bench(100);
    asio::cancellation_signal cancels;
    Outcome<Embeddings> answer;
    bench.manager->async_embed(a, {"text"}, asio::bind_cancellation_slot(cancels.slot(), answer.handler()));
    bench.loading.restart();
    bench.loading.run_one();
    REQUIRE(bench.budget->used() == 60);
    cancels.emit(asio::cancellation_type::terminal);
    CHECK(bench.budget->used() == 0);
    bench.run();
    CHECK(answer.calls() == 1);
    CHECK(bench.world->counts().loads == 0);
    CHECK(bench.budget->used() == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A request that waits for memory times out, is cancelled and is shut down there", "[hard_case][H35]") {
    MemoryBench bench(100);
    Outcome<Manager::reranker_slot_type::lease_type> held;
    bench.manager->reranker().async_acquire(b, held.handler());
    bench.run();
    std::optional<Manager::reranker_slot_type::lease_type> lease = std::move(held.value());
    Outcome<Embeddings> answer;
    const RequestOptions timed{.timeout = 2s};
    bench.manager->async_embed(a, {"text"}, timed, answer.handler());
    bench.run();
    const MemoryStatus status = bench.budget->status();
    REQUIRE(status.holders.size() == 1);
    CHECK(status.holders.front().slot == "reranker");
    CHECK(status.holders.front().state == ResidentState::ready);
    REQUIRE(status.waiting.size() == 1);
    CHECK(status.waiting.front().key == a);
    CHECK(status.waiting.front().bytes == 60);
    std::ostringstream text;
    text << status;
    CHECK(text.str() ==
          "memory: 60 of 100 bytes\n  reranker b: 60 bytes, ready\n  embedding a: 60 bytes, waits for memory");
    SECTION("timeout") {
        bench.advance(2s);
        REQUIRE(answer.calls() == 1);
        CHECK(answer.error().code() == errc::timed_out);
        CHECK(answer.error().stage() == Stage::memory);
        // The key keeps its turn for a while (H1).
        CHECK(bench.budget->status().waiting.size() == 1);
        bench.advance(10s);
        CHECK(bench.budget->status().waiting.empty());
        lease.reset();
    }
    SECTION("the lease ends") {
        lease.reset();
        bench.run();
        REQUIRE(answer.calls() == 1);
        CHECK_FALSE(answer.exception());
        CHECK(bench.world->counts(b).live == 0);
    }
    SECTION("another fits") {
        bench.sizes->needed = [](const ModelKey& /*key*/) { return std::size_t{40}; };
        bench.embed(c);
        CHECK(answer.calls() == 0);
        lease.reset();
        bench.advance(1s);
        CHECK(answer.calls() == 1);
    }
    SECTION("shutdown") {
        Outcome<ShutdownReport> report;
        bench.manager->async_shutdown(report.handler());
        bench.run();
        REQUIRE(answer.calls() == 1);
        CHECK(answer.error().code() == errc::shutting_down);
        CHECK(bench.budget->status().waiting.empty());
        lease.reset();
    }
    bench.check_ends_clean(*bench.manager);
    CHECK(bench.budget->used() == 0);
}

TEST_CASE("A load that fails gives its memory back", "[hard_case][S51][H34][R11]") {
    MemoryBench bench(100);
    bench.world->fail_next(FakeStep::load, a, std::runtime_error("broken"));
    CHECK(bench.refusal(a).code() == errc::load_failed);
    CHECK(bench.budget->used() == 0);
    bench.rerank(b);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A load that runs out of memory is tried once more, after idle models have gone", "[hard_case][S51][H37]") {
    MemoryBench bench(200);
    bench.rerank(b);
    Outcome<Embeddings> answer;
    SECTION("it loads then") {
        bench.world->fail_next(FakeStep::load, a, std::bad_alloc());
        bench.embed(a);
        CHECK(bench.world->counts(a).loads == 2);
        CHECK(bench.world->counts(b).live == 0);
        const SlotStatus status = bench.manager->embedding().status();
        CHECK(status.counters.load_failures == 1);
        CHECK(status.failures.empty());
        const std::vector<Event> failures = bench.events.all(EventType::load_failed);
        REQUIRE(failures.size() == 1);
        CHECK(failures.front().reason == Reason::memory);
    }
    SECTION("it fails again, and is an ordinary failure until it has loaded") {
        bench.world->fail_next(FakeStep::load, a, Error(errc::insufficient_memory, a, Stage::load, "too much"), 3);
        CHECK(bench.refusal(a).code() == errc::insufficient_memory);
        CHECK(bench.world->counts(a).loads == 2);
        bench.advance(1s);
        CHECK(bench.refusal(a).code() == errc::insufficient_memory);
        CHECK(bench.world->counts(a).loads == 3);
    }
    SECTION("pinned and used models stay") {
        Outcome<Ranking> pinned;
        bench.manager->async_rerank(b, "query", {"text"}, {.keep_alive = keep_alive_forever}, pinned.handler());
        bench.run();
        bench.world->fail_next(FakeStep::load, a, std::bad_alloc());
        bench.embed(a);
        CHECK(bench.world->counts(b).live == 1);
    }
    bench.check_ends_clean(*bench.manager);
    CHECK(bench.budget->used() == 0);
}

TEST_CASE("A model that is being destroyed keeps its memory until it is", "[hard_case][S53][H34][R1]") {
    MemoryBench bench(100);
    bench.embed(a);
    bench.advance(1s);
    Outcome<Ranking> answer;
    bench.manager->async_rerank(b, "query", {"text"}, answer.handler());
    // The reranker's size is asked for, then the embedder is evicted; its destruction waits for its executor.
    bench.loading.restart();
    bench.loading.run_one();
    CHECK(bench.world->counts(a).live == 1);
    CHECK(bench.budget->used() == 60);
    CHECK(bench.world->counts(b).loads == 0);
    bench.run();
    CHECK(answer.calls() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Managers share a budget, and one may end while the other stays", "[hard_case][H33]") {
    MemoryBench bench(120);
    auto other =
        std::make_optional<Manager>(SizedEmbedders(bench.world, bench.sizes), SizedRerankers(bench.world, bench.sizes),
                                    with_budget(bench.budget), bench.executors());
    bench.embed(a);
    Outcome<Embeddings> answer;
    other->async_embed(b, {"text"}, answer.handler());
    bench.run();
    CHECK(answer.calls() == 1);
    CHECK(bench.budget->used() == 120);
    bench.advance(1s);
    bench.rerank(c);
    CHECK(bench.world->counts(a).live == 0);
    CHECK(bench.world->counts(b).live == 1);
    SECTION("destroyed") {
        other.reset();
        bench.run();
        CHECK(bench.budget->used() == 60);
    }
    SECTION("destroyed under a lease") {
        Outcome<Manager::embedding_slot_type::lease_type> held;
        other->embedding().async_acquire(b, held.handler());
        bench.run();
        std::optional<Manager::embedding_slot_type::lease_type> lease = std::move(held.value());
        other.reset();
        bench.run();
        CHECK(bench.budget->used() == 120);
        lease.reset();
        bench.run();
        CHECK(bench.budget->used() == 60);
    }
    bench.embed(a);
    CHECK(bench.budget->used() == 120);
    other.reset();
    bench.check_ends_clean(*bench.manager);
    CHECK(bench.budget->used() == 0);
}

TEST_CASE("A slot's backend is gone when the slot is, whatever other threads do with its budget",
          "[hard_case][H33][R12]") {
    struct OwningBackend : LexicalEmbeddingBackend {
        std::shared_ptr<int> owned = std::make_shared<int>();
    };
    const auto budget = std::make_shared<MemoryBudget>(1'000'000);
    const auto use = GENERATE(0, 1, 2);
    std::atomic<bool> is_done{false};
    std::thread other([&] {
        while (!is_done) {
            if (use == 0) {
                budget->set_limit(1'000'000);
            } else if (use == 1) {
                budget->trim(1);
            } else {
                static_cast<void>(budget->status());
            }
        }
    });
    int left = 0;
    for (int round = 0; round < 200; ++round) {
        OwningBackend backend;
        const std::weak_ptr<int> owned = backend.owned;
        SlotOptions options;
        options.memory = budget;
        std::make_unique<ModelSlot<OwningBackend>>(std::move(backend), options)->ensure_loaded("key");
        left += owned.expired() ? 0 : 1;
    }
    is_done = true;
    other.join();
    CHECK(left == 0);
}

TEST_CASE("The limit may change, and idle models may be sent away", "[hard_case][H38]") {
    MemoryBench bench(120);
    bench.embed(a);
    bench.rerank(b);
    SECTION("zero") {
        bench.budget->set_limit(0);
        bench.run();
        CHECK(bench.world->counts().live == 0);
        CHECK(bench.budget->used() == 0);
        CHECK(bench.refusal(a).code() == errc::insufficient_memory);
        bench.budget->set_limit(60);
        bench.embed(a);
    }
    SECTION("while it is used") {
        Outcome<Manager::embedding_slot_type::lease_type> held;
        bench.manager->embedding().async_acquire(a, held.handler());
        bench.run();
        std::optional<Manager::embedding_slot_type::lease_type> lease = std::move(held.value());
        bench.budget->set_limit(0);
        bench.run();
        CHECK(bench.world->counts(a).live == 1);
        CHECK(bench.world->counts(b).live == 0);
        lease.reset();
        bench.run();
        CHECK(bench.world->counts().live == 0);
    }
    SECTION("trim") {
        bench.budget->trim(1);
        bench.run();
        CHECK(bench.world->counts(a).live == 0);
        CHECK(bench.world->counts(b).live == 1);
        bench.budget->trim(1'000'000);
        bench.run();
        CHECK(bench.budget->used() == 0);
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Options that do not fit a budget are refused in words", "[hard_case][H34][H38]") {
    Bench bench;
    const auto make = [&](const SlotOptions& options) {
        ModelSlot<PlainBackend, VirtualClock> slot(PlainBackend(bench.world), options, bench.executors());
    };
    const auto budget = std::make_shared<MemoryBudget>(100);
    CHECK_THROWS_WITH(make({.max_resident = 0}), Catch::Contains("max_resident"));
    CHECK_THROWS_WITH(make({.memory = budget}), Catch::Contains("model_memory"));
    CHECK_NOTHROW(make({.max_resident = 0, .memory = budget, .model_memory = 10}));
    // The first slot is gone, but the budget knows its clock.
    SlotOptions options;
    options.memory = budget;
    options.model_memory = 10;
    using SteadySlot = ModelSlot<PlainBackend>;
    CHECK_THROWS_WITH(SteadySlot(PlainBackend(bench.world), options), Catch::Contains("Clock"));
}

TEST_CASE("Threads that use two managers of one budget never have more than its limit", "[hard_case][S48][H33][R13]") {
    HeldBytes held;
    const auto budget = std::make_shared<MemoryBudget>(60);
    ManagerOptions options;
    options.embedding.memory = options.reranker.memory = budget;
    options.embedding.max_resident = 0;
    options.reranker.model_memory = 1;
    using TwoManagers = ModelManager<HeldBackend, LexicalRerankerBackend>;
    std::atomic<int> wrong{0};
    {
        TwoManagers one{HeldBackend(held), LexicalRerankerBackend(), options};
        TwoManagers other{HeldBackend(held), LexicalRerankerBackend(), options};
        std::vector<std::thread> threads;
        for (unsigned seed = 0; seed < 4; ++seed) {
            threads.emplace_back([&, seed] {
                std::mt19937 random(seed);
                for (int call = 0; call < 200; ++call) {
                    TwoManagers& manager = random() % 2 == 0 ? one : other;
                    const ModelKey key(std::string(1, static_cast<char>('a' + random() % 6)));
                    const Embeddings rows = manager.embed(key, {"text"});
                    wrong += rows[0][0] == static_cast<float>(held_size(key)) ? 0 : 1;
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        CHECK(budget->used() <= 60);
    }
    CHECK(wrong == 0);
    CHECK(held.most() <= 60);
    CHECK(held.now() == 0);
    CHECK(budget->used() == 0);
}

}  // namespace memory_test
