#!/usr/bin/env python3
"""Does the proof bite? Puts faults into the library, one at a time, and runs the tests on each. See README.md beside this.

All mutants are compiled in at once, and an environment variable chooses one: the programs are built once, not once a mutant.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import classical
import schemata
import suites
from points import Finder
from tokens import Source

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

FILES = (
    "core/impl/slot_scheduler.hpp", "core/impl/slot_scheduler_batches.hpp", "core/impl/slot_scheduler_grants.hpp", "core/impl/slot_scheduler_loads.hpp", "core/impl/slot_scheduler_places.hpp", "core/impl/slot_scheduler_residents.hpp",
    "core/impl/slot_scheduler_time.hpp", "core/impl/slot_scheduler_waiting.hpp", "core/slot_scheduler.hpp", "core/wait_queue.hpp",
    "core/impl/memory_ledger.hpp", "core/impl/memory_ledger_room.hpp", "core/memory_ledger.hpp", "core/impl/slot_scheduler_memory.hpp", "core/impl/slot_scheduler_memory_uses.hpp", "shell/slot_memory.hpp", "shell/memory_broker.hpp",
    "core/impl/wait_queue.hpp", "core/alarm_time.hpp", "core/claims.hpp", "core/waiter_lists.hpp", "core/indexed_heap.hpp", "core/model_calls.hpp", "core/refusals.hpp", "core/standings.hpp", "core/text_lengths.hpp", "core/text_rate.hpp", "core/chunked_vector.hpp", "core/key_memories.hpp", "core/key_memory.hpp", "core/key_table.hpp", "core/resident.hpp", "core/slab.hpp", "shell/impl/slot_shell.hpp",
    "shell/impl/slot_shell_apply.hpp", "shell/impl/slot_shell_work.hpp", "shell/slot_shell.hpp",
    "shell/slot_state.hpp", "shell/slot_status.hpp", "shell/resident_records.hpp", "shell/pending_teardowns.hpp", "shell/running_calls.hpp", "shell/request_spec.hpp",
    "shell/inference_job.hpp", "shell/slot_events.hpp", "shell/admission.hpp", "shell/part_call.hpp", "shell/async_call.hpp",
    "shell/acquire_op.hpp", "shell/ensure_loaded_op.hpp", "shell/inference_op.hpp", "shell/model_call.hpp", "shell/shared_call.hpp", "shell/embed_op.hpp", "shell/rerank_op.hpp",
    "shell/teardown_op.hpp", "shell/blocking.hpp", "shell/backend_slot.hpp", "shell/error_writer.hpp", "shell/event_queue.hpp",
    "shell/intrusive_queue.hpp", "shell/outbox.hpp", "shell/pending_handler.hpp", "shell/request.hpp", "shell/slot_runtime.hpp", "shell/waiter.hpp",
    "runtime/alarm.hpp", "runtime/blocking_call.hpp", "runtime/completion.hpp", "runtime/executors.hpp", "runtime/owned_threads.hpp", "runtime/user_code_scope.hpp", "lease.hpp",
    "model_slot.hpp", "model_manager.hpp",
)

# A lock that is not held is no matter of luck: clang's thread safety analysis, which is a test of its own, sees it without running.
STATIC_OPERATOR = "not held"
STATIC_TEST = "headers.Clang"

ADDRESS_SPACE = 4 << 30


class Mutants:
    """All mutants of the library: what they are, and the sources that have them all."""

    def __init__(self, root, dropped=()):
        self.include = root / "include" / "residency"
        self.texts = {file: (self.include / file).read_text(encoding="utf-8") for file in FILES}
        self.sources = {file: Source(text) for file, text in self.texts.items()}
        self.points = {file: Finder(source).find() for file, source in self.sources.items()}
        self.all = []
        self.where = {}
        seen = Counter()
        number = 0
        for file, points in self.points.items():
            for point in points:
                original = self.sources[file].flat(point.begin, point.end)
                for mutant in point.mutants:
                    number += 1
                    mutant.id = number
                    key = f"{file} | {point.function} | {mutant.operator} | {original} => {mutant.text or ''}"
                    seen[key] += 1
                    mutant.key = key if seen[key] == 1 else f"{key} #{seen[key]}"
                    self.where[number] = (file, self.sources[file].line(mutant.at), self.sources[file].column(mutant.at))
        self.count = number + 1
        self.faults = {}
        for fault in classical.FAULTS:
            self.faults[self.count] = fault
            self.count += 1
        for points in self.points.values():
            for point in points:
                point.mutants = [mutant for mutant in point.mutants if mutant.key not in dropped]
                self.all += point.mutants

    def is_lock(self, mutant):
        return mutant.operator == STATIC_OPERATOR and "UserCodeScope" not in mutant.key

    def write(self, folder):
        """Writes the mutated headers; returns path -> line -> ids of mutants that an error there is the fault of."""
        insertions = defaultdict(list)
        for number, fault in self.faults.items():
            for file, found in classical.insertions_in(self.texts, fault, f"{schemata.PREFIX}any({number}, 1)").items():
                insertions[file] += found
        for path in self.include.rglob("*.hpp"):
            write_if_changed(folder / "residency" / path.relative_to(self.include), path.read_text(encoding="utf-8"))
        write_if_changed(folder / "residency_mutation.hpp", schemata.RUNTIME.replace("COUNT", str(self.count)))
        marks = {}
        for file in FILES:
            points = []
            for point in self.points[file]:
                dynamic = [mutant for mutant in point.mutants if not self.is_lock(mutant)]
                points.append(type(point)(point.kind, point.begin, point.end, point.function, dynamic))
            text = schemata.rewrite(self.sources[file], points, insertions[file])
            write_if_changed(folder / "residency" / file, text)
            marks[f"residency/{file}"] = schemata.marks(text)
        return marks


def write_if_changed(path, text):
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# -- Building --------------------------------------------------------------------------------------------------------------------------


def blamed(output, marks):
    """The mutants that a compiler's errors are the fault of."""
    found = set()
    for block in re.split(r"\n(?=[^\n]*In (?:instantiation|substitution|member function|function|static member|constructor|lambda))", output):
        if "error:" not in block:
            continue
        for error in re.split(r"\n(?=[^\n]*error:)", block):
            for path, line in re.findall(r"(residency/[\w/]+\.hpp):(\d+)", error):
                if ids := marks.get(path, {}).get(int(line)):
                    found.update(ids)
                    break
    return found


