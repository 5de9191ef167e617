#!/usr/bin/env python3
"""The README's programs are the files that are compiled: a code block after `<!-- FILE -->` is FILE, letter by letter.

Usage: tests/readme_test.py [--write]    --write puts the files into the README.
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
readme = root / "README.md"
block = re.compile(r"(<!-- (?P<file>\S+) -->\n```cpp\n)(?P<code>.*?)(```\n)", re.DOTALL)


def main() -> int:
    text = readme.read_text()
    found = list(block.finditer(text))
    if not found:
        print("README.md: no code block names its file")
        return 1
    wrong = [match["file"] for match in found if match["code"] != (root / match["file"]).read_text()]
    if "--write" in sys.argv[1:]:
        readme.write_text(block.sub(lambda match: match[1] + (root / match["file"]).read_text() + match[4], text))
        return 0
    for file in wrong:
        print(f"README.md: the block of {file} differs from it; run tests/readme_test.py --write")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
