#pragma once

// What can happen to a slot, as small values: listed for a state, carried out, printed.

#include "support/scheduler_invariants.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace residency::test {

/// The kinds of things that can happen.
enum class Happening : std::uint8_t {
    request,
    release,
    cancel,
    load_begins,
    loaded,
    load_failed,
    unloaded,
    wait,
    tick,
    unload,
    forget,
    close,
    shut_down,
};

inline constexpr std::array<std::string_view, 13> happening_names{
    "request", "release", "cancel", "load_begins", "loaded", "load_failed", "unloaded",
    "wait",    "tick",    "unload", "forget",      "close",  "shut_down"};

/// One thing that happens: to which of those there are, and how.
struct SchedulerEvent {
    Happening what = Happening::wait;
    std::uint8_t subject = 0;
    std::uint8_t how = 0;

    friend bool operator==(const SchedulerEvent&, const SchedulerEvent&) = default;
};

/// A request that may be made.
struct RequestKind {
    std::size_t key = 0;
    core::RequestSpec spec{};
    /// How long it may take, if not for ever.
    std::optional<core::Duration> timeout{};
    /// Whether it expects the key's resident: the one there is, or none.
    bool expects = false;

    friend bool operator==(const RequestKind&, const RequestKind&) = default;
};

/// The bounds of a world: what its users may do.
struct Setting {
    std::string name{};
    SlotOptions options{};
    std::vector<ModelKey> keys{};
    std::vector<RequestKind> requests{};
    /// How many leases a loaded model may take at once.
    std::vector<std::size_t> capacities{1};
    /// How much one call of a loaded model does best with; with one text, requests do not share calls.
    BatchLimits batch{};
    /// How many unloads may be under way at once.
    std::size_t most_operations = 0;
    /// How long `wait` waits.
    core::Duration step = std::chrono::milliseconds(1);
    /// After how long a shutdown completes in any case.
    core::Duration patience = std::chrono::milliseconds(1);
    bool closes = false;
    bool fails = true;
    /// Whether loads begin as soon as they may; if not, that is an event of its own.
    bool begins_loads = true;
    /// Whether requests come that are refused because the key is unknown or cools down, or the queue is full. Each
    /// makes two states of many: for a second the next refusal makes no event.
    bool refuses = false;

    /// Whether every key is asked for in the same ways.
    [[nodiscard]] bool is_symmetric() const {
        for (const RequestKind& kind : requests) {
            for (std::size_t key = 0; key < keys.size(); ++key) {
                RequestKind other = kind;
                other.key = key;
                if (std::find(requests.begin(), requests.end(), other) == requests.end()) {
                    return false;
                }
            }
        }
        return true;
    }
};

/// Calls `visit` with each event that may happen in `world`.
template <class Visit>
void for_each_event(const CheckedScheduler& world, const Setting& setting, Visit visit) {
    const auto number = [](std::size_t value) { return static_cast<std::uint8_t>(value); };
    for (std::size_t kind = 0; kind < setting.requests.size(); ++kind) {
        const RequestKind& request = setting.requests[kind];
        if (!setting.refuses && world.refuses(request.key, request.spec)) {
            continue;
        }
        visit(SchedulerEvent{Happening::request, number(kind), 0});
    }
    for (std::size_t index = 0; index < world.leases().size(); ++index) {
        // Leases that cannot be distinguished end alike.
        const KnownLease& lease = world.leases()[index];
        if (std::any_of(world.leases().begin(), world.leases().begin() + static_cast<std::ptrdiff_t>(index),
                        [&](const KnownLease& other) {
                            return other.grant == lease.grant && other.sharers == lease.sharers;
                        })) {
            continue;
        }
        visit(SchedulerEvent{Happening::release, number(index), 0});
        if (lease.sharers.empty() && world.waiters().empty()) {
            // What may be quiet may also not be.
            visit(SchedulerEvent{Happening::release, number(index), 1});
        }
    }
    for (std::size_t index = 0; index < world.waiters().size(); ++index) {
        if (!world.waiters()[index].claims) {
            visit(SchedulerEvent{Happening::cancel, number(index), 0});
        }
    }
    for (std::size_t index = 0; index < world.residents().size(); ++index) {
        const KnownResident& resident = world.residents()[index];
        if (resident.state == ResidentState::queued) {
            visit(SchedulerEvent{Happening::load_begins, number(index), 0});
        }
        if (resident.state == ResidentState::loading) {
            for (std::size_t how = 0; how < setting.capacities.size(); ++how) {
                visit(SchedulerEvent{Happening::loaded, number(index), number(how)});
            }
            if (setting.fails || resident.stopped) {
                visit(SchedulerEvent{Happening::load_failed, number(index), 1});
                if (!resident.stopped) {
                    visit(SchedulerEvent{Happening::load_failed, number(index), 0});
                }
            }
        }
        if (resident.state == ResidentState::unloading) {
            visit(SchedulerEvent{Happening::unloaded, number(index), 0});
        }
    }
    visit(SchedulerEvent{Happening::wait, 0, 0});
    visit(SchedulerEvent{Happening::tick, 0, 0});
    if (setting.most_operations != 0 && world.teardowns().size() < setting.most_operations) {
        // One past the last key means all of them.
        for (std::size_t key = 0; key <= setting.keys.size(); ++key) {
            visit(SchedulerEvent{Happening::unload, number(key), 0});
            visit(SchedulerEvent{Happening::unload, number(key), 1});
        }
    }
    for (std::size_t index = 0; index < world.teardowns().size(); ++index) {
        visit(SchedulerEvent{Happening::forget, number(index), 0});
    }
    if (setting.closes) {
        visit(SchedulerEvent{Happening::close, 0, 0});
        if (world.teardowns().size() < setting.most_operations) {
            visit(SchedulerEvent{Happening::shut_down, 0, 0});
        }
    }
}

