// Handlers that throw when they are called, on the host's executors and on threads of the library's; handlers and
// allocators that throw while an operation is being started.

#include "support/bench.hpp"

#include "support/associated.hpp"
#include "support/last_words.hpp"
#include "support/operations.hpp"

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_executor.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace throwing_handler_test {

using namespace residency;
using namespace residency::test;
using namespace residency::test::operations;

namespace {

// What a blocking call that cannot succeed fails with: would_deadlock comes first.
boost::system::error_code code_of_blocking(ManagerBench& bench) {
    try {
        (void)bench.manager->embedding().acquire(nameless);
        return {};
    } catch (const Error& error) {
        return error.code();
    }
}

}  // namespace

#define EVERY_KIND Acquire, EnsureLoaded, Embed, Rerank, UnloadKey, UnloadAll, ShutdownSlot, ShutdownManager

TEMPLATE_TEST_CASE(
    "A handler that throws, on control or on an executor of its own: what it throws leaves run(), and nothing is "
    "harmed",
    "[H12][R9]", EVERY_KIND) {
    for (const bool waits : {false, true}) {
        for (const bool own : {false, true}) {
            INFO((waits ? "after a wait" : "at once") << (own ? ", on its own executor" : ", on control"));
            ManagerBench bench;
            asio::io_context elsewhere;
            Busy busy(bench);
            int calls = 0;
            const auto start = [&](auto token) {
                if (waits) {
                    TestType::wait(bench, std::move(token));
                } else {
                    TestType::start(bench, std::move(token));
                }
            };
            const auto handler = [&calls](std::exception_ptr, auto&&...) {
                ++calls;
                throw std::runtime_error("out of the handler");
            };
            own ? start(asio::bind_executor(elsewhere, handler)) : start(handler);
            const auto run = [&] {
                bench.run();
                run_ready(elsewhere);
            };
            busy.end();
            CHECK_THROWS_WITH(run(), "out of the handler");
            run();
            CHECK(calls == 1);
            // The thread is no longer marked as inside user code: it may block, and would here read what is wrong with
            // the request.
            CHECK(code_of_blocking(bench) == errc::invalid_request);
            const SlotStatus status = bench.manager->embedding().status();
            CHECK(status.leases == 0);
            CHECK(status.waiting == 0);
            CHECK(is_idle(elsewhere));
            bench.check_end();
        }
    }
}

namespace {

using OwnManager = ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend>;

// What is left of a process in which `start` is called with a manager with threads of its own: each event and the end,
// a line each.
std::string events_until_the_end(const std::function<void(OwnManager&, FakeWorld&)>& start) {
    return last_words_of_exception([&start] {
        const auto world = std::make_shared<FakeWorld>();
        ManagerOptions options;
        options.observer = [](const Event& event) { std::cerr << event << std::endl; };
        OwnManager models{testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options};
        start(models, *world);
        // Ends when the process does.
        std::promise<void>().get_future().wait();
    });
}

}  // namespace

TEST_CASE("A handler that throws on threads of the library's own ends the process, after the event that says so",
          "[H12][H19]") {
    const auto thrower = [](std::exception_ptr, auto&&...) { throw std::runtime_error("out of the handler"); };
    const std::vector<std::function<void(OwnManager&, FakeWorld&)>> starts{
        [&](OwnManager& models, FakeWorld&) { models.embedding().async_acquire(a, thrower); },
        [&](OwnManager& models, FakeWorld&) { models.embedding().async_acquire(nameless, thrower); },
        [&](OwnManager& models, FakeWorld&) { models.embedding().async_ensure_loaded(a, thrower); },
        [&](OwnManager& models, FakeWorld&) { models.async_embed(a, {"text"}, thrower); },
        [&](OwnManager& models, FakeWorld&) { models.async_rerank(a, "query", {"text"}, thrower); },
        [&](OwnManager& models, FakeWorld&) { models.embedding().async_unload(thrower); },
        [&](OwnManager& models, FakeWorld&) { models.async_shutdown(thrower); },
    };
    for (std::size_t kind = 0; kind < starts.size(); ++kind) {
        INFO("operation " << kind);
        CHECK_THAT(events_until_the_end(starts[kind]),
                   Catch::Matchers::EndsWith("handler_threw: out of the handler\nterminate: out of the handler\n"));
    }
    CHECK_THAT(events_until_the_end([](OwnManager& models, FakeWorld&) {
                   models.async_shutdown([](std::exception_ptr, const ShutdownReport&) { throw 42; });
               }),
               Catch::Matchers::EndsWith("handler_threw: an exception that is not a std::exception\n"
                                         "terminate: an exception that is not a std::exception\n"));
}

TEST_CASE("The events that were queued before a handler threw are delivered before the process ends", "[H12][H19]") {
    std::promise<void> unloading;
    const std::string words = events_until_the_end([&](OwnManager& models, FakeWorld& world) {
        world.on(FakeStep::unload, [&](const FakeCall&) {
            unloading.set_value();
            // Does not end, so that its event does not come between the last two lines.
            std::promise<void>().get_future().wait();
        });
        models.async_embed(a, {"text"}, [&](std::exception_ptr, const Embeddings&) {
            // Occupies the thread for callbacks, so that the events of the unload wait behind it.
            models.embedding().async_unload(a, [](std::exception_ptr) {});
            unloading.get_future().get();
            throw std::runtime_error("out of the handler");
        });
    });
    const std::size_t queued = words.find("unload_started a@f16 generation 1");
    const std::size_t threw = words.find("handler_threw: out of the handler\nterminate: out of the handler\n");
    REQUIRE(queued != std::string::npos);
    REQUIRE(threw != std::string::npos);
    CHECK(queued < threw);
}

TEST_CASE("A handler that throws on an executor of its own harms no thread of the library's", "[H12][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    asio::io_context elsewhere;
    EventLog events;
    {
        ManagerOptions options;
        options.observer = events.observer();
        OwnManager models{testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options};
        models.async_embed(a, {"text"}, asio::bind_executor(elsewhere, [](std::exception_ptr, const Embeddings&) {
                               throw std::runtime_error("out of the handler");
                           }));
        CHECK_THROWS_WITH(elsewhere.run(), "out of the handler");
        CHECK(models.embed(a, {"text"}).size() == 1);
        CHECK(models.shutdown().clean());
    }
    CHECK(events.count(EventType::handler_threw) == 0);
    CHECK(world->counts().live == 0);
    CHECK(world.use_count() == 1);
}

namespace {

// A handler that throws at its `left`-th move or copy from now on, and counts its calls and how many there are.
struct Fragile {
    struct State {
        int left = 0;
        int calls = 0;
        int live = 0;
    };

    explicit Fragile(State& in) : state(&in) { ++state->live; }
    Fragile(Fragile&& other) : Fragile(other) {}
    Fragile(const Fragile& other) : state(other.state) {
        if (--state->left == 0) {
            throw std::runtime_error("cannot be moved");
        }
        ++state->live;
    }
    ~Fragile() { --state->live; }
    void operator()(const std::exception_ptr&, auto&&...) const { ++state->calls; }

    State* state;
};

// Throws at its `left`-th allocation from now on.
template <class T = void>
struct Stingy {
    using value_type = T;

    explicit Stingy(int& in) noexcept : left(&in) {}
    template <class U>
    Stingy(const Stingy<U>& other) noexcept : left(other.left) {}  // NOLINT(google-explicit-constructor)

    [[nodiscard]] T* allocate(std::size_t count) {
        if (--*left == 0) {
            throw std::bad_alloc();
        }
        return std::allocator<T>().allocate(count);
    }
    void deallocate(T* block, std::size_t count) noexcept { std::allocator<T>().deallocate(block, count); }
    template <class U>
    friend bool operator==(const Stingy& one, const Stingy<U>& other) noexcept {
        return one.left == other.left;
    }

    int* left;
};

std::string status_of(const ManagerBench& bench) {
    std::ostringstream text;
    text << bench.manager->status();
    return text.str();
}

}  // namespace

TEMPLATE_TEST_CASE(
    "A handler that cannot be moved while its operation is being started: that is thrown, and nothing has begun",
    "[H18][R9]", EVERY_KIND) {
    int thrown = 0;
    for (bool started = false; !started;) {
        INFO("move " << thrown + 1 << " throws");
        REQUIRE(thrown < 100);
        ManagerBench bench;
        Busy busy(bench);
        bench.run();
        const std::string before = status_of(bench);
        Fragile::State state;
        {
            const Fragile handler(state);
            state.left = thrown + 1;
            try {
                TestType::wait(bench, handler);
                started = true;
            } catch (const std::runtime_error&) {
                ++thrown;
                CHECK(status_of(bench) == before);
                CHECK(state.live == 1);
            }
            // From now on it may be moved: see the README on what is not proven.
            state.left = 0;
        }
        busy.end();
        bench.run();
        CHECK(state.calls == (started ? 1 : 0));
        CHECK(state.live == 0);
        bench.check_end();
    }
    CHECK(thrown > 0);
}

TEMPLATE_TEST_CASE(
    "An associated allocator that throws while an operation is being started: that is thrown, and nothing has begun",
    "[H18][R9]", EVERY_KIND) {
    int thrown = 0;
    for (bool started = false; !started;) {
        INFO("allocation " << thrown + 1 << " throws");
        REQUIRE(thrown < 100);
        ManagerBench bench;
        Busy busy(bench);
        bench.run();
        const std::string before = status_of(bench);
        int left = thrown + 1;
        Outcome<typename TestType::Result> outcome;
        try {
            TestType::wait(bench, asio::bind_allocator(Stingy<>(left), outcome.handler()));
            started = true;
        } catch (const std::bad_alloc&) {
            ++thrown;
            CHECK(status_of(bench) == before);
            CHECK_FALSE(outcome.held());
        }
        left = 0;
        busy.end();
        bench.run();
        CHECK(outcome.calls() == (started ? 1U : 0U));
        outcome = {};
        bench.check_end();
    }
    CHECK(thrown > 0);
}

}  // namespace throwing_handler_test
