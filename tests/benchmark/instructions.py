#!/usr/bin/env python3
"""Counts the instructions of the hot paths by callgrind and compares them with those that are kept in instructions.json: a regression is
seen without a stopwatch. Ends with 77 where the figures cannot be compared, because they were taken with another compiler or library."""

import argparse
import functools
import json
import os
import platform
import subprocess
import sys

import callgrind

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = os.path.join(HERE, "instructions.json")
TOLERANCE = 0.05
SKIPPED = 77
REWRITE = "tests/benchmark/run.sh instructions --write"

# What is counted, what it is, and between which numbers of turns: what else the program does is the same with both. An even number of
# turns apart, as each finds the free memory in the opposite order of the one before it.
PATHS = {
    "lease": ("try_acquire + release, model ready", (2, 6)),
    "lease_in_budget": ("the same with a memory budget that is not under pressure", (2, 6)),
    "acquire": ("async_acquire + release, model ready", (2, 6)),
    "embed": ("async_embed of one text, model does nothing", (2, 6)),
    "embed_in_budget": ("the same with a memory budget that is not under pressure", (2, 6)),
    "embed_any": ("async_embed of one text, the backend's type erased (backends/any.hpp)", (2, 6)),
    "async_embed": ("async_embed, the model answers asynchronously", (2, 6)),
    "co_spawn": ("co_spawn of what that model gives, without a manager", (2, 6)),
    "grant": ("join a queue of 10,000 and be granted", (1, 3)),
    "cancel": ("join a queue of 10,000 and be cancelled", (1, 3)),
    "memory": ("be served by a memory budget for which 4,000 keys wait", (1, 3)),
    "status": ("status() of a manager with 4 residents", (2, 12)),
}

# What may cost how much more than which other, as a share: a memory budget that is not under pressure.
BESIDE = {
    "lease_in_budget": ("lease", 0),
    "embed_in_budget": ("embed", 0.02),
}


# What callgrind writes of a path is read twice where it is compared with another: in all, and within memcmp.
run = functools.cache(callgrind.run)


def of_memcmp(written):
    """The instructions within memcmp: where a key's bytes lie near the end of a page, it takes another way."""
    return sum(cost for function, cost in callgrind.Profile(written).own.items() if "memcmp" in function)


def each(program, path, turns, *options, of=callgrind.total):
    """The instructions of one operation; `of` says which of what callgrind wrote."""
    instructions, operations = [], []
    for count in turns:
        written, said = run((program, path, str(count)), *options)
        instructions.append(of(written))
        operations.append(int(said))
    return (instructions[1] - instructions[0]) / (operations[1] - operations[0])


def conditions_of(program):
    """What the figures depend on beside the library."""
    said = json.loads(subprocess.run([program, "--conditions"], check=True, capture_output=True, text=True).stdout)
    return {**said, "machine": platform.machine()}


def why_incomparable(kept, now):
    """Why figures taken under `kept` conditions say nothing about `now`; empty if they do."""

    def significant(conditions):
        compiler, version = conditions["compiler"].split()
        return {**conditions, "compiler": f"{compiler} {version.split('.')[0]}", "options": ""}

    kept, now = significant(kept), significant(now)
    odd = [key for key in kept if kept[key] != now.get(key)]
    return "; ".join(f"{key}: kept with {kept[key]}, here {now.get(key, 'unknown')}" for key in odd)


def judge(kept, now, in_memcmp=None):
    """What is wrong with the figures, a sentence each: more than the tolerance above or below those that are kept, not kept at all, or more
    than they may be beside another, but for what they have in memcmp, by chance."""
    problems = []
    for path, figure in now.items():
        if path not in kept:
            problems.append(f"{path}: {figure} instructions, and no figure is kept: keep it, by `{REWRITE}`.")
        elif figure > kept[path] * (1 + TOLERANCE):
            problems.append(
                f"{path}: {figure} instructions, {kept[path]} are kept: {figure / kept[path] - 1:+.1%}. Look where they go (`--profile {path}`). "
                f"If they have to be, raise the figure by `{REWRITE}`, in a commit that says why."
            )
        elif figure < kept[path] * (1 - TOLERANCE):
            problems.append(
                f"{path}: {figure} instructions, {kept[path]} are kept: {figure / kept[path] - 1:+.1%}. That is good news, and the figure has to "
                f"follow, or as much can be lost again unseen: lower it by `{REWRITE}`, in the same change."
            )
    for path, (other, share) in BESIDE.items():
        if path not in now:
            continue
        own, beside = (now[each] - (in_memcmp or {}).get(each, 0) for each in (path, other))
        if own > beside * (1 + share):
            problems.append(f"{path}: {own} instructions without memcmp's, {other} takes {beside}: {own / beside - 1:+.1%}, and the goal is at most {share:+.0%}.")
    problems += [f"{path}: a figure is kept, but nothing is counted: drop it by `{REWRITE}`." for path in kept if path not in now]
    return problems


