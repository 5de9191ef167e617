#include "residency/shared_cause.hpp"

#include "support/catch.hpp"

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace shared_cause_test {

using residency::detail::SharedCause;

static_assert(std::is_nothrow_copy_constructible_v<SharedCause> && std::is_nothrow_move_constructible_v<SharedCause>);
static_assert(sizeof(SharedCause) == sizeof(void*));

namespace {

/// An exception whose end can be seen.
std::exception_ptr exception_with(const std::shared_ptr<int>& value) { return std::make_exception_ptr(value); }

}  // namespace

TEST_CASE("A shared cause keeps its exception until its last owner is gone") {
    const auto value = std::make_shared<int>(1);
    SharedCause first(exception_with(value));
    CHECK(first);
    CHECK(value.use_count() == 2);
    {
        const SharedCause second = first;
        CHECK(second == first);
        CHECK(second.exception() == first.exception());
        SharedCause third = std::move(first);
        CHECK_FALSE(first);
        first = third;
        third = second;
        const SharedCause& same = third;
        third = same;
        CHECK(value.use_count() == 2);
    }
    CHECK(value.use_count() == 2);
    first = SharedCause(exception_with(std::make_shared<int>(2)));
    CHECK(value.use_count() == 1);
}

TEST_CASE("No cause is none, and equal to another none") {
    const SharedCause none;
    CHECK_FALSE(none);
    CHECK(none.exception() == nullptr);
    CHECK(none == SharedCause(nullptr));
    CHECK_FALSE(SharedCause(std::make_exception_ptr(1)) == SharedCause(std::make_exception_ptr(1)));
}

}  // namespace shared_cause_test
