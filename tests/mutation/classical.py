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


RESIDENT = "core/resident.hpp"
SCHEDULER = "core/impl/slot_scheduler.hpp"
LOADS = "core/impl/slot_scheduler_loads.hpp"
RESIDENTS = "core/impl/slot_scheduler_residents.hpp"
TIME = "core/impl/slot_scheduler_time.hpp"
GRANTS = "core/impl/slot_scheduler_grants.hpp"
CALLS = "core/model_calls.hpp"
SHELL = "shell/impl/slot_shell.hpp"

FAULTS = [
    Fault(
        "stamp outside the lock",
        "the time of a lease's end is read before the mutex is taken",
        [
            Insertion(SHELL, "auto& record = static_cast<ResidentRecord&>(model);", after=" const core::Time early = MUTANT ? now() : core::Time::zero();"),
            Insertion(SHELL, "if (release_quietly({record.id, {}, false, 0})) {",
                      before="if (MUTANT && state_.scheduler.release_quietly({record.id, {}, false, 0}, early)) { return; } "),
        ],
    ),
    Fault(
        "grant without counting: slot",
        "the slot's leases are not counted",
        [Insertion(GRANTS, "++leases_;", before="if (!MUTANT) ")],
    ),
    Fault(
        "grant without counting: resident",
        "the resident's leases are not counted",
        [Insertion(RESIDENT, "++leases;", before="if (!MUTANT) ")],
    ),
    Fault(
        "grant without counting: calls",
        "the slot's model calls are not counted",
        [Insertion(CALLS, "++running_;", before="if (!MUTANT) ")],
    ),
    Fault(
        "count before grant",
        "a lease is counted before it is known whether it can be granted, and stays counted if it cannot",
        [
            Insertion(SCHEDULER, "if (resident.state != ResidentState::ready || resident.leases >= resident.capacity ||", before="if (MUTANT) { ++leases_; } "),
            Insertion(SCHEDULER, "count_lease(resident, spec);\n    if (entry.waiting != 0) {", before="if (MUTANT) { --leases_; } "),
        ],
    ),
    Fault(
        "no re-check after the alarm: due",
        "whatever is idle when the alarm rings is unloaded, although it was used since",
        [Insertion(TIME, "resident.due() <= now", before="(MUTANT || ", after=")")],
    ),
    Fault(
        "no re-check after the alarm: in use",
        "whatever is ready when the alarm rings is unloaded, although it is leased",
        [Insertion(TIME, "resident.idle() && resident.due() <= now", before="(MUTANT ? true : ", after=")")],
    ),
    Fault(
        "alarm replaced without awaiting",
        "a wait is replaced by an earlier one before the handler of the first has run",
        [Insertion("runtime/alarm.hpp", "cancelling_ = true;",
                   before="if (MUTANT) { due_ = wanted; return wanted == never ? Step::cancel : Step::start; } ")],
    ),
    Fault(
        "waiter woken twice: granted",
        "a grant is carried out twice",
        [Insertion(GRANTS, "action.kept = queue_.leave(request, spec.wants_lease);", after=" if (MUTANT) { step.actions.push_back(action); }")],
    ),
    Fault(
        "waiter woken twice: granted, then timed out",
        "a waiter that has its lease keeps its place among the deadlines of those that wait",
        [Insertion("core/wait_queue.hpp", "deadlines_.erase(index);\n        requests_.erase(index);", before="if (!MUTANT) ")],
    ),
    Fault(
        "waiter lost on cancel during load: itself",
        "a request that is cancelled while the model is being loaded never completes",
        [Insertion(SHELL, "out.ready.push(std::move(state_.waiters[waiter.request.index]));",
                   before="if (!(MUTANT && state_.scheduler.residents().size() != 0 && state_.scheduler.residents().used(0) && "
                   "state_.scheduler.residents()[0].state == ResidentState::loading)) ")],
    ),
    Fault(
        "waiter lost on cancel during load: the others",
        "a request that is cancelled while the model is being loaded takes the others along that wait for the same key",
        [Insertion(SCHEDULER, "queue_.leave(request.index, false);",
                   after=" while (MUTANT && queue_.oldest(key) != none && queue_.keys()[key].resident != none && "
                   "residents_[queue_.keys()[key].resident].state == ResidentState::loading) { queue_.leave(queue_.oldest(key), false); }")],
    ),
    Fault(
        "cooldown not cleared",
        "a load that succeeds does not end the row of failures",
        [Insertion(LOADS, "queue_.keys().clear_failures(resident.key);", before="if (!MUTANT) ")],
    ),
    Fault(
        "generation not raised on unload",
        "the counter stays when a model stops being usable",
        [Insertion(RESIDENTS, "if (resident.state != ResidentState::loading && !resident.revoked) {", after=" if (!MUTANT)")],
    ),
    Fault(
        "lease released twice",
        "a lease that was released is released again by its destructor",
        [Insertion("lease.hpp", "if (detail::LeasedModel* const model = std::exchange(model_, nullptr)) {",
                   before="if (MUTANT && model_ != nullptr) { model_->owner->release(*model_); return; } ")],
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
