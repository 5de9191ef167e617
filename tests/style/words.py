#!/usr/bin/env python3
"""Names the places where a page, a comment, a message, a title of a test or a name has one of the words that we do without.

Usage: words.py [REPOSITORY]

A sentence with one of them leaves open which thing in the code does what: name that thing. "Nobody is told": "no handler is called".
"""
import re
import sys
from pathlib import Path

WORDS = ("told", "tell", "tells", "nobody", "somebody", "everybody", "whoever", "goes by way of")
FOLDERS = ("include", "examples", "tests", "cmake", ".ci", ".github")
SUFFIXES = (".hpp", ".cpp", ".py", ".sh", ".cmake", ".md", ".txt", ".in", ".json", "")

# An underscore ends a word, too: names are read.
WORD = re.compile(r"(?<![a-z])(" + "|".join(word.replace(" ", r"\s+(?:(?://+|#)\s*)?") for word in WORDS) + r")(?![a-z])", re.IGNORECASE)


def hits(text):
    """(line number, word) of each in `text`."""
    return [(text.count("\n", 0, match.start()) + 1, " ".join(match.group().lower().split())) for match in WORD.finditer(text)]


def sources(root):
    """What is checked: all that people read, but this."""
    files = [file for file in root.iterdir() if file.is_file()]
    for folder in FOLDERS:
        files += (root / folder).rglob("*")
    return sorted(file for file in files if file.is_file() and file.suffix in SUFFIXES and not file.name.startswith("words"))


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent.parent
    files = sources(root)
    found = 0
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # Bytes of a corpus.
        for line, word in hits(text):
            print(f"{file.relative_to(root)}:{line}: {word}")
            found += 1
    print(f"{len(files)} files, {found} words")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
