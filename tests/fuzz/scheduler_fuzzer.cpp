// A libFuzzer target: finds histories that break one of the scheduler's promises. scheduler_replay prints a
// history that it found.

#include "fuzz/histories.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    try {
        residency::test::run_history(bytes, size, nullptr);
    } catch (const residency::test::Violation& violation) {
        std::fprintf(stderr, "VIOLATED: %s\n", violation.what());
        std::abort();
    }
    return 0;
}
