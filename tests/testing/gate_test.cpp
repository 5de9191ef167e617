#include "residency/testing/gate.hpp"

#include "support/catch.hpp"

#include <atomic>
#include <stop_token>
#include <thread>
#include <vector>

namespace gate_test {

using residency::testing::Gate;

TEST_CASE("An open gate holds no thread back") {
    Gate gate;
    gate.open();
    gate.open();
    CHECK(gate.pass());
    CHECK(gate.held() == 0);
}

TEST_CASE("A gate holds calls back until it is opened") {
    Gate gate;
    std::atomic<int> through = 0;
    {
        std::vector<std::jthread> callers;
        for (int caller = 0; caller < 3; ++caller) {
            callers.emplace_back([&] { through += gate.pass() ? 1 : 0; });
        }
        gate.await_held(3);
        CHECK(gate.held() == 3);
        CHECK(through == 0);
        gate.open();
    }
    CHECK(through == 3);
    CHECK(gate.held() == 0);
}

TEST_CASE("A stop request lets through whom it was made to, and says that the gate is closed") {
    Gate gate;
    std::stop_source stop;
    std::atomic<bool> patient_passed = false;
    bool stopped_passed = true;
    {
        std::jthread patient([&] { patient_passed = gate.pass(); });
        std::jthread stopped([&] { stopped_passed = gate.pass(stop.get_token()); });
        gate.await_held(2);
        stop.request_stop();
        stopped.join();
        CHECK_FALSE(stopped_passed);
        CHECK(gate.held() == 1);
        CHECK_FALSE(patient_passed);
        gate.open();
    }
    CHECK(patient_passed);
    // Who asks for an open gate gets through even when asked to stop.
    CHECK(gate.pass(stop.get_token()));
}

TEST_CASE("A stop that was requested before holds no thread back") {
    Gate gate;
    std::stop_source stop;
    stop.request_stop();
    CHECK_FALSE(gate.pass(stop.get_token()));
}

}  // namespace gate_test
