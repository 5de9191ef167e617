// Backends and models that throw wherever they are called: in load, in max_concurrency, in embed and rerank, when a
// backend is moved; all kinds of things, while the caller waits, has left, or is gone.

#include "support/bench.hpp"

#include <array>
#include <chrono>
#include <cstddef>
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

namespace throwing_backend_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

const ModelKey a("a");
const ModelKey b("b");

// One that calls the library back when it is asked what it says, as nothing is forbidden to do.
class Inquisitive : public std::exception {
public:
    explicit Inquisitive(ManagerBench& bench) : bench_(&bench) {}
    [[nodiscard]] const char* what() const noexcept override {
        (void)bench_->manager->status();
        return "asked for status";
    }

private:
    ManagerBench* bench_;
};

struct Thrown {
    const char* name;
    std::function<void(ManagerBench&)> raise;
    boost::system::error_code kept{};
};

const std::vector<Thrown>& all_thrown() {
    static const std::vector<Thrown> all{
        {"a std::exception", [](ManagerBench&) { throw std::runtime_error("out of order"); }},
        {"bad_alloc", [](ManagerBench&) { throw std::bad_alloc(); }},
        {"what is no std::exception", [](ManagerBench&) { throw 42; }},
        {"an Error of its own",
         [](ManagerBench&) { throw Error(errc::invalid_request, a, Stage::load, "no such file"); },
         make_error_code(errc::invalid_request)},
        {"one that calls the library", [](ManagerBench& bench) { throw Inquisitive(bench); }},
    };
    return all;
}

// What happens while it is called, and what may come of the request then: nothing means that it gets the
// backend's failure.
struct Meanwhile {
    const char* name;
    std::function<void(ManagerBench&, Request<Embeddings>&)> act;
    std::optional<boost::system::error_code> expected{};
    // Its load was asked to stop, as no request waited for it any more.
    bool abandons = false;
};

const std::vector<Meanwhile>& all_meanwhile() {
    static const std::vector<Meanwhile> all{
        {"nothing", [](ManagerBench&, Request<Embeddings>&) {}},
        {"its caller leaves", [](ManagerBench&, Request<Embeddings>& request) { request.cancel(); },
         operation_aborted()},
        {"its time passes",
         [](ManagerBench& bench, Request<Embeddings>&) {
             VirtualClock::advance(1h);
             run_ready(bench.control);
         },
         make_error_code(errc::timed_out)},
        {"its time passes, and that of its load",
         [](ManagerBench& bench, Request<Embeddings>&) {
             VirtualClock::advance(1h);
             run_ready(bench.control);
             VirtualClock::advance(SlotOptions().abandon_after);
             run_ready(bench.control);
         },
         make_error_code(errc::timed_out), true},
        {"its manager is shut down",
         [](ManagerBench& bench, Request<Embeddings>&) {
             bench.manager->async_shutdown([](std::exception_ptr, const ShutdownReport&) {});
         }},
        {"its manager is destroyed", [](ManagerBench& bench, Request<Embeddings>&) { bench.manager.reset(); },
         make_error_code(errc::shutting_down)},
    };
    return all;
}

// Lets the fake throw `thrown` in `step` while `meanwhile` happens, and gives what the caller got. The manager, if
// it is left, goes on.
void throw_in(FakeStep step, const Thrown& thrown, const Meanwhile& meanwhile) {
    INFO((step == FakeStep::load ? "load" : "inference")
         << " throws " << thrown.name << " while " << meanwhile.name << " happens");
    if (std::string(thrown.name) == "one that calls the library" &&
        std::string(meanwhile.name) == "its manager is destroyed") {
        // There is none to call.
        return;
    }
    ManagerBench bench;
    Request<Embeddings> request;
    Outcome<Ranking> other;
    bench.world->on(step, [&](const FakeCall& call) {
        if (call.key == a) {
            meanwhile.act(bench, request);
            thrown.raise(bench);
        }
    });
    bench.manager->async_embed(a, {"text"}, {.timeout = 1h}, request.token());
    bench.manager->async_rerank(b, "query", {"text"}, other.handler());
    bench.run();
    REQUIRE(request.calls() == 1);
    CHECK_FALSE(request.held());
    if (meanwhile.expected) {
        CHECK(request.code() == *meanwhile.expected);
    } else if (step == FakeStep::load && !bench.manager->status().embedding.shutting_down) {
        CHECK(request.code() == (thrown.kept ? thrown.kept : make_error_code(errc::load_failed)));
    } else if (step == FakeStep::load) {
        CHECK(request.code() == errc::shutting_down);
    } else {
        CHECK(request.code() == (thrown.kept ? thrown.kept : make_error_code(errc::inference_failed)));
    }
    REQUIRE(other.calls() == 1);
    CHECK(bench.world->counts(a).calling == 0);
    bench.world->on(step, {});
    if (bench.manager && !bench.manager->status().embedding.shutting_down) {
        const SlotStatus status = bench.manager->embedding().status();
        CHECK(status.leases == 0);
        CHECK(status.waiting == 0);
        // R11: after its cooldown it starts clean. A load that was asked to stop is aborted, and has none; nor has an
        // invalid request (H1).
        if (step == FakeStep::load) {
            CHECK(status.residents.empty());
            CHECK(status.failures.empty() == (meanwhile.abandons || thrown.kept == errc::invalid_request));
        }
        Outcome<Embeddings> again;
        bench.advance(1min);
        bench.manager->async_embed(a, {"text"}, again.handler());
        bench.run();
        REQUIRE(again.calls() == 1);
        CHECK_FALSE(again.exception());
    }
    if (bench.manager) {
        bench.check_end();
    } else {
        bench.check_nothing_left();
    }
}

}  // namespace

