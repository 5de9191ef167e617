#pragma once

// Bytes that say what happens to a slot: the first ones say how it is set up, each of the others what happens next.
// Every string of bytes is a history, and every history of such a slot is some string of bytes.

#include "fuzz/history_bytes.hpp"
#include "support/scheduler_invariants.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

namespace residency::test {

/// Lets the bytes happen. Throws Violation if a promise is broken; writes each step to `trace`, if that is not null.
class SchedulerHistory : private HistoryBytes {
public:
    SchedulerHistory(const std::uint8_t* bytes, std::size_t size, std::ostream* trace)
        : HistoryBytes(bytes, size, trace),
          options_(read_options()),
          keys_(read_keys(6)),
          world_(options_, keys_, byte() % 2 != 0) {}

    void run() {
        while (!at_end()) {
            step();
        }
        finish();
    }

private:
    using milliseconds = std::chrono::milliseconds;

    SlotOptions read_options() {
        SlotOptions options;
        options.max_resident = 1 + below(4);
        options.max_leases = 1 + below(5);
        options.max_queue = 1 + below(9);
        options.keep_alive =
            one_of(std::array{milliseconds(2), milliseconds(0), milliseconds(1), milliseconds(5), keep_alive_forever});
        options.cooldown =
            one_of(std::array{milliseconds(1), milliseconds(0), milliseconds(3), keep_alive_forever / 2});
        options.max_cooldown =
            std::max(options.cooldown, one_of(std::array{milliseconds(4), milliseconds(1), keep_alive_forever}));
        options.max_calls = below(4);
        options.max_loads = 1 + below(3);
        options.abandon_after =
            one_of(std::array{milliseconds(2), milliseconds(0), milliseconds(5), keep_alive_forever});
        options.aging = one_of(std::array{milliseconds(3), milliseconds(0), milliseconds(1), keep_alive_forever});
        options.max_queue_bytes = one_of(std::array<std::size_t, 3>{100, 3, 8});
        options.min_stay = one_of(std::array{std::optional<milliseconds>(), std::optional(milliseconds(0)),
                                             std::optional(milliseconds(1)), std::optional(milliseconds(10))});
        return options;
    }

    void step() {
        const std::uint8_t what = byte();
        switch (what % 16) {
            case 0:
            case 1:
            case 2:
            case 3: request(); break;
            case 4:
            case 5:
                if (!world_.leases().empty()) {
                    const std::size_t lease = below(world_.leases().size());
                    write("release lease ", lease);
                    world_.release(lease, what < 128);
                }
                break;
            case 6:
                if (!world_.waiters().empty()) {
                    const std::size_t waiter = below(world_.waiters().size());
                    if (!world_.waiters()[waiter].claims) {
                        write("cancel waiter ", waiter);
                        world_.cancel(waiter);
                    }
                }
                break;
            case 7:
            case 8:
                if (const std::size_t queued = pick(ResidentState::queued); queued != no_resident) {
                    write("load_begins ", name(queued));
                    world_.load_begins(queued);
                } else if (const std::size_t resident = pick(ResidentState::loading); resident != no_resident) {
                    const std::size_t capacity = below(6);
                    write("loaded ", name(resident), " for ", capacity, " at once");
                    const BatchLimits batch{1 + below(5), 1 + below(8)};
                    world_.loaded(resident, {capacity, batch, what < 128});
                }
                break;
            case 9:
                if (const std::size_t resident = pick(ResidentState::loading); resident != no_resident) {
                    write("load_failed ", name(resident));
                    world_.load_failed(resident, what < 128);
                }
                break;
            case 10:
                if (const std::size_t resident = pick(ResidentState::unloading); resident != no_resident) {
                    write("unloaded ", name(resident));
                    world_.unloaded(resident);
                }
                break;
            case 11: {
                const auto length =
                    one_of(std::array{milliseconds(1), milliseconds(2), milliseconds(7), milliseconds(1'000'000)});
                write("wait ", length.count(), " ms");
                world_.wait(length);
                break;
            }
            case 12:
                write("tick");
                world_.tick();
                break;
            case 13: {
                // One past the last means all of them.
                const std::size_t key = below(keys_.size() + 1);
                write("unload ", key < keys_.size() ? keys_[key].name : "all", what < 128 ? " drain" : " revoke");
                world_.unload(key, what < 128 ? UnloadMode::drain : UnloadMode::revoke);
                break;
            }
            case 14:
                if (!world_.teardowns().empty()) {
                    const std::size_t operation = below(world_.teardowns().size());
                    write("forget operation ", operation);
                    world_.forget(operation);
                }
                break;
            default: close(what); break;
        }
        write(world_);
    }

