#pragma once

#include "residency/core/slot_scheduler.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

namespace residency::test {

/// Writes down what of a scheduler decides what it will do. One writer for many states needs no memory of its own for
/// each.
class CanonicalWriter {
public:
    /// From now on writes each key of `keys` under the name in the same place of `names`, so that states that differ in
    /// names alone can be compared. Both outlive the writer; the names are distinct.
    void rename(const std::vector<ModelKey>& keys, const std::vector<ModelKey>& names) {
        renamed_ = &keys;
        names_ = &names;
    }

    /// From now on also writes a number for the leases on each resident, by its index: how many are for a model call,
    /// and who shares it. The scheduler knows only sums, but which of them can be released differs. It outlives the
    /// writer.
    void distinguish_leases(const std::vector<std::uint64_t>& leases) { leases_ = &leases; }

    /// Writes `scheduler` as it is at `now` to the end of `words`: first its options, if `with_options`, then its
    /// state.
    void write(const core::SlotScheduler& scheduler, core::Time now, bool with_options,
               std::vector<std::uint64_t>& words) {
        scheduler_ = &scheduler;
        now_ = now;
        words_ = &words;
        if (with_options) {
            write_options();
        }
        write_state();
    }

private:
    void write_options() {
        const SlotOptions& options = scheduler_->options();
        add(options.keep_alive.count());
        add(options.max_resident);
        add(options.max_leases);
        add(options.max_calls);
        add(options.max_loads);
        add(options.max_queue);
        add(options.max_queue_bytes);
        add(options.max_batch_texts);
        add(options.cooldown.count());
        add(options.max_cooldown.count());
        add(options.aging.count());
        add(options.abandon_after.count());
        add(options.min_stay ? options.min_stay->count() : -1);
        add(options.model_memory);
    }

    void write_state() {
        add(scheduler_->closed());
        add(remaining(scheduler_->next_alarm()));
        add(remaining(scheduler_->alarm().yields_at()));
        add(scheduler_->alarm().noted_timeout().count());
        add(scheduler_->unfinished());
        add(scheduler_->calls());
        const core::ModelCalls& calls = scheduler_->model_calls();
        add(calls.parts().last_is_part);
        add(recent(calls.parts().whole_at));
        // With one call nothing is cut evenly, and no call is left to others.
        if (scheduler_->options().max_leases > 1 && scheduler_->options().max_calls != 1) {
            add(calls.company_until() - (std::min)(calls.company_until(), calls.begun()));
            for (const Priority priority : {Priority::high, Priority::normal}) {
                add(recent(calls.latest(priority)));
                add(calls.running(priority));
            }
        }
        add(scheduler_->lease_by_age());
        add(scheduler_->place_by_age());
        for (const Reason reason : core::Refusals::reasons) {
            add(scheduler_->refusals().count(reason) != 0);
            add(remaining(scheduler_->refusals().next(reason)));
        }
        if (scheduler_->has_budget()) {
            write_budget();
        }
        rank_everything();
        add(keys_.size());
        for (const core::Index key : keys_) {
            write_key(key);
        }
        write_operations();
    }

    template <class Number>
    void add(Number number) {
        words_->push_back(static_cast<std::uint64_t>(number));
    }

    void add(const std::string& text) {
        add(text.size());
        for (const char letter : text) {
            add(static_cast<unsigned char>(letter));
        }
    }

    // How long until `due`. What is past is past: how long ago decides nothing.
    [[nodiscard]] std::uint64_t remaining(core::Time due) const noexcept {
        if (due == core::never) {
            return std::numeric_limits<std::uint64_t>::max();
        }
        // As unsigned numbers: their difference may be too large for a signed one.
        return due <= now_ ? 0 : static_cast<std::uint64_t>(due.count()) - static_cast<std::uint64_t>(now_.count());
    }

    // How long ago a call was, as far as that still decides anything.
    [[nodiscard]] std::uint64_t recent(std::uint64_t whole_at) const noexcept {
        const std::uint64_t window = 2 * scheduler_->model_calls().most();
        const std::uint64_t ago = scheduler_->model_calls().begun() - whole_at;
        return whole_at == 0 ? window : (std::min)(ago, window);
    }

    [[nodiscard]] const ModelKey& name(const ModelKey& key) const noexcept {
        if (renamed_ == nullptr) {
            return key;
        }
        const auto found = std::find(renamed_->begin(), renamed_->end(), key);
        return found == renamed_->end() ? key : (*names_)[static_cast<std::size_t>(found - renamed_->begin())];
    }

