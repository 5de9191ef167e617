// Memory budgets, and what goes wrong: allocations that fail (H18), in their making and that of a manager with one, in
// the start of each operation, and in stories that run again and again, with their first, second, ... allocation
// failing; models that hold more than was said; and sizes as large as a number can be.

#include "support/allocation_failure_sweep.hpp"
#include "support/failing_allocations.hpp"
#include "support/memory.hpp"
#include "support/non_allocating_fakes.hpp"

#include "residency/memory_budget.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace memory_budget_test {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

namespace {

// Past the small-string size, as names of models are.
const ModelKey a("bge-small-en-v1.5-of-the-first-kind", "q8_0-with-a-long-name");
const ModelKey b("bge-small-en-v1.5-of-another-kind", "q8_0-with-a-long-name");

// Room for one model, of 60 bytes each.
constexpr std::size_t limit = 100;
constexpr std::size_t huge = (std::numeric_limits<std::size_t>::max)();

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
    // The code of the embedding slot's refusal, and its words.
    std::pair<boost::system::error_code, std::string> refusal(const ModelKey& key) {
        Outcome<Embeddings> answer;
        models->async_embed(key, {"text"}, answer.handler());
        run();
        REQUIRE(answer.calls() == 1);
        REQUIRE(answer.exception());
        return {answer.error().code(), answer.error().what()};
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
    CHECK(scene.at_rest());
    return failures != 0;
}

}  // namespace