def compile_check(work, sources, marks):
    found = set()
    for source in sources:
        run = subprocess.run(
            ["g++", "-std=c++20", "-fsyntax-only", "-w", "-fmax-errors=0", f"-I{work}/source/include", f"-I{ROOT}/tests", str(source)],
            capture_output=True, text=True, check=False)
        if run.returncode != 0:
            blame = blamed(run.stderr, marks)
            if not blame:
                sys.exit(f"{source} does not compile, and no mutant is to blame:\n{run.stderr[:4000]}")
            found |= blame
    return found


def generate(work):
    """Writes the mutated sources, without mutants that do not compile; returns what is left."""
    memory = work / "does_not_compile.json"
    dropped = set(json.loads(memory.read_text())) if memory.exists() else set()
    while True:
        mutants = Mutants(ROOT, dropped)
        marks = mutants.write(work / "source" / "include")
        sources = [ROOT / "tests" / name for name in ("headers/instantiated.cpp", "core/wait_queue_test.cpp", "model_manager_test.cpp")]
        found = compile_check(work, sources, marks)
        if not found:
            break
        dropped |= {mutant.key for mutant in mutants.all if mutant.id in found}
        print(f"{len(found)} mutants do not compile", flush=True)
        memory.write_text(json.dumps(sorted(dropped), indent=1))
    return mutants, marks, dropped, memory


