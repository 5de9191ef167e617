// H18, down to malloc and aligned_alloc: what Boost.Asio asks for fails, too. Where that is inside an executor's own
// post the process may end, so each series of starts runs in a process of its own.

#include "support/allocation_failure_sweep.hpp"
#include "support/system_memory.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <string>

namespace malloc_test {

using namespace residency;
using namespace residency::test;
using namespace residency::test::starving;

namespace {

// What a child reports to its parent, in memory that they share.
struct Progress {
    std::size_t nth = 0;
    std::size_t threw = 0;
    std::size_t succeeded = 0;
    std::size_t ended = 0;
    bool complete = false;
};

// How a child ends.
enum Exit : int { done = 0, found_a_problem = 10, ended_in_a_post = 11, ended_elsewhere = 12 };

// Goes on from where the one before it ended.
template <class Attempt>
[[noreturn]] void run_child(const Attempt& attempt, Progress& progress) {
    std::set_terminate([] {
        // Only Boost.Asio calls aligned_alloc, and of what it allocates only a post is where nothing can be
        // thrown.
        std::_Exit(aligned_failures() != 0 ? ended_in_a_post : ended_elsewhere);
    });
    for (;;) {
        aligned_failures() = 0;
        const Trial trial = attempt(++progress.nth);
        // An exception has memory of its own for such a time: then nothing is seen of the failure.
        if (!trial.problem.empty() && trial.problem != "did without memory; ") {
            std::cerr << trial.problem << std::endl;
            std::_Exit(found_a_problem);
        }
        progress.threw += trial.threw ? 1 : 0;
        if (trial.failures == 0) {
            progress.succeeded += trial.threw ? 0 : 1;
            progress.complete = true;
            std::_Exit(done);
        }
    }
}

// Lets `attempt(nth)` be made with each allocation failing alone, in as many processes as it takes.
template <class Attempt>
Progress starve(const Attempt& attempt) {
    void* const shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    auto& progress = *new (shared) Progress;
    while (!progress.complete) {
        REQUIRE(progress.nth < 1000);
        std::cout.flush();
        const pid_t child = fork();
        REQUIRE(child != -1);
        if (child == 0) {
            run_child(attempt, progress);
        }
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        INFO("allocation " << progress.nth << " fails alone; status " << status);
        REQUIRE(WIFEXITED(status));
        REQUIRE((WEXITSTATUS(status) == done || WEXITSTATUS(status) == ended_in_a_post));
        progress.ended += WEXITSTATUS(status) == ended_in_a_post ? 1 : 0;
    }
    const Progress result = progress;
    munmap(shared, sizeof(Progress));
    CHECK(result.succeeded == 1);
    return result;
}

// Says that this cannot be tested here, and whether that is so.
bool cannot_be_tested() {
    if (!has_own_malloc) {
        skip("a sanitizer, or a C library that is not glibc, has a malloc that is not replaced");
    }
    return !has_own_malloc;
}

// With threads of its own.
using Owner = ModelManager<NonAllocatingBackend, NonAllocatingBackend>;

// Makes one, lets `call(manager)` find no memory for its `nth` allocation, and ends it.
template <class Call>
Trial try_call(std::size_t nth, const Call& call) {
    Trial trial;
    NonAllocatingWorld world;
    {
        Owner manager(NonAllocatingBackend{&world}, NonAllocatingBackend{&world});
        manager.embedding().ensure_loaded(a);
        {
            const AllocationFaults scarce(nth, FaultPattern::only);
            try {
                call(manager);
            } catch (const std::bad_alloc&) {
                trial.threw = true;
            } catch (const Error& error) {
                // Its load or its model call had begun.
                trial.expect(says_lack_of_memory(error.code().message()), error.what());
            }
            trial.failures = scarce.failures();
        }
        const SlotStatus status = manager.embedding().status();
        trial.expect(status.leases == 0 && status.waiting == 0, "something has begun");
        trial.expect(!trial.threw || (!status.shutting_down && status.residents.size() == 1),
                     "threw, and changed something");
        trial.expect(manager.shutdown().clean(), "the shutdown at the end was not clean");
    }
    trial.expect(world.live == 0, "a model is left");
    return trial;
}

}  // namespace

TEMPLATE_TEST_CASE("A start for which malloc or aligned_alloc fails throws, succeeds, or ends inside a post",
                   "[H18][R9][R11][R12]", Acquire, AcquireInTime, EnsureLoaded, Embed, EmbedInTime, Rerank, Unload,
                   Revoke, UnloadAll, ShutSlot, ShutManager, ShutManagerInTime) {
    if (cannot_be_tested()) {
        return;
    }
    for (const Setting& setting : settings) {
        INFO(TestType::name << ", " << setting.name);
        const std::string answer = try_start<TestType>(setting, 0, FaultPattern::only).answer;
        const Progress progress =
            starve([&](std::size_t nth) { return try_start<TestType>(setting, nth, FaultPattern::only, answer); });
        CHECK(progress.threw + progress.ended > 0);
    }
}

TEST_CASE("A manager for which malloc fails is not made, and leaves nothing behind", "[H18][H12]") {
    if (cannot_be_tested()) {
        return;
    }
    for (const bool owns_threads : {false, true}) {
        INFO((owns_threads ? "threads of its own" : "the host's executors"));
        const Progress progress = starve([&](std::size_t nth) {
            Trial trial;
            NonAllocatingWorld world;
            asio::io_context context;
            const auto token = std::make_shared<int>();
            ManagerOptions options;
            options.observer = [token](const Event&) {};
            {
                std::optional<Owner> manager;
                {
                    const AllocationFaults scarce(nth, FaultPattern::only);
                    try {
                        manager.emplace(NonAllocatingBackend{&world}, NonAllocatingBackend{&world}, options,
                                        owns_threads ? Executors{} : Executors::all(context.get_executor()));
                    } catch (const std::bad_alloc&) {
                        trial.threw = true;
                    }
                    trial.failures = scarce.failures();
                }
                trial.expect(trial.threw == !manager, "threw, and made a manager");
            }
            options = {};
            context.poll();
            trial.expect(token.use_count() == 1, "the observer is left");
            return trial;
        });
        CHECK(progress.threw > 0);
        // There is nothing to post yet.
        CHECK(progress.ended == 0);
    }
}

TEST_CASE("A call that blocks and for which malloc or aligned_alloc fails throws, succeeds, or ends inside a post",
          "[H18][R9]") {
    if (cannot_be_tested()) {
        return;
    }
    const auto throws_or_ends = [](const auto& call) {
        const Progress progress = starve([&call](std::size_t nth) { return try_call(nth, call); });
        return progress.threw + progress.ended > 0;
    };
    CHECK(throws_or_ends([](Owner& manager) { manager.embedding().ensure_loaded(a); }));
    CHECK(throws_or_ends([](Owner& manager) { manager.embedding().acquire(b).release(); }));
    CHECK(throws_or_ends([](Owner& manager) { (void)manager.embed(a, one_text()); }));
    CHECK(throws_or_ends([](Owner& manager) { (void)manager.rerank(a, "query", one_text(), {.timeout = 1h}); }));
    CHECK(throws_or_ends([](Owner& manager) { manager.embedding().unload(a); }));
    CHECK(throws_or_ends([](Owner& manager) { manager.embedding().unload(); }));
    CHECK(throws_or_ends([](Owner& manager) { (void)manager.shutdown(); }));
    // On a model that is ready a lease takes no memory, its executor's neither.
    CHECK_FALSE(throws_or_ends([](Owner& manager) { manager.embedding().acquire(a).release(); }));
}

}  // namespace malloc_test