TEST_CASE("Memory that runs out within a budget loses no request, and reserves nothing for ever",
          "[H18][H33][R9][R11][R13]") {
    fail_each_allocation(stories, run);
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

TEMPLATE_TEST_CASE("A start that finds no memory throws and has begun nothing, also with a budget",
                   "[H18][H33][R9][R11][R12]", starving::Acquire, starving::AcquireInTime, starving::EnsureLoaded,
                   starving::Embed, starving::EmbedInTime, starving::Rerank, starving::Unload, starving::ShutManager) {
    // Each slot holds one model, which is pinned, and there is room for both.
    std::size_t threw = 0;
    for (const starving::Setting& setting : starving::settings) {
        for (const FaultPattern scarcity : {FaultPattern::only, FaultPattern::from}) {
            const auto start = [&](std::size_t nth, const std::string* answer) {
                SlotOptions options = starving::tight;
                options.memory = std::make_shared<MemoryBudget>(180);
                starving::Trial trial = answer == nullptr
                                            ? starving::try_start<TestType>(setting, nth, scarcity, options)
                                            : starving::try_start<TestType>(setting, nth, scarcity, *answer, options);
                trial.expect(options.memory->used() == 0, "memory is still reserved");
                return trial;
            };
            const std::string answer = start(0, nullptr).answer;
            std::size_t nth = 1;
            for (bool failed = true; failed; ++nth) {
                INFO(TestType::name << ", " << setting.name << ": allocation " << nth << " fails"
                                    << (scarcity == FaultPattern::from ? " and all that follow" : " alone"));
                REQUIRE(nth < 1000);
                const starving::Trial trial = start(nth, &answer);
                REQUIRE(trial.problem == "");
                threw += trial.threw ? 1 : 0;
                failed = trial.failures != 0;
            }
        }
    }
    CHECK(threw > 0);
}

TEST_CASE("A model that holds twice its estimate has idle ones go, and is known by it the next time",
          "[H34][H36][R13]") {
    Scene scene;
    scene.budget->set_limit(130);
    scene.have(a);
    scene.world.memory_used = 120;
    scene.rerank(*scene.models, a);
    scene.run();
    CHECK(scene.handlers.ran() == 1);
    CHECK(scene.world.live == 1);
    CHECK(scene.budget->used() == 120);
    CHECK(scene.models->embedding().status().residents.empty());
    // It does not fit beside another any more: while it goes for that, it is asked for again.
    scene.world.memory_used = 0;
    Outcome<FrugalLease> lease;
    scene.slot().async_acquire(a, lease.handler());
    scene.loading.restart();
    scene.loading.run_one();
    scene.rerank(*scene.models, a);
    scene.run();
    REQUIRE(lease.calls() == 1);
    CHECK(scene.handlers.ran() == 1);
    CHECK(scene.world.live == 1);
    CHECK(scene.budget->used() == 60);
    const MemoryStatus status = scene.budget->status();
    REQUIRE(status.waiting.size() == 1);
    CHECK(status.waiting.front().bytes == 120);
    // That is forgotten with a new limit.
    scene.budget->set_limit(120);
    scene.run();
    CHECK(scene.handlers.ran() == 2);
    lease.value().release();
    check_as_new(scene, *scene.models);
    CHECK(scene.budget->used() == 0);
}

TEST_CASE("A model that holds more than the limit serves what waited for it, and goes", "[H34][R13]") {
    Scene scene;
    scene.have(b);
    scene.world.memory_used = 250;
    Outcome<FrugalLease> held;
    scene.slot().async_acquire(a, held.handler());
    scene.embed(*scene.models, a);
    scene.run();
    REQUIRE(held.calls() == 1);
    CHECK(scene.handlers.ran() == 1);
    CHECK(scene.budget->used() == 250);
    // Nothing is loaded beside it.
    scene.rerank(*scene.other, a);
    scene.run();
    CHECK(scene.handlers.ran() == 1);
    scene.world.memory_used = 0;
    held.value().release();
    scene.run();
    CHECK(scene.handlers.ran() == 2);
    CHECK(scene.budget->used() == 60);
    CHECK(scene.world.live == 1);
    check_as_new(scene, *scene.models);
    check_as_new(scene, *scene.other);
    CHECK(scene.budget->used() == 0);
}

TEST_CASE("Sizes near the greatest number are reckoned with, and said, as they are", "[H34][H35][R13]") {
    constexpr std::size_t half = huge / 2 + 1;
    Scene scene;
    SECTION("a model as large as that") {
        scene.world.memory_needed = huge;
        CHECK(scene.refusal(a).second.find("needs " + std::to_string(huge) + " bytes") != std::string::npos);
        scene.budget->set_limit(huge - 1);
        CHECK(scene.refusal(a).second.find("limit of " + std::to_string(huge - 1) + " bytes") != std::string::npos);
        CHECK(scene.world.live == 0);
        scene.budget->set_limit(huge);
        scene.have(a);
        CHECK(scene.budget->used() == huge);
        scene.rerank(*scene.models, a);
        scene.run();
        CHECK(scene.handlers.ran() == 1);
        CHECK(scene.world.live == 1);
        CHECK(scene.budget->used() == huge);
        scene.budget->trim(huge);
        scene.run();
        CHECK(scene.budget->used() == 0);
    }
    SECTION("two whose sum is too large for a number") {
        scene.world.memory_needed = half;
        scene.budget->set_limit(half - 1);
        CHECK(scene.refusal(a).second.find("needs " + std::to_string(half) + " bytes") != std::string::npos);
        scene.budget->set_limit(huge);
        scene.hold(a);
        scene.rerank(*scene.models, a);
        scene.run();
        CHECK(scene.handlers.ran() == 0);
        CHECK(scene.world.live == 1);
        scene.held.clear();
        scene.run();
        CHECK(scene.handlers.ran() == 1);
        CHECK(scene.budget->used() == half);
    }
    SECTION("models that hold as much, and did not say so") {
        scene.world.memory_used = huge;
        scene.budget->set_limit(huge);
        scene.hold(a);
        CHECK(scene.budget->used() == huge);
        scene.budget->set_limit(1);
        CHECK(scene.budget->used() == huge);
        scene.held.clear();
        scene.run();
        CHECK(scene.budget->used() == 0);
    }
    SECTION("nothing at all") {
        scene.budget->set_limit(0);
        CHECK(scene.refusal(a).first == errc::insufficient_memory);
        // Not a size, but none.
        scene.world.memory_needed = 0;
        const auto [code, words] = scene.refusal(b);
        CHECK(code == errc::load_failed);
        CHECK(words.find("does not say how much memory") != std::string::npos);
    }
    scene.world.memory_needed = 60;
    scene.world.memory_used = 0;
    scene.budget->set_limit(limit);
    check_as_new(scene, *scene.models);
    check_as_new(scene, *scene.other);
    CHECK(scene.budget->used() == 0);
}

}  // namespace memory_budget_test
