// H18 and H22: memory that is there later because it was reserved, and a hot path that needs none. Starts that find no
// memory are in faults/allocation_test.cpp.

#include "support/memory.hpp"
#include "support/non_allocating_fakes.hpp"

#include "residency/shell/event_queue.hpp"

#include <array>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace out_of_memory_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");
const ModelKey c("bge-small-en-v1.5-of-a-third-kind-with-an-even-longer-name", "q8_0-with-a-long-name");

// Ends the leases that were granted.
template <class... Outcomes>
void release_granted(Outcomes&... outcomes) {
    const auto release = [](auto& outcome) {
        if (outcome.calls() == 1 && !outcome.exception()) {
            outcome.value().release();
        }
    };
    (release(outcomes), ...);
}

}  // namespace

TEST_CASE("An operation that has begun completes once, with or without memory", "[H18][R9]") {
    NonAllocatingBench bench({.keep_alive = keep_alive_forever, .max_leases = 2, .cooldown = 0ms});
    Outcome<FrugalLease> first;
    Outcome<FrugalLease> second;
    Outcome<FrugalLease> third;
    Outcome<FrugalLease> last;
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
        // Loads, grants, calls and switches: what finds no memory fails the requests that it concerns, and nothing
        // else.
        const AllocationFaults scarce;
        bench.run_without_memory();
        release_granted(first, third);
        bench.run_without_memory();
        release_granted(second);
        bench.run_without_memory();
    }
    bench.run();
    release_granted(first, second, third);
    bench.run();
    CHECK(first.calls() == 1);
    CHECK(second.calls() == 1);
    CHECK(third.calls() == 1);
    CHECK(ensured.calls() + called.calls() + ranked.calls() == 3);
    REQUIRE(last.calls() == 1);
    release_granted(last);
    last = Outcome<FrugalLease>();
    bench.slot().async_acquire(c, last.handler());
    bench.run();
    // With memory it goes on as ever.
    REQUIRE(last.calls() == 1);
    REQUIRE_FALSE(last.exception());
    CHECK(last.value().key() == c);

    Outcome<> unloaded;
    Outcome<ShutdownReport> report;
    bench.slot().async_unload(c, unloaded.handler());
    bench.models->async_shutdown(report.handler());
    {
        const AllocationFaults scarce;
        bench.run_without_memory();
        last.value().release();
        bench.run_without_memory();
    }
    CHECK(unloaded.calls() == 1);
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
    CHECK(bench.slot().status().residents.empty());
    CHECK(bench.at_rest());
}

TEST_CASE("A waiter of a load that is thrown away completes once, with or without memory for a fresh one",
          "[H18][H2]") {
    NonAllocatingBench bench;
    Outcome<FrugalLease> waiter;
    Outcome<> unloaded;
    bench.slot().async_acquire(a, waiter.handler());
    bench.slot().async_unload(a, unloaded.handler());
    {
        const AllocationFaults scarce;
        bench.run_without_memory();
    }
    CHECK(unloaded.calls() == 1);
    REQUIRE(waiter.calls() == 1);
    release_granted(waiter);
}

TEST_CASE("A request that fails while there is no memory gets its error, if not its words", "[H18][R9]") {
    NonAllocatingBench bench({.keep_alive = keep_alive_forever, .max_leases = 1, .max_queue = 2});
    FrugalLease held = bench.lease(a);
    Request<FrugalLease> cancelled;
    Outcome<FrugalLease> refused;
    Outcome<ShutdownReport> report;
    bench.slot().async_acquire(a, cancelled.token());
    bench.slot().async_acquire(a, refused.handler());
    bench.slot().async_shutdown(report.handler());
    const std::size_t waiting = bench.slot().status().waiting;
    {
        const AllocationFaults scarce;
        cancelled.cancel();
        bench.run_without_memory();
        held.release();
        bench.run_without_memory();
    }
    CHECK(waiting == 0);
    CHECK(cancelled.calls() == 1);
    CHECK(cancelled.exception() != nullptr);
    CHECK(refused.calls() == 1);
    CHECK(refused.exception() != nullptr);
    CHECK(report.calls() == 1);
    CHECK(bench.slot().status().residents.empty());
}

