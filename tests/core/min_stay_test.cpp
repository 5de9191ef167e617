#include "residency/core/slot_scheduler.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

// What H32 is worth: a slot under closed-loop callers, in virtual time.

namespace residency::test::min_stay_test {

namespace {

using namespace std::chrono_literals;
using core::Time;

struct Caller {
    std::vector<std::string> keys{};
    Priority priority = Priority::normal;
    // Its calls take that long.
    core::Duration call = 25ms;
};

// Drives a scheduler as a slot's shell would: each caller makes its next request, for its next key, as soon as the one
// before it has been answered; loads and calls take the time that they take, an unload takes none.
class ClosedLoop {
public:
    ClosedLoop(const SlotOptions& options, core::Duration load, std::vector<Caller> callers)
        : scheduler_(options), load_(load), callers_(std::move(callers)), latencies_(callers_.size()) {
        begun_.resize(callers_.size());
        turn_.resize(callers_.size());
    }

    void run(core::Duration length) {
        for (std::size_t caller = 0; caller < callers_.size(); ++caller) {
            request(caller);
        }
        while (now_ < length) {
            const Time alarm = scheduler_.next_alarm();
            const bool rings = due_.empty() || alarm < due_.top().time;
            now_ = std::max(now_, rings ? alarm : due_.top().time);
            actions_.clear();
            if (rings) {
                scheduler_.tick(now_, actions_);
                carry_out();
                continue;
            }
            const Due due = due_.top();
            due_.pop();
            if (due.is_load) {
                scheduler_.loaded(due.grant.resident, 1'000, now_, actions_);
                carry_out();
            } else {
                scheduler_.release(due.grant, now_, actions_);
                carry_out();
                latencies_[due.caller].push_back(now_ - begun_[due.caller]);
                request(due.caller);
            }
        }
    }

    // How many requests of all callers were answered in a second.
    [[nodiscard]] double rate() const {
        std::size_t count = 0;
        for (const auto& each : latencies_) {
            count += each.size();
        }
        return static_cast<double>(count) / std::chrono::duration<double>(now_).count();
    }
    // The latency of a share of the requests: of one caller, or of all.
    [[nodiscard]] core::Duration percentile(std::size_t percent, std::optional<std::size_t> caller = {}) const {
        std::vector<core::Duration> all;
        for (std::size_t index = 0; index < latencies_.size(); ++index) {
            if (!caller || *caller == index) {
                all.insert(all.end(), latencies_[index].begin(), latencies_[index].end());
            }
        }
        REQUIRE_FALSE(all.empty());
        std::sort(all.begin(), all.end());
        return all[(all.size() - 1) * percent / 100];
    }
    [[nodiscard]] std::size_t answers(std::size_t caller) const { return latencies_[caller].size(); }

private:
    struct Due {
        Time time{0};
        bool is_load = false;
        core::Grant grant{};
        std::size_t caller = 0;
        std::size_t number = 0;
        friend bool operator<(const Due& left, const Due& right) {
            return left.time != right.time ? left.time > right.time : left.number > right.number;
        }
    };

    void request(std::size_t caller) {
        const ModelKey key(callers_[caller].keys[turn_[caller]++ % callers_[caller].keys.size()]);
        core::RequestSpec spec;
        spec.priority = callers_[caller].priority;
        begun_[caller] = now_;
        actions_.clear();
        core::Grant grant;
        if (scheduler_.try_grant(key, spec, grant) == core::Attempt::granted) {
            begin_call(caller, grant);
            return;
        }
        const core::Enqueued enqueued = scheduler_.enqueue(key, spec, now_, actions_);
        REQUIRE(enqueued.request.valid());
        waiting_.resize(std::max<std::size_t>(waiting_.size(), enqueued.request.index + 1));
        waiting_[enqueued.request.index] = caller;
        carry_out();
    }

    void begin_call(std::size_t caller, const core::Grant& grant) {
        due_.push({now_ + callers_[caller].call, false, grant, caller, ++number_});
    }

    void carry_out() {
        for (std::size_t index = 0; index < actions_.size(); ++index) {
            const core::Action action = actions_[index];
            const core::ResidentId resident =
                action.resident == core::none ? core::ResidentId{} : scheduler_.residents().handle(action.resident);
            if (action.type == core::ActionType::grant) {
                begin_call(waiting_[action.subject], {resident, {}, false});
            } else if (action.type == core::ActionType::load) {
                REQUIRE(scheduler_.load_begins(resident, now_, actions_));
                due_.push({now_ + load_, true, {resident, {}, false}, 0, ++number_});
            } else if (action.type == core::ActionType::unload) {
                scheduler_.unloaded(resident, now_, actions_);
            }
        }
    }

    core::SlotScheduler scheduler_;
    core::Duration load_;
    std::vector<Caller> callers_;
    std::vector<std::vector<core::Duration>> latencies_;
    std::vector<Time> begun_{};
    std::vector<std::size_t> turn_{};
    std::vector<std::size_t> waiting_{};
    std::priority_queue<Due> due_{};
    std::size_t number_ = 0;
    Time now_{0};
    core::Actions actions_{};
};

SlotOptions one_place(std::size_t leases, std::optional<std::chrono::milliseconds> min_stay = std::nullopt) {
    SlotOptions options;
    options.max_leases = leases;
    options.min_stay = min_stay;
    return options;
}

// 64 callers, each on its key.
std::vector<Caller> callers_on(std::size_t keys, core::Duration call) {
    std::vector<Caller> callers;
    for (std::size_t caller = 0; caller < 64; ++caller) {
        callers.push_back({{"model " + std::to_string(caller % keys)}, Priority::normal, call});
    }
    return callers;
}

/// Stays give `factor` times the rate of first come, first served, and no p99 above one and a half times its own.
void check_gain(std::size_t calls, core::Duration load, const std::vector<Caller>& callers, double factor) {
    ClosedLoop as_they_come(one_place(calls, 0ms), load, callers);
    as_they_come.run(200s);
    ClosedLoop stays(one_place(calls), load, callers);
    stays.run(200s);
    CHECK(stays.rate() >= factor * as_they_come.rate());
    CHECK(2 * stays.percentile(99) <= 3 * as_they_come.percentile(99));
}

}  // namespace

TEST_CASE("H32 with one call at a time, more keys than places cost no more than half of the time", "[H32]") {
    const std::size_t keys = GENERATE(std::size_t{2}, std::size_t{4});
    const auto [load, factor] = GENERATE(std::pair(300ms, 2.0), std::pair(3000ms, 8.0));
    CAPTURE(keys, load.count());
    check_gain(1, load, callers_on(keys, 25ms), factor);
}

TEST_CASE("H32 with many calls at a time, two keys in one place get more done, and waits grow little", "[H32]") {
    const auto [load, factor] = GENERATE(std::pair(300ms, 1.4), std::pair(3000ms, 8.0));
    CAPTURE(load.count());
    // As long as a call with the texts of all callers of a key.
    check_gain(32, load, callers_on(2, 180ms), factor);
}

TEST_CASE("H32 a lone client that alternates between two keys loses less than a tenth", "[H32]") {
    const auto load = GENERATE(150ms, 300ms, 3000ms);
    CAPTURE(load.count());
    const std::vector<Caller> callers{{{"a", "b"}, Priority::normal, 25ms}};
    ClosedLoop as_they_come(one_place(1, 0ms), load, callers);
    as_they_come.run(200s);
    ClosedLoop stays(one_place(1), load, callers);
    stays.run(200s);
    CHECK(stays.rate() >= 0.9 * as_they_come.rate());
}

TEST_CASE("H32 a caller of low priority does not halve one of high priority, and is answered by its age",
          "[H32][R15]") {
    const auto load = GENERATE(300ms, 3000ms);
    // Shorter and, with one of the two loads, longer than that.
    const auto call = GENERATE(25ms, 1000ms);
    CAPTURE(load.count(), call.count());
    const SlotOptions options = one_place(4);
    ClosedLoop loop(options, load, {{{"a"}, Priority::high, call}, {{"b"}, Priority::low, 25ms}});
    loop.run(200s);
    CHECK(2 * loop.percentile(50, 0) <= 3 * call);
    REQUIRE(loop.answers(1) != 0);
    CHECK(loop.percentile(100, 1) <= options.aging + call + load + 25ms);
}

TEST_CASE("H32 a key waits for the load and the stay of another, a drain and its own load at most", "[H32]") {
    const auto load = GENERATE(300ms, 3000ms);
    CAPTURE(load.count());
    std::vector<Caller> callers = callers_on(1, 180ms);
    callers.push_back({{"lone"}, Priority::normal, 180ms});
    ClosedLoop loop(one_place(128), load, callers);
    loop.run(200s);
    // Then comes its call.
    const core::Duration longest = load + load + 180ms + load + 180ms;
    CHECK(loop.percentile(100, 64) <= longest);
    CHECK(loop.percentile(100, 0) <= longest);
}

}  // namespace residency::test::min_stay_test
