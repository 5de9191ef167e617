#!/usr/bin/env python3
"""The programs on the project's pages are the files that are compiled.

A code block after `<!-- FILE -->` is FILE, letter by letter; one after `<!-- FILE [TAG] -->` is what stands in FILE between the two lines
`//! [TAG]`, as far to the left as it can be. FILE is named from the repository's top. A tag that no page and no header shows is an error,
and so is a link to a file or a heading that is not there, or a comment that names a page that is not there. What the guide to mistakes
quotes as seen is written in a test, as expected, or in a header. The README has at most 200 lines and names every option and every error,
the guide to the status every member of it.

Usage: tests/readme_test.py [--write]    --write puts the files into the pages.
"""
import pathlib
import re
import sys
import textwrap

root = pathlib.Path(__file__).resolve().parent.parent
ignored = {".git", "build", "out", ".cache"}
pages = sorted(page for page in root.rglob("*.md") if not ignored & set(page.relative_to(root).parts))
front = root / "README.md"
longest_front = 200
block = re.compile(r"(<!-- (?P<file>[^\s\[]+)(?: \[(?P<tag>[^\]]+)\])? -->\n```cpp\n)(?P<code>.*?)(```\n)", re.DOTALL)
marker = re.compile(r"^[ \t]*//! \[([^\]]+)\]\n", re.MULTILINE)
example = re.compile(r"/// Example +(\S+) \[([^\]]+)\]")
mistakes = root / "examples/guides/mistakes.md"
link = re.compile(r"\]\((?P<file>[^)#:\s]*)(?:#(?P<heading>[^)\s]*))?\)")
heading = re.compile(r"^#+ +(.*)$", re.MULTILINE)
fenced = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
named_page = re.compile(r"(?://|#).*?\b((?:[\w-]+/)*[\w-]+\.md)\b")
member = re.compile(r"^    (?:[\w:]+(?:<[^;={]*>)?) (\w+)(?: = |\{|;)", re.MULTILINE)
enumerator = re.compile(r"^    (\w+)(?: = \d+)?,$", re.MULTILINE)


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
    """What the second column of the guide to mistakes quotes, and no test expects."""
    name = mistakes.relative_to(root)
    rows = [line.split("|") for line in mistakes.read_text().splitlines() if line.startswith("| ")][1:]
    quoted = {text for row in rows for text in re.findall(r"`([^`]+)`", row[2])}
    if len(quoted) < len(rows) / 2:
        return [f"{name}: the guide to mistakes was not understood"]
    folders = ["tests/must_not_compile", "tests/behaviour", "include/residency"]
    known = "\n".join(file.read_text() for folder in folders for file in sorted((root / folder).rglob("*.?pp")))
    return [f"{name}: nothing in {', '.join(folders)} says `{text}`" for text in sorted(quoted) if text not in known]


def body_of(header: str, begin: str) -> str:
    """What stands between `begin` and the `};` of the struct or enum."""
    text = (root / "include/residency" / header).read_text()
    return text[text.index(begin) : text.index("\n};", text.index(begin))]


def unlisted() -> list:
    """Members and errors that the page that lists them leaves out."""
    events = root / "examples/guides/events.md"
    wanted = [(front, name, member.findall(body_of("options.hpp", f"struct {name} {{"))) for name in ("SlotOptions", "RequestOptions")]
    wanted.append((front, "errc", enumerator.findall(body_of("error_code.hpp", "enum class errc"))))
    for name in ("ManagerStatus", "SlotStatus", "ResidentStatus", "FailureStatus", "SlotCounters"):
        wanted.append((events, name, member.findall(body_of("status.hpp", f"struct {name} {{"))))
    wrong = []
    for page, name, members in wanted:
        listed = set(re.findall(r"`(\w+)`", "\n".join(line for line in page.read_text().splitlines() if line.startswith("|"))))
        wrong += [f"{page.relative_to(root)}: no table lists `{one}` of {name}" for one in members if one not in listed]
        if len(members) < 2:
            wrong.append(f"{name}: its members were not understood")
    return wrong


def headings(page: pathlib.Path) -> set:
    """The headings of a page as a link names them."""
    lines = heading.findall(fenced.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def dead_links(page: pathlib.Path) -> list:
    wrong = []
    for match in link.finditer(fenced.sub("", page.read_text())):
        target = page.parent / match["file"] if match["file"] else page
        if not target.exists():
            wrong.append(f"{page.relative_to(root)}: there is no {match['file']}")
        elif match["heading"] and match["heading"] not in headings(target):
            wrong.append(f"{page.relative_to(root)}: {match['file']} has no heading #{match['heading']}")
    return wrong


def strangers() -> list:
    """Comments that name a page that is not here."""
    wrong = []
    for folder in ("include", "tests", "examples", "cmake", ".ci"):
        for file in sorted((root / folder).rglob("*")):
            if not file.is_file() or file.suffix not in (".hpp", ".cpp", ".py", ".sh", ".cmake", ".txt", ""):
                continue
            for name in named_page.findall(file.read_text(errors="replace")):
                if not any((place / name).is_file() for place in (root, root / folder, file.parent)):
                    wrong.append(f"{file.relative_to(root)}: there is no page {name}")
    return wrong


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
        wrong += dead_links(page)
    if "--write" in sys.argv[1:]:
        return 0
    if not any(tag is None for _, tag in shown):
        wrong.append("no page shows a whole program: the pages were not understood")
    for header in (root / "include").rglob("*.hpp"):
        shown |= set(example.findall(header.read_text()))
    there = {
        (str(file.relative_to(root)), tag) for file in (root / "examples").rglob("*.?pp") for tag in snippets(file.read_text())
    }
    wrong += [f"{file}: no page shows [{tag}]" for file, tag in sorted(there - shown)]
    wrong += [f"{file} has no [{tag}], which a header or a page shows" for file, tag in sorted(shown - there, key=str) if tag]
    wrong += unseen_messages() + unlisted() + strangers()
    if (lines := len(front.read_text().splitlines())) > longest_front:
        wrong.append(f"README.md: {lines} lines are more than {longest_front}: guides are in examples/guides/")
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
