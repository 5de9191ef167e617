// H18, down to malloc and aligned_alloc: what Boost.Asio asks for fails, too. Where that is inside an executor's own post the process may
// end, so each series of starts runs in a process of its own.

#include "support/starving.hpp"
#include "support/system_memory.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string>

using namespace residency;
using namespace residency::test;
using namespace residency::test::starving;

namespace {

// What a child tells its parent, in memory that they share.
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
template <class Operation>
[[noreturn]] void run_child(const Setting& setting, const std::string& answer, Progress& progress) {
    std::set_terminate([] {
        // Nobody but Boost.Asio calls aligned_alloc, and of what it allocates only a post is where nothing can be thrown.
        std::_Exit(aligned_failures() != 0 ? ended_in_a_post : ended_elsewhere);
    });
    for (;;) {
        aligned_failures() = 0;
        const Trial trial = try_start<Operation>(setting, ++progress.nth, Scarcity::only, answer);
        // An exception has memory of its own for such a time: then nothing is seen of the failure.
        std::string problem = trial.problem;
        if (problem == "did without memory; ") {
            problem.clear();
        }
        if (!problem.empty()) {
            std::cerr << problem << std::endl;
            std::_Exit(found_a_problem);
        }
        progress.threw += trial.threw ? 1 : 0;
        if (trial.failures == 0) {
            progress.succeeded += trial.answer == answer ? 1 : 0;
            progress.complete = true;
            std::_Exit(done);
        }
    }
}

// Lets each allocation of a start fail alone, in as many processes as it takes.
template <class Operation>
Progress starve(const Setting& setting) {
    void* const shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    auto& progress = *new (shared) Progress;
    const std::string answer = try_start<Operation>(setting, 0, Scarcity::only).answer;
    while (!progress.complete) {
        REQUIRE(progress.nth < 1000);
        std::cout.flush();
        const pid_t child = fork();
        REQUIRE(child != -1);
        if (child == 0) {
            run_child<Operation>(setting, answer, progress);
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
    return result;
}

}  // namespace

TEMPLATE_TEST_CASE("A start for which malloc or aligned_alloc fails throws, succeeds, or ends inside a post", "[H18][R9][R11][R12]",
                   Acquire, AcquireInTime, EnsureLoaded, Embed, EmbedInTime, Rerank, Unload, Revoke, UnloadAll, ShutSlot, ShutManager,
                   ShutManagerInTime) {
    if (!replaces_malloc) {
        skip("a sanitizer, or a C library that is not glibc, has a malloc that is not replaced");
        return;
    }
    for (const Setting& setting : settings) {
        INFO(TestType::name << ", " << setting.name);
        const Progress progress = starve<TestType>(setting);
        CHECK(progress.threw + progress.ended > 0);
        CHECK(progress.succeeded == 1);
    }
}
