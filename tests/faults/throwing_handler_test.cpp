// Handlers that throw when they are called, on the host's executors and on threads of the library's; handlers and allocators that throw while
// an operation is being started.

#include "support/bench.hpp"

#include "support/associated.hpp"
#include "support/operations.hpp"

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_executor.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace residency;
using namespace residency::test;
using namespace residency::test::operations;

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
            // The thread is not marked as one of the library's any more.
            CHECK_FALSE(runtime::UserCodeScope::active());
            const SlotStatus status = bench.manager->embedding().status();
            CHECK(status.leases == 0);
            CHECK(status.waiting == 0);
            CHECK(is_idle(elsewhere));
            bench.check_end();
        }
    }
}

TEST_CASE("Handlers that throw on threads of the library's own: each is an event, and the threads go on", "[H12][R9]") {
    const auto world = std::make_shared<FakeWorld>();
    EventLog events;
    {
        ManagerOptions options;
        options.observer = events.observer();
        ModelManager<testing::FakeEmbeddingBackend, testing::FakeRerankerBackend> models{
            testing::FakeEmbeddingBackend(world), testing::FakeRerankerBackend(world), options};
        std::promise<void> last;
        const auto thrower = [](std::exception_ptr, auto&&...) { throw std::runtime_error("out of the handler"); };
        models.embedding().async_acquire(a, thrower);
        models.embedding().async_acquire(nameless, thrower);
        models.embedding().async_ensure_loaded(a, thrower);
        models.async_embed(a, {"text"}, thrower);
        models.async_rerank(a, "query", {"text"}, thrower);
        models.embedding().async_unload(thrower);
        models.async_shutdown([&last](std::exception_ptr, const ShutdownReport&) {
            last.set_value();
            throw 42;
        });
        last.get_future().get();
        CHECK(models.shutdown().clean());
    }
    const std::vector<Event> threw = events.all(EventType::handler_threw);
    REQUIRE(threw.size() == 7);
    // A call gives its lease back before its handler is posted, so a shutdown's handler need not be the last to run.
    const auto said = [&threw](std::string_view message) {
        return std::count_if(threw.begin(), threw.end(),
                             [message](const Event& event) { return event.message == message; });
    };
    CHECK(said("out of the handler") == 6);
    CHECK(said("an exception that is not a std::exception") == 1);
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
    Fragile(Fragile&& other) : Fragile(other) {}  // NOLINT(bugprone-exception-escape): that is what it is for
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