    template <class Less>
    static void sort(std::vector<core::Index>& indices, Less less) {
        std::sort(indices.begin(), indices.end(), less);
    }

    // The place of `index` in `order`, counted from 1; 0 if it is not there.
    static std::size_t rank(const std::vector<core::Index>& order, core::Index index) noexcept {
        const auto found = std::find(order.begin(), order.end(), index);
        return found == order.end() ? 0 : static_cast<std::size_t>(found - order.begin()) + 1;
    }

    void rank_everything() {
        for (std::vector<core::Index>* indices : {&keys_, &failed_, &used_, &idle_, &draining_, &waiting_, &leased_}) {
            indices->clear();
        }
        const core::KeyTable& table = scheduler_->queue().keys();
        for (core::Index key = 0; key < table.end_index(); ++key) {
            // An entry that waits to be collected is as good as gone.
            if (table.used(key) && (table[key].waiting != 0 || table[key].resident != core::none ||
                                    table[key].ranks_last || table.failures_of(key) != 0 || is_on_its_way(key))) {
                keys_.push_back(key);
            }
        }
        sort(keys_,
             [&](core::Index left, core::Index right) { return name(*table[left].key) < name(*table[right].key); });
        for (const core::Failure& failure : table.failures()) {
            failed_.push_back(failure.key);
        }

        const auto& residents = scheduler_->residents();
        for (core::Index index = 0; index < residents.end_index(); ++index) {
            if (!residents.used(index)) {
                continue;
            }
            if (residents[index].usable()) {
                used_.push_back(index);
            }
            if (residents[index].idle()) {
                idle_.push_back(index);
            }
            if (residents[index].usable() && residents[index].state == ResidentState::draining) {
                draining_.push_back(index);
            }
        }
        sort(used_, [&](core::Index left, core::Index right) { return residents[left].used_before(residents[right]); });
        sort(idle_, [&](core::Index left, core::Index right) { return residents[left].idle_before(residents[right]); });
        sort(draining_,
             [&](core::Index left, core::Index right) { return residents[left].drained < residents[right].drained; });

        const auto& requests = scheduler_->queue().requests();
        arrivals_.resize(requests.end_index());
        for (core::Index index = 0; index < requests.end_index(); ++index) {
            if (requests.used(index)) {
                (requests[index].state == core::RequestState::leased ? leased_ : waiting_).push_back(index);
            }
        }
        sort(waiting_,
             [&](core::Index left, core::Index right) { return requests[left].arrival < requests[right].arrival; });
        for (std::size_t place = 0; place < waiting_.size(); ++place) {
            arrivals_[waiting_[place]] = place;
        }
        sort(leased_, [&](core::Index left, core::Index right) {
            return std::tuple(requests[left].key, lease_deadline(left)) <
                   std::tuple(requests[right].key, lease_deadline(right));
        });
    }

    [[nodiscard]] std::uint64_t lease_deadline(core::Index request) const noexcept {
        const auto& deadlines = scheduler_->queue().deadlines();
        return deadlines.contains(request) ? remaining(deadlines.rank(request)) : remaining(core::never);
    }

    // Whether the key waits for an answer about its memory, or has some.
    [[nodiscard]] bool is_on_its_way(core::Index key) const noexcept {
        return scheduler_->has_budget() && !scheduler_->key_memory(key).is_at_rest();
    }

    // Which keys are still to be refused is left out: no test has as many waiters as one call can refuse.
    void write_budget() {
        add(scheduler_->memory_limit());
        add(remaining(scheduler_->alarm().looks_at()));
        add(scheduler_->queue().is_watched());
        add(scheduler_->asks_for_available());
        add(scheduler_->memory_requests().size());
        for (const core::MemoryRequest& message : scheduler_->memory_requests()) {
            add(message.type);
            add(message.key);
            add(message.id.index);
            add(message.bytes);
        }
    }

    // The name of memory that was given back is left out: it decides about answers that come late, and nothing else.
    void write_memory(core::Index key) {
        const core::KeyMemory& memory = scheduler_->key_memory(key);
        add(memory.phase);
        add(memory.estimate);
        add(memory.used);
        add(memory.id.valid());
        add(memory.was_tried_again);
        add(memory.clears);
        add(memory.is_at_rest() ? 0 : memory.asked);
        add(memory.phase == core::MemoryPhase::refused ? static_cast<std::uint64_t>(memory.refusal) : 0);
    }