def build(work, jobs, sanitize):
    """Builds the programs over the mutated sources."""
    source = work / "source"
    for name in ("CMakeLists.txt",):
        write_if_changed(source / name, (ROOT / name).read_text(encoding="utf-8"))
    for name in ("cmake", "tests"):
        if not (source / name).exists():
            (source / name).symlink_to(ROOT / name)
    folder = work / (sanitize or "plain")
    flags = "-w" if sanitize else "-w -D_GLIBCXX_ASSERTIONS"
    subprocess.run(
        ["cmake", "-G", "Ninja", "-S", source, "-B", folder, f"-DCMAKE_CXX_FLAGS={flags}", "-DCMAKE_BUILD_TYPE=", "-DRESIDENCY_BUILD_EXAMPLES=OFF",
         "-DRESIDENCY_TESTS_APART=ON", f"-DRESIDENCY_SANITIZE={sanitize}"], check=True, stdout=subprocess.DEVNULL)
    programs = suites.programs(ROOT / "tests", folder)
    run = subprocess.run(["ninja", "-C", folder, "-k", "0", "-j", str(jobs), *sorted({program.target for program in programs})],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return programs, run


# -- Running ---------------------------------------------------------------------------------------------------------------------------


def run_program(program, work, mutant=0, reached=None, seconds=600.0, processor_seconds=600.0, limit_memory=True):
    """Runs it; returns how it ended ("passed", "failed", "crashed", "hung"), and how long it took: seconds, processor seconds."""
    environment = {**os.environ, "RESIDENCY_MUTANT": str(mutant), "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0"}
    environment.pop("RESIDENCY_MUTANTS_REACHED", None)
    if reached:
        environment["RESIDENCY_MUTANTS_REACHED"] = str(reached)

    def limit():
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(processor_seconds) + 1,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limit_memory:
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE,) * 2)

    begin = time.monotonic()
    process = subprocess.Popen([program.path, *program.arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, preexec_fn=limit, cwd=work)
    hung = threading.Event()

    def kill():
        hung.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    try:  # a program's own children
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    taken = (time.monotonic() - begin, usage.ru_utime + usage.ru_stime)
    if hung.is_set() or process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hung", taken
    if process.returncode in (0, 77):
        return "passed", taken
    return ("crashed" if process.returncode < 0 else "failed"), taken


class Suite:
    """The programs, what each of them reaches, and how long each takes."""

    def __init__(self, programs, work, count, jobs, limit_memory):
        self.programs, self.work, self.limit_memory = programs, work, limit_memory
        self.reaches, self.seconds, self.processor = {}, {}, {}
        self.lock = threading.Lock()
        self.runs, self.kills = Counter(), Counter()

        def look(program):
            reached = work / f"{program.name.replace(' ', '_')}.reached"
            reached.write_bytes(bytes(count))
            ended, _ = run_program(program, work, reached=reached, limit_memory=limit_memory)
            if ended != "passed":
                sys.exit(f"{program.name} {ended} without a mutant")
            ended, (self.seconds[program.name], self.processor[program.name]) = run_program(program, work, limit_memory=limit_memory)
            self.reaches[program.name] = reached.read_bytes()

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(look, programs))

    def order(self, mutant):
        """The programs that reach it: first those that caught most in least time so far."""
        able = [program for program in self.programs if self.reaches[program.name][mutant]]
        with self.lock:
            worth = {program.name: (self.kills[program.name] + 1) / (self.runs[program.name] + 2) / (self.seconds[program.name] + 0.02)
                     for program in able}
        return sorted(able, key=lambda program: -worth[program.name])

    def judge(self, mutant):
        """How it was caught and by which program, or ("survived", None) or ("not reached", None)."""
        able = self.order(mutant)
        for program in able:
            seconds, processor = self.seconds[program.name], self.processor[program.name]
            ended, _ = run_program(program, self.work, mutant, seconds=10 * seconds + 15, processor_seconds=4 * processor + 5,
                                   limit_memory=self.limit_memory)
            with self.lock:
                self.runs[program.name] += 1
                self.kills[program.name] += ended != "passed"
            if ended != "passed":
                return ended, program.name
        return ("survived" if able else "not reached"), None


