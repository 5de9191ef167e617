#pragma once

// Slots that share a memory budget, without threads: each message is delivered at once, in order. The test says when a
// backend answers and when a lease ends.

#include "residency/core/memory_ledger.hpp"
#include "residency/core/slot_scheduler.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace residency::test {

/// What a request wanted.
struct RequestFacts {
    bool wants_lease = true;
    bool is_inference = true;
    Priority priority = Priority::normal;
};

/// One of them: a scheduler, and what its shell would do.
struct MemorySlot {
    core::SlotScheduler scheduler;
    /// Keys whose size the backend is asked for; residents that are to be loaded, that load, and that unload.
    std::vector<core::Index> sizes{};
    std::vector<core::ResidentId> loads{};
    std::vector<core::ResidentId> unloads{};
    /// Leases by the request's index when it joined, and what failed.
    std::vector<core::Grant> grants{};
    std::vector<std::pair<errc, Stage>> failures{};
    /// What waits, by its index.
    std::map<core::Index, RequestFacts> requests{};
    /// Whether it has asked how much memory there could be.
    bool asks = false;
};

struct MemoryWorld {
    explicit MemoryWorld(std::size_t limit) : ledger(limit) {}

    core::MemoryLedger ledger;
    std::vector<MemorySlot> slots{};
    core::Time now{0};

    void add(const SlotOptions& options, bool backend_sizes = false) {
        MemorySlot slot{core::SlotScheduler(options, ledger.limit(), backend_sizes)};
        slots.push_back(std::move(slot));
    }

    /// Lets slot number `slot` decide something, and everything that follows happen.
    template <class Decide>
    void decide(std::size_t slot, const Decide& decide) {
        core::Actions actions;
        decide(slots[slot].scheduler, actions);
        carry_out(slot, actions);
        settle();
    }

    /// A request for a lease, or for a model call; false if it was refused.
    bool request(std::size_t slot, const char* name, bool is_inference = true, Priority priority = Priority::normal,
                 core::Duration keep_alive = core::Duration(-1), core::Duration timeout = core::Duration(-1)) {
        core::RequestSpec spec;
        spec.is_inference = is_inference;
        spec.texts = is_inference ? 1 : 0;
        spec.priority = priority;
        spec.overrides_keep_alive = keep_alive >= core::Duration::zero();
        spec.keep_alive = keep_alive;
        spec.since = now;
        if (timeout >= core::Duration::zero()) {
            spec.deadline = core::later(now, timeout);
        }
        core::Grant grant;
        MemorySlot& of = slots[slot];
        const ModelKey key{std::string(name)};
        if (of.scheduler.try_grant(key, spec, grant) == core::Attempt::granted) {
            of.grants.push_back(grant);
            return true;
        }
        bool waits = false;
        decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
            const core::Enqueued result = scheduler.enqueue(key, spec, now, actions);
            waits = result.request.valid();
            if (waits) {
                of.requests[result.request.index] = {true, is_inference, priority};
            }
            if (!waits) {
                of.failures.emplace_back(result.code, result.stage);
            }
        });
        return waits;
    }
    /// The backend answers how much a key needs.
    void size(std::size_t slot, std::size_t bytes) {
        const core::Index key = take_first(slots[slot].sizes);
        decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
            scheduler.sized(key, bytes, now, actions);
        });
    }
    /// The first load that waits runs, and gives a model of so many bytes; zero: that says nothing.
    void load(std::size_t slot, std::size_t bytes = 0) {
        const core::ResidentId id = take_first(slots[slot].loads);
        bool begins = false;
        decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
            begins = scheduler.load_begins(id, now, actions);
        });
        if (begins) {
            decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                core::ModelLimits limits;
                limits.capacity = 4;
                limits.memory = bytes;
                scheduler.loaded(id, limits, now, actions);
            });
        }
    }
    /// The first model that is being destroyed is.
    void unload(std::size_t slot) {
        const core::ResidentId id = take_first(slots[slot].unloads);
        decide(slot,
               [&](core::SlotScheduler& scheduler, core::Actions& actions) { scheduler.unloaded(id, now, actions); });
    }
    /// The first lease ends.
    void release(std::size_t slot) {
        const core::Grant grant = take_first(slots[slot].grants);
        if (!slots[slot].scheduler.release_quietly(grant, now)) {
            decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) {
                scheduler.release(grant, now, actions);
            });
        }
    }
    /// Time passes, and what is due is looked at.
    void wait(core::Duration length) {
        now += length;
        for (std::size_t slot = 0; slot < slots.size(); ++slot) {
            decide(slot, [&](core::SlotScheduler& scheduler, core::Actions& actions) { scheduler.tick(now, actions); });
        }
    }
    /// Everything that can end ends, but leases, until nothing is left to do.
    void work() {
        for (bool again = true; again;) {
            again = false;
            for (std::size_t slot = 0; slot < slots.size(); ++slot) {
                if (!slots[slot].loads.empty()) {
                    load(slot);
                    again = true;
                } else if (!slots[slot].unloads.empty()) {
                    unload(slot);
                    again = true;
                }
            }
        }
    }

    /// The resident of a key, or null.
    const core::Resident* resident(std::size_t slot, const char* name) const {
        const core::SlotScheduler& scheduler = slots[slot].scheduler;
        for (core::Index index = 0; index < scheduler.residents().end_index(); ++index) {
            if (scheduler.residents().used(index) && scheduler.key_of(index)->name == name) {
                return &scheduler.residents()[index];
            }
        }
        return nullptr;
    }
    /// Whether a key's model can be used.
    bool is_ready(std::size_t slot, const char* name) const {
        const core::Resident* const found = resident(slot, name);
        return found != nullptr && found->state == ResidentState::ready;
    }

    /// The host sets another limit.
    void set_limit(std::size_t bytes) {
        ledger.set_limit(bytes);
        for (std::size_t slot = 0; slot < slots.size(); ++slot) {
            core::Actions actions;
            slots[slot].scheduler.set_memory_limit(bytes, now, actions);
            carry_out(slot, actions);
        }
        is_stale_ = true;
        settle();
    }
    /// The host wants memory back.
    void trim(std::size_t bytes) {
        ledger.trim(bytes);
        is_stale_ = true;
        settle();
    }
    /// What the budget does with what it has heard.
    void settle() {
        while (std::exchange(is_stale_, false)) {
            std::vector<core::MemoryUse> uses;
            const bool is_asked =
                std::any_of(slots.begin(), slots.end(), [](const MemorySlot& slot) { return slot.asks; });
            if (ledger.lacks() || is_asked) {
                for (MemorySlot& slot : slots) {
                    slot.scheduler.memory_uses(now, uses);
                }
            }
            core::MemoryAnswers answers;
            ledger.settle(now, uses, answers);
            check_order(uses, answers);
            for (MemorySlot& slot : slots) {
                slot.scheduler.watch_memory(ledger.lacks());
            }
            if (const core::Index asks = ledger.looks_for(); asks != core::none) {
                slots[asks].scheduler.look_at(ledger.next_look());
            }
            for (const core::MemoryAnswer& answer : answers) {
                core::Actions actions;
                slots[answer.owner.slot].scheduler.memory_answered(answer.owner.key, answer.id, answer.verdict, now,
                                                                   actions);
                carry_out(answer.owner.slot, actions);
            }
            for (std::size_t slot = 0; is_asked && slot < slots.size(); ++slot) {
                if (std::exchange(slots[slot].asks, false)) {
                    core::Actions actions;
                    const std::size_t available = ledger.available(static_cast<core::Index>(slot), uses);
                    slots[slot].scheduler.memory_available(available, now, actions);
                    carry_out(slot, actions);
                }
            }
        }
    }

