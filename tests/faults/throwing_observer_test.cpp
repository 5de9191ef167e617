// An observer that throws at one type of event, for every type that there is: nothing else changes.

#include "support/bench.hpp"
#include "support/last_words.hpp"

#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace throwing_observer_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

constexpr int types = static_cast<int>(EventType::dropped) + 1;

// Has an event of every type but handler_threw, on the virtual clock, while the observer throws at `thrower`. Gives
// what was seen.
std::set<EventType> live_through(std::optional<EventType> thrower) {
    std::set<EventType> seen;
    SlotOptions options;
    options.max_leases = 1;
    options.max_queue = 1;
    // A key whose waiter has timed out has no claim.
    options.abandon_after = 0ms;
    ManagerBench bench({.embedding = options, .reranker = options});
    bench.events.on_event([&](const Event& event) {
        seen.insert(event.type);
        if (event.type == thrower) {
            throw std::runtime_error("the log is full");
        }
    });
    // load_started, load_progress, load_log, and, as the observer has its turn only after the load, dropped.
    bench.world->on(FakeStep::load, [](const testing::FakeCall& call) {
        call.context->progress(0.5F);
        for (int line = 0; line < 5'000; ++line) {
            call.context->log(Severity::info, "a line");
        }
    });
    auto held = bench.acquire(a);
    bench.run();
    bench.world->on(FakeStep::load, {});
    REQUIRE(held.calls() == 1);
    // rejected, drain_started, drain_ended, timed_out
    auto waits = bench.acquire(b, {.timeout = 1s});
    const auto rejected = bench.acquire(c);
    bench.advance(1s);
    CHECK(waits.code() == errc::timed_out);
    CHECK(rejected.code() == errc::overloaded);
    held.value().release();
    // inference_failed
    bench.world->fail_next(FakeStep::inference, a, std::runtime_error("no logits"));
    const auto failed = bench.embed(a);
    bench.run();
    CHECK(failed.code() == errc::inference_failed);
    // unload_started, unloaded
    const auto unloaded = bench.unload(a);
    bench.run();
    CHECK(unloaded.calls() == 1);
    // ready, which was dropped before
    const auto again = bench.ensure(a);
    bench.run();
    CHECK_FALSE(again.exception());
    // load_failed
    bench.world->fail_next(FakeStep::load, b, std::runtime_error("no such file"));
    const auto missing = bench.acquire(b);
    bench.run();
    CHECK(missing.code() == errc::load_failed);
    // load_aborted
    asio::cancellation_signal signal;
    const auto left = bench.acquire(c, {}, signal.slot());
    bench.world->on(FakeStep::load, [&signal](const testing::FakeCall&) {
        signal.emit(asio::cancellation_type::terminal);
        throw std::runtime_error("stopped");
    });
    bench.run();
    CHECK(left.code() == asio::error::operation_aborted);
    // shutdown_started, shutdown_completed
    bench.finish(8);
    return seen;
}

}  // namespace

TEST_CASE("An observer that throws at any one type of event changes nothing, and gets all the others",
          "[R9][R10][R12][H19]") {
    std::set<EventType> seen = live_through({});
    for (int type = 0; type < types; ++type) {
        const auto thrower = static_cast<EventType>(type);
        INFO("the observer throws at " << to_string(thrower));
        CHECK(live_through(thrower) == seen);
    }
    // It was asked to throw at each of them.
    seen.insert(EventType::handler_threw);
    for (int type = 0; type < types; ++type) {
        INFO(to_string(static_cast<EventType>(type)));
        CHECK(seen.contains(static_cast<EventType>(type)));
    }
}

TEST_CASE("An observer that throws at handler_threw changes nothing: what the handler threw ends the process",
          "[R10][H12][H19]") {
    const std::string words = last_words_of_exception([] {
        const auto world = std::make_shared<FakeWorld>();
        ManagerOptions options;
        options.observer = [](const Event& event) {
            if (event.type == EventType::handler_threw) {
                std::cerr << event << std::endl;
                throw std::runtime_error("the log is full");
            }
        };
        ModelManager<FakeEmbeddingBackend, FakeRerankerBackend> models{FakeEmbeddingBackend(world),
                                                                       FakeRerankerBackend(world), options};
        models.async_embed(
            a, {"text"}, [](std::exception_ptr, const Embeddings&) { throw std::runtime_error("out of the handler"); });
        // Ends when the process does.
        std::promise<void>().get_future().wait();
    });
    CHECK(words == "handler_threw: out of the handler\nterminate: out of the handler\n");
}

TEST_CASE("An observer that throws when it is copied: there is no manager then", "[R12]") {
    struct Fragile {
        std::shared_ptr<int> token;
        int* left;
        Fragile(std::shared_ptr<int> with, int& copies) : token(std::move(with)), left(&copies) {}
        Fragile(const Fragile& other) : token(other.token), left(other.left) {
            if (--*left == 0) {
                throw std::runtime_error("cannot be copied");
            }
        }
        void operator()(const Event&) const {}
    };
    const auto world = std::make_shared<FakeWorld>();
    const auto token = std::make_shared<int>();
    int thrown = 0;
    for (bool threw = true; threw;) {
        INFO("copy " << thrown + 1 << " throws");
        REQUIRE(thrown < 100);
        threw = false;
        int left = 0;
        ManagerOptions options;
        options.observer = Fragile(token, left);
        left = thrown + 1;
        try {
            const ModelManager<FakeEmbeddingBackend, FakeRerankerBackend> models{FakeEmbeddingBackend(world),
                                                                                 FakeRerankerBackend(world), options};
        } catch (const std::runtime_error&) {
            threw = true;
            ++thrown;
        }
        CHECK(world.use_count() == 1);
        CHECK(token.use_count() == 2);
    }
    CHECK(thrown > 0);
}

}  // namespace throwing_observer_test