TEST_CASE("A load that throws, whatever and whenever, fails its requests once, and leaves nothing behind",
          "[R9][R10][R11][H1]") {
    for (const Thrown& thrown : all_thrown()) {
        for (const Meanwhile& meanwhile : all_meanwhile()) {
            throw_in(FakeStep::load, thrown, meanwhile);
        }
    }
}

TEST_CASE("A model that throws, whatever and whenever, fails its request once, and is as good as before",
          "[R9][R10][R11]") {
    for (const Thrown& thrown : all_thrown()) {
        for (const Meanwhile& meanwhile : all_meanwhile()) {
            throw_in(FakeStep::inference, thrown, meanwhile);
        }
    }
}

namespace {

// Throws when it is asked how many calls it takes.
class Shy : public testing::FakeEmbedder {
public:
    using testing::FakeEmbedder::FakeEmbedder;
    [[nodiscard]] static std::size_t max_concurrency() {
        if (throws) {
            throw std::runtime_error("will not say");
        }
        return 1;
    }
    inline static bool throws = true;
};

// Throws at its `left`-th move from now on.
template <class Backend>
struct Clumsy : Backend {
    Clumsy(std::shared_ptr<FakeWorld> world, int& left) : Backend(std::move(world)), left_(&left) {}
    Clumsy(Clumsy&& other) : Backend(std::move(static_cast<Backend&>(other))), left_(other.left_) {
        if (--*left_ == 0) {
            throw std::runtime_error("dropped");
        }
    }

private:
    int* left_;
};

}  // namespace

TEST_CASE("A model that throws when it is asked for its max_concurrency was not loaded, and is destroyed",
          "[R9][R10][R11]") {
    Bench bench;
    {
        ModelSlot<testing::FakeBackend<Shy>, VirtualClock> slot{
            testing::FakeBackend<Shy>(bench.world), {}, bench.executors()};
        Outcome<Lease<Shy>> refused;
        Shy::throws = true;
        slot.async_acquire(a, refused.handler());
        bench.run();
        REQUIRE(refused.calls() == 1);
        CHECK(refused.code() == errc::load_failed);
        CHECK_THAT(std::string(refused.error().what()), contains_text("will not say"));
        CHECK(bench.world->counts().live == 0);
        CHECK(slot.status().residents.empty());
        Shy::throws = false;
        bench.advance(1min);
        Outcome<Lease<Shy>> granted;
        slot.async_acquire(a, granted.handler());
        bench.run();
        REQUIRE(granted.calls() == 1);
        CHECK(granted.value());
        granted.value().release();
        bench.check_ends_clean(slot);
    }
    bench.check_nothing_left();
}

TEST_CASE(
    "A backend that throws when it is moved: there is no manager then, and nothing of the other backend or of threads",
    "[R12][H12]") {
    using Embedding = Clumsy<testing::FakeEmbeddingBackend>;
    using Reranker = Clumsy<testing::FakeRerankerBackend>;
    asio::io_context context;
    for (const bool owns_threads : {false, true}) {
        for (const bool second : {false, true}) {
            const auto world = std::make_shared<FakeWorld>();
            int moves = 0;
            for (int nth = 1; moves == 0; ++nth) {
                INFO("move " << nth << " of the " << (second ? "second" : "first") << " backend throws");
                REQUIRE(nth < 100);
                int never = 0;
                int left = nth;
                bool threw = false;
                const Executors executors = owns_threads ? Executors{} : Executors::all(context.get_executor());
                // The threads hold the observer for as long as they run.
                const auto token = std::make_shared<int>();
                ManagerOptions options;
                options.observer = [token](const Event&) {};
                try {
                    const ModelManager<Embedding, Reranker> models(Embedding(world, second ? never : left),
                                                                   Reranker(world, second ? left : never), options,
                                                                   executors);
                } catch (const std::runtime_error&) {
                    threw = true;
                }
                run_ready(context);
                options = {};
                CHECK(token.use_count() == 1);
                CHECK(world.use_count() == 1);
                CHECK(threw == (left <= 0));
                moves = threw ? 0 : nth;
            }
            // At least one threw.
            CHECK(moves > 1);
        }
    }
    CHECK(is_idle(context));
}

}  // namespace throwing_backend_test
