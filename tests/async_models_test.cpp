// H39: models that answer asynchronously. On the virtual clock and contexts that only the test runs, but where threads
// matter.

#include "residency/testing/fake_async_backend.hpp"

#include "support/bench.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace async_models_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

using testing::FakeAsyncEmbedder;
using testing::FakeAsyncEmbeddingBackend;
using testing::FakeAsyncModel;
using testing::FakeAsyncReranker;
using testing::FakeAsyncRerankerBackend;
using testing::Gate;

const ModelKey a("a");
const ModelKey b("b");

using Texts = std::vector<std::string>;

struct AsyncBench : Bench {
    using Manager = ModelManager<FakeAsyncEmbeddingBackend, FakeAsyncRerankerBackend, VirtualClock>;

    explicit AsyncBench(const SlotOptions& options = {}, const BatchLimits& limits = {}) {
        world->set_batch_limits(a, limits);
        world->on(FakeStep::inference, [this](const FakeCall& call) {
            calls.emplace_back(call.texts.begin(), call.texts.end());
            if (hook) {
                hook(call);
            }
        });
        manager.emplace(FakeAsyncEmbeddingBackend(world), FakeAsyncRerankerBackend(world),
                        ManagerOptions{.embedding = options, .reranker = options, .observer = events.observer()},
                        executors());
    }

    Request<Embeddings>& embed(Texts texts, const RequestOptions& options = {}, const ModelKey& key = a) {
        auto& answer = answers.emplace_back(std::make_unique<Request<Embeddings>>());
        expected.push_back(texts);
        manager->async_embed(key, std::move(texts), options, answer->token());
        return *answer;
    }
    // Each row is that of its own text (R14).
    void check_answer(std::size_t index) {
        INFO("request " << index);
        REQUIRE(answers[index]->calls() == 1);
        const Embeddings& rows = answers[index]->value();
        REQUIRE(rows.size() == expected[index].size());
        const std::uint64_t serial = testing::answered_by(rows);
        for (std::size_t row = 0; row < rows.size(); ++row) {
            const auto wanted = testing::fake_row(serial, expected[index][row]);
            CHECK(std::equal(wanted.begin(), wanted.end(), rows[row].begin(), rows[row].end()));
        }
    }
    [[nodiscard]] SlotStatus status() { return manager->embedding().status(); }

    std::vector<Texts> calls{};
    std::function<void(const FakeCall&)> hook{};
    std::vector<std::unique_ptr<Request<Embeddings>>> answers{};
    std::vector<Texts> expected{};
    std::optional<Manager> manager{};
};

// The forms that a model may have.
struct Plain {
    asio::awaitable<Embeddings> embed(std::span<const std::string> texts) { co_return Embeddings(texts.size(), 1); }
};
struct WithToken {
    asio::awaitable<Embeddings> embed(std::span<const std::string> texts, std::stop_token stop) {
        co_return Embeddings(texts.size(), stop.stop_possible() ? 2 : 1);
    }
};
struct WithKind {
    asio::awaitable<Embeddings> embed(std::span<const std::string> texts, EmbedAs as) {
        co_return Embeddings(texts.size(), as == EmbedAs::query ? 3 : 1);
    }
};
// Its first part is no coroutine.
struct Throws {
    asio::awaitable<Embeddings> embed(std::span<const std::string> /*texts*/) {
        throw std::runtime_error("it does not even begin");
    }
};
// Gives no coroutine at all.
struct GivesNothing {
    asio::awaitable<Embeddings> embed(std::span<const std::string> /*texts*/) { return {}; }
};
// Fails, and says that it did not.
struct ThrowsSuccess {
    asio::awaitable<Embeddings> embed(std::span<const std::string> /*texts*/) {
        throw Error(boost::system::error_code(), ModelKey(), Stage::inference, "all is well");
    }
};
struct Wrong {
    asio::awaitable<Embeddings> embed(std::span<const std::string> texts) { co_return Embeddings(texts.size() + 1, 1); }
};
struct Reranks {
    asio::awaitable<std::vector<float>> rerank(std::string_view query, std::span<const std::string> documents) {
        std::vector<float> scores;
        for (const std::string& document : documents) {
            scores.push_back(document == query ? 1.0F : 0.0F);
        }
        co_return scores;
    }
};
// Goes on where it is, and notes how far its calls reach down the stack. Those for several texts fail.
struct Deep {
    static inline const char* highest = nullptr;
    static inline const char* lowest = nullptr;

