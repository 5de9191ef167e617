#!/usr/bin/env python3
"""Lists which test covers which rule, hard case and scenario, and fails if one is covered by none, or is on no page.

Usage: coverage.py [TESTS_FOLDER]

A Catch2 test case says what it covers by its tags: [S7] a scenario, [H12] a hard case, [R4] a rule. Test cases that ctest does not run
(hidden ones) or that may fail do not count. A program without test cases (proof/, simulation/, stress/, must_not_compile/) says it
in a line of its own: `// Covers [S34] [R2]`.

Rules and hard cases are rows `| R4 | ...` of include/residency/README.md, scenarios those of tests/README.md.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

# Kind -> (what it is called, how many there are).
KINDS = {"R": ("rule", 16), "H": ("hard case", 40), "S": ("scenario", 54)}

# What no test names yet, and what is free (H23). To name one in a test is an error until it is taken off this list.
NOT_YET = {"S36", "S37", "S38", "S40", "S41", "H23"}

# Scenario -> the folder whose programs cover it; asked for as soon as there are any.
LATER = {"S34": "stress", "S35": "simulation"}

# Page, from the folder of the tests -> the kinds that are listed there.
PAGES = {"../include/residency/README.md": "RH", "README.md": "S"}
ROW = re.compile(r"^\| ([RHS][1-9]\d*) \|", re.MULTILINE)

PROGRAM_FOLDERS = ("proof", "simulation", "stress", "must_not_compile", "fuzz")

TOKEN = re.compile(
    r'(?P<comment>//[^\n]*|/\*.*?\*/)'
    r'|R"(?P<delimiter>[^()\\\s]{0,16})\(.*?\)(?P=delimiter)"'
    r'|(?P<string>"(?:\\.|[^"\\\n])*")'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
    re.DOTALL,
)
STRINGS = r'((?:"(?:\\.|[^"\\\n])*"\s*)+)'
TEST_CASE = re.compile(
    r"\b(?:TEST_CASE|SCENARIO|(?:TEMPLATE_(?:PRODUCT_|LIST_)?)?TEST_CASE(?:_METHOD|_PERSISTENT_FIXTURE)?(?:_SIG)?)\s*\(\s*"
    r"(?:[A-Za-z_][\w:<>, ]*?,\s*)?" + STRINGS + r"(?:,\s*" + STRINGS + r")?"
)
TAG = re.compile(r"\[([^\]]*)\]")
COVERS = re.compile(r"^// Covers ((?:\[[A-Z]\d+\],?\s*)+)", re.MULTILINE)
NOT_RUN = re.compile(r"^(?:\..*|!hide|!mayfail|!shouldfail|!benchmark)$")


def without_comments(text):
    return TOKEN.sub(lambda match: " " if match.group("comment") else match.group(), text)


def joined(literals):
    return "".join(re.findall(r'"((?:\\.|[^"\\\n])*)"', literals or ""))


def test_cases(text):
    """(name, tags) of each test case in the source `text`."""
    for match in TEST_CASE.finditer(without_comments(text)):
        yield joined(match.group(1)), TAG.findall(joined(match.group(2)))


def read(folder):
    """Number -> names of what covers it; and the tags that name nothing there is."""
    covered = defaultdict(list)
    unknown = []

    def note(tags, name):
        for tag in tags:
            match = re.fullmatch(r"([RHS])(\d+)", tag)
            if not match:
                continue
            number = int(match.group(2))
            if not 1 <= number <= KINDS[match.group(1)][1] or match.group(2).startswith("0") or tag in NOT_YET:
                unknown.append(f"{name}: [{tag}] names nothing that there is")
            else:
                covered[tag].append(name)

    for path in sorted(folder.rglob("*.cpp")):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(folder).as_posix()
        for name, tags in test_cases(text):
            if not any(NOT_RUN.match(tag) for tag in tags):
                note(tags, f"{where}: {name}")
        if where.startswith(tuple(f"{program}/" for program in PROGRAM_FOLDERS)):
            for match in COVERS.finditer(text):
                note(TAG.findall(match.group(1)), where)
    return covered, unknown


def wanted(folder):
    """All numbers, in order, without those that are asked for later."""
    numbers = [f"{kind}{number}" for kind, (_, count) in KINDS.items() for number in range(1, count + 1)]
    numbers = [number for number in numbers if number not in NOT_YET]
    return [number for number in numbers if number not in LATER or any((folder / LATER[number]).glob("*.cpp"))]


def page_faults(folder, numbers):
    """What is wrong with the pages, if rules, hard cases and scenarios are these."""
    faults = []
    for name, kinds in PAGES.items():
        page = folder / name
        listed = ROW.findall(page.read_text(encoding="utf-8")) if page.is_file() else []
        where = page.name if "/" not in name else name.removeprefix("../")
        faults += [f"{where}: {number} is listed more than once" for number in sorted(set(listed)) if listed.count(number) > 1]
        faults += [f"{where}: {number} is not listed" for number in numbers if number[0] in kinds and number not in listed]
        faults += [f"{where}: {number} is cited by no test" for number in listed if number[0] not in kinds or number not in numbers]
    return faults


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    covered, unknown = read(folder)
    numbers = wanted(folder)
    gaps = [number for number in numbers if number not in covered]
    for number in numbers:
        print(f"{KINDS[number[0]][0]} {number}:")
        for name in covered.get(number, ["covered by no test"]):
            print(f"    {name}")
    unknown += page_faults(folder, numbers)
    for line in unknown:
        print(line)
    print()
    for kind, (name, _) in KINDS.items():
        of_kind = [number for number in numbers if number[0] == kind]
        print(f"{name}s covered: {sum(number in covered for number in of_kind)} of {len(of_kind)}")
    if gaps:
        print(f"covered by no test: {' '.join(gaps)}")
    return 1 if gaps or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