private:
    // H36: of those that are idle the longest idle go first, but what keeps its place for its stay.
    void check_order(const std::vector<core::MemoryUse>& uses, const core::MemoryAnswers& answers) const {
        const auto goes = [&](const core::MemoryUse& use) {
            return std::any_of(answers.begin(), answers.end(), [&](const core::MemoryAnswer& answer) {
                return answer.verdict == core::MemoryVerdict::evict && answer.id == use.id;
            });
        };
        for (const core::MemoryUse& one : uses) {
            for (const core::MemoryUse& other : uses) {
                const bool are_idle = one.hold == core::MemoryHold::idle && other.hold == core::MemoryHold::idle;
                if (are_idle && other.idle_since < one.idle_since && other.keeps_until <= now && goes(one) &&
                    !goes(other)) {
                    throw std::logic_error("H36: one that has been idle for longer stays");
                }
            }
        }
    }

    template <class Item>
    static Item take_first(std::vector<Item>& items) {
        const Item item = items.at(0);
        items.erase(items.begin());
        return item;
    }

    void carry_out(std::size_t number, const core::Actions& actions) {
        MemorySlot& slot = slots[number];
        const auto& residents = slot.scheduler.residents();
        for (const core::Action& action : actions) {
            switch (action.type) {
                case core::ActionType::size: slot.sizes.push_back(action.key); break;
                case core::ActionType::load: slot.loads.push_back(residents.handle(action.resident)); break;
                case core::ActionType::unload: slot.unloads.push_back(residents.handle(action.resident)); break;
                case core::ActionType::grant: {
                    core::Grant grant;
                    grant.resident = residents.handle(action.resident);
                    const RequestFacts& request = slot.requests[action.subject];
                    if (!request.wants_lease) {
                        break;
                    }
                    grant.is_inference = request.is_inference;
                    grant.texts = grant.is_inference ? 1 : 0;
                    grant.priority = request.priority;
                    if (action.kept) {
                        grant.request = slot.scheduler.queue().requests().handle(action.subject);
                    }
                    slot.grants.push_back(grant);
                    break;
                }
                case core::ActionType::fail: slot.failures.emplace_back(action.code, action.stage); break;
                default: break;
            }
        }
        for (const core::MemoryRequest& request : std::exchange(slot.scheduler.memory_requests(), {})) {
            switch (request.type) {
                case core::MemoryRequest::Type::reserve:
                    ledger.reserve({static_cast<core::Index>(number), request.key}, request.bytes, request.rank,
                                   request.aged_at, request.clears);
                    break;
                case core::MemoryRequest::Type::move: ledger.move(request.id, request.rank, request.aged_at); break;
                case core::MemoryRequest::Type::use: ledger.use(request.id, request.bytes); break;
                case core::MemoryRequest::Type::give_back: ledger.give_back(request.id); break;
                case core::MemoryRequest::Type::available: slot.asks = true; break;
                case core::MemoryRequest::Type::look: break;
            }
            is_stale_ = true;
        }
    }

    bool is_stale_ = false;
};

}  // namespace residency::test
