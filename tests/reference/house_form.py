#!/usr/bin/env python3
"""The house form of an asynchronous operation's documentation.

Usage: house_form.py FILE            prints the header or page as Doxygen understands it: the form's lines as commands, and nothing that
                                     Doxygen 1.9 trips over; line numbers stay
       house_form.py --check FOLDER  every asynchronous operation in FOLDER has all lines of the form, in their order
"""
import pathlib
import re
import sys

LINES = ["Signature", "Completes", "Errors", "Cancel", "Threads", "Example"]
HEADING = re.compile(rf"^(\s*///) ({'|'.join(LINES)}|Throws)  +(?=\S)", re.MULTILINE)
EXAMPLE = re.compile(r"^(\s*///) Example +(\S+) \[([^\]]+)\]$", re.MULTILINE)
OPERATION = re.compile(r"((?:^ *///[^\n]*\n)+)^ *template <[^\n]*\n *auto (async_\w+)\(", re.MULTILINE)
# What a header adds to std or boost: Doxygen looks for the class there. A requirement on the lock between a function's head and its body.
FOREIGN = re.compile(r"^template <[^\n]*>\nstruct (?:std|boost)::.*?\};?\n(?=\n|template|///|\Z)", re.MULTILINE | re.DOTALL)
LOCKED = re.compile(r" RESIDENCY_REQUIRES\([^)]*\)")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)")


def for_doxygen(text: str) -> str:
    text = LOCKED.sub("", FOREIGN.sub(lambda match: "\n" * match[0].count("\n"), text))
    text = EXAMPLE.sub(r"\1 @example{\2,\3}", text)
    return HEADING.sub(lambda match: f"{match[1]} @house{{{match[2]}}} ", text)


def faults(text: str) -> list:
    """What is wrong with the operations in `text`, and how many there are."""
    found = []
    operations = OPERATION.findall(text)
    for comment, name in operations:
        if comment.lstrip().startswith("/// The same"):
            continue
        lines = [heading for heading in re.findall(r"^\s*/// (\w+)  +\S", comment, re.MULTILINE) if heading in LINES]
        if lines != LINES:
            found.append(f"{name} has {', '.join(lines) or 'nothing'}; the form is {', '.join(LINES)}")
    declared = len(re.findall(r"^ *auto async_\w+\(", text, re.MULTILINE))
    if declared != len(operations):
        found.append(f"{declared - len(operations)} asynchronous operations are without documentation")
    return found


def main() -> int:
    if len(sys.argv) == 2:
        path = pathlib.Path(sys.argv[1])
        # A page's links lead to files that the reference has not.
        sys.stdout.write(LINK.sub(r"\1", path.read_text()) if path.suffix == ".md" else for_doxygen(path.read_text()))
        return 0
    if len(sys.argv) != 3 or sys.argv[1] != "--check":
        print(__doc__, file=sys.stderr)
        return 2
    count = 0
    wrong = []
    for header in sorted(pathlib.Path(sys.argv[2]).rglob("*.hpp")):
        text = header.read_text()
        count += len(OPERATION.findall(text))
        wrong += [f"{header}: {sentence}" for sentence in faults(text)]
    if count == 0:
        wrong.append("there is no asynchronous operation: the headers were not understood")
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
