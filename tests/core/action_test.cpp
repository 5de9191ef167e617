#include "residency/core/action.hpp"

#include "support/catch.hpp"

#include <type_traits>

namespace residency::core::action_test {

TEST_CASE("an action is numbers only, and compares every one of them") {
    STATIC_REQUIRE(std::is_trivially_copyable_v<Action>);
    const Action plain;
    CHECK(plain == Action{});
    const auto differs = [&](auto change) {
        Action other;
        change(other);
        return !(other == plain);
    };
    CHECK(differs([](Action& action) { action.type = ActionType::grant; }));
    CHECK(differs([](Action& action) { action.code = errc::overloaded; }));
    CHECK(differs([](Action& action) { action.stage = Stage::load; }));
    CHECK(differs([](Action& action) { action.event = EventType::ready; }));
    CHECK(differs([](Action& action) { action.reason = Reason::idle; }));
    CHECK(differs([](Action& action) { action.kept = true; }));
    CHECK(differs([](Action& action) { action.late = true; }));
    CHECK(differs([](Action& action) { action.subject = 0; }));
    CHECK(differs([](Action& action) { action.resident = 0; }));
    CHECK(differs([](Action& action) { action.key = 0; }));
    CHECK(differs([](Action& action) { action.count = 1; }));
    CHECK(differs([](Action& action) { action.generation = Generation{1}; }));
    CHECK(differs([](Action& action) { action.duration = Duration(1); }));
}

TEST_CASE("handles of different tables do not mix") {
    STATIC_REQUIRE_FALSE(std::is_convertible_v<RequestId, ResidentId>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<ResidentId, TeardownId>);
    CHECK_FALSE(RequestId{}.valid());
    CHECK(RequestId{0, 0}.valid());
}

}  // namespace residency::core::action_test
