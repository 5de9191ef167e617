// H18 and H22: allocations that fail, and a hot path without any.

#include "support/bench.hpp"

#include "support/memory.hpp"

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");
const ModelKey c("bge-small-en-v1.5-of-a-third-kind-with-an-even-longer-name", "q8_0-with-a-long-name");

// Models whose calls, loads and unloads need no memory of the library's share.
struct FrugalModel {
    Embeddings embed(std::span<const std::string> texts) {
        const AmpleMemory mine;
        return Embeddings(texts.size(), 1);
    }
    std::vector<float> rerank(std::string_view, std::span<const std::string> documents) {
        const AmpleMemory mine;
        return std::vector<float>(documents.size());
    }
};

struct FrugalBackend {
    using model_type = FrugalModel;
    std::unique_ptr<FrugalModel> load(const ModelKey&) {
        const AmpleMemory mine;
        return std::make_unique<FrugalModel>();
    }
};

using Manager = ModelManager<FrugalBackend, FrugalBackend, VirtualClock>;

// A manager on one context, with nothing that needs a timer.
struct FrugalBench {
    explicit FrugalBench(SlotOptions options = {}) {
        VirtualClock::reset();
        options.keep_alive = keep_alive_forever;
        models.emplace(FrugalBackend(), FrugalBackend(), ManagerOptions{.embedding = options, .reranker = options},
                       Executors::all(context.get_executor()));
    }
    void run() { run_ready(context); }
    // The same without an allocation of the test's own.
    void run_frugally() {
        context.restart();
        context.poll();
    }
    [[nodiscard]] auto& slot() { return models->embedding(); }
    [[nodiscard]] Lease<FrugalModel> lease(const ModelKey& key) {
        Outcome<Lease<FrugalModel>> answer;
        slot().async_acquire(key, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        return std::move(answer.value());
    }
    [[nodiscard]] std::string status() const {
        std::ostringstream text;
        text << models->status();
        return text.str();
    }

    asio::io_context context;
    std::optional<Manager> models;
};

// Starts an operation again and again, each time with one allocation more before they fail, until none fails any more. `prepare` brings
// a new bench to where the operation is started. Gives how often it threw.
template <class Result, class Prepare, class Start>
std::size_t starve(Prepare prepare, Start start) {
    for (std::size_t first = 1;; ++first) {
        INFO("allocations fail from the " << first << ". on");
        REQUIRE(first < 1000);
        FrugalBench bench;
        prepare(bench);
        bench.run();
        const std::string before = bench.status();
        Request<Result> request;
        bool threw = false;
        std::size_t failures = 0;
        {
            auto token = request.token();
            const ScarceMemory scarce(first);
            try {
                start(bench, std::move(token));
            } catch (const std::bad_alloc&) {
                threw = true;
            }
            failures = scarce.failures();
        }
        if (threw) {
            // Nothing has begun: nobody is told, nobody can be cancelled, nothing is kept.
            CHECK(bench.status() == before);
            CHECK_FALSE(request.held());
            request.cancel();
            bench.run();
            CHECK(request.calls() == 0);
            CHECK(bench.status() == before);
        } else {
            bench.run();
            // What succeeded to start succeeds.
            REQUIRE(request.calls() == 1);
            CHECK(request.code() == boost::system::error_code());
        }
        if (failures == 0) {
            CHECK_FALSE(threw);
            return first - 1;
        }
        CHECK(threw);
    }
}

const auto nothing_before = [](FrugalBench&) {};
const auto ready_before = [](FrugalBench& bench) { bench.lease(a).release(); };

}  // namespace

TEST_CASE("An acquire that finds no memory throws, and nothing has begun", "[H18][R9]") {
    const auto acquire = [](const RequestOptions& options) {
        return [options](FrugalBench& bench, auto token) { bench.slot().async_acquire(a, options, std::move(token)); };
    };
    CHECK(starve<Lease<FrugalModel>>(nothing_before, acquire({})) > 0);
    CHECK(starve<Lease<FrugalModel>>(nothing_before, acquire({.timeout = 1h})) > 0);
    // On a ready model nothing is allocated but by the executor.
    CHECK(starve<Lease<FrugalModel>>(ready_before, acquire({})) == 0);
    // Another key is to make room.
    CHECK(starve<Lease<FrugalModel>>([](FrugalBench& bench) { bench.lease(b).release(); }, acquire({})) > 0);
}

TEST_CASE("An ensure_loaded that finds no memory throws, and nothing has begun", "[H18][R9]") {
    const auto ensure = [](FrugalBench& bench, auto token) { bench.slot().async_ensure_loaded(a, std::move(token)); };
    CHECK(starve<Generation>(nothing_before, ensure) > 0);
    CHECK(starve<Generation>(ready_before, ensure) > 0);
}

