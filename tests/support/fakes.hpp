#pragma once

// What tests over fake models have in common: their words, contexts that a test polls, and a look at what is left.

#include "residency/runtime/asio.hpp"
#include "residency/runtime/executors.hpp"
#include "residency/status.hpp"
#include "residency/testing/fake_backend.hpp"
#include "residency/testing/outcome.hpp"
#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

using testing::FakeEmbedder;
using testing::FakeEmbeddingBackend;
using testing::FakeFault;
using testing::FakeRerankerBackend;
using testing::FakeStep;
using testing::FakeStop;
using testing::FakeWorld;
using testing::Gate;
using testing::Outcome;
using testing::VirtualClock;

/// Keys that the fakes know, as they know every key.
inline const ModelKey a{"a", "f16"};
inline const ModelKey b{"b", "f16"};
inline const ModelKey c{"c", "f16"};

/// Checks that nothing is left of a slot that was shut down, and that its figures agree with what its fakes saw.
inline void check_at_rest(const SlotStatus& slot) {
    INFO(slot);
    CHECK(slot.shutting_down);
    CHECK(slot.residents.empty());
    CHECK(slot.leases == 0);
    CHECK(slot.waiting == 0);
    CHECK(slot.counters.loads == slot.counters.loaded + slot.counters.load_failures + slot.counters.loads_aborted);
    CHECK(slot.counters.loaded == slot.counters.unloaded());
}

/// Checks that no fake model lives or runs, and that none was ever destroyed under a call.
inline void check_at_rest(const FakeWorld& world) {
    const testing::FakeCounts counts = world.counts();
    CHECK(counts.live == 0);
    CHECK(counts.loading == 0);
    CHECK(counts.calling == 0);
    CHECK(counts.loads == counts.unloads + counts.failed_loads);
    CHECK(world.violations() == std::vector<std::string>{});
}

/// Executors that the test polls.
struct PolledContexts {
    asio::io_context control;
    asio::io_context inference;
    asio::io_context loading;

    PolledContexts() { VirtualClock::reset(); }

    [[nodiscard]] Executors executors() {
        return {control.get_executor(), inference.get_executor(), loading.get_executor()};
    }

    /// Runs all that is ready, on all three.
    std::size_t run() { return testing::run_ready(control, inference, loading); }
    /// Runs what is ready but loads and unloads: those stay where they are. Also for use within a load or an unload.
    std::size_t run_without_loading() { return testing::run_ready(control, inference); }
    /// Runs what is ready on control alone. Also for use within a model call.
    std::size_t run_control() { return testing::run_ready(control); }
    /// Moves the time on, and runs all that is ready.
    std::size_t pass(VirtualClock::duration time) {
        VirtualClock::advance(time);
        return run();
    }
    /// Whether no handler and no timer waits on any of them: `run()` of each would return at once.
    [[nodiscard]] bool idle() {
        const auto idle = [](asio::io_context& context) {
            context.restart();
            return context.poll() == 0 && context.stopped();
        };
        return idle(control) && idle(inference) && idle(loading);
    }
};

/// Calls `act` within the next call of a fake for `step`, once. On the virtual clock this is "while the model loads",
/// "while it answers" or "while it unloads".
inline void during(FakeWorld& world, FakeStep step, std::function<void()> act) {
    world.on(step, [act = std::move(act)](const testing::FakeCall&) mutable {
        if (const std::function<void()> once = std::exchange(act, nullptr)) {
            once();
        }
    });
}

/// The message of what is nested in `exception`; empty if nothing is.
[[nodiscard]] inline std::string nested_message(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& error) {
        try {
            std::rethrow_if_nested(error);
        } catch (const std::exception& cause) {
            return cause.what();
        } catch (...) {
            return "not a std::exception";
        }
    }
    return {};
}

/// The code of what `call` throws; no error if it throws nothing.
template <class Call>
[[nodiscard]] boost::system::error_code code_of(Call call) {
    try {
        call();
        return {};
    } catch (const boost::system::system_error& error) {
        return error.code();
    }
}

}  // namespace residency::test
