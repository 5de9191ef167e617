#pragma once

// The bounds within which the explorer walks through every state.

#include "support/scheduler_events.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

namespace detail {

using namespace std::chrono_literals;

inline RequestKind request(std::size_t key) {
    RequestKind kind;
    kind.key = key;
    return kind;
}
inline RequestKind timed(RequestKind kind) {
    kind.timeout = 1ms;
    return kind;
}
inline RequestKind call(RequestKind kind) {
    kind.spec.is_inference = true;
    return kind;
}
inline RequestKind about(RequestKind kind, core::Index texts, EmbedAs as = EmbedAs::as_is) {
    kind.spec.is_inference = true;
    kind.spec.texts = texts;
    kind.spec.bytes = texts;
    kind.spec.as = as;
    return kind;
}
inline RequestKind with(RequestKind kind, Priority priority) {
    kind.spec.priority = priority;
    return kind;
}
inline RequestKind with_key(RequestKind kind, std::size_t key) {
    kind.key = key;
    return kind;
}
inline RequestKind load_only(RequestKind kind) {
    kind.spec.wants_lease = false;
    return kind;
}
inline RequestKind unknown(RequestKind kind) {
    kind.spec.is_unknown = true;
    return kind;
}
inline RequestKind expecting(RequestKind kind) {
    kind.expects = true;
    return kind;
}
inline RequestKind keeping_alive(RequestKind kind, core::Duration keep_alive) {
    kind.spec.overrides_keep_alive = true;
    kind.spec.keep_alive = keep_alive;
    return kind;
}

}  // namespace detail

/// A family of settings: one for each combination of places, leases, keep-alive and cooldown.
struct Family {
    std::string name{};
    std::string about{};
    std::vector<RequestKind> requests{};
    std::size_t keys = 2;
    std::size_t max_queue = 3;
    std::vector<std::size_t> residents{1, 2};
    std::vector<std::size_t> leases{1, 2};
    std::vector<std::chrono::milliseconds> keep_alives{std::chrono::milliseconds(1)};
    std::vector<bool> cooldowns{false};
    std::chrono::milliseconds aging = keep_alive_forever;
    std::size_t most_operations = 0;
    bool closes = false;
    bool fails = true;
    std::size_t max_calls = 0;
    std::size_t max_loads = 2;
    std::chrono::milliseconds abandon_after{0};
    bool begins_loads = true;
    bool refuses = false;
    /// How long `wait` waits, and how long a cooldown lasts at first.
    std::chrono::milliseconds step{1};
    /// Whether a model may take fewer leases at once than the slot gives.
    bool narrow_models = false;
    /// How much one call of a model does best with.
    BatchLimits batch{};
    std::size_t max_queue_bytes = 100;
    /// Residents yield at once, unless this says otherwise; none: they stay for as long as their load took.
    std::optional<std::chrono::milliseconds> min_stay = std::chrono::milliseconds(0);
};

/// How much is walked through.
enum class Dose : std::uint8_t { small, full };