TEST_CASE("A call that finds no memory throws, and nothing has begun", "[H18][R9]") {
    const auto embed = [](FrugalBench& bench, auto token) {
        const auto texts = [] {
            const AmpleMemory mine;
            return std::vector<std::string>{"text"};
        };
        bench.models->async_embed(a, texts(), {.timeout = 1h}, std::move(token));
    };
    const auto rerank = [](FrugalBench& bench, auto token) {
        const auto texts = [] {
            const AmpleMemory mine;
            return std::vector<std::string>{"text"};
        };
        bench.models->async_rerank(a, "query", texts(), std::move(token));
    };
    CHECK(starve<Embeddings>(nothing_before, embed) > 0);
    CHECK(starve<Embeddings>(ready_before, embed) > 0);
    CHECK(starve<Ranking>(nothing_before, rerank) > 0);
}

TEST_CASE("An unload that finds no memory throws, and nothing has begun", "[H18][R9]") {
    const auto unload = [](UnloadMode mode) {
        return [mode](FrugalBench& bench, auto token) { bench.slot().async_unload(a, mode, std::move(token)); };
    };
    const auto unload_all = [](FrugalBench& bench, auto token) { bench.slot().async_unload(std::move(token)); };
    for (const UnloadMode mode : {UnloadMode::drain, UnloadMode::revoke}) {
        CHECK(starve<void>(ready_before, unload(mode)) > 0);
        CHECK(starve<void>(nothing_before, unload(mode)) > 0);
    }
    CHECK(starve<void>(ready_before, unload_all) > 0);
}

TEST_CASE("A shutdown that finds no memory throws, and nothing has begun, in neither slot of a manager", "[H18][R9]") {
    const auto both_ready = [](FrugalBench& bench) {
        bench.lease(a).release();
        Outcome<Ranking> answer;
        bench.models->async_rerank(b, "query", {"text"}, answer.handler());
        bench.run();
    };
    const auto shut_slot = [](FrugalBench& bench, auto token) { bench.slot().async_shutdown(std::move(token)); };
    const auto shut_all = [](FrugalBench& bench, auto token) { bench.models->async_shutdown(std::move(token)); };
    const auto shut_by = [](FrugalBench& bench, auto token) { bench.models->async_shutdown(1h, std::move(token)); };
    CHECK(starve<ShutdownReport>(nothing_before, shut_slot) > 0);
    CHECK(starve<ShutdownReport>(both_ready, shut_slot) > 0);
    CHECK(starve<ShutdownReport>(both_ready, shut_all) > 0);
    CHECK(starve<ShutdownReport>(both_ready, shut_by) > 0);
}

TEST_CASE("What an operation needs later is reserved when it is started", "[H18][R9]") {
    FrugalBench bench({.max_leases = 2});
    Outcome<Lease<FrugalModel>> first;
    Outcome<Lease<FrugalModel>> second;
    Outcome<Lease<FrugalModel>> third;
    Outcome<Lease<FrugalModel>> last;
    Outcome<Generation> ensured;
    Outcome<Embeddings> called;
    Outcome<Ranking> ranked;
    bench.slot().async_acquire(a, first.handler());
    bench.slot().async_acquire(b, second.handler());
    bench.slot().async_acquire(a, third.handler());
    bench.slot().async_ensure_loaded(b, ensured.handler());
    bench.models->async_embed(b, {"text"}, called.handler());
    bench.models->async_rerank(a, "query", {"one", "two"}, ranked.handler());
    bench.slot().async_acquire(c, last.handler());
    {
        // Loads, grants, calls and two switches, all without memory.
        const ScarceMemory scarce;
        bench.run_frugally();
        first.value().release();
        third.value().release();
        bench.run_frugally();
        second.value().release();
        bench.run_frugally();
    }
    CHECK(first.calls() == 1);
    CHECK(second.calls() == 1);
    CHECK(third.calls() == 1);
    CHECK(ensured.code() == boost::system::error_code());
    CHECK(called.code() == boost::system::error_code());
    CHECK(ranked.code() == boost::system::error_code());
    CHECK(ensured.calls() + called.calls() + ranked.calls() == 3);
    REQUIRE(last.calls() == 1);
    CHECK(last.code() == boost::system::error_code());
    CHECK(last.value().key() == c);

    Outcome<> unloaded;
    Outcome<ShutdownReport> report;
    bench.slot().async_unload(c, unloaded.handler());
    bench.models->async_shutdown(report.handler());
    {
        const ScarceMemory scarce;
        bench.run_frugally();
        last.value().release();
        bench.run_frugally();
    }
    CHECK(unloaded.calls() == 1);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    CHECK(bench.slot().status().residents.empty());
    CHECK(is_idle(bench.context));
}