def read_kept():
    with open(KEPT) as file:
        return json.load(file)


def count_all(program):
    return {path: round(each(program, path, turns)) for path, (_, turns) in PATHS.items()}


def print_table(kept, now):
    width = max(len(what) for what, _ in PATHS.values())
    print(f"{'':15} {'instructions of one':{width}} {'kept':>8} {'now':>8}")
    for path, figure in now.items():
        before = kept.get(path)
        change = f"{figure / before - 1:+.1%}" if before else ""
        print(f"{path:15} {PATHS[path][0]:{width}} {before if before else '-':>8} {figure:>8} {change:>7}".rstrip())


def compare(program):
    kept = read_kept()
    conditions = conditions_of(program)
    why = why_incomparable(kept["conditions"], conditions)
    if why:
        print(f"The figures of instructions.json cannot be compared with any taken here: {why}.")
        return SKIPPED
    if kept["conditions"]["options"] != conditions["options"]:
        print(f"The program is compiled with {conditions['options']}, the kept figures with {kept['conditions']['options']}: write them anew, by `{REWRITE}`.")
        return 1
    now = count_all(program)
    print_table(kept["instructions"], now)
    compared = {path for pair in BESIDE.items() for path in (pair[0], pair[1][0])}
    problems = judge(kept["instructions"], now, {path: round(each(program, path, PATHS[path][1], of=of_memcmp)) for path in compared})
    if problems:
        print()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def write(program):
    figures = {"conditions": conditions_of(program), "instructions": count_all(program)}
    print_table(read_kept()["instructions"] if os.path.exists(KEPT) else {}, figures["instructions"])
    with open(KEPT, "w") as file:
        json.dump(figures, file, indent=4)
        file.write("\n")
    return 0


def profile(program, path, lines):
    """Where the instructions of one operation go."""
    count = 20
    written, said = callgrind.run([program, path, str(count)], "--toggle-collect=*measured_turns*")
    operations = int(said)
    found = callgrind.Profile(written)
    functions = sorted(found.below("measured_turns"), key=found.inclusive, reverse=True)
    print(f"{PATHS[path][0]}: {callgrind.total(written) / operations:.0f} instructions\n\n{'with calls':>10} {'own':>6}")
    for function in functions[:lines]:
        print(f"{found.inclusive(function) / operations:10.0f} {found.own.get(function, 0) / operations:6.0f}  {callgrind.shortened(function)}")
    return 0


def locked_share(program):
    """(instructions of one status(), those of them that run under a slot's mutex, those that making text of it takes, those of them)"""
    turns = PATHS["status"][1]
    under_lock = program + "_under_lock"
    status, text = (each(program, path, turns) for path in ("status", "status_text"))
    locked, text_locked = (each(under_lock, path, turns, "--collect-atstart=no") for path in ("status", "status_text"))
    return round(status), round(locked), round(text - status), round(text_locked - locked)


def print_locked_share(program):
    status, locked, text, text_locked = locked_share(program)
    print(f"{PATHS['status'][0]}: {status} instructions, {locked} of them under the lock of one slot or the other")
    print(f"making text of it: {text} more, {text_locked} of them under a lock")
    return 0


def main():
    parser = argparse.ArgumentParser(description="Counts the instructions of the hot paths and compares them with instructions.json.")
    parser.add_argument("program", help="the program `instructions`, as it was built")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="keep the figures that are counted now")
    action.add_argument("--profile", metavar="PATH", choices=PATHS, help=f"print where one operation's instructions go: {', '.join(PATHS)}")
    action.add_argument("--under-lock", action="store_true", help="print how much of status() runs under a lock")
    parser.add_argument("--lines", type=int, default=25, help="of a profile; 25")
    arguments = parser.parse_args()
    try:
        if arguments.write:
            return write(arguments.program)
        if arguments.profile:
            return profile(arguments.program, arguments.profile, arguments.lines)
        if arguments.under_lock:
            return print_locked_share(arguments.program)
        return compare(arguments.program)
    except callgrind.Failed as problem:
        sys.exit(f"instructions.py: {problem}")


if __name__ == "__main__":
    sys.exit(main())