/// Every setting of a family.
inline std::vector<Setting> settings_of(const Family& family) {
    using namespace std::chrono_literals;
    std::vector<Setting> all;
    for (const std::size_t residents : family.residents) {
        for (const std::size_t leases : family.leases) {
            for (const std::chrono::milliseconds keep_alive : family.keep_alives) {
                for (const bool cooldown : family.cooldowns) {
                    Setting setting;
                    const std::string life =
                        keep_alive == keep_alive_forever ? "forever" : std::to_string(keep_alive.count());
                    setting.name = family.name + "/residents-" + std::to_string(residents) + "/leases-" +
                                   std::to_string(leases) + "/keep-alive-" + life +
                                   (cooldown ? "/cooldown" : "/no-cooldown");
                    setting.options.keep_alive = keep_alive;
                    setting.options.max_resident = residents;
                    setting.options.max_leases = leases;
                    setting.options.max_queue = family.max_queue;
                    setting.options.max_queue_bytes = family.max_queue_bytes;
                    setting.batch = family.batch;
                    setting.options.cooldown = cooldown ? family.step : 0ms;
                    setting.options.max_cooldown = cooldown ? 2 * family.step : 0ms;
                    setting.step = setting.patience = family.step;
                    setting.options.aging = family.aging;
                    setting.options.max_calls = family.max_calls;
                    setting.options.max_loads = family.max_loads;
                    setting.options.abandon_after = family.abandon_after;
                    setting.options.min_stay = family.min_stay;
                    setting.begins_loads = family.begins_loads;
                    setting.refuses = family.refuses;
                    for (std::size_t key = 0; key < family.keys; ++key) {
                        setting.keys.emplace_back(std::string(1, static_cast<char>('a' + key)));
                    }
                    setting.requests = family.requests;
                    setting.capacities = {leases};
                    if (family.narrow_models && leases > 1) {
                        setting.capacities.push_back(1);
                    }
                    setting.most_operations = family.most_operations;
                    setting.closes = family.closes;
                    setting.fails = family.fails;
                    all.push_back(std::move(setting));
                }
            }
        }
    }
    return all;
}

