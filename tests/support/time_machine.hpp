#pragma once

// The virtual clock with real threads: one thread moves the time on and runs the timers, the others do what they like
// meanwhile.

#include "support/bench.hpp"

#include <atomic>
#include <thread>

namespace residency::test {

/// Moves the time on in steps, and after each runs control and loading until nothing is ready there. All decisions
/// about time, and what follows from them, are so made on one thread, and no time passes between them: an observer or a
/// destructor reads the very time at which the slot decided. Requests, releases and model calls come from the threads
/// of the test.
class TimeMachine {
public:
    TimeMachine(Contexts& contexts, VirtualClock::duration step)
        : thread_([&contexts, step](const std::stop_token& stop) {
              while (!stop.stop_requested()) {
                  VirtualClock::advance(step);
                  testing::run_ready(contexts.control, contexts.loading);
                  std::this_thread::yield();
              }
          }) {}

private:
    std::jthread thread_;
};

}  // namespace residency::test