    void write_key(core::Index key) {
        const core::KeyEntry& entry = scheduler_->queue().keys()[key];
        const core::Index failures = scheduler_->queue().keys().failures_of(key);
        add(name(*entry.key).name);
        add(name(*entry.key).quantization);
        add(failures != 0);
        if (failures != 0) {
            add(scheduler_->cooldown_after(failures).count());
            add(remaining(scheduler_->queue().keys().cooling_until(key)));
            add(rank(failed_, key));
        }
        if (scheduler_->has_budget()) {
            write_memory(key);
        }
        add(entry.resident != core::none);
        if (entry.resident != core::none) {
            write_resident(entry.resident);
        }
        add(entry.waiting);
        for (const core::WaitsFor what : {core::WaitsFor::lease, core::WaitsFor::load, core::WaitsFor::part}) {
            for (const Priority priority : {Priority::high, Priority::normal, Priority::low}) {
                for (core::Index each = entry.lists.first(what, priority); each != core::none;
                     each = scheduler_->queue().requests()[each].next) {
                    write_waiter(each, entry);
                }
            }
        }
        add(entry.ranks_last);
        const core::KeyTable& table = scheduler_->queue().keys();
        const bool evicts = entry.evicted != core::none && table.used(entry.evicted) && table[entry.evicted].ranks_last;
        add(evicts ? rank(keys_, entry.evicted) : 0);
        const auto& requests = scheduler_->queue().requests();
        const auto is_of_key = [&](core::Index request) { return requests[request].key == key; };
        add(std::count_if(leased_.begin(), leased_.end(), is_of_key));
        for (const core::Index request : leased_) {
            if (is_of_key(request)) {
                add(lease_deadline(request));
            }
        }
    }

    void write_resident(core::Index index) {
        const core::Resident& resident = scheduler_->residents()[index];
        add(resident.state);
        switch (resident.state) {
            case ResidentState::queued: add(resident.discard); break;
            case ResidentState::loading:
                add(resident.stop_requested);
                add(resident.discard);
                add(load_so_far(resident).count());
                add(remaining(resident.abandoned_at));
                add(resident.failed);
                add(resident.failure);
                add(std::count_if(waiting_.begin(), waiting_.end(), [&](core::Index request) {
                    return scheduler_->queue().requests()[request].arrival <= resident.last_failed;
                }));
                break;
            case ResidentState::draining:
                add(resident.for_good);
                add(resident.revoked);
                add(resident.for_memory);
                break;
            case ResidentState::ready:
            case ResidentState::unloading: break;
        }
        add(resident.reason);
        add(resident.bytes);
        add(resident.leases);
        add(leases_ == nullptr ? resident.texts : (*leases_)[index]);
        if (resident.usable()) {
            add((std::min)(resident.capacity, scheduler_->options().max_leases));
            add(resident.batch.texts);
            add(resident.batch.bytes);
            add(resident.cuts);
            add(resident.joins);
            add(resident.spreads);
            add(resident.parts);
            add(resident.last_is_part);
            add(recent(resident.whole_at));
            add(resident.keep_alive.count());
            add(resident.unused());
            add(rank(used_, index));
            add(rank(draining_, index));
            add(rank(idle_, index));
            add(resident.idle() ? remaining(resident.due()) : 0);
            // What becomes idle in this same instant has been so for as long; what does later has not.
            add(resident.idle() && resident.idle_since == now_);
            write_stay(resident);
        }
    }

    // How long the load has taken: that decides how long its model will stay, up to a limit.
    [[nodiscard]] core::Duration load_so_far(const core::Resident& resident) const noexcept {
        const SlotOptions& options = scheduler_->options();
        const bool counts = !options.min_stay || *options.min_stay != std::chrono::milliseconds::zero();
        return counts ? (std::min)(now_ - resident.began, core::to_duration(options.aging)) : core::Duration::zero();
    }

    void write_stay(const core::Resident& resident) {
        add(resident.stay != core::Duration::zero());
        if (resident.stay == core::Duration::zero()) {
            return;
        }
        const bool stays = now_ < resident.stays_until;
        add(stays ? resident.stay.count() : 0);
        add(remaining(resident.stays_until));
        add(stays && resident.idle() ? remaining(core::later(resident.idle_since, resident.stay / 10)) : 0);
        add(resident.guard.count());
        for (std::size_t level = 0; level < 2; ++level) {
            add(resident.running[level]);
            add(remaining(core::later(resident.ran[level], resident.guard)));
        }
    }

