#!/usr/bin/env python3
"""Checks that each header includes only what its floor of the house may include.

Usage: floors.py [INCLUDE_FOLDER]

A header includes only floors below its own:

    leaves                  observe/ pressure/ backends/ testing/: included by no other floor, but residency.hpp brings backends/lexical
    residency.hpp           all that a user names, but leaves with a dependency of their own; source.hpp: what is compiled once for it
    faces                   model_manager, model_slot, memory_budget: contracts, almost no code
    shell/                  locks, lets the core decide, carries out; one operation a file
    lease                   lease, detail/: what a user holds of a slot; knows core/, but neither runtime/ nor shell/
    runtime/                mechanisms: know nothing of models or of core/; runtime/asio alone includes Boost.Asio, but for sockets
    core/                   decisions: no Asio, no thread, no mutex, no clock
    ground                  words: the standard library and boost/system only

core/ and runtime/ stand beside each other: neither includes the other. `impl/NAME.hpp` and `impl/NAME_more.hpp` beside `NAME.hpp` are its
continuation, on the same floor: NAME.hpp includes them at its end, and nothing but them does.
"""

import re
import sys
from pathlib import Path

GROUND = {"compiler", "version", "one_line", "bounded_text", "not_a_number", "std_deque", "shared_cause", "model_key", "model_memory", "generation", "embed_as", "batch_limits", "embeddings", "ranking", "error_code", "error", "options", "event", "status", "backend", "backend_calls"}
# What a mechanism must not know of: models, and what is said about them.
MODEL_WORDS = {"backend", "backend_calls", "embed_as", "batch_limits", "embeddings", "ranking", "model_key", "model_memory", "generation", "event", "status"}
LEASE = {"lease"}
FRONT = {"residency", "source"}
FACE = {"memory_budget", "model_slot", "model_manager"}
FOLDERS = {
    "core": "core",
    "runtime": "runtime",
    "detail": "lease",
    "shell": "shell",
    "observe": "leaf",
    "pressure": "leaf",
    "backends": "leaf",
    "testing": "leaf",
}

# Floor -> the floors that it may include.
BELOW = {
    "ground": {"ground"},
    "core": {"ground", "core"},
    "runtime": {"ground", "runtime"},
    "lease": {"ground", "core", "lease"},
    "shell": {"ground", "core", "runtime", "lease", "shell"},
    "face": {"ground", "core", "runtime", "lease", "shell", "face"},
    "front": {"ground", "core", "runtime", "lease", "shell", "face", "leaf"},
    "leaf": {"ground", "core", "runtime", "lease", "shell", "face", "leaf"},
}

# The one leaf that residency.hpp brings: it has no dependency of its own.
FRONT_LEAVES = ("residency/backends/lexical",)

# Header -> what else it may include: prefixes of <...>.
OWN_DEPENDENCY = {
    "residency/observe/spdlog": ("spdlog/",),
    "residency/backends/llama_cpp": ("llama.h", "llama-cpp.h", "ggml", "gguf.h"),
    "residency/backends/json": ("boost/json/",),
    "residency/backends/openvino": ("openvino/", "boost/json/"),
    "residency/backends/remote": ("boost/beast/", "boost/json/"),
}

# Header -> what of Boost.Asio it includes that runtime/asio.hpp does not: prefixes of <...>.
MORE_OF_ASIO = {
    "residency/backends/remote/beast": ("connect", "ip/", "redirect_error", "ssl/", "steady_timer", "this_coro"),
}

# Included where the compiler is to stop: there is no such file.
STOPPED = "residency/stopped"

CORE_HEADERS = {
    "atomic", "barrier", "condition_variable", "coroutine", "future", "latch", "mutex", "semaphore", "shared_mutex", "stop_token", "thread",
}
CORE_WORDS = re.compile(r"::now\s*\(|\bstd::(?:j?thread|(?:recursive_|timed_|shared_)*mutex|atomic\w*|condition_variable\w*|lock_guard|unique_lock)\b|\basio::")

# Of the operating system, not of a library: leaves and mechanisms may need them.
PLATFORM_HEADER = re.compile(r"^(?:sys/|linux/)?[a-z0-9_]+\.h$")

COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def without_comments(text, strings_too):
    def replace(match):
        if match.group().startswith(("//", "/*")):
            return "\n" * match.group().count("\n")
        return '""' if strings_too else match.group()

    return COMMENT_OR_STRING.sub(replace, text)


def outside(header):
    """`folder/impl/name` without the impl/, by which its floor is known."""
    return header.replace("/impl/", "/")


def beginning_of(header, headers):
    """The header that `header` continues, or None if it is not in an impl/ folder."""
    folder, impl, name = header.rpartition("/impl/")
    if not impl:
        return None
    parts = name.split("_")
    for length in range(len(parts), 0, -1):
        beginning = f"{folder}/{'_'.join(parts[:length])}"
        if beginning in headers:
            return beginning
    return None


def floor_of(header):
    """The floor of `residency/...` without `.hpp`, or None if it has none."""
    parts = outside(header).split("/")[1:]
    if len(parts) > 1:
        return FOLDERS.get(parts[0])
    name = parts[0]
    if name in FRONT:
        return "front"
    if name in GROUND:
        return "ground"
    if name in LEASE:
        return "lease"
    if name in FACE:
        return "face"
    return None


def belongs_to(header, stem):
    return header == stem or header.startswith((stem + "/", stem + "_"))


