"""Runs the benchmarks, prints one table, and writes it as JSON and the scaling curves as SVG.

Ours and what it is compared with are measured in one run of one program, in random order of their repetitions; what counts is the median of
the repetitions' CPU times, and the ratio of two medians."""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile

import chart
import instructions

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# What is measured: name of the benchmark, what it is, its floor, the goal for ours / floor (None: reported).
ROWS = [
    ("lease", "", "try_acquire + release, model ready", "two lock/unlock pairs, one clock read", 1.5),
    ("acquire", "", "async_acquire + release, model ready, one thread", "a post, and the lease's floor", 1.5),
    ("acquire_erased", "", "the same, handler without an executor of its own", "a post to an any_io_executor, and the lease's floor", 1.5),
    ("embed", "/1", "async_embed, pool of 4 threads, one at a time", "a post to the pool and one back", 1.5),
    ("embed", "/10", "async_embed, pool of 4 threads, ten at a time", "a post to the pool and one back", None),
    ("embed_alone", "", "async_embed, everything on one thread", "two posts", None),
    ("blocking", "/threads:1", "embed, pool of 4 threads", "a promise set from the pool", 1.5),
    ("blocking", "/threads:2", "embed, 2 callers", "the same, 2 callers", 1.5),
    ("blocking", "/threads:4", "embed, 4 callers", "the same, 4 callers", 1.5),
    ("blocking", "/threads:8", "embed, 8 callers", "the same, 8 callers", 1.5),
    ("blocking", "/threads:16", "embed, 16 callers", "the same, 16 callers", 1.5),
    ("switch", "", "a switch: unload one model, load another", "two posts to a thread and a hand-over", 3.0),
    ("shutdown", "", "a shutdown, 100,000 waiters", "100,000 posts, an exception_ptr each", 2.0),
    ("status", "/threads:4", "leases by 4 threads, status() 1,000 times a second", "the same without status()", None),
]
ALTERNATIVES = [("mutex", "(a) mutex, use-count, timer"), ("strand", "(b) the same on a strand")]

WAITERS = (100, 1_000, 10_000, 100_000)
QUEUES = [
    (what, keys, order)
    for what in ("cancel", "grant")
    for keys in (1, 100)
    for order in (0, 1)
]


def nanoseconds(value):
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} ns"


