// H18 for what is not an operation: making a manager, on the host's executors and with threads of its own, and calls
// that block.

#include "support/memory.hpp"
#include "support/non_allocating_fakes.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

namespace construction_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");

// Calls `attempt(nth, scarcity)` with the first, second, ... allocation failing, until none is left that could; it
// gives how many failed. Gives how many attempts there were with one that failed.
template <class Attempt>
std::size_t starve(const Attempt& attempt) {
    std::size_t failed = 0;
    for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
        for (std::size_t nth = 1;; ++nth) {
            INFO("allocation " << nth << " fails"
                               << (scarcity == FaultPattern::from ? " and all that follow" : " alone"));
            REQUIRE(nth < 1000);
            if (attempt(nth, scarcity) == 0) {
                break;
            }
            ++failed;
        }
    }
    return failed;
}

// A backend that shows whether it, or a copy, still exists.
struct CountedBackend : NonAllocatingBackend {
    std::shared_ptr<int> token;
};

// With threads of its own.
using Owner = ModelManager<NonAllocatingBackend, NonAllocatingBackend>;

// Calls `call(manager)` on a manager with threads of its own where nothing is loaded, or the model is ready. A call
// that moves the alarm may do without memory for its wait: the time is then looked at in its stead.
template <class Call>
void starve_blocking(const Call& call, bool needs_none_when_ready = false, bool moves_alarm = false) {
    for (const bool ready : {false, true}) {
        INFO((ready ? "ready" : "nothing resident"));
        const std::size_t failed = starve([&](std::size_t nth, FaultPattern scarcity) {
            NonAllocatingWorld world;
            std::size_t failures = 0;
            {
                Owner manager(NonAllocatingBackend{&world}, NonAllocatingBackend{&world});
                if (ready) {
                    manager.embedding().ensure_loaded(a);
                    manager.reranker().ensure_loaded(a);
                }
                bool threw = false;
                bool failed_later = false;
                {
                    const AllocationFaults scarce(nth, scarcity);
                    try {
                        call(manager);
                    } catch (const std::bad_alloc&) {
                        threw = true;
                    } catch (const Error& error) {
                        // It had begun, and there was no memory for the load.
                        failed_later = error.code() == errc::load_failed;
                    }
                    failures = scarce.failures();
                }
                CHECK((failures != 0 || !(threw || failed_later)));
                CHECK((threw || failed_later || moves_alarm || failures == 0));
                const SlotStatus status = manager.embedding().status();
                CHECK(status.leases == 0);
                CHECK(status.waiting == 0);
                const bool load_failed =
                    status.counters.load_failures + manager.reranker().status().counters.load_failures != 0;
                // With a load that failed for want of memory something has begun, and its key cools down.
                if (threw && !load_failed) {
                    CHECK_FALSE(status.shutting_down);
                    CHECK(status.residents.size() == (ready ? 1U : 0U));
                    call(manager);
                }
                CHECK(manager.shutdown().clean());
            }
            CHECK(world.live == 0);
            return failures;
        });
        CHECK((failed == 0) == (ready && needs_none_when_ready));
    }
}

std::vector<std::string> one_text() {
    const AmpleMemory mine;
    return {"text"};
}

}  // namespace

TEST_CASE("A manager that finds no memory is not made, and leaves nothing on the host's executors", "[H18][H12]") {
    asio::io_context control;
    asio::io_context inference;
    asio::io_context loading;
    NonAllocatingWorld world;
    const auto token = std::make_shared<int>();
    ManagerOptions options;
    options.observer = [other = std::weak_ptr<int>(token)](const Event&) {};
    const std::size_t failed = starve([&](std::size_t nth, FaultPattern scarcity) {
        VirtualClock::reset();
        using Manager = ModelManager<CountedBackend, CountedBackend, VirtualClock>;
        const Executors executors{control.get_executor(), inference.get_executor(), loading.get_executor()};
        std::optional<Manager> manager;
        bool threw = false;
        std::size_t failures = 0;
        {
            const AllocationFaults scarce(nth, scarcity);
            try {
                manager.emplace(CountedBackend{{&world}, token}, CountedBackend{{&world}, token}, options, executors);
            } catch (const std::bad_alloc&) {
                threw = true;
            }
            failures = scarce.failures();
        }
        CHECK(threw == (failures != 0));
        CHECK(threw == !manager);
        CHECK((token.use_count() == 1) == threw);
        manager.reset();
        run_ready(control, inference, loading);
        CHECK(token.use_count() == 1);
        return failures;
    });
    CHECK(failed > 0);
}

TEST_CASE("A manager that finds no memory for its threads is not made, and those that were have ended", "[H18][H12]") {
    NonAllocatingWorld world;
    const auto token = std::make_shared<int>();
    ManagerOptions options;
    // Counting the processors does without memory: runtime/processors_test.cpp.
    options.embedding.max_calls = 2;
    options.reranker.max_calls = 2;
    options.observer = [other = std::weak_ptr<int>(token)](const Event&) {};
    const std::size_t failed = starve([&](std::size_t nth, FaultPattern scarcity) {
        using Manager = ModelManager<CountedBackend, CountedBackend>;
        std::optional<Manager> manager;
        bool threw = false;
        std::size_t failures = 0;
        {
            const AllocationFaults scarce(nth, scarcity);
            try {
                manager.emplace(CountedBackend{{&world}, token}, CountedBackend{{&world}, token}, options);
            } catch (const std::bad_alloc&) {
                threw = true;
            }
            failures = scarce.failures();
        }
        CHECK(threw == (failures != 0));
        CHECK((token.use_count() == 1) == threw);
        manager.reset();
        CHECK(token.use_count() == 1);
        return failures;
    });
    CHECK(failed > 0);
}

TEST_CASE("A call that blocks and finds no memory throws, and nothing has begun but a load that failed", "[H18][R9]") {
    SECTION("ensure_loaded") {
        starve_blocking([](Owner& manager) { manager.embedding().ensure_loaded(a); });
    }
    SECTION("acquire") {
        starve_blocking([](Owner& manager) { manager.embedding().acquire(a).release(); }, true, true);
    }
    SECTION("embed") {
        starve_blocking([](Owner& manager) { (void)manager.embed(a, one_text(), {.timeout = 1h}); }, false, true);
    }
    SECTION("rerank") {
        starve_blocking([](Owner& manager) { (void)manager.rerank(a, "query", one_text()); });
    }
    SECTION("unload") {
        starve_blocking([](Owner& manager) { manager.embedding().unload(a); });
    }
    SECTION("unload of everything") {
        starve_blocking([](Owner& manager) { manager.embedding().unload(); });
    }
    SECTION("shutdown") {
        starve_blocking([](Owner& manager) { (void)manager.shutdown(); });
    }
}

}  // namespace construction_test