TEST_CASE("A cancel finds the memory that it needs, or fails with bad_alloc", "[H18][R9]") {
    NonAllocatingBench bench({.keep_alive = keep_alive_forever, .max_leases = 1});
    FrugalLease held = bench.lease(a);
    Request<FrugalLease> cancelled;
    bench.slot().async_acquire(a, cancelled.token());
    {
        const AllocationFaults scarce;
        cancelled.cancel();
        bench.run_without_memory();
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
    STATIC_REQUIRE(UnloadsWithoutThrowing<NonAllocatingBackend>);
    STATIC_REQUIRE_FALSE(UnloadsWithoutThrowing<ThrowingBackend>);
    STATIC_REQUIRE_FALSE(ModelBackend<ThrowingBackend>);
    STATIC_REQUIRE_FALSE(EmbeddingBackend<ThrowingBackend>);
}

TEST_CASE("Granting and releasing a lease on a ready model allocates nothing, however long its key", "[H22][R4]") {
    NonAllocatingBench bench;
    bench.lease(a).release();
    std::size_t granted = 0;
    const std::size_t before = Memory::here().allocations;
    for (int round = 0; round < 100; ++round) {
        FrugalLease lease = bench.slot().try_acquire(a);
        FrugalLease beside = bench.slot().try_acquire(a);
        granted += (lease && beside) ? 2 : 0;
    }
    CHECK(Memory::here().allocations == before);
    CHECK(granted == 200);
}

TEST_CASE("A request on a ready model copies no key", "[H22]") {
    NonAllocatingBench bench;
    bench.lease(a).release();
    std::size_t calls = 0;
    const std::size_t before = Memory::here().allocations;
    for (int round = 0; round < 100; ++round) {
        bench.slot().async_acquire(a, [&calls](std::exception_ptr, FrugalLease lease) { calls += lease ? 1 : 0; });
        bench.run_without_memory();
    }
    const std::size_t allocations = Memory::here().allocations - before;
    CHECK(allocations == 0);
    CHECK(calls == 100);
}

TEST_CASE("A shutdown that finds no memory to name its slot completes all the same", "[H18][R9]") {
    NonAllocatingWorld world;
    for (std::size_t first = 1; first < 30; ++first) {
        INFO("allocation " << first);
        VirtualClock::reset();
        asio::io_context context;
        Outcome<ShutdownReport> report;
        std::size_t failures = 0;
        bool started = false;
        const Observer observer = first % 2 == 0 ? Observer() : Observer([](const Event& /*event*/) {});
        ModelSlot<NonAllocatingBackend, VirtualClock> slot(NonAllocatingBackend{&world}, {},
                                                           Executors::all(context.get_executor()), observer,
                                                           "a slot whose name is past the small-string size");
        {
            const AllocationFaults scarce(first, FaultPattern::only);
            try {
                slot.async_shutdown(report.handler());
                started = true;
            } catch (const std::bad_alloc&) {}
            failures = scarce.failures();
        }
        run_ready(context);
        CHECK(report.calls() == (started ? 1 : 0));
        CHECK((started || failures == 1));
    }
}

TEST_CASE("A waiter of a load that could not begin does not get the cause of another's failure", "[H18][R11]") {
    bool without_memory = false;
    for (std::size_t first = 1; first < 200; ++first) {
        INFO("allocation " << first);
        NonAllocatingBench bench({.keep_alive = keep_alive_forever, .max_leases = 1});
        // By turns, so that there are more loads than there is room reserved for.
        std::array<Outcome<FrugalLease>, 8> by_turns;
        for (std::size_t turn = 0; turn < by_turns.size(); ++turn) {
            bench.slot().async_acquire(turn % 2 == 0 ? a : b, by_turns[turn].handler());
        }
        Outcome<FrugalLease> broken;
        Outcome<FrugalLease> other;
        bench.slot().async_acquire(c, broken.handler());
        bench.slot().async_acquire(a, other.handler());
        for (Outcome<FrugalLease>& turn : by_turns) {
            bench.run();
            REQUIRE(turn.calls() == 1);
            turn.value().release();
        }
        bench.run_without_loading();
        bench.world.in_load = [&bench] {
            const AmpleMemory mine;
            for (const ResidentStatus& resident : bench.slot().status().residents) {
                if (resident.key == c) {
                    throw std::runtime_error("the file is broken");
                }
            }
        };
        {
            const AllocationFaults scarce(first, FaultPattern::only);
            bench.run_without_memory();
        }
        bench.run();
        REQUIRE(broken.calls() == 1);
        CHECK(broken.exception() != nullptr);
        if (other.calls() == 0) {
            FAIL("the waiter did not complete");
        }
        if (other.exception() == nullptr) {
            other.value().release();
            bench.run();
            continue;
        }
        without_memory = true;
        CHECK(message_of(other.exception()).find("broken") == std::string::npos);
        bool nested = false;
        try {
            std::rethrow_exception(other.exception());
        } catch (const std::exception& error) {
            try {
                std::rethrow_if_nested(error);
            } catch (...) {
                nested = true;
            }
        }
        CHECK_FALSE(nested);
    }
    CHECK(without_memory);
}

TEST_CASE("An event that is dropped because there is no memory is counted, although nothing waits for the observer",
          "[H18][H19]") {
    asio::io_context control;
    std::vector<Event> seen;
    const auto queue = std::make_shared<detail::EventQueue>([&seen](const Event& event) { seen.push_back(event); },
                                                            control.get_executor(), nullptr);
    std::size_t events = 0;
    // Until the queue needs another block.
    while (seen.empty() || seen.back().type != EventType::dropped) {
        Event event;
        {
            const AllocationFaults none;
            queue->push(std::move(event));
        }
        ++events;
        queue->flush();
        control.restart();
        control.run();
    }
    REQUIRE(seen.size() == events);
    CHECK(seen.back().type == EventType::dropped);
    CHECK(seen.back().count == 1);
}

TEST_CASE("One load after the other may find no memory to begin, and every waiter completes", "[H18][R9]") {
    for (const std::size_t keys : {2U, 20U, 100U}) {
        NonAllocatingBench bench({.keep_alive = keep_alive_forever, .max_leases = 1, .max_queue = 1000});
        FrugalLease first = [&bench] {
            Outcome<FrugalLease> answer;
            bench.slot().async_acquire(a, answer.handler());
            bench.run();
            return std::move(answer.value());
        }();
        std::size_t seen = 0;
        std::size_t failed = 0;
        // Each key has more than one turn, so that there are more loads to come than keys.
        for (int turn = 0; turn < 2; ++turn) {
            for (std::size_t key = 0; key < keys; ++key) {
                bench.slot().async_acquire("k" + std::to_string(key),
                                           [&](const std::exception_ptr& error, const FrugalLease& /*goes*/) {
                                               ++seen;
                                               failed += error ? 1 : 0;
                                           });
            }
        }
        first.release();
        const auto run_one = [&bench] {
            std::size_t count = 0;
            for (asio::io_context* const context : {&bench.control, &bench.inference, &bench.loading}) {
                context->restart();
                count += context->poll_one();
            }
            return count;
        };
        while (seen < keys + 2 && run_one() != 0) {}
        {
            const AllocationFaults none;
            bench.run_without_memory();
        }
        bench.run();
        CHECK(seen == 2 * keys);
        CHECK(failed < seen);
    }
}

}  // namespace out_of_memory_test