class Benchmarks:
    def __init__(self, build, repetitions):
        self.program = os.path.join(build, "tests", "benchmark", "benchmarks")
        self.repetitions = repetitions
        self.results = {}

    def run(self, name):
        """Runs all sides of one benchmark; keeps each one's repetitions."""
        if name in self.results:
            return self.results[name]
        print(f"  {name}", file=sys.stderr, flush=True)
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            subprocess.run(
                [
                    self.program, f"--benchmark_filter=^{name}/", f"--benchmark_repetitions={self.repetitions}",
                    "--benchmark_enable_random_interleaving=true", "--benchmark_min_time=0.05", f"--benchmark_out={out.name}",
                    "--benchmark_out_format=json",
                ],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            with open(out.name) as file:
                runs = json.load(file)["benchmarks"]
        found = {}
        for run in runs:
            if run.get("error_occurred"):
                sys.exit(f"report.py: {run['name']}: {run['error_message']}")
            if run["run_type"] != "iteration":
                continue
            unit = {"ns": 1.0, "us": 1e3, "ms": 1e6}[run["time_unit"]]
            times = found.setdefault(run["run_name"], {"cpu": [], "wall": []})
            times["cpu"].append(run["cpu_time"] * unit)
            times["wall"].append(run["real_time"] * unit)
        self.results[name] = {key: {kind: statistics.median(times) for kind, times in value.items()} for key, value in found.items()}
        return self.results[name]

    def median(self, name, side, suffix, kind="cpu"):
        """The median of one side; `suffix` is what follows its name, but for Google Benchmark's own words."""
        for key, value in self.run(name).items():
            words = [word for word in key.split("/") if word not in ("process_time", "real_time")]
            if words[:2] == [name, side] and "".join("/" + word for word in words[2:]) == suffix:
                return value[kind]
        return None


def time_rows(benchmarks):
    rows = []
    for name, suffix, what, floor, goal in ROWS:
        ours, base = (benchmarks.median(name, side, suffix) for side in ("ours", "floor"))
        row = {"what": what, "ours": nanoseconds(ours), "floor": f"{nanoseconds(base)} ({floor})", "ratio": ours / base, "goal": goal}
        row["figures"] = {"ours_ns": ours, "floor_ns": base}
        for side, _ in ALTERNATIVES:
            other = benchmarks.median(name, side, suffix)
            if other is not None:
                row["figures"][side + "_ns"] = other
        rows.append(row)
    return rows


def alternative_rows(benchmarks):
    rows = []
    for name, suffix, what, _, _ in ROWS:
        for side, words in ALTERNATIVES:
            other = benchmarks.median(name, side, suffix)
            if other is not None:
                ours = benchmarks.median(name, "ours", suffix)
                rows.append({"what": what, "ours": nanoseconds(ours), "floor": f"{nanoseconds(other)} ({words})", "ratio": ours / other, "goal": None})
    return rows


def queue_rows(benchmarks):
    rows, curves = [], []
    for what, keys, order in QUEUES:
        each = {}
        for side in ("ours", "floor"):
            each[side] = [
                benchmarks.median(what, side, f"/waiters:{waiters}/keys:{keys}/random:{order}") / waiters for waiters in WAITERS
            ]
        growth = {side: costs[-1] / costs[0] for side, costs in each.items()}
        words = f"join + {what}, {keys} key{'s' if keys > 1 else ''}, {'at random' if order else 'in order'}"
        rows.append({
            "what": f"{words}: growth from 100 to 100,000 waiters",
            "ours": f"{growth['ours']:.2f}x ({nanoseconds(each['ours'][0])} each)",
            "floor": f"{growth['floor']:.2f}x ({nanoseconds(each['floor'][0])} each, a list of nodes as big)",
            "ratio": growth["ours"] / growth["floor"], "goal": 2.0, "figures": each,
        })
        curves.append({"what": what, "label": words, "keys": keys, "random": order, **each})
    return rows, curves


def fact_rows(build):
    print("  facts", file=sys.stderr, flush=True)
    program = os.path.join(build, "tests", "benchmark", "benchmark_facts")
    facts = json.loads(subprocess.run([program], check=True, capture_output=True, text=True).stdout)

    def row(what, key, goal=None, unit=""):
        return {"what": what, "ours": f"{facts[key]}{unit}", "floor": "", "value": facts[key], "at_most": goal}

    return facts, [
        row("timer waits for 1,000,000 async_embed in one keep-alive of 5 min", "timer_waits", 2),
        row("the same, each with a timeout of 30 s and more", "timer_waits_with_timeouts", facts["timer_waits_with_timeouts_goal"]),
        row("memory of a waiter beside its handler, of 10,000", "bytes_per_waiter_of_10000", 256, " B"),
        row("memory of a waiter beside its handler, of 100,000", "bytes_per_waiter_of_100000", 256, " B"),
        row("memory of a waiter with a key of its own beside its handler and the work on its executor, of 100,000", "bytes_per_waiter_of_100000_keys", 375, " B"),
        row("memory of a resident", "bytes_per_resident", None, " B"),
        row("memory of an idle manager on the host's executors", "bytes_of_idle_manager", None, " B"),
    ]


def status_rows(build):
    print("  status", file=sys.stderr, flush=True)
    status, locked, text, text_locked = instructions.locked_share(os.path.join(build, "tests", "benchmark", "instructions"))
    return [
        {"what": "instructions of status() under a lock, manager with 4 residents", "ours": f"{locked:,} of {status:,}", "floor": "", "value": locked},
        {"what": "the same of making text of it", "ours": f"{text_locked:,} of {text:,}", "floor": "", "value": text_locked},
    ]


def compile_rows(repetitions):
    """What including a header costs, beside Boost.Asio's timer; interleaved."""
    print("  compile", file=sys.stderr, flush=True)
    compiler = os.environ.get("CXX", "g++")
    headers = ["boost/asio/steady_timer.hpp", "residency/model_manager.hpp", "residency/residency.hpp"]
    times = {header: [] for header in headers}
    for _ in range(repetitions):
        for header in headers:
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-I", os.path.join(ROOT, "include"), "-"],
                           input=f"#include <{header}>\n", text=True, check=True)
            times[header].append((resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before) * 1e9)
    medians = {header: statistics.median(values) for header, values in times.items()}
    base = medians[headers[0]]
    return [
        {"what": f"compile {header}", "ours": nanoseconds(medians[header]), "floor": f"{nanoseconds(base)} ({headers[0]})",
         "ratio": medians[header] / base, "goal": goal}
        for header, goal in ((headers[1], 1.5), (headers[2], 1.7))
    ]


