// Lets two slots and the ledger of their memory budget live together at random: requests of all kinds come and go,
// loads end or fail or run out of memory, leases end, time passes, limits change. After each step it is looked at
// whether what is held stays within the limit, and at the end of each walk whether every request was served or failed,
// and nothing stays reserved.

#include "support/memory_world.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace residency;
using namespace residency::test;
using namespace std::chrono_literals;

constexpr std::array<const char*, 3> names{"a", "b", "c"};

std::size_t size_of(std::size_t slot, const std::string& name) {
    return 1 + (static_cast<std::size_t>(name.front() - 'a') + slot) % 3;
}

class Walk {
public:
    explicit Walk(std::uint64_t seed) : random_(seed), world_(3 + seed % 3) {
        for (std::size_t slot = 0; slot < 2; ++slot) {
            SlotOptions options;
            options.max_resident = seed / 3 % 3;
            options.max_leases = 2 + seed / 9 % 2;
            options.max_calls = 1 + seed / 18 % 2;
            options.max_loads = 1 + seed / 36 % 2;
            options.max_queue = 4;
            options.keep_alive = 5s;
            options.aging = 3s;
            options.abandon_after = 2s;
            options.cooldown = 1s;
            if (seed / 72 % 2 == 0) {
                options.min_stay = 0ms;
            }
            options.model_memory = 2;
            world_.add(options, seed / 144 % 2 == 0);
        }
    }

    void run() {
        for (int step = 0; step < 120; ++step) {
            happen();
            look();
        }
        finish();
    }

private:
    std::size_t pick(std::size_t count) { return random_() % count; }