def check_own_include(header, floor, target, headers):
    """Why `header` may not include our header `target`, or None."""
    target_floor = floor_of(target)
    if target_floor is None:
        return "has no floor"
    if target_floor not in BELOW[floor]:
        return f"is on the floor `{target_floor}`, which `{floor}` must not know"
    if "/impl/" in target:
        beginning = beginning_of(target, headers)
        if beginning not in (header, beginning_of(header, headers)):
            return f"continues {beginning}.hpp, which alone includes it"
    if floor == "runtime" and target_floor == "ground" and target.removeprefix("residency/") in MODEL_WORDS:
        return "is about models, of which runtime/ knows nothing"
    if floor == "front" and target_floor == "leaf" and not any(belongs_to(target, leaf) for leaf in FRONT_LEAVES):
        return "is a leaf with a dependency or a purpose of its own"
    if floor == "leaf" and target_floor == "leaf" and header.split("/")[1] != target.split("/")[1]:
        return "is a leaf of another folder; nothing includes leaves"
    return None


def check_foreign_include(header, floor, target):
    """Why `header` may not include the foreign header `target`, or None."""
    owners = [stem for stem, prefixes in OWN_DEPENDENCY.items() if target.startswith(prefixes)]
    if owners:
        return None if any(belongs_to(header, stem) for stem in owners) else f"is for {' and '.join(owners)} alone"
    if target.startswith("boost/asio"):
        if target.removeprefix("boost/asio/").startswith(MORE_OF_ASIO.get(header, ("?",))):
            return None
        return None if header == "residency/runtime/asio" else "is Boost.Asio, which runtime/asio.hpp alone includes"
    if target.startswith("boost/"):
        if floor == "ground" and not target.startswith("boost/system/"):
            return "is neither of the standard library nor of Boost.System"
        return None
    if floor == "core" and target in CORE_HEADERS:
        return "is about threads or time, of which core/ knows nothing"
    if re.fullmatch(r"[a-z_]+", target):
        return None
    if floor in ("leaf", "runtime") and PLATFORM_HEADER.match(target):
        return None
    return "belongs to no library that residency uses"


def find_cycle(edges):
    state = {}

    def visit(node, path):
        state[node] = "open"
        for target in edges.get(node, ()):
            if state.get(target) == "open":
                return path[path.index(target):] + [target] if target in path else [node, target]
            if target not in state:
                cycle = visit(target, path + [target])
                if cycle:
                    return cycle
        state[node] = "done"
        return None

    for node in sorted(edges):
        if node not in state:
            cycle = visit(node, [node])
            if cycle:
                return cycle
    return None


def reached_from(edges, start):
    reached, todo = set(), [start]
    while todo:
        node = todo.pop()
        if node not in reached:
            reached.add(node)
            todo.extend(edges.get(node, ()))
    return reached


def check(include_folder):
    """The list of violations in `include_folder`, each one line, and the number of headers."""
    found = []
    edges = {}
    headers = {path.relative_to(include_folder).as_posix().removesuffix(".hpp") for path in include_folder.rglob("*.hpp")}
    for path in sorted((include_folder / "residency").rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(include_folder).as_posix()
        if name == "residency/README.md":
            continue
        if path.suffix != ".hpp":
            found.append(f"{name}: not a header")
            continue
        header = name.removesuffix(".hpp")
        floor = floor_of(header)
        if floor is None:
            found.append(f"{name}: stands on no floor of the house")
            continue
        if "/impl/" in header and not beginning_of(header, headers):
            found.append(f"{name}: continues no header")
            continue
        text = path.read_text(encoding="utf-8")
        code = without_comments(text, strings_too=False)
        edges[header] = []
        if not text.startswith("#pragma once\n"):
            found.append(f"{name}: does not begin with #pragma once")
        for match in INCLUDE.finditer(code):
            quote, target = match.groups()
            where = f"{name}:{code.count(chr(10), 0, match.start()) + 1}: <{target}>"
            if quote == '"' and target == STOPPED:
                continue
            if quote == '"' or target.startswith("residency/"):
                if quote == "<" or not target.startswith("residency/") or not target.endswith(".hpp"):
                    found.append(f'{where}: our own headers are included as "residency/....hpp"')
                    continue
                if not (include_folder / target).is_file():
                    found.append(f"{where}: does not exist")
                    continue
                own = target.removesuffix(".hpp")
                if own != beginning_of(header, headers):
                    edges[header].append(own)
                why = check_own_include(header, floor, own, headers)
            else:
                why = check_foreign_include(header, floor, target)
            if why:
                found.append(f"{where}: {why}")
        if floor == "core":
            for number, line in enumerate(without_comments(text, strings_too=True).splitlines(), 1):
                match = CORE_WORDS.search(line)
                if match:
                    found.append(f"{name}:{number}: `{match.group()}`: core/ has no Asio, thread, mutex, atomic or clock")

    cycle = find_cycle(edges)
    if cycle:
        found.append("a cycle of includes: " + " -> ".join(cycle))

    if "residency/residency" in edges:
        brought = reached_from(edges, "residency/residency")
        for header in sorted(edges):
            # A part of core/ or runtime/ comes with the header that needs it; source.hpp is included by one file of a program.
            wanted = floor_of(header) not in ("core", "runtime", "front", "leaf") or any(belongs_to(header, leaf) for leaf in FRONT_LEAVES)
            if wanted and header not in brought:
                found.append(f"residency/residency.hpp does not bring {header}.hpp")
            for target in edges[header] if header in brought else ():
                if any(belongs_to(target, stem) for stem in OWN_DEPENDENCY):
                    found.append(f"{header}.hpp: brings residency.hpp a leaf with a dependency of its own, {target}.hpp")
    return found, len(edges)


def main():
    default = Path(__file__).resolve().parents[2] / "include"
    include_folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    found, headers = check(include_folder)
    if headers == 0:
        print(f"no headers in {include_folder}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"{headers} headers, {len(found)} on the wrong floor" if found else f"{headers} headers, each on its floor")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