TEST_CASE("The fresh load of who waited for a load that is thrown away is reserved when that is asked for", "[H18][H2]") {
    FrugalBench bench;
    Outcome<Lease<FrugalModel>> waiter;
    Outcome<> unloaded;
    bench.slot().async_acquire(a, waiter.handler());
    bench.slot().async_unload(a, unloaded.handler());
    {
        const ScarceMemory scarce;
        bench.run_frugally();
    }
    CHECK(unloaded.calls() == 1);
    REQUIRE(waiter.calls() == 1);
    CHECK(waiter.code() == boost::system::error_code());
    waiter.value().release();
}

TEST_CASE("A request that fails while there is no memory is told so, if not in which words", "[H18][R9]") {
    FrugalBench bench({.max_leases = 1, .max_queue = 2});
    Lease<FrugalModel> held = bench.lease(a);
    Request<Lease<FrugalModel>> cancelled;
    Outcome<Lease<FrugalModel>> refused;
    Outcome<ShutdownReport> report;
    bench.slot().async_acquire(a, cancelled.token());
    bench.slot().async_acquire(a, refused.handler());
    bench.slot().async_shutdown(report.handler());
    const std::size_t waiting = bench.slot().status().waiting;
    {
        const ScarceMemory scarce;
        cancelled.cancel();
        bench.run_frugally();
        held.release();
        bench.run_frugally();
    }
    CHECK(waiting == 0);
    CHECK(cancelled.calls() == 1);
    CHECK(cancelled.exception() != nullptr);
    CHECK(refused.calls() == 1);
    CHECK(refused.exception() != nullptr);
    CHECK(report.calls() == 1);
    CHECK(bench.slot().status().residents.empty());
}

TEST_CASE("A cancel finds the memory that it needs, or tells bad_alloc", "[H18][R9]") {
    FrugalBench bench({.max_leases = 1});
    Lease<FrugalModel> held = bench.lease(a);
    Request<Lease<FrugalModel>> cancelled;
    bench.slot().async_acquire(a, cancelled.token());
    {
        const ScarceMemory scarce;
        cancelled.cancel();
        bench.run_frugally();
    }
    REQUIRE(cancelled.calls() == 1);
    CHECK(cancelled.exception() != nullptr);
    CHECK(bench.slot().status().waiting == 0);
    held.release();
    bench.run();
}

TEST_CASE("Models must be nothrow destructible, which a concept says", "[H18]") {
    struct Throwing {
        ~Throwing() noexcept(false) {}
        Embeddings embed(std::span<const std::string>) { return {}; }
    };
    struct ThrowingBackend {
        using model_type = Throwing;
        std::unique_ptr<Throwing> load(const ModelKey&) { return nullptr; }
    };
    STATIC_REQUIRE(UnloadsWithoutThrowing<FrugalBackend>);
    STATIC_REQUIRE_FALSE(UnloadsWithoutThrowing<ThrowingBackend>);
    STATIC_REQUIRE_FALSE(ModelBackend<ThrowingBackend>);
    STATIC_REQUIRE_FALSE(EmbeddingBackend<ThrowingBackend>);
}

TEST_CASE("Granting and releasing a lease on a ready model allocates nothing, however long its key", "[H22][R4]") {
    FrugalBench bench;
    bench.lease(a).release();
    std::size_t granted = 0;
    const std::size_t before = Memory::here().allocations;
    for (int round = 0; round < 100; ++round) {
        Lease<FrugalModel> lease = bench.slot().try_acquire(a);
        Lease<FrugalModel> beside = bench.slot().try_acquire(a);
        granted += (lease && beside) ? 2 : 0;
    }
    CHECK(Memory::here().allocations == before);
    CHECK(granted == 200);
}

TEST_CASE("A request on a ready model copies no key", "[H22]") {
    FrugalBench bench;
    bench.lease(a).release();
    std::size_t calls = 0;
    const std::size_t before = Memory::here().allocations;
    for (int round = 0; round < 100; ++round) {
        bench.slot().async_acquire(a, [&calls](std::exception_ptr, Lease<FrugalModel> lease) { calls += lease ? 1 : 0; });
        bench.run_frugally();
    }
    const std::size_t allocations = Memory::here().allocations - before;
    CHECK(allocations == 0);
    CHECK(calls == 100);
}
