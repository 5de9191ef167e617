// Simulates whole managers on the virtual clock, one for each seed, and holds the rules (R1 to R16) against
// what happens.
//
// Covers [S35] [R1] [R2] [R3] [R4] [R5] [R6] [R7] [R8] [R9] [R10] [R11] [R12] [R13] [R14] [R15] [R16]
// [H1] [H4] [H5] [H6] [H7] [H8] [H9] [H13] [H14] [H19] [H24] [H25] [H29] [H30] [H31] [H34] [H35] [H38] [H39]

// Timers are then looked at when the simulation says so, and not when the kernel reports them.
#define BOOST_ASIO_DISABLE_EPOLL

#include "simulation/shrinking.hpp"
#include "simulation/simulation.hpp"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

namespace {

using namespace residency::simulation;

constexpr const char* usage =
    "Usage: simulate [--first SEED] [--seeds COUNT] [--jobs COUNT]   simulates that many managers; each 16th seed "
    "twice, comparing traces\n"
    "       simulate --trace SEED                                    prints what happens with that seed\n"
    "       simulate --replay NUMBER,NUMBER,...                      prints what happens with these choices\n"
    "A failure prints its seed, then the shortest list of choices found that fails, and what happens with those.\n";

constexpr std::uint64_t compared = 16;
// With as many seeds, all that may happen to model calls happens.
constexpr std::uint64_t enough_seeds = 20'000;

// Shared by the processes that simulate and the one that waits for them, so that the seed of a crash is known.
struct Progress {
    std::atomic<std::uint64_t> seed;
    std::atomic<std::uint64_t> done;
    std::atomic<std::uint64_t> steps;
    std::atomic<std::uint64_t> requests;
    std::atomic<std::uint64_t> compared;
    std::atomic<bool> differs;
    std::array<std::atomic<std::uint64_t>, sight_names.size()> sights;
};

void simulate(Progress& progress, std::uint64_t first, std::uint64_t count, std::uint64_t stride) {
    for (std::uint64_t seed = first; seed < first + count; seed += stride) {
        progress.seed = seed;
        const std::unique_ptr<AnySimulation> simulation = make_simulation(Choices(seed));
        if (!simulation->run().empty()) {
            std::_Exit(1);
        }
        if (seed % compared == 0) {
            const std::unique_ptr<AnySimulation> again = make_simulation(Choices(seed));
            if (!again->run().empty() || again->trace() != simulation->trace()) {
                progress.differs = true;
                std::_Exit(1);
            }
            ++progress.compared;
        }
        for (std::size_t sight = 0; sight < sight_names.size(); ++sight) {
            progress.sights[sight] += simulation->sights()[sight];
        }
        progress.steps += simulation->steps();
        progress.requests += simulation->requests();
        ++progress.done;
    }
}

int report_failure(std::uint64_t seed) {
    std::printf("seed %llu fails; looking for the shortest way to that ...\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    const Ended ended = run_apart(Choices(seed));
    if (!ended.failed) {
        std::printf("run alone, it does not fail\n");
        return 1;
    }
    Shrinker shrinker(ended.taken);
    const std::vector<std::uint32_t> shortest = shrinker.shrink();
    (void)run_apart(Choices(shortest), stdout);
    std::printf("%zu attempts; to replay: simulate --replay ", shrinker.attempts());
    for (std::size_t index = 0; index < shortest.size(); ++index) {
        std::printf("%s%u", index == 0 ? "" : ",", shortest[index]);
    }
    std::printf("\n");
    return 1;
}

int show(Choices choices) {
    const Ended ended = run_here(std::move(choices), stdout);
    std::printf("%s\n", ended.failed ? ended.what.c_str() : "every rule held");
    return ended.failed ? 1 : 0;
}

int run_all(std::uint64_t first, std::uint64_t count, std::uint64_t jobs) {
    const auto began = std::chrono::steady_clock::now();
    void* const shared =
        mmap(nullptr, sizeof(Progress) * jobs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        std::fprintf(stderr, "no shared memory\n");
        return 2;
    }
    std::vector<Progress*> progress;
    std::vector<pid_t> children;
    for (std::uint64_t job = 0; job < jobs; ++job) {
        progress.push_back(new (static_cast<Progress*>(shared) + job) Progress());
        children.push_back(fork());
        if (children.back() < 0) {
            std::fprintf(stderr, "no process\n");
            return 2;
        }
        if (children.back() == 0) {
            simulate(*progress.back(), first + job, count - job, jobs);
            std::_Exit(0);
        }
    }
    int result = 0;
    std::uint64_t done = 0, steps = 0, requests = 0, twice = 0;
    Sights sights{};
    for (std::size_t job = 0; job < children.size(); ++job) {
        int status = 0;
        waitpid(children[job], &status, 0);
        done += progress[job]->done;
        steps += progress[job]->steps;
        requests += progress[job]->requests;
        twice += progress[job]->compared;
        for (std::size_t sight = 0; sight < sights.size(); ++sight) {
            sights[sight] += progress[job]->sights[sight];
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            if (progress[job]->differs) {
                std::printf("seed %llu gave two traces: S35 is broken\n",
                            static_cast<unsigned long long>(progress[job]->seed));
                result = 1;
            } else {
                result = report_failure(progress[job]->seed);
            }
        }
    }
    for (std::size_t sight = 0; sight < sights.size(); ++sight) {
        std::printf("%12llu  %s\n", static_cast<unsigned long long>(sights[sight]), sight_names[sight]);
        if (sights[sight] == 0 && done >= enough_seeds) {
            std::printf("that never happened\n");
            result = 1;
        }
    }
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
    std::printf("%llu simulations, %llu steps, %llu requests, %llu replayed to the same trace, in %lld ms: %s\n",
                static_cast<unsigned long long>(done), static_cast<unsigned long long>(steps),
                static_cast<unsigned long long>(requests), static_cast<unsigned long long>(twice),
                static_cast<long long>(took.count()), result == 0 ? "every rule held" : "FAILED");
    return result;
}

std::vector<std::uint32_t> numbers(const char* text) {
    std::vector<std::uint32_t> list;
    while (*text != '\0') {
        char* after = nullptr;
        list.push_back(static_cast<std::uint32_t>(std::strtoul(text, &after, 10)));
        text = *after == ',' ? after + 1 : after + std::strlen(after);
    }
    return list;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t first = 1;
    std::uint64_t count = 1'000'000;
    std::uint64_t jobs = 1;
    for (int index = 1; index < argc; index += 2) {
        const std::string_view option = argv[index];
        const char* const value = index + 1 < argc ? argv[index + 1] : nullptr;
        if (value == nullptr) {
            std::fputs(usage, stderr);
            return 2;
        }
        const std::uint64_t number = std::strtoull(value, nullptr, 10);
        if (option == "--first") {
            first = number;
        } else if (option == "--seeds") {
            count = number;
        } else if (option == "--jobs" && number != 0) {
            jobs = number;
        } else if (option == "--trace") {
            return show(Choices(number));
        } else if (option == "--replay") {
            return show(Choices(numbers(value)));
        } else {
            std::fputs(usage, stderr);
            return 2;
        }
    }
    return run_all(first, count, std::min(jobs, count));
}
