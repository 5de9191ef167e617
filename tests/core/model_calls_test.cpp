// How many model calls run, and which may begin beside them.

#include "residency/core/model_calls.hpp"

#include "support/catch.hpp"

namespace residency::core::model_calls_test {

TEST_CASE("calls are counted by priority, and numbered as they begin", "[R8]") {
    ModelCalls calls(3);
    CHECK(calls.most() == 3);
    CHECK(calls.latest(Priority::high) == 0);
    calls.begin(Priority::low, false);
    calls.begin(Priority::high, true);
    CHECK(calls.running() == 2);
    CHECK(calls.running(Priority::high) == 1);
    CHECK(calls.running(Priority::normal) == 0);
    CHECK(calls.running(Priority::low) == 1);
    CHECK(calls.latest(Priority::low) == 1);
    CHECK(calls.latest(Priority::high) == 2);
    CHECK(calls.parts().parts == 1);
    CHECK(calls.parts().whole_at == 1);
    CHECK(calls.parts().last_is_part);
    calls.end(Priority::high, true);
    calls.end(Priority::low, false);
    CHECK(calls.running() == 0);
    CHECK(calls.running(Priority::high) == 0);
    CHECK(calls.running(Priority::low) == 0);
    CHECK(calls.parts().parts == 0);
    CHECK(calls.begun() == 2);
    CHECK(calls == ModelCalls(calls));
    CHECK_FALSE(calls == ModelCalls(3));
}

TEST_CASE("as many calls may begin as may run", "[R8]") {
    ModelCalls calls(2);
    CHECK(calls.may_begin(Priority::low));
    calls.begin(Priority::low, false);
    CHECK(calls.may_begin(Priority::low));
    calls.begin(Priority::low, false);
    CHECK_FALSE(calls.may_begin(Priority::high));
    calls.end(Priority::low, false);
    CHECK(calls.may_begin(Priority::high));
}

TEST_CASE("one call is left to a higher priority while that is present", "[H26]") {
    ModelCalls calls(2);
    calls.begin(Priority::high, false);
    calls.end(Priority::high, false);
    // The call of high priority is one of the latest four until four more have begun.
    for (int turn = 0; turn < 3; ++turn) {
        calls.begin(Priority::normal, false);
        CHECK_FALSE(calls.may_begin(Priority::normal));
        CHECK_FALSE(calls.may_begin(Priority::low));
        CHECK(calls.may_begin(Priority::high));
        calls.end(Priority::normal, false);
        CHECK(calls.may_begin(Priority::normal));
    }
    calls.begin(Priority::normal, false);
    CHECK(calls.may_begin(Priority::normal));
    // Only normal ones are present now, and one of them has its call.
    CHECK(calls.may_begin(Priority::low));
    calls.end(Priority::normal, false);
    calls.begin(Priority::low, false);
    CHECK_FALSE(calls.may_begin(Priority::low));
    CHECK(calls.may_begin(Priority::normal));
}

TEST_CASE("a slot with one call leaves none of it to others", "[H26]") {
    ModelCalls calls(1);
    calls.begin(Priority::high, false);
    CHECK_FALSE(calls.may_begin(Priority::low));
    calls.end(Priority::high, false);
    CHECK(calls.may_begin(Priority::low));
}

TEST_CASE("parts leave one call to requests that are not cut, while one waits or was there lately", "[H26]") {
    ModelCalls calls(2);
    calls.begin(Priority::normal, true);
    CHECK(calls.may_begin_part(calls.parts(), false));
    CHECK_FALSE(calls.may_begin_part(calls.parts(), true));
    calls.begin(Priority::normal, false);
    calls.end(Priority::normal, false);
    // It is one of the latest four until four more have begun.
    for (int turn = 0; turn < 4; ++turn) {
        CHECK_FALSE(calls.may_begin_part(calls.parts(), false));
        calls.end(Priority::normal, true);
        CHECK(calls.may_begin_part(calls.parts(), true));
        calls.begin(Priority::normal, true);
    }
    CHECK(calls.may_begin_part(calls.parts(), false));
}

TEST_CASE("with one call every second one is for a part while others wait", "[H26]") {
    ModelCalls calls(1);
    CHECK(calls.may_begin_part(calls.parts(), true));
    calls.begin(Priority::normal, true);
    calls.end(Priority::normal, true);
    CHECK_FALSE(calls.may_begin_part(calls.parts(), true));
    CHECK(calls.may_begin_part(calls.parts(), false));
    calls.begin(Priority::normal, false);
    calls.end(Priority::normal, false);
    CHECK(calls.may_begin_part(calls.parts(), true));
}

TEST_CASE("a resident's share of the calls is looked at with the slot's numbers", "[H26]") {
    ModelCalls calls(4);
    calls.begin(Priority::normal, false);
    const PartsShare fresh{2, 1, 0, true};
    CHECK(calls.may_begin_part(fresh, false));
    CHECK_FALSE(calls.may_begin_part(fresh, true));
    const PartsShare used{2, 1, 1, true};
    CHECK_FALSE(calls.may_begin_part(used, false));
    for (int call = 0; call < 8; ++call) {
        calls.end(Priority::normal, false);
        calls.begin(Priority::normal, false);
    }
    CHECK(calls.may_begin_part(used, false));
}

TEST_CASE("a request counts as alone once twice as many calls as may run had no company", "[H25]") {
    ModelCalls calls(2);
    CHECK(calls.had_no_company());
    calls.begin(Priority::normal, false);
    calls.note_company();
    CHECK(calls.company_until() == 5);
    for (int call = 0; call < 4; ++call) {
        CHECK_FALSE(calls.had_no_company());
        calls.end(Priority::normal, false);
        calls.begin(Priority::normal, false);
    }
    CHECK(calls.had_no_company());
}

}  // namespace residency::core::model_calls_test