def size_rows():
    print("  size", file=sys.stderr, flush=True)
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, source in (("quickstart", os.path.join(ROOT, "examples", "quickstart.cpp")), ("asio", os.path.join(HERE, "small_asio.cpp"))):
            out = os.path.join(folder, name)
            subprocess.run([os.environ.get("CXX", "g++"), "-std=c++20", "-O2", "-DNDEBUG", "-s", "-pthread", "-I", os.path.join(ROOT, "include"), source, "-o", out], check=True)
            sizes[name] = os.path.getsize(out)
    return [{"what": "binary of the quickstart, -O2, stripped", "ours": f"{sizes['quickstart'] // 1024} KiB",
             "floor": f"{sizes['asio'] // 1024} KiB (an Asio program that posts and waits on a timer)",
             "ratio": sizes["quickstart"] / sizes["asio"], "goal": None}]


def asyncio_rows(benchmarks, repetitions):
    print("  asyncio", file=sys.stderr, flush=True)
    runs = [json.loads(subprocess.run([sys.executable, os.path.join(HERE, "asyncio_manager.py"), "2000"], check=True, capture_output=True, text=True).stdout)
            for _ in range(repetitions)]
    rows = []
    for depth in ("1", "10"):
        for kind in ("cpu", "wall"):
            python = statistics.median(run[depth][f"{kind}_ns"] for run in runs)
            ours = benchmarks.median("embed", "ours", "/" + depth, kind)
            row = {"what": f"async_embed, {depth} at a time, {kind} time: how many times an asyncio manager's", "ours": nanoseconds(ours),
                   "floor": f"{nanoseconds(python)} (asyncio, pool of 4 threads)", "value": python / ours}
            if depth == "1" and kind == "cpu":
                row["at_least"] = 5.0
            rows.append(row)
    return rows


def verdict(row):
    """What is set beside what was reached, and whether it was; None if nothing was set."""
    if row.get("goal") is not None:
        return f"<= {row['goal']:g}x", row["ratio"] <= row["goal"]
    if row.get("at_most") is not None:
        return f"<= {row['at_most']:g}", row["value"] <= row["at_most"]
    if row.get("at_least") is not None:
        return f">= {row['at_least']:g}x", row["value"] >= row["at_least"]
    return "", None


def table(rows):
    lines = [("what", "ours", "floor", "ratio", "goal", "met")]
    for row in rows:
        goal, met = verdict(row)
        ratio = f"{row['ratio']:.2f}x" if "ratio" in row else f"{row['value']:.1f}x" if "floor" in row and row["floor"] else ""
        lines.append((row["what"], row["ours"], row["floor"], ratio, goal, {True: "yes", False: "NO", None: ""}[met]))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def main():
    parser = argparse.ArgumentParser(description="Runs the benchmarks and prints what they cost.")
    parser.add_argument("build", help="the folder that they were built in")
    parser.add_argument("--repetitions", type=int, default=11, help="of each benchmark; at least 9 for a figure that counts")
    parser.add_argument("--json", default="", help="where to write the table")
    parser.add_argument("--svg", default="", help="where to draw the scaling curves")
    arguments = parser.parse_args()

    print("Measuring:", file=sys.stderr)
    benchmarks = Benchmarks(arguments.build, arguments.repetitions)
    rows = time_rows(benchmarks)
    queues, curves = queue_rows(benchmarks)
    rows += queues
    facts, counted = fact_rows(arguments.build)
    rows += counted
    rows += status_rows(arguments.build)
    rows += compile_rows(arguments.repetitions)
    rows += size_rows()
    rows += alternative_rows(benchmarks)
    rows += asyncio_rows(benchmarks, arguments.repetitions)
    table(rows)
    for row in rows:
        row["goal_words"], row["met"] = verdict(row)
    missed = [row["what"] for row in rows if row["met"] is False]
    print(f"\n{sum(row['met'] is True for row in rows)} goals met, {len(missed)} missed" + (": " + "; ".join(missed) if missed else ""))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "processors": os.cpu_count(), "repetitions": arguments.repetitions,
                       "rows": rows, "facts": facts, "curves": curves, "medians_ns": benchmarks.results}, file, indent=1)
    if arguments.svg:
        with open(arguments.svg, "w") as file:
            file.write(chart.scaling(WAITERS, curves))


if __name__ == "__main__":
    main()