    void request() {
        const std::uint8_t how = byte();
        const std::size_t key = below(keys_.size());
        core::RequestSpec spec;
        spec.wants_lease = how % 4 != 0;
        spec.is_inference = spec.wants_lease && (how & 4U) != 0;
        spec.priority = static_cast<Priority>((how >> 3U) % 3);
        if (spec.is_inference) {
            const std::uint8_t texts = byte();
            spec.texts = 1U + texts % 4U;
            spec.bytes = (texts >> 2U) % 4U;
            spec.as = static_cast<EmbedAs>((texts >> 4U) % 3U);
        }
        if ((how & 32U) != 0) {
            spec.deadline = core::later(
                world_.now(), one_of(std::array{core::Duration(milliseconds(1)), core::Duration(milliseconds(0)),
                                                core::Duration(milliseconds(4)), core::Duration::max()}));
        }
        if ((how & 64U) != 0) {
            spec.overrides_keep_alive = true;
            spec.keep_alive = one_of(std::array{core::Duration::zero(), core::Duration(milliseconds(1)),
                                                core::Duration(milliseconds(9)), core::Duration::max()});
        }
        if ((how & 128U) != 0) {
            spec.expects = true;
            spec.expected = world_.generation_of(key);
        }
        write("request ", keys_[key],
              !spec.wants_lease   ? " load"
              : spec.is_inference ? " call"
                                  : " lease",
              ", priority ", static_cast<int>(spec.priority), spec.deadline == core::never ? "" : ", with a deadline",
              ", ", spec.texts, " texts", spec.overrides_keep_alive ? ", with a keep-alive" : "",
              spec.expects ? ", of a generation" : "");
        world_.request(key, spec);
    }

    void close(std::uint8_t what) {
        // Seldom: what comes after is less interesting.
        if (what < 64) {
            write("close");
            world_.close();
        } else if (what < 128) {
            const core::Duration patience =
                one_of(std::array{core::Duration(milliseconds(2)), core::Duration::zero(), core::Duration::max()});
            write("shut_down");
            world_.shut_down(core::later(world_.now(), patience));
        }
    }

    // If loads finish and leases end, everything comes to an end, also after a shutdown.
    void finish() {
        write("finish");
        for (const bool closed : {false, true}) {
            if (closed) {
                world_.close();
            }
            // Each step takes something away that only a request can bring back.
            for (std::size_t steps = 0; progress(); ++steps) {
                if (steps > 10'000) {
                    throw Violation("if loads finish and leases end, that comes to an end");
                }
            }
            world_.settle();
            world_.check_end();
        }
    }

    bool progress() {
        if (const std::size_t resident = pick(ResidentState::unloading); resident != no_resident) {
            write("unloaded ", name(resident));
            world_.unloaded(resident);
        } else if (const std::size_t queued = pick(ResidentState::queued); queued != no_resident) {
            write("load_begins ", name(queued));
            world_.load_begins(queued);
        } else if (const std::size_t loading = pick(ResidentState::loading); loading != no_resident) {
            write("loaded ", name(loading));
            world_.loaded(loading, {});
        } else if (!world_.leases().empty()) {
            write("release the last lease");
            world_.release(world_.leases().size() - 1);
        } else {
            return false;
        }
        write(world_);
        return true;
    }

    static constexpr std::size_t no_resident = static_cast<std::size_t>(-1);

    // One of the residents in that state, or none.
    std::size_t pick(ResidentState state) {
        std::vector<std::size_t> candidates;
        for (std::size_t index = 0; index < world_.residents().size(); ++index) {
            if (world_.residents()[index].state == state) {
                candidates.push_back(index);
            }
        }
        return candidates.empty() ? no_resident : candidates[below(candidates.size())];
    }

    [[nodiscard]] const ModelKey& name(std::size_t resident) const { return keys_[world_.residents()[resident].key]; }

    SlotOptions options_;
    std::vector<ModelKey> keys_;
    CheckedScheduler world_;
};

}  // namespace residency::test