class Analysis:
    """clang's analysis of what is touched under which lock, as the test `headers.Clang` has it."""

    def __init__(self, mutants, work):
        self.mutants, self.work = mutants, work
        self.compiler = next((name for name in ("clang++", "clang++-14", "clang++-19", "clang++-18") if shutil.which(name)), None)
        if self.compiler and self.says({})[0] != "survived":
            sys.exit(f"{STATIC_TEST} fails without a mutant")

    def judge(self, mutant):
        """For a lock that is not held."""
        file = self.mutants.where[mutant.id][0]
        point = next(point for point in self.mutants.points[file] if mutant in point.mutants)
        text, tokens = self.mutants.texts[file], self.mutants.sources[file].tokens
        return self.says({file: text[: tokens[point.begin].start] + text[tokens[point.end - 1].end :]})

    def judge_fault(self, fault):
        texts = dict(self.mutants.texts)
        for file, insertions in classical.insertions_in(texts, fault, "true").items():
            for offset, code in sorted(insertions, reverse=True):
                texts[file] = texts[file][:offset] + code + texts[file][offset:]
        return self.says(texts)

    def says(self, texts):
        if not self.compiler:
            return "no clang", None
        with tempfile.TemporaryDirectory(dir=self.work) as overlay:
            for file, text in texts.items():
                write_if_changed(Path(overlay) / "residency" / file, text)
            run = subprocess.run(
                [self.compiler, "-std=c++20", "-fsyntax-only", "-Wthread-safety", "-Werror", f"-I{overlay}", f"-I{ROOT}/include",
                 str(ROOT / "tests/headers/instantiated.cpp")], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return "survived", None
        if "-Wthread-safety" not in run.stderr:
            sys.exit(f"clang does not compile it at all:\n{run.stderr[:4000]}")
        return "failed", STATIC_TEST


def sample_of(mutants, size, seed):
    """So many of them, of each file in proportion and two at least."""
    by_file = defaultdict(list)
    for mutant in mutants.all:
        by_file[mutants.where[mutant.id][0]].append(mutant)
    if size >= len(mutants.all):
        return mutants.all
    chance = random.Random(seed)
    chosen = []
    for file in FILES:
        share = max(2, round(size * len(by_file[file]) / len(mutants.all)))
        chosen += chance.sample(by_file[file], min(share, len(by_file[file])))
    return chosen


# -- Reporting -------------------------------------------------------------------------------------------------------------------------

CAUGHT = ("failed", "crashed", "hung")


def report(results, equivalents):
    """Prints the table; returns the survivors without an explanation."""
    rows, by_suite = defaultdict(Counter), Counter()
    survivors = []
    for key, (ended, program) in results.items():
        file = key.split(" | ")[0]
        kind = "caught" if ended in CAUGHT else "equivalent" if key in equivalents else "survived"
        rows[file][kind] += 1
        rows[file]["hung"] += ended == "hung"
        if ended in CAUGHT:
            by_suite[program] += 1
        elif kind == "survived":
            survivors.append((key, ended))
    names = ("mutants", "caught", "hung", "equivalent", "survived")
    print(f"{'':34}" + "".join(f"{name:>12}" for name in names))
    total = Counter()
    for file, row in [*sorted(rows.items()), ("all", total)]:
        row["mutants"] = row["caught"] + row["equivalent"] + row["survived"]
        print(f"{file:34}" + "".join(f"{row[name]:12}" for name in names))
        if row is not total:
            total.update({name: row[name] for name in ("caught", "hung", "equivalent", "survived")})
    real = total["caught"] + total["survived"]
    print(f"\ncaught: {total['caught']} of {real} that are not equivalent, {100 * total['caught'] / max(real, 1):.1f} %")
    print("by: " + ", ".join(f"{name} {count}" for name, count in by_suite.most_common()))
    for key, ended in survivors:
        print(f"{ended}: {key}")
    return survivors


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (default 300; 0: only the classical faults)")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--match", default="", help="only mutants whose key contains this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sanitize", choices=["", "address"], default="", help="build the programs with a sanitizer")
    parser.add_argument("--again", action="store_true", help="the mutants of the runs before that are still there; those that were not caught are judged anew")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mutation", help="where everything is built")
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)

    mutants, marks, dropped, memory = generate(work)
    while True:
        programs, run = build(work, options.jobs, options.sanitize)
        if run.returncode == 0:
            break
        found = blamed(run.stdout, marks)
        if not found:
            sys.exit(run.stdout[-6000:])
        dropped |= {mutant.key for mutant in mutants.all if mutant.id in found}
        memory.write_text(json.dumps(sorted(dropped), indent=1))
        print(f"{len(found)} mutants do not compile", flush=True)
        mutants, marks, dropped, memory = generate(work)
    print(f"{len(mutants.all)} mutants, {len(dropped)} more do not compile; {len(programs)} programs", flush=True)

    suite = Suite(programs, work, mutants.count, options.jobs, limit_memory=not options.sanitize)
    print(f"without a mutant all pass, in {sum(suite.seconds.values()):.0f} s", flush=True)

    memory = work / "results.json"
    known = json.loads(memory.read_text()) if memory.exists() else {}
    equivalents = json.loads((HERE / "equivalents.json").read_text())
    if options.again:
        chosen = [mutant for mutant in mutants.all if mutant.key in known]
    else:
        chosen = sample_of(mutants, options.sample, options.seed) if options.sample else []
    chosen = [mutant for mutant in chosen if options.match in mutant.key]
    results = {}
    if options.again:
        results = {mutant.key: known[mutant.key] for mutant in chosen if known.get(mutant.key, ("", None))[0] in CAUGHT}
        chosen = [mutant for mutant in chosen if mutant.key not in results]
    chosen = random.Random(options.seed).sample(chosen, len(chosen))  # so that what is left after some time is of every file
    analysis = Analysis(mutants, work)
    done, lock = 0, threading.Lock()

    def judge(job):
        nonlocal done
        number, key = job
        ended = analysis.judge(locks[number]) if number in locks else suite.judge(number)
        if ended[0] not in CAUGHT and number in mutants.faults:
            ended = analysis.judge_fault(mutants.faults[number])
        with lock:
            results[key] = known[key] = ended
            done += 1
            if done % 25 == 0:
                print(f"{done} of {len(jobs)}, {time.monotonic() - begin:.0f} s", flush=True)
                memory.write_text(json.dumps(known, indent=1))

    locks = {mutant.id: mutant for mutant in chosen if mutants.is_lock(mutant)}
    begin = time.monotonic()
    jobs = [(number, f"classical | {fault.name}") for number, fault in mutants.faults.items()]
    jobs += [(mutant.id, mutant.key) for mutant in chosen]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(judge, jobs))
    memory.write_text(json.dumps(known, indent=1))
    return 1 if report(results, equivalents) else 0


if __name__ == "__main__":
    sys.exit(main())
