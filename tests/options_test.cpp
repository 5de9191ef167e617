#include "residency/options.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace options_test {

using namespace std::chrono_literals;
using residency::SlotOptions;

static_assert(std::is_aggregate_v<SlotOptions> && std::is_aggregate_v<residency::RequestOptions> &&
                  std::is_aggregate_v<residency::ManagerOptions>,
              "they are written with designated initializers");

namespace {

// One field with a value that it must not have, or may just have.
struct Case {
    const char* field;
    const char* value;
    std::function<void(SlotOptions&)> set;
};

std::string refusal(const Case& tried) {
    SlotOptions options;
    tried.set(options);
    try {
        residency::check_options(options, "embedding");
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return {};
}

constexpr auto longest = std::chrono::milliseconds::max();
constexpr auto shortest = std::chrono::milliseconds::min();
constexpr auto most = std::numeric_limits<std::size_t>::max();

}  // namespace

TEST_CASE("The defaults are what the documentation says, and pass") {
    const SlotOptions options;
    CHECK(options.keep_alive == 5min);
    CHECK(options.max_resident == 1);
    CHECK(options.max_leases == 10);
    CHECK(options.max_calls == 0);
    CHECK(options.max_loads == 1);
    CHECK(options.max_queue == 512);
    CHECK(options.cooldown == 1s);
    CHECK(options.max_cooldown == 60s);
    CHECK(options.aging == 30s);
    CHECK(options.abandon_after == 10s);
    CHECK_FALSE(options.min_stay.has_value());
    CHECK_NOTHROW(residency::check_options(options, "embedding"));

    const residency::RequestOptions request;
    CHECK_FALSE(request.timeout.has_value());
    CHECK_FALSE(request.keep_alive.has_value());
    CHECK(request.priority == residency::Priority::normal);
    CHECK_FALSE(request.expected_generation.has_value());
    CHECK_FALSE(residency::ManagerOptions{}.observer);
}

TEST_CASE("Each field that breaks its rule is refused, by name") {
    const std::vector<Case> cases{
        {"keep_alive", "-1 ms", [](SlotOptions& o) { o.keep_alive = -1ms; }},
        {"keep_alive", "the least", [](SlotOptions& o) { o.keep_alive = shortest; }},
        {"max_resident", "0", [](SlotOptions& o) { o.max_resident = 0; }},
        {"max_resident", "1,000,001", [](SlotOptions& o) { o.max_resident = residency::max_count_limit + 1; }},
        {"max_resident", "-1 as a size", [](SlotOptions& o) { o.max_resident = most; }},
        {"max_leases", "0", [](SlotOptions& o) { o.max_leases = 0; }},
        {"max_leases", "1,000,001", [](SlotOptions& o) { o.max_leases = residency::max_count_limit + 1; }},
        {"max_leases", "-1 as a size", [](SlotOptions& o) { o.max_leases = most; }},
        {"max_calls", "1,000,001", [](SlotOptions& o) { o.max_calls = residency::max_count_limit + 1; }},
        {"max_calls", "-1 as a size", [](SlotOptions& o) { o.max_calls = most; }},
        {"max_loads", "0", [](SlotOptions& o) { o.max_loads = 0; }},
        {"max_loads", "1,000,001", [](SlotOptions& o) { o.max_loads = residency::max_count_limit + 1; }},
        {"max_loads", "-1 as a size", [](SlotOptions& o) { o.max_loads = most; }},
        {"max_queue", "0", [](SlotOptions& o) { o.max_queue = 0; }},
        {"max_queue", "1,000,001", [](SlotOptions& o) { o.max_queue = residency::max_queue_limit + 1; }},
        {"max_queue", "-1 as a size", [](SlotOptions& o) { o.max_queue = most; }},
        {"cooldown", "-1 ms", [](SlotOptions& o) { o.cooldown = -1ms; }},
        {"cooldown", "the least", [](SlotOptions& o) { o.cooldown = shortest; }},
        {"max_cooldown", "less than cooldown", [](SlotOptions& o) { o.max_cooldown = o.cooldown - 1ms; }},
        {"max_cooldown", "the least", [](SlotOptions& o) { o.max_cooldown = shortest; }},
        {"aging", "-1 ms", [](SlotOptions& o) { o.aging = -1ms; }},
        {"aging", "the least", [](SlotOptions& o) { o.aging = shortest; }},
        {"abandon_after", "-1 ms", [](SlotOptions& o) { o.abandon_after = -1ms; }},
        {"abandon_after", "the least", [](SlotOptions& o) { o.abandon_after = shortest; }},
        {"min_stay", "-1 ms", [](SlotOptions& o) { o.min_stay = -1ms; }},
        {"min_stay", "the least", [](SlotOptions& o) { o.min_stay = shortest; }},
    };
    for (const Case& tried : cases) {
        INFO(tried.field << " = " << tried.value);
        CHECK_THAT(refusal(tried), residency::test::contains_text(std::string("embedding.") + tried.field + " must "));
    }
}

TEST_CASE("The extremes that the rules allow pass") {
    const std::vector<Case> cases{
        {"keep_alive", "zero", [](SlotOptions& o) { o.keep_alive = 0ms; }},
        {"keep_alive", "forever", [](SlotOptions& o) { o.keep_alive = residency::keep_alive_forever; }},
        {"max_resident", "1,000,000", [](SlotOptions& o) { o.max_resident = residency::max_count_limit; }},
        {"max_leases", "1,000,000", [](SlotOptions& o) { o.max_leases = residency::max_count_limit; }},
        {"max_calls", "0", [](SlotOptions& o) { o.max_calls = 0; }},
        {"max_calls", "1,000,000", [](SlotOptions& o) { o.max_calls = residency::max_count_limit; }},
        {"max_loads", "1", [](SlotOptions& o) { o.max_loads = 1; }},
        {"max_loads", "1,000,000", [](SlotOptions& o) { o.max_loads = residency::max_count_limit; }},
        {"max_queue", "1", [](SlotOptions& o) { o.max_queue = 1; }},
        {"max_queue", "1,000,000", [](SlotOptions& o) { o.max_queue = residency::max_queue_limit; }},
        {"cooldown", "zero", [](SlotOptions& o) { o.cooldown = 0ms; }},
        {"cooldown", "both zero", [](SlotOptions& o) { o.cooldown = o.max_cooldown = 0ms; }},
        {"cooldown", "both the longest", [](SlotOptions& o) { o.cooldown = o.max_cooldown = longest; }},
        {"max_cooldown", "equal to cooldown", [](SlotOptions& o) { o.max_cooldown = o.cooldown; }},
        {"aging", "zero", [](SlotOptions& o) { o.aging = 0ms; }},
        {"aging", "the longest", [](SlotOptions& o) { o.aging = longest; }},
        {"abandon_after", "zero", [](SlotOptions& o) { o.abandon_after = 0ms; }},
        {"abandon_after", "the longest", [](SlotOptions& o) { o.abandon_after = longest; }},
        {"min_stay", "zero", [](SlotOptions& o) { o.min_stay = 0ms; }},
        {"min_stay", "the longest", [](SlotOptions& o) { o.min_stay = longest; }},
        {"min_stay", "longer than aging", [](SlotOptions& o) { o.min_stay = o.aging + 1ms; }},
    };
    for (const Case& tried : cases) {
        INFO(tried.field << " = " << tried.value);
        CHECK(refusal(tried).empty());
    }
}

}  // namespace options_test
