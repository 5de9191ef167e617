// The hot paths for callgrind: does one of them again and again, everything on one io_context on one thread, so that
// the same instructions run each time. instructions.py counts them.

#include "paths.hpp"

#include <boost/version.hpp>

#include <cstddef>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace residency::cost {
namespace {

// What --profile looks at: nothing of how a path is set up.
template <class Path>
[[gnu::noinline]] std::size_t measured_turns(Path& path, std::size_t count) {
    std::size_t succeeded = 0;
    for (std::size_t turn = 0; turn < count; ++turn) {
        succeeded += path.turn();
    }
    return succeeded;
}

template <class Path>
int run(std::size_t count) {
    Path path;
    // The first turn finds no memory that could be used again.
    path.turn();
    if (measured_turns(path, count) != count * Path::operations) {
        std::cerr << "not every operation went as it should\n";
        return 1;
    }
    std::cout << count * Path::operations << '\n';
    return 0;
}

struct Entry {
    std::string_view name;
    int (*run)(std::size_t count);
};
constexpr Entry paths[] = {
    {"lease", run<LeasePath>},
    {"lease_in_budget", run<BudgetLeasePath>},
    {"acquire", run<AcquirePath>},
    {"embed", run<EmbedPath>},
    {"embed_in_budget", run<BudgetEmbedPath>},
    {"embed_any", run<AnyEmbedPath>},
    {"async_embed", run<AsyncEmbedPath>},
    {"co_spawn", run<SpawnPath>},
    {"grant", run<GrantPath>},
    {"cancel", run<CancelPath>},
    {"memory", run<MemoryPath>},
    {"status", run<StatusPath>},
    {"status_text", run<StatusTextPath>},
};

#ifdef __GLIBC__
constexpr auto glibc = std::pair{__GLIBC__, __GLIBC_MINOR__};
#else
constexpr auto glibc = std::pair{0, 0};
#endif

// What the figures depend on beside the library.
void print_conditions() {
    std::cout << "{\"compiler\": \""
#if defined(__clang__)
              << "clang++ " << __clang_major__ << '.' << __clang_minor__ << '.' << __clang_patchlevel__
#else
              << "g++ " << __GNUC__ << '.' << __GNUC_MINOR__ << '.' << __GNUC_PATCHLEVEL__
#endif
              << "\", \"options\": \"" << RESIDENCY_BENCHMARK_OPTIONS << "\", \"boost\": \"" << BOOST_VERSION / 100'000
              << '.' << BOOST_VERSION / 100 % 1'000 << "\", \"glibc\": \"" << glibc.first << '.' << glibc.second
              << "\"}\n";
}

}  // namespace
}  // namespace residency::cost

int main(int argc, char** argv) {
    using namespace residency::cost;
    // A process that has, or had, a second thread counts references in atomic steps, as every host's does.
    std::thread([] {}).join();
    const std::vector<std::string_view> arguments(argv + 1, argv + argc);
    if (arguments.size() == 1 && arguments[0] == "--conditions") {
        print_conditions();
        return 0;
    }
    for (const Entry& entry : paths) {
        if (arguments.size() == 2 && arguments[0] == entry.name) {
            return entry.run(std::stoul(std::string(arguments[1])));
        }
    }
    std::cerr << "Usage: instructions PATH COUNT\n       instructions --conditions\n\nPATH:";
    for (const Entry& entry : paths) {
        std::cerr << ' ' << entry.name;
    }
    std::cerr << '\n';
    return 2;
}
