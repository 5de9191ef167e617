#pragma once

#include "support/bench.hpp"

#include <chrono>

namespace residency::test {

using namespace std::chrono_literals;

/// The options of a slot with this keep-alive.
inline SlotOptions keeping(std::chrono::milliseconds keep_alive) {
    SlotOptions options;
    options.keep_alive = keep_alive;
    return options;
}

/// The options of a request with this one of its own.
inline RequestOptions request_keeping(std::chrono::milliseconds keep_alive) {
    RequestOptions options;
    options.keep_alive = keep_alive;
    return options;
}

/// Whether the model of `a` goes at exactly `due` from now.
inline void check_goes_in(SlotBench& bench, VirtualClock::duration due) {
    bench.advance(due - 1ns);
    CHECK(bench.world->counts(a).live == 1);
    bench.advance(1ns);
    CHECK(bench.world->counts(a).live == 0);
}

}  // namespace residency::test