    void write_waiter(core::Index index, const core::KeyEntry& entry) {
        const core::RequestSpec& spec = scheduler_->queue().requests()[index].spec;
        add(arrivals_[index]);
        add(spec.wants_lease);
        add(spec.priority);
        add(remaining(core::later(spec.since, core::to_duration(scheduler_->options().aging))));
        add(index == entry.claim);
        if (index == entry.claim) {
            const auto& claims = scheduler_->queue().claims().all();
            const auto found = std::find_if(claims.begin(), claims.end(),
                                            [&](const core::Claim& claim) { return claim.request == index; });
            add(remaining(found->until));
            return;
        }
        add(spec.is_inference);
        add(spec.texts);
        add(spec.bytes);
        const bool is_cut = scheduler_->queue().is_cut(index);
        add(is_cut);
        if (is_cut) {
            add(scheduler_->queue().bulk(index).part);
            add(scheduler_->queue().bulk(index).running);
        }
        add(spec.as);
        add(remaining(spec.deadline));
        add((spec.overrides_keep_alive ? spec.keep_alive : core::to_duration(scheduler_->options().keep_alive))
                .count());
        const bool is_met =
            entry.resident != core::none && scheduler_->residents()[entry.resident].generation == spec.expected;
        add(spec.expects ? (is_met ? 1 : 2) : 0);
    }

    void write_operations() {
        const auto& operations = scheduler_->teardowns();
        std::vector<std::vector<std::uint64_t>> each;
        for (core::Index index = 0; index < operations.end_index(); ++index) {
            if (!operations.used(index)) {
                continue;
            }
            const core::Teardown& operation = operations[index];
            std::vector<std::uint64_t>& words = each.emplace_back();
            words.push_back(operation.shutdown ? 1 : 0);
            words.push_back(rank(keys_, operation.key));
            words.push_back(remaining(operation.deadline));
            words.push_back(operation.remaining);
            for (const core::Index key : keys_) {
                const core::Index resident = scheduler_->queue().keys()[key].resident;
                const bool awaited = resident != core::none &&
                                     scheduler_->residents()[resident].birth < operation.birth &&
                                     (operation.key == core::none || operation.key == key);
                words.push_back(awaited ? 1 : 0);
            }
        }
        std::sort(each.begin(), each.end());
        add(each.size());
        for (const std::vector<std::uint64_t>& words : each) {
            words_->insert(words_->end(), words.begin(), words.end());
        }
    }

    const std::vector<ModelKey>* renamed_ = nullptr;
    const std::vector<ModelKey>* names_ = nullptr;
    const std::vector<std::uint64_t>* leases_ = nullptr;
    const core::SlotScheduler* scheduler_ = nullptr;
    core::Time now_{0};
    std::vector<std::uint64_t>* words_ = nullptr;
    std::vector<core::Index> keys_;
    std::vector<core::Index> failed_;
    std::vector<core::Index> used_;
    std::vector<core::Index> idle_;
    std::vector<core::Index> draining_;
    std::vector<core::Index> waiting_;
    std::vector<core::Index> leased_;
    std::vector<std::size_t> arrivals_;
};

/// Everything that can influence what `scheduler` does from `now` on, and nothing else: the same words, the same
/// behaviour.
///
/// Times are what remains until they are due, counted from zero when they are past; generations, arrivals and grants
/// are ranks; keys stand in their own order. What is only reported is left out: counters, messages, durations, the
/// places of things in their tables. For tests that walk through states, not for the hot path: it allocates.
[[nodiscard]] inline std::vector<std::uint64_t> canonical(const core::SlotScheduler& scheduler, core::Time now) {
    std::vector<std::uint64_t> words;
    CanonicalWriter().write(scheduler, now, true, words);
    return words;
}

}  // namespace residency::test

/// Hashes what the scheduler will do, seen from the beginning of time; equal schedulers have equal hashes.
template <>
struct std::hash<residency::core::SlotScheduler> {
    /// The hash of `scheduler`.
    std::size_t operator()(const residency::core::SlotScheduler& scheduler) const {
        std::uint64_t sum = 0xcbf29ce484222325ULL;
        for (const std::uint64_t word : residency::test::canonical(scheduler, residency::core::Time{0})) {
            sum = (sum ^ word) * 0x100000001b3ULL;
            sum ^= sum >> 29U;
        }
        return std::hash<std::uint64_t>{}(sum);
    }
};