/// The families of a dose. The small one has the same families with fewer waiters and combinations.
inline std::vector<Family> families(Dose dose) {
    using namespace detail;
    const bool full = dose == Dose::full;
    const auto each_key = [](std::size_t keys, const std::vector<RequestKind>& kinds) {
        std::vector<RequestKind> all;
        for (RequestKind kind : kinds) {
            for (kind.key = 0; kind.key < keys; ++kind.key) {
                all.push_back(kind);
            }
        }
        return all;
    };
    const RequestKind lease = request(0);
    const RequestKind high = with(lease, Priority::high);
    const RequestKind low = with(lease, Priority::low);

    std::vector<Family> all;
    all.push_back({.name = "main",
                   .about = "leases and model calls with a deadline, two priorities, failures, unloads, shutdown",
                   .requests = each_key(2, full ? std::vector{lease, call(timed(lease)), high, call(timed(high))}
                                                : std::vector{lease, call(timed(high))}),
                   .max_queue = full ? 3U : 2U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .keep_alives = full ? std::vector{0ms, 1ms, keep_alive_forever} : std::vector{1ms},
                   .cooldowns = full ? std::vector<bool>{false, true} : std::vector<bool>{true},
                   .most_operations = 1,
                   .closes = true});
    all.push_back({.name = "loads",
                   .about = "ensure_loaded, keep-alives of a request's own, deadlines that end with the wait",
                   .requests = each_key(
                       2, {lease, timed(lease), load_only(lease), load_only(timed(lease)), keeping_alive(lease, 0ms),
                           load_only(keeping_alive(lease, 0ms)), keeping_alive(lease, core::Duration::max())}),
                   .max_queue = full ? 3U : 2U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = full ? std::vector{0ms, 1ms} : std::vector{1ms},
                   .fails = false});
    all.push_back({.name = "generations",
                   .about = "requests that expect a generation, switches, two operations at once",
                   .requests = each_key(2, {lease, expecting(lease), expecting(load_only(lease))}),
                   .max_queue = full ? 3U : 2U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = full ? std::vector{0ms, 1ms, keep_alive_forever} : std::vector{keep_alive_forever},
                   .most_operations = 2,
                   .closes = full});
    all.push_back({.name = "priorities",
                   .about = "three priorities within one key and beside another, age out of reach",
                   .requests = each_key(2, {lease, high, low, load_only(high)}),
                   .max_queue = full ? 4U : 3U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = {keep_alive_forever},
                   .fails = false});
    all.push_back({.name = "ageing",
                   .about = "three priorities, and waiters that have been passed over for too long",
                   .requests = each_key(2, {lease, high, low, timed(low)}),
                   .max_queue = full ? 3U : 2U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .aging = 1ms});
    all.push_back({.name = "no-age",
                   .about = "every second lease and place by arrival",
                   .requests = each_key(3, {high, low}),
                   .keys = 3,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = {keep_alive_forever},
                   .aging = 0ms,
                   .fails = false});
    all.push_back({.name = "calls",
                   .about = "model calls and bare leases, fewer calls than leases",
                   .requests = each_key(2, {lease, call(lease), call(high), call(timed(lease))}),
                   .max_queue = full ? 3U : 2U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .leases = full ? std::vector<std::size_t>{2, 3} : std::vector<std::size_t>{2},
                   .keep_alives = {keep_alive_forever},
                   .aging = full ? 1ms : keep_alive_forever,
                   .fails = false,
                   .max_calls = 1});
    all.push_back(
        {.name = "abandoned",
         .about =
             "loads that are queued, that their waiters leave, and that stop after a while; claims; one load at a time",
         .requests = each_key(2, {lease, timed(lease), timed(high)}),
         .max_queue = full ? 3U : 2U,
         .residents = {1, 2},
         .leases = {1},
         .cooldowns = full ? std::vector<bool>{false, true} : std::vector<bool>{false},
         .most_operations = full ? 1U : 0U,
         .closes = full,
         .max_loads = 1,
         .abandon_after = 2ms,
         .begins_loads = false});
    all.push_back({.name = "refusals",
                   .about = "a full queue, a cooldown, and the events that sum up refusals",
                   .requests = each_key(2, {lease, low}),
                   .max_queue = full ? 4U : 1U,
                   .residents = {1},
                   .leases = {1},
                   .keep_alives = {keep_alive_forever},
                   .cooldowns = {true},
                   .most_operations = full ? 1U : 0U,
                   .closes = true,
                   .refuses = true,
                   .step = std::chrono::duration_cast<std::chrono::milliseconds>(core::Refusals::period)});
    all.push_back(
        {.name = "unknown-keys",
         .about = "a key that the backend does not know, or does not know any more, with and without a resident",
         .requests = full ? std::vector{lease, unknown(lease), unknown(load_only(lease)), with_key(lease, 1)}
                          : std::vector{lease, unknown(lease), with_key(lease, 1)},
         .max_queue = full ? 3U : 1U,
         .residents = {1},
         .leases = {1},
         .keep_alives = {keep_alive_forever},
         .cooldowns = full ? std::vector<bool>{false, true} : std::vector<bool>{false},
         .most_operations = full ? 1U : 0U,
         .closes = true,
         .refuses = true,
         .step = std::chrono::duration_cast<std::chrono::milliseconds>(core::Refusals::period)});
    all.push_back({.name = "calls-by-priority",
                   .about = "calls of three priorities: one call is left to the higher ones; by age, too",
                   .requests = full ? std::vector{call(high), call(lease), call(low), low}
                                    : std::vector{call(high), call(lease), call(low)},
                   .keys = 1,
                   .max_queue = full ? 3U : 2U,
                   .residents = {1},
                   .leases = full ? std::vector<std::size_t>{2, 3} : std::vector<std::size_t>{2},
                   .keep_alives = {keep_alive_forever},
                   .aging = 1ms,
                   .fails = false});
    all.push_back(
        {.name = "batches",
         .about = "requests that share calls of two texts: deadlines, query and document, bare leases, unloads",
         .requests = full ? std::vector{about(lease, 1), about(timed(lease), 1), about(lease, 2),
                                        about(lease, 1, EmbedAs::query), lease}
                          : std::vector{about(lease, 1), about(timed(lease), 1), about(lease, 1, EmbedAs::query)},
         .keys = 1,
         .max_queue = 3,
         .residents = {1},
         .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
         .keep_alives = {keep_alive_forever},
         .most_operations = full ? 1U : 0U,
         .closes = full,
         .fails = false,
         .batch = {2}});
    all.push_back({.name = "batches-switched",
                   .about = "requests that share calls of two models for one place, or for two",
                   .requests = each_key(2, {about(lease, 1), about(high, 1)}),
                   .max_queue = 3,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = {keep_alive_forever},
                   .fails = false,
                   .batch = {2}});
    all.push_back({.name = "parts",
                   .about = "requests of one to five texts, calls of two: parts beside others, deadlines, two calls",
                   .requests = {about(lease, 1), about(lease, 3), about(timed(lease), 5)},
                   .keys = 1,
                   .max_queue = full ? 3U : 2U,
                   .residents = {1},
                   .leases = {1, 2},
                   .keep_alives = {keep_alive_forever},
                   .most_operations = 1,
                   .closes = full,
                   .fails = false,
                   .narrow_models = true,
                   .batch = {2}});
    all.push_back(
        {.name = "parts-switched",
         .about = "requests of two and three texts for two models, one place: switches between parts, age, "
                  "priorities, a generation that is expected",
         .requests = full ? std::vector{about(lease, 3), about(low, 3), about(expecting(lease), 3),
                                        with_key(about(lease, 1), 1), with_key(about(high, 2), 1)}
                          : std::vector{about(low, 3), about(expecting(lease), 3), with_key(about(high, 2), 1)},
         .max_queue = full ? 3U : 2U,
         .residents = {1},
         .leases = {2},
         .keep_alives = {keep_alive_forever},
         .aging = 1ms,
         .fails = false,
         .batch = {2}});
    all.push_back({.name = "batches-aged",
                   .about = "requests that share calls, every second one by age; bytes that may wait; narrow models",
                   .requests = {about(lease, 1), about(low, 1), about(high, 2)},
                   .keys = 1,
                   .max_queue = full ? 4U : 3U,
                   .residents = {1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .aging = 1ms,
                   .fails = false,
                   .narrow_models = true,
                   .batch = {3, 2},
                   .max_queue_bytes = 4});
    all.push_back({.name = "narrow",
                   .about = "models that take fewer leases at once than the slot gives",
                   .requests = each_key(2, {lease, call(timed(lease)), load_only(lease)}),
                   .max_queue = full ? 3U : 2U,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .leases = {2},
                   .fails = false,
                   .narrow_models = true});
    all.push_back({.name = "many-keys",
                   .about = "four keys that want the places of two: several drains at once, returns",
                   .requests = each_key(4, full ? std::vector{lease, high} : std::vector{lease}),
                   .keys = 4,
                   .max_queue = full ? 4U : 3U,
                   .residents = {2},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .keep_alives = {keep_alive_forever},
                   .most_operations = 1,
                   .fails = false});
    all.push_back({.name = "stays",
                   .about = "a resident that keeps its place for as long as its load took, two priorities",
                   .requests = each_key(2, {lease, low}),
                   .max_queue = full ? 3U : 2U,
                   .residents = {1},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = full ? std::vector{1ms, keep_alive_forever} : std::vector{keep_alive_forever},
                   .aging = 2ms,
                   .fails = false,
                   .min_stay = std::nullopt});
    all.push_back({.name = "min-stay",
                   .about = "residents that keep their places for a time of the slot's, three priorities, unloads",
                   .requests = each_key(2, full ? std::vector{lease, high, low} : std::vector{high, low}),
                   .max_queue = 2,
                   .residents = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{2},
                   .leases = {1},
                   .keep_alives = {keep_alive_forever},
                   .aging = 2ms,
                   .most_operations = full ? 1U : 0U,
                   .closes = full,
                   .fails = false,
                   .min_stay = 1ms});
    all.push_back({.name = "stays-many-keys",
                   .about = "three keys that want the places of two residents that stay, one load at a time",
                   .requests = each_key(3, {lease}),
                   .keys = 3,
                   .max_queue = 2,
                   .residents = {2},
                   .leases = full ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{1},
                   .keep_alives = {keep_alive_forever},
                   .aging = 2ms,
                   .fails = false,
                   .max_loads = 1,
                   .min_stay = 2ms});
    return all;
}

}  // namespace residency::test
