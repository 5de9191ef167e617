#pragma once

// Bytes that say what happens to a slot with a memory budget, which answers whatever the bytes say. As in
// scheduler_bytes.hpp the first ones say how it is set up, each of the others what happens next.

#include "fuzz/history_bytes.hpp"
#include "support/memory_invariants.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <vector>

namespace residency::test {

/// Lets the bytes happen. Throws Violation if a promise is broken; writes each step to `trace`, if that is not null.
class MemoryHistory : private HistoryBytes {
public:
    MemoryHistory(const std::uint8_t* bytes, std::size_t size, std::ostream* trace)
        : HistoryBytes(bytes, size, trace),
          options_(read_options()),
          keys_(read_keys(4)),
          sizes_(byte() % 2 == 0),
          world_(options_, below(7), sizes_, keys_) {}

    void run() {
        while (!at_end()) {
            step();
            write(world_);
        }
        finish();
    }

private:
    using milliseconds = std::chrono::milliseconds;

    SlotOptions read_options() {
        SlotOptions options;
        options.max_resident = below(3);
        options.max_leases = 1 + below(3);
        options.max_queue = 2 + below(5);
        options.keep_alive = one_of(std::array{milliseconds(2), milliseconds(0), milliseconds(5), keep_alive_forever});
        options.cooldown = one_of(std::array{milliseconds(0), milliseconds(1)});
        options.max_cooldown = std::max(options.cooldown, milliseconds(4));
        options.max_calls = below(3);
        options.max_loads = 1 + below(2);
        options.abandon_after = one_of(std::array{milliseconds(2), milliseconds(0), keep_alive_forever});
        options.aging = one_of(std::array{milliseconds(3), milliseconds(0), keep_alive_forever});
        options.min_stay = one_of(
            std::array{std::optional<milliseconds>(), std::optional(milliseconds(0)), std::optional(milliseconds(10))});
        options.model_memory = 1 + below(3);
        return options;
    }

    void step() {
        const std::uint8_t what = byte();
        switch (what % 16) {
            case 0:
            case 1:
            case 2: request(); break;
            case 3:
                if (!world_.leases().empty()) {
                    write("release");
                    world_.release(below(world_.leases().size()));
                }
                break;
            case 4:
                if (!world_.waiters().empty()) {
                    write("cancel");
                    world_.cancel(below(world_.waiters().size()));
                }
                break;
            case 5:
                if (!world_.sizing().empty()) {
                    const std::size_t bytes = below(6);
                    write("sized: ", bytes);
                    world_.sized(below(world_.sizing().size()), bytes);
                }
                break;
            case 6:
            case 7: load(what); break;
            case 8:
                if (!world_.unloading().empty()) {
                    write("unloaded");
                    world_.unloaded(below(world_.unloading().size()));
                }
                break;
            case 9: {
                const auto length = one_of(std::array{milliseconds(1), milliseconds(0), milliseconds(7)});
                write("wait ", length.count(), " ms, and tick");
                world_.wait(length);
                world_.tick();
                break;
            }
            case 10:
            case 11: answer(HoldingState::asked, what); break;
            case 12: answer(HoldingState::lacking, what); break;
            case 13: answer(HoldingState::reserved, what); break;
            case 14: change(what); break;
            default: seldom(what); break;
        }
    }

    void request() {
        const std::uint8_t how = byte();
        core::RequestSpec spec;
        spec.wants_lease = how % 4 != 0;
        spec.is_inference = spec.wants_lease && (how & 4U) != 0;
        spec.texts = spec.is_inference ? 1 : 0;
        spec.priority = static_cast<Priority>((how >> 3U) % 3);
        if ((how & 32U) != 0) {
            spec.deadline = core::later(
                world_.now(), one_of(std::array{core::Duration(milliseconds(1)), core::Duration(milliseconds(4))}));
        }
        if ((how & 64U) != 0) {
            spec.overrides_keep_alive = true;
            spec.keep_alive = one_of(std::array{core::Duration::zero(), core::Duration::max()});
        }
        const std::size_t key = below(keys_.size());
        write("request ", keys_[key], spec.is_inference ? " call" : spec.wants_lease ? " lease" : " load");
        world_.request(key, spec);
    }

