// H18: every operation, started in every state of a slot, with each of its allocations failing in turn.

#include "support/allocation_failure_sweep.hpp"
#include "support/memory.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace allocation_test {

using namespace residency;
using namespace residency::test;
using namespace residency::test::starving;

namespace {

// Lets the first, the second, ... allocation of a start fail, until none is left that could. Gives how many starts
// threw.
template <class Operation>
std::size_t starve(const Setting& setting, FaultPattern scarcity) {
    const std::string answer = try_start<Operation>(setting, 0, scarcity).answer;
    std::size_t threw = 0;
    for (std::size_t nth = 1;; ++nth) {
        INFO(setting.name << ": allocation " << nth << " fails"
                          << (scarcity == FaultPattern::from ? " and all that follow" : " alone"));
        REQUIRE(nth < 1000);
        const Trial trial = try_start<Operation>(setting, nth, scarcity, answer);
        REQUIRE(trial.problem == "");
        REQUIRE_FALSE(trial.gave_back);
        threw += trial.threw ? 1 : 0;
        if (trial.failures == 0) {
            return threw;
        }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("A start that finds no memory throws and has begun nothing, in whichever state the slot is",
                   "[H18][R9][R11][R12]", Acquire, AcquireInTime, EnsureLoaded, Embed, EmbedInTime, Rerank, Unload,
                   Revoke, UnloadAll, ShutSlot, ShutManager, ShutManagerInTime) {
    for (const Setting& setting : settings) {
        INFO(TestType::name << ", " << setting.name);
        const std::size_t alone = starve<TestType>(setting, FaultPattern::only);
        const std::size_t with_all_that_follow = starve<TestType>(setting, FaultPattern::from);
        // On a model that is ready a lease takes nothing but of its executor.
        const bool takes_nothing =
            std::is_same_v<typename TestType::Result, FrugalLease> &&
            (setting.name == std::string_view(ready.name) || setting.name == std::string_view(leased.name));
        CHECK((alone == 0) == takes_nothing);
        CHECK((with_all_that_follow == 0) == takes_nothing);
    }
}

}  // namespace allocation_test
