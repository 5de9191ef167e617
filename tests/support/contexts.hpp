#pragma once

#include "residency/runtime/asio.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/testing/virtual_clock.hpp"

#include <cstddef>

namespace residency::test {

using testing::run_ready;
using testing::VirtualClock;

/// Whether `context` has nothing to do and waits for nothing: no handler, no timer, no outstanding work.
inline bool is_idle(asio::io_context& context) {
    context.restart();
    return context.poll() == 0 && context.stopped();
}

/// The virtual clock at its beginning, and three contexts that only the test runs, so that what is not run stands
/// still.
struct Contexts {
    Contexts() { VirtualClock::reset(); }

    /// An executor for each purpose.
    [[nodiscard]] Executors executors() {
        return {control.get_executor(), inference.get_executor(), loading.get_executor()};
    }
    /// Runs whatever is ready, everywhere.
    std::size_t run() { return run_ready(control, inference, loading); }
    /// Runs what is ready but loads and unloads: those stay where they are. Also for use within a load or an unload.
    std::size_t run_without_loading() { return run_ready(control, inference); }
    /// Runs what is ready on control alone. Also for use within a model call.
    std::size_t run_control() { return run_ready(control); }
    /// Moves the time on, and runs whatever that makes ready.
    std::size_t advance(VirtualClock::duration by) {
        VirtualClock::advance(by);
        return run();
    }
    /// Whether nothing is left to do or to wait for.
    [[nodiscard]] bool at_rest() { return is_idle(control) && is_idle(inference) && is_idle(loading); }

    asio::io_context control;
    asio::io_context inference;
    asio::io_context loading;
};

}  // namespace residency::test