    static void look() noexcept {
        const auto* const here = static_cast<const char*>(__builtin_frame_address(0));
        highest = highest == nullptr ? here : (std::max)(highest, here);
        lowest = lowest == nullptr ? here : (std::min)(lowest, here);
    }
    asio::awaitable<Embeddings> embed(std::span<const std::string> texts) {
        // Runs what follows at once, as one that enters a strand of its own does.
        co_await asio::dispatch(asio::use_awaitable);
        look();
        if (texts.size() > 1) {
            throw std::runtime_error("no more than one");
        }
        co_return Embeddings(texts.size(), 1);
    }
    [[nodiscard]] static BatchLimits batch_limits() noexcept { return {.texts = 1000}; }
};
// Waits, and then calls what the test wants.
struct CallsBack {
    static inline const std::function<void()>* hook = nullptr;

    asio::awaitable<Embeddings> embed(std::span<const std::string> texts) {
        co_await asio::post(asio::use_awaitable);
        (*hook)();
        co_return Embeddings(texts.size(), 1);
    }
};
template <class Model>
struct LoadsOf {
    using model_type = Model;
    std::unique_ptr<Model> load(const ModelKey& /*key*/) { return std::make_unique<Model>(); }
};

static_assert(EmbeddingBackend<LoadsOf<Plain>> && EmbeddingBackend<LoadsOf<WithToken>> &&
              EmbeddingBackend<LoadsOf<WithKind>> && RerankerBackend<LoadsOf<Reranks>>);

template <class Model>
Embeddings embed_with(const RequestOptions& options = {}) {
    ModelManager<LoadsOf<Model>, LoadsOf<Reranks>> models;
    return models.embed(a, {"x", "y"}, options);
}

}  // namespace

TEST_CASE("Each form of an asynchronous model answers, blocking calls included", "[H39]") {
    CHECK(embed_with<Plain>().size() == 2);
    CHECK(embed_with<WithToken>().dimension() == 2);
    CHECK(embed_with<WithKind>({.as = EmbedAs::query}).dimension() == 3);
    ModelManager<LoadsOf<Plain>, LoadsOf<Reranks>> models;
    const Ranking ranking = models.rerank(a, "y", {"x", "y"});
    CHECK(ranking.front().index == 1);
}

TEST_CASE("An asynchronous model never begins inside the call that makes its request", "[H39][R9][R16]") {
    asio::io_context context;
    const auto world = std::make_shared<FakeWorld>();
    bool is_inside = false;
    std::size_t began_inside = 0;
    world->on(FakeStep::inference, [&](const FakeCall& /*call*/) { began_inside += is_inside ? 1U : 0U; });
    AsyncBench::Manager manager(FakeAsyncEmbeddingBackend{world}, FakeAsyncRerankerBackend{world}, {},
                                Executors::all(context.get_executor()));
    Request<Embeddings> loads;
    manager.async_embed(a, {"text"}, loads.token());
    run_ready(context);
    REQUIRE(loads.calls() == 1);
    // On a thread of the inference executor's the call could begin at once.
    Request<Embeddings> answer;
    asio::post(context, [&] {
        is_inside = true;
        manager.async_embed(a, {"text"}, answer.token());
        is_inside = false;
    });
    run_ready(context);
    CHECK(answer.calls() == 1);
    CHECK(began_inside == 0);
}

