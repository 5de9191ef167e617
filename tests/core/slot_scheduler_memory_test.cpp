#include "residency/core/slot_scheduler.hpp"

#include "support/canonical.hpp"
#include "support/catch.hpp"
#include "support/memory.hpp"
#include "support/scheduler_events.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

// What SlotScheduler's documentation says of memory: what never allocates, and that whatever may allocate and cannot
// has not happened.

namespace residency::test::slot_scheduler_memory_test {

namespace {

using namespace std::chrono_literals;

// A world in which events are drawn, and beside it a scheduler that is never copied, so that what it once reserved
// stays.
class Pair {
public:
    explicit Pair(unsigned seed)
        : random_(seed),
          setting_(make_setting()),
          world_(setting_.options, setting_.keys, false),
          scheduler_(setting_.options) {}

    void step() {
        std::vector<SchedulerEvent> events;
        for_each_event(world_, setting_, [&](const SchedulerEvent& event) {
            const bool rare =
                event.what == Happening::unload || event.what == Happening::close || event.what == Happening::shut_down;
            if (!rare || random_() % 40 == 0) {
                events.push_back(event);
            }
        });
        const SchedulerEvent event = events[random_() % events.size()];
        actions_.clear();
        actions_.reserve(scheduler_.most_actions());
        switch (event.what) {
            case Happening::request: request(setting_.requests[event.subject]); break;
            case Happening::unload: {
                const ModelKey* key = event.subject < setting_.keys.size() ? &setting_.keys[event.subject] : nullptr;
                const UnloadMode mode = event.how == 0 ? UnloadMode::drain : UnloadMode::revoke;
                all_or_nothing([&] { scheduler_.unload(key, mode, world_.now(), actions_); });
                break;
            }
            case Happening::shut_down:
                all_or_nothing([&] {
                    scheduler_.shut_down(core::later(world_.now(), setting_.patience), world_.now(), actions_);
                });
                break;
            default: without_memory(event); break;
        }
        carry_out(world_, setting_, event);
        REQUIRE(canonical(scheduler_, world_.now()) == canonical(world_.scheduler(), world_.now()));
    }

    std::size_t failures = 0;

private:
    Setting make_setting() {
        Setting setting;
        setting.options = {.keep_alive = 2ms,
                           .max_resident = 3,
                           .max_leases = 3,
                           .max_calls = random_() % 3,
                           .max_loads = 1 + random_() % 2,
                           .max_queue = 20,
                           .cooldown = 1ms,
                           .max_cooldown = 3ms,
                           .aging = 3ms,
                           .abandon_after = std::chrono::milliseconds(random_() % 4)};
        for (int key = 0; key < 12; ++key) {
            setting.keys.emplace_back("a model with a name that is too long to be short " + std::to_string(key));
        }
        for (std::size_t kind = 0; kind < 60; ++kind) {
            RequestKind request;
            request.key = kind % setting.keys.size();
            request.spec.wants_lease = random_() % 4 != 0;
            request.spec.is_inference = request.spec.wants_lease && random_() % 2 == 0;
            request.spec.priority = static_cast<Priority>(random_() % 3);
            if (random_() % 2 == 0) {
                request.timeout = milliseconds_of(random_() % 5);
            }
            request.expects = random_() % 6 == 0;
            setting.requests.push_back(request);
        }
        setting.begins_loads = false;
        setting.refuses = true;
        setting.capacities = {1, 2, 3};
        setting.most_operations = 5;
        setting.closes = random_() % 4 == 0;
        return setting;
    }

    static core::Duration milliseconds_of(std::size_t count) { return std::chrono::milliseconds(count); }

    void request(const RequestKind& kind) {
        core::RequestSpec spec = kind.spec;
        spec.deadline = kind.timeout ? core::later(world_.now(), *kind.timeout) : core::never;
        spec.since = world_.now();
        if (kind.expects) {
            spec.expects = true;
            spec.expected = world_.generation_of(kind.key);
        }
        const ModelKey& key = setting_.keys[kind.key];
        if (kind.timeout) {
            scheduler_.note_timeout(*kind.timeout);
        }
        core::Attempt attempt{};
        all_or_nothing([&] {
            if (spec.wants_lease) {
                core::Grant grant;
                attempt = scheduler_.try_grant(key, spec, grant);
            } else {
                Generation generation;
                attempt = scheduler_.try_ensure(key, spec, world_.now(), generation, actions_);
            }
        });
        if (attempt == core::Attempt::must_wait) {
            all_or_nothing([&] { scheduler_.enqueue(key, spec, world_.now(), actions_); });
        }
    }

    // Lets the first allocation fail, then the second, and so on, until the call succeeds.
    template <class Call>
    void all_or_nothing(Call call) {
        const std::vector<std::uint64_t> before = canonical(scheduler_, world_.now());
        for (std::size_t successes = 0;; ++successes) {
            try {
                const AllocationFaults memory(successes + 1, FaultPattern::only);
                call();
                return;
            } catch (const std::bad_alloc&) {
                ++failures;
                REQUIRE(actions_.empty());
                REQUIRE(canonical(scheduler_, world_.now()) == before);
            }
        }
    }

