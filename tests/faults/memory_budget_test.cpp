// H18 with a memory budget: its making and that of a manager with it, and what goes on when there is no memory, to the
// end. Each story runs again and again, with its first, second, ... allocation failing.

#include "support/memory.hpp"
#include "support/non_allocating_fakes.hpp"

#include "residency/memory_budget.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace memory_budget_faults_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");

// Room for one model, of 60 bytes each.
constexpr std::size_t limit = 100;

SlotOptions with_budget(const std::shared_ptr<MemoryBudget>& budget) {
    SlotOptions options;
    options.keep_alive = 1min;
    options.max_resident = 0;
    options.max_leases = 2;
    options.memory = budget;
    return options;
}

// Two managers of one budget, that of the bench and another.
struct Scene : NonAllocatingBench {
    Scene() : Scene(std::make_shared<MemoryBudget>(limit)) {}
    explicit Scene(std::shared_ptr<MemoryBudget> shared)
        : NonAllocatingBench(with_budget(shared), [](const Event&) {}), budget(std::move(shared)) {
        other.emplace(NonAllocatingBackend{&world}, NonAllocatingBackend{&world},
                      ManagerOptions{.embedding = with_budget(budget), .reranker = with_budget(budget)}, executors());
    }

    template <class Handler>
    auto cancellable(Handler handler) {
        const AmpleMemory mine;
        return asio::bind_cancellation_slot(signals.emplace_back().slot(), std::move(handler));
    }

    // Each of these counts its handler.
    void embed(Manager& manager, const ModelKey& key, RequestOptions request = {}) {
        manager.async_embed(key, {"text"}, request,
                            cancellable(handlers.count([](std::exception_ptr, const Embeddings&) {})));
    }
    void rerank(Manager& manager, const ModelKey& key) {
        manager.async_rerank(key, "query", {"text"},
                             cancellable(handlers.count([](std::exception_ptr, const Ranking&) {})));
    }
    void hold(const ModelKey& key) { held.push_back(lease(key)); }
    // The model is ready and idle.
    void have(const ModelKey& key) { lease(key).release(); }
    // Who asked last leaves.
    void cancel() { signals.back().emit(asio::cancellation_type::terminal); }

    std::shared_ptr<MemoryBudget> budget;
    std::optional<Manager> other;
    std::deque<asio::cancellation_signal> signals;
};

struct Story {
    const char* name;
    // With memory.
    std::function<void(Scene&)> begin;
    // Without.
    std::function<void(Scene&)> go_on;
    // With memory again, before the end.
    std::function<void(Scene&)> afterwards = {};
};

const auto runs = [](Scene& scene) { scene.run_without_memory(); };