/// Lets `event` happen in `world`.
inline void carry_out(CheckedScheduler& world, const Setting& setting, const SchedulerEvent& event) {
    switch (event.what) {
        case Happening::request: {
            const RequestKind& kind = setting.requests[event.subject];
            core::RequestSpec spec = kind.spec;
            spec.deadline = kind.timeout ? core::later(world.now(), *kind.timeout) : core::never;
            if (kind.expects) {
                // None, if there is no resident.
                spec.expects = true;
                spec.expected = world.generation_of(kind.key);
            }
            world.request(kind.key, spec);
            return;
        }
        case Happening::release: return world.release(event.subject, event.how == 0);
        case Happening::cancel: return world.cancel(event.subject);
        case Happening::load_begins: return world.load_begins(event.subject);
        case Happening::loaded:
            return world.loaded(event.subject, {setting.capacities[event.how], setting.batch, setting.batch.texts > 1});
        case Happening::load_failed: return world.load_failed(event.subject, event.how != 0);
        case Happening::unloaded: return world.unloaded(event.subject);
        case Happening::wait: return world.wait(setting.step);
        case Happening::tick: return world.tick();
        case Happening::unload:
            world.unload(event.subject, event.how == 0 ? UnloadMode::drain : UnloadMode::revoke);
            return;
        case Happening::forget: return world.forget(event.subject);
        case Happening::close: return world.close();
        case Happening::shut_down: return world.shut_down(core::later(world.now(), setting.patience));
    }
}

/// Prints what `event` would do in `world`, for a person.
inline void print(std::ostream& out, const CheckedScheduler& world, const Setting& setting,
                  const SchedulerEvent& event) {
    out << happening_names[static_cast<std::size_t>(event.what)];
    const auto milliseconds = [](core::Duration length) {
        return std::chrono::duration_cast<std::chrono::milliseconds>(length).count();
    };
    switch (event.what) {
        case Happening::request: {
            const RequestKind& kind = setting.requests[event.subject];
            out << ' ' << setting.keys[kind.key]
                << (!kind.spec.wants_lease   ? " load"
                    : kind.spec.is_inference ? " call"
                                             : " lease");
            if (kind.spec.texts != 0) {
                out << " about " << kind.spec.texts << " texts";
            }
            if (kind.spec.priority != Priority::normal) {
                out << (kind.spec.priority == Priority::high ? " high" : " low");
            }
            if (kind.timeout) {
                out << " within " << milliseconds(*kind.timeout) << " ms" << (kind.spec.is_inference ? " in all" : "");
            }
            if (kind.spec.overrides_keep_alive) {
                out << " keep-alive " << milliseconds(kind.spec.keep_alive) << " ms";
            }
            out << (kind.expects ? " of this generation" : "");
            return;
        }
        case Happening::release: out << " a lease on " << setting.keys[world.leases()[event.subject].key]; return;
        case Happening::cancel: out << " waiter " << static_cast<int>(event.subject); return;
        case Happening::loaded:
            out << ' ' << setting.keys[world.residents()[event.subject].key] << " for " << setting.capacities[event.how]
                << " at once";
            return;
        case Happening::load_begins:
        case Happening::load_failed:
        case Happening::unloaded: out << ' ' << setting.keys[world.residents()[event.subject].key]; return;
        case Happening::wait: out << ' ' << milliseconds(setting.step) << " ms"; return;
        case Happening::unload:
            out << ' ' << (event.subject < setting.keys.size() ? to_string(setting.keys[event.subject]) : "all")
                << (event.how == 0 ? " drain" : " revoke");
            return;
        case Happening::forget: out << " operation " << static_cast<int>(event.subject); return;
        case Happening::tick:
        case Happening::close:
        case Happening::shut_down: return;
    }
}

}  // namespace residency::test