    void without_memory(const SchedulerEvent& event) {
        auto message = std::make_shared<const std::string>("no such file, and a message that is too long to be short");
        const core::Time now = world_.now();
        const std::size_t before = Memory::here().allocations;
        switch (event.what) {
            case Happening::release: {
                const core::Grant grant = world_.leases()[event.subject].grant;
                if (event.how != 0 || !scheduler_.release_quietly(grant, now)) {
                    scheduler_.release(grant, now, actions_);
                }
                break;
            }
            case Happening::cancel: scheduler_.cancel(world_.waiters()[event.subject].id, now, actions_); break;
            case Happening::load_begins:
                static_cast<void>(scheduler_.load_begins(world_.residents()[event.subject].id, now, actions_));
                break;
            case Happening::loaded:
                scheduler_.loaded(world_.residents()[event.subject].id, setting_.capacities[event.how], now, actions_);
                break;
            case Happening::load_failed:
                scheduler_.load_failed(world_.residents()[event.subject].id,
                                       event.how != 0 ? errc::load_failed : errc::invalid_request, std::move(message),
                                       now, actions_);
                break;
            case Happening::unloaded: scheduler_.unloaded(world_.residents()[event.subject].id, now, actions_); break;
            case Happening::tick: scheduler_.tick(now, actions_); break;
            case Happening::forget: scheduler_.forget(world_.teardowns()[event.subject].id); break;
            case Happening::close: scheduler_.close(now, actions_); break;
            default: break;
        }
        const std::size_t after = Memory::here().allocations;
        REQUIRE(after == before);
    }

    std::mt19937 random_;
    Setting setting_;
    CheckedScheduler world_;
    core::SlotScheduler scheduler_;
    core::Actions actions_;
};

}  // namespace

TEST_CASE("what may not allocate does not, and what cannot allocate has not happened", "[H18]") {
    std::size_t failures = 0;
    for (unsigned seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        Pair pair(seed);
        for (int step = 0; step < 300; ++step) {
            pair.step();
        }
        failures += pair.failures;
    }
    // Each world allocates for its first requests at least.
    CHECK(failures > 60 * 5);
}

TEST_CASE("a request for one more key copies nothing of the keys that wait already", "[S18]") {
    constexpr std::size_t keys = 100'000;
    SlotOptions options;
    options.max_queue = keys;
    core::SlotScheduler scheduler(options);
    core::Actions actions;
    std::size_t most = 0;
    Memory::here().largest = 0;
    for (std::size_t key = 0; key < keys; ++key) {
        actions.clear();
        actions.reserve(scheduler.most_actions());
        core::RequestSpec spec;
        spec.deadline = core::Time{1'000'000 + static_cast<core::Time::rep>(key)};
        const std::size_t before = Memory::here().allocations;
        REQUIRE(scheduler.enqueue(ModelKey(std::to_string(key), "f16"), spec, core::Time{1}, actions).request.valid());
        // The first one makes the tables.
        most = key == 0 ? 0 : std::max(most, Memory::here().allocations - before);
    }
    // A chunk of each of its tables, at most. The largest is the room for actions, or a list of chunks.
    CHECK(most <= 32);
    CHECK(Memory::here().largest <= 256U * 1024U);
    CHECK(scheduler.waiting() == keys);
}

TEST_CASE("granting and releasing a lease on a ready model allocates nothing", "[H18]") {
    core::SlotScheduler scheduler;
    core::Actions actions;
    const ModelKey key{"bge-small-en-v1.5", "a quantization that is too long to be short"};
    core::RequestSpec ensure;
    ensure.wants_lease = false;
    scheduler.enqueue(key, ensure, core::Time{0}, actions);
    REQUIRE(scheduler.load_begins(scheduler.residents().handle(0), core::Time{0}, actions));
    scheduler.loaded(scheduler.residents().handle(0), 10, core::Time{0}, actions);
    const std::size_t before = Memory::here().allocations;
    for (int round = 0; round < 1'000; ++round) {
        core::Grant first;
        core::Grant second;
        core::RequestSpec spec;
        spec.is_inference = round % 2 == 0;
        const bool granted = scheduler.try_grant(key, spec, first) == core::Attempt::granted &&
                             scheduler.try_grant(key, spec, second) == core::Attempt::granted;
        if (!granted || !scheduler.release_quietly(second, core::Time{round})) {
            break;
        }
        scheduler.release(first, core::Time{round}, actions);
    }
    const std::size_t after = Memory::here().allocations;
    CHECK(after == before);
    CHECK(scheduler.counters().leases_granted == 2'000);
}

}  // namespace residency::test::slot_scheduler_memory_test