const std::vector<Story> stories{
    {"a size, a reservation, a load, a call", [](Scene& scene) { scene.embed(*scene.models, a); }, runs},
    {"an idle model goes for another",
     [](Scene& scene) {
         scene.have(a);
         scene.embed(*scene.models, b);
     },
     runs},
    {"an idle model goes for one of the other slot",
     [](Scene& scene) {
         scene.have(a);
         scene.rerank(*scene.models, a);
     },
     runs},
    {"an idle model goes for one of another manager",
     [](Scene& scene) {
         scene.have(a);
         scene.embed(*scene.other, b);
     },
     runs},
    {"two keys wait for memory that a lease holds",
     [](Scene& scene) {
         scene.hold(a);
         scene.rerank(*scene.models, a);
         scene.embed(*scene.other, b);
         scene.run();
     },
     [](Scene& scene) {
         scene.held.clear();
         scene.run_without_memory();
     }},
    {"a request that waits for memory leaves",
     [](Scene& scene) {
         scene.hold(a);
         scene.embed(*scene.models, b);
         scene.run();
     },
     [](Scene& scene) {
         scene.cancel();
         scene.run_without_memory();
     }},
    {"a request that waits for memory times out",
     [](Scene& scene) {
         scene.hold(a);
         scene.embed(*scene.models, b, {.timeout = 1s});
         scene.run();
     },
     [](Scene& scene) {
         VirtualClock::advance(1s);
         scene.run_without_memory();
     }},
    {"a load that runs out of memory, and is tried again",
     [](Scene& scene) {
         scene.rerank(*scene.models, a);
         scene.run();
         scene.budget->set_limit(200);
         scene.embed(*scene.models, b);
         scene.world.in_load = [&scene] {
             const AmpleMemory mine;
             scene.world.in_load = {};
             throw std::bad_alloc();
         };
     },
     runs},
    {"a model that holds more than it was to need",
     [](Scene& scene) {
         scene.budget->set_limit(150);
         scene.have(a);
         scene.world.memory_used = 120;
         scene.rerank(*scene.models, a);
     },
     runs,
     [](Scene& scene) {
         scene.world.memory_used = 0;
         // What it used is forgotten with the limit.
         scene.budget->set_limit(limit);
     }},
    {"an estimate that throws",
     [](Scene& scene) {
         scene.embed(*scene.models, a);
         scene.world.in_sizing = [] {
             const AmpleMemory mine;
             throw std::runtime_error("a reason that is longer than a small string can be");
         };
     },
     runs},
    {"a limit that falls to nothing, and rises",
     [](Scene& scene) {
         scene.hold(a);
         scene.rerank(*scene.models, a);
         scene.run();
     },
     [](Scene& scene) {
         scene.budget->set_limit(0);
         scene.run_without_memory();
         scene.budget->set_limit(limit);
         scene.held.clear();
         scene.run_without_memory();
     }},
    {"a trim", [](Scene& scene) { scene.have(a); },
     [](Scene& scene) {
         scene.budget->trim(1);
         scene.run_without_memory();
     }},
    {"a status while a key waits",
     [](Scene& scene) {
         scene.hold(a);
         scene.rerank(*scene.models, a);
         scene.run();
     },
     [](Scene& scene) {
         try {
             (void)scene.budget->status();
         } catch (const std::bad_alloc&) {
             return;
         }
     }},
    {"a manager that goes with what another waits for",
     [](Scene& scene) {
         scene.have(a);
         scene.hold(a);
         scene.embed(*scene.other, b);
         scene.rerank(*scene.models, b);
         scene.run();
     },
     [](Scene& scene) {
         scene.models.reset();
         scene.run_without_memory();
         scene.held.clear();
         scene.run_without_memory();
     }},
    {"a manager that goes while it waits",
     [](Scene& scene) {
         scene.hold(a);
         scene.rerank(*scene.other, b);
         scene.embed(*scene.models, b);
         scene.run();
     },
     [](Scene& scene) {
         scene.other.reset();
         scene.run_without_memory();
         scene.held.clear();
         scene.run_without_memory();
     }},
    {"a shutdown of one that waits for memory",
     [](Scene& scene) {
         scene.hold(a);
         scene.rerank(*scene.models, b);
         scene.models->async_shutdown(scene.handlers.count([](std::exception_ptr, const ShutdownReport&) {}));
     },
     [](Scene& scene) {
         scene.held.clear();
         scene.run_without_memory();
     }},
};

// Uses both slots of a manager, of which memory allows one at a time; then shuts it down.
void check_as_new(Scene& scene, Scene::Manager& manager) {
    if (!manager.status().embedding.shutting_down) {
        // Past each cooldown and keep-alive.
        VirtualClock::advance(1h);
        scene.run();
        for (const ModelKey& key : {a, b}) {
            Outcome<Embeddings> embedded;
            manager.async_embed(key, {"text"}, embedded.handler());
            scene.run();
            REQUIRE(embedded.calls() == 1);
            CHECK_FALSE(embedded.exception());
            Outcome<Ranking> ranked;
            manager.async_rerank(key, "query", {"text"}, ranked.handler());
            scene.run();
            REQUIRE(ranked.calls() == 1);
            CHECK_FALSE(ranked.exception());
        }
    }
    Outcome<ShutdownReport> report;
    manager.async_shutdown(report.handler());
    scene.run();
    REQUIRE(report.calls() == 1);
    CHECK(report.value().clean());
}

