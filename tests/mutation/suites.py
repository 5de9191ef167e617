"""The programs that are to catch the mutants, and what is asked of them."""

from dataclasses import dataclass
from pathlib import Path

# Tests of what is not mutated, and of the tools that the tests use.
LEFT_OUT = ("observe/", "testing/", "backends/", "llama_cpp/", "lexical_test", "embeddings_test", "error_test", "event_test", "ranking_test",
            "backend_test", "model_key_test")
FOLDERS = ("", "core/", "runtime/", "behaviour/", "faults/")
# Programs with a main of their own: where, their target, and what they are asked, one question after the other. The tests' own doses.
OTHERS = (
    ("fuzz/scheduler_replay.cpp", "tests/fuzz", [["corpus"]]),
    ("simulation/simulate.cpp", "tests", [["--seeds", "20000", "--jobs", "1"]]),
    ("proof/explorer.cpp", "tests", [["--jobs", "1", "--only", f"{family}/"]
                                     for family in ("loads", "generations", "ageing", "narrow", "many-keys", "main")]),
)


@dataclass
class Program:
    name: str
    target: str
    path: Path
    arguments: list


def programs(tests, build):
    found = []
    for folder in FOLDERS:
        for source in sorted(tests.glob(f"{folder}*_test.cpp")):
            name = source.relative_to(tests).with_suffix("").as_posix()
            if not name.startswith(LEFT_OUT) and "spdlog" not in name and "llama_cpp" not in name:
                target = name.replace("/", "_")
                found.append(Program(target, target, build / "tests" / target, ["--abort"]))
    for source, folder, questions in OTHERS:
        target = Path(source).stem
        for arguments in questions:
            if (tests / source).exists():
                name = f"{target} {arguments[-1].rstrip('/')}" if len(questions) > 1 else target
                given = [str(tests / "fuzz/corpus/scheduler") if argument == "corpus" else argument for argument in arguments]
                found.append(Program(name, target, build / folder / target, given))
    return found