TEST_CASE("What an asynchronous model throws or gives wrongly is its request's error", "[H39]") {
    try {
        (void)embed_with<Throws>();
        FAIL("it did not throw");
    } catch (const Error& error) {
        CHECK(error.code() == errc::inference_failed);
        CHECK_THAT(error.what(), contains_text("it does not even begin"));
    }
    try {
        (void)embed_with<ThrowsSuccess>();
        FAIL("it did not throw");
    } catch (const Error& error) {
        CHECK(error.code() == errc::inference_failed);
        CHECK(error.detail() == "all is well");
    }
    try {
        (void)embed_with<GivesNothing>();
        FAIL("it did not throw");
    } catch (const Error& error) {
        CHECK(error.code() == errc::bad_result);
        CHECK_THAT(error.what(), contains_text("an awaitable that is empty"));
    }
    try {
        (void)embed_with<Wrong>();
        FAIL("it did not throw");
    } catch (const Error& error) {
        CHECK(error.code() == errc::bad_result);
    }
}

TEST_CASE("An asynchronous model throws after it has waited", "[H39]") {
    AsyncBench bench;
    const auto gate = bench.world->block(FakeStep::inference, a);
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("no"));
    auto& failing = bench.embed({"x"});
    auto& sound = bench.embed({"y"});
    bench.run();
    CHECK(failing.calls() == 0);
    gate->open();
    bench.run();
    CHECK(failing.code() == errc::inference_failed);
    CHECK(sound.value().size() == 1);
    CHECK(bench.events.count(EventType::inference_failed) == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A thousand asynchronous calls wait at once on one inference thread", "[H39][R8]") {
    constexpr std::size_t calls = 1000;
    AsyncBench bench({.max_leases = calls, .max_queue = 2 * calls});
    const auto gate = bench.world->block(FakeStep::inference, a);
    for (std::size_t call = 0; call < calls + 1; ++call) {
        bench.embed({std::to_string(call)});
    }
    bench.run();
    CHECK(gate->held() == calls);
    CHECK(bench.status().leases == calls);
    CHECK(bench.status().waiting == 1);
    gate->open();
    bench.run();
    for (std::size_t call = 0; call < calls + 1; ++call) {
        bench.check_answer(call);
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Asynchronous calls are no more than the model's max_concurrency and the slot's max_calls", "[H39][R8]") {
    AsyncBench bench({.max_resident = 2, .max_leases = 100, .max_calls = 7});
    bench.world->set_max_concurrency(a, 3);
    const auto gate = bench.world->block(FakeStep::inference, a);
    const auto other = bench.world->block(FakeStep::inference, b);
    for (int call = 0; call < 5; ++call) {
        bench.embed({"x"});
        bench.embed({"y"}, {}, b);
    }
    bench.run();
    CHECK(gate->held() == 3);
    CHECK(other->held() == 4);
    gate->open();
    other->open();
    bench.run();
    CHECK(bench.world->counts(a).most_calling == 3);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Requests share an asynchronous call, and each gets its own rows", "[H39][H25][R14]") {
    AsyncBench bench({.max_leases = 1}, {.texts = 8});
    const auto gate = bench.world->block(FakeStep::inference, a);
    bench.embed({"first"});
    bench.run();
    for (const Texts& texts : {Texts{"a", "bb"}, Texts{"ccc"}, Texts{"dddd", "e", "ff"}}) {
        bench.embed(texts);
    }
    gate->open();
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"a", "bb", "ccc", "dddd", "e", "ff"}});
    for (std::size_t index = 0; index < bench.answers.size(); ++index) {
        bench.check_answer(index);
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Requests for rankings share an asynchronous call of pairs", "[H39][H25][R14]") {
    AsyncBench bench({.max_leases = 1}, {.texts = 8});
    const auto gate = bench.world->block(FakeStep::inference, a);
    Request<Ranking> first;
    Request<Ranking> second;
    Request<Ranking> third;
    bench.manager->async_rerank(a, "q", {"x"}, first.token());
    bench.run();
    bench.manager->async_rerank(a, "q", {"x", "yy"}, second.token());
    bench.manager->async_rerank(a, "r", {"zzz", "x"}, third.token());
    gate->open();
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"x"}, {"x", "yy", "zzz", "x"}});
    CHECK(second.value().front().index == 1);
    CHECK(third.value().front().index == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A failure of a shared asynchronous call fails the request at fault alone", "[H39][H30]") {
    const bool names = GENERATE(true, false);
    AsyncBench bench({.max_leases = 1}, {.texts = 8});
    const auto gate = bench.world->block(FakeStep::inference, a);
    bench.embed({"first"});
    bench.run();
    bench.hook = [names](const FakeCall& call) {
        for (std::size_t index = 0; index < call.texts.size(); ++index) {
            if (call.texts[index] == "bad") {
                const Error error(errc::invalid_request, ModelKey(), Stage::inference, "no");
                throw names ? error.at_text(index) : error;
            }
        }
    };
    bench.embed({"a"});
    bench.embed({"b", "bad"});
    bench.embed({"c"});
    gate->open();
    bench.run();
    const std::vector<Texts> with_name{{"first"}, {"a", "b", "bad", "c"}, {"a", "c"}};
    const std::vector<Texts> without{{"first"}, {"a", "b", "bad", "c"}, {"a", "b", "bad"}, {"a"}, {"b", "bad"}, {"c"}};
    CHECK(bench.calls == (names ? with_name : without));
    bench.check_answer(1);
    CHECK(bench.answers[2]->code() == errc::invalid_request);
    CHECK(bench.answers[2]->error().text_index() == (names ? std::optional<std::size_t>(1) : std::nullopt));
    bench.check_answer(3);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Asynchronous calls of requests alone, after a failure, do not run one inside the other's end",
          "[H39][H30]") {
    constexpr std::size_t requests = 300;
    Bench bench;
    ModelManager<LoadsOf<Deep>, LoadsOf<Reranks>, VirtualClock> models{
        {}, {}, {.embedding = {.max_leases = 1}}, bench.executors()};
    std::vector<Outcome<Embeddings>> answers(requests);
    Deep::highest = Deep::lowest = nullptr;
    for (auto& answer : answers) {
        models.async_embed(a, {"x"}, answer.handler());
    }
    bench.run();
    for (auto& answer : answers) {
        REQUIRE(answer.calls() == 1);
        CHECK(answer.value().size() == 1);
    }
    // One inside the other they took two kilobytes each, optimised.
    CHECK(Deep::highest - Deep::lowest < 100'000);
    bench.check_ends_clean(models);
}

TEST_CASE("A request that fits one asynchronous call is not cut, a larger one is cut by the limits", "[H39][H25]") {
    AsyncBench bench({.max_leases = 4}, {.texts = 8});
    bench.embed(Texts(8, "x"));
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{Texts(8, "x")});
    bench.embed(Texts(9, "x"));
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{Texts(8, "x"), Texts(8, "x"), {"x"}});
    bench.check_answer(0);
    bench.check_answer(1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A shared asynchronous call that was aborted is not made again", "[H39][H30]") {
    AsyncBench bench({.max_leases = 1}, {.texts = 8});
    const auto gate = bench.world->block(FakeStep::inference, a);
    bench.embed({"first"});
    bench.run();
    bench.hook = [](const FakeCall&) { throw boost::system::system_error(asio::error::operation_aborted); };
    bench.embed({"a"});
    bench.embed({"b"});
    gate->open();
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"a", "b"}});
    for (const std::size_t index : {std::size_t{1}, std::size_t{2}}) {
        CHECK(bench.answers[index]->code() == errc::inference_failed);
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A request that an asynchronous model gave up because it had left was not at fault", "[H39][H29][H30]") {
    AsyncBench bench({.max_leases = 1}, {.texts = 8});
    auto& answer = bench.embed({"a"});
    bench.hook = [&](const FakeCall& call) {
        answer.cancel();
        run_ready(bench.control);
        CHECK(call.stop.stop_requested());
        throw std::runtime_error("stopped");
    };
    bench.run();
    CHECK(answer.code() == asio::error::operation_aborted);
    bench.hook = nullptr;
    bench.calls.clear();
    const auto gate = bench.world->block(FakeStep::inference, a);
    bench.embed({"first"});
    bench.run();
    bench.embed({"a"});
    bench.embed({"b"});
    gate->open();
    bench.run();
    CHECK(bench.calls == std::vector<Texts>{{"first"}, {"a", "b"}});
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("What was at fault before an asynchronous call begins has a call of its own", "[H39][H30]") {
    AsyncBench bench({.max_resident = 2, .max_leases = 2}, {.texts = 8});
    const auto gate = bench.world->block(FakeStep::inference, a);
    const auto other_gate = bench.world->block(FakeStep::inference, b);
    bench.embed({"bad"});
    bench.embed({"other"}, {}, b);
    bench.run();
    REQUIRE(gate->held() == 1);
    REQUIRE(other_gate->held() == 1);
    bench.embed({"bad"});
    bench.embed({"c"});
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("no"));
    bench.calls.clear();
    // The call that they share is granted when the other key's ends. Before it begins the first one fails.
    other_gate->open();
    gate->open();
    bench.run();
    CHECK(bench.answers[0]->code() == errc::inference_failed);
    CHECK(bench.calls == std::vector<Texts>{{"bad"}, {"c"}});
    bench.check_answer(2);
    bench.check_answer(3);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A large request is cut into asynchronous calls, fewer texts each when memory runs out", "[H39][H26][H30]") {
    AsyncBench bench({.max_leases = 3}, {.texts = 4});
    bench.hook = [](const FakeCall& call) {
        if (call.rows > 2) {
            throw std::bad_alloc();
        }
    };
    Texts texts;
    for (std::size_t length = 1; length <= 11; ++length) {
        texts.emplace_back(length, 'x');
    }
    bench.embed(texts);
    bench.run();
    bench.check_answer(0);
    for (const Texts& call : bench.calls) {
        CHECK(call.size() <= 4);
    }
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A part of a large request fails it, and asks those that run to stop", "[H39][H26]") {
    AsyncBench bench({.max_leases = 3, .max_calls = 3}, {.texts = 2});
    const auto gate = bench.world->block(FakeStep::inference, a, FakeStop::honour);
    bench.hook = [](const FakeCall& call) {
        if (call.texts.front() == "0") {
            throw std::runtime_error("no");
        }
    };
    auto& answer = bench.embed({"0", "1", "2", "3", "4", "5", "6"});
    bench.run();
    CHECK(answer.code() == errc::inference_failed);
    CHECK(gate->held() == 0);
    CHECK(bench.status().leases == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A cancelled request sets the stop_token and cancels the coroutine", "[H39][H29]") {
    AsyncBench bench;
    const auto gate = bench.world->block(FakeStep::inference, a, FakeStop::honour);
    std::stop_token stop;
    bench.hook = [&](const FakeCall& call) { stop = call.stop; };
    auto& answer = bench.embed({"x"});
    bench.run();
    CHECK_FALSE(stop.stop_requested());
    answer.cancel();
    bench.run();
    CHECK(answer.code() == asio::error::operation_aborted);
    CHECK(stop.stop_requested());
    CHECK(gate->held() == 0);
    CHECK(bench.status().leases == 0);
    // It was asked to stop: that is no failure.
    CHECK(bench.events.count(EventType::inference_failed) == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A shared asynchronous call goes on while one request wants it", "[H39][H29]") {
    AsyncBench bench({.max_leases = 1}, {.texts = 8});
    const auto first_gate = bench.world->block(FakeStep::inference, a);
    bench.embed({"first"});
    bench.run();
    auto& one = bench.embed({"one"});
    auto& two = bench.embed({"two"});
    const auto gate = bench.world->block(FakeStep::inference, a, FakeStop::honour);
    first_gate->open();
    bench.run();
    CHECK(gate->held() == 1);
    one.cancel();
    bench.run();
    CHECK(one.code() == asio::error::operation_aborted);
    CHECK(gate->held() == 1);
    two.cancel();
    bench.run();
    CHECK(two.code() == asio::error::operation_aborted);
    CHECK(gate->held() == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE(
    "A coroutine that ignores cancellation is resumed after its request timed out, and keeps its lease until then",
    "[H39][H10]") {
    AsyncBench bench({.max_leases = 1});
    const auto gate = bench.world->block(FakeStep::inference, a, FakeStop::ignore);
    auto& late = bench.embed({std::string(100, 'x')}, {.timeout = 1s});
    auto& next = bench.embed({"y"});
    bench.run();
    bench.advance(1s);
    CHECK(late.code() == errc::timed_out);
    CHECK(late.error().stage() == Stage::inference);
    CHECK(gate->held() == 1);
    CHECK(bench.status().leases == 1);
    CHECK(next.calls() == 0);
    gate->open();
    bench.run();
    CHECK(next.value().size() == 1);
    CHECK(late.calls() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A request that leaves before its coroutine begins never reaches the model", "[H39][H10]") {
    AsyncBench bench;
    auto& answer = bench.embed({"x"});
    run_ready(bench.control, bench.loading);
    REQUIRE(bench.status().leases == 1);
    answer.cancel();
    run_ready(bench.control);
    CHECK(answer.code() == asio::error::operation_aborted);
    bench.run();
    CHECK(bench.calls.empty());
    CHECK(bench.status().leases == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("Revoking completes asynchronous calls early and cancels them", "[H39]") {
    AsyncBench bench;
    const auto gate = bench.world->block(FakeStep::inference, a, FakeStop::honour);
    auto& answer = bench.embed({"x"});
    bench.run();
    Request<> unloaded;
    bench.manager->embedding().async_unload(UnloadMode::revoke, unloaded.token());
    bench.run();
    CHECK(answer.code() == errc::model_changed);
    CHECK(unloaded.calls() == 1);
    CHECK(bench.world->counts().live == 0);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A shutdown waits for asynchronous calls, and says at its deadline that they run", "[H39][H9]") {
    AsyncBench bench;
    const auto gate = bench.world->block(FakeStep::inference, a);
    auto& answer = bench.embed({"x"});
    bench.run();
    Request<ShutdownReport> late;
    Request<ShutdownReport> clean;
    bench.manager->async_shutdown(1s, late.token());
    bench.manager->async_shutdown(clean.token());
    bench.run();
    CHECK(clean.calls() == 0);
    bench.advance(1s);
    CHECK(late.value().leftovers.size() == 1);
    gate->open();
    bench.run();
    CHECK(answer.value().size() == 1);
    CHECK(clean.value().clean());
}

TEST_CASE("The destructor completes asynchronous calls early, and cancels them", "[H39][H11]") {
    AsyncBench bench;
    const auto gate = bench.world->block(FakeStep::inference, a, FakeStop::honour);
    auto& answer = bench.embed({"x"});
    bench.run();
    bench.manager.reset();
    bench.run();
    CHECK(answer.code() == errc::shutting_down);
    CHECK(gate->held() == 0);
    bench.check_nothing_left();
}

TEST_CASE("The destructor waits on its own threads until an asynchronous call has returned", "[H39][H11]") {
    const auto world = std::make_shared<FakeWorld>();
    const auto gate = world->block(FakeStep::inference, a, FakeStop::honour);
    Outcome<Embeddings> answer;
    {
        ModelManager<FakeAsyncEmbeddingBackend, FakeAsyncRerankerBackend> models{FakeAsyncEmbeddingBackend(world),
                                                                                 FakeAsyncRerankerBackend(world)};
        models.async_embed(a, {"x"}, answer.handler());
        gate->await_held();
    }
    CHECK(answer.code() == errc::shutting_down);
    CHECK(world->counts().live == 0);
    CHECK(world->counts().calling == 0);
    CHECK(world->violations().empty());
}

TEST_CASE("A coroutine that never ends is destroyed with its context, and gives its lease back", "[H39][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    const auto gate = world->block(FakeStep::inference, a);
    Request<Embeddings> answer;
    Bench bench;
    {
        auto inference = std::make_unique<asio::io_context>();
        ModelManager<FakeAsyncEmbeddingBackend, FakeAsyncRerankerBackend, VirtualClock> models{
            FakeAsyncEmbeddingBackend(world),
            FakeAsyncRerankerBackend(world),
            {},
            {bench.control.get_executor(), inference->get_executor(), bench.loading.get_executor()}};
        models.async_embed(a, {"x"}, answer.token());
        run_ready(bench.control, bench.loading, *inference);
        CHECK(gate->held() == 1);
        // As in a host that ends its contexts in the wrong order.
        inference.reset();
        run_ready(bench.control, bench.loading);
        CHECK(answer.code() == errc::inference_failed);
        CHECK(models.embedding().status().leases == 0);
        CHECK(gate->held() == 0);
    }
    run_ready(bench.control, bench.loading);
    CHECK(world->counts().live == 0);
}

TEST_CASE("A blocking call inside an asynchronous model is refused", "[H39][H15]") {
    AsyncBench bench;
    boost::system::error_code code;
    bench.hook = [&](const FakeCall&) {
        try {
            (void)bench.manager->embed(b, {"y"});
        } catch (const Error& error) {
            code = error.code();
        }
    };
    auto& answer = bench.embed({"x"});
    bench.run();
    CHECK(code == errc::would_deadlock);
    CHECK(answer.value().size() == 1);
    bench.check_ends_clean(*bench.manager);
}

TEST_CASE("A blocking call of the other slot inside an asynchronous model is refused, also after it has waited",
          "[H39][H15]") {
    const auto world = std::make_shared<FakeWorld>();
    Outcome<Embeddings> answer;
    boost::system::error_code code;
    {
        ModelManager<LoadsOf<CallsBack>, FakeAsyncRerankerBackend> models{{}, FakeAsyncRerankerBackend(world)};
        const std::function<void()> calls_back = [&] {
            try {
                (void)models.rerank(b, "q", {"x"});
            } catch (const Error& error) {
                code = error.code();
            }
        };
        CallsBack::hook = &calls_back;
        models.async_embed(a, {"x"}, answer.handler());
        answer.wait();
        CallsBack::hook = nullptr;
    }
    CHECK(answer.value().size() == 1);
    CHECK(code == errc::would_deadlock);
}

TEST_CASE("Without max_calls as many asynchronous calls run as leases, on no more threads than processors",
          "[H27][H39]") {
    const auto world = std::make_shared<FakeWorld>();
    const auto gate = world->block(FakeStep::inference, a);
    std::vector<Outcome<Embeddings>> answers(50);
    {
        ModelManager<FakeAsyncEmbeddingBackend, FakeAsyncRerankerBackend> models{
            FakeAsyncEmbeddingBackend(world), FakeAsyncRerankerBackend(world), {.embedding = {.max_leases = 50}}};
        for (auto& answer : answers) {
            models.async_embed(a, {"x"}, answer.handler());
        }
        gate->await_held(50);
        gate->open();
        for (auto& answer : answers) {
            answer.wait();
            CHECK(answer.value().size() == 1);
        }
    }
    CHECK(world->violations().empty());
}

}  // namespace async_models_test