// Runs a story with its `nth` allocation failing. Gives whether it got that far.
bool run(const Story& story, std::size_t nth, FaultPattern scarcity) {
    Scene scene;
    story.begin(scene);
    std::size_t failures = 0;
    {
        const AllocationFaults scarce(nth, scarcity);
        story.go_on(scene);
        failures = scarce.failures();
    }
    // Memory is there again, but nothing else happens: no request waits for it.
    scene.world.in_load = scene.world.in_sizing = {};
    scene.run();
    const std::size_t waits_for_lease = scene.held.empty() ? 0 : scene.handlers.made() - scene.handlers.ran();
    CHECK(scene.handlers.ran() + waits_for_lease == scene.handlers.made());
    if (story.afterwards) {
        story.afterwards(scene);
    }
    scene.held.clear();
    scene.run();
    CHECK(scene.handlers.ran() == scene.handlers.made());
    for (std::optional<Scene::Manager>* const manager : {&scene.models, &scene.other}) {
        if (*manager) {
            check_as_new(scene, **manager);
        }
    }
    CHECK(scene.budget->used() == 0);
    const MemoryStatus status = scene.budget->status();
    CHECK(status.holders.empty());
    CHECK(status.waiting.empty());
    CHECK(scene.world.live == 0);
    CHECK(scene.idle());
    return failures != 0;
}

}  // namespace

TEST_CASE("Memory that runs out within a budget loses no request, and reserves nothing for ever",
          "[H18][H33][R9][R11][R13]") {
    for (const Story& story : stories) {
        for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
            std::size_t nth = 1;
            for (bool failed = true; failed; ++nth) {
                INFO(story.name << ": allocation " << nth << " fails"
                                << (scarcity == FaultPattern::from ? " and all that follow" : " alone"));
                REQUIRE(nth < 1000);
                failed = run(story, nth, scarcity);
            }
        }
    }
}

TEST_CASE("A budget that finds no memory is not made", "[H18]") {
    std::size_t failed = 0;
    for (std::size_t nth = 1; nth < 100; ++nth) {
        std::shared_ptr<MemoryBudget> budget;
        const AllocationFaults scarce(nth, FaultPattern::only);
        try {
            budget = std::make_shared<MemoryBudget>(limit);
        } catch (const std::bad_alloc&) {
            ++failed;
        }
        REQUIRE((budget == nullptr) == (scarce.failures() != 0));
        if (budget) {
            CHECK(budget->limit() == limit);
            break;
        }
    }
    CHECK(failed > 0);
}

TEST_CASE("A manager that finds no memory leaves nothing of it in its budget", "[H18][H33]") {
    for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
        std::size_t nth = 1;
        for (bool failed = true; failed; ++nth) {
            INFO("allocation " << nth << " fails"
                               << (scarcity == FaultPattern::from ? " and all that follow" : " alone"));
            REQUIRE(nth < 1000);
            Scene scene;
            scene.other.reset();
            ManagerOptions options;
            options.embedding = options.reranker = with_budget(scene.budget);
            {
                const AllocationFaults scarce(nth, scarcity);
                try {
                    scene.other.emplace(NonAllocatingBackend{&scene.world}, NonAllocatingBackend{&scene.world}, options,
                                        scene.executors());
                } catch (const std::bad_alloc&) {
                    const AmpleMemory mine;
                    CHECK(scarce.failures() != 0);
                }
                failed = scarce.failures() != 0;
            }
            CHECK(failed == !scene.other);
            scene.have(a);
            scene.embed(*scene.models, b);
            scene.run();
            CHECK(scene.handlers.ran() == 1);
            CHECK(scene.budget->status().holders.size() == 1);
            scene.budget->set_limit(limit + 1);
            check_as_new(scene, *scene.models);
            CHECK(scene.budget->used() == 0);
        }
        CHECK(nth > 2);
    }
}

}  // namespace memory_budget_faults_test
