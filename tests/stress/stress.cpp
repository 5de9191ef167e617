// Uses managers from many threads on the real clock, with keep-alives of milliseconds, for as long as asked,
// and holds the rules (R1 to R16) against what the models, the observers and the callers see. Built with
// ThreadSanitizer or AddressSanitizer it also looks at what those see.
//
// Covers [S34] [S48] [R1] [R2] [R3] [R4] [R5] [R6] [R8] [R9] [R10] [R11] [R12] [R13] [R14]
// [H24] [H25] [H29] [H30] [H31] [H33] [H37] [H38] [H39]

#include "stress/death.hpp"
#include "stress/round.hpp"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>

namespace {

using namespace residency::stress;

constexpr const char* usage =
    "Usage: stress [--seconds COUNT] [--threads COUNT] [--seed NUMBER] [--only NUMBER] [--models HOW]\n"
    "  --seconds  for how long; 20. Up to ten times as long if something has not happened by then, which fails the run "
    "in the end\n"
    "  --threads  how many threads use each manager, at least 2; 6\n"
    "  --seed     what all choices come from; another each time. The threads' timing is not repeated\n"
    "  --only     this of the seed's managers, again and again\n"
    "  --models   how they answer, synchronous or asynchronous; synchronous\n";

struct Arguments {
    std::uint64_t seconds = 20;
    std::uint64_t threads = 6;
    std::uint64_t seed = std::random_device{}();
    std::optional<std::uint64_t> only{};
    bool asynchronous = false;
};

// What is wrong with them, or nothing.
std::string read(Arguments& arguments, int argc, char** argv) {
    for (int index = 1; index < argc; index += 2) {
        const std::string option = argv[index];
        if (option != "--seconds" && option != "--threads" && option != "--seed" && option != "--only" &&
            option != "--models") {
            return "there is no option `" + option + "`";
        }
        if (index + 1 == argc) {
            return option + " wants a value";
        }
        const char* const text = argv[index + 1];
        if (option == "--models") {
            arguments.asynchronous = std::string_view(text) == "asynchronous";
            if (!arguments.asynchronous && std::string_view(text) != "synchronous") {
                return "--models is synchronous or asynchronous, not `" + std::string(text) + "`";
            }
            continue;
        }
        const char* const end = text + std::strlen(text);
        std::uint64_t number = 0;
        if (const auto read = std::from_chars(text, end, number); read.ec != std::errc() || read.ptr != end) {
            return option + " wants a number, not `" + text + "`";
        }
        if (option == "--seconds") {
            arguments.seconds = number;
        } else if (option == "--threads") {
            arguments.threads = number;
        } else if (option == "--seed") {
            arguments.seed = number;
        } else {
            arguments.only = number;
        }
    }
    if (arguments.seconds == 0 || arguments.seconds > 1'000'000) {
        return "--seconds is from 1 to 1000000";
    }
    if (arguments.threads < 2 || arguments.threads > 200) {
        return "--threads is from 2 to 200";
    }
    return {};
}

int run(const Arguments& arguments) {
    BlackBox& box = black_box();
    Tally tally;
    std::printf("stress --seconds %llu --threads %llu --seed %llu%s\n",
                static_cast<unsigned long long>(arguments.seconds), static_cast<unsigned long long>(arguments.threads),
                static_cast<unsigned long long>(arguments.seed),
                arguments.asynchronous ? " --models asynchronous" : "");
    std::fflush(stdout);
    seed_thread(arguments.seed);
    on_host_thread() = true;
    const Watchdog watchdog(box);
    const Clock::time_point began = Clock::now();
    const Clock::time_point until = began + std::chrono::seconds(arguments.seconds);
    const Clock::time_point at_most = began + std::chrono::seconds(arguments.seconds * 10);
    const auto goes_on = [&] {
        const Clock::time_point now = Clock::now();
        return now < until || (now < at_most && !arguments.only && !tally.print(nullptr).empty());
    };
    do {
        const std::uint64_t number = arguments.only.value_or(tally.managers);
        Round(box, tally, Settings::draw(arguments.seed, number, arguments.asynchronous), arguments.threads).run();
        ++tally.managers;
    } while (!box.broken() && goes_on());
    if (box.broken()) {
        box.print(stdout);
        return 1;
    }
    const std::string missing = tally.print(stdout);
    const bool incomplete = !missing.empty() && !arguments.only;
    std::printf("%llu managers, %llu requests, %llu loads, %llu idle unloads, in %llu s on %llu threads: %s%s\n",
                static_cast<unsigned long long>(tally.managers), static_cast<unsigned long long>(tally.all_requests()),
                static_cast<unsigned long long>(tally.loads.get()),
                static_cast<unsigned long long>(tally.unloads[static_cast<std::size_t>(residency::Reason::idle)].get()),
                static_cast<unsigned long long>(std::chrono::round<std::chrono::seconds>(Clock::now() - began).count()),
                static_cast<unsigned long long>(arguments.threads),
                incomplete ? "FAILED, this never happened: " : "every rule held", incomplete ? missing.c_str() : "");
    return incomplete ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    if (const std::string wrong = read(arguments, argc, argv); !wrong.empty()) {
        std::fprintf(stderr, "stress: %s\n%s", wrong.c_str(), usage);
        return 2;
    }
    return run(arguments);
}