    void load(std::uint8_t what) {
        if (!world_.loads().empty()) {
            write("load begins");
            world_.load_begins(below(world_.loads().size()));
        } else if (!world_.loading().empty()) {
            const std::size_t which = below(world_.loading().size());
            if (what < 192) {
                const std::size_t bytes = below(5);
                write("loaded, says ", bytes);
                world_.loaded(which, 1 + below(3), bytes);
            } else {
                write("load failed", what < 224 ? ", without memory" : "");
                world_.load_failed(which, what < 224);
            }
        }
    }

    // The budget answers about some memory that is in this state.
    void answer(HoldingState state, std::uint8_t what) {
        const std::vector<core::MemoryId> held = world_.held(state);
        if (state == HoldingState::asked && world_.asks_for_available()) {
            const std::size_t bytes = below(7);
            write("available: ", bytes);
            return world_.available(bytes);
        }
        if (held.empty()) {
            return;
        }
        using Verdict = core::MemoryVerdict;
        Verdict verdict = what < 128 ? Verdict::evict : Verdict::keep;
        if (state != HoldingState::reserved) {
            verdict = what >= 208                                        ? Verdict::impossible
                      : state == HoldingState::asked && what % 32U >= 16 ? Verdict::lacking
                                                                         : Verdict::reserved;
        }
        const core::MemoryId id = held[below(held.size())];
        write("the budget says ", static_cast<int>(verdict), " of memory ", id.index);
        world_.answer(id, verdict);
    }

    void change(std::uint8_t what) {
        switch (what / 16U % 4U) {
            case 0: {
                const std::size_t limit = below(7);
                write("the limit is ", limit);
                world_.set_limit(limit);
                break;
            }
            case 1:
                write(what < 128 ? "the budget watches" : "the budget reads");
                world_.watch(what < 128);
                world_.read();
                break;
            case 2: world_.look_at(milliseconds(below(4))); break;
            default:
                if (!world_.stale().empty()) {
                    const std::size_t which = below(world_.stale().size());
                    write("a late answer about memory ", world_.stale()[which].id.index);
                    world_.answer_late(which, what < 128);
                }
                break;
        }
    }

    void seldom(std::uint8_t what) {
        if (what < 192) {
            const std::size_t key = below(keys_.size() + 1);
            write("unload");
            world_.unload(key < keys_.size() ? &keys_[key] : nullptr,
                          what < 96 ? UnloadMode::drain : UnloadMode::revoke);
        } else if (what < 208) {
            write("close");
            world_.close();
        }
    }

    // If loads finish, leases end, and the budget gives what is asked for, everything comes to an end.
    void finish() {
        write("finish");
        std::size_t steps = 0;
        for (const bool closes : {false, true}) {
            if (closes) {
                world_.close();
            }
            while (progress() || wait_for_alarm()) {
                write(world_);
                if (++steps > 10'000) {
                    throw Violation("if loads finish and leases end, that comes to an end");
                }
            }
            if (!world_.waiters().empty()) {
                throw Violation("R9 if loads finish and leases end, every waiter completes");
            }
        }
        world_.check_end();
    }

    bool progress() {
        if (!world_.sizing().empty()) {
            world_.sized(0, 1);
        } else if (world_.asks_for_available()) {
            world_.available(7);
        } else if (const auto asked = world_.held(HoldingState::asked); !asked.empty()) {
            world_.answer(asked.front(), core::MemoryVerdict::reserved);
        } else if (const auto lacking = world_.held(HoldingState::lacking); !lacking.empty()) {
            world_.answer(lacking.front(), core::MemoryVerdict::reserved);
        } else if (!world_.loads().empty()) {
            world_.load_begins(0);
        } else if (!world_.loading().empty()) {
            world_.loaded(0, 1, 0);
        } else if (!world_.unloading().empty()) {
            world_.unloaded(0);
        } else if (!world_.leases().empty()) {
            world_.release(0);
        } else {
            return false;
        }
        return true;
    }
    // What waits may wait for a resident's stay.
    bool wait_for_alarm() {
        const core::Time alarm = world_.scheduler().next_alarm();
        if (world_.waiters().empty() || alarm == core::never) {
            return false;
        }
        world_.wait(std::max(core::Duration::zero(), alarm - world_.now()));
        world_.tick();
        return true;
    }

    SlotOptions options_;
    std::vector<ModelKey> keys_;
    bool sizes_;
    CheckedBudget world_;
};

}  // namespace residency::test
