"""The ten classical faults of such managers, put into this one by hand.

Each is code that is inserted before or after a text that is found exactly once in its file; MUTANT stands for "this fault is active". If a
text is not found any more, the tool says so and stops: the fault has to be put in anew.
"""

from dataclasses import dataclass


@dataclass
class Insertion:
    file: str
    anchor: str
    before: str = ""
    after: str = ""


@dataclass
class Fault:
    name: str
    about: str
    insertions: list


SCHEDULER = "core/impl/slot_scheduler.hpp"
PLACES = "core/impl/slot_scheduler_places.hpp"
WAITING = "core/impl/slot_scheduler_waiting.hpp"
SLOT = "shell/impl/slot_shell.hpp"

FAULTS = [
    Fault(
        "stamp outside the lock",
        "the time of a lease's end is read before the mutex is taken",
        [
            Insertion(SLOT, "void SlotShell<Clock>::release(ResidentRecord& record) noexcept {", after="const core::Time early = MUTANT ? now() : core::Time::zero();"),
            Insertion(SLOT, "if (release_quietly({record.id, {}})) {",
                      before="if (MUTANT && !abandoned_ && scheduler_.release_quietly({record.id, {}}, early)) { return; } "),
        ],
    ),
    Fault(
        "grant without counting: slot",
        "the slot's leases are not counted",
        [Insertion(WAITING, "++leases_;\n    ++counters_.leases_granted;", before="if (!MUTANT) ")],
    ),
    Fault(
        "grant without counting: resident",
        "the resident's leases are not counted",
        [Insertion(WAITING, "++resident.leases;", before="if (!MUTANT) ")],
    ),
    Fault(
        "count before grant",
        "a lease is counted before it is known whether it can be granted, and stays counted if it cannot",
        [
            Insertion(SCHEDULER, "if (resident.state != ResidentState::ready || resident.leases >= resident.capacity) {", before="if (MUTANT) { ++leases_; } "),
            Insertion(SCHEDULER, "count_lease(resident);\n    return Attempt::granted;", before="if (MUTANT) { --leases_; } "),
        ],
    ),
    Fault(
        "no re-check after the alarm: due",
        "whatever is idle when the alarm rings is unloaded, although it was used since",
        [Insertion(SCHEDULER, "residents_[index].due() <= now) {\n            start_unload(", before="(MUTANT || ", after=""),
         Insertion(SCHEDULER, "residents_[index].idle() && residents_[index].due() <= now", after=")")],
    ),
    Fault(
        "no re-check after the alarm: in use",
        "whatever is ready when the alarm rings is unloaded, although it is leased",
        [Insertion(SCHEDULER, "residents_[index].idle() && residents_[index].due() <= now",
                   before="(MUTANT ? residents_[index].state == ResidentState::ready : ", after=")")],
    ),
    Fault(
        "alarm replaced without awaiting",
        "a wait is replaced by an earlier one before the handler of the first has run",
        [Insertion("runtime/alarm.hpp", "cancelling_ = true;",
                   before="if (MUTANT) { stands_at_ = wanted; return wanted == never ? Step::cancel : Step::start; } ")],
    ),
    Fault(
        "waiter woken twice: granted",
        "a grant is carried out twice",
        [Insertion(WAITING, "action.kept = queue_.leave(index, now, spec.wants_lease);", after=" if (MUTANT) { actions.push_back(action); }")],
    ),
    Fault(
        "waiter woken twice: granted, then timed out",
        "a waiter that has its lease keeps its place among the deadlines of those that wait",
        [Insertion("core/wait_queue.hpp", "deadlines_.erase(index);\n        requests_.erase(index);", before="if (!MUTANT) ")],
    ),
    Fault(
        "waiter lost on cancel during load: itself",
        "who cancels while the model is being loaded is never told",
        [Insertion(SLOT, "out.ready.push(std::move(waiters_[waiter.request.index]));",
                   before="if (!(MUTANT && scheduler_.residents().size() != 0 && scheduler_.residents().used(0) && "
                   "scheduler_.residents()[0].state == ResidentState::loading)) ")],
    ),
    Fault(
        "waiter lost on cancel during load: the others",
        "who cancels while the model is being loaded takes those along who wait for the same key",
        [Insertion(SCHEDULER, "queue_.leave(request.index, now, false);",
                   after=" while (MUTANT && queue_.keys()[key].first != none && queue_.keys()[key].resident != none && "
                   "residents_[queue_.keys()[key].resident].state == ResidentState::loading) { queue_.leave(queue_.keys()[key].first, now, false); }")],
    ),
    Fault(
        "cooldown not cleared",
        "a load that succeeds does not end the row of failures",
        [Insertion(SCHEDULER, "queue_.keys().clear_failures(key);", before="if (!MUTANT) ")],
    ),
    Fault(
        "generation not raised on unload",
        "the counter stays when a model stops being usable",
        [Insertion(PLACES, "if (resident.state != ResidentState::loading && !resident.revoked) {", after=" if (!MUTANT)")],
    ),
    Fault(
        "lease released twice",
        "a lease that was released is released again by its destructor",
        [Insertion("lease.hpp", "std::exchange(slot_, nullptr)->release(*std::exchange(record_, nullptr));",
                   before="if (MUTANT) { slot_->release(*record_); return; } ")],
    ),
]


def insertions_in(texts, fault, active):
    """file -> [(offset, text)], with `active` in MUTANT's place. `texts`: file -> its text."""
    found = {}
    for insertion in fault.insertions:
        text = texts[insertion.file]
        if text.count(insertion.anchor) != 1:
            raise ValueError(f"`{fault.name}`: {insertion.file} has {text.count(insertion.anchor)} times, not once: {insertion.anchor}")
        start = text.index(insertion.anchor)
        for offset, code in ((start, insertion.before), (start + len(insertion.anchor), insertion.after)):
            if code:
                found.setdefault(insertion.file, []).append((offset, code.replace("MUTANT", active)))
    return found
