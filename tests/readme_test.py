#!/usr/bin/env python3
"""The programs on the project's pages are the files that are compiled.

A code block after `<!-- FILE -->` is FILE, letter by letter; one after `<!-- FILE [TAG] -->` is what stands in FILE between the two lines
`//! [TAG]`, as far to the left as it can be. FILE is named from the repository's top. A tag that no page and no header shows is an error,
and so is a link to a file that is not there. What the guide to mistakes quotes as seen is written in a test, as expected, or in a header.

Usage: tests/readme_test.py [--write]    --write puts the files into the pages.
"""
import pathlib
import re
import sys
import textwrap

root = pathlib.Path(__file__).resolve().parent.parent
pages = [root / "README.md", root / "examples/README.md", root / "tests/README.md"]
block = re.compile(r"(<!-- (?P<file>[^\s\[]+)(?: \[(?P<tag>[^\]]+)\])? -->\n```cpp\n)(?P<code>.*?)(```\n)", re.DOTALL)
marker = re.compile(r"^[ \t]*//! \[([^\]]+)\]\n", re.MULTILINE)
example = re.compile(r"/// Example +(\S+) \[([^\]]+)\]")
mistakes = re.compile(r"^## When it does not compile.*?\n(?=## )", re.DOTALL | re.MULTILINE)
link = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def snippets(text: str) -> dict:
    """Tag -> what stands between its two lines."""
    parts = marker.split(text)
    found = {}
    opened = {}
    for index in range(1, len(parts), 2):
        tag = parts[index]
        if tag in opened:
            found[tag] = textwrap.dedent("".join(parts[position] for position in range(opened.pop(tag), index, 2)))
        else:
            opened[tag] = index + 1
    if opened:
        raise ValueError(f"these tags are not closed: {', '.join(opened)}")
    return found


def code_of(match: re.Match) -> str:
    text = (root / match["file"]).read_text()
    return snippets(text)[match["tag"]] if match["tag"] else text


def unseen_messages() -> list:
    """What the second column of the guide to mistakes quotes, and nobody expects."""
    section = mistakes.search((root / "examples/README.md").read_text())
    rows = [line.split("|") for line in section[0].splitlines() if line.startswith("| ")][1:] if section else []
    quoted = {text for row in rows for text in re.findall(r"`([^`]+)`", row[2])}
    if len(quoted) < len(rows) / 2:
        return ["examples/README.md: the guide to mistakes was not understood"]
    folders = ["tests/must_not_compile", "tests/bad_input", "include/residency"]
    known = "\n".join(file.read_text() for folder in folders for file in sorted((root / folder).rglob("*.?pp")))
    return [f"examples/README.md: nothing in {', '.join(folders)} says `{text}`" for text in sorted(quoted) if text not in known]


def main() -> int:
    wrong = []
    shown = set()
    for page in pages:
        text = page.read_text()
        name = page.relative_to(root)
        found = list(block.finditer(text))
        shown |= {(match["file"], match["tag"]) for match in found}
        if "--write" in sys.argv[1:]:
            page.write_text(block.sub(lambda match: match[1] + code_of(match) + match[5], text))
            continue
        wrong += [
            f"{name}: the block of {match['file']} {match['tag'] or ''} differs from it; run tests/readme_test.py --write"
            for match in found
            if match["code"] != code_of(match)
        ]
        wrong += [f"{name}: there is no {target}" for target in link.findall(text) if not (page.parent / target).exists()]
    if "--write" in sys.argv[1:]:
        return 0
    if not any(tag is None for _, tag in shown):
        wrong.append("no page shows a whole program: the pages were not understood")
    for header in (root / "include").rglob("*.hpp"):
        shown |= set(example.findall(header.read_text()))
    there = {
        (str(file.relative_to(root)), tag) for file in (root / "examples").rglob("*.cpp") for tag in snippets(file.read_text())
    }
    wrong += [f"{file}: no page shows [{tag}]" for file, tag in sorted(there - shown)]
    wrong += [f"{file} has no [{tag}], which a header or a page shows" for file, tag in sorted(shown - there, key=str) if tag]
    wrong += unseen_messages()
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
