#include "residency/runtime/alarm.hpp"

#include "residency/testing/virtual_clock.hpp"

#include "support/catch.hpp"

#include <chrono>
#include <utility>
#include <vector>

namespace alarm_test {

using namespace std::chrono_literals;
using boost::system::error_code;
using residency::runtime::Alarm;
using residency::testing::run_ready;
using residency::testing::VirtualClock;
namespace asio = boost::asio;
using Virtual = Alarm<VirtualClock>;
using Step = Virtual::Step;

namespace {

// What an owner does with its alarm, without the threads.
struct Owner {
    Owner() { VirtualClock::reset(); }

    // Brings the alarm in line with `wanted`; gives what had to be done first.
    Step want(Virtual::Time wanted) {
        Step first = Step::none;
        bool is_first = true;
        alarm.sync(
            [&] {
                const Step step = alarm.plan(wanted);
                first = is_first ? step : first;
                is_first = false;
                started += step == Step::start ? 1 : 0;
                cancelled += step == Step::cancel ? 1 : 0;
                return std::pair(step, wanted);
            },
            [this] {
                return [this](error_code code) {
                    ended.push_back(code);
                    alarm.ended();
                };
            });
        return first;
    }
    void advance(Virtual::Time by) {
        VirtualClock::advance(by);
        run_ready(context);
    }

    asio::io_context context;
    Virtual alarm{context.get_executor()};
    int started = 0;
    int cancelled = 0;
    std::vector<error_code> ended;
};

// A clock of whole milliseconds.
struct Coarse {
    using duration = std::chrono::milliseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<Coarse>;
    static constexpr bool is_steady = true;
    static time_point now() noexcept {
        return time_point(std::chrono::floor<duration>(std::chrono::steady_clock::now().time_since_epoch()));
    }
};

}  // namespace

TEST_CASE("Alarm: nothing wanted, nothing waited for", "[R7]") {
    Owner owner;
    CHECK(owner.alarm.quiet());
    CHECK_FALSE(owner.alarm.wants(Virtual::never));
    CHECK(owner.want(Virtual::never) == Step::none);
    CHECK(run_ready(owner.context) == 0);
}

TEST_CASE("Alarm: ends when its time has come, and not before", "[R7]") {
    Owner owner;
    CHECK(owner.alarm.wants(5s));
    CHECK(owner.want(5s) == Step::start);
    CHECK_FALSE(owner.alarm.quiet());
    owner.advance(5s - 1ns);
    CHECK(owner.ended.empty());
    owner.advance(1ns);
    REQUIRE(owner.ended.size() == 1);
    CHECK_FALSE(owner.ended[0].failed());
    CHECK(owner.alarm.quiet());
}

TEST_CASE("Alarm: a wait that ends earlier than wanted is good enough", "[R7]") {
    Owner owner;
    owner.want(5s);
    CHECK_FALSE(owner.alarm.wants(5s));
    CHECK_FALSE(owner.alarm.wants(9s));
    CHECK(owner.want(9s) == Step::none);
    CHECK(owner.started == 1);
    owner.advance(5s);
    CHECK(owner.ended.size() == 1);
}

TEST_CASE("Alarm: a wait that ends too late is cancelled, and the next starts only when its handler has run", "[R7]") {
    Owner owner;
    owner.want(5s);
    CHECK(owner.alarm.wants(2s));
    CHECK(owner.want(2s) == Step::cancel);
    // Cancelled, but its handler has yet to run: no second wait, whatever is wanted.
    CHECK(owner.started == 1);
    CHECK_FALSE(owner.alarm.quiet());
    CHECK_FALSE(owner.alarm.wants(1s));
    CHECK(owner.want(1s) == Step::none);
    CHECK(owner.want(Virtual::never) == Step::none);
    CHECK(owner.cancelled == 1);
    run_ready(owner.context);
    REQUIRE(owner.ended.size() == 1);
    CHECK(owner.ended[0] == asio::error::operation_aborted);
    CHECK(owner.want(1s) == Step::start);
    owner.advance(1s);
    CHECK(owner.ended.size() == 2);
}

TEST_CASE("Alarm: a wait that is wanted no more is cancelled", "[R7]") {
    Owner owner;
    owner.want(5s);
    CHECK(owner.alarm.wants(Virtual::never));
    CHECK(owner.want(Virtual::never) == Step::cancel);
    run_ready(owner.context);
    CHECK(owner.alarm.quiet());
    CHECK(owner.ended.size() == 1);
    owner.advance(10s);
    CHECK(owner.ended.size() == 1);
}

TEST_CASE("Alarm: a wait that had ended when it was cancelled says success, and is still one", "[R7]") {
    Owner owner;
    owner.want(5s);
    VirtualClock::advance(5s);
    // Its time has come; the context has not looked yet.
    asio::post(owner.context, [&] { owner.want(1s); });
    run_ready(owner.context);
    CHECK(owner.ended.size() == 1);
    CHECK(owner.alarm.quiet());
}

TEST_CASE("Alarm: never wakes before something is due, whatever the clock's ticks", "[R7]") {
    asio::io_context context;
    Alarm<Coarse> alarm(context.get_executor());
    // Half a millisecond after the next tick: the tick after that.
    const auto due = Coarse::now().time_since_epoch() + 1ms + 500us;
    std::chrono::nanoseconds woke{0};
    alarm.sync([&] { return std::pair(alarm.plan(due), due); },
               [&] { return [&](error_code) { woke = Coarse::now().time_since_epoch(); }; });
    context.run();
    CHECK(woke >= due);
}

TEST_CASE("Alarm: closed, it ends its wait and starts no other", "[R7]") {
    Owner owner;
    owner.want(5s);
    owner.alarm.close();
    run_ready(owner.context);
    REQUIRE(owner.ended.size() == 1);
    CHECK(owner.ended[0] == asio::error::operation_aborted);
    CHECK(owner.want(1s) == Step::none);
    CHECK(owner.started == 1);
    CHECK(owner.alarm.quiet());
    owner.alarm.close();
}

}  // namespace alarm_test