    void happen() {
        const std::size_t slot = pick(2);
        MemorySlot& of = world_.slots[slot];
        switch (pick(16)) {
            case 0:
            case 1:
            case 2:
            case 3: {
                const auto keep_alive = pick(8) == 0 ? (core::Duration::max)() : core::Duration(-1);
                const auto timeout = pick(3) == 0 ? core::Duration(2s) : core::Duration(-1);
                world_.request(slot, names[pick(names.size())], pick(4) != 0, static_cast<Priority>(pick(3)),
                               keep_alive, timeout);
                break;
            }
            case 4:
            case 5: size_one(slot); break;
            case 6:
            case 7: load_one(slot); break;
            case 8:
            case 9:
                if (!of.grants.empty()) {
                    world_.release(slot);
                }
                break;
            case 10:
            case 11:
                if (!of.unloads.empty()) {
                    world_.unload(slot);
                }
                break;
            case 12: world_.wait(std::chrono::milliseconds(pick(2000))); break;
            case 13: cancel_one(slot); break;
            case 14:
                if (pick(4) == 0) {
                    world_.set_limit(1 + pick(6));
                    was_lowered_ = true;
                } else if (pick(4) == 0) {
                    world_.trim(pick(4));
                }
                break;
            default:
                if (pick(6) == 0) {
                    world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                        scheduler.unload(nullptr, UnloadMode::drain, world_.now, actions);
                    });
                }
                break;
        }
    }

    void size_one(std::size_t slot) {
        MemorySlot& of = world_.slots[slot];
        if (of.sizes.empty()) {
            return;
        }
        if (pick(8) == 0) {
            const core::Index key = of.sizes.front();
            of.sizes.erase(of.sizes.begin());
            world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                scheduler.size_failed(key, errc::load_failed, nullptr, world_.now, actions);
            });
        } else {
            world_.size(slot, size_of(slot, of.scheduler.key_of_entry(of.sizes.front())->name));
        }
    }

    void load_one(std::size_t slot) {
        MemorySlot& of = world_.slots[slot];
        if (of.loads.empty()) {
            return;
        }
        const std::size_t fate = pick(8);
        if (fate < 5) {
            const std::size_t bytes = world_.ledger.bytes_of(of.scheduler.residents()[of.loads.front().index].memory);
            world_.load(slot, fate == 0 ? std::max<std::size_t>(1, bytes - 1) : 0);
            return;
        }
        const core::ResidentId id = of.loads.front();
        of.loads.erase(of.loads.begin());
        bool begins = false;
        world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
            begins = scheduler.load_begins(id, world_.now, actions);
        });
        if (begins) {
            world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                scheduler.load_failed(id, errc::load_failed, nullptr, world_.now, actions, fate == 7);
            });
        }
    }

    void cancel_one(std::size_t slot) {
        const auto& requests = world_.slots[slot].scheduler.queue().requests();
        for (core::Index index = 0; index < requests.end_index(); ++index) {
            if (requests.used(index) && requests[index].state == core::RequestState::waiting && pick(2) == 0) {
                const core::RequestId id = requests.handle(index);
                world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                    scheduler.cancel(id, world_.now, actions);
                });
                return;
            }
        }
    }

    void look() const {
        std::size_t held = 0;
        for (const MemorySlot& slot : world_.slots) {
            const auto& residents = slot.scheduler.residents();
            for (core::Index index = 0; index < residents.end_index(); ++index) {
                if (residents.used(index)) {
                    const bool will_not_load =
                        residents[index].state == ResidentState::queued && residents[index].discard;
                    demand(world_.ledger.is_reserved(residents[index].memory) != will_not_load,
                           "a resident without memory, or a load with some that will not begin");
                    held += world_.ledger.bytes_of(residents[index].memory);
                }
            }
        }
        demand(was_lowered_ || world_.ledger.reserved() <= world_.ledger.limit(),
               "R13: more is reserved than the limit");
        demand(held <= world_.ledger.reserved(), "residents hold more than is reserved");
    }

    // Nothing new comes: leases end, loads succeed, time passes.
    void finish() {
        for (int round = 0; round < 400; ++round) {
            bool is_busy = false;
            for (std::size_t slot = 0; slot < 2; ++slot) {
                MemorySlot& of = world_.slots[slot];
                if (!of.sizes.empty()) {
                    world_.size(slot, size_of(slot, of.scheduler.key_of_entry(of.sizes.front())->name));
                    is_busy = true;
                }
                if (!of.loads.empty()) {
                    world_.load(slot);
                    is_busy = true;
                }
                if (!of.unloads.empty()) {
                    world_.unload(slot);
                    is_busy = true;
                }
                if (!of.grants.empty()) {
                    world_.release(slot);
                    is_busy = true;
                }
                look();
            }
            if (!is_busy) {
                const bool is_done = world_.ledger.waiting() == 0 && world_.slots[0].scheduler.queue().empty() &&
                                     world_.slots[1].scheduler.queue().empty();
                if (is_done) {
                    break;
                }
                demand(next_alarm() != core::never, "requests wait, and nothing will happen any more");
                world_.wait(std::max(core::Duration::zero(), next_alarm() - world_.now));
            }
        }
        demand(world_.slots[0].scheduler.queue().empty() && world_.slots[1].scheduler.queue().empty(),
               "requests wait for ever");
        for (std::size_t slot = 0; slot < 2; ++slot) {
            world_.decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                scheduler.close(world_.now, actions);
            });
        }
        world_.work();
        demand(world_.ledger.reserved() == 0, "memory stays reserved for nothing");
        demand(world_.ledger.waiting() == 0, "something waits for memory for nothing");
    }

    [[nodiscard]] core::Time next_alarm() const {
        return std::min(world_.slots[0].scheduler.next_alarm(), world_.slots[1].scheduler.next_alarm());
    }

    static void demand(bool holds, const char* what) {
        if (!holds) {
            throw std::logic_error(what);
        }
    }

    std::mt19937_64 random_;
    MemoryWorld world_;
    bool was_lowered_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    constexpr const char* usage = "Usage: memory_walk [FIRST_SEED COUNT]\n";
    if (argc != 1 && argc != 3) {
        std::cerr << usage;
        return 2;
    }
    const std::uint64_t first = argc == 3 ? std::strtoull(argv[1], nullptr, 10) : 0;
    const std::uint64_t count = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 20'000;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        try {
            Walk(seed).run();
        } catch (const std::exception& error) {
            std::cerr << "seed " << seed << ": " << error.what() << '\n';
            return 1;
        }
    }
    std::cout << count << " walks, every promise held\n";
    return 0;
}
